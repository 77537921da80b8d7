"""What a transcription leaves behind: each input's results, whose they are, and the failures."""

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asr.corpus import Utterance, recordings
from asr.errors import DataError, printable
from asr.progress import Progress, format_seconds

INPUTS = "inputs.jsonl"
"""In the output folder: of which input each result is."""

_TASK_INPUTS, _TASK_BYTES = 256, 32 * 2**20  # a quarter of an hour of 16 kHz in 16 bits
_BYTES_PER_SECOND = 32000
_FAILURES_HEADER = "input\terror\n"
_CHANNEL = re.compile(r"(.*)(-ch\d+)")


def result_path(output_dir: Path, stem: Path, kind: str) -> Path:
    """The file of one format."""
    return output_dir / stem.with_name(f"{stem.name}.{kind}")


def input_size(utterance: Utterance) -> float:
    """Bytes of the file, or what so many seconds of it would have at 16 kHz in 16 bits."""
    try:
        known = _BYTES_PER_SECOND * utterance.duration
        return known or float(utterance.audio_filepath.stat().st_size)
    except (OSError, ValueError):
        return 0.0


def task_starts(utterances: Sequence[Utterance]) -> list[int]:
    """Numbers of the utterances with which the tasks of a job begin.

    What a batch holds changes the last bits of its results. No batch holds utterances of two
    tasks, so a task gives the same bits wherever it is done.
    """
    starts: list[int] = []
    room = 0.0
    for number, utterance in enumerate(utterances):
        if not starts or room <= 0 or number - starts[-1] == _TASK_INPUTS:
            starts.append(number)
            room = _TASK_BYTES
        room -= input_size(utterance)
    return starts


def output_stems(utterances: Sequence[Utterance]) -> dict[str, Path]:
    """Where below the output folder each utterance's files go, without suffix; none collide.

    Paths lose the folders that all of them share. Two that differ in their suffix only keep it.
    """
    # abspath, so that no `..` in an id leads out of the output folder.
    paths = [Path(os.path.abspath(utterance.id)) for utterance in utterances]  # noqa: PTH100
    root = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    relative = [path.relative_to(root) for path in paths]
    counts = Counter(_without_suffix(path) for path in relative)
    stems: dict[str, Path] = {}
    taken: set[Path] = set()
    for utterance, path in zip(utterances, relative, strict=True):
        stem = _without_suffix(path)
        wanted = path if counts[stem] > 1 else stem
        stem, number = wanted, 1
        while stem in taken or not stem.name:
            number += 1
            stem = wanted.parent / f"{wanted.name}~{number}"
        taken.add(stem)
        stems[utterance.id] = stem
    return stems


def _without_suffix(path: Path) -> Path:
    found = _CHANNEL.fullmatch(path.name)
    name, channel = found.groups() if found else (path.name, "")
    own = Path(name)
    has_suffix = own.suffix.lower() in recordings.AUDIO_SUFFIXES
    return path.with_name(own.stem + channel) if has_suffix else path


def failures_path(folder: Path) -> Path:
    """`failures.tsv` in a folder; `failures.2.tsv` and so on where a file of that name is not ours.

    What is at the path, if anything, was written by `failure_lines`.
    """
    for number in itertools.count(1):
        path = folder / ("failures.tsv" if number == 1 else f"failures.{number}.tsv")
        if not os.path.lexists(path):
            break
        if path.is_file() and _first_line(path) == _FAILURES_HEADER.encode():
            break
    return path


def _first_line(path: Path) -> bytes:
    """Its beginning; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
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
            lines = self._path.read_bytes().splitlines()
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


def failure_lines(failures: Iterable[tuple[str, Exception]]) -> Iterator[str]:
    """Lines of `failures.tsv`: the input and what went wrong."""
    yield _FAILURES_HEADER
    for name, error in failures:
        yield f"{printable(name)}\t{printable(str(error))}\n"


class Meter:
    """Counts the audio of a job that is done, and shows how far the job is."""

    def __init__(self, sizes: Mapping[str, float], progress: Progress | None = None):
        """Begin to count.

        Args:
            sizes: of each input by id, in any unit that grows with its length, as bytes.
        """
        self._sizes = sizes
        self._total = sum(sizes.values())
        self._progress = progress or Progress("transcribing", rate="{:.0f} x real time")
        self._seconds: dict[str, float] = {}
        """Of inputs that are not finished."""
        self._shares: dict[str, float] = {}
        self._finished_seconds = self._finished_size = 0.0
        self.num_finished = 0

    def update(self, name: str, seconds: float, expected: float | None) -> None:
        """So many seconds of an input are done, of so many if that is known."""
        self._seconds[name] = seconds
        self._shares[name] = min(1.0, seconds / expected) if expected else 0.0
        self._show()

    def finish(self, name: str, seconds: float) -> None:
        """An input is done; it had so many seconds."""
        self._seconds.pop(name, None)
        self._shares.pop(name, None)
        self._finished_seconds += seconds
        self._finished_size += self._sizes[name]
        self.num_finished += 1
        self._show()

    def clear(self) -> None:
        """Take a bar away, before something else is written."""
        self._progress.hide()

    @property
    def _audio(self) -> float:
        return self._finished_seconds + sum(self._seconds.values())

    def summary(self) -> str:
        """What was done, and how fast."""
        elapsed = max(1e-9, self._progress.seconds)
        return (
            f"{format_seconds(self._audio)} of audio in {format_seconds(elapsed)}, "
            f"{self._audio / elapsed:.0f} x real time"
        )

    def _show(self) -> None:
        done = self._finished_size + sum(
            share * self._sizes[name] for name, share in self._shares.items()
        )
        self._progress.show(
            f"{self.num_finished} of {len(self._sizes)} inputs",
            share=done / self._total if self._total else 0.0,
            amount=self._audio,
        )
