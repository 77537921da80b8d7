"""Utterances and the JSON-lines manifests that list them, with NeMo's keys, packed by gzip or not.

All that reads or writes a manifest, or lines of JSON like it, does it by this module.
"""

import gzip
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Literal

from asr.errors import DataError
from asr.files import open_atomic, open_regular
from asr.text import lines, quoted
from asr.unpacking import DAMAGES, open_unpacked

_SUFFIXES = (".jsonl", ".json")
_PACKED = ".gz"
_MAX_SECONDS = 1e9
_MAX_LINE = 64 * 2**20  # bytes; a line beyond it is not a manifest's, or a bomb


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

    def certainty(self, key: Literal["confidence", "score"], path: Path) -> float:
        """How sure a machine is of the text; 1 where the line does not say, as of a person's.

        Args:
            path: of the manifest, for errors.

        Raises:
            DataError: it is no number.
        """
        value = self.row.get(key, 1.0)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        # NaN fails this, too, and an integer that no float holds.
        if not is_number or not abs(value) <= sys.float_info.max:
            raise DataError(f"{path}: {self.utterance.id}: {key} is no number")
        return float(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class BadLine:
    """A line of a manifest that is no utterance."""

    number: int
    """From 1."""
    kind: Literal["malformed", "repeated-id"]
    reason: str
    """With the key at fault."""


def is_manifest(path: Path) -> bool:
    """Whether a name is that of a manifest: `.jsonl` or `.json`, and `.gz` if it is packed."""
    return path.name.lower().removesuffix(_PACKED).endswith(_SUFFIXES)


def is_packed(path: Path) -> bool:
    """Whether a name is that of a file packed by gzip."""
    return path.name.lower().endswith(_PACKED)


def find_manifest(folder: Path, name: str) -> Path:
    """`NAME.jsonl` in a folder, or `NAME.jsonl.gz` where only that is there."""
    plain, packed = folder / f"{name}.jsonl", folder / f"{name}.jsonl{_PACKED}"
    return packed if packed.exists() and not plain.exists() else plain


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
    for entry in read_good_and_bad(path):
        if isinstance(entry, BadLine):
            raise DataError(f"{path}:{entry.number}: {entry.reason}")
        yield entry


def read_confidences(path: Path) -> Iterator[tuple[Utterance, float]]:
    """Utterances of a machine's texts with the `confidence` that each states; 1 of one without.

    Raises:
        DataError: as `read_manifest`, or a confidence that is no number.
    """
    for entry in read_entries(path):
        yield entry.utterance, entry.certainty("confidence", path)


def read_good_and_bad(path: Path) -> Iterator[Entry | BadLine]:
    """The lines of a manifest one by one; those that `read_manifest` stops at are told apart.

    Of an id that occurs twice the first line is good.

    Raises:
        DataError: the file cannot be read.
    """
    first_line: dict[str, int] = {}
    for number, line in unpacked_lines(path):
        try:
            row = parse_row(line, path, number)
            utterance = _utterance(row, path, number)
        except DataError as error:
            reason = str(error).removeprefix(f"{path}:{number}: ")
            yield BadLine(number=number, kind="malformed", reason=reason)
            continue
        earlier = first_line.setdefault(utterance.id, number)
        if earlier == number:
            yield Entry(utterance=utterance, row=row)
        else:
            reason = (
                f"id {utterance.id!r} stands in line {earlier} already; "
                "give each utterance an id of its own"
            )
            yield BadLine(number=number, kind="repeated-id", reason=reason)


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number (from 1) and JSON object of every line that is not blank.

    Raises:
        DataError: as `unpacked_lines`, not UTF-8, or a line that is not a JSON object.
    """
    for number, line in unpacked_lines(path):
        yield number, parse_row(line, path, number)


def parse_line(line: bytes, path: Path, number: int) -> Utterance:
    """The utterance of a line, which `path` and `number` name in errors.

    Raises:
        DataError: not a JSON object, a missing key or a bad value.
    """
    return _utterance(parse_row(line, path, number), path, number)


def write_manifest(
    utterances: Iterable[Utterance],
    path: Path,
    certainties: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> None:
    """Write a manifest atomically; audio below its folder is stored relative to it.

    Args:
        certainties: further keys, of how sure a machine is of a line, by the utterance's id.
    """
    folder = path.parent.absolute()
    with open_rows(path) as file:
        for utterance in utterances:
            write_row(file, {**row_of(utterance, folder), **certainties.get(utterance.id, {})})


@contextmanager
def open_rows(path: Path) -> Iterator[IO[str]]:
    """A file for `write_row` that is there whole or not at all; a `.gz` is packed.

    The same lines make the same bytes.
    """
    if not is_packed(path):
        with open_atomic(path) as plain:
            yield plain
        return
    with (
        open_atomic(path, "wb") as file,
        gzip.GzipFile("", "wb", mtime=0, fileobj=file) as packed,
        io.TextIOWrapper(packed, "utf-8", newline="\n") as rows,
    ):
        yield rows


def write_row(file: IO[str], row: Mapping[str, Any]) -> None:
    """Write a line of a manifest."""
    file.write(json.dumps(row, ensure_ascii=False) + "\n")


def row_of(utterance: Utterance, folder: Path) -> dict[str, Any]:
    """An utterance as a line of a manifest in a folder; keys without a value are left out."""
    row = {
        "id": utterance.id,
        "audio_filepath": _stored_path(utterance.audio_filepath, folder.absolute()),
        "duration": round(utterance.duration, 6),
        "text": utterance.text,
        "speaker": utterance.speaker,
        "offset": round(utterance.offset, 6) or None,
    }
    return {key: value for key, value in row.items() if value is not None}


def moved_row(entry: Entry, folder: Path) -> dict[str, Any]:
    """All keys of a line, for a manifest in another folder: the same audio under the same id."""
    audio = _stored_path(entry.utterance.audio_filepath, folder.absolute())
    return {"id": entry.utterance.id, **entry.row, "audio_filepath": audio}


def unpacked_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number (from 1) and bytes of the lines that are not blank; a `.gz` is unpacked.

    Of a line that is too long only the beginning is held, which `parse_row` refuses.

    Raises:
        DataError: the file cannot be read, or what packs it is damaged or ends early.
    """
    try:
        with open_unpacked(path) if is_packed(path) else open_regular(path) as file:
            number = 0
            while line := file.readline(_MAX_LINE):
                number += 1
                if not is_blank(line) or len(line) == _MAX_LINE:
                    yield number, line
                while len(line) == _MAX_LINE and not line.endswith(b"\n"):
                    line = file.readline(_MAX_LINE)
    except DAMAGES as error:
        raise DataError(f"{path}: gzip: truncated or damaged: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error


def is_blank(line: bytes) -> bool:
    """Whether there is nothing in a line but white space or a byte order mark."""
    return line.strip() in (b"", lines.BYTE_ORDER_MARK)


def parse_row(line: bytes, path: Path, number: int) -> dict[str, Any]:
    """The JSON object of a line, which `path` and `number` name in errors.

    Raises:
        DataError: it is not one.
    """
    if len(line) >= _MAX_LINE:
        raise DataError(f"{path}:{number}: a line of more than {_MAX_LINE} bytes")
    return parse_object(lines.decode_line(line, path, number), f"{path}:{number}")


def parse_object(text: str, where: str) -> dict[str, Any]:
    """The JSON object of a text; `where` names the place in errors.

    Raises:
        DataError: it is not one, or holds half of a surrogate pair.
    """
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: a JSON object is expected")
    if "\\ud" in text or "\\uD" in text:
        lines.refuse_surrogates(json.dumps(row, ensure_ascii=False), where)
    return row


def _utterance(row: dict[str, Any], path: Path, number: int) -> Utterance:
    where = f"{path}:{number}"
    audio = text_value(row, "audio_filepath", where)
    if not audio:
        raise DataError(f"{where}: key audio_filepath is missing")
    utterance_id = text_value(row, "id", where) or id_of_path(audio)
    return Utterance(
        id=utterance_id,
        audio_filepath=path.parent / audio,
        duration=seconds_value(row, "duration", where),
        offset=seconds_value(row, "offset", where, default=0.0),
        text=text_value(row, "text", where),
        speaker=text_value(row, "speaker", where),
    )


def text_value(row: Mapping[str, Any], key: str, where: str) -> str | None:
    """A key's text, or none where it is absent or null.

    Raises:
        DataError: it is not text; `where` names file and line.
    """
    value = row.get(key)
    if value is None or isinstance(value, str):
        return value
    raise DataError(f"{where}: {key} {quoted(value)} is not text")


def seconds_value(
    row: Mapping[str, Any],
    key: str,
    where: str,
    default: float | None = None,
    *,
    signed: bool = False,
) -> float:
    """A key's time in seconds, or `default` where it is absent or null.

    Raises:
        DataError: it is missing, no number, or negative unless `signed`; `where` names file and
            line.
    """
    value = row.get(key)
    if value is None:
        value = default
    if value is None:
        raise DataError(f"{where}: key {key} is missing")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) < _MAX_SECONDS:  # NaN is not less
        raise DataError(f"{where}: {key} {quoted(value)} is not a number of seconds")
    if value < 0 and not signed:
        raise DataError(f"{where}: {key} {value} is negative")
    return float(value)


def id_of_path(audio: str) -> str:
    """The id of an utterance that has none: the path of its audio without suffix."""
    path = Path(audio)
    return str(path.with_suffix("")) if path.name else audio


def _stored_path(audio: Path, folder: Path) -> str:
    audio = audio.absolute()
    return str(audio.relative_to(folder) if audio.is_relative_to(folder) else audio)
