"""What training minimizes: CTC, and what may be added to it.

Dimension names: batch (utterances), view (of the same utterances), frame, bin, step, token.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

from asr.config import Config
from asr.decoding import required_steps
from asr.model import Network, ctc_loss
from asr.training.augment import join_pairs
from asr.training.batch import Batch, send
from asr.training.inputs import Augmentation, draw_joined, input_features
from asr.training.rooms import Rooms


class Objective(nn.Module):
    """A network and the loss of its outputs; one module, so that processes can share its work."""

    def __init__(
        self,
        network: Network,
        config: Config,
        dtype: torch.dtype = torch.float32,
        separator: int | None = None,
        rooms: Rooms | None = None,
    ):
        """Make it.

        Args:
            dtype: of the matrix products.
            separator: token between the transcripts of utterances that are joined; see
                `TokenTable.separator_id`.
            rooms: recorded noise and rooms, if any.
        """
        super().__init__()
        self.network = network
        self.config = config
        self.dtype = dtype
        self.separator = separator
        self.rooms = rooms

    def forward(
        self, batch: Batch, generator: Generator, done: float
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """What is minimized, in it the CTC loss of the last layer, and what CTC cannot learn.

        Both losses are in nats an utterance. The third is true where the transcript does not fit
        into the steps, which can happen when an utterance is played faster.

        Args:
            batch: with inputs on the network's device.
            generator: of the augmentation; dropout takes torch's own.
            done: share of the training that is over.
        """
        settings = self.config.training
        views = 2 if settings.consistency else 1
        joined = draw_joined(self.config.augment, generator)
        augmentation = Augmentation(
            config=self.config.augment,
            generator=generator,
            joined=joined,
            views=views,
            done=done,
            rooms=self.rooms,
        )
        with torch.no_grad():
            features, num_frames = input_features(self.network.frontend, batch, augmentation)
        targets, num_tokens = batch.targets, batch.num_tokens
        if joined:
            targets, num_tokens = join_targets(targets, num_tokens, self.separator)
        targets, num_tokens = targets.repeat(views, 1), num_tokens.repeat(views)
        encoder, device = self.network.encoder, features.device
        num_steps = encoder.num_steps(num_frames)  # like all lengths here, on the host
        skipped = send(num_steps < required_steps(targets, num_tokens), device)
        targets, frames_there = send(targets, device), send(num_frames, device)
        reduced = self.dtype != torch.float32
        with torch.autocast(features.device.type, self.dtype, enabled=reduced):
            if settings.intermediate:
                log_probs, middle, _ = encoder.forward_with_middle(features, frames_there)
            else:
                log_probs, _ = encoder(features, frames_there)
        ctc = ctc_loss(log_probs, num_steps, targets, num_tokens)
        total = ctc
        if settings.intermediate:
            inner = ctc_loss(middle, num_steps, targets, num_tokens)
            total = torch.lerp(total, inner, settings.intermediate)
        if settings.consistency:
            divergence = view_divergence(log_probs, send(num_steps, device))
            total = total.view(2, -1).mean(dim=0) + settings.consistency * divergence
            ctc, skipped = ctc.view(2, -1).mean(dim=0), skipped.chunk(2)[0]
        if joined:
            total, ctc = (share_pairs(losses, len(batch.ids)) for losses in (total, ctc))
            skipped = skipped.repeat_interleave(2)[: len(batch.ids)]
        return total, ctc, skipped


def join_targets(
    targets: Int[Tensor, "batch token"], num_tokens: Int[Tensor, " batch"], separator: int | None
) -> tuple[Int[Tensor, "pair both"], Int[Tensor, " pair"]]:
    """The transcripts of utterances that `join_pairs` joins, with a separator between them."""
    if separator is not None:
        targets = nn.functional.pad(targets, (0, 1))
        place = torch.arange(targets.shape[1], device=targets.device)
        row = torch.arange(len(targets), device=targets.device)
        has_next = (row % 2 == 0) & (row + 1 < len(targets))
        followed = has_next & (num_tokens > 0) & (num_tokens.roll(-1) > 0)
        ends = followed[:, None] & (place == num_tokens[:, None])
        targets = targets.masked_fill(ends, separator)
        num_tokens = num_tokens + followed
    return join_pairs(targets, num_tokens)


def share_pairs(losses: Float[Tensor, " pair"], batch: int) -> Float[Tensor, " batch"]:
    """The loss of each pair, half of it for either utterance; of an odd number the last alone."""
    halves = (losses / 2).repeat_interleave(2)[:batch]
    if batch % 2:
        halves = torch.cat([halves[:-1], losses[-1:]])
    return halves


def view_divergence(
    log_probs: Float[Tensor, "view_batch step token"], num_steps: Int[Tensor, " view_batch"]
) -> Float[Tensor, " batch"]:
    """How far two views of each utterance are from one another, summed over its steps, in nats.

    The mean of both Kullback-Leibler divergences, each view being pulled towards the other.

    Source:
        Yao et al. 2024, "CR-CTC: Consistency regularization on CTC for improved speech
        recognition", equations 3 and 4.
    """
    first, second = log_probs.chunk(2)
    steps = num_steps[: len(first)]
    there = _divergence(first, second.detach())
    back = _divergence(second, first.detach())
    return _sum_steps(0.5 * (there + back), steps)


def _divergence(log_probs: Tensor, target: Tensor) -> Float[Tensor, "batch step"]:
    return (target.exp() * (target - log_probs)).sum(dim=2)


def _sum_steps(values: Float[Tensor, "batch step"], num_steps: Tensor) -> Float[Tensor, " batch"]:
    position = torch.arange(values.shape[1], device=values.device)
    return values.masked_fill(position >= num_steps[:, None], 0.0).sum(dim=1)
