"""How sure an error rate is: intervals and tests on counts.

Everything works on whole-number counts of units (speakers or utterances), so that resampling
never touches a text.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_RESAMPLES = 10_000
SEED = 0
CONFIDENCE = 0.95

_CHUNK_VALUES = 4_000_000  # drawn at once: 32 MB


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """Where a rate lies, in percent."""

    low: float
    high: float
    confidence: float
    unit: str
    """What was resampled: `speaker` or `utterance`."""
    num_units: int
    standard_error: float
    """Standard deviation of the rate over the resamples."""


def bootstrap_interval(
    errors: Sequence[int],
    lengths: Sequence[int],
    *,
    unit: str,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = SEED,
    confidence: float = CONFIDENCE,
) -> Interval | None:
    """Percentile interval of 100 * sum(errors) / sum(lengths).

    Units are drawn with replacement, as many as there are. None where fewer than two units have
    words, and nothing can be said.

    Source:
        Bisani and Ney, Bootstrap estimates for confidence intervals in ASR performance
        evaluation, ICASSP 2004; with percentiles in place of the normal approximation.
    """
    if np.count_nonzero(lengths) < 2:
        return None
    counts = np.stack([np.asarray(errors), np.asarray(lengths)])
    rates = np.concatenate(
        [
            100 * sums[sums[:, 1] > 0, 0] / sums[sums[:, 1] > 0, 1]
            for sums in resampled_sums(counts, num_resamples=num_resamples, seed=seed)
        ]
    )
    low, high = np.quantile(rates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(
        low=float(low),
        high=float(high),
        confidence=confidence,
        unit=unit,
        num_units=counts.shape[1],
        standard_error=float(rates.std()),
    )


def resampled_sums(
    counts: NDArray[np.int64], *, num_resamples: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """Sums over units drawn with replacement, [resample, kind], in chunks of resamples.

    Equal units are drawn together, so the cost is that of the distinct ones.

    Args:
        counts: [kind, unit]
        num_resamples: in all chunks together.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    distinct, multiplicity = np.unique(counts, axis=1, return_counts=True)
    num_units = counts.shape[1]
    chunk = max(1, _CHUNK_VALUES // distinct.shape[1])
    for first in range(0, num_resamples, chunk):
        weights = generator.multinomial(
            num_units, multiplicity / num_units, size=min(chunk, num_resamples - first)
        )
        yield weights @ distinct.T


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedBootstrap:
    """Rate of A minus rate of B on the same units, in percentage points."""

    difference: float
    low: float
    high: float
    confidence: float
    p: float
    """Two-sided: how often resampling turns the sign, or leaves no difference, doubled."""
    standard_error: float
    unit: str
    num_units: int

    @property
    def detectable(self) -> float:
        """The smallest difference in points that such a test set shows in 4 of 5 cases.

        At 5 % significance, two-sided: 1.960 + 0.842 standard errors.
        """
        return _DETECTABLE_ERRORS * self.standard_error


_DETECTABLE_ERRORS = 2.802


def detectable_difference(interval: Interval) -> float:
    """As `PairedBootstrap.detectable`, between systems whose errors have nothing in common.

    Two systems mostly err at the same places, and then less can be shown: `asr compare` says.
    """
    return _DETECTABLE_ERRORS * math.sqrt(2) * interval.standard_error


def paired_bootstrap(
    errors_a: Sequence[int],
    lengths_a: Sequence[int],
    errors_b: Sequence[int],
    lengths_b: Sequence[int],
    *,
    unit: str,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = SEED,
    confidence: float = CONFIDENCE,
) -> PairedBootstrap | None:
    """Both systems on the same resampled units; None as in `bootstrap_interval`."""
    if min(np.count_nonzero(lengths_a), np.count_nonzero(lengths_b)) < 2:
        return None
    counts = np.array([errors_a, lengths_a, errors_b, lengths_b], dtype=np.int64)
    differences = np.concatenate(
        [
            _rate_difference(sums[(sums[:, 1] > 0) & (sums[:, 3] > 0)])
            for sums in resampled_sums(counts, num_resamples=num_resamples, seed=seed)
        ]
    )
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    # One more on both sides of the fraction: an observed p is never 0.
    tail = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
    return PairedBootstrap(
        difference=float(_rate_difference(counts.sum(axis=1, keepdims=True).T)[0]),
        low=float(low),
        high=float(high),
        confidence=confidence,
        p=min(1.0, 2 * (int(tail) + 1) / (len(differences) + 1)),
        standard_error=float(differences.std()),
        unit=unit,
        num_units=counts.shape[1],
    )


def _rate_difference(sums: NDArray[np.int64]) -> NDArray[np.float64]:
    return 100 * (sums[:, 0] / sums[:, 1] - sums[:, 2] / sums[:, 3])


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchedPairs:
    """NIST's matched-pairs sentence-segment word error test (MAPSSWE)."""

    num_segments: int
    mean: float
    """Errors of A minus errors of B in a segment."""
    z: float | None
    """None where the segments do not differ among themselves, or are too few."""
    p: float | None
    """Two-sided, of the normal distribution; means little below about 50 segments."""


def matched_pairs(segments: Sequence[tuple[int, int]]) -> MatchedPairs:
    """Test the errors of A and of B in segments that are independent of each other.

    Source:
        Gillick and Cox, Some statistical issues in the comparison of speech recognition
        algorithms, ICASSP 1989, section 4; the segments are those of `error_segments`.
    """
    differences = np.array([a - b for a, b in segments], dtype=np.float64)
    if len(differences) < 2:
        mean = float(differences.sum())
        return MatchedPairs(num_segments=len(differences), mean=mean, z=None, p=None)
    mean, deviation = float(differences.mean()), float(differences.std(ddof=1))
    if deviation == 0:
        p = 1.0 if mean == 0 else None
        return MatchedPairs(num_segments=len(differences), mean=mean, z=None, p=p)
    z = mean / (deviation / math.sqrt(len(differences)))
    return MatchedPairs(
        num_segments=len(differences), mean=mean, z=z, p=math.erfc(abs(z) / math.sqrt(2))
    )


def error_segments(operations_a: str, operations_b: str) -> list[tuple[int, int]]:
    """Errors of A and B in the stretches between words that both got right.

    Two such words in a row (or the utterance's end) close a stretch: an n-gram language model of
    the usual order then carries little over to the next. Stretches without errors are left out.

    Args:
        operations_a: letters C, S, D, I of one alignment.
        operations_b: of another with the same reference.
    """
    segments: list[tuple[int, int]] = []
    errors_a = errors_b = 0
    num_right = 0  # in a row
    for (right_a, wrong_a), (right_b, wrong_b) in zip(
        _errors_by_word(operations_a), _errors_by_word(operations_b), strict=True
    ):
        if (wrong_a or wrong_b) and num_right >= _BUFFER_WORDS and (errors_a or errors_b):
            segments.append((errors_a, errors_b))
            errors_a = errors_b = 0
        errors_a, errors_b = errors_a + wrong_a, errors_b + wrong_b
        if wrong_a or wrong_b:
            num_right = 0
        num_right = num_right + 1 if right_a and right_b else 0
    if errors_a or errors_b:
        segments.append((errors_a, errors_b))
    return segments


_BUFFER_WORDS = 2


def _errors_by_word(operations: str) -> list[tuple[bool, int]]:
    """Whether a reference word is right, and the errors at it and just before; last, the end."""
    words = []
    errors = 0
    for letter in operations:
        errors += letter != "C"
        if letter != "I":
            words.append((letter == "C", errors))
            errors = 0
    return [*words, (False, errors)]


@dataclass(frozen=True, kw_only=True, slots=True)
class McNemar:
    """McNemar's test on utterances that one system alone got right."""

    only_a_right: int
    only_b_right: int
    p: float
    """Two-sided, exact."""


def mcnemar(right_a: Sequence[bool], right_b: Sequence[bool]) -> McNemar:
    """Whether utterances without error are equally many, given those where the systems differ."""
    pairs = list(zip(right_a, right_b, strict=True))
    only_a = sum(1 for a, b in pairs if a and not b)
    only_b = sum(1 for a, b in pairs if b and not a)
    return McNemar(only_a_right=only_a, only_b_right=only_b, p=_sign_test(only_a, only_b))


def _sign_test(first: int, second: int) -> float:
    """Two-sided probability of counts at least as uneven, if both are equally likely."""
    num = first + second
    log_half = num * math.log(2)
    tail = sum(
        math.exp(math.lgamma(num + 1) - math.lgamma(k + 1) - math.lgamma(num - k + 1) - log_half)
        for k in range(min(first, second) + 1)
    )
    return min(1.0, 2 * tail)
