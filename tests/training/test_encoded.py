from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr.config import Config
from asr.corpus.packed import PackedCorpus
from asr.training import targets, task
from asr.training.processes import open_place
from asr.training.targets import TokenRows
from asr.training.task import Task, prepare_task
from tests.tones import CONFIG


def prepared(corpus: dict[str, PackedCorpus], folder: Path, config: Config = CONFIG) -> Task:
    lines: list[str] = []
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    place = open_place("cpu", folder, folder / "scratch", lines.append)
    return prepare_task(corpus["train"], corpus["dev"], config, place, None)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the sets whose transcripts are encoded."""
    sizes: list[int] = []
    encode_texts = targets.encode_texts

    def noted(corpus: PackedCorpus, *arguments: object) -> object:
        sizes.append(len(corpus))
        return encode_texts(corpus, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(task, "encode_texts", noted)
    return sizes


UNITS = Config.model_validate(
    {**CONFIG.model_dump(), "tokens": {"kind": "bpe", "vocabulary_size": 12}}
)


@pytest.mark.parametrize("config", [CONFIG, UNITS], ids=["characters", "bpe"])
def test_a_second_start_maps_what_the_first_one_worked_out(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path, counted: list[int], config: Config
) -> None:
    num_train, num_dev = len(tone_corpus["train"]), len(tone_corpus["dev"])
    # The first utterance has no room for its text.
    short = tone_corpus["train"].starts.copy()
    short[1] = short[0] + 400
    corpus = {**tone_corpus, "train": replace(tone_corpus["train"], starts=short)}
    first = prepared(corpus, tmp_path, config)
    assert counted == [num_train, num_dev]
    second = prepared(corpus, tmp_path, config)
    assert counted == [num_train, num_dev, num_dev]
    assert second.num_feasible == first.num_feasible == num_train - 1
    assert second.tokens.symbols == first.tokens.symbols
    assert list(second.examples.targets) == list(first.examples.targets)
    assert isinstance(second.examples.targets, TokenRows)
    assert isinstance(second.examples.targets.tokens.base, np.memmap)
    for one, other in zip(second.schedule.batches(0), first.schedule.batches(0), strict=True):
        assert np.array_equal(one, other)


def test_what_was_kept_of_other_audio_or_settings_is_not_taken(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path, counted: list[int]
) -> None:
    prepared(tone_corpus, tmp_path)
    digests = tone_corpus["train"].digests.copy()
    digests[3] += 1
    prepared({**tone_corpus, "train": replace(tone_corpus["train"], digests=digests)}, tmp_path)
    prepared(tone_corpus, tmp_path, UNITS)
    assert counted == 3 * [len(tone_corpus["train"]), len(tone_corpus["dev"])]


@pytest.mark.parametrize("name", ["targets.npy", "starts.npy", "rows.npy", "tokens.txt", "origin"])
@pytest.mark.parametrize("content", [None, b"", b"\xff nonsense"])
def test_what_was_kept_and_is_damaged_is_worked_out_again(
    tone_corpus: dict[str, PackedCorpus],
    tmp_path: Path,
    counted: list[int],
    name: str,
    content: bytes | None,
) -> None:
    first = prepared(tone_corpus, tmp_path)
    path = tmp_path / "scratch" / "encoded" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    second = prepared(tone_corpus, tmp_path)
    assert counted == 2 * [len(tone_corpus["train"]), len(tone_corpus["dev"])]
    assert list(second.examples.targets) == list(first.examples.targets)
