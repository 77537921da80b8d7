"""What a stage ran on and what it left: the marks by which a recipe knows what is done.

A mark is a JSON file with `inputs` (any values that say what the outcome depends on) and `made`
(for each file its size, time and hash). Names of files are relative to the work folder, with `/`.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.config import fingerprint
from asr.files import open_atomic

_LONGEST_VALUE = 40  # characters of a setting that are shown in a reason
_MOST_REASONS = 3


@dataclass(frozen=True, slots=True)
class Content:
    """A file's content; size and time tell whether the hash can still be trusted."""

    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """What a stage ran on, and the files that it left."""

    inputs: Mapping[str, Any]
    made: Mapping[str, Content]


def read_mark(path: Path) -> Mark | None:
    """A mark; None when there is none, or none of this form."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        made = {name: Content(*content) for name, content in values["made"].items()}
        return Mark(inputs=values["inputs"], made=made)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_mark(mark: Mark, path: Path) -> None:
    """Write a mark atomically."""
    made = {name: [c.size, c.mtime_ns, c.sha256] for name, c in sorted(mark.made.items())}
    with open_atomic(path) as file:
        json.dump({"inputs": mark.inputs, "made": made}, file, indent=1, ensure_ascii=False)


def read_content(path: Path) -> Content:
    """Read and hash a file."""
    status = path.stat()
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Content(status.st_size, status.st_mtime_ns, sha256)


def list_files(folder: Path, name: str) -> list[str]:
    """A file, or the files in a folder and its folders; without those with a dot in front."""
    path = folder / name
    if path.is_file():
        return [name]
    return sorted(f"{name}/{below}" for below in _walk(path))


def corpus_identity(folder: Path) -> dict[str, str]:
    """Where a corpus is, and a hash of its files' names, sizes and times."""
    folder = folder.resolve()
    rows = []
    for name in sorted(_walk(folder)):
        status = (folder / name).stat()
        rows.append([name, status.st_size, status.st_mtime_ns])
    return {"folder": str(folder), "files": fingerprint(rows)}


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What changed from one stage's inputs to another's, in a line; empty when nothing did."""
    if old == new:
        return ""
    reasons = ["its code changed"] if old.get("version") != new["version"] else []
    before, after = _flatten(old.get("settings", {})), _flatten(new["settings"])
    for key in sorted(before | after):
        if before.get(key) != after.get(key) or (key in before) != (key in after):
            reasons.append(f"{key} {_show(before, key)} -> {_show(after, key)}")
    before, after = old.get("needs", {}), new["needs"]
    reasons += [
        f"{name} changed" for name in sorted(before | after) if before.get(name) != after.get(name)
    ]
    if old.get("corpus") != new["corpus"]:
        reasons.append(_corpus_reason(old.get("corpus"), new["corpus"]))
    if len(reasons) > _MOST_REASONS:
        reasons[_MOST_REASONS:] = [f"{len(reasons) - _MOST_REASONS} more"]
    return ", ".join(reasons)


def _walk(folder: Path) -> Iterator[str]:
    for top, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inner = Path(top).relative_to(folder)
        for name in files:
            if not name.startswith(".") and (Path(top) / name).is_file():
                yield (inner / name).as_posix()


def _flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{inner}": v for inner, v in _flatten(value).items()}
        else:
            flat[key] = value
    return flat


def _show(values: Mapping[str, Any], key: str) -> str:
    text = json.dumps(values[key], ensure_ascii=False) if key in values else "absent"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _corpus_reason(old: dict[str, str] | None, new: dict[str, str] | None) -> str:
    if new is None:
        return f"done with --corpus {old['folder']}" if old else "the corpus changed"
    if old is None or old["folder"] != new["folder"]:
        return f"--corpus is another folder than {old['folder'] if old else 'none'}"
    return "files in the corpus folder changed"
