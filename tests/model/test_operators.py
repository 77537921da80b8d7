from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from asr.config import Config
from asr.errors import ModelError
from asr.model.onnx import MODEL, OnnxNetwork
from asr.model.operators import check_operators

FLOATS, INTEGERS = TensorProto.FLOAT, TensorProto.INT64


def graph(*nodes: onnx.NodeProto, outputs: int = 2) -> onnx.GraphProto:
    given = [
        helper.make_tensor_value_info("values", FLOATS, ["batch", "sample"]),
        helper.make_tensor_value_info("lengths", INTEGERS, ["batch"]),
    ]
    gives = [
        helper.make_tensor_value_info("scores", FLOATS, ["batch", "step", 3]),
        helper.make_tensor_value_info("steps", INTEGERS, ["batch"]),
    ]
    return helper.make_graph(list(nodes), "g", given, gives[:outputs])


def model_of(made: onnx.GraphProto, **more: object) -> onnx.ModelProto:
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], **more)


def loop() -> onnx.ModelProto:
    """Runs for ever."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("i", INTEGERS, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, [])],
    )
    return model_of(graph(helper.make_node("Loop", ["", "true"], [], body=body)))


def branch_in_a_known_operator() -> onnx.ModelProto:
    return model_of(graph(helper.make_node("Add", ["a", "b"], ["c"], body=graph())))


def other_domain() -> onnx.ModelProto:
    return model_of(graph(helper.make_node("Add", ["a", "b"], ["c"], domain="com.evil")))


def function() -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", 17)]
    made = helper.make_function("own", "Twice", ["x"], ["y"], [], opsets)
    return model_of(graph(), functions=[made])


def outside() -> onnx.ModelProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "weights")
    onnx.external_data_helper.set_external_data(tensor, "/etc/passwd")
    tensor.ClearField("raw_data")
    made = graph()
    made.initializer.append(tensor)
    return model_of(made)


def endless_padding() -> onnx.ModelProto:
    made = graph(helper.make_node("Pad", ["values", "pads"], ["more"]))
    pads = np.array([0, 2**29, 0, 0], np.int64)
    made.initializer.append(numpy_helper.from_array(pads, "pads"))
    return model_of(made)


def endless_padding_in_text() -> onnx.ModelProto:
    made = graph(helper.make_node("Pad", ["values", "pads"], ["more"]))
    made.initializer.append(helper.make_tensor("pads", INTEGERS, [4], [0, 2**29, 0, 0]))
    return model_of(made)


def endless_attribute() -> onnx.ModelProto:
    return model_of(graph(helper.make_node("Conv", ["a", "b"], ["c"], pads=[0, 2**40])))


def nothing() -> onnx.ModelProto:
    return onnx.ModelProto()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (loop, "operator 'Loop' is not run"),
        (branch_in_a_known_operator, "a graph within a graph"),
        (other_domain, "operator 'Add' is not run"),
        (function, "functions in a graph"),
        (outside, "tensors in other files"),
        (endless_padding, "asks for 536870912 values; at most 16,777,216 are"),
        (endless_padding_in_text, "asks for 536870912 values"),
        (endless_attribute, "asks for 1099511627776 values"),
        (nothing, "not an ONNX model"),
    ],
)
def test_a_graph_that_does_more_than_compute_is_refused(
    make: Callable[[], onnx.ModelProto], says: str, tmp_path: Path
) -> None:
    content = make().SerializeToString()
    with pytest.raises(ModelError, match=says):
        check_operators(content)
    (tmp_path / MODEL).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{MODEL}: {says}"):
        OnnxNetwork(tmp_path, Config(), 3)


def whole() -> onnx.ModelProto:
    nodes = (
        helper.make_node("Unsqueeze", ["values", "axis"], ["one"]),
        helper.make_node("Concat", ["one", "one", "one"], ["scores"], axis=2),
        helper.make_node("Identity", ["lengths"], ["steps"]),
    )
    made = graph(*nodes)
    made.initializer.append(numpy_helper.from_array(np.array([2], np.int64), "axis"))
    return model_of(made, ir_version=8)


def test_a_graph_of_known_operators_runs(tmp_path: Path) -> None:
    (tmp_path / MODEL).write_bytes(whole().SerializeToString())
    (scores,) = OnnxNetwork(tmp_path, Config(), 3, 1).log_probs([np.ones(5, np.float32)])
    assert scores.shape == (5, 3)


def test_a_graph_with_one_output_is_refused(tmp_path: Path) -> None:
    made = whole()
    del made.graph.output[1]
    (tmp_path / MODEL).write_bytes(made.SerializeToString())
    with pytest.raises(ModelError, match="takes or gives other values"):
        OnnxNetwork(tmp_path, Config(), 3)


def test_a_graph_that_fails_as_it_runs_is_an_error(tmp_path: Path) -> None:
    made = whole()
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([9], np.int64), "axis"))
    made.graph.output[0].type.tensor_type.ClearField("shape")
    (tmp_path / MODEL).write_bytes(made.SerializeToString())
    with pytest.raises(ModelError):
        OnnxNetwork(tmp_path, Config(), 3, 1).log_probs([np.ones(5, np.float32)])


def test_every_cut_of_a_graph_is_refused_or_read() -> None:
    content = whole().SerializeToString()
    refused = 0
    for end in range(len(content)):
        try:
            check_operators(content[:end])
        except ModelError:
            refused += 1
    assert refused > len(content) / 2
