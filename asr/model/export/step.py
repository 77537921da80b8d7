"""A network with one direction as a graph that hears an utterance in pieces.

Dimension names: sample, frame, base bin, step, token.
"""

import numpy as np
import onnx

from asr.model.arrival import lookahead
from asr.model.export.encoder import add_encoder
from asr.model.export.features import add_base, add_finish, add_noise_floor
from asr.model.export.graph import END, Graph, States
from asr.model.features import context
from asr.model.network import Network


def step_graph(network: Network, num_tokens: int) -> tuple[onnx.ModelProto, list[str]]:
    """Samples [1, sample] that follow others, in; the steps that they complete, out.

    What `NetworkStream` computes of portions that end with a frame, and, but for the last of them
    (`last` is 1), with a step. Each begins with the last frame of the one before, of which the
    state `frames` tells that there was one.

    Returns:
        The graph, and the names of the nodes that compute features.
    """
    frontend = network.frontend
    config = frontend.config
    graph, states = Graph(), States()
    base, _ = add_base(graph, frontend, "waveforms", graph.size("waveforms", 1))
    base = add_noise_floor(graph, frontend, base) if config.kind == "fbank" else base
    before = states.before("frames", 1, "frame", config.num_base_bins)
    num_before = graph.size(before, 1)
    has_begun = graph.add("Min", num_before, graph.integers(1))
    frames = graph.add("Concat", before, graph.slice(base, has_begun, END, axis=1), axis=1)
    num_frames = graph.size(frames, 1)
    features = add_finish(graph, frontend, frames, num_frames)
    is_open = graph.add("Sub", graph.integers(1), "last")
    ahead = graph.integers(lookahead(config))
    ready = graph.add("Sub", num_frames, graph.add("Mul", is_open, ahead))
    zero = graph.integers(0)
    given = graph.add("Max", graph.add("Sub", num_before, ahead), zero)
    # One at least, by which the next piece knows that it is not the first.
    num_kept = graph.integers(max(1, context(config)))
    kept = graph.add("Max", graph.add("Sub", ready, num_kept), zero)
    states.after("frames", graph.slice(frames, kept, END, axis=1))
    fresh = graph.add("Sub", ready, given)
    of_features = [node.name for node in graph.nodes]
    padded = _add_padding(
        graph,
        graph.slice(features, given, ready, axis=1),
        fresh,
        network.encoder.config.subsampling,
    )
    log_probs, num_steps = add_encoder(graph, network.encoder, padded, fresh, states)
    outputs = {
        "log_probs": (log_probs, (1, "step", num_tokens)),
        "num_steps": (num_steps, (1,)),
        **{f"next_{name}": (value, states.shapes[name]) for name, value in states.values.items()},
    }
    inputs = {"waveforms": (1, "sample"), "last": (1,), **states.shapes}
    return graph.model(inputs, outputs, {}), of_features


def _add_padding(graph: Graph, features: str, num_frames: str, subsampling: int) -> str:
    """Frames of 0 until they make whole steps, one at least: no layer takes none."""
    stride = graph.constant(subsampling, np.int64)
    rounded = graph.add("Add", num_frames, graph.constant(subsampling - 1, np.int64))
    steps = graph.add("Max", graph.add("Div", rounded, stride), graph.integers(1))
    missing = graph.add("Sub", graph.add("Mul", steps, stride), num_frames)
    pads = graph.add("Concat", graph.integers(0, 0, 0, 0), missing, graph.integers(0), axis=0)
    return graph.add("Pad", features, pads)
