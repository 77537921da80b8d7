"""The optimizer of training, and its learning rate."""

import math
from collections.abc import Sequence

import torch
from torch import nn

_UPPER_GROUPS = 2  # matrices and the others; those with a rate of their own follow


def make_optimizer(
    parameters: Sequence[nn.Parameter], weight_decay: float, lower: Sequence[nn.Parameter] = ()
) -> torch.optim.AdamW:
    """AdamW, decay on matrices only; its learning rates are set before each step.

    Args:
        lower: those that have a rate of their own.
    """
    groups = [
        {"params": matrices_or_others, "weight_decay": decay}
        for part in (parameters, lower)
        if part
        for matrices_or_others, decay in (
            ([p for p in part if p.ndim > 1], weight_decay),
            ([p for p in part if p.ndim <= 1], 0.0),
        )
    ]
    return torch.optim.AdamW(groups, fused=True)


def set_rates(optimizer: torch.optim.AdamW, rate: float, lower_rate: float) -> None:
    """Set the learning rate of the parameters, and that of those that have one of their own."""
    for place, group in enumerate(optimizer.param_groups):
        group["lr"] = rate if place < _UPPER_GROUPS else lower_rate


def rate_share(step: int, num_steps: int, warmup_share: float) -> float:
    """Share of the peak learning rate: it rises, then falls to nothing as a cosine."""
    warmup = max(1, round(warmup_share * num_steps))
    if step < warmup:
        return (step + 1) / warmup
    rest = max(1, num_steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / rest)))
