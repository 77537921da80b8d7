"""A long transcript in parts that an aligner can take at once: where it is certain to be said.

Dimension names: step, token.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
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


def cut_at_anchors(log_probs: NDArray[np.float32], tokens: Sequence[int]) -> Iterator[Part]:
    """Parts of a transcript, in order, that begin where the network hears the very same tokens.

    An anchor is a run of tokens that stands once in the transcript and once on the best path; of
    those in different order the longest row of anchors in one order is taken.

    Args:
        log_probs: [step, token].
        tokens: of the transcript.
    """
    path = log_probs.argmax(axis=1)
    starts, _ = hypothesis.token_runs(path)
    heard = path[starts].tolist()
    length = _run_length(tokens, log_probs.shape[1])
    anchors = _in_order(_common_runs(tokens, heard, length))
    first_token = first_step = 0
    for token, place in anchors:
        middle = token + length // 2
        step = int(starts[place + length // 2])
        if middle - first_token >= _PART_TOKENS and len(tokens) - middle >= _PART_TOKENS:
            yield Part(tokens=slice(first_token, middle), steps=slice(first_step, step))
            first_token, first_step = middle, step
    yield Part(tokens=slice(first_token, len(tokens)), steps=slice(first_step, len(log_probs)))


def _run_length(tokens: Sequence[int], num_symbols: int) -> int:
    """Tokens of a run: so many that nearly all runs of the text are different ones."""
    length = max(3, math.ceil(_BITS / (0.6 * math.log2(num_symbols))))
    while length < len(tokens) // 8:
        if len(_unique_runs(tokens, length)) > _UNIQUE_SHARE * (len(tokens) - length + 1):
            break
        length = length * 3 // 2
    return length


def _common_runs(
    tokens: Sequence[int], heard: Sequence[int], length: int
) -> Iterator[tuple[int, int]]:
    """Places of the runs that both have once, in the order of the first."""
    places = _unique_runs(heard, length)
    for run, place in _unique_runs(tokens, length).items():
        if run in places:
            yield place, places[run]


def _unique_runs(tokens: Sequence[int], length: int) -> dict[tuple[int, ...], int]:
    """The place of each run of tokens that stands there once."""
    places: dict[tuple[int, ...], int] = {}
    repeated = set()
    for place in range(len(tokens) - length + 1):
        run = tuple(tokens[place : place + length])
        if run in places:
            repeated.add(run)
        places[run] = place
    return {run: place for run, place in places.items() if run not in repeated}


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
