"""From log-probabilities to tokens. NumPy only, so that exported models need no torch.

Dimension names: step (model outputs in time), token (the token table).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Hypothesis:
    """What a decoder makes of one utterance."""

    tokens: tuple[int, ...]
    steps: tuple[int, ...]
    """The step at which each token begins."""
    log_prob: float
    """Of the path found, in nats."""


def greedy(log_probs: NDArray[np.float32]) -> Hypothesis:
    """The best path, repeats merged and blanks removed (Graves 2006, "best path decoding").

    Args:
        log_probs: [step, token] of one utterance, without padding.
    """
    best = log_probs.argmax(axis=1)
    begins = best != np.concatenate([[-1], best[:-1]])
    steps = np.flatnonzero(begins & (best != 0))
    return Hypothesis(
        tokens=tuple(int(token) for token in best[steps]),
        steps=tuple(int(step) for step in steps),
        log_prob=float(log_probs.max(axis=1).sum()) if len(log_probs) else 0.0,
    )
