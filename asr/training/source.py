"""The model that training starts from: is it one that it can start from, and how it is kept.

The work folder keeps a copy, `init`, for as long as what was made from it is there. So a model may
be replaced by what is made from it, a stopped run goes on from the same weights, and both models
can be scored afterwards.
"""

import hashlib
import io
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.config import Config, FeatureConfig
from asr.errors import ConfigError, ModelError
from asr.files import open_atomic, read_file
from asr.folders import remove_folder, replace_folder
from asr.model import LoadedModel, Network, network, read_model
from asr.model import folder as model_folder
from asr.text import tokens as token_tables
from asr.training.processes import Place

KEPT = "init"
"""In a work folder: the model that training started from."""
TABLE = "init.tsv"
"""In a work folder: what became of that model's tokens."""
LEARNT = "learnt.npy"
"""In a work folder: digests of the ids of all utterances that its model was trained on, and those
that it started from; in the copy of a model those of that one."""

_STARTED = "source"  # in the scratch folder, once the model is kept
_FILES = ("config.yaml", "training.json", model_folder.WEIGHTS, *token_tables.TOKEN_FILES)
_FREE = frozenset({"dropout"})  # settings of the encoder that its weights do not depend on


@dataclass(frozen=True, kw_only=True, slots=True)
class StartingModel:
    """A model that training starts from."""

    name: str
    """As the user gave it."""
    hash: str
    """See `content_hash`."""
    model: LoadedModel
    network: Network
    learnt: NDArray[np.uint64]
    """See `read_learnt`."""

    def origin(self) -> dict[str, Any]:
        """What `training.json` says of it."""
        return {
            "hash": self.hash,
            "name": self.name,
            "dev_wer": self.model.training.get("dev_wer"),
        }


def check_source(config: Config, work_folder: Path) -> None:
    """See that the model that a configuration names, if any, can be started from.

    Args:
        work_folder: where the training is; a model of its own that a killed run was replacing may
            be damaged, since the one before is kept.

    Raises:
        AsrError: no model, a damaged or an exported one, or one with other features, another
            encoder or another kind of tokens than the configuration's.
    """
    if config.training.init.model is None:
        return
    _open(_readable(config.training.init.model, work_folder), config)


def keep_source(config: Config, place: Place) -> StartingModel | None:
    """The model to start from, of which the work folder has a copy from now on.

    Without one, what is left of another is removed.

    Raises:
        AsrError: as `check_source`.
    """
    path, kept = config.training.init.model, place.folder / KEPT
    if path is None:
        if place.is_first:
            remove_folder(kept)
            (place.folder / TABLE).unlink(missing_ok=True)
        return None
    started = place.scratch / _STARTED
    # A run that goes on has kept it, and may have replaced the original.
    if place.is_first and not started.exists():
        readable = _readable(path, place.folder)
        _open(readable, config)
        is_kept = readable.resolve() == kept.resolve()
        if is_kept and path.resolve() != kept.resolve():
            place.report(f"{path} is damaged: starting from {kept}, which it was made from")
        if not is_kept:
            _copy(readable, kept)
        with open_atomic(started) as file:
            file.write(f"{path}\n")
    place.fabric.barrier()
    model, weights = _open(kept, config)
    return StartingModel(
        name=str(path),
        hash=model_folder.content_hash(kept),
        model=model,
        network=weights,
        learnt=read_learnt(kept),
    )


def note_learnt(ids: Iterable[str], folder: Path) -> None:
    """Write what a work folder's model has learnt from, with what the one before had."""
    digests = np.union1d(id_digests(ids), read_learnt(folder / KEPT))
    with open_atomic(folder / LEARNT, "wb") as file:
        np.save(file, digests)


def read_learnt(folder: Path) -> NDArray[np.uint64]:
    """What was noted in a folder; nothing where nothing was."""
    try:
        return np.asarray(np.load(io.BytesIO(read_file(folder / LEARNT))), np.uint64)
    except (OSError, ValueError):
        return np.zeros(0, np.uint64)


def id_digests(ids: Iterable[str]) -> NDArray[np.uint64]:
    """A number for each id."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(b"".join(digests), np.uint64)


def _readable(path: Path, work_folder: Path) -> Path:
    """The model's folder; of one that a killed run was replacing, the one that it started from."""
    kept = work_folder / KEPT
    is_own = kept.is_dir() and path.resolve().is_relative_to(work_folder.resolve())
    try:
        given = model_folder.locate_model(path)
        if is_own:
            _read(given)
    except ModelError as error:
        if is_own:
            return kept
        raise ModelError(f"training.init.model: {error}") from error
    return given


def _open(folder: Path, config: Config) -> tuple[LoadedModel, Network]:
    """A model in memory, if training with this configuration can start from it.

    Raises:
        AsrError: as `check_source`.
    """
    try:
        model, weights = _read(folder)
    except ModelError as error:
        raise ModelError(f"training.init.model: {error}") from error
    if differences := _differences(config, model.config):
        raise ConfigError(
            f"training.init.model {folder} does not fit the configuration: "
            f"{', '.join(differences)}; `asr init FOLDER --init {folder}` writes one that fits"
        )
    return model, weights


def _read(folder: Path) -> tuple[LoadedModel, Network]:
    model, path = read_model(folder), folder / model_folder.WEIGHTS
    if not path.exists() and model_folder.is_exported(folder):
        raise ModelError(
            f"{folder}: is exported and cannot be trained; give the model folder that it was "
            "exported from"
        )
    weights = Network(model.config, len(model.tokens))
    network.load_weights(weights, path)
    return model, weights


def _differences(config: Config, source: Config) -> list[str]:
    """The settings in which a configuration differs from the model's, of those that must not."""
    mine, theirs = _fixed(config), _fixed(source)
    return [
        f"{key} {mine[key]} (the model: {theirs[key]})" for key in mine if mine[key] != theirs[key]
    ]


def _fixed(config: Config) -> Mapping[str, Any]:
    """What cannot change from a model to one that starts from it, by `section.key`."""
    features = {f"features.{key}": value for key, value in _plain_features(config.features).items()}
    encoder = config.encoder.model_dump(exclude=set(_FREE))
    return {
        **features,
        **{f"encoder.{key}": value for key, value in encoder.items()},
        "tokens.kind": config.tokens.kind,
    }


def _plain_features(features: FeatureConfig) -> dict[str, Any]:
    return {
        **features.model_dump(mode="json"),
        "high_freq": features.high_freq or features.sample_rate / 2,
    }


def _copy(source: Path, target: Path) -> None:
    with replace_folder(target) as folder:
        for name in (*_FILES, LEARNT):
            if (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        # It stands beside a work folder's model, which others may be given without it.
        beside = source.parent / LEARNT
        if not (folder / LEARNT).exists() and beside.is_file():
            shutil.copyfile(beside, folder / LEARNT)
