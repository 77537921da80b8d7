"""What a safetensors file says it holds, known before any of it is read; no torch.

A network is made in the sizes that its settings state, and those may be anyone's: a few bytes could
ask for all of the memory. So the shapes are compared first, and a file is as large as its tensors.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors

from asr.errors import ModelError
from asr.files import check_regular


class MisfitError(ModelError):
    """A file whose tensors are not those that are expected."""


def check_shapes(path: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """See that a file has tensors of these names and shapes; others do no harm.

    Raises:
        MisfitError: one is missing or of another shape.
        OSError: it cannot be read.
        SafetensorError: it is damaged.
    """
    with safetensors.safe_open(check_regular(path), "numpy") as file:
        names = set(file.keys())
        for name, shape in shapes.items():
            if name not in names:
                raise MisfitError(f"Missing key(s) in state_dict: {name}")
            stored = tuple(file.get_slice(name).get_shape())
            if stored != tuple(shape):
                raise MisfitError(f"size mismatch for {name}: {stored}, and not {tuple(shape)}")
