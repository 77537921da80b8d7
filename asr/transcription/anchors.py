"""A long transcript in parts that an aligner can take at once: where it is certain to be said.

Dimension names: step, token.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.decoding import hypothesis

_BITS = (
    30  # of a run of tokens, at three fifths of what a token could say: no two are alike by chance
)
_UNIQUE_SHARE = 0.9  # of the runs of a text, where few words are said again and again
_PART_TOKENS = 400  # of a part, at least


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Tokens of a transcript and the steps that they lie in."""

    tokens: slice
    steps: slice


def cut_at_anchors(
    path: NDArray[np.integer],
    tokens: NDArray[np.integer],
    num_symbols: int,
    starts: NDArray[np.bool_] | None = None,
) -> Iterator[Part]:
    """Parts of a transcript, in order, that begin where the network hears the very same tokens.

    An anchor is a run of tokens that stands once in the transcript and once on the best path; of
    those in different order the longest row of anchors in one order is taken.

    Args:
        path: the most probable token of each step, [step].
        tokens: of the transcript, [token].
        num_symbols: of the token table.
        starts: tokens with which a part may begin, [token]; all, where it is not given.
    """
    steps, _ = hypothesis.token_runs(path.astype(np.int64))
    length = _run_length(tokens, num_symbols)
    anchors = _in_order(_common_runs(tokens, path[steps], length))
    allowed = np.arange(len(tokens)) if starts is None else np.flatnonzero(starts)
    first_token = first_step = 0
    for token, place in anchors:
        middle = token + length // 2
        if middle - first_token < _PART_TOKENS or len(tokens) - middle < _PART_TOKENS:
            continue
        begin = allowed[np.searchsorted(allowed, middle) :][:1]
        if len(begin) and begin[0] < token + length:
            cut, step = int(begin[0]), int(steps[place + begin[0] - token])
            yield Part(tokens=slice(first_token, cut), steps=slice(first_step, step))
            first_token, first_step = cut, step
    yield Part(tokens=slice(first_token, len(tokens)), steps=slice(first_step, len(path)))


def _run_length(tokens: NDArray[np.integer], num_symbols: int) -> int:
    """Tokens of a run: so many that nearly all runs of the text are different ones."""
    length = max(3, math.ceil(_BITS / (0.6 * math.log2(num_symbols))))
    while length < len(tokens) // 8:
        if len(_unique_runs(tokens, length)[0]) > _UNIQUE_SHARE * (len(tokens) - length + 1):
            break
        length = length * 3 // 2
    return length


def _common_runs(
    tokens: NDArray[np.integer], heard: NDArray[np.integer], length: int
) -> Iterator[tuple[int, int]]:
    """Places of the runs that both have once, in the order of the first."""
    keys, places = _unique_runs(tokens, length)
    heard_keys, heard_places = _unique_runs(heard, length)
    _, first, second = np.intersect1d(keys, heard_keys, assume_unique=True, return_indices=True)
    order = np.argsort(places[first])
    yield from zip(places[first][order].tolist(), heard_places[second][order].tolist(), strict=True)


def _unique_runs(
    tokens: NDArray[np.integer], length: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """A key of each run of tokens that stands there once, and its place.

    Keys are of 64 bits, so that two runs of millions have one in a case out of ten thousands.
    """
    if len(tokens) < length:
        return np.zeros(0, np.uint64), np.zeros(0, np.int64)
    draw = np.random.default_rng(0)
    factors = 2 * draw.integers(2**63, size=length, dtype=np.uint64) + 1
    names = draw.integers(2**64, size=int(tokens.max()) + 1, dtype=np.uint64)[tokens]
    keys = np.zeros(len(tokens) - length + 1, np.uint64)
    for place, factor in enumerate(factors):
        keys += factor * names[place : place + len(keys)]
    keys, places, counts = np.unique(keys, return_index=True, return_counts=True)
    return keys[counts == 1], places[counts == 1]


def _in_order(pairs: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest row of pairs that rise in both places; they come rising in the first.

    Source:
        Fredman 1975, "On computing the length of longest increasing subsequences".
    """
    tails: list[int] = []  # the least last place of a row of each length
    ends: list[int] = []  # of which pair it is
    listed = list(pairs)
    before = [-1] * len(listed)
    for number, (_, place) in enumerate(listed):
        length = bisect_left(tails, place)
        before[number] = ends[length - 1] if length else -1
        tails[length : length + 1] = [place]
        ends[length : length + 1] = [number]
    row = []
    number = ends[-1] if ends else -1
    while number >= 0:
        row.append(listed[number])
        number = before[number]
    return row[::-1]
