"""What a model was trained on before, mixed into what it learns now, so that less is forgotten."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """Which utterances of the old domain each epoch has; a function of the seed and its number.

    They come in a random order, all of them before one comes again.
    """

    rows: NDArray[np.int64]
    """All that there are to draw from."""
    count: int
    """Utterances an epoch."""
    seed: int

    @classmethod
    def of(cls, rows: NDArray[np.int64], num_new: int, share: float, seed: int) -> "Replay":
        """So many that they are a share of an epoch with `num_new` others; at least one."""
        return cls(rows=rows, count=max(1, round(num_new * share / (1 - share))), seed=seed)

    def draw(self, epoch: int) -> NDArray[np.int64]:
        """Those of an epoch, in ascending order; more than there are come more than once."""
        size = len(self.rows)
        start = epoch * self.count
        rounds = range(start // size, (start + self.count - 1) // size + 1)
        order = np.concatenate(
            [np.random.default_rng((self.seed, number)).permutation(size) for number in rounds]
        )
        first = start - rounds[0] * size
        return np.sort(self.rows[order[first : first + self.count]])
