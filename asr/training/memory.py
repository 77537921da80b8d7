"""How a batch that is too large for memory is cut into pieces, smaller each time it is short."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from asr.batches import plan_batches
from asr.errors import TrainingError
from asr.training.batch import Examples
from asr.training.processes import Place

Rows = NDArray[np.int64]
_T = TypeVar("_T")


class Pieces:
    """Cuts batches so that each piece fits into memory; what was too large once is not tried again.

    The largest piece, in padded samples or frames, is `budget`.
    """

    def __init__(self, examples: Examples, place: Place):
        self.examples, self.place = examples, place
        self.budget = examples.budget

    def cut(self, rows: Rows) -> list[Rows]:
        """The batch `rows` in pieces; as it is, as long as memory has not been short."""
        if self.budget >= self.examples.budget:
            return [rows]
        lengths = self.examples.corpus.lengths[rows]
        return [rows[part] for part in plan_batches(lengths, self.budget)]

    def work(self, rows: Rows, step: int, attempt: Callable[[list[Rows]], _T]) -> _T:
        """What `attempt` makes of the pieces of a batch; it begins anew with smaller ones.

        Args:
            step: number of the step, for the warning.

        Raises:
            TrainingError: a piece of one utterance is too large, or other processes wait.
        """
        while True:
            pieces = self.cut(rows)
            try:
                return attempt(pieces)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            self._lower(pieces, step)

    def _lower(self, pieces: Sequence[Rows], step: int) -> None:
        corpus = self.examples.corpus
        largest = max(pieces, key=lambda piece: len(piece) * corpus.lengths[piece].max())
        if len(largest) == 1:
            utterance = corpus.utterances[largest[0]]
            raise TrainingError(
                f"no memory for utterance {utterance.id} of {utterance.duration:.1f} s alone: "
                f"leave out the longest utterances, or make the network smaller"
            )
        if self.place.fabric.world_size > 1:
            raise TrainingError("no memory for a batch: lower training.batch_seconds")
        self.budget = int(len(largest) * corpus.lengths[largest].max()) // 2
        if self.place.fabric.device.type == "cuda":
            torch.cuda.empty_cache()
        self.place.warn(
            f"step {step}: no memory for a batch of {len(largest)} utterances; batches "
            f"are split into pieces of {self.budget / self.examples.units_per_second:.1f} s from "
            f"here on"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the processor's allocator, had no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
