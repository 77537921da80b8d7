"""Utterances and the JSON-lines manifests that list them, with NeMo's keys."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from asr.errors import DataError
from asr.files import open_atomic


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """A stretch of audio, and what was said in it."""

    id: str
    audio_filepath: Path
    duration: float
    """Seconds."""
    offset: float = 0.0
    """Seconds from the start of the file."""
    text: str | None = None
    speaker: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A line of a manifest."""

    utterance: Utterance
    row: Mapping[str, Any]
    """All its keys, as they stand; also those that have no meaning here."""


def read_manifest(path: Path) -> list[Utterance]:
    """The utterances of a manifest, in its order; relative audio paths are relative to it.

    A line without `id` gets its audio path, without suffix, as id.

    Raises:
        DataError: unreadable, a line that is not a JSON object, a missing key or bad value, or
            an id that occurs twice; with file and line.
    """
    return [entry.utterance for entry in read_entries(path)]


def read_entries(path: Path) -> Iterator[Entry]:
    """The lines of a manifest one by one, as `read_manifest` reads them.

    Raises:
        DataError: as `read_manifest`, when the line at fault is reached.
    """
    first_line: dict[str, int] = {}
    for number, row in read_rows(path):
        utterance = _utterance(row, path, number)
        earlier = first_line.setdefault(utterance.id, number)
        if earlier != number:
            raise DataError(
                f"{path}:{number}: id {utterance.id!r} stands in line {earlier} already; "
                "give each utterance an id of its own"
            )
        yield Entry(utterance=utterance, row=row)


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number (from 1) and JSON object of every line that is not blank.

    Raises:
        DataError: unreadable, not UTF-8, or a line that is not a JSON object.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, _json_object(line, path, number)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def write_manifest(utterances: Iterable[Utterance], path: Path) -> None:
    """Write atomically; audio below the manifest's folder is stored relative to it."""
    folder = path.parent.absolute()
    with open_atomic(path) as file:
        for utterance in utterances:
            write_row(file, _row(utterance, folder))


def write_row(file: IO[str], row: Mapping[str, Any]) -> None:
    """A line of a manifest."""
    file.write(json.dumps(row, ensure_ascii=False) + "\n")


def moved_row(entry: Entry, folder: Path) -> dict[str, Any]:
    """All keys of a line, for a manifest in another folder: the same audio under the same id."""
    audio = _stored_path(entry.utterance.audio_filepath, folder.absolute())
    return {"id": entry.utterance.id, **entry.row, "audio_filepath": audio}


def _json_object(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number}: not UTF-8 (byte {error.start})") from error
    except ValueError as error:
        raise DataError(f"{path}:{number}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{path}:{number}: a JSON object is expected")
    return row


def _utterance(row: dict[str, Any], path: Path, number: int) -> Utterance:
    where = f"{path}:{number}"
    audio = _text(row, "audio_filepath", where)
    if not audio:
        raise DataError(f"{where}: key audio_filepath is missing")
    utterance_id = _text(row, "id", where) or str(Path(audio).with_suffix(""))
    return Utterance(
        id=utterance_id,
        audio_filepath=path.parent / audio,
        duration=_seconds(row, "duration", where),
        offset=_seconds(row, "offset", where, default=0.0),
        text=_text(row, "text", where),
        speaker=_text(row, "speaker", where),
    )


def _text(row: dict[str, Any], key: str, where: str) -> str | None:
    value = row.get(key)
    if value is None or isinstance(value, str):
        return value
    raise DataError(f"{where}: {key} {value!r} is not text")


def _seconds(row: dict[str, Any], key: str, where: str, default: float | None = None) -> float:
    value = row.get(key, default)
    if value is None:
        raise DataError(f"{where}: key {key} is missing")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{where}: {key} {value!r} is not a number of seconds")
    if value < 0:
        raise DataError(f"{where}: {key} {value} is negative")
    return float(value)


def _row(utterance: Utterance, folder: Path) -> dict[str, Any]:
    row = {
        "id": utterance.id,
        "audio_filepath": _stored_path(utterance.audio_filepath, folder),
        "duration": round(utterance.duration, 6),
        "text": utterance.text,
        "speaker": utterance.speaker,
        "offset": round(utterance.offset, 6) or None,
    }
    return {key: value for key, value in row.items() if value is not None}


def _stored_path(audio: Path, folder: Path) -> str:
    audio = audio.absolute()
    return str(audio.relative_to(folder) if audio.is_relative_to(folder) else audio)
