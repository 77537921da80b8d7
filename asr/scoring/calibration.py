"""Whether confidences mean something: how often words are right that are said with so much.

Sources:
    Guo et al., On calibration of modern neural networks, 2017 (expected calibration error).
    NIST, Spring 2005 (RT-05S) evaluation plan (normalized cross entropy).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NUM_BINS = 10
_LEAST = 1e-4  # of a probability whose logarithm is taken
_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_MOST_WRONG = 0.02  # of the words kept at the threshold that is told


@dataclass(frozen=True, kw_only=True, slots=True)
class Bin:
    """Words whose confidences are alike."""

    low: float
    high: float
    num_words: int
    confidence: float
    """Mean."""
    right: float
    """Share of them that are right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """What is kept where only words of so much confidence are."""

    confidence: float
    kept: float
    """Share of all words."""
    wrong: float
    """Share of the words kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """How confidences of recognized words and the truth about them agree."""

    num_words: int
    mean: float
    """Confidence."""
    right: float
    """Share of the words that are right."""
    expected_error: float
    """Mean distance of confidence and share of right words over bins, by their words: ECE."""
    cross_entropy: float | None
    """Normalized: 1 where confidences know all, 0 where they say no more than the share of right
    words does, below it where they mislead: NCE. None where all words are right, or none is."""
    bins: tuple[Bin, ...]
    """Those that have words."""
    thresholds: tuple[Threshold, ...]

    def describe(self) -> str:
        """In a sentence, at the lowest threshold that leaves few errors, or else the highest."""
        good = [t for t in self.thresholds if t.kept and t.wrong <= _MOST_WRONG]
        chosen = good[0] if good else self.thresholds[-1]
        return (
            f"words of a confidence of {chosen.confidence:g} or more: {100 * chosen.kept:.0f} % of "
            f"all, {100 * chosen.wrong:.1f} % of them wrong"
        )


def measure_calibration(confidences: Sequence[float], right: Sequence[bool]) -> Calibration | None:
    """Compare confidences, 0 to 1, of words with whether they are right; None without words."""
    said = np.asarray(confidences, float)
    truth = np.asarray(right, bool)
    if not said.size:
        return None
    bins = tuple(_bins(said, truth))
    distances = [each.num_words * abs(each.confidence - each.right) for each in bins]
    return Calibration(
        num_words=len(said),
        mean=float(said.mean()),
        right=float(truth.mean()),
        expected_error=sum(distances) / len(said),
        cross_entropy=_normalized_cross_entropy(said, truth),
        bins=bins,
        thresholds=tuple(_threshold(said, truth, level) for level in _THRESHOLDS),
    )


def _bins(said: NDArray[np.float64], truth: NDArray[np.bool_]) -> list[Bin]:
    numbers = np.minimum((said * _NUM_BINS).astype(int), _NUM_BINS - 1)
    return [
        Bin(
            low=number / _NUM_BINS,
            high=(number + 1) / _NUM_BINS,
            num_words=int(inside.sum()),
            confidence=float(said[inside].mean()),
            right=float(truth[inside].mean()),
        )
        for number in range(_NUM_BINS)
        if (inside := numbers == number).any()
    ]


def _normalized_cross_entropy(said: NDArray[np.float64], truth: NDArray[np.bool_]) -> float | None:
    share = truth.mean()
    if share in (0, 1):
        return None
    most = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    chance = np.clip(np.where(truth, said, 1 - said), _LEAST, None)
    return float(1 + np.log(chance).mean() / most)


def _threshold(said: NDArray[np.float64], truth: NDArray[np.bool_], level: float) -> Threshold:
    kept = said >= level
    wrong = float((~truth[kept]).mean()) if kept.any() else 0.0
    return Threshold(confidence=level, kept=float(kept.mean()), wrong=wrong)
