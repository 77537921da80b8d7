import json
import shutil
from pathlib import Path

import pytest

from asr.cli import main
from asr.config_files import load_conf
from asr.corpus.manifest import write_manifest
from asr.training.source import check_source
from tests import tones

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def model(tone_run: Path, tmp_path: Path) -> Path:
    """In a folder whose name YAML would take for something else."""
    shutil.copytree(tone_run / "model", tmp_path / "it's: a #model")
    return tmp_path / "it's: a #model"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "own" / "all.jsonl"
    write_manifest(tones.write_corpus(tmp_path / "own" / "audio", 20, seed=5), path)
    return path


def test_a_new_recipe_fits_the_model_that_it_starts_from(
    model: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("asr.training.trainer.draw_curves", lambda _history, path: path.touch())
    monkeypatch.setattr("asr.transcription.evaluation.write_html", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    assert main(["init", "mine", "--audio", str(manifest), "--init", model.name]) == 0
    config = load_conf(tmp_path / "mine/conf/default.yaml")
    check_source(config, tmp_path)
    assert config.training.init.model == model
    assert config.training.learning_rate == 0.002
    assert config.features == tones.CONFIG.features
    assert config.encoder == tones.CONFIG.encoder
    assert config.augment.speeds == (0.9, 1.0, 1.1)
    # Started from another one, by a flag; relative to the current folder.
    copy = tmp_path / "other: model"
    shutil.copytree(model, copy)
    capsys.readouterr()
    options = ["--init", copy.name, "--set", "training.epochs=0", "--device", "cpu"]
    assert main(["run", "mine", "--work", "work", *options]) == 0
    assert f"the model before is {copy.name}:" in capsys.readouterr().out
    origin = json.loads((tmp_path / "work/model/training.json").read_text())
    assert origin["init"]["name"] == copy.name
    original = (model / "weights.safetensors").read_bytes()
    assert (tmp_path / "work/model/weights.safetensors").read_bytes() == original


def test_a_recipe_gets_a_configuration_that_fits_a_model(
    model: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "mine"
    assert main(["init", str(recipe), "--audio", str(manifest)]) == 0
    conf = recipe / "conf/default.yaml"
    conf.write_text(conf.read_text() + "corpus: {dev: 0.2}\n")
    before = load_conf(conf)
    assert main(["run", str(recipe), "--init", str(model), "--dry-run"]) == 2
    message = capsys.readouterr().err
    assert "features.num_mel_bins 40 (the model: 20)" in message
    assert f"`asr init FOLDER --init {model}` writes one that fits" in message
    assert main(["init", str(recipe), "--init", str(model)]) == 0
    path = recipe / "conf/init.yaml"
    assert f"{path} fits {model}; train with: asr run {recipe} --conf init" in (
        capsys.readouterr().out
    )
    config = load_conf(path)
    check_source(config, tmp_path)
    assert config.training.init.model == model
    assert (config.augment, config.corpus["dev"]) == (before.augment, 0.2)
    assert config.training.epochs == before.training.epochs
    assert conf.read_text().endswith("corpus: {dev: 0.2}\n")
    assert main(["init", str(recipe), "--init", str(model)]) == 2
    assert "conf/init.yaml: is there already" in capsys.readouterr().err
    work = tmp_path / "work"
    arguments = ["run", str(recipe), "--work", str(work), "--conf", "init", "--dry-run"]
    assert main(arguments) == 0
    assert "train: to do" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--audio", "own/all.jsonl"]])
def test_a_folder_that_is_no_model_is_refused(
    options: list[str],
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "mine"
    if not options:
        assert main(["init", "mine", "--audio", str(manifest)]) == 0
    capsys.readouterr()
    assert main(["init", "mine", *options, "--init", "own"]) == 2
    assert "own: not a model folder (it has no config.yaml)" in capsys.readouterr().err
    assert not (recipe / "conf" / "init.yaml").exists()
    assert recipe.exists() == (not options)
