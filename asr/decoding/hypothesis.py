"""What a decoder makes of an utterance, and the best path; no torch.

Dimension names: step (model outputs in time), token (the token table). Token 0 is the blank.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.text import TokenTable


@dataclass(frozen=True, kw_only=True, slots=True)
class SpelledWord:
    """A word of a hypothesis and its tokens, from `first` to before `last`."""

    text: str
    first: int
    last: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Hypothesis:
    """What a decoder makes of one utterance."""

    tokens: tuple[int, ...]
    steps: tuple[int, ...]
    """The step at which each token begins."""
    log_prob: float
    """Of the path found, or of all paths that a beam search summed, in nats."""
    score: float | None = None
    """By which a beam search ranks: with language model, bonus and hot words."""
    words: tuple[SpelledWord, ...] | None = None
    """As a beam search found them."""

    @property
    def text(self) -> str:
        """The words, if a beam search found them."""
        return " ".join(word.text for word in self.words or ())


def text_of(hypothesis: Hypothesis, tokens: TokenTable) -> str:
    """What a hypothesis reads, found by whichever search."""
    return tokens.decode(hypothesis.tokens) if hypothesis.words is None else hypothesis.text


def greedy(log_probs: NDArray[np.float32]) -> Hypothesis:
    """The best path, repeats merged and blanks removed (Graves 2006, "best path decoding").

    Args:
        log_probs: [step, token] of one utterance, without padding.
    """
    path = log_probs.argmax(axis=1)
    steps, _ = token_runs(path)
    return Hypothesis(
        tokens=tuple(path[steps].tolist()),
        steps=tuple(steps.tolist()),
        log_prob=float(log_probs.max(axis=1).sum()) if len(log_probs) else 0.0,
    )


def token_runs(path: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First step and the one after the last of each run of equal tokens that are no blank."""
    bounds = np.flatnonzero(np.diff(path, prepend=-1, append=-1))
    starts, ends = bounds[:-1], bounds[1:]
    speech = path[starts] != 0
    return starts[speech], ends[speech]
