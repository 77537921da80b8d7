"""The network with its features, in torch: as it is trained, stored and run."""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asr.batches import padded
from asr.config import Config
from asr.errors import ModelError
from asr.files import check_regular, open_atomic
from asr.model.encoder import CtcModel
from asr.model.features import Frontend
from asr.model.quantization import dequantize
from asr.model.stream import NetworkStream
from asr.tensors import MisfitError, check_shapes


class Network(nn.Module):
    """Features and encoder together: what the weights file holds."""

    def __init__(self, config: Config, num_tokens: int):
        super().__init__()
        self.frontend = Frontend(config.features)
        self.encoder = CtcModel(config.features.num_bins, num_tokens, config.encoder)


class TorchNetwork:
    """A network at work: arrays in, arrays out."""

    def __init__(self, network: Network, device: str, threads: int | None = None):
        is_forked = os.getpid() != _first_process()
        if threads is not None:
            if is_forked and threads > 1:
                raise ModelError(
                    f"{threads} threads: a process that was forked after a model was loaded has "
                    "one; load the first model after the fork, or start processes with `spawn`"
                )
            torch.set_num_threads(threads)
        self.network = network.eval().requires_grad_(False).to(device)
        self._device = device

    @property
    def threads(self) -> int:
        """Of the processor, that torch uses."""
        return torch.get_num_threads()

    def log_probs(
        self,
        inputs: Sequence[NDArray[np.float32]],
        statistics: NDArray[np.float32] | None = None,
    ) -> list[NDArray[np.float32]]:
        """Log-probabilities [step, token] of each input: samples at the model's rate, or frames.

        Args:
            inputs: all of them samples, or all of them frames.
            statistics: of each one's speaker, [input, two, bin]; see `Frontend.finish`.
        """
        of_speakers = None if statistics is None else torch.from_numpy(statistics).to(self._device)
        with torch.inference_mode():
            base, num_frames = self._base(inputs)
            # Sums of float32 depend on how much padding there is; a bin that hardly varies, as in
            # silence, multiplies the difference by a thousand.
            features = self.network.frontend.finish(base.double(), num_frames, of_speakers).float()
            log_probs, num_steps = self.network.encoder(features, num_frames)
        rows = zip(log_probs.cpu().numpy(), num_steps.tolist(), strict=True)
        return [row[:steps] for row, steps in rows]

    def stream(self) -> NetworkStream:
        """For an utterance that arrives in pieces.

        Raises:
            ModelError: the network needs whole utterances.
        """
        return NetworkStream(self.network.frontend, self.network.encoder, self._device)

    def moments(self, inputs: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        """Of each input's features, [input, three, bin]; see `asr.corpus.statistics`."""
        with torch.inference_mode():
            moments: Tensor = self.network.frontend.moments(*self._base(inputs))
        return moments.cpu().numpy()

    def _base(self, inputs: Sequence[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
        """Features without deltas and normalization, and numbers of frames."""
        values, counts = padded(inputs)
        batch = torch.from_numpy(values).to(self._device)
        lengths = torch.from_numpy(counts).to(self._device)
        frontend = self.network.frontend
        if batch.ndim == 2:
            base, num_frames = frontend.base(batch, lengths)
            return base, num_frames
        return frontend.with_noise(batch), lengths


def read_network(
    path: Path, config: Config, num_tokens: int, device: str, threads: int | None = None
) -> TorchNetwork:
    """The network of a weights file, ready for inference.

    Args:
        threads: of the processor, at most, for all of torch; none leaves it as it is.

    Raises:
        ModelError: unreadable, damaged, or of another shape; or several threads are asked for
            where there is one, see `_first_process`.
    """
    with torch.device("meta"):  # takes no memory
        shapes = {
            name: tensor.shape for name, tensor in Network(config, num_tokens).state_dict().items()
        }
    with _explained(path):
        check_shapes(path, shapes)
    network = Network(config, num_tokens)
    load_weights(network, path)
    return TorchNetwork(network, device, threads)


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors atomically."""
    with open_atomic(path, "wb") as file:
        file.write(
            safetensors.torch.save({name: t.cpu().contiguous() for name, t in weights.items()})
        )


def load_weights(network: Network, path: Path) -> None:
    """Put a weights file into `network`, in float32 or as `asr.model.quantization` stores it.

    Raises:
        ModelError: unreadable, damaged, of other numbers or of another shape.
    """
    with _explained(path):
        weights = dequantize(safetensors.torch.load_file(check_regular(path)))
        network.load_state_dict(weights)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path}: the weights cannot be read: {error}") from error
    except MisfitError as error:
        raise ModelError(f"{path}: the weights do not fit config.yaml: {error}") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ModelError(f"{path}: the weights do not fit config.yaml: {reason}") from error


def choose_device(device: str) -> str:
    """`cuda` where there is one and `auto` or `cuda` is asked for.

    Raises:
        ModelError: `cuda` is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ModelError("--device cuda: this machine has no usable CUDA device")
    return "cuda" if available and device != "cpu" else "cpu"


@functools.cache
def _first_process() -> int:
    """The process in which this one, or one that it was forked from, had its first network.

    OpenMP keeps threads between calls. A fork does not copy them, and would wait for them for ever
    if it asked for more than one; so it is held to one.
    """
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
    return os.getpid()
