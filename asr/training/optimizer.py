"""The optimizer of training, and its learning rate."""

import math
from collections.abc import Sequence

import torch
from torch import nn


def make_optimizer(parameters: Sequence[nn.Parameter], weight_decay: float) -> torch.optim.AdamW:
    """AdamW, decay on matrices only; its learning rate is set before each step."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, fused=True)


def rate_share(step: int, num_steps: int, warmup_share: float) -> float:
    """Share of the peak learning rate: it rises, then falls to nothing as a cosine."""
    warmup = max(1, round(warmup_share * num_steps))
    if step < warmup:
        return (step + 1) / warmup
    rest = max(1, num_steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / rest)))
