"""What an epoch adds up, step by step; on the device, so that no step waits for a number.

Dimension names: batch (utterances).
"""

from typing import Any

import torch
from jaxtyping import Float
from lightning.fabric import Fabric
from torch import Tensor

from asr.model import CtcModel
from asr.training.history import Pace


class EpochSums:
    """Losses, gradient norms and times of the steps that one process has taken in an epoch."""

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

    def layer_norms(self) -> Tensor:
        """Gradient norm of each layer: a vanishing or exploding one shows in the log."""
        norms = []
        for layer in self.layers.values():
            gradients = [p.grad for p in layer.parameters() if p.grad is not None]
            norms.append(
                torch.stack(torch._foreach_norm(gradients)).norm()
                if gradients
                else torch.zeros((), device=self.norms.device)  # of a layer that is not trained
            )
        return torch.stack(norms)

    def pace(self, learning_rate: float, num_processes: int) -> Pace:
        """How the epoch goes, without a look at the device."""
        seconds = max(self.times["seconds"], 1e-9)
        return Pace(
            learning_rate=learning_rate,
            real_time_factor=self.times["audio"] * num_processes / seconds,
            data_wait=self.times["wait"] / seconds,
        )

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
