"""The model folder: all that transcription needs, and the only thing that users pass around.

`config.yaml` every setting, `tokens.txt` (or `tokens.model` with it), `weights.safetensors`,
`training.json` where the model comes from. Nothing in it is code or a pickle.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from asr.config import Config, load_config, write_config
from asr.errors import AsrError, ModelError
from asr.features import Frontend
from asr.files import open_atomic
from asr.model import CtcModel
from asr.tokens import TokenTable, read_tokens, write_tokens

_WEIGHTS = "weights.safetensors"


class Network(nn.Module):
    """Features and encoder together: what the weights file holds."""

    def __init__(self, config: Config, num_tokens: int):
        super().__init__()
        self.frontend = Frontend(config.features)
        self.encoder = CtcModel(config.features.num_bins, num_tokens, config.encoder)


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedModel:
    """A model folder in memory."""

    config: Config
    tokens: TokenTable
    network: Network
    training: Mapping[str, Any]
    """What `training.json` says of the model's origin."""


def write_model(
    folder: Path,
    config: Config,
    tokens: TokenTable,
    weights: Mapping[str, Tensor],
    training: Mapping[str, Any],
) -> None:
    """Write a model folder; `weights` is a `Network`'s state."""
    folder.mkdir(parents=True, exist_ok=True)
    write_config(config, folder / "config.yaml")
    write_tokens(tokens, folder)
    write_weights(weights, folder / _WEIGHTS)
    with open_atomic(folder / "training.json") as file:
        json.dump(training, file, indent=2, ensure_ascii=False)
        file.write("\n")


def read_model(folder: Path, device: torch.device | str = "cpu") -> LoadedModel:
    """Read a model folder, ready for inference.

    Raises:
        ModelError: a file is missing, damaged, or does not fit the others.
    """
    if not (folder / "config.yaml").is_file():
        raise ModelError(f"{folder}: not a model folder (it has no config.yaml)")
    try:
        config = load_config(folder / "config.yaml", Config)
    except AsrError as error:
        raise ModelError(str(error)) from error
    tokens = read_tokens(folder)
    network = Network(config, len(tokens))
    load_weights(network, folder / _WEIGHTS)
    network.eval().requires_grad_(False).to(device)
    return LoadedModel(
        config=config, tokens=tokens, network=network, training=_read_training(folder)
    )


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors atomically."""
    with open_atomic(path, "wb") as file:
        file.write(
            safetensors.torch.save({name: t.cpu().contiguous() for name, t in weights.items()})
        )


def load_weights(network: Network, path: Path) -> None:
    """Put a weights file into `network`.

    Raises:
        ModelError: unreadable, damaged, or of another shape.
    """
    try:
        weights = safetensors.torch.load_file(path)
        network.load_state_dict(weights)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path}: the weights cannot be read: {error}") from error
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


def _read_training(folder: Path) -> Mapping[str, Any]:
    path = folder / "training.json"
    try:
        training = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not JSON: {error}") from error
    return training if isinstance(training, dict) else {}
