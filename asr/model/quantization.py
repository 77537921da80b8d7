"""Weights stored as 8 bit integers with a scale for each row: a quarter of the size.

A tensor `NAME` of int8 stands beside `NAME.scale`, a float32 for each of its rows: the row is the
integers times the scale. Only matrices are stored so; what is one row, as a bias, stays float32.
Training and the network at work see float32.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from asr.errors import ModelError

_SCALE = ".scale"
_LARGEST = 127


def quantize(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they are stored; each is off by at most half of its row's scale."""
    stored: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.ndim < 2:
            stored[name] = weight
            continue
        scale = weight.abs().flatten(1).amax(1) / _LARGEST
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))  # a row of zeros
        stored[name] = (weight / _by_row(scale, weight)).round().to(torch.int8)
        stored[name + _SCALE] = scale
    return stored


def dequantize(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in float32 from what is stored; what is float32 already stays as it is.

    Raises:
        ModelError: other numbers, or a scale that is missing, of another shape, or no positive
            number.
    """
    integers = {name for name, tensor in stored.items() if tensor.dtype == torch.int8}
    scales = {name + _SCALE for name in integers}
    weights: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name in scales:
            continue
        if name in integers:
            weights[name] = tensor.float() * _by_row(_scale_of(name, stored), tensor)
        elif tensor.dtype == torch.float32:
            weights[name] = tensor
        else:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ModelError(f"{name}: numbers are {kind}; float32, or int8 with scales, is read")
    return weights


def _scale_of(name: str, stored: Mapping[str, Tensor]) -> Tensor:
    scale = stored.get(name + _SCALE)
    if scale is None:
        raise ModelError(f"{name}: int8 without {name}{_SCALE}")
    if scale.dtype != torch.float32 or scale.shape != stored[name].shape[:1]:
        raise ModelError(f"{name}{_SCALE}: a float32 for each row of {name} is expected")
    if not bool(((scale > 0) & scale.isfinite()).all()):
        raise ModelError(f"{name}{_SCALE}: a scale is no positive number")
    return scale


def _by_row(scale: Tensor, weight: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (weight.ndim - 1))
