"""Mean and deviation of features over utterances that are not held at once; no torch.

Dimension names: group (of utterances), three (count, sum, sum of squares), two (mean, standard
deviation), bin (values of a frame).
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MIN_VARIANCE = 1e-10


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupStatistics:
    """Means and standard deviations of groups of utterances."""

    groups: NDArray[np.int64]
    """Number of each utterance's group, [utterance]."""
    values: NDArray[np.float32]
    """[group, two, bin]."""

    def of(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """Mean and deviation of the groups that the utterances `rows` are in, [row, two, bin]."""
        return self.values[self.groups[rows]]


def statistics(moments: NDArray[np.float64]) -> NDArray[np.float32]:
    """Mean and standard deviation, [..., two, bin], of moments [..., three, bin]."""
    count, total, squares = np.moveaxis(moments, -2, 0)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, _MIN_VARIANCE))
    return np.stack([mean, deviation], axis=-2).astype(np.float32)


def group_rows(keys: Iterable[Hashable | None]) -> NDArray[np.int64]:
    """A number for each row, the same where the keys are; no key is a group of its own."""
    numbers: dict[Hashable, int] = {}
    rows = enumerate(keys)
    return np.array(
        [numbers.setdefault(row if key is None else (key,), len(numbers)) for row, key in rows],
        np.int64,
    )
