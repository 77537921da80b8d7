"""What a transcription leaves in a folder: each input's files, whose they are, and the failures."""

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asr.corpus import recordings
from asr.errors import DataError, printable
from asr.files import open_atomic, open_regular, read_file, remove_leftovers
from asr.transcription.output import OUTPUT_FORMATS, SUFFIXES
from asr.transcription.sources import Failure, Source
from asr.transcription.transcript import Transcript

INPUTS = "inputs.jsonl"
"""In the output folder: of which input each result is."""

_FAILURES_HEADER = "input\terror\n"
_CHANNEL = re.compile(r"(.*)(-ch\d+)")


class ResultFolder:
    """The results of a job: a file for each input and format, each whole or not there."""

    def __init__(self, path: Path, kinds: Sequence[str]):
        """Read what is known of the folder, if it is there.

        Args:
            kinds: formats, of `OUTPUT_FORMATS`.
        """
        self.path, self._kinds = path, tuple(kinds)
        self._origins = Origins(path)
        self._stems: Mapping[str, Path] = {}

    def prepare(self, sources: Sequence[Source]) -> None:
        """Name the files of all inputs of a job, and remove what killed runs left beside them."""
        self._stems = output_stems([source.id for source in sources])
        for folder in {self.path, *(self._paths(source)[0].parent for source in sources)}:
            remove_leftovers(folder)

    def has(self, source: Source) -> bool:
        """Whether all results of an input are there.

        Raises:
            DataError: another input's are in their place.
        """
        return self._origins.are_there(self._paths(source), source.origin)

    def put(self, source: Source, transcript: Transcript) -> None:
        """Write the results of an input.

        Raises:
            OSError: a file cannot be written.
        """
        texts = [OUTPUT_FORMATS[kind](source.utterance, transcript) for kind in self._kinds]
        paths = self._paths(source)
        with self._origins.writing(paths, source.origin):
            for path, text in zip(paths, texts, strict=True):
                with open_atomic(path) as file:
                    file.write(text)

    def _paths(self, source: Source) -> list[Path]:
        stem = self._stems[source.id]
        suffixes = [SUFFIXES.get(kind, kind) for kind in self._kinds]
        return [self.path / stem.with_name(f"{stem.name}.{suffix}") for suffix in suffixes]


def output_stems(ids: Sequence[str]) -> dict[str, Path]:
    """Where below the output folder each input's files go, by ids, without suffix; none collide.

    Paths lose the folders that all of them share. Two that differ in their suffix only keep it.
    """
    # abspath, so that no `..` in an id leads out of the output folder.
    paths = [Path(os.path.abspath(name)) for name in ids]  # noqa: PTH100
    root = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    relative = [path.relative_to(root) for path in paths]
    counts = Counter(_without_suffix(path) for path in relative)
    stems: dict[str, Path] = {}
    taken: set[Path] = set()
    for name, path in zip(ids, relative, strict=True):
        stem = _without_suffix(path)
        wanted = path if counts[stem] > 1 else stem
        stem, number = wanted, 1
        while stem in taken or not stem.name:
            number += 1
            stem = wanted.parent / f"{wanted.name}~{number}"
        taken.add(stem)
        stems[name] = stem
    return stems


def _without_suffix(path: Path) -> Path:
    match = _CHANNEL.fullmatch(path.name)
    name, channel = match.groups() if match else (path.name, "")
    file = Path(name)
    has_suffix = file.suffix.lower() in recordings.AUDIO_SUFFIXES
    return path.with_name(file.stem + channel) if has_suffix else path


def write_failures(failures: Sequence[Failure], folder: Path) -> Path:
    """List failures in a folder's `failures.tsv`, or where there are none remove the list.

    Raises:
        OSError: it cannot be written; its name is in the error.
    """
    path = failures_path(folder)
    if not failures:
        path.unlink(missing_ok=True)
        return path
    try:
        with open_atomic(path) as file:
            file.write(_FAILURES_HEADER)
            for name, error in failures:
                file.write(f"{printable(name)}\t{printable(str(error))}\n")
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    return path


def failures_path(folder: Path) -> Path:
    """`failures.tsv` in a folder; `failures.2.tsv` and so on where a file of that name is not ours.

    What is at the path, if anything, was written by `write_failures`.
    """
    return path_of_list(folder, "failures", _FAILURES_HEADER)


def path_of_list(folder: Path, stem: str, header: str) -> Path:
    """`STEM.tsv` in a folder; `STEM.2.tsv` and so on where a file of that name has another header.

    Args:
        header: first line of such lists, by which they are known.
    """
    for number in itertools.count(1):
        path = folder / (f"{stem}.tsv" if number == 1 else f"{stem}.{number}.tsv")
        if not os.path.lexists(path):
            break
        if path.is_file() and _first_line(path) == header.encode():
            break
    return path


def _first_line(path: Path) -> bytes:
    """Its beginning; nothing where it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.readline(100)
    except OSError:
        return b""


class Origins:
    """Which audio each file of an output folder is of: a JSON object a line, the last one holds.

    Several jobs may write to the folder. A line that a killed one left unfinished makes the next
    one unreadable too; their files are then taken for results that were there before.
    """

    def __init__(self, folder: Path) -> None:
        """Read what is there."""
        self._path = folder / INPUTS
        self._rows: dict[str, Mapping[str, Any]] = {}
        try:
            lines = read_file(self._path).splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                row = json.loads(line)
                values = {**row["origin"], "done": row["done"]}
                self._rows |= dict.fromkeys(row["files"], values)
            except (ValueError, KeyError, TypeError):
                continue

    def are_there(self, paths: Sequence[Path], origin: Mapping[str, Any]) -> bool:
        """Whether these files are all there and finished.

        One that is not in the list, made by hand or before there was one, is taken as it is.

        Raises:
            DataError: one of them is of other audio.
        """
        rows = {path: self._rows.get(self._name(path)) for path in paths if path.exists()}
        for path, row in rows.items():
            if row is not None and (row["audio"] is None or row != {**origin, "done": row["done"]}):
                audio = printable(row["audio"] or "what came from stdin")
                raise DataError(
                    f"{printable(path)} is there, of {audio} or a part of it that differs; give "
                    "another --output-dir, or replace it by leaving out --skip-existing"
                )
        return len(rows) == len(paths) and all(row is None or row["done"] for row in rows.values())

    @contextmanager
    def writing(self, paths: Sequence[Path], origin: Mapping[str, Any]) -> Iterator[None]:
        """While files are written: the list says before whose they are, after that they are."""
        self._add(paths, origin, done=False)
        yield
        self._add(paths, origin, done=True)

    def _add(self, paths: Sequence[Path], origin: Mapping[str, Any], *, done: bool) -> None:
        names = [self._name(path) for path in paths]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"files": names, "origin": origin, "done": done}) + "\n")

    def _name(self, path: Path) -> str:
        return path.relative_to(self._path.parent).as_posix()
