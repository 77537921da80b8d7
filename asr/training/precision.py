"""The number format of a training's matrix products, and whether it is the faster one."""

import time
from typing import cast

import torch
from torch import nn

from asr.model import CtcModel

_CUDNN_WITH_BFLOAT16_CELLS = 91300
_STEPS, _ROWS, _ROUNDS = 20, 16, 4


def choose_precision(precision: str, device: str) -> torch.dtype:
    """The number format of matrix products.

    `auto` is bfloat16 on a GPU that has it, if cuDNN is 9.13 or newer: older ones have no such
    recurrent layers. On a CPU it is float32; see docs/experiments.md.
    """
    if precision != "auto":
        return torch.float32 if precision == "float32" else torch.bfloat16
    if device != "cuda":
        return torch.float32
    version = torch.backends.cudnn.version() or 0  # type: ignore[no-untyped-call]
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native and version >= _CUDNN_WITH_BFLOAT16_CELLS else torch.float32


def bfloat16_speed(network: CtcModel) -> float:
    """How fast a recurrent layer of the network learns in bfloat16, as a multiple of float32.

    Measured, on the processor that the network is on: processors say that they have bfloat16, and
    not whether they are fast with it. Takes a few tenths of a second, and changes nothing.
    """
    layer = network.layers[-1]
    cell = cast(nn.RNNBase, layer.forward_cell)
    values = torch.linspace(-1, 1, cell.input_size).expand(_STEPS, _ROWS, -1)
    order = torch.arange(_STEPS * _ROWS)  # of both directions the same, which costs the same
    seconds = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    for _ in range(_ROUNDS):  # in turns, and the best: the machine may have other work
        for dtype in seconds:
            start = time.process_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                output = layer(values, order)
            # Of a sum the layer's norm would leave no gradient, but numbers too small to be fast.
            gradient = (
                torch.linspace(0, 1000, output.numel()).sin_().view_as(output).to(output.dtype)
            )
            torch.autograd.grad(output, list(layer.parameters()), gradient)
            seconds[dtype] = min(seconds[dtype], time.process_time() - start)
    return seconds[torch.float32] / seconds[torch.bfloat16]
