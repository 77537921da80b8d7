"""Samples that lie in shards, of which two windows are in memory: one in use, one being read.

A window is a few shards. It is what batches are drawn from, so its size bounds both the memory and
how far the order of utterances is shuffled.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

_Samples = NDArray[np.int16]

_READERS = 2  # shards read at once


class ShardWindows:
    """Int16 samples [sample] of all shards, one after another, looked up by ranges.

    Any range within a shard can be asked for. It is at hand if its shard is in the window that
    `follow` says is due or in the one after it; otherwise its shard is read for it.
    """

    dtype: ClassVar[np.dtype[np.int16]] = np.dtype(np.int16)

    def __init__(
        self, starts: NDArray[np.int64], read: Callable[[int], _Samples], window_bytes: int
    ):
        """Describe shards; nothing is read.

        Args:
            starts: first sample of each shard, and the end of the last.
            read: gives the samples of a shard; called in threads.
            window_bytes: of samples in a window at most; a larger shard is a window by itself.
        """
        self.starts = starts
        self._read = read
        self._window_bytes = window_bytes
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="shards")
        self._readings: dict[int, Future[_Samples]] = {}
        self._schedule: list[tuple[int, ...]] = []
        self._place = -1  # in the schedule; -1 is before it
        self._stray: tuple[int, _Samples] | None = None

    @property
    def shape(self) -> tuple[int]:
        """The shape of all samples together."""
        return (int(self.starts[-1]),)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> _Samples:
        """The samples of a range within a shard; waits for the shard.

        Raises:
            DataError: the shard cannot be read.
        """
        shard = int(np.searchsorted(self.starts, part.start, side="right")) - 1
        begin = int(self.starts[shard])
        return self._samples(shard)[part.start - begin : part.stop - begin]

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

    def follow(self, schedule: Sequence[tuple[int, ...]]) -> None:
        """Announce the windows that come next; the first to be looked into may be any of them."""
        self._schedule, self._place = [*schedule], -1

    def close(self) -> None:
        """Read nothing any more."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _samples(self, shard: int) -> _Samples:
        if self._place < 0 or shard not in self._schedule[self._place]:
            self._turn_to(shard)
        if shard in self._readings:
            return self._readings[shard].result()
        if self._stray is None or self._stray[0] != shard:
            self._stray = None
            self._stray = (shard, self._read(shard))
        return self._stray[1]

    def _turn_to(self, shard: int) -> None:
        """Make the next window with this shard the one in use, if there is one."""
        later = range(self._place + 1, len(self._schedule))
        place = next((p for p in later if shard in self._schedule[p]), None)
        if place is not None:
            self._place = place
            self._hold(part for window in self._schedule[place : place + 2] for part in window)

    def _hold(self, shards: Iterable[int]) -> None:
        """Keep or read these shards, in this order, and no other."""
        in_order = dict.fromkeys(shards)
        for shard in self._readings.keys() - in_order.keys():
            self._readings.pop(shard).cancel()
        for shard in in_order:
            if shard not in self._readings:
                self._readings[shard] = self._readers.submit(self._read, shard)
