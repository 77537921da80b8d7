"""A configuration that fits a model to start from: what `asr init ... --init MODEL` writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from asr import training
from asr.config import Config
from asr.errors import ConfigError, DataError
from asr.files import open_atomic
from asr.model import folder as model_folder
from asr.model import read_model
from asr.recipe.definition import load_recipe, load_recipe_config

CONF = "init"
"""Name of the configuration that `write_fitting_conf` writes."""

_RATE = 0.002  # of training: what a model has learnt is lost at the rates that random weights need


def fit_settings(settings: Mapping[str, Any], model: Path) -> dict[str, Any]:
    """Settings of a recipe, changed so that its training can start from a model.

    Features, encoder and kind of tokens are the model's, and the learning rate is lower.

    Raises:
        AsrError: no model, or one that training cannot start from.
    """
    place = model_folder.locate_model(model)
    source = read_model(place).config
    dropout = settings.get("encoder", {}).get("dropout", source.encoder.dropout)
    encoder = source.encoder.model_copy(update={"dropout": dropout})
    name = str(model.absolute()) if place == model else str(model)
    fitting = {
        **settings,
        "features": _stated(source.features),
        "tokens": {"kind": source.tokens.kind, **_stated(source.tokens)},
        "encoder": _stated(encoder),
        "training": {
            **settings.get("training", {}),
            "learning_rate": _RATE,
            "init": {**settings.get("training", {}).get("init", {}), "model": name},
        },
    }
    try:
        config = Config.model_validate(fitting)
    except ValueError as error:
        raise ConfigError(f"{model}: the recipe's other settings do not fit: {error}") from error
    training.source.check_source(config, place)
    return fitting


def write_fitting_conf(folder: Path, model: Path) -> Path:
    """Write `conf/init.yaml` of a recipe: its configuration, changed so that it fits a model.

    Raises:
        AsrError: as `fit_settings`, `folder` is no recipe, or it has such a file already.
    """
    recipe = load_recipe(folder)
    path = recipe.folder / "conf" / f"{CONF}.yaml"
    if path.exists():
        raise DataError(f"{path}: is there already; move it away to have it written anew")
    settings = fit_settings(_stated(load_recipe_config(recipe)), model)
    with open_atomic(path) as file:
        file.write(yaml.safe_dump(settings, sort_keys=False, default_flow_style=None))
    return path


def _stated(settings: Any) -> dict[str, Any]:
    """What differs from the defaults, as a configuration states it."""
    values: dict[str, Any] = settings.model_dump(mode="json", exclude_defaults=True)
    return values
