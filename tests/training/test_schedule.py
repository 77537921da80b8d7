import itertools
from pathlib import Path

import numpy as np
import pytest

from asr.config import TrainingConfig
from asr.corpus import PackedCorpus
from asr.training.batch import Examples
from asr.training.replay import Replay
from asr.training.schedule import Schedule
from tests.tones import CONFIG

ROWS = np.delete(np.arange(60), [3, 17])


def make_schedule(corpus: PackedCorpus, folder: Path, **settings: int) -> Schedule:
    examples = Examples.of(corpus, [[1]] * len(corpus), CONFIG)
    return Schedule(examples, ROWS, TrainingConfig(**settings), folder)


def test_every_epoch_has_every_utterance_once_in_the_batches_that_the_corpus_plans(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    corpus = tone_corpus["train"]
    schedule = make_schedule(corpus, tmp_path, epochs=3, seed=7)
    assert not [*tmp_path.iterdir()]
    budget = int(CONFIG.training.batch_seconds * CONFIG.features.sample_rate)
    step = 0
    for epoch in range(3):
        batches = schedule.batches(epoch)
        seed = 7 * 1_000_003 + epoch
        planned = corpus.plan(budget, rows=ROWS, seed=seed, shuffle=epoch > 0)
        for batch, expected in zip(batches, planned, strict=True):
            assert batch.tolist() == expected.tolist()
        assert sorted(np.concatenate(batches)) == ROWS.tolist()
        assert schedule.num_batches(epoch) == len(batches) > 3
        assert schedule.step(epoch, 2) == step + 2
        step += len(batches)
    assert schedule.num_steps == step


def test_the_first_epoch_goes_from_short_to_long(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    lengths = tone_corpus["train"].lengths
    schedule = make_schedule(tone_corpus["train"], tmp_path, epochs=2)
    first, second = ([lengths[b].max() for b in schedule.batches(epoch)] for epoch in (0, 1))
    # Lengths are noisy by three per cent, so that neighbours may change places.
    assert all(b > 0.9 * a for a, b in itertools.pairwise(first))
    assert not all(b > 0.9 * a for a, b in itertools.pairwise(second))


def test_some_of_the_old_domain_are_added_to_every_epoch(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    corpus = tone_corpus["train"]
    examples = Examples.of(corpus, [[1]] * len(corpus), CONFIG)
    new, replay = ROWS[:40], Replay(rows=ROWS[40:], count=7, seed=1)
    schedule = Schedule(examples, new, TrainingConfig(epochs=3), tmp_path, [replay])
    for epoch in range(3):
        learnt = sorted(np.concatenate(schedule.batches(epoch)).tolist())
        assert learnt == [*new.tolist(), *replay.draw(epoch).tolist()]


def test_no_epoch_is_no_step(tone_corpus: dict[str, PackedCorpus], tmp_path: Path) -> None:
    corpus = tone_corpus["train"]
    examples = Examples.of(corpus, [[1]] * len(corpus), CONFIG)
    settings = TrainingConfig.model_validate({"epochs": 0, "init": {"model": "m"}})
    assert Schedule(examples, ROWS, settings, tmp_path).num_steps == 0


@pytest.mark.parametrize("first", [0, 1, 4])
def test_an_epoch_goes_on_in_its_middle(
    first: int, tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    schedule = make_schedule(tone_corpus["train"], tmp_path, epochs=2)
    whole, rest = schedule.batches(1), schedule.batches(1, first)
    assert [b.tolist() for b in rest] == [b.tolist() for b in whole[first:]]
