"""What a step of training changes: a network, the running average of its weights, an optimizer.

A step's random numbers (augmentation, dropout) are a function of the seed and the step's number.

Dimension names: batch (utterances).
"""

import copy
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from asr.config import Config
from asr.model import Network
from asr.training.bad_steps import BadSteps
from asr.training.batch import Examples
from asr.training.history import Pace
from asr.training.loss import Objective
from asr.training.memory import Pieces
from asr.training.optimizer import make_optimizer, rate_share, set_rates
from asr.training.precision import choose_precision
from asr.training.processes import Place
from asr.training.rooms import Rooms
from asr.training.schedule import share
from asr.training.sums import EpochSums


class Learner:
    """Takes the steps of a run and adds up what an epoch's were like."""

    def __init__(
        self,
        network: Network,
        config: Config,
        examples: Examples,
        place: Place,
        *,
        num_steps: int,
        separator: int | None = None,
        rooms: Rooms | None = None,
    ):
        """Make a learner.

        Args:
            num_steps: of the whole run.
            separator: see `Objective`.
            rooms: see `Objective`.
        """
        self.network, self.config, self.settings = network, config, config.training
        self.examples, self.num_steps = examples, num_steps
        self.fabric = fabric = place.fabric
        self.dtype = choose_precision(self.settings.precision, fabric.device.type)
        self.average = copy.deepcopy(network).requires_grad_(False).to(fabric.device)
        objective = Objective(network, config, self.dtype, separator, rooms)
        self.objective = fabric.setup_module(objective)
        self.parameters: list[Tensor] = list(network.parameters())
        self.lower = _lower_parameters(network) if self.settings.init.model is not None else []
        self.num_frozen = self._count_frozen_steps()
        upper = network.encoder.output if self.lower else network
        self.optimizer = make_optimizer(
            list(upper.parameters()), self.settings.weight_decay, self.lower
        )
        self.pieces = Pieces(examples, place)
        self.bad_steps = BadSteps(examples, place, self.settings.max_bad_steps)
        self.sums = EpochSums(network.encoder, fabric.device)

    @property
    def learning_rate(self) -> float:
        """Of the last step."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    def pace(self) -> Pace:
        """How the epoch goes, without a look at the device."""
        return self.sums.pace(self.learning_rate, self.fabric.world_size)

    def start_epoch(self) -> None:
        """Begin new sums."""
        self.sums = EpochSums(self.network.encoder, self.fabric.device)

    def step(self, rows: NDArray[np.int64], number: int) -> None:
        """Learn from the utterances `rows`, the batch of all processes; the run's step `number`.

        Raises:
            TrainingError: too many bad steps, or no memory for a single utterance.
        """
        self._freeze(number < self.num_frozen)
        num_tokens = max(1, self.examples.num_tokens(rows))
        own, counted = share(rows, self.fabric.global_rank, self.fabric.world_size)
        # Processes average their gradients; a process without a share adds nothing.
        weight = self.fabric.world_size * counted / num_tokens
        losses = self._gradients(own, number, weight)
        norms = self.sums.layer_norms()
        finite = self._update(number)
        if counted:
            self.sums.add(losses, self.examples.num_tokens(own), self.examples.seconds(own))
        self.sums.norms += norms.masked_fill(~finite, 0.0)
        self.bad_steps.note(number, np.concatenate(self.pieces.cut(own)), losses[0], finite)

    def _count_frozen_steps(self) -> int:
        """Steps from the first on in which the output layer alone is trained."""
        init = self.settings.init
        if not self.lower:
            return 0
        return round(init.freeze_share * self.num_steps) if init.lower_rate else self.num_steps

    def _freeze(self, is_frozen: bool) -> None:
        """Have no gradients computed of what is not trained.

        Of several processes' they are, since these agree once on what they exchange; `_update`
        leaves them out.
        """
        if self.fabric.world_size == 1:
            for parameter in self.lower:
                parameter.requires_grad_(not is_frozen)

    def _gradients(self, rows: NDArray[np.int64], number: int, weight: float) -> Tensor:
        """Add up the gradients of a batch.

        Args:
            weight: of the sum of the losses.

        Returns:
            CTC losses and whether each utterance was skipped, in the order of the pieces,
            [2, batch].
        """
        # Processes must not draw alike; 2**40 is beyond any seed and step of another.
        seed = self.settings.seed * 1_000_003 + number + (self.fabric.global_rank << 40)
        done = number / self.num_steps

        def attempt(pieces: list[NDArray[np.int64]]) -> Tensor:
            torch.manual_seed(seed)  # dropout
            generator = Generator(self.fabric.device).manual_seed(seed)
            self.optimizer.zero_grad()
            losses = [
                self._piece_gradients(piece, weight, generator, done, last=piece is pieces[-1])
                for piece in pieces
            ]
            return torch.cat(losses, dim=1)

        return self.pieces.work(rows, number, attempt)

    def _piece_gradients(
        self,
        rows: NDArray[np.int64],
        weight: float,
        generator: Generator,
        done: float,
        *,
        last: bool,
    ) -> Tensor:
        start = time.perf_counter()
        batch = self.examples.batch(rows).to(self.fabric.device)
        self.sums.times["wait"] += time.perf_counter() - start
        with self.fabric.no_backward_sync(self.objective, enabled=not last):
            total, ctc, skipped = self.objective(batch, generator, done)
            self.fabric.backward(total.sum() * weight)
        return torch.stack([ctc.detach(), skipped.float()])

    def _update(self, number: int) -> Tensor:
        """Change the weights and their average; say whether the gradient is finite."""
        if number < self.num_frozen:
            for parameter in self.lower:
                parameter.grad = None
        norm = torch.nn.utils.clip_grad_norm_(
            self.parameters, self.settings.clip_norm, foreach=True
        )
        # The fused optimizer leaves everything as it is when this is 1: no look at the device.
        finite = torch.isfinite(norm)
        self.optimizer.found_inf = 1.0 - finite.float()  # type: ignore[attr-defined]
        share = rate_share(number, self.num_steps, self.settings.warmup_share)
        rate = self.settings.learning_rate * share
        set_rates(self.optimizer, rate, self.settings.init.lower_rate * rate)
        self.optimizer.step()
        # The average follows more closely in the first steps.
        decay = min(self.settings.average_decay, (2 + number) / (11 + number))
        with torch.no_grad():  # or it would remember all steps, to lead a gradient back to them
            torch._foreach_lerp_(list(self.average.parameters()), self.parameters, 1 - decay)
        return finite

    def state(self) -> dict[str, Any]:
        """All that goes on changing, as tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sums": self.sums.state(),
            "bad_steps": self.bad_steps.count,
            "piece_budget": self.pieces.budget,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sums.restore(state["sums"])
        self.bad_steps.count = state["bad_steps"]
        self.pieces.budget = state["piece_budget"]


def _lower_parameters(network: Network) -> list[torch.nn.Parameter]:
    """All that are trained but the output layer's."""
    output = {id(parameter) for parameter in network.encoder.output.parameters()}
    return [parameter for parameter in network.parameters() if id(parameter) not in output]
