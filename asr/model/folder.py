"""The model folder: all that transcription needs, and the only thing that users pass around.

`config.yaml` every setting, `tokens.txt` (or `tokens.model` with it), the network as
`weights.safetensors` or, exported, `model.onnx`; `training.json` where the model comes from;
optional `decoding.yaml`, with the language model and lexicon that it names (see
`asr.decoding.options`). Nothing in it is code or a pickle. This module reads and writes all but the
network and what decoding adds; no torch.

A starter is a model folder that the package brings, known by its name: something to start from.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.config import Config
from asr.config_files import load_model_config, write_config
from asr.errors import AsrError, ModelError, opens_model
from asr.files import check_inside, open_atomic, open_regular, read_file
from asr.text import TokenTable, read_tokens, write_tokens
from asr.text import tokens as token_tables
from asr.values import fingerprint

WEIGHTS = "weights.safetensors"
CARD = "README.md"
"""What a model is, for people: its data, licences, error rates and limits; only some have one."""
STARTERS = Path(__file__).parents[1] / "assets"
"""The folder of the starters, each a model folder."""

_CONFIG = "config.yaml"
_MAX_BYTES = 2**20  # of training.json


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
    write_config(config, folder / _CONFIG)
    write_tokens(tokens, folder)
    with open_atomic(folder / "training.json") as file:
        json.dump(training, file, indent=2, ensure_ascii=False)
        file.write("\n")


@opens_model
def read_model(folder: Path) -> LoadedModel:
    """Read a model folder, all but its network.

    Raises:
        ModelError: a file is missing, damaged, leads out of the folder, or does not fit the others.
    """
    _check_is_model(folder)
    for name in (_CONFIG, "training.json", *token_tables.TOKEN_FILES):
        check_inside(folder, name)
    try:
        config = load_model_config(folder / _CONFIG)
    except AsrError as error:
        raise ModelError(str(error)) from error
    tokens = read_tokens(folder)
    return LoadedModel(config=config, tokens=tokens, training=_read_training(folder))


def content_hash(folder: Path) -> str:
    """Sixteen hexadecimal digits that change with a model's weights, tokens or settings.

    What is added for decoding, and where and when the files were written, is no part of it.

    Raises:
        OSError: a file cannot be read.
    """
    digests = {}
    for name in (_CONFIG, WEIGHTS, *token_tables.TOKEN_FILES):
        if (folder / name).is_file():
            with open_regular(folder / name) as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return fingerprint(digests)


def starters() -> dict[str, Path]:
    """The folders of the models that come with the package, by name."""
    return {path.parent.name: path.parent for path in sorted(STARTERS.glob(f"*/{_CONFIG}"))}


def locate_model(model: Path) -> Path:
    """The folder of a model that is given by its folder or, if none is there, by a starter's name.

    Raises:
        ModelError: it is neither; the message lists the starters.
    """
    if model.exists():
        _check_is_model(model)
        return model
    names = starters()
    if len(model.parts) == 1 and str(model) in names:
        return names[str(model)]
    listed = f"starters are {', '.join(names)}" if names else "no starter comes with this package"
    raise ModelError(f"{model}: not a model folder (there is no such folder); {listed}")


def is_starter(folder: Path) -> bool:
    """Whether a model folder is part of the package, and so not to be written into."""
    return folder.resolve().is_relative_to(STARTERS.resolve())


def check_is_own(folder: Path) -> None:
    """Refuse to change a model that comes with the package.

    Raises:
        ModelError: it is a starter.
    """
    if is_starter(folder):
        raise ModelError(
            f"{folder.name}: a starter of the package is left as it is; tune a copy, which "
            f"`asr export {folder.name} --format folder --output {folder.name}-tuned` writes"
        )


def _check_is_model(folder: Path) -> None:
    if not (folder / _CONFIG).is_file():
        hides = f"; it hides the starter {folder}" if str(folder) in starters() else ""
        raise ModelError(f"{folder}: not a model folder (it has no config.yaml){hides}")


def is_exported(folder: Path) -> bool:
    """Whether a folder is what `asr export` writes, by its `training.json`."""
    try:
        return "exported" in _read_training(folder)
    except ModelError:
        return False


def origin_texts(training: Mapping[str, Any]) -> dict[str, str]:
    """What `training.json` says, each value as a line of text; of a mapping its keys, too."""
    return {
        key: ", ".join(f"{name} {inner}" for name, inner in value.items())
        if isinstance(value, Mapping)
        else str(value)
        for key, value in training.items()
    }


def _read_training(folder: Path) -> Mapping[str, Any]:
    path = folder / "training.json"
    try:
        training = json.loads(read_file(path, _MAX_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON: {error}") from error
    return training if isinstance(training, dict) else {}
