"""What is the same for every form that a trained model is written in.

Where it may be written, and how far the network that was written is from the trained one.
"""

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
            # The largest of some numbers and NaN is NaN, whatever their order.
            apart = np.abs(theirs - ours) / np.maximum(1, np.abs(theirs))
            differences.append(float(apart.max()))
            agreements.append(theirs.argmax(axis=1) == ours.argmax(axis=1))
    return ExportReport(
        difference=float(np.max(differences)),
        agreement=float(np.concatenate(agreements).mean()),
        num_bytes=sum(path.stat().st_size for path in folder.iterdir()),
    )


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
