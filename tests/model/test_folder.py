import shutil
from pathlib import Path

import pytest
import yaml

from asr.config_files import load_conf
from asr.errors import ConfigError, ModelError
from asr.model import read_model
from asr.model.folder import content_hash, origin_texts

REMOVED = {
    "augment": {"window_seconds": 2.0, "window_probability": 1.0},
    "encoder": {"recurrent_dropout": 0.0},
    "training": {"label_smoothing": 0.1},
}


def with_settings(model: Path, folder: Path, settings: dict[str, dict[str, float]]) -> Path:
    """A copy of the model whose configuration states these too."""
    shutil.copytree(model, folder)
    path = folder / "config.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section, more in settings.items():
        values[section] |= more
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return folder


def test_a_model_that_states_settings_of_training_that_have_gone_is_read(
    tone_run: Path, tmp_path: Path
) -> None:
    older = with_settings(tone_run / "model", tmp_path / "older", REMOVED)
    assert read_model(older).config == read_model(tone_run / "model").config


def test_other_unknown_settings_of_a_model_are_refused(tone_run: Path, tmp_path: Path) -> None:
    other = with_settings(tone_run / "model", tmp_path / "other", {"encoder": {"dropuot": 0.1}})
    with pytest.raises(ModelError, match=r"encoder\.dropuot: unknown key; did you mean dropout\?"):
        read_model(other)


@pytest.mark.parametrize("section", REMOVED)
def test_a_configuration_that_states_them_is_refused(section: str, tmp_path: Path) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text(yaml.safe_dump({section: REMOVED[section]}, sort_keys=False), encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"{section}\.{next(iter(REMOVED[section]))}: unknown"):
        load_conf(path)


def test_a_hash_is_of_weights_tokens_and_settings_alone(tone_run: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tone_run / "model", model)
    before = content_hash(tone_run / "model")
    (model / "decoding.yaml").write_text("beam: 4\n")
    (model / "training.json").unlink()
    assert content_hash(model) == before
    hashes = {before}
    for name in ("config.yaml", "tokens.txt", "weights.safetensors"):
        content = (model / name).read_bytes()
        (model / name).write_bytes(content + b" ")
        hashes.add(content_hash(model))
        (model / name).write_bytes(content)
    assert len(hashes) == 4
    assert content_hash(model) == before


def test_an_origin_is_told_in_lines() -> None:
    origin = {"seed": 1, "init": {"name": "old", "dev_wer": 5.5}}
    assert origin_texts(origin) == {"seed": "1", "init": "name old, dev_wer 5.5"}
