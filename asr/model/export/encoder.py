"""The encoder as ONNX operators: `CtcModel.forward` without what only training does.

Dimension names: batch (utterances), frame (of features), bin, step, unit, token.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from asr.model.encoder import CtcModel
from asr.model.export.graph import END, Graph, States

Array = NDArray[np.float32]

# ONNX has the gates of an LSTM as input, output, forget, cell; torch as input, forget, cell,
# output. Of a GRU: update, reset, new; torch: reset, update, new.
_GATES = {"rnn": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
_OPERATORS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}


def add_encoder(
    graph: Graph,
    encoder: CtcModel,
    features: str,
    num_frames: str,
    states: States | None = None,
) -> tuple[str, str]:
    """Log-probabilities [batch, step, token] and the steps of each row, as names of values.

    A backward layer reads each row from its own end, so that padding changes nothing.

    Args:
        features: [batch, frame, bin], 0 beyond a row's own frames.
        num_frames: of each row, [batch], at least 1.
        states: for utterances in pieces, one at a time, as `CtcModel.forward_chunk`; to which the
            encoder's are added.
    """
    hidden, lengths = features, num_frames
    for index, layer in enumerate(encoder.subsampling):
        if index:
            inside = graph.within(lengths, graph.size(hidden, 1))
            hidden = graph.masked(hidden, graph.add("Unsqueeze", inside, graph.integers(2)))
        hidden = _add_convolution(graph, layer, hidden, states, f"window_{index}")
        stride = int(layer.stride)  # type: ignore[arg-type]
        rounded = graph.add("Add", lengths, graph.constant(stride - 1, np.int64))
        lengths = graph.add("Div", rounded, graph.constant(stride, np.int64))
    hidden = graph.add("Transpose", hidden, perm=[1, 0, 2])
    int32 = 6
    row_ends = graph.add("Cast", lengths, to=int32) if encoder.config.bidirectional else ""
    for index, layer in enumerate(encoder.layers):
        hidden = _add_recurrent(graph, layer, encoder.config.cell, hidden, row_ends, states, index)
    product = graph.add("MatMul", hidden, graph.constant(_array(encoder.output.weight).T))
    scores = graph.add("Add", product, graph.constant(_array(encoder.output.bias)))
    log_probs = graph.add("LogSoftmax", scores, axis=-1)
    return graph.add("Transpose", log_probs, perm=[1, 0, 2]), lengths


def _add_convolution(
    graph: Graph, layer: nn.Module, hidden: str, states: States | None, name: str
) -> str:
    """One subsampling layer, [batch, frame, unit] to [batch, step, unit]."""
    convolution, stride = layer.convolution, int(layer.stride)  # type: ignore[arg-type]
    assert isinstance(convolution, nn.Conv1d)
    # A step sees its frames and those before; the last one's may be missing.
    earlier = convolution.kernel_size[0] - stride
    if states is not None:
        before = states.before(name, 1, earlier, convolution.in_channels)
        hidden = graph.add("Concat", before, hidden, axis=1)
        states.after(name, graph.slice(hidden, -earlier, END, axis=1))
        earlier = 0
    convolved = graph.add(
        "Conv",
        graph.add("Transpose", hidden, perm=[0, 2, 1]),
        graph.constant(_array(convolution.weight)),
        graph.constant(_array(convolution.bias)),
        pads=[earlier, stride - 1],
        strides=[stride],
    )
    normed = _add_norm(graph, layer.norm, graph.add("Transpose", convolved, perm=[0, 2, 1]))
    # GELU is an operator of its own from opset 20 on; runtimes join these five.
    error = graph.add("Erf", graph.add("Div", normed, graph.constant(np.sqrt(2))))
    both = graph.add("Mul", normed, graph.add("Add", error, graph.constant(1)))
    return graph.add("Mul", both, graph.constant(0.5))


def _add_recurrent(
    graph: Graph,
    layer: nn.Module,
    kind: str,
    hidden: str,
    lengths: str,
    states: States | None,
    index: int,
) -> str:
    """One recurrent layer, [step, batch, unit]."""
    cells = [layer.forward_cell] + ([layer.backward_cell] if layer.backward_cell else [])
    weights = [_cell_weights(cell, kind) for cell in cells]  # type: ignore[arg-type]
    size = weights[0][1].shape[1]
    attributes = {"linear_before_reset": 1} if kind == "gru" else {}  # as torch has it
    names = []
    if states is not None:
        names = [f"hidden_{index}"] + ([f"cell_{index}"] if kind == "lstm" else [])
    output, *after = graph.add_several(
        1 + len(names),
        _OPERATORS[kind],
        hidden,
        *(graph.constant(np.stack(arrays)) for arrays in zip(*weights, strict=True)),
        lengths,
        *(states.before(name, 1, 1, size) for name in names if states is not None),
        hidden_size=size,
        direction="bidirectional" if len(cells) == 2 else "forward",
        **attributes,
    )
    for name, value in zip(names, after, strict=True):
        assert states is not None
        states.after(name, value)
    by_row = graph.add("Transpose", output, perm=[0, 2, 1, 3])
    joined = graph.add("Reshape", by_row, graph.integers(0, 0, len(cells) * size))
    return _add_norm(graph, layer.norm, joined)


def _cell_weights(cell: nn.RNNBase, kind: str) -> list[Array]:
    """Of the input and the hidden state, [gate * unit, unit], and both biases after one another."""
    ordered = []
    for weight in cell.all_weights[0]:
        gates = np.split(_array(weight), len(_GATES[kind]))
        ordered.append(np.concatenate([gates[gate] for gate in _GATES[kind]]))
    of_input, of_hidden, input_bias, hidden_bias = ordered
    return [of_input, of_hidden, np.concatenate([input_bias, hidden_bias])]


def _add_norm(graph: Graph, norm: object, hidden: str) -> str:
    assert isinstance(norm, nn.LayerNorm)
    scale, offset = graph.constant(_array(norm.weight)), graph.constant(_array(norm.bias))
    return graph.add("LayerNormalization", hidden, scale, offset, axis=-1, epsilon=norm.eps)


def _array(tensor: torch.Tensor | None) -> Array:
    assert tensor is not None
    values: Array = tensor.detach().cpu().float().numpy()
    return values
