import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asr.config import Config, Settings
from asr.corpus import Utterance, read_manifest, write_manifest
from asr.errors import AsrError, DataError
from asr.recipe.definition import Recipe
from asr.recipe.held_out import Places
from asr.recipe.run import plan, run_recipe
from asr.recipe.stage import Stage, Work
from asr.recipe.standard import model_stages
from asr.training.step import Learner
from tests import tones

SETS = {"train": 8, "dev": 3, "test": 3, "archive": 8}


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Utterance]]:
    """Training, dev and test sets of different speakers, and an archive of others."""
    folder = tmp_path_factory.mktemp("speech")
    return {
        name: [
            replace(utterance, speaker=f"{name}-{number % 2}")
            for number, utterance in enumerate(tones.write_corpus(folder / name, count, seed=70))
        ]
        for name, count in SETS.items()
    }


@pytest.fixture
def recipe(speech: dict[str, list[Utterance]], tmp_path: Path) -> Recipe:
    def prepare(work: Work) -> None:
        """Write manifests."""
        for name in ("train", "dev", "test"):
            write_manifest(speech[name], work.path(f"manifests/{name}.jsonl"))

    stages = (
        Stage(name="prepare", run=prepare, settings=("corpus",), makes=("manifests",)),
        *model_stages("manifests"),
    )
    return Recipe(
        name="tones", folder=tmp_path, description="", stages=stages, corpus_settings=Settings
    )


def work_of(folder: Path, *more: dict[str, Any]) -> Work:
    values = tones.CONFIG.model_dump()
    values["training"] |= {"epochs": 4, "more": more}
    return Work(folder=folder, config=Config.model_validate(values), device="cpu")


def write_labels(path: Path, utterances: list[Utterance], **values: object) -> Path:
    write_manifest(utterances, path)
    rows = [json.loads(line) | values for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_better_text_and_a_test_set_keep_a_label_out(
    recipe: Recipe, speech: dict[str, list[Utterance]], tmp_path: Path
) -> None:
    archive, test, dev = speech["archive"], speech["test"][0], speech["dev"][0]
    first = write_labels(tmp_path / "first.jsonl", archive[:2], confidence=0.95)
    rows = [
        replace(archive[1], text="la"),  # labelled in the first manifest
        replace(archive[2]),
        replace(archive[3], text="la ß"),
        replace(archive[4], text=""),
        replace(archive[5], speaker="test-1"),
        replace(speech["train"][0], id="x", text="la"),
        replace(test, id="y", offset=0.05, duration=test.duration - 0.05),
        replace(dev, audio_filepath=archive[6].audio_filepath),
    ]
    second = write_labels(tmp_path / "second.jsonl", rows)
    unsure = replace(archive[7], id="unsure")
    with second.open("a") as file:
        row = json.loads(write_labels(tmp_path / "x.jsonl", [unsure]).read_text())
        file.write(json.dumps(row | {"confidence": 0.4}) + "\n")
    lines: list[str] = []
    work = work_of(
        tmp_path / "work",
        {"manifest": first, "weight": 0.5},
        {"manifest": second, "min_confidence": 0.5, "share": 0.2},
    )
    run_recipe(recipe, work, last="pack", report=lines.append)
    packed = [read_manifest(work.path(f"packed/more/{n}/manifest.jsonl")) for n in (0, 1)]
    assert [[u.id for u in part] for part in packed] == [
        ["archive-0", "archive-1"],
        ["archive-2"],
    ]
    (line,) = [line for line in lines if line.startswith(str(second))]
    for reason in (
        "2 are in a dev or test set",
        "2 are in the training set already",
        "1 are of a speaker of a dev or test set",
        "1 are less sure than 0.5",
        "1 have no words",
        "1 have letters or words that are not those of the training set",
    ):
        assert reason in line
    # Fewer manifests leave nothing behind, and a changed one is packed again.
    assert plan(recipe, work)[1].state == "done"
    write_labels(first, archive[:1])
    assert plan(recipe, work)[1].reason == "what training.more.0.manifest names changed"
    run_recipe(recipe, work_of(tmp_path / "work", {"manifest": first}), last="pack")
    assert [path.name for path in work.path("packed/more").iterdir()] == ["0"]
    held_out = {"manifest": write_labels(tmp_path / "test.jsonl", speech["test"])}
    message = r"training\.more\.0\.manifest: .*test\.jsonl: nothing to learn from: 3 are in a dev"
    with pytest.raises(DataError, match=message):
        run_recipe(recipe, work_of(tmp_path / "work", held_out), last="pack")
    with pytest.raises(AsrError, match=r"training\.more\.0\.manifest: no\.jsonl: no such file"):
        plan(recipe, work_of(tmp_path / "work", {"manifest": "no.jsonl"}))


def test_an_epoch_has_all_of_the_training_set_and_its_share_of_more(
    recipe: Recipe,
    speech: dict[str, list[Utterance]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_pictures: None,
) -> None:
    del no_pictures
    monkeypatch.setattr("asr.training.trainer.draw_curves", lambda _history, path: path.touch())
    step, learnt = Learner.step, []

    def noted(self: Learner, rows: Any, number: int) -> None:
        utterances = self.examples.corpus.utterances
        learnt.extend(utterances[int(row)].id for row in rows)
        step(self, rows, number)

    monkeypatch.setattr(Learner, "step", noted)
    archive = speech["archive"]
    more = [
        {"manifest": write_labels(tmp_path / "a.jsonl", archive[:4]), "weight": 0.5},
        {"manifest": write_labels(tmp_path / "b.jsonl", archive[4:]), "share": 0.5},
    ]
    lines: list[str] = []
    run_recipe(recipe, work_of(tmp_path / "work", *more), last="train", report=lines.append)
    assert any("a.jsonl: 2 draws from 4 utterances are added to the 8" in line for line in lines)
    size = 8 + 2 + 10
    assert len(learnt) == 4 * size
    epochs = [learnt[i : i + size] for i in range(0, len(learnt), size)]
    for epoch in epochs:
        counts = [sum(name.startswith("train") for name in epoch)]
        counts += [sum(name == f"archive-{n}" for name in epoch) for n in range(8)]
        assert counts[0] == 8
        assert sum(counts[1:5]) == 2
        assert sum(counts[5:]) == 10
    assert {*learnt} >= {utterance.id for utterance in archive}


def test_stretches_of_a_file_are_the_same_audio_where_they_overlap() -> None:
    def utterance(name: str, offset: float, duration: float, file: str = "a.wav") -> Utterance:
        return Utterance(id=name, audio_filepath=Path(file), offset=offset, duration=duration)

    places = Places([utterance("a", 1.0, 2.0), utterance("b", 10.0, 0.0)])
    assert places.find(utterance("a", 0, 1, "other.wav")) == ("id", "a")
    assert places.find(utterance("x", 2.9, 1.0)) == ("audio", "a")
    assert places.find(utterance("x", 0.0, 0.0)) == ("audio", "a")
    assert places.find(utterance("x", 99.0, 1.0)) == ("audio", "b")
    assert places.find(utterance("x", 3.0, 7.0)) is None
    assert places.find(utterance("x", 1.0, 2.0, "./b/../a.wav")) == ("audio", "a")
    assert places.find(utterance("x", 1.0, 2.0, "b.wav")) is None
