"""What an epoch has besides the training set: of the old domain, or of further speech.

What a model was trained on before is mixed into what it learns now, so that less is forgotten; what
a machine has labelled is mixed into what people have.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.config import MoreSpeechConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """Which of other utterances each epoch has; a function of the seed and its number.

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


def count_more(
    num_rows: int, sizes: Sequence[int], settings: Sequence[MoreSpeechConfig]
) -> list[int]:
    """How many utterances of each further set an epoch has.

    Args:
        num_rows: utterances of the training set, of which an epoch has all.
        sizes: of the further sets.
    """
    weighted = [
        0.0 if more.share else more.weight * size
        for size, more in zip(sizes, settings, strict=True)
    ]
    total = (num_rows + sum(weighted)) / (1 - sum(more.share or 0.0 for more in settings))
    return [
        max(1, round(more.share * total if more.share else count))
        for count, more in zip(weighted, settings, strict=True)
    ]
