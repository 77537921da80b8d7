"""Steps whose gradient is not a number: they are left out, named, kept as a file, and counted."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.errors import TrainingError
from asr.training.batch import Examples, write_batch
from asr.training.processes import Place


class BadSteps:
    """Looks at steps after they were taken: on a GPU while the next one is on its way."""

    def __init__(self, examples: Examples, place: Place, most: int):
        """Begin to count.

        Args:
            most: bad steps that are put up with, `training.max_bad_steps`.
        """
        self.examples, self.place, self.most = examples, place, most
        self.count = 0
        self._suspect: _Suspect | None = None

    def note(self, step: int, rows: NDArray[np.int64], losses: Tensor, finite: Tensor) -> None:
        """Take in a step, and look at the one before.

        Args:
            losses: of each utterance of `rows`, [batch].
            finite: whether the gradient is; on the device.

        Raises:
            TrainingError: see `check`.
        """
        self.check()
        self._suspect = _Suspect.of(step, rows, losses, finite)
        if not finite.is_cuda:
            self.check()

    def check(self) -> None:
        """Name the utterances of the last step if it was left out; stop after too many.

        Raises:
            TrainingError: more than `most`.
        """
        suspect, self._suspect = self._suspect, None
        if suspect is None or suspect.is_finite():
            return
        self.count += 1
        message = self._describe(suspect)
        if self.count > self.most:
            raise TrainingError(
                f"{message}; that makes {self.count} such steps, over training.max_bad_steps"
            )
        self.place.tell(f"warning: {message} ({self.count} so far)")

    def _describe(self, suspect: "_Suspect") -> str:
        """Say whose fault the step was, and store its batch."""
        batch = self.examples.batch(suspect.rows)
        finite = torch.isfinite(suspect.losses).tolist()
        named = [name for name, good in zip(batch.ids, finite, strict=True) if not good]
        what = "the loss is" if named else "a gradient is"
        names = ", ".join((named or batch.ids)[:5])
        fabric = self.place.fabric
        process = f"-{fabric.global_rank}" if fabric.world_size > 1 else ""
        name = f"step-{suspect.step:06d}{process}.safetensors"
        path = self.place.folder / "bad_batches" / name
        write_batch(batch, path)
        return (
            f"step {suspect.step}: {what} not a number at {names}; the step is left out, its "
            f"batch is in {path.parent.name}/{path.name}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Suspect:
    """A step whose gradient has not been looked at yet."""

    step: int
    rows: NDArray[np.int64]
    losses: Tensor
    """Of each utterance of `rows`, [batch]."""
    finite: Tensor
    """Whether the gradient is, in the host's memory once `arrived`."""
    arrived: torch.cuda.Event | None

    @classmethod
    def of(cls, step: int, rows: NDArray[np.int64], losses: Tensor, finite: Tensor) -> "_Suspect":
        """A step whose last numbers are still being computed."""
        host = finite.to("cpu", non_blocking=True)
        arrived = torch.cuda.current_stream().record_event() if finite.is_cuda else None
        return cls(step=step, rows=rows, losses=losses, finite=host, arrived=arrived)

    def is_finite(self) -> bool:
        """Whether the step was taken; waits for it, but for none that came after."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return bool(self.finite)
