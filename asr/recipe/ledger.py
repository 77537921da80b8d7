"""What a stage ran on and what it left: the marks by which a recipe knows what is done.

A mark is a JSON file with `inputs` (any values that say what the outcome depends on) and `made`
(for each file its size, time and hash). Names of files are relative to the work folder, with `/`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from asr.errors import AsrError, DataError
from asr.files import open_atomic, open_regular, read_file, walk_once
from asr.model import folder as model_folder
from asr.recipe.ngrams import locate_ngrams
from asr.recipe.stage import Stage, Work, is_within
from asr.values import fingerprint, named_files, section_values

_LONGEST_VALUE = 40  # characters of a setting that are shown in a reason
_MOST_REASONS = 3
_MODEL_SETTING = "training.init.model"
_NGRAMS_SETTING = "lm.base"


@dataclass(frozen=True, slots=True)
class Content:
    """A file's content; size and time tell whether the hash can still be trusted."""

    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StageMark:
    """What a stage ran on, and the files that it left."""

    inputs: Mapping[str, Any]
    made: Mapping[str, Content]


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePlan:
    """Where a stage stands, and why."""

    stage: Stage
    state: Literal["done", "to do", "changed", "waits", "left out"]
    """`waits`: its needs are about to be made again, and it runs if they come out differently."""
    reason: str = ""


class Ledger:
    """The marks of a work folder, compared with what is there."""

    def __init__(self, stages: Sequence[Stage], work: Work) -> None:
        if work.corpus is not None and not work.corpus.is_dir():
            raise DataError(f"--corpus {work.corpus}: no such folder")
        self.stages = tuple(stages)
        self.work = work
        self._marks = {stage.name: read_mark(self._path(stage)) for stage in stages}
        self._corpus: dict[str, str] | None = None

    def plan(self, stage: Stage) -> StagePlan:
        """Where a stage stands, and why."""
        if self._is_left_out(stage):
            return StagePlan(stage=stage, state="left out", reason="--corpus stands for it")
        mark = self._marks[stage.name]
        if mark is None:
            return StagePlan(stage=stage, state="to do", reason="not done yet")
        reason = difference(mark.inputs, self.inputs(stage)) or self._damage(mark)
        return StagePlan(stage=stage, state="changed" if reason else "done", reason=reason)

    def inputs(self, stage: Stage) -> dict[str, Any]:
        """All that the outcome of a stage depends on, as JSON values."""
        left_out = [path for o in self.stages if self._is_left_out(o) for path in o.outputs]
        needs = [need for need in stage.needs if not is_within(need, left_out)]
        named = named_files(self.work.config, stage.settings, stage.ignores)
        named = {k: path for k, path in named.items() if not self._is_made_by(stage, path)}
        reads_corpus = stage.reads_corpus or len(needs) < len(stage.needs)
        return {
            "version": stage.version,
            "settings": section_values(self.work.config, stage.settings, stage.ignores),
            "needs": {need: self._digest(need, stage) for need in needs}
            | {str(path): outside_identity(path) for path in stage.reads}
            | {f"what {key} names": _named_identity(key, path) for key, path in named.items()},
            "corpus": self._corpus_identity() if reads_corpus else None,
        }

    def open(self, stage: Stage) -> Path:
        """Forget that a stage is done, before it starts; returns where its mark will be."""
        path = self._path(stage)
        path.unlink(missing_ok=True)
        return path

    def close(self, stage: Stage, inputs: dict[str, Any]) -> None:
        """Mark a stage as done: the last thing that happens to it."""
        others = [path for other in self.stages if other is not stage for path in other.outputs]
        inner = [path for path in others if is_within(path, stage.outputs)]
        made = {}
        for path in stage.outputs:
            if path in stage.makes and not self.work.path(path).exists():
                raise AsrError(f"stage {stage.name} ended without making {self.work.path(path)}")
            for name in list_files(self.work.folder, path):
                if not is_within(name, inner):
                    made[name] = read_content(self.work.path(name))
        mark = StageMark(inputs=inputs, made=made)
        write_mark(mark, self._path(stage))
        self._marks[stage.name] = mark

    def _path(self, stage: Stage) -> Path:
        return self.work.folder / ".stages" / f"{stage.name}.json"

    def _is_left_out(self, stage: Stage) -> bool:
        return stage.fetches_corpus and self.work.corpus is not None

    def _is_made_by(self, stage: Stage, path: Path) -> bool:
        """Whether a path is one of a stage's own outputs.

        What a stage reads there and then replaces, as a model that it starts from, is not among
        its inputs: it would run again for ever.
        """
        top, path = self.work.folder.resolve(), path.resolve()
        if not path.is_relative_to(top):
            return False
        return is_within(path.relative_to(top).as_posix(), stage.outputs)

    def _damage(self, mark: StageMark) -> str:
        for name, content in mark.made.items():
            if not self.work.path(name).is_file():
                return f"{name} is missing"
            if self._sha256(name) != content.sha256:
                return f"{name} was changed"
        return ""

    def _digest(self, need: str, stage: Stage) -> str | None:
        """Of the files in `need`, without those that this stage or a later one puts there."""
        later = self.stages[self.stages.index(stage) :]
        added = [path for other in later for path in other.outputs]
        names = [n for n in list_files(self.work.folder, need) if not is_within(n, added)]
        return fingerprint({name: self._sha256(name) for name in names}) if names else None

    def _sha256(self, name: str) -> str:
        """From a mark where size and time are still the same, else from the file."""
        status = self.work.path(name).stat()
        for mark in self._marks.values():
            content = mark.made.get(name) if mark else None
            if content and (content.size, content.mtime_ns) == (status.st_size, status.st_mtime_ns):
                return content.sha256
        return read_content(self.work.path(name)).sha256

    def _corpus_identity(self) -> dict[str, str] | None:
        if self._corpus is None and self.work.corpus is not None:
            self._corpus = corpus_identity(self.work.corpus)
        return self._corpus


def read_mark(path: Path) -> StageMark | None:
    """A mark; None when there is none, or none of this form."""
    try:
        values = json.loads(read_file(path))
        made = {name: Content(*content) for name, content in values["made"].items()}
        return StageMark(inputs=values["inputs"], made=made)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_mark(mark: StageMark, path: Path) -> None:
    """Write a mark atomically."""
    made = {name: [c.size, c.mtime_ns, c.sha256] for name, c in sorted(mark.made.items())}
    with open_atomic(path) as file:
        json.dump({"inputs": mark.inputs, "made": made}, file, indent=1, ensure_ascii=False)


def read_content(path: Path) -> Content:
    """Read and hash a file."""
    status = path.stat()
    with open_regular(path) as file:
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


def _named_identity(key: str, path: Path) -> str | None:
    """Of what a setting names."""
    if key == _MODEL_SETTING:
        return model_folder.content_hash(model_folder.locate_model(path))
    if key == _NGRAMS_SETTING:
        path = locate_ngrams(path)
    return outside_identity(path)


def outside_identity(path: Path) -> str | None:
    """A hash of a file, or of the names, sizes and times of the files in a folder."""
    if path.is_dir():
        return corpus_identity(path)["files"]
    return read_content(path).sha256 if path.is_file() else None


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
    for top, files in walk_once(folder):
        inner = top.relative_to(folder)
        for name in files:
            if not name.startswith(".") and (top / name).is_file():
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
