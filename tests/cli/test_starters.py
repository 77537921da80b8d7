"""Models that come with the package, by name, at every verb that takes a model."""

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

from asr.cli import main
from asr.corpus.manifest import Utterance, write_manifest
from asr.model.folder import CARD, WEIGHTS, locate_model
from asr.transcription.recognizer import Recognizer
from tests.conftest import ROOT
from tests.tones import write_corpus

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def speech(here: Path) -> list[Utterance]:
    utterances = write_corpus(here / "speech", 4, seed=5, longest_pause=0.8)
    write_manifest(utterances, here / "test.jsonl")
    return utterances


def test_a_starter_transcribes_and_is_scored(
    starter: str, tone_run: Path, speech: list[Utterance], capsys: Captured
) -> None:
    audio = str(speech[1].audio_filepath)
    assert main(["transcribe", starter, audio, "--device", "cpu"]) == 0
    assert capsys.readouterr().out.strip() == speech[1].text
    outputs = []
    for model in (starter, str(tone_run / "model")):
        assert main(["evaluate", model, "test.jsonl", "--device", "cpu"]) == 0
        outputs.append(capsys.readouterr().out.splitlines()[:2])
    assert outputs[0] == outputs[1]
    assert outputs[0][0].startswith("%WER 0.00 ")
    assert main(["data", "check", "test.jsonl", "--model", starter, "--device", "cpu"]) == 0


def test_a_starter_is_described_with_its_card(
    starter: str, tone_starter: Path, capsys: Captured
) -> None:
    assert main(["show", starter]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"model        {tone_starter}"
    assert "numbers      int8" in lines
    card = (tone_starter / CARD).read_text(encoding="utf-8").splitlines()
    assert lines[-len(card) - 1 :] == ["", *card]
    assert main(["show"]) == 0
    assert "starters        tones" in capsys.readouterr().out.splitlines()


def test_a_card_that_is_a_link_out_of_the_folder_is_not_shown(
    tone_starter: Path, here: Path, capsys: Captured
) -> None:
    (here / "secret").write_text("secret\n", encoding="utf-8")
    shutil.copytree(tone_starter, here / "model")
    (here / "model" / CARD).unlink()
    (here / "model" / CARD).symlink_to(here / "secret")
    assert main(["show", "model"]) == 2
    out, err = capsys.readouterr()
    assert "is not in the model folder" in err
    assert "secret\n" not in out


def test_a_starter_is_copied_and_exported(
    starter: str, tone_starter: Path, here: Path, speech: list[Utterance], capsys: Captured
) -> None:
    check = ["--check", "test.jsonl"]
    assert main(["export", starter, "--format", "folder", *check]) == 0
    assert "change       +0.00 points" in capsys.readouterr().out
    copy = here / "tones-folder"
    assert (copy / WEIGHTS).stat().st_size > 2 * (tone_starter / WEIGHTS).stat().st_size
    assert json.loads((copy / "training.json").read_text())["numbers"] == "float32"
    noise = [np.random.default_rng(1).standard_normal(9000).astype(np.float32)]
    log_probs = [Recognizer.load(m, device="cpu").log_probs(noise)[0] for m in (starter, copy)]
    assert np.array_equal(*log_probs)
    assert main(["export", starter, "--format", "folder"]) == 2
    assert f"{copy}: is there already; name a folder that is not" in capsys.readouterr().err
    assert main(["export", starter, "--format", "folder", "--input", "features"]) == 2
    assert "it is for --format onnx" in capsys.readouterr().err
    pytest.importorskip("onnxruntime")
    assert main(["export", starter]) == 0
    assert main(["transcribe", "tones-onnx", str(speech[1].audio_filepath)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == speech[1].text


@pytest.mark.usefixtures("speech")
def test_a_starter_is_not_tuned_but_a_copy_is(
    starter: str, tone_starter: Path, here: Path, capsys: Captured
) -> None:
    (here / "text.txt").write_text("la mi\nmi la la\n", encoding="utf-8")
    assert main(["lm", "train", "text.txt", "--order", "2", "--output", "lm.arpa"]) == 0
    before = {path: path.read_bytes() for path in tone_starter.iterdir()}
    tune = ["test.jsonl", "--lm", "lm.arpa", "--device", "cpu"]
    for name in (starter, str(tone_starter)):
        capsys.readouterr()
        assert main(["tune", name, *tune]) == 2
        line = capsys.readouterr().err.strip()
        assert line.startswith("asr: tones: a starter of the package is left as it is; tune a copy")
    assert {path: path.read_bytes() for path in tone_starter.iterdir()} == before
    command = line.split("`")[1].split()
    assert main(command[1:]) == 0
    assert main(["tune", command[-1], *tune]) == 0
    assert main(["export", command[-1], "--format", "folder", "--output", "again"]) == 0
    assert (here / "again" / "lm.arpa").read_bytes() == (here / "lm.arpa").read_bytes()
    assert (here / "again" / "decoding.yaml").is_file()


def test_a_folder_of_that_name_wins(
    starter: str, tone_starter: Path, here: Path, capsys: Captured
) -> None:
    assert locate_model(Path(starter)) == tone_starter
    folder = here / starter
    folder.mkdir()
    for verb in (["transcribe", starter, "x.wav"], ["show", starter]):
        assert main(verb) == 2
        assert capsys.readouterr().err == (
            "asr: tones: not a model folder (it has no config.yaml); it hides the starter tones\n"
        )
    shutil.copy(tone_starter / "config.yaml", folder)
    assert locate_model(Path(starter)) == Path(starter)
    assert locate_model(tone_starter) == tone_starter


@pytest.mark.parametrize(
    "verb",
    [
        ["transcribe", "MODEL", "x.wav"],
        ["evaluate", "MODEL", "test.jsonl"],
        ["tune", "MODEL", "test.jsonl", "--lm", "lm.arpa"],
        ["export", "MODEL"],
        ["export", "MODEL", "--format", "folder"],
        ["data", "check", "test.jsonl", "--model", "MODEL"],
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("starter", "speech")
@pytest.mark.parametrize("name", ["tonse", "somewhere/tones", "../tones"])
def test_an_unknown_name_is_said_with_the_starters(
    verb: list[str], name: str, capsys: Captured
) -> None:
    assert main([name if part == "MODEL" else part for part in verb]) == 2
    assert capsys.readouterr().err == (
        f"asr: {name}: not a model folder (there is no such folder); starters are tones\n"
    )
    assert main(["show", "tonse"]) == 2
    assert capsys.readouterr().err == "asr: tonse: no such file or folder, and no starter: tones\n"


def test_a_package_without_starters_says_so(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr("asr.model.folder.STARTERS", here / "assets")
    assert main(["transcribe", "english", "x.wav"]) == 2
    assert "no starter comes with this package" in capsys.readouterr().err
    assert main(["show"]) == 0
    assert "none comes with this package" in capsys.readouterr().out


def test_the_wheel_has_the_files_of_a_starter(tone_starter: Path) -> None:
    """By the patterns of pyproject.toml, below the package's folder."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["asr"]
    package = tone_starter.parents[1]  # its folder `assetsN` stands for the package's `assets`
    named = [pattern.replace("assets/", f"{tone_starter.parent.name}/") for pattern in patterns]
    packed = {path for pattern in named for path in package.glob(pattern)}
    assert set(tone_starter.iterdir()) <= packed
