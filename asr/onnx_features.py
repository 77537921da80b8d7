"""Features as ONNX operators: what `Frontend` computes of waveforms.

Dimension names: batch (utterances), sample, block (samples that a frame takes or leaves together),
frame, tap (samples in a frame), frequency, filter, bin.
"""

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from asr.features import DELTA_WINDOW, FLOOR, FULL_SCALE, MIN_STD, PREEMPHASIS, Frontend
from asr.onnx_graph import Graph


def add_base(graph: Graph, frontend: Frontend, waveforms: str, num_samples: str) -> tuple[str, str]:
    """`Frontend.base`: [batch, frame, base bin] and the frames of each row, as names of values.

    The noise floor is in cepstra, but not in energies: `add_noise` adds it to these.

    Args:
        waveforms: [batch, sample], in [-1, 1]; at least as long as a frame.
        num_samples: of each row, [batch].
    """
    config = frontend.config
    own = graph.within(num_samples, graph.size(waveforms, 1))
    signal = graph.add("Mul", graph.masked(waveforms, own), graph.constant(FULL_SCALE))
    kaldi = config.convention == "kaldi"
    # Zeros complete the last frame, and stand before the first sample.
    signal = graph.add("Pad", signal, graph.integers(0, not kaldi, 0, config.frame_length))
    if not kaldi:
        signal = _emphasized(graph, signal, 1)
    width = _add_num_frames(graph, frontend, graph.size(waveforms, 1))
    taps = _add_frames(graph, frontend, signal, width)
    window = _array(frontend.window)
    if kaldi:
        taps = graph.add("Sub", taps, graph.add("ReduceMean", taps, axes=[2]))
        # The window's first value is 0, so that the first tap, which has none before it, is not
        # needed.
        taps, window = _emphasized(graph, taps, 2), window[1:]
    taps = graph.add("Mul", taps, graph.constant(window))
    energies = _add_energies(graph, frontend, taps, len(window))
    floor = graph.constant(FLOOR[config.convention])
    base = graph.add("Log", graph.add("Max", energies, floor))
    if config.kind == "mfcc":
        base = add_noise(graph, frontend, base)
        base = graph.add("MatMul", base, graph.constant(_array(frontend.dct)))
    num_frames = _add_num_frames(graph, frontend, num_samples)
    return base, num_frames


def add_finish(graph: Graph, frontend: Frontend, base: str, num_frames: str) -> str:
    """`Frontend.finish`: deltas and normalization, 0 beyond a row's own frames."""
    config = frontend.config
    width = graph.size(base, 1)
    inside = graph.add("Unsqueeze", graph.within(num_frames, width), graph.integers(2))
    orders = [base]
    for _ in range(config.deltas):
        orders.append(_add_deltas(graph, orders[-1], num_frames, width, config.num_base_bins))
    features = graph.add("Concat", *orders, axis=2) if config.deltas else base
    if config.normalization == "global":
        centred = graph.add("Sub", features, graph.constant(_array(frontend.mean)))
        features = graph.add("Div", centred, graph.constant(_array(frontend.std)))
    elif config.normalization != "none":  # "speaker" without statistics of one
        features = _add_standardized(graph, features, num_frames, inside)
    return graph.masked(features, inside)


def add_noise(graph: Graph, frontend: Frontend, base: str) -> str:
    """`Frontend.with_noise` of log energies."""
    if frontend.config.noise_floor_db is None:
        return base
    noise = graph.constant(_array(frontend.noise))
    return graph.add("Log", graph.add("Add", graph.add("Exp", base), noise))


def _add_num_frames(graph: Graph, frontend: Frontend, num_samples: str) -> str:
    """`Frontend.num_frames`, of integers in any shape."""
    config = frontend.config
    length, shift = config.frame_length, config.frame_shift
    spare = graph.add("Sub", num_samples, graph.constant(length, np.int64))
    if config.convention != "kaldi":
        # A frame is there as soon as it has a sample of its own; the first one always.
        spare = graph.add("Add", spare, graph.constant(shift - 1, np.int64))
    spare = graph.add("Max", spare, graph.constant(0, np.int64))
    whole = graph.add("Div", spare, graph.constant(shift, np.int64))
    return graph.add("Add", whole, graph.constant(1, np.int64))


def _add_frames(graph: Graph, frontend: Frontend, signal: str, width: str) -> str:
    """Overlapping frames [batch, frame, tap] of a signal that is as long as they need.

    They are put together of blocks, the largest that all frames are made of and begin at: to copy
    a block takes hardly longer than to copy a sample.
    """
    length, shift = frontend.config.frame_length, frontend.config.frame_shift
    block = math.gcd(length, shift)
    last = graph.add("Sub", width, graph.integers(1))
    end = graph.add("Add", graph.add("Mul", last, graph.integers(shift)), graph.integers(length))
    needed = graph.slice(signal, 0, end, axis=1)
    blocks = graph.add("Reshape", needed, graph.integers(0, -1, block))
    first = graph.add("Mul", graph.count(width), graph.constant(shift // block, np.int64))
    inner = graph.constant(np.arange(length // block), np.int64)
    places = graph.add("Add", graph.add("Unsqueeze", first, graph.integers(1)), inner)
    gathered = graph.add("Gather", blocks, places, axis=1)
    return graph.add("Reshape", gathered, graph.integers(0, 0, length))


def _emphasized(graph: Graph, values: str, axis: int) -> str:
    """Each value less a share of the one before it; one value fewer."""
    later = graph.slice(values, 1, np.iinfo(np.int64).max, axis)
    earlier = graph.slice(values, 0, -1, axis)
    return graph.add("Sub", later, graph.add("Mul", earlier, graph.constant(PREEMPHASIS)))


def _add_energies(graph: Graph, frontend: Frontend, taps: str, length: int) -> str:
    """Energies of the filters, [batch, frame, filter], by matrix products.

    A delay changes no energy. With time 0 in the middle of the frame, the real part of the
    transform depends only on the sum of taps equally far from it, the imaginary part on their
    difference, and each product is half as large. Frequencies of no filter are left out.
    """
    filters = _array(frontend.filters)
    used = np.flatnonzero(filters.any(axis=1))
    half = (length + 1) // 2
    if length % 2:
        taps = graph.add("Pad", taps, graph.integers(0, 0, 0, 0, 0, 1))
    early = graph.slice(taps, 0, half, axis=2)
    late = graph.slice(taps, -1, half - 1, axis=2, step=-1)
    angles = np.outer(half - 0.5 - np.arange(half), used) * (2 * np.pi / frontend.num_fft)
    power = []
    for combine, matrix in (("Add", np.cos(angles)), ("Sub", np.sin(angles))):
        part = graph.add("MatMul", graph.add(combine, early, late), graph.constant(matrix))
        power.append(graph.add("Mul", part, part))
    return graph.add("MatMul", graph.add("Add", *power), graph.constant(filters[used]))


def _add_deltas(graph: Graph, features: str, num_frames: str, width: str, num_bins: int) -> str:
    """Slope over five frames; beyond its ends a row goes on with its first and last frame."""
    position = graph.count(width)
    last = graph.column(graph.add("Sub", num_frames, graph.constant(1, np.int64)))
    zero = graph.constant(0, np.int64)
    total = ""
    for step in range(1, DELTA_WINDOW + 1):
        around = []
        for offset in (step, -step):
            place = graph.add("Add", position, graph.constant(offset, np.int64))
            place = graph.add("Max", graph.add("Min", place, last), zero)
            index = graph.add("Unsqueeze", place, graph.integers(2))
            index = graph.add("Expand", index, graph.integers(1, 1, num_bins))
            around.append(graph.add("GatherElements", features, index, axis=1))
        slope = graph.add("Mul", graph.add("Sub", *around), graph.constant(step))
        total = graph.add("Add", total, slope) if total else slope
    norm = 2 * sum(step**2 for step in range(1, DELTA_WINDOW + 1))
    return graph.add("Div", total, graph.constant(norm))


def _add_standardized(graph: Graph, features: str, num_frames: str, inside: str) -> str:
    """Zero mean and unit variance over each row's own frames."""
    count = graph.add("Cast", num_frames, to=1)  # 1: float
    count = graph.add("Unsqueeze", count, graph.integers(1, 2))

    def average(values: str) -> str:
        total = graph.add("ReduceSum", values, graph.integers(1))
        return graph.add("Div", total, count)

    mean = average(graph.masked(features, inside))
    centred = graph.masked(graph.add("Sub", features, mean), inside)
    variance = average(graph.add("Mul", centred, centred))
    std = graph.add("Max", graph.add("Sqrt", variance), graph.constant(MIN_STD))
    return graph.add("Div", centred, std)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = tensor.detach().cpu().float().numpy()
    return values
