"""A corpus in tar shards: packed to the disk, or, where it is too large, read in every epoch.

Either way each shard is decoded once at first. The second way keeps an index of what was found,
and reads again whenever a window of shards is due.
"""

import itertools
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from asr.audio import as_int16
from asr.config import FeatureConfig
from asr.corpus.members import ShardedUtterance, decode, read_shards
from asr.corpus.packed import (
    DIGESTS,
    SHARD_STARTS,
    STARTS,
    Change,
    Loaded,
    PackedCorpus,
    PackReport,
    check_length,
    digest_of,
    load_arrays,
    open_values,
    write_packed,
)
from asr.corpus.shards import list_shards
from asr.corpus.windows import ShardWindows, Wanted
from asr.errors import DataError

_A = TypeVar("_A")
_B = TypeVar("_B")
_AHEAD, _PART = 64, 16  # utterances decoded ahead, and by a thread at a time


def pack_shards(
    locations: Sequence[str],
    total: int,
    folder: Path,
    features: FeatureConfig,
    change: Change | None = None,
) -> PackReport:
    """Decode the audio of tar files into `folder`, as they are read from front to back.

    Args:
        locations: as `read_shards` takes them.
        total: how many utterances are expected, for the progress.
        change: as in `pack`.

    Raises:
        DataError: as `read_shards`, an utterance that cannot be decoded, or none at all.
    """
    loaded = itertools.chain.from_iterable(_decoded(name, features, change) for name in locations)
    return write_packed(loaded, total, folder, "waveforms", features)


def index_shards(
    locations: Sequence[str], total: int, folder: Path, features: FeatureConfig
) -> PackReport:
    """Decode the audio of tar files, and keep all but the samples, for `open_sharded`.

    Args and errors are those of `pack_shards`.
    """
    firsts = array("q")
    count = 0

    def loaded() -> Iterator[Loaded]:
        nonlocal count
        for location in locations:
            firsts.append(count)
            for utterance in _decoded(location, features):
                count += 1
                yield utterance

    report = write_packed(loaded(), total, folder, "waveforms", features, keep_values=False)
    np.save(folder / SHARD_STARTS, np.array([*firsts, count], np.int64))
    return report


def _decoded(
    location: str, features: FeatureConfig, change: Change | None = None
) -> Iterator[Loaded]:
    """The utterances of a tar file, each with the duration that was found; two threads decode."""
    return _in_threads(lambda sharded: _load(sharded, features, change), read_shards([location]))


def _load(
    sharded: ShardedUtterance, features: FeatureConfig, change: Change | None = None
) -> Loaded:
    name = str(sharded.utterance.audio_filepath)
    samples, rate = decode(sharded.audio, name, features.sample_rate)
    check_length(samples, sharded.utterance, features)
    if change is not None:
        samples = change(samples, sharded.utterance)
    duration = len(samples) / features.sample_rate
    return replace(sharded.utterance, duration=duration), (as_int16(samples), rate)


def _in_threads(make: Callable[[_A], _B], items: Iterator[_A]) -> Iterator[_B]:
    """What is made of each item, in order; two threads are at work."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        while ahead := list(itertools.islice(items, _AHEAD)):
            # Not one by one: handing over costs more than decoding what is short.
            parts = [ahead[start : start + _PART] for start in range(0, len(ahead), _PART)]
            for made in pool.map(lambda part: [make(item) for item in part], parts):
                yield from made


@contextmanager
def open_sharded(
    folder: Path, listed: Path, features: FeatureConfig, window_bytes: int
) -> Iterator[PackedCorpus]:
    """The utterances that `index_shards` found; their samples are read in windows of shards.

    Args:
        listed: the list of shards, as `list_shards` takes it.
        window_bytes: of samples in a window; two of them are in memory.

    Raises:
        DataError: the index is missing or damaged, the list or, later, a shard is not what it was,
            or a shard is larger than a window.
    """
    locations, _ = list_shards(listed)
    starts, firsts, digests = load_arrays(folder, STARTS, SHARD_STARTS, DIGESTS)
    if len(firsts) != len(locations) + 1:
        raise DataError(
            f"{listed}: {len(locations)} shards, {len(firsts) - 1} when they were indexed; run the "
            f"pack stage again"
        )

    def read(shard: int, wanted: Wanted) -> NDArray[np.int16]:
        location, rows = locations[shard], range(*firsts[shard : shard + 2].tolist())

        def values_of(numbered: tuple[int, ShardedUtterance]) -> NDArray[np.generic] | None:
            number, sharded = numbered
            if wanted is not None and not wanted[number : number + 1].all():
                return None
            _, (values, _) = _load(sharded, features)
            return values

        # What is not wanted is not decoded; its memory is never touched, and so not taken.
        samples = np.empty(starts[rows.stop] - starts[rows.start], np.int16)
        row = rows.start
        for values in _in_threads(values_of, enumerate(read_shards([location]))):
            if row not in rows or not (values is None or digests[row] == digest_of(values)):
                break
            if values is not None:
                place = starts[row] - starts[rows.start]
                samples[place : place + len(values)] = values
            row += 1
        else:
            if row == rows.stop:
                return samples
        raise DataError(
            f"{location}: not what it was when it was indexed; run the pack stage again"
        )

    values = ShardWindows(starts, firsts, read, window_bytes)
    with closing(values):
        largest = int(np.diff(values.starts).argmax())
        size = int(np.diff(values.starts)[largest]) * values.dtype.itemsize
        if size > window_bytes:
            raise DataError(
                f"{locations[largest]}: {size / 1e6:,.0f} MB of samples, more than "
                f"training.window_mb; raise it, or write smaller shards"
            )
        yield open_values(folder, "waveforms", values)
