"""Where the tokens of a transcript lie in the network's output; no torch.

Dimension names: step (model outputs in time), token (the token table). Token 0 is the blank.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenSpan:
    """Where a token of a transcript lies."""

    token: int
    start: int
    """First step."""
    end: int
    """The step after its last."""
    probability: float
    """Mean over its steps."""


def align(log_probs: NDArray[np.float32], tokens: Sequence[int]) -> list[TokenSpan]:
    """The most probable path of a given transcript, as a span of steps for each of its tokens.

    Args:
        log_probs: [step, token] of one utterance, without padding.

    Raises:
        DataError: there are too few steps for the transcript.
    """
    if not tokens:
        return []
    targets = np.array(tokens, np.int64)
    needed = len(targets) + int((targets[1:] == targets[:-1]).sum())
    if needed > len(log_probs):
        raise DataError(f"{len(tokens)} tokens need {needed} steps, there are {len(log_probs)}")
    path = log_probs.argmax(axis=1)
    starts, ends = _runs(path)
    # No path is better than that of each step's best token, where it spells the transcript.
    if not np.array_equal(path[starts], targets):
        from asr.decoding.viterbi import best_path

        path = best_path(np.array(log_probs, np.float32, order="C"), targets)
        starts, ends = _runs(path)
    sums = np.concatenate(
        [[0.0], np.exp(log_probs[np.arange(len(path)), path]).cumsum(dtype=float)]
    )
    means = (sums[ends] - sums[starts]) / (ends - starts)
    spans = zip(path[starts].tolist(), starts.tolist(), ends.tolist(), means.tolist(), strict=True)
    return [TokenSpan(token=t, start=s, end=e, probability=p) for t, s, e, p in spans]


def _runs(path: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First step and the one after the last of each run of equal tokens that are no blank."""
    bounds = np.flatnonzero(np.diff(path, prepend=-1, append=-1))
    starts, ends = bounds[:-1], bounds[1:]
    speech = path[starts] != 0
    return starts[speech], ends[speech]
