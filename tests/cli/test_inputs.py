from pathlib import Path

import pytest

from asr.cli import main
from asr.corpus.manifest import write_manifest
from tests.tones import write_corpus


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    utterances = write_corpus(tmp_path / "audio", 4, seed=1)
    write_manifest(utterances, tmp_path / "train.jsonl")
    (tmp_path / "link.jsonl").symlink_to("train.jsonl")
    (tmp_path / "text.txt").write_text("one two\n" * 9)
    return tmp_path / "train.jsonl"


@pytest.mark.parametrize(
    "command",
    [
        "data export {m} --format stm --output {m}",
        "data export {folder}/link.jsonl --format nemo --output {folder}/audio/../train.jsonl",
        "data import {m} --output {folder}/link.jsonl",
        "data subset {m} --utterances 2 --output {m}",
        "data filter {m} --match . --output {m}",
        "data split {m} --output-dir {folder} --by utterance --dev 0.3 --test 0.3",
        "data check {m} --fix {folder}",
        "data pick none {m} --hours 1 --output {m}",
        "data label none {m} --output {m}",
        "data pick none {m} --hours 1 --without {folder}/text.txt --output {folder}/text.txt",
        "lm train {folder}/text.txt --order 2 --output {folder}/text.txt",
        "align none {m} --segment {m}",
    ],
)
def test_nothing_that_is_read_is_written_over(
    command: str, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in manifest.parent.iterdir() if path.is_file()}
    assert main(command.format(m=manifest, folder=manifest.parent).split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is read as well; name another place" in error
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("data filter {m} --output {folder}/new.jsonl --min-score nan", "--min-score"),
        ("data pick none {m} --output {folder}/new.jsonl --hours nan", "--hours"),
        ("spot none {m} --keywords {folder}/text.txt --threshold NaN", "--threshold"),
    ],
)
def test_nan_is_taken_for_no_number(
    command: str, option: str, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command.format(m=manifest, folder=manifest.parent).split()) == 2
    assert capsys.readouterr().err == f"asr: {option} nan: a number is expected\n"
    assert not (manifest.parent / "new.jsonl").exists()
