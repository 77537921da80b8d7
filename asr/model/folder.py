"""The model folder: all that transcription needs, and the only thing that users pass around.

`config.yaml` every setting, `tokens.txt` (or `tokens.model` with it), the network as
`weights.safetensors` or, exported, `model.onnx`; `training.json` where the model comes from;
optional `decoding.yaml`, with the language model and lexicon that it names (see
`asr.decoding.options`). Nothing in it is code or a pickle. This module reads and writes all but the
network and what decoding adds; no torch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.config import Config
from asr.config_files import load_model_config, write_config
from asr.errors import AsrError, ModelError
from asr.files import check_inside, open_atomic
from asr.text import TokenTable, read_tokens, write_tokens
from asr.text import tokens as token_tables

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedModel:
    """A model folder in memory, without its network."""

    config: Config
    tokens: TokenTable
    training: Mapping[str, Any]
    """What `training.json` says of the model's origin."""


def write_model(
    folder: Path,
    config: Config,
    tokens: TokenTable,
    training: Mapping[str, Any],
) -> None:
    """Write a model folder, all but its network."""
    folder.mkdir(parents=True, exist_ok=True)
    write_config(config, folder / "config.yaml")
    write_tokens(tokens, folder)
    with open_atomic(folder / "training.json") as file:
        json.dump(training, file, indent=2, ensure_ascii=False)
        file.write("\n")


def read_model(folder: Path) -> LoadedModel:
    """Read a model folder, all but its network.

    Raises:
        ModelError: a file is missing, damaged, leads out of the folder, or does not fit the others.
    """
    if not (folder / "config.yaml").is_file():
        raise ModelError(f"{folder}: not a model folder (it has no config.yaml)")
    for name in ("config.yaml", "training.json", *token_tables.TOKEN_FILES):
        check_inside(folder, name)
    try:
        config = load_model_config(folder / "config.yaml")
    except AsrError as error:
        raise ModelError(str(error)) from error
    tokens = read_tokens(folder)
    return LoadedModel(config=config, tokens=tokens, training=_read_training(folder))


def is_exported(folder: Path) -> bool:
    """Whether a folder is what `asr export` writes, by its `training.json`."""
    try:
        return "exported" in _read_training(folder)
    except ModelError:
        return False


def _read_training(folder: Path) -> Mapping[str, Any]:
    path = folder / "training.json"
    try:
        training = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not JSON: {error}") from error
    return training if isinstance(training, dict) else {}
