"""Samples that lie in shards, of which two windows are in memory: one in use, one being read.

A window is a few shards. It is what batches are drawn from, so its size bounds both the memory and
how far the order of utterances is shuffled.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

_Samples = NDArray[np.int16]
Wanted = NDArray[np.bool_] | None
"""Which utterances are needed; None is all."""

_READERS = 2  # shards read at once


@dataclass(frozen=True, slots=True)
class _Window:
    """Shards that are in memory together."""

    epoch: int | None
    shards: tuple[int, ...]


class ShardWindows:
    """Int16 samples [sample] of all shards, one after another, looked up by utterance.

    Any utterance, or a part of one, can be asked for. It is at hand if its shard is in the window
    that `follow` says is due or in the one after it, and it is among those that are wanted;
    otherwise its shard is read for it.
    """

    dtype: ClassVar[np.dtype[np.int16]] = np.dtype(np.int16)

    def __init__(
        self,
        utterance_starts: NDArray[np.int64],
        firsts: NDArray[np.int64],
        read: Callable[[int, Wanted], _Samples],
        window_bytes: int,
    ):
        """Describe shards; nothing is read.

        Args:
            utterance_starts: first sample of each utterance, and the end of the last.
            firsts: first utterance of each shard, and the number of all.
            read: gives the samples of a shard, of which those of utterances that are not wanted
                may be anything; called in threads.
            window_bytes: of samples in a window at most; a larger shard is a window by itself.
        """
        self.starts = utterance_starts[firsts]
        self._utterance_starts, self._firsts = utterance_starts, firsts
        self._read = read
        self._window_bytes = window_bytes
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="shards")
        self._readings: dict[tuple[int | None, int], Future[_Samples]] = {}  # by epoch and shard
        self._schedule: list[_Window] = []
        self._wanted: dict[int | None, Wanted] = {}  # in each epoch; without one it is all
        self._place = -1  # in the schedule; -1 is before it
        self._stray: tuple[int, _Samples] | None = None

    @property
    def shape(self) -> tuple[int]:
        """The shape of all samples together."""
        return (int(self.starts[-1]),)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> _Samples:
        """The samples of a range within an utterance; waits for its shard.

        Raises:
            DataError: the shard cannot be read.
        """
        shard = int(np.searchsorted(self.starts, part.start, side="right")) - 1
        begin = int(self.starts[shard])
        return self._samples(shard, part.start)[part.start - begin : part.stop - begin]

    def windows(self, seed: int | None) -> list[tuple[int, ...]]:
        """Every shard once, in windows: in an order that the seed decides, or, by None, as is."""
        sizes = np.diff(self.starts) * self.dtype.itemsize
        order = np.arange(len(sizes))
        if seed is not None:
            order = np.random.default_rng(seed).permutation(len(sizes))
        windows: list[list[int]] = []
        room = 0
        for shard in order.tolist():
            room -= int(sizes[shard])
            if room < 0 or not windows:
                windows.append([])
                room = self._window_bytes - int(sizes[shard])
            windows[-1].append(shard)
        return [tuple(sorted(window)) for window in windows]

    def follow(
        self, seeds: Sequence[int | None], wanted: Mapping[int | None, Wanted] | None = None
    ) -> None:
        """Announce the windows that come next; the first to be looked into may be any of them.

        Args:
            seeds: of the epochs to which the windows belong.
            wanted: by seed, which of all utterances will be asked for; none means all of them.
        """
        self._schedule = [
            _Window(seed if wanted else None, shards)
            for seed in seeds
            for shards in self.windows(seed)
        ]
        self._wanted, self._place = {None: None, **(wanted or {})}, -1

    def close(self) -> None:
        """Read nothing any more."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _samples(self, shard: int, sample: int) -> _Samples:
        if self._place < 0 or shard not in self._schedule[self._place].shards:
            self._turn_to(shard)
        row = int(np.searchsorted(self._utterance_starts, sample, side="right")) - 1
        for (epoch, held), reading in self._readings.items():
            if held != shard or epoch not in self._wanted:
                continue
            wanted = self._wanted[epoch]
            if wanted is None or wanted[row]:
                return reading.result()
        if self._stray is None or self._stray[0] != shard:
            self._stray = None
            self._stray = (shard, self._read(shard, None))
        return self._stray[1]

    def _turn_to(self, shard: int) -> None:
        """Make the next window with this shard the one in use, if there is one."""
        later = range(self._place + 1, len(self._schedule))
        place = next((p for p in later if shard in self._schedule[p].shards), None)
        if place is not None:
            self._place = place
            windows = self._schedule[place : place + 2]
            self._hold((window.epoch, part) for window in windows for part in window.shards)

    def _hold(self, parts: Iterable[tuple[int | None, int]]) -> None:
        """Keep or read these shards, each for an epoch, in this order, and no other."""
        in_order = dict.fromkeys(parts)
        for part in self._readings.keys() - in_order.keys():
            self._readings.pop(part).cancel()
        for epoch, shard in in_order:
            if (epoch, shard) not in self._readings:
                wanted = self._wanted[epoch]
                if wanted is not None:
                    wanted = wanted[self._firsts[shard] : self._firsts[shard + 1]]
                reading = self._readers.submit(self._read, shard, wanted)
                self._readings[epoch, shard] = reading
