"""How sure an error rate is: intervals and tests on counts.

Everything works on whole-number counts of units (speakers or utterances), so that resampling
never touches a text.
"""

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
