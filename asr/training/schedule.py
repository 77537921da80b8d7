"""Which utterances each step of a run learns from: the batches of all epochs, planned once."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.config import TrainingConfig
from asr.training.batch import Examples
from asr.training.replay import Replay

_BYTES = 4  # an utterance and epoch


class Schedule:
    """The batches of every epoch; a function of the seed and the epoch's number.

    All of them are planned at the start, since the learning rate follows the number of steps. They
    lie in a file without a name in the scratch folder: for many utterances they outgrow the rest.
    """

    def __init__(
        self,
        examples: Examples,
        rows: NDArray[np.int64],
        settings: TrainingConfig,
        scratch: Path,
        draws: Sequence[Replay] = (),
        *,
        rank: int = 0,
        world_size: int = 1,
    ):
        """Plan.

        Args:
            rows: utterances that are learnt from in every epoch, in ascending order.
            settings: of which seed and number of epochs count.
            scratch: folder for the file.
            draws: of others, behind them in the corpus, those that an epoch has besides.
            rank: number of this process; it takes a share of each batch, see `share`.
            world_size: how many there are.
        """
        self._rank, self._world_size = rank, world_size
        self._corpus, self._seed = examples.corpus, settings.seed
        self._ends: list[NDArray[np.int64]] = []
        size = len(rows) + sum(draw.count for draw in draws)
        self._rows = np.empty((0, size), np.uint32)
        with tempfile.TemporaryFile(dir=scratch) as file:
            for epoch in range(settings.epochs):
                chosen = np.concatenate([rows, *(draw.draw(epoch) for draw in draws)])
                # Shortest first in epoch 0.
                plan = examples.corpus.plan(
                    examples.budget, rows=chosen, seed=self._seed_of(epoch), shuffle=epoch > 0
                )
                self._ends.append(np.cumsum([len(batch) for batch in plan]))
                file.write(np.concatenate(plan).astype(np.uint32).tobytes())
            file.flush()
            if settings.epochs:  # an empty file cannot be mapped
                self._rows = np.memmap(file, np.uint32, "r", shape=(settings.epochs, size))
        self._first_steps = np.cumsum([0, *map(len, self._ends)])

    @staticmethod
    def num_bytes(num_rows: int, epochs: int) -> int:
        """Room on the disk that it takes."""
        return _BYTES * num_rows * epochs

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return int(self._first_steps[-1])

    def num_batches(self, epoch: int) -> int:
        """Of an epoch."""
        return len(self._ends[epoch])

    def step(self, epoch: int, batch: int) -> int:
        """Number in the run of the step that learns from the epoch's batch `batch`."""
        return int(self._first_steps[epoch]) + batch

    def batches(self, epoch: int, first: int = 0) -> list[NDArray[np.int64]]:
        """The epoch's batches from `first` on; shards are read ahead for this process's share."""
        seeds = {self._seed_of(n): n for n in range(epoch, min(epoch + 2, len(self._ends)))}
        wanted: dict[int | None, NDArray[np.bool_] | None] | None = None
        if self._world_size > 1:
            wanted = {seed: self._wanted(number) for seed, number in seeds.items()}
        self._corpus.follow([*seeds], wanted)
        return self._batches(epoch)[first:]

    def _batches(self, epoch: int) -> list[NDArray[np.int64]]:
        rows = self._rows[epoch].astype(np.int64)
        return np.split(rows, self._ends[epoch][:-1])

    def _wanted(self, epoch: int) -> NDArray[np.bool_]:
        """Which utterances this process takes from the epoch's batches."""
        wanted = np.zeros(len(self._corpus), bool)
        for batch in self._batches(epoch):
            wanted[share(batch, self._rank, self._world_size)[0]] = True
        return wanted

    def _seed_of(self, epoch: int) -> int:
        """Of the order of an epoch's batches."""
        return self._seed * 1_000_003 + epoch


def share(batch: NDArray[np.int64], rank: int, world_size: int) -> tuple[NDArray[np.int64], bool]:
    """The utterances of a batch that a process works on, and whether they count.

    All processes take every step: one that gets none, as a batch has fewer utterances than there
    are processes, works on the first for nothing.
    """
    part = batch[rank::world_size]
    return (part, True) if len(part) else (batch[:1], False)
