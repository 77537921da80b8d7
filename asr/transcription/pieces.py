"""Long inputs in pieces that a network takes at once, and its output in one again; no torch.

A piece ends in a pause of the speech where there is one. Where there is none, as in music or a
machine room, pieces overlap, and of the log-probabilities half of the overlap is taken from each:
what a recurrent network says far from the ends of its input hardly depends on where they are.

Dimension names: sample, frame (of features), step (model outputs in time), token. A unit is a
sample or a frame, whichever the input has.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.config import Config

Values = NDArray[np.float32]

LONGEST_SECONDS = 40.0
"""What is not longer stays whole."""
_USUAL_SECONDS = 6.0
_SHORTEST_SECONDS = 1.0
_OVERLAP_SECONDS = 4.0

HOP_SECONDS = 0.01  # from one measurement of the level to the next
SMOOTHING = 5  # hops
_PAUSE_SECONDS = 0.2  # closures of plosives are shorter
_LONG_PAUSE_SECONDS = 0.4  # between phrases
_CONTRAST = 10.0  # dB between speech and pauses; with less of it pauses are not told from speech
PAUSE_SHARE = 0.3  # a pause is in the lowest part of the range of levels
_PREEMPHASIS = 0.97


@dataclass(frozen=True, kw_only=True, slots=True)
class PieceLengths:
    """In units."""

    longest: int
    """Of what stays whole, and of pieces that no pause ends."""
    usual: int
    """Of a piece with a pause in it, at most."""
    shortest: int
    """Where a pause ends it."""
    overlap: int
    step: int

    @classmethod
    def of_samples(cls, config: Config) -> "PieceLengths":
        """For audio."""
        features = config.features
        step = config.encoder.subsampling * features.frame_shift
        return cls._of_seconds(features.sample_rate, step)

    @classmethod
    def of_frames(cls, config: Config) -> "PieceLengths":
        """For stored features."""
        rate = config.features.sample_rate / config.features.frame_shift
        return cls._of_seconds(rate, config.encoder.subsampling)

    @classmethod
    def _of_seconds(cls, rate: float, step: int) -> "PieceLengths":
        # Whole steps, so that those of overlapping pieces lie on one another.
        half = max(1, round(_OVERLAP_SECONDS / 2 * rate / step)) * step
        return cls(
            longest=max(4, round(LONGEST_SECONDS * rate / step)) * step,
            usual=round(_USUAL_SECONDS * rate),
            shortest=round(_SHORTEST_SECONDS * rate),
            overlap=2 * half,
            step=step,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A stretch of an input."""

    values: Values
    """[sample] or [frame, bin]."""
    start: int
    """Units from the start of the input."""
    follows: bool = False
    """It begins with what the piece before ends with."""
    continues: bool = False
    """It ends with what the piece after begins with."""


PauseFinder = Callable[[Values, int, int], int | None]
"""Takes values, a first and a last place; gives the middle of a pause between them, if any."""


def split_into_pieces(
    blocks: Iterable[Values], lengths: PieceLengths, find_pause: PauseFinder
) -> Iterator[Piece]:
    """The pieces of an input that comes in blocks; one is held at a time.

    An input that is not longer than `lengths.longest` is one piece.
    """
    remaining = iter(blocks)
    held = next(remaining)
    start, follows = 0, False
    while True:
        parts = [held]
        length = len(held)
        while length <= lengths.longest and (block := next(remaining, None)) is not None:
            parts.append(block)
            length += len(block)
        held = np.concatenate(parts) if len(parts) > 1 else held
        if length <= lengths.longest:
            yield Piece(values=held, start=start, follows=follows)
            return
        # Short pieces, each normalized by itself, are read best where voices or levels change.
        pause = find_pause(held[: lengths.usual], lengths.shortest, lengths.usual) or find_pause(
            held[: lengths.longest], lengths.usual, lengths.longest
        )
        end = pause or lengths.longest
        continues = pause is None
        # A copy, since a view would keep all that is held.
        values = held[:end].copy()
        yield Piece(values=values, start=start, follows=follows, continues=continues)
        follows = continues
        advance = end - lengths.overlap if continues else end
        start += advance
        held = held[advance:]


def no_pause(values: Values, first: int, last: int) -> None:  # noqa: ARG001
    """A `PauseFinder` for features, whose level nobody knows."""
    return


def pause_finder(sample_rate: int) -> PauseFinder:
    """The middle of the first long pause or, without one, of the longest; by level."""

    def find(samples: Values, first: int, last: int) -> int | None:
        hop = round(HOP_SECONDS * sample_rate)
        levels = _levels(samples, hop)
        floor, speech = np.percentile(levels, [10, 98])
        if speech - floor < _CONTRAST:
            return None
        quiet = levels < floor + PAUSE_SHARE * (speech - floor)
        quiet[: first // hop] = quiet[last // hop :] = False
        start, end = _longest_run(quiet, round(_LONG_PAUSE_SECONDS / HOP_SECONDS))
        if (end - start) * hop < _PAUSE_SECONDS * sample_rate:
            return None
        return (start + end) // 2 * hop

    return find


def _levels(samples: Values, hop: int) -> NDArray[np.float64]:
    """Of each hop in dB, with the low frequencies of hum and rumble weakened, smoothed."""
    return smooth_levels(hop_powers(samples, hop))


def hop_powers(samples: Values, hop: int) -> NDArray[np.float64]:
    """Of each whole hop of samples, with the low frequencies of hum and rumble weakened."""
    differences = samples[1:] - _PREEMPHASIS * samples[:-1]
    count = len(differences) // hop
    rows = differences[: count * hop].reshape(count, hop)
    powers: NDArray[np.float64] = np.square(rows).mean(axis=1, dtype=np.float64)
    return powers


def smooth_levels(powers: NDArray[np.floating]) -> NDArray[np.float64]:
    """Levels in dB, [hop], over some hundredths of a second."""
    # Not mode="same", which gives more hops than there are where these are fewer than its window.
    smooth = np.convolve(powers, np.full(SMOOTHING, 1 / SMOOTHING))[SMOOTHING // 2 :][: len(powers)]
    levels: NDArray[np.float64] = 10 * np.log10(smooth + 1e-10)
    return levels


def _longest_run(marks: NDArray[np.bool_], enough: int | None = None) -> tuple[int, int]:
    """First place and the one after the last of the first of the longest runs, or an empty one.

    Args:
        enough: a run of this length is as good as a longer one.
    """
    bounds = np.flatnonzero(np.diff(marks.astype(np.int8), prepend=0, append=0))
    starts, ends = bounds[::2], bounds[1::2]
    if not len(starts):
        return 0, 0
    best = int(np.minimum(ends - starts, enough or len(marks)).argmax())
    return int(starts[best]), int(ends[best])


class Stitcher:
    """The log-probabilities of an input's pieces, joined where they overlap."""

    def __init__(self, lengths: PieceLengths):
        self._lengths = lengths
        self._early: dict[int, tuple[Piece, Values]] = {}
        self._next = 0  # start of the piece that is joined next
        self._pending: list[Values] = []
        self._start = 0

    def add(self, piece: Piece, log_probs: Values) -> dict[int, Values]:
        """The segments that are complete with one more piece; pieces may come in any order.

        A segment is log-probabilities [step, token] that are decoded at once; its key is the unit
        of the input at which it starts.

        Args:
            log_probs: [step, token] of the piece.
        """
        self._early[piece.start] = piece, log_probs
        segments: dict[int, Values] = {}
        while (following := self._early.pop(self._next, None)) is not None:
            segments |= self._join(*following)
            overlap = self._lengths.overlap if following[0].continues else 0
            self._next += len(following[0].values) - overlap
        return segments

    def _join(self, piece: Piece, log_probs: Values) -> dict[int, Values]:
        step, half = self._lengths.step, self._lengths.overlap // 2
        if not piece.follows:
            self._start = piece.start
        first = half // step if piece.follows else 0
        last = (len(piece.values) - half) // step if piece.continues else len(log_probs)
        self._pending.append(log_probs[first:last])
        if not piece.continues:
            return self._take(sum(map(len, self._pending)))
        if sum(map(len, self._pending)) * step > 2 * self._lengths.longest:
            # A beam search and a language model need no more, and memory stays bounded.
            joined = np.concatenate(self._pending)
            self._pending = [joined]
            return self._take(blank_step(joined, self._lengths.longest // step))
        return {}

    def _take(self, num_steps: int) -> dict[int, Values]:
        joined = np.concatenate(self._pending)
        start = self._start
        self._pending = [joined[num_steps:]] if num_steps < len(joined) else []
        self._start += num_steps * self._lengths.step
        return {start: joined[:num_steps]}


def blank_step(log_probs: Values, first: int) -> int:
    """The step, from `first` on, before which a transcript is best cut: amid most blanks.

    Args:
        log_probs: [step, token].
    """
    late = log_probs[first:]
    start, end = _longest_run(late.argmax(axis=1) == 0)
    if start == end:
        return first + int(late[:, 0].argmax())
    return first + (start + end) // 2
