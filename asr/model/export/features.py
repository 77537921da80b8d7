"""Features as ONNX operators: what `Frontend` computes of waveforms.

Dimension names: batch (utterances), sample, block (samples that a frame takes or leaves together),
frame, tap (samples in a frame), frequency, filter, bin.
"""

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from asr.config import FeatureConfig
from asr.model.export.graph import END, Graph
from asr.model.features import (
    BY_TRAINING_SET,
    DELTA_WINDOW,
    FLOOR,
    FULL_SCALE,
    MIN_STD,
    PREEMPHASIS,
    Frontend,
    Surroundings,
)

_FLOAT, _DOUBLE = 1, 11  # ONNX's numbers of types


def add_base(graph: Graph, frontend: Frontend, waveforms: str, num_samples: str) -> tuple[str, str]:
    """`Frontend.base`: [batch, frame, base bin] and the frames of each row, as names of values.

    The noise floor is in cepstra, but not in energies: `add_noise_floor` adds it to these.

    Args:
        waveforms: [batch, sample], in [-1, 1]; at least as long as a frame.
        num_samples: of each row, [batch].
    """
    config = frontend.config
    if config.convention != "kaldi":
        # Zeros complete the last frame. Kaldi's are whole, so that none sees what follows its row.
        inside = graph.within(num_samples, graph.size(waveforms, 1))
        waveforms = graph.masked(waveforms, inside)
    width = _add_num_frames(graph, frontend, graph.size(waveforms, 1))
    energies = _add_energies(graph, frontend, waveforms, width)
    floor = graph.constant(FLOOR[config.convention])
    base = graph.add("Log", graph.add("Max", energies, floor))
    if config.kind == "mfcc":
        base = add_noise_floor(graph, frontend, base)
        base = graph.add("MatMul", base, graph.constant(_array(frontend.dct)))
    num_frames = _add_num_frames(graph, frontend, num_samples)
    return base, num_frames


def add_finish(graph: Graph, frontend: Frontend, base: str, num_frames: str) -> str:
    """`Frontend.finish`: deltas and normalization, 0 beyond a row's own frames.

    In float64, as torch does it here: see `TorchNetwork.log_probs`.
    """
    config = frontend.config
    width = graph.size(base, 1)
    inside = graph.add("Unsqueeze", graph.within(num_frames, width), graph.integers(2))
    orders = [graph.add("Cast", base, to=_DOUBLE)]
    for _ in range(config.deltas):
        orders.append(_add_deltas(graph, orders[-1], num_frames, width, config.num_base_bins))
    features = graph.add("Concat", *orders, axis=2) if config.deltas else orders[0]
    if config.normalization in BY_TRAINING_SET:
        mean, std = (graph.constant(_array(v), np.float64) for v in (frontend.mean, frontend.std))
        features = graph.add("Div", graph.add("Sub", features, mean), std)
        if (around := Surroundings.of(config)) is not None:
            features = _add_standardized_by(graph, features, num_frames, config, around)
    elif config.normalization != "none":  # "speaker" without statistics of one
        features = _add_standardized(graph, features, num_frames, inside)
    return graph.masked(graph.add("Cast", features, to=_FLOAT), inside)


def add_noise_floor(graph: Graph, frontend: Frontend, base: str) -> str:
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


def _add_energies(graph: Graph, frontend: Frontend, waveforms: str, width: str) -> str:
    """Energies of the filters, [batch, frame, filter], by matrix products.

    A delay changes no energy. With time 0 in the middle of the frame, the real part of the
    transform depends only on the sum of taps equally far from it, the imaginary part on their
    difference, and each product is half as large. The window, which is the same from both ends,
    is part of the matrices. Frequencies of no filter are left out.
    """
    length, filters = frontend.config.frame_length, _array(frontend.filters)
    used = np.flatnonzero(filters.any(axis=1))
    half = (length + 1) // 2
    window = FULL_SCALE * _array(frontend.window)[:half].astype(np.float64)
    if length % 2:
        window[-1] /= 2  # the tap in the middle is in both halves
    early, late, twice_mean = _add_halves(graph, frontend, waveforms, width)
    angles = np.outer((length - 1) / 2 - np.arange(half), used) * (2 * np.pi / frontend.num_fft)
    both = graph.add("Add", early, late)
    if twice_mean:
        both = graph.add("Sub", both, twice_mean)
    power = []
    difference = graph.add("Sub", early, late)
    for taps, waves in ((both, np.cos(angles)), (difference, np.sin(angles))):
        part = graph.add("MatMul", taps, graph.constant(window[:, None] * waves))
        power.append(graph.add("Mul", part, part))
    return graph.add("MatMul", graph.add("Add", *power), graph.constant(filters[used]))


def _add_halves(
    graph: Graph, frontend: Frontend, waveforms: str, width: str
) -> tuple[str, str, str]:
    """Pre-emphasized frames, [batch, frame, tap]: first half, second half from its end.

    The third is twice what the frame's mean leaves in every tap, [batch, frame, 1], if the
    convention subtracts it. The first tap lacks the one before it where the convention does; its
    window is 0 then.

    Frames are put together of blocks, the largest that all are made of and begin at: to copy a
    block takes hardly longer than to copy a sample.
    """
    length, shift = frontend.config.frame_length, frontend.config.frame_shift
    half = (length + 1) // 2
    block = math.gcd(half, shift, length)
    last = graph.add("Mul", graph.add("Sub", width, graph.integers(1)), graph.integers(shift))
    needed = graph.add("Add", last, graph.integers(length))
    padded = graph.add("Pad", waveforms, graph.integers(0, 1, 0, length))
    signal = graph.slice(padded, 0, graph.add("Add", needed, graph.integers(1)), axis=1)
    later = graph.slice(signal, 1, END, axis=1)
    earlier = graph.slice(signal, 0, -1, axis=1)
    emphasized = graph.add("Sub", later, graph.add("Mul", earlier, graph.constant(PREEMPHASIS)))
    backwards = graph.slice(emphasized, -1, np.iinfo(np.int64).min, axis=1, step=-1)
    begin = graph.add("Mul", graph.count(width), graph.constant(shift // block, np.int64))
    # Backwards, the first frame begins last.
    final = graph.add("Div", last, graph.integers(block))
    early = _add_blocks(graph, emphasized, begin, block, half)
    late = _add_blocks(graph, backwards, graph.add("Sub", final, begin), block, half)
    if frontend.config.convention != "kaldi":
        return early, late, ""
    rows = graph.add("Reshape", later, graph.integers(0, -1, block))
    means = graph.add("ReduceMean", rows, axes=[2], keepdims=0)
    of_frames = _add_blocks(graph, means, begin, 1, length // block)
    mean = graph.add("ReduceMean", of_frames, axes=[2])
    return early, late, graph.add("Mul", mean, graph.constant(2 * (1 - PREEMPHASIS)))


def _add_blocks(graph: Graph, values: str, begin: str, block: int, length: int) -> str:
    """From each block in `begin` on, `length` values, [batch, frame, value]."""
    rows = graph.add("Reshape", values, graph.integers(0, -1, block))
    inner = graph.constant(np.arange(length // block), np.int64)
    places = graph.add("Add", graph.add("Unsqueeze", begin, graph.integers(1)), inner)
    gathered = graph.add("Gather", rows, places, axis=1)
    return graph.add("Reshape", gathered, graph.integers(0, 0, length))


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
        slope = graph.add("Mul", graph.add("Sub", *around), graph.constant(step, np.float64))
        total = graph.add("Add", total, slope) if total else slope
    norm = 2 * sum(step**2 for step in range(1, DELTA_WINDOW + 1))
    return graph.add("Div", total, graph.constant(norm, np.float64))


def _add_standardized(graph: Graph, features: str, num_frames: str, inside: str) -> str:
    """Zero mean and unit variance over each row's own frames."""
    count = graph.add("Cast", num_frames, to=_DOUBLE)
    count = graph.add("Unsqueeze", count, graph.integers(1, 2))

    def average(values: str) -> str:
        total = graph.add("ReduceSum", values, graph.integers(1))
        return graph.add("Div", total, count)

    mean = average(graph.masked(features, inside, np.float64))
    centred = graph.masked(graph.add("Sub", features, mean), inside, np.float64)
    variance = average(graph.add("Mul", centred, centred))
    std = graph.add("Max", graph.add("Sqrt", variance), graph.constant(MIN_STD, np.float64))
    return graph.add("Div", centred, std)


def _add_standardized_by(
    graph: Graph, features: str, num_frames: str, config: FeatureConfig, around: Surroundings
) -> str:
    """Each frame by the mean and variance of those around it."""
    position = graph.count(graph.size(features, 1))
    after = graph.add("Add", position, graph.constant(around.after + 1, np.int64))
    end = graph.add("Min", after, graph.column(num_frames))
    before = graph.add("Sub", position, graph.constant(around.before, np.int64))
    start = graph.add("Min", graph.add("Max", before, graph.constant(0, np.int64)), end)
    prior = graph.constant(around.prior, np.int64)
    count = graph.add("Add", graph.add("Sub", end, start), prior)
    count = graph.add("Unsqueeze", graph.add("Cast", count, to=_DOUBLE), graph.integers(2))

    def sums(values: str) -> str:
        total = graph.add("CumSum", values, graph.constant(1, np.int64))
        total = graph.add("Pad", total, graph.integers(0, 1, 0, 0, 0, 0))
        ends = []
        for place in (end, start):
            index = graph.add("Unsqueeze", place, graph.integers(2))
            index = graph.add("Expand", index, graph.integers(1, 1, config.num_bins))
            ends.append(graph.add("GatherElements", total, index, axis=1))
        return graph.add("Sub", *ends)

    mean = graph.add("Div", sums(features), count)
    squares = graph.add("Cast", prior, to=_DOUBLE)
    squares = graph.add("Add", sums(graph.add("Mul", features, features)), squares)
    variance = graph.add("Sub", graph.add("Div", squares, count), graph.add("Mul", mean, mean))
    least = graph.constant(MIN_STD**2, np.float64)
    std = graph.add("Sqrt", graph.add("Max", variance, least))
    return graph.add("Div", graph.add("Sub", features, mean), std)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = tensor.detach().cpu().float().numpy()
    return values
