"""Where a long recording is quiet; no torch."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from asr.transcription.pieces import (
    HOP_SECONDS,
    PAUSE_SHARE,
    SMOOTHING,
    Values,
    hop_powers,
    smooth_levels,
)

_BLOCK_SECONDS = 10.0  # that share what is quiet
_PORTION = 100_000  # hops
_AROUND_SECONDS = 15.0  # on both sides, from which that is known


class Quiet:
    """The quiet hundredths of a second of a recording, against what is around them."""

    def __init__(self, blocks: Iterable[Values], sample_rate: int):
        """Listen to a recording once.

        Args:
            blocks: its samples, of which few are held.
        """
        hop = round(HOP_SECONDS * sample_rate)
        levels = _levels(np.concatenate([np.zeros(0, np.float32), *_powers(blocks, hop)]))
        block, around = round(_BLOCK_SECONDS / HOP_SECONDS), round(_AROUND_SECONDS / HOP_SECONDS)
        self._marks = np.zeros(len(levels), bool)
        for first in range(0, len(levels), block):
            here = slice(first, first + block)
            nearby = levels[max(0, first - around) : first + block + around]
            floor, speech = np.percentile(nearby, [10, 98])
            self._marks[here] = levels[here] < floor + PAUSE_SHARE * (speech - floor)

    def pauses(self, start: float, end: float, shortest: float) -> list[tuple[float, float]]:
        """Quiet stretches between two times, all in seconds, that last a while."""
        first, last = self._frames(start, end)
        bounds = first + np.flatnonzero(
            np.diff(self._marks[first:last], prepend=False, append=False)
        )
        pairs = zip(bounds[::2] * HOP_SECONDS, bounds[1::2] * HOP_SECONDS, strict=True)
        return [(a, b) for a, b in pairs if b - a > shortest - HOP_SECONDS / 2]

    def loud_seconds(self, start: float, end: float) -> float:
        """How much between two times is not quiet."""
        first, last = self._frames(start, end)
        return float(np.count_nonzero(~self._marks[first:last])) * HOP_SECONDS

    def _frames(self, start: float, end: float) -> tuple[int, int]:
        first = max(0, int(start / HOP_SECONDS))
        return first, max(first, int(np.ceil(end / HOP_SECONDS)))


def _levels(powers: NDArray[np.float32]) -> NDArray[np.float32]:
    """As `smooth_levels`, a portion at a time: what that needs besides is as large as an hour's."""
    levels = np.empty(len(powers), np.float32)
    for first in range(0, len(powers), _PORTION):
        begin, end = max(0, first - SMOOTHING), first + _PORTION
        levels[first:end] = smooth_levels(powers[begin : end + SMOOTHING])[first - begin :][
            :_PORTION
        ]
    return levels


def _powers(blocks: Iterable[Values], hop: int) -> Iterator[NDArray[np.float32]]:
    """Of each hop, block by block."""
    held = np.zeros(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        count = (len(held) - 1) // hop
        if count > 0:
            yield hop_powers(held[: count * hop + 1], hop).astype(np.float32)
            held = held[count * hop :]
