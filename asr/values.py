"""Settings as plain values: sections of them, the files that they name, and fingerprints."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from asr.config import Config, Settings

_ABSENT = object()
_LISTS = ("noise_files", "reverb_files", "codecs")


def plain_values(settings: Settings) -> dict[str, Any]:
    """The values as JSON has them, but paths still as paths: what they name is known as files."""
    values: dict[str, Any] = _keep_paths(settings.model_dump(mode="json"), settings.model_dump())
    return values


def section_values(
    config: Config, names: Sequence[str], without: Sequence[str] = ()
) -> dict[str, Any]:
    """The sections or `section.key` values named, as plain values; those in `without` left out.

    Without a model to start from, `training.init` is left out, since it changes nothing, and so are
    the manifests that it does not name, `training.more` where there is none, and lists of
    `augment` that are empty.
    """
    values = _reduced(config, config.model_dump(mode="json"), without)
    return {name: value for name in names if (value := _lookup(values, name)) is not _ABSENT}


def named_files(
    config: Config, names: Sequence[str], without: Sequence[str] = ()
) -> dict[str, Path]:
    """The files and folders that those sections or values name, by `section.key`."""
    values = _reduced(config, config.model_dump(), without)
    return {key: path for name in names for key, path in _paths(name, _lookup(values, name))}


def fingerprint(values: object) -> str:
    """Sixteen hexadecimal digits that change when any of the (JSON) values does."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint_rows(rows: Iterable[object]) -> str:
    """The fingerprint of the list of them, which need not be in memory."""
    digest = hashlib.sha256(b"[")
    for number, row in enumerate(rows):
        text = json.dumps(row, sort_keys=True, ensure_ascii=False)
        digest.update(f"{', ' if number else ''}{text}".encode())
    digest.update(b"]")
    return digest.hexdigest()[:16]


def _keep_paths(plain: Any, original: Any) -> Any:
    if isinstance(original, Path):
        return original
    if isinstance(original, Mapping) and isinstance(plain, dict):
        return {
            key: _keep_paths(value, inner)
            for (key, value), inner in zip(plain.items(), original.values(), strict=True)
        }
    if isinstance(original, list | tuple) and isinstance(plain, list):
        return [_keep_paths(*pair) for pair in zip(plain, original, strict=True)]
    return plain


def _reduced(config: Config, values: dict[str, Any], without: Sequence[str]) -> dict[str, Any]:
    init = config.training.init
    if init.model is None:
        without = ("training.init", *without)
    if not config.training.more:
        without = ("training.more", *without)
    absent = [key for key in ("replay", "old_test") if getattr(init, key) is None]
    without = (*without, *(f"training.init.{key}" for key in absent))
    for dotted in (*without, *(f"augment.{key}" for key in _LISTS if not values["augment"][key])):
        section, _, key = dotted.rpartition(".")
        inner = _lookup(values, section)
        if inner is not _ABSENT:
            inner.pop(key, None)
    return values


def _lookup(values: Mapping[str, Any], dotted: str) -> Any:
    """`_ABSENT` where there is none."""
    for key in dotted.split("."):
        if key not in values:
            return _ABSENT
        values = values[key]
    return values


def _paths(key: str, value: Any) -> Iterator[tuple[str, Path]]:
    if isinstance(value, Path):
        yield key, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _paths(f"{key}.{name}", inner)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _paths(f"{key}.{number}", inner)
