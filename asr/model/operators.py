"""What an exported graph may consist of, seen in its bytes before anything runs it; no torch.

A model folder may be anyone's, and ONNX can loop for ever, call functions that call each other, and
name other files. What `asr export` writes has none of that: some operators, and numbers.

Source:
    onnx.proto (the numbers of the fields) and Protocol Buffers' encoding.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from asr.errors import ModelError

OPERATORS = frozenset(
    (
        *("Add", "Cast", "Concat", "Conv", "CumSum", "Div", "DynamicQuantizeLSTM"),
        *("DynamicQuantizeLinear", "Erf", "Exp", "Expand", "GRU", "Gather", "GatherElements"),
        *("Identity", "LSTM", "LayerNormalization", "Less", "Log", "LogSoftmax", "MatMul"),
        *("MatMulInteger", "Max", "Min", "Mul", "Pad", "RNN", "Range", "ReduceMean", "ReduceSum"),
        *("Reshape", "Shape", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze"),
        "Where",
    )
)
"""What `asr export` writes, with and without 8 bit numbers."""

_DOMAINS = (b"", b"ai.onnx", b"com.microsoft")

_GRAPH, _TRAINING, _FUNCTIONS = 7, 20, 25  # of a model
_NODE, _INITIALIZER, _SPARSE = 1, 5, 15  # of a graph
_KIND, _ATTRIBUTE, _DOMAIN = 4, 5, 7  # of a node
_TENSOR, _SUBGRAPH, _TENSORS, _SUBGRAPHS = 5, 6, 10, 11  # of an attribute
_INTEGER, _INTEGERS = 3, 8  # of an attribute
_TYPE, _NUMBERS, _RAW = 2, 7, 9  # of a tensor
_EXTERNAL, _LOCATION = 13, 14  # of a tensor
_INT64 = 7  # a tensor's type
_MOST = 2**24  # of a number that may be a size: a shape, a padding
_END = 2**63 - 1  # where a slice goes to the end
_SPARSE_TENSORS = (22, 23)


def check_operators(content: bytes) -> None:
    """See that a graph is one that ends, and that is all in its file.

    Raises:
        ModelError: not a graph, an operator that `asr export` does not write, or a graph within it,
            a function, or tensors in other files.
    """
    graphs = []
    for number, value in _fields(memoryview(content)):
        if number in (_TRAINING, _FUNCTIONS):
            raise ModelError("functions in a graph are not run")
        if number == _GRAPH:
            graphs.append(value)
    if len(graphs) != 1:
        raise ModelError("not an ONNX model")
    for number, value in _fields(graphs[0]):
        if number == _NODE:
            _check_node(value)
        elif number == _INITIALIZER:
            _check_tensor(value)
        elif number == _SPARSE:
            raise ModelError("sparse tensors are not read")


def _check_node(node: memoryview) -> None:
    kind, domain, attributes = b"", b"", []
    for number, value in _fields(node):
        if number == _KIND:
            kind = bytes(value)
        elif number == _DOMAIN:
            domain = bytes(value)
        elif number == _ATTRIBUTE:
            attributes.append(value)
    name = kind.decode("utf-8", "backslashreplace")
    if name not in OPERATORS or domain not in _DOMAINS:
        raise ModelError(f"operator {name!r} is not run: `asr export` writes none")
    for attribute in attributes:
        _check_attribute(attribute)


def _check_attribute(attribute: memoryview) -> None:
    for number, value in _fields(attribute):
        if number in (_SUBGRAPH, _SUBGRAPHS, *_SPARSE_TENSORS):
            raise ModelError("a graph within a graph is not run")
        if number in (_TENSOR, _TENSORS):
            _check_tensor(value)
        if number in (_INTEGER, _INTEGERS):
            _check_sizes(_varints(value))


def _check_tensor(tensor: memoryview) -> None:
    kind, content = 0, memoryview(b"")
    for number, value in _fields(tensor):
        if number == _EXTERNAL or (number == _LOCATION and bytes(value) != b"\0"):
            raise ModelError("tensors in other files are not read")
        if number == _TYPE:
            kind, _ = _varint(value, 0)
        elif number == _NUMBERS:
            _check_sizes(_varints(value))
        elif number == _RAW:
            content = value
    if kind == _INT64:
        _check_sizes(np.frombuffer(content[: len(content) // 8 * 8], "<i8").tolist())


def _check_sizes(numbers: Iterable[int]) -> None:
    for number in numbers:
        # A negative one counts from the end.
        if abs(number) > _MOST and number not in (_END, -_END, -_END - 1):
            raise ModelError(f"asks for {number} values; at most {_MOST:,} are")


def _varints(packed: memoryview) -> Iterator[int]:
    """Numbers one after another, signed."""
    place = 0
    while place < len(packed):
        value, place = _varint(packed, place)
        value &= 2**64 - 1
        yield value - 2**64 if value >= 2**63 else value


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of each field of a message; of numbers the bytes are not taken out."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        end = place
        if kind == 0:
            _, end = _varint(message, place)
        elif kind == 2:
            size, place = _varint(message, place)
            end = place + size
        elif kind in (1, 5):
            end = place + (8 if kind == 1 else 4)
        else:
            raise ModelError("not an ONNX model")
        if end > len(message):
            raise ModelError("truncated")
        yield number, message[place:end]
        place = end


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first; and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise ModelError("truncated")
        value |= (message[place] & 127) << shift
        place += 1
        if not message[place - 1] & 128:
            return value, place
    raise ModelError("not an ONNX model")
