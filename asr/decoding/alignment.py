"""Where the tokens of a transcript lie in the network's output; no torch.

Dimension names: step (model outputs in time), token (the token table). Token 0 is the blank.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from asr.decoding.hypothesis import token_runs
from asr.errors import DataError

_Integers = TypeVar("_Integers", bound=Any)  # NumPy's or torch's


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


def required_steps(targets: _Integers, num_tokens: _Integers) -> _Integers:
    """Fewest steps that can spell each transcript: its tokens, and a blank between equal ones.

    Args:
        targets: [..., target], in arrays of NumPy or torch; what stands beyond a row's own tokens
            is not looked at.
        num_tokens: [...], of each row.

    Source:
        The rule is exact for `torch.nn.functional.ctc_loss`: infinite if and only if there are
        fewer steps (tests/model/test_ctc.py).
    """
    following = targets[..., 1:]
    position = (following == following).cumsum(-1)  # 1, 2, ..., which both make in this way
    repeats = (following == targets[..., :-1]) & (position < num_tokens[..., None])
    num_steps: _Integers = num_tokens + repeats.sum(-1)
    return num_steps


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
    needed = int(required_steps(targets, np.array(len(targets))))
    if needed > len(log_probs):
        raise DataError(f"{len(tokens)} tokens need {needed} steps, there are {len(log_probs)}")
    path = log_probs.argmax(axis=1)
    starts, ends = token_runs(path)
    # No path is better than that of each step's best token, where it spells the transcript.
    if not np.array_equal(path[starts], targets):
        from asr.decoding.viterbi import best_path

        path = best_path(np.array(log_probs, np.float32, order="C"), targets)
        starts, ends = token_runs(path)
    sums = np.concatenate(
        [[0.0], np.exp(log_probs[np.arange(len(path)), path]).cumsum(dtype=float)]
    )
    means = (sums[ends] - sums[starts]) / (ends - starts)
    spans = zip(path[starts].tolist(), starts.tolist(), ends.tolist(), means.tolist(), strict=True)
    return [TokenSpan(token=t, start=s, end=e, probability=p) for t, s, e, p in spans]
