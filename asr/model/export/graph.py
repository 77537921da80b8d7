"""Building an ONNX graph node by node; values are known by their names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

_OPSET = 17  # the first with LayerNormalization
_IR_VERSION = 8  # which goes with it; readers refuse a newer one than they know


Shape = tuple[str | int, ...]
"""Axes by name, or by length where it is fixed."""
END = np.iinfo(np.int64).max
"""Of a slice that goes to the end."""


@dataclass(frozen=True, slots=True)
class States:
    """What a graph that hears an utterance in pieces is given of those before, and passes on."""

    shapes: dict[str, Shape] = field(default_factory=dict)
    """Of each input; before the first piece it is 0, and an axis that has a name is empty."""
    values: dict[str, str] = field(default_factory=dict)
    """What each is after this piece."""

    def before(self, name: str, *shape: str | int) -> str:
        """A new state as the pieces before have left it."""
        self.shapes[name] = shape
        return name

    def after(self, name: str, value: str) -> None:
        """What it is for the next piece."""
        self.values[name] = value


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph under construction."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The output of a new node, which is also its name; an input "" is left out."""
        (output,) = self.add_several(1, kind, *inputs, **attributes)
        return output

    def add_several(self, count: int, kind: str, *inputs: str, **attributes: Any) -> list[str]:
        """So many outputs of a new node, the first of which is also its name."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        outputs = [name] + [f"{name}_{index}" for index in range(1, count)]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, name, **attributes))
        return outputs

    def constant(self, values: ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        """A tensor of the file; equal ones are stored once."""
        array = np.ascontiguousarray(np.asarray(values, dtype))
        tensor = numpy_helper.from_array(array)
        for name, stored in self.constants.items():
            if stored == tensor:
                return name
        name = f"constant_{len(self.constants)}"
        self.constants[name] = tensor
        return name

    def integers(self, *values: int) -> str:
        """A row of integers, as axes and shapes are given."""
        return self.constant(values, np.int64)

    def slice(self, values: str, start: str | int, end: str | int, axis: int, step: int = 1) -> str:
        """A stretch of one axis."""
        bounds = [at if isinstance(at, str) else self.integers(at) for at in (start, end)]
        return self.add("Slice", values, *bounds, self.integers(axis), self.integers(step))

    def size(self, values: str, axis: int) -> str:
        """The length of an axis, [1]."""
        return self.add("Gather", self.add("Shape", values), self.integers(axis))

    def count(self, size: str) -> str:
        """The integers from 0 to before `size`, which is [1]."""
        zero, one = self.constant(0, np.int64), self.constant(1, np.int64)
        return self.add("Range", zero, self.add("Squeeze", size), one)

    def within(self, lengths: str, width: str) -> str:
        """Which of `width` positions each row really has, [batch, width]."""
        return self.add("Less", self.count(width), self.column(lengths))

    def masked(self, values: str, inside: str, dtype: type[np.generic] = np.float32) -> str:
        """Values where `inside` says so, 0 elsewhere."""
        return self.add("Where", inside, values, self.constant(0, dtype))

    def column(self, row: str) -> str:
        """A row [batch] as [batch, 1]."""
        return self.add("Unsqueeze", row, self.integers(1))

    def model(
        self,
        inputs: Mapping[str, Shape],
        outputs: Mapping[str, tuple[str, Shape]],
        metadata: Mapping[str, str],
    ) -> onnx.ModelProto:
        """The whole, checked.

        Args:
            inputs: shape of each; one of one axis is int64, others are float32.
            outputs: of each the value that it is, and its shape; types as those of inputs.
        """
        for name, (value, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value], [name], name))
        for name, tensor in self.constants.items():
            tensor.name = name
        graph = helper.make_graph(
            self.nodes,
            "asr",
            [_described(name, shape) for name, shape in inputs.items()],
            [_described(name, shape) for name, (_, shape) in outputs.items()],
            list(self.constants.values()),
        )
        opset = helper.make_opsetid("", _OPSET)
        model = helper.make_model(
            graph, opset_imports=[opset], ir_version=_IR_VERSION, producer_name="asr"
        )
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model, full_check=True)
        return model


def _described(name: str, shape: Shape) -> onnx.ValueInfoProto:
    kind = TensorProto.INT64 if len(shape) == 1 else TensorProto.FLOAT
    return helper.make_tensor_value_info(name, kind, list(shape))
