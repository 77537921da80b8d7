"""Configuration files: read, laid over a base, changed by overrides, and written.

A file states only what differs from the defaults of `asr.config`.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from asr.config import Config, Settings, parse_settings
from asr.errors import ConfigError
from asr.files import open_atomic, read_file

_T = TypeVar("_T", bound=Settings)
_MAX_BYTES = 2**18  # of a file; every setting there is takes some KB
_MAX_DEPTH = 30


def load_config(path: Path, kind: type[_T], overrides: Sequence[str] = ()) -> _T:
    """Read a YAML file as `kind`, changed by `section.key=value` overrides.

    Raises:
        ConfigError: unreadable, not YAML, an unknown key or a bad value, each by name; or a `base`,
            which only a recipe's configuration may have.
    """
    return _parsed_alone(_read_values(path), kind, overrides, path)


# Settings of training that model folders of their time still state. What the network does is the
# same with and without them.
_REMOVED = {
    "augment": ("window_seconds", "window_probability"),
    "encoder": ("recurrent_dropout",),
    "training": ("label_smoothing",),
}


def load_model_config(path: Path) -> Config:
    """Read the `config.yaml` of a model folder, as `load_config` does.

    It may be older than this program: settings of training that have gone since are passed over.

    Raises:
        ConfigError: as `load_config`.
    """
    values = _read_values(path)
    for section, keys in _REMOVED.items():
        settings = values.get(section)
        if isinstance(settings, dict):
            values[section] = {key: settings[key] for key in settings if key not in keys}
    return _parsed_alone(values, Config, (), path)


def load_conf(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a recipe's configuration, as `load_config` does.

    `base: default.yaml` names a file beside it, whose values hold where this one has none.

    Raises:
        ConfigError: as `load_config`, or the base is no `.yaml` file or has a base itself.
    """
    values = _read_values(path)
    if (base := values.pop("base", None)) is not None:
        if not str(base).endswith((".yaml", ".yml")):
            raise ConfigError(f"{path}: base: the name of another .yaml file is expected")
        below = _read_values(path.parent / str(base))
        if "base" in below:
            raise ConfigError(f"{path}: base {base} has a base itself; one is enough")
        values = _merged(below, values)
    return _parsed(values, Config, overrides, path)


def _parsed_alone(
    values: dict[str, Any], kind: type[_T], overrides: Sequence[str], path: Path
) -> _T:
    """`_parsed`, of a file that has no base."""
    if "base" in values:
        raise ConfigError(
            f"{path}: base: only a recipe's configuration has one; here every value is stated"
        )
    return _parsed(values, kind, overrides, path)


def _parsed(values: dict[str, Any], kind: type[_T], overrides: Sequence[str], path: Path) -> _T:
    changed = copy.deepcopy(values)
    for override in overrides:
        _apply_override(changed, override)
    try:
        return parse_settings(changed, kind, where=str(path))
    except ConfigError as error:
        if not overrides or _is_said_of(values, kind, path, str(error)):
            raise
    where = " ".join([f"{path} with", *overrides])
    return parse_settings(changed, kind, where=where)


def _is_said_of(values: dict[str, Any], kind: type[Settings], path: Path, message: str) -> bool:
    """Whether this is what is wrong with the file's own values, too."""
    try:
        parse_settings(values, kind, where=str(path))
    except ConfigError as error:
        return str(error) == message
    return False


class _RefusedError(ConfigError):
    """YAML that this program does not read."""


class _Loader(yaml.SafeLoader):
    """YAML without what makes much out of little: no aliases, and no deep nesting."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise _RefusedError("an alias (`*name`) is not read; write the value itself")
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _RefusedError(f"more than {_MAX_DEPTH} sections in sections")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _parsed_yaml(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)
    except (ValueError, RecursionError, OverflowError) as error:
        # Python's, of a date that does not exist or a number of thousands of digits.
        raise _RefusedError("a value that is none, as a date that does not exist") from error


def _read_values(path: Path) -> dict[str, Any]:
    try:
        values = _parsed_yaml(read_file(path, _MAX_BYTES).decode())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        # Not the line, nor the reason, which may quote it: the file may be one that another names.
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        column = f", character {mark.column + 1}" if mark is not None else ""
        raise ConfigError(f"{path}{line}: not YAML{column}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not YAML") from error
    except _RefusedError as error:
        raise ConfigError(f"{path}: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a mapping of sections is expected")
    return values


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The values of both; where both have one, that of `above`, section by section."""
    merged = {**below, **above}
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            merged[key] = _merged(below[key], above[key])
    return merged


def write_config(config: Settings, path: Path) -> None:
    """Write every value, resolved, as YAML; atomically."""
    values = config.model_dump(mode="json")
    with open_atomic(path) as file:
        file.write(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _apply_override(values: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise ConfigError(f"--set {override}: KEY=VALUE is expected, as training.epochs=20")
    *sections, key = dotted.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override}: {section} is not a section")
    try:
        values[key] = _parsed_yaml(text)
    except (yaml.YAMLError, _RefusedError) as error:
        raise ConfigError(f"--set {override}: the value is not YAML") from error
