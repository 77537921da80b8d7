import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr.config import Config, Settings
from asr.corpus import read_manifest, write_manifest
from asr.errors import AsrError, DataError
from asr.model.folder import content_hash
from asr.recipe.definition import Recipe
from asr.recipe.run import plan, run_recipe
from asr.recipe.stage import Stage, Work
from asr.recipe.standard import model_stages
from asr.training.source import id_digests
from asr.training.step import Learner
from tests import tones


class Corpus(Settings):
    recordings: int = 20


@pytest.fixture(autouse=True)
def no_long_pictures(no_pictures: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    """Reports without pictures, which take longer than all else."""
    monkeypatch.setattr("asr.training.trainer.draw_curves", lambda _history, path: path.touch())
    monkeypatch.setattr("asr.transcription.evaluation.write_html", lambda *_: None)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Manifests: 30 recordings to learn from, 6 of a dev, 8 of a test and 8 of an old set."""
    folder = tmp_path_factory.mktemp("speech")
    counts = {"train": 30, "dev": 6, "test": 8, "old": 8}
    for seed, (name, count) in enumerate(counts.items()):
        utterances = tones.write_corpus(folder / name, count, seed=50 + seed)
        write_manifest(utterances, folder / f"{name}.jsonl")
    return {name: folder / f"{name}.jsonl" for name in counts}


@pytest.fixture
def recipe(speech: dict[str, Path], tmp_path: Path) -> Recipe:
    def prepare(work: Work) -> None:
        """Write manifests."""
        count = Corpus.model_validate(work.config.corpus).recordings
        for name in ("train", "dev", "test"):
            utterances = read_manifest(speech[name])
            utterances = utterances[:count] if name == "train" else utterances
            write_manifest(utterances, work.path(f"manifests/{name}.jsonl"))

    stages = (
        Stage(name="prepare", run=prepare, settings=("corpus",), makes=("manifests",)),
        *model_stages("manifests"),
    )
    return Recipe(
        name="tones", folder=tmp_path, description="", stages=stages, corpus_settings=Corpus
    )


def work_of(folder: Path, model: Path | None, recordings: int = 20, **training: Any) -> Work:
    values = tones.CONFIG.model_dump()
    init = {"model": model, **training.pop("init", {})}
    values["training"] |= {"epochs": 1, "learning_rate": 0.001, **training, "init": init}
    values["corpus"] = {"recordings": recordings}
    return Work(folder=folder, config=Config.model_validate(values), device="cpu")


def states(recipe: Recipe, work: Work) -> dict[str, str]:
    return {p.stage.name: f"{p.state} {p.reason}".strip() for p in plan(recipe, work)}


ALL = ("prepare", "pack", "train", "lm", "tune", "evaluate")


def test_new_recordings_are_learnt_from_the_last_model_as_often_as_there_are_some(
    recipe: Recipe, tone_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "work"
    model, kept = folder / "model", folder / "init"
    run_recipe(recipe, work_of(folder, tone_run / "model"))
    hashes = [content_hash(tone_run / "model"), content_hash(model)]
    assert content_hash(kept) == hashes[0] != hashes[1]
    # Its own last model now; and what it has just made changes nothing.
    for recordings in (20, 26):
        work = work_of(folder, model, recordings)
        assert states(recipe, work)["train"].startswith("changed" if recordings == 20 else "waits")
        run_recipe(recipe, work)
        assert content_hash(kept) == hashes[-1]
        hashes.append(content_hash(model))
        origin = json.loads((model / "training.json").read_text())["init"]
        assert (origin["hash"], origin["name"]) == (hashes[-2], str(model))
        assert states(recipe, work) == dict.fromkeys(ALL, "done")
        before = content_hash(model)
        run_recipe(recipe, work)
        assert content_hash(model) == before
    assert len({*hashes}) == 4
    # A stop loses nothing: the one before is kept, and the same command goes on from there.
    work = work_of(folder, model, 30, checkpoint_seconds=0)
    step = Learner.step

    def stopped(self: Learner, rows: Any, number: int) -> None:
        step(self, rows, number)
        if number == 3:
            raise KeyError("stopped")

    monkeypatch.setattr(Learner, "step", stopped)
    with pytest.raises(KeyError):
        run_recipe(recipe, work)
    monkeypatch.setattr(Learner, "step", step)
    assert content_hash(model) == content_hash(kept) == hashes[-1]
    # As if it had been killed while the model was replaced.
    (model / "weights.safetensors").write_bytes(b"half of")
    lines: list[str] = []
    run_recipe(recipe, work, report=lines.append)
    assert any("going on from the last checkpoint" in line for line in lines)
    assert content_hash(kept) == hashes[-1]
    assert states(recipe, work) == dict.fromkeys(ALL, "done")
    # A round again from where it began.
    run_recipe(recipe, work_of(folder, kept, 30, seed=3), last="train", report=lines.append)
    assert content_hash(kept) == hashes[-1]
    assert not any("is damaged" in line for line in lines)
    # And if it was started with other settings when the model was not whole, from the one before.
    (model / "weights.safetensors").write_bytes(b"half of")
    shutil.rmtree(folder / ".stages")
    (folder / ".stages").mkdir()
    (folder / ".stages" / "lock").touch()
    lines.clear()
    run_recipe(recipe, work_of(folder, model, 30, seed=7), report=lines.append)
    assert f"{model} is damaged: starting from {kept}, which it was made from" in lines
    assert content_hash(kept) == hashes[-1]


def test_the_result_says_what_was_gained_and_what_was_forgotten(
    recipe: Recipe, speech: dict[str, Path], tone_run: Path, tmp_path: Path
) -> None:
    given = tmp_path / "given"
    shutil.copytree(tone_run / "model", given)
    folder = tmp_path / "work"
    work = work_of(folder, given, init={"old_test": speech["old"], "replay": speech["train"]})
    run_recipe(recipe, work)
    result = (folder / "result.txt").read_text().splitlines()
    place = result.index(f"WER of the best path; the model before is {given}:")
    assert result[0].startswith("%WER 0.00 [")
    assert result[place + 1 :] == [
        "test: 0.00 % before, 0.00 % after",
        "old.jsonl: 0.00 % before, 0.00 % after",
    ]
    for name in ("before", "old_before", "old_after"):
        assert (folder / "test" / name / "hypotheses.jsonl").is_file()
    assert len(read_manifest(folder / "packed/replay/manifest.jsonl")) == 30
    assert states(recipe, work) == dict.fromkeys(ALL, "done")

    def changes(**init: Any) -> dict[str, str]:
        values = {"old_test": speech["old"], "replay": speech["train"], **init}
        after = states(recipe, work_of(folder, given, init=values))
        return {name: state for name, state in after.items() if state != "done"}

    assert list(changes(old_test=speech["test"])) == ["evaluate"]
    assert changes(old_test=None)["evaluate"].startswith("changed")
    assert "train" not in changes(old_test=None)
    replay = changes(replay=speech["old"])
    assert list(replay)[:2] == ["pack", "train"]
    assert "training.init.replay" in replay["pack"]
    rate = changes(lower_rate=0.5)
    assert rate["train"] == "changed training.init.lower_rate 1.0 -> 0.5"
    assert "pack" not in rate
    # The content of the model counts, and not where or when it was written.
    shutil.copytree(given, tmp_path / "copy")
    shutil.rmtree(given)
    shutil.copytree(tmp_path / "copy", given)
    (given / "weights.safetensors").touch()
    (given / "notes.txt").touch()
    assert not changes()
    config = given / "config.yaml"
    config.write_text(config.read_text().replace("learning_rate: 0.02", "learning_rate: 0.03"))
    assert changes()["train"] == "changed what training.init.model names changed"


def test_a_model_that_cannot_write_the_test_set_is_said_to_be_none_to_compare_with(
    recipe: Recipe, speech: dict[str, Path], tone_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    for name in ("train", "dev", "test", "old"):
        utterances = [
            replace(u, text=(u.text or "").replace("l", "ß")) for u in read_manifest(speech[name])
        ]
        write_manifest(utterances, folder / f"{name}.jsonl")
    paths = {name: folder / f"{name}.jsonl" for name in speech}
    speech_before = dict(speech)
    speech.update(paths)
    try:
        init = {"old_test": speech_before["old"], "keep_tokens": False}
        run_recipe(recipe, work_of(tmp_path / "work", tone_run / "model", init=init))
    finally:
        speech.update(speech_before)
    result = (tmp_path / "work" / "result.txt").read_text().splitlines()
    test, old = result[-2:]
    assert test.startswith("test: none ('ß' cannot be written) before, ")
    assert test.endswith(" % after")
    assert old == "old.jsonl: 0.00 % before, none ('l' cannot be written) after"


def test_what_the_model_before_has_learnt_of_the_test_set_is_told_apart(
    recipe: Recipe, speech: dict[str, Path], tmp_path: Path
) -> None:
    first = tmp_path / "first"
    run_recipe(recipe, work_of(first, None), last="train")
    # Two of the test set, as if the sets were drawn anew.
    learnt = [u for path in (speech["train"], speech["test"]) for u in read_manifest(path)][-2:]
    np.save(
        first / "learnt.npy",
        np.union1d(np.load(first / "learnt.npy"), id_digests(u.id for u in learnt)),
    )
    run_recipe(recipe, work_of(tmp_path / "second", first / "model", epochs=0))
    result = (tmp_path / "second" / "result.txt").read_text().splitlines()
    assert result[-1].startswith(
        "warning: the model before has learnt 2 of the 8 utterances of the test set, by their ids: "
        "these rates are too good; without them "
    )


def edited(change: Callable[[Any], Any]) -> Callable[[dict[str, Path], Path], Path]:
    def make(speech: dict[str, Path], folder: Path) -> Path:
        utterances = read_manifest(speech["train"])
        write_manifest([*utterances, change(read_manifest(speech["test"])[3])], folder / "r.jsonl")
        return folder / "r.jsonl"

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (edited(lambda u: u), r"r\.jsonl: test-3 has the id of test-3 in .*manifests/test\.jsonl"),
        (edited(lambda u: replace(u, id="x")), "x has the audio of test-3 in .*test.jsonl, which"),
        (edited(lambda u: replace(u, id="x", offset=0.1)), "x has the audio of test-3 in .*test"),
        (lambda s, _: s["dev"], r"dev-0 has the id of dev-0 in .*manifests/dev\.jsonl"),
        (lambda s, _: s["old"], r"old-0 has the id of old-0 in .*old\.jsonl"),
        (lambda _, f: f / "no.jsonl", r"training\.init\.replay: .*no\.jsonl: no such file"),
    ],
)
def test_a_replay_of_what_is_scored_is_refused(
    make: Any,
    message: str,
    recipe: Recipe,
    speech: dict[str, Path],
    tone_run: Path,
    tmp_path: Path,
) -> None:
    init = {"replay": make(speech, tmp_path), "old_test": speech["old"]}
    with pytest.raises(DataError, match=message):
        run_recipe(recipe, work_of(tmp_path / "work", tone_run / "model", init=init))
    assert not (tmp_path / "work" / "packed" / "train").exists()


def test_other_stretches_of_a_file_may_be_learnt_again(
    recipe: Recipe,
    speech: dict[str, Path],
    tone_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The test set has the first half of a recording.
    tests = read_manifest(speech["test"])
    tests[3] = replace(tests[3], duration=tests[3].duration / 2)
    write_manifest(tests, tmp_path / "halves.jsonl")
    monkeypatch.setitem(speech, "test", tmp_path / "halves.jsonl")
    later = edited(lambda u: replace(u, id="x", offset=u.duration))
    path = later(speech, tmp_path)
    work = work_of(tmp_path / "work", tone_run / "model", init={"replay": path})
    run_recipe(recipe, work, last="pack")
    assert (tmp_path / "work" / "packed" / "replay" / "values.npy").is_file()
    run_recipe(recipe, work_of(tmp_path / "work", tone_run / "model"), last="pack")
    assert not (tmp_path / "work" / "packed" / "replay").exists()


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ({"model": "nothing"}, r"training\.init\.model: nothing: not a model folder"),
        ({"old_test": "no.jsonl"}, r"training\.init\.old_test: no\.jsonl: no such file"),
    ],
)
def test_what_cannot_be_started_from_is_refused_before_anything_is_done(
    init: dict[str, str], message: str, recipe: Recipe, tone_run: Path, tmp_path: Path
) -> None:
    work = work_of(tmp_path / "work", tone_run / "model", init=init)
    for call in (plan, run_recipe):
        with pytest.raises(AsrError, match=message):
            call(recipe, work)
    assert not (tmp_path / "work" / "manifests").exists()
