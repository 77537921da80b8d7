"""What is the same for every form that a trained model is written in.

Where it may be written, and how far the network that was written is from the trained one.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from asr.config import Config
from asr.errors import ModelError
from asr.model.features import Frontend
from asr.model.inference import InferenceNetwork
from asr.model.network import TorchNetwork
from asr.model.onnx import FRONTEND, STEP

_TRIAL_SECONDS = (0.3, 0.31, 1.0, 2.7, 5.0)
_PORTION = 1000  # samples, about


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportReport:
    """What came of an export."""

    difference: float
    """Largest difference of a log-probability from torch's, in nats or of itself, the smaller."""
    agreement: float
    """Share of steps whose best token is torch's."""
    num_bytes: int
    """Of the network's files."""


def compare_networks(
    trained: InferenceNetwork, written: InferenceNetwork, config: Config, folder: Path
) -> ExportReport:
    """Both networks on random utterances, alone, in batches of several lengths, and in portions.

    Args:
        trained: what the other is to compute.
        config: of both.
        folder: that holds the files of `written` and nothing else.

    Raises:
        ModelError: another number of steps or tokens.
    """
    differences, agreements = [0.0], []
    for inputs in _trial_batches(config, of_features=(folder / FRONTEND).exists()):
        expected, results = trained.log_probs(inputs), [written.log_probs(inputs)]
        if (folder / STEP).exists() and inputs[0].ndim == 1:
            results.append(_in_portions(written, inputs))
        for theirs, ours in (pair for part in results for pair in zip(expected, part, strict=True)):
            if theirs.shape != ours.shape:
                raise ModelError(f"{ours.shape} steps and tokens in place of {theirs.shape}")
            differences.append(_apart(theirs, ours))
            agreements.append(theirs.argmax(axis=1) == ours.argmax(axis=1))
    return ExportReport(
        difference=float(np.max(differences)),
        agreement=float(np.concatenate(agreements).mean()),
        num_bytes=sum(path.stat().st_size for path in folder.iterdir()),
    )


def rounding_error(trained: TorchNetwork, config: Config) -> float:
    """How far the trained network itself is from what it gives in double precision.

    On the random utterances, and in the measure, of `compare_networks`.
    """
    exact = copy.deepcopy(trained.network).double()
    differences = []
    for waveform in next(_trial_batches(config, of_features=False)):
        samples, count = torch.from_numpy(waveform)[None].double(), torch.tensor([len(waveform)])
        with torch.inference_mode():
            base, num_frames = exact.frontend.base(samples, count)
            features = exact.frontend.finish(base, num_frames, None)
            log_probs, _ = exact.encoder(features, num_frames)
        differences.append(_apart(log_probs[0].numpy(), trained.log_probs([waveform])[0]))
    return max(differences)


def _apart(expected: NDArray[np.floating], found: NDArray[np.floating]) -> float:
    """The largest difference, or of the number itself where it is below -1; NaN if any is."""
    return float((np.abs(expected - found) / np.maximum(1, np.abs(expected))).max())


def _in_portions(
    network: InferenceNetwork, inputs: list[NDArray[np.float32]]
) -> list[NDArray[np.float32]]:
    """Log-probabilities of each input as it arrives."""
    results = []
    for samples in inputs:
        stream = network.stream()
        parts = np.array_split(samples, 1 + len(samples) // _PORTION)
        steps = [stream.accept(part) for part in parts]
        results.append(np.concatenate([*steps, stream.accept(samples[:0], last=True)]))
    return results


def _trial_batches(config: Config, *, of_features: bool) -> Iterator[list[NDArray[np.float32]]]:
    """Noise whose level changes, as samples and, for a network that takes them, as frames."""
    random = np.random.default_rng(1)
    rate = config.features.sample_rate
    waveforms = []
    for seconds in _TRIAL_SECONDS:
        count = max(config.features.frame_length, int(seconds * rate))
        levels = np.exp(random.uniform(-6, 0, 2 + count // (rate // 10)))
        level = np.interp(np.arange(count), np.arange(len(levels)) * (rate // 10), levels)
        noise = random.standard_normal(count) * level * 0.2
        waveforms.append(noise.clip(-1, 1).astype(np.float32))
    yield waveforms
    yield from ([waveform] for waveform in waveforms)
    if of_features:
        frontend = Frontend(config.features.model_copy(update={"noise_floor_db": None}))
        frames = []
        for waveform in waveforms:
            samples = torch.from_numpy(waveform)[None]
            frames.append(frontend.base(samples, torch.tensor([len(waveform)]))[0][0].numpy())
        yield frames
