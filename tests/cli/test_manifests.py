"""Manifests packed by gzip, in all that reads one."""

import gzip
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.cli import main
from asr.corpus import formats
from asr.corpus.manifest import find_manifest, read_manifest, write_manifest
from asr.progress import silent
from asr.recipe.stage import Work
from asr.recipe.standard import model_stages
from tests.tones import CONFIG, write_corpus

# What reads a manifest {m}; {model} is a model's folder, {out} a path that is free.
VERBS = {
    "score": "score {m} {m}",
    "compare": "compare {m} {m} {m}",
    "show": "show {m}",
    "transcribe": "transcribe {model} {m} --beam 1",
    "evaluate": "evaluate {model} {m} --output-dir {out}",
    "tune": "tune {model} {m} --lm {lm}",
    "lm train": "lm train {m} --order 2 --output {out}.arpa",
    "lm perplexity": "lm perplexity {lm} {m}",
    "stats": "data stats {m}",
    "check": "data check {m}",
    "split": "data split {m} --output-dir {out} --by utterance --dev 0.3 --test 0.3",
    "subset": "data subset {m} --utterances 2 --output {out}.jsonl",
    "filter": "data filter {m} --match . --output {out}.jsonl",
    "import": "data import {m} --output {out}.jsonl",
    "export": "data export {m} --format kaldi --output {out}",
    "shard": "data shard {m} --output {out}",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a manifest that is at once a hypothesis."""
    utterances = write_corpus(tmp_path, 3, seed=5)
    write_manifest(utterances, tmp_path / "plain.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "plain.jsonl").read_text().splitlines()]
    content = "".join(json.dumps(row | {"pred_text": row["text"]}) + "\n" for row in rows)
    (tmp_path / "m.jsonl").write_text(content)
    (tmp_path / "m.jsonl.gz").write_bytes(gzip.compress(content.encode()))
    return tmp_path


@pytest.fixture
def run(
    folder: Path,
    tone_run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str, Path], tuple[int, str, str]]:
    """Runs a verb on a manifest: its code, stdout and stderr."""
    monkeypatch.chdir(folder)  # where lists of failures go
    lm = folder / "lm.arpa"
    assert main(["lm", "train", str(folder / "m.jsonl"), "--order", "2", "--output", str(lm)]) == 0

    def run(verb: str, manifest: Path) -> tuple[int, str, str]:
        out = folder / f"out-{random.randrange(10**9)}"
        values = {"m": manifest, "model": tone_run / "model", "out": out, "lm": lm}
        capsys.readouterr()
        code = main([word.format(**values) for word in VERBS[verb].split()])
        printed = capsys.readouterr()
        timeless = re.sub(r".*[Rr]eal.time.*\n", "", printed.out)
        return code, timeless.replace(str(out), "OUT"), printed.err

    return run


Run = Callable[[str, Path], tuple[int, str, str]]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "tune"])  # which takes its time
def test_a_packed_manifest_is_read_as_a_plain_one(folder: Path, run: Run, verb: str) -> None:
    code, printed, _ = run(verb, folder / "m.jsonl")
    assert code == 0
    assert run(verb, folder / "m.jsonl.gz")[:2] == (0, printed.replace("m.jsonl", "m.jsonl.gz"))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("damage", ["missing", "no gzip", "cut", "without its sum", "a bomb"])
def test_a_damaged_manifest_is_one_line(
    folder: Path, run: Run, verb: str, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "m.jsonl.gz"
    packed = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "a bomb":
        monkeypatch.setattr("asr.corpus.manifest._MAX_LINE", 2**20)
        path.write_bytes(gzip.compress(b" " * 2**24))
    else:
        contents = {"no gzip": b"{}", "cut": packed[:50], "without its sum": packed[:-8]}
        path.write_bytes(contents[damage])
    code, _, said = run(verb, path)
    assert code in (1, 2)
    (line,) = (line for line in said.splitlines() if line.startswith("asr: ") or ".gz" in line)
    assert str(path) in line


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz"])
def test_training_data_are_packed_from_either(folder: Path, name: str) -> None:
    work = Work(folder=folder / "work", config=CONFIG, report=silent)
    for split in ("train", "dev"):
        manifest = work.path("manifests") / name.replace("train", split)
        write_manifest(read_manifest(folder / "m.jsonl.gz"), manifest)
        assert find_manifest(work.path("manifests"), split) == manifest
    next(stage for stage in model_stages() if stage.name == "pack").run(work)
    assert len(read_manifest(work.path("packed/train/manifest.jsonl"))) == 3


@pytest.mark.parametrize("format_name", ["nemo", "lhotse-cuts"])
def test_what_is_written_by_a_packed_name_is_packed(folder: Path, format_name: str) -> None:
    utterances = read_manifest(folder / "plain.jsonl")
    path = folder / "out.jsonl.gz"
    written = set()
    for _ in range(2):
        formats.export_corpus(iter(utterances), format_name, path, silent)
        written.add(path.read_bytes())
    assert len(written) == 1  # without the time of day
    assert gzip.decompress(path.read_bytes()).startswith(b'{"id": ')
    assert list(formats.import_corpus(path, "auto", silent)) == utterances
