import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.config import Config, TrainingConfig
from asr.corpus import streamed
from asr.corpus.manifest import write_manifest
from asr.corpus.packed import PackedCorpus, open_packed, pack
from asr.corpus.shards import list_shards, write_shards
from asr.corpus.streamed import index_shards, open_sharded
from asr.corpus.windows import ShardWindows
from asr.errors import ConfigError, DataError
from asr.recipe.stage import Work
from asr.recipe.standard import model_stages
from asr.training.batch import Examples
from asr.training.diagnosis import diagnose_sets
from asr.training.inputs import measure_statistics
from asr.training.schedule import Schedule, share
from asr.training.step import Learner
from asr.training.trainer import train
from tests import tones

pytestmark = pytest.mark.usefixtures("no_pictures")

ALL = 10**9  # bytes of a window that holds everything
SMALL = 260_000  # of one that holds a quarter of the tones


def changed(**sections: dict[str, Any]) -> Config:
    values = tones.CONFIG.model_dump()
    values["training"] |= {"epochs": 3, "checkpoint_seconds": 0}
    for name, settings_ in sections.items():
        values[name] |= settings_
    return Config.model_validate(values)


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of shards with the tones, indexed in `index` and packed in `packed`."""
    folder = tmp_path_factory.mktemp("sharded")
    utterances = tones.write_corpus(folder / "train", 60, seed=5)
    write_shards(utterances, folder / "shards", seconds=5)
    (folder / "train.shards").write_text("shards\n")
    locations, count = list_shards(folder / "train.shards")
    index_shards(locations, count, folder / "index", tones.CONFIG.features)
    pack(utterances, folder / "packed", tones.CONFIG.features)
    return folder / "train.shards"


def opened(listed: Path, window_bytes: int) -> Any:
    return open_sharded(listed.parent / "index", listed, tones.CONFIG.features, window_bytes)


def run(train_set: PackedCorpus, dev_set: PackedCorpus, folder: Path, config: Config) -> None:
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    train(train_set, dev_set, config, folder, scratch=scratch, device="cpu", report=print)


def outcome(folder: Path) -> tuple[dict[str, torch.Tensor], list[str]]:
    with (folder / "history.csv").open(encoding="utf-8") as file:
        losses = [row["loss"] for row in csv.DictReader(file)]
    return safetensors.torch.load_file(folder / "model" / "weights.safetensors"), losses


def assert_same(first: Path, second: Path) -> None:
    (weights, losses), (others, other_losses) = outcome(first), outcome(second)
    assert losses == other_losses
    for name, tensor in weights.items():
        assert torch.equal(tensor, others[name]), name


def test_a_window_that_holds_all_shards_trains_the_weights_of_the_packed_corpus(
    listed: Path, tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    dev = tone_corpus["dev"]
    for kind in ("global", "utterance"):
        config = changed(features={"normalization": kind})
        run(open_packed(listed.parent / "packed"), dev, tmp_path / kind / "packed", config)
        with opened(listed, ALL) as corpus:
            run(corpus, dev, tmp_path / kind / "sharded", config)
        assert_same(tmp_path / kind / "packed", tmp_path / kind / "sharded")


def test_a_stopped_run_reads_its_window_and_later_ones_and_ends_as_one_never_stopped(
    listed: Path,
    tone_corpus: dict[str, PackedCorpus],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = changed()
    with opened(listed, SMALL) as corpus:
        run(corpus, tone_corpus["dev"], tmp_path / "whole", config)
        windows = corpus.values.windows(config.training.seed * 1_000_003 + 1)
        sizes = [len(c) for c in window_plans(corpus, config, epoch=1)]
        first_epoch = len(corpus.plan(budget(config), seed=config.training.seed * 1_000_003))
    assert len(windows) > 3
    step = Learner.step
    # In the third window of the second epoch.
    stop = first_epoch + sum(sizes[:2]) + 1

    def fail(self: Learner, rows: Any, number: int) -> None:
        if number == stop:
            raise KeyError("stopped")
        step(self, rows, number)

    monkeypatch.setattr(Learner, "step", fail)
    with pytest.raises(KeyError, match="stopped"), opened(listed, SMALL) as corpus:
        run(corpus, tone_corpus["dev"], tmp_path / "stopped", config)
    monkeypatch.setattr(Learner, "step", step)
    with opened(listed, SMALL) as corpus:
        read, seen = noted_reads(corpus.values)
        monkeypatch.setattr(corpus.values, "_read", read)
        run(corpus, tone_corpus["dev"], tmp_path / "stopped", config)
    assert_same(tmp_path / "whole", tmp_path / "stopped")
    rest = sum(len(window) for window in windows[2:])
    assert set(seen[: len(windows[2])]) == set(windows[2])
    assert set(seen[:rest]) == {shard for window in windows[2:] for shard in window}
    every = sum(len(window) for window in windows)
    assert len(seen) - rest <= every  # of the third epoch


def budget(config: Config) -> int:
    return int(config.training.batch_seconds * tones.RATE)


def window_plans(corpus: PackedCorpus, config: Config, epoch: int) -> list[list[Any]]:
    """The batches of an epoch, by the window that each is in."""
    seed = config.training.seed * 1_000_003 + epoch
    windows = corpus.values.windows(seed)  # type: ignore[union-attr]
    firsts = np.searchsorted(corpus.starts, corpus.values.starts)  # type: ignore[union-attr]
    plans: list[list[Any]] = [[] for _ in windows]
    for rows in corpus.plan(budget(config), seed=seed):
        shards = set((np.searchsorted(firsts, rows, side="right") - 1).tolist())
        (place,) = [p for p, window in enumerate(windows) if shards <= set(window)]
        plans[place].append(rows)
    return plans


def noted_reads(values: Any) -> tuple[Callable[[int, Any], Any], list[int]]:
    seen: list[int] = []
    read = values._read

    def noted(shard: int, wanted: Any) -> Any:
        seen.append(shard)
        return read(shard, wanted)

    return noted, seen


def test_an_epoch_is_every_utterance_once_window_by_window_and_another_order_each_time(
    listed: Path,
) -> None:
    config = changed()
    with opened(listed, SMALL) as corpus:
        orders = []
        for epoch in (1, 2):
            plans = window_plans(corpus, config, epoch)
            rows = [row for plan in plans for batch in plan for row in batch.tolist()]
            assert sorted(rows) == list(range(60))
            assert rows == [
                row
                for batch in corpus.plan(
                    budget(config), seed=config.training.seed * 1_000_003 + epoch
                )
                for row in batch.tolist()
            ]
            orders.append(rows)
        assert orders[0] != orders[1]
        windows = [corpus.values.windows(seed) for seed in (None, 1, 2)]
        assert windows[0] != windows[1] != windows[2]
        assert [shard for window in windows[0] for shard in window] == sorted(sum(windows[1], ()))
        some = np.array([3, 4, 17, 18, 19, 44])
        plan = corpus.plan(budget(config), rows=some, seed=7)
        assert sorted(np.concatenate(plan).tolist()) == some.tolist()


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=12),
    bound=st.integers(50, 150),
    seed=st.integers(0, 99),
    skipped=st.integers(0, 11),
)
def test_no_more_than_two_windows_are_held_and_a_shard_is_read_once_an_epoch(
    sizes: list[int], bound: int, seed: int, skipped: int
) -> None:
    starts = np.cumsum([0, *sizes]).astype(np.int64)
    contents = np.arange(starts[-1]).astype(np.int16)
    seen: list[int] = []

    def read(shard: int, _: Any) -> Any:
        seen.append(shard)
        return contents[starts[shard] : starts[shard + 1]]

    values = ShardWindows(starts, np.arange(len(starts)), read, 2 * bound)
    schedule = values.windows(seed)
    assert sorted(shard for window in schedule for shard in window) == list(range(len(sizes)))
    assert all(sum(sizes[shard] for shard in window) <= bound for window in schedule)
    followed = schedule[skipped % len(schedule) :]
    values.follow([seed])
    for window in followed:
        for shard in reversed(window):
            begin, end = starts[shard], starts[shard + 1]
            assert np.array_equal(values[begin:end], contents[begin:end])
            assert sum(sizes[shard] for _, shard in values._readings) <= 2 * bound
    assert sorted(seen) == sorted(shard for window in followed for shard in window)
    values.close()


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_each_process_decodes_its_share_and_all_of_them_the_epoch(
    world_size: int, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    decode = streamed.decode

    def counted(audio: bytes, name: str, rate: int) -> Any:
        decoded.append(name)
        return decode(audio, name, rate)

    monkeypatch.setattr(streamed, "decode", counted)
    whole = open_packed(listed.parent / "packed")
    epochs = 2
    shares: list[list[str]] = []
    for rank in range(world_size):
        decoded.clear()
        with opened(listed, SMALL) as corpus:
            schedule = Schedule(
                Examples(corpus=corpus, targets=[], budget=20_000, units_per_second=8000.0),
                np.arange(len(corpus)),
                TrainingConfig(epochs=epochs),
                tmp_path,
                rank=rank,
                world_size=world_size,
            )
            worked_on: list[str] = []
            num_needed = 0
            for epoch in range(epochs):
                needed: set[int] = set()
                for batch in schedule.batches(epoch):
                    rows, counts = share(batch, rank, world_size)
                    values, _ = corpus.padded(rows.tolist())
                    expected, _ = whole.padded(rows.tolist())
                    assert np.array_equal(values, expected)
                    needed.update(rows.tolist())
                    worked_on += [corpus.utterances[row].id for row in rows] if counts else []
                num_needed += len(needed)
        # One process may find a shard of the epoch before in memory.
        assert len(decoded) <= num_needed
        shares.append(worked_on)
    together = sorted(name for worked_on in shares for name in worked_on)
    assert together == sorted(2 * [utterance.id for utterance in whole.utterances])


def test_statistics_and_findings_are_those_of_the_packed_corpus(listed: Path) -> None:
    packed = open_packed(listed.parent / "packed")
    keys = [utterance.speaker for utterance in packed.utterances]
    expected = measure_statistics(packed, tones.CONFIG.features, keys)
    with opened(listed, SMALL) as corpus:
        found = measure_statistics(corpus, tones.CONFIG.features, keys)
        assert np.allclose(found.values, expected.values, rtol=1e-5, atol=1e-6)
        assert np.array_equal(found.groups, expected.groups)
        assert diagnose_sets(corpus, packed, 10) == diagnose_sets(packed, packed, 10)


def test_a_shard_that_was_changed_or_is_gone_or_too_large_is_named(
    listed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(listed.parent, folder)
    copy = folder / "train.shards"
    tar = folder / "shards" / "000001.tar"
    content = bytearray(tar.read_bytes())
    content[1000] ^= 1  # the lowest bit of a sample
    tar.write_bytes(content)
    with opened(copy, SMALL) as corpus:
        first = int(corpus.values.starts[1])
        with pytest.raises(DataError, match=r"000001\.tar: not what it was when it was indexed"):
            corpus.values[first : first + 1]
    tar.unlink()
    with opened(copy, SMALL) as corpus:
        corpus.follow([None])
        with pytest.raises(DataError, match=r"000001\.tar: No such file"):
            corpus.values[first : first + 1]
    with (
        pytest.raises(DataError, match=r"tar: 0 MB of samples, more than training\.window_mb"),
        opened(copy, 50_000),
    ):
        pass
    copy.write_text("shards\nshards\n")
    with (
        pytest.raises(DataError, match=r"train\.shards: \d+ shards, \d+ when they were indexed"),
        opened(copy, SMALL),
    ):
        pass


def test_the_stages_index_shards_and_train_from_them(listed: Path, tmp_path: Path) -> None:
    config = changed(training={"stream": True, "window_mb": SMALL / 1e6, "epochs": 1})
    lines: list[str] = []
    work = Work(folder=tmp_path, config=config, device="cpu", report=lines.append)
    stages = {stage.name: stage for stage in model_stages()}
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    dev = tones.write_corpus(tmp_path / "audio", 8, seed=3)
    write_manifest(dev, manifests / "dev.jsonl")
    write_manifest(dev, manifests / "train.jsonl")
    with pytest.raises(ConfigError, match=r"training\.stream: .* is no list of shards"):
        stages["pack"].run(work)
    (manifests / "train.shards").write_text(f"{listed.parent / 'shards'}\n")
    stages["pack"].run(work)
    assert not (tmp_path / "packed" / "train" / "values.npy").exists()
    stages["train"].run(work)
    assert any("60 utterances" in line for line in lines)
    packed = open_packed(listed.parent / "packed")
    run(packed, open_packed(tmp_path / "packed" / "dev"), tmp_path / "other", config)
    assert outcome(tmp_path)[1] != outcome(tmp_path / "other")[1]  # drawn from windows
    work = replace(work, config=changed(training={"stream": True, "epochs": 1}))
    stages["train"].run(replace(work, stage_key="again"))
    assert outcome(tmp_path)[1] == outcome(tmp_path / "other")[1]  # one window
