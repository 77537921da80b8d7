"""What a step of training changes: a network, the running average of its weights, an optimizer.

A step's random numbers (augmentation, dropout) are a function of the seed and the step's number.
A batch that is too large for memory is cut into pieces; a step whose gradient is not a number is
left out, and its utterances are named.

Dimension names: batch (utterances).
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import Generator, Tensor

from asr.batches import plan_batches
from asr.config import Config
from asr.corpus import PackedCorpus
from asr.errors import TrainingError
from asr.model import CtcModel, Network
from asr.progress import Report
from asr.training.batch import make_batch, write_batch
from asr.training.loss import Objective
from asr.training.optimizer import is_out_of_memory, make_optimizer, rate_share
from asr.training.processes import choose_precision
from asr.training.screen import Pace


class Learner:
    """Takes the steps of a run and adds up what an epoch's were like."""

    def __init__(
        self,
        network: Network,
        config: Config,
        *,
        corpus: PackedCorpus,
        targets: Sequence[Sequence[int]],
        budget: int,
        num_steps: int,
        folder: Path,
        fabric: Fabric,
        report: Report,
        separator: int | None = None,
    ):
        """Make a learner.

        Args:
            targets: token ids of every utterance of the corpus.
            budget: padded samples or frames in a batch.
            num_steps: of the whole run.
            folder: gets batches with bad numbers.
            separator: see `Objective`.
        """
        self.network = network
        self.config, self.settings = config, config.training
        self.corpus, self.targets = corpus, targets
        self.num_steps = num_steps
        self.folder, self.fabric, self.report = folder, fabric, report
        self.device = fabric.device
        self.dtype = choose_precision(self.settings.precision, self.device.type)
        self.average = copy.deepcopy(network).requires_grad_(False).to(self.device)
        self.objective = fabric.setup_module(Objective(network, config, self.dtype, separator))
        self.parameters: list[Tensor] = list(network.parameters())
        self.optimizer = make_optimizer(list(network.parameters()), self.settings.weight_decay)
        unit = config.features.frame_shift if corpus.kind == "features" else 1
        self._units_per_second = config.features.sample_rate / unit
        self._budget = self.piece_budget = budget  # the second is what fits into memory
        self.bad_steps = 0
        self._suspect: _Suspect | None = None
        self.sums = EpochSums(network.encoder, self.device)

    def pace(self) -> Pace:
        """How the epoch goes, without a look at the device."""
        times = self.sums.times
        seconds = max(times["seconds"], 1e-9)
        return Pace(
            learning_rate=self.optimizer.param_groups[0]["lr"],
            real_time_factor=times["audio"] * self.fabric.world_size / seconds,
            data_wait=times["wait"] / seconds,
        )

    def start_epoch(self) -> None:
        """Begin new sums."""
        self.sums = EpochSums(self.network.encoder, self.device)

    def step(self, rows: NDArray[np.int64], number: int) -> None:
        """Learn from the utterances `rows`, the batch of all processes; the run's step `number`.

        Raises:
            TrainingError: too many bad steps, or no memory for a single utterance.
        """
        num_tokens = max(1, sum(len(self.targets[row]) for row in rows))
        own = rows[self.fabric.global_rank :: self.fabric.world_size]
        counted = len(own) > 0
        if not counted:
            own = rows[:1]  # a batch of fewer utterances than processes
        losses = self._gradients(own, number, num_tokens, counted=counted)
        norms = self._layer_norms()
        norm = torch.nn.utils.clip_grad_norm_(
            self.parameters, self.settings.clip_norm, foreach=True
        )
        # The fused optimizer leaves everything as it is when this is 1: no look at the device.
        finite = torch.isfinite(norm)
        self.optimizer.found_inf = 1.0 - finite.float()  # type: ignore[attr-defined]
        rate = self.settings.learning_rate * rate_share(
            number, self.num_steps, self.settings.warmup_share
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        # The average follows more closely in the first steps.
        decay = min(self.settings.average_decay, (2 + number) / (11 + number))
        torch._foreach_lerp_(list(self.average.parameters()), self.parameters, 1 - decay)
        if counted:
            own_tokens = sum(len(self.targets[row]) for row in own)
            units = int(self.corpus.lengths[own].sum())
            self.sums.add(losses, own_tokens, units / self._units_per_second)
        self.sums.norms += norms.masked_fill(~finite, 0.0)
        self.check()
        learnt = np.concatenate(self._pieces(own))
        self._suspect = _Suspect.of(number, learnt, losses[0], finite)
        if self.device.type == "cpu":
            self.check()

    def _gradients(
        self, rows: NDArray[np.int64], number: int, num_tokens: int, *, counted: bool
    ) -> Tensor:
        """Add up the gradients of a batch, in pieces if memory has been short.

        Returns:
            CTC losses and whether each utterance was skipped, in the order of `_pieces(rows)`,
            [2, batch].
        """
        # Processes must not draw alike; 2**40 is beyond any seed and step of another.
        seed = self.settings.seed * 1_000_003 + number + (self.fabric.global_rank << 40)
        done = number / self.num_steps
        while True:
            pieces = self._pieces(rows)
            try:
                torch.manual_seed(seed)  # dropout
                generator = Generator(self.device).manual_seed(seed)
                self.optimizer.zero_grad()
                losses = [
                    self._piece_gradients(
                        piece,
                        num_tokens,
                        generator,
                        done,
                        counted=counted,
                        last=piece is pieces[-1],
                    )
                    for piece in pieces
                ]
                return torch.cat(losses, dim=1)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            self._lower_budget(pieces, number)

    def _piece_gradients(
        self,
        rows: NDArray[np.int64],
        num_tokens: int,
        generator: Generator,
        done: float,
        *,
        counted: bool,
        last: bool,
    ) -> Tensor:
        start = time.perf_counter()
        batch = make_batch(self.corpus, rows.tolist(), self.targets).to(self.device)
        self.sums.times["wait"] += time.perf_counter() - start
        with self.fabric.no_backward_sync(self.objective, enabled=not last):
            total, ctc, skipped = self.objective(batch, generator, done)
            # Processes average their gradients; a process without a share adds nothing.
            weight = self.fabric.world_size * counted / num_tokens
            self.fabric.backward(total.sum() * weight)
        return torch.stack([ctc.detach(), skipped.float()])

    def _pieces(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        if self.piece_budget >= self._budget:
            return [rows]
        return [rows[p] for p in plan_batches(self.corpus.lengths[rows], self.piece_budget)]

    def _lower_budget(self, pieces: Sequence[NDArray[np.int64]], number: int) -> None:
        lengths = self.corpus.lengths
        largest = max(pieces, key=lambda piece: len(piece) * lengths[piece].max())
        if len(largest) == 1:
            utterance = self.corpus.utterances[largest[0]]
            raise TrainingError(
                f"no memory for utterance {utterance.id} of {utterance.duration:.1f} s alone: "
                f"leave out the longest utterances, or make the network smaller"
            )
        if self.fabric.world_size > 1:
            raise TrainingError("no memory for a batch: lower training.batch_seconds")
        self.piece_budget = int(len(largest) * lengths[largest].max()) // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.report(
            f"warning: step {number}: no memory for a batch of {len(largest)} utterances; "
            f"batches are split into pieces of {self.piece_budget / self._units_per_second:.1f} s "
            f"from here on"
        )

    def _layer_norms(self) -> Tensor:
        """Gradient norm of each layer: a vanishing or exploding one shows in the log."""
        norms = []
        for layer in self.sums.layers.values():
            gradients = [p.grad for p in layer.parameters() if p.grad is not None]
            norms.append(torch.stack(torch._foreach_norm(gradients)).norm())
        return torch.stack(norms)

    def check(self) -> None:
        """Name the utterances of the last step if it was left out; stop after too many.

        On a GPU a step is looked at while the next one is on its way.

        Raises:
            TrainingError: more than `training.max_bad_steps`.
        """
        suspect, self._suspect = self._suspect, None
        if suspect is None or suspect.is_finite():
            return
        self.bad_steps += 1
        batch = make_batch(self.corpus, suspect.rows.tolist(), self.targets)
        finite = torch.isfinite(suspect.losses).tolist()
        named = [name for name, good in zip(batch.ids, finite, strict=True) if not good]
        what = "the loss is" if named else "a gradient is"
        names = ", ".join((named or batch.ids)[:5])
        process = f"-{self.fabric.global_rank}" if self.fabric.world_size > 1 else ""
        path = self.folder / "bad_batches" / f"step-{suspect.step:06d}{process}.safetensors"
        write_batch(batch, path)
        message = (
            f"step {suspect.step}: {what} not a number at {names}; the step is left out, its "
            f"batch is in {path.parent.name}/{path.name}"
        )
        if self.bad_steps > self.settings.max_bad_steps:
            raise TrainingError(
                f"{message}; that makes {self.bad_steps} such steps, over training.max_bad_steps"
            )
        self.report(f"warning: {message} ({self.bad_steps} so far)")

    def state(self) -> dict[str, Any]:
        """All that goes on changing, as tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sums": self.sums.state(),
            "bad_steps": self.bad_steps,
            "piece_budget": self.piece_budget,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        for name in ("network", "average", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.sums.restore(state["sums"])
        self.bad_steps, self.piece_budget = state["bad_steps"], state["piece_budget"]


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


class EpochSums:
    """What an epoch adds up; on the device, so that no step waits for a number."""

    def __init__(self, encoder: CtcModel, device: torch.device):
        layers = {f"layer{index + 1}": layer for index, layer in enumerate(encoder.layers)}
        self.layers = {"subsampling": encoder.subsampling, **layers, "output": encoder.output}
        self.losses = torch.zeros(3, device=device)  # in nats, tokens, skipped
        self.norms = torch.zeros(len(self.layers), device=device)
        self.times = {"audio": 0.0, "seconds": 0.0, "wait": 0.0}

    def add(self, losses: Float[Tensor, "two batch"], num_tokens: int, audio: float) -> None:
        """A step's losses and skipped utterances, tokens, and seconds of audio."""
        loss, skipped = losses.nan_to_num(0.0, 0.0, 0.0).sum(dim=1)
        self.losses += torch.stack([loss, torch.full_like(loss, num_tokens), skipped])
        self.times["audio"] += audio

    def row(self, num_steps: int, fabric: Fabric) -> dict[str, float]:
        """Columns of the history, of all processes together."""
        losses = torch.as_tensor(fabric.all_reduce(self.losses, reduce_op="sum"))
        loss, num_tokens, skipped = losses.tolist()
        seconds = max(self.times["seconds"], 1e-9)
        audio = self.times["audio"] * fabric.world_size
        norms = (self.norms / num_steps).tolist()
        return {
            "loss": loss / max(1.0, num_tokens),
            "skipped": int(skipped),
            "seconds": seconds,
            "real_time_factor": audio / seconds,
            "data_wait": self.times["wait"] / seconds,
            **{f"gradient_{k}": v for k, v in zip(self.layers, norms, strict=True)},
        }

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"losses": self.losses, "norms": self.norms, "times": self.times}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.losses.copy_(state["losses"])
        self.norms.copy_(state["norms"])
        self.times = dict(state["times"])
