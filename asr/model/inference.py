"""What a network can do at work, whichever runs it, and which one a model folder has; no torch.

Dimension names: sample, frame, bin, step, token.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from asr.errors import ModelError, opens_model
from asr.model.folder import WEIGHTS, LoadedModel
from asr.model.onnx import MODEL, OnnxNetwork

_Array = NDArray[np.float32]


class LiveNetwork(Protocol):
    """A network that hears one utterance as it arrives."""

    def accept(self, samples: _Array, *, last: bool = False) -> _Array:
        """Log-probabilities [step, token] that have become known; perhaps none.

        Args:
            samples: [sample], at the model's rate, that follow those given before.
            last: nothing follows.
        """


class InferenceNetwork(Protocol):
    """A network at work: arrays in, arrays out."""

    @property
    def threads(self) -> int:
        """Of the processor, that it uses."""

    def log_probs(self, inputs: Sequence[_Array], statistics: _Array | None = None) -> list[_Array]:
        """Log-probabilities [step, token] of each input: samples at the model's rate, or frames.

        Args:
            inputs: all of them samples, or all of them frames.
            statistics: of each one's speaker, [input, two, bin]; see `asr.corpus.statistics`.

        Raises:
            DataError: frames, which this network does not take.
            ModelError: statistics, which this network does not take.
        """

    def stream(self) -> LiveNetwork:
        """For an utterance that arrives in pieces.

        Raises:
            ModelError: the network needs whole utterances.
        """

    def moments(self, inputs: Sequence[_Array]) -> NDArray[np.float64]:
        """Of each input's features, [input, three, bin]; see `asr.corpus.statistics`.

        Raises:
            ModelError: the network gives no features away.
        """


def has_onnx(folder: Path) -> bool:
    """Whether the network of a model folder is an exported one, which runs on the processor."""
    return (folder / MODEL).exists()


@opens_model
def open_network(
    folder: Path, model: LoadedModel, device: str = "auto", threads: int | None = None
) -> InferenceNetwork:
    """The network of a model folder; torch is imported for a trained one only.

    Args:
        model: what else is in the folder.
        device: `auto`, `cpu` or `cuda`.
        threads: of the processor, at most; none means as many as there are.

    Raises:
        ModelError: its file is missing, damaged or does not fit `model`, or the device is not there
            or not for it.
    """
    if has_onnx(folder):
        if device == "cuda":
            raise ModelError(f"{folder}: an exported model runs on the processor, not on cuda")
        return OnnxNetwork(folder, model.config, len(model.tokens), threads)
    from asr.model.network import choose_device, read_network

    return read_network(
        folder / WEIGHTS, model.config, len(model.tokens), choose_device(device), threads
    )
