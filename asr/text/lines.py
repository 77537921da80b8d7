"""Lines of a text file that others wrote: decoded strictly, numbered, and named in errors."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from asr.errors import DataError
from asr.files import read_file
from asr.unpacking import DAMAGES, open_unpacked

Line = tuple[int, str]
"""Number, from 1, and text without its end."""

_MAX_SECONDS = 1e9  # thirty years
_MAX_LINE = 2**26  # bytes; a line beyond it is no sentence, or a bomb
_SHOWN = 60  # characters of a line that an error quotes
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What some programs begin a text in UTF-8 with."""
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class UniqueIds:
    """Ids of a file, each allowed once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[str, int] = {}

    def add(self, utterance_id: str, number: int) -> None:
        """Note an id and its line.

        Raises:
            DataError: another line has it.
        """
        earlier = self._lines.setdefault(utterance_id, number)
        if earlier != number:
            raise DataError(
                f"{self.path}:{number}: id {utterance_id} stands in line {earlier} already; "
                "give each utterance an id of its own"
            )


def read_lines(path: Path) -> list[Line]:
    """The lines that are not blank, without LF, CR LF or byte order mark.

    Raises:
        DataError: unreadable, not UTF-8, or a carriage return inside a line.
    """
    try:
        content = read_file(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    return list(_decoded(content.split(b"\n"), path))


def stream_lines(path: Path) -> Iterator[Line]:
    """The same lines one after the other, and of a file packed by gzip, bzip2 or xz.

    Raises:
        DataError: as `read_lines`, or what packs the file is damaged or ends early.
    """
    try:
        with open_unpacked(path) as file:
            lines = (line.removesuffix(b"\n") for line in _short_lines(file, path))
            yield from _decoded(lines, path)
    except DAMAGES as error:
        packer = "xz" if path.suffix == ".xz" else "gzip"
        raise DataError(f"{path}: {packer}: truncated or damaged: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error


def decode_line(line: bytes, path: Path, number: int) -> str:
    """The text of a line, the first one's without byte order mark.

    Args:
        line: with or without its end.
        path: of the file, which errors name, as they do the number.
        number: from 1.

    Raises:
        DataError: not UTF-8, or a zero byte; with how to convert the file.
    """
    if number == 1:
        if line.startswith(_UTF16_MARKS):
            raise DataError(f"{path}:1: not UTF-8; {_how_to_convert(path, 'UTF-16')}")
        line = line.removeprefix(BYTE_ORDER_MARK)
    if b"\0" in line:
        raise DataError(
            f"{path}:{number}: not text, a zero byte; if it is UTF-16, "
            f"{_how_to_convert(path, 'UTF-16LE')}"
        )
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{number}: not UTF-8 (byte {error.start + 1} of the line); "
            f"{_how_to_convert(path, 'ISO-8859-1')}, or from the encoding that it has"
        ) from error


def refuse_surrogates(text: str, where: str) -> None:
    """Refuse a text that no file can hold.

    Raises:
        DataError: half of a surrogate pair is in it; `where` names the place.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: half of a surrogate pair is not a character") from error


def quoted(value: object) -> str:
    """A line or another value, or its beginning, as an error shows it."""
    return repr(_shortened(value)) if isinstance(value, str) else _shortened(repr(value))


def parse_seconds(text: str, where: str) -> float:
    """A time that is not negative, and that a recording may have.

    Raises:
        DataError: anything else; `where` names the place.
    """
    if not re.fullmatch(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,2})?", text):
        raise DataError(f"{where}: {quoted(text)} is not a time in seconds")
    seconds = float(text)
    if not seconds < _MAX_SECONDS:
        raise DataError(f"{where}: {quoted(text)} is too long a time in seconds")
    return seconds


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def _short_lines(file: IO[bytes], path: Path) -> Iterator[bytes]:
    number = 0
    while line := file.readline(_MAX_LINE):
        number += 1
        if len(line) == _MAX_LINE:
            raise DataError(f"{path}:{number}: a line of more than {_MAX_LINE} bytes")
        yield line


def _decoded(lines: Iterable[bytes], path: Path) -> Iterator[Line]:
    for number, line in enumerate(lines, start=1):
        text = decode_line(line, path, number).removesuffix("\r")
        if "\r" in text:
            raise DataError(
                f"{path}:{number}: a carriage return inside a line; lines end in a line feed, "
                "or in both"
            )
        if text.strip():
            yield number, text


def _how_to_convert(path: Path, encoding: str) -> str:
    if path.suffix in (".gz", ".xz"):
        return f"unpack it, and convert it with iconv -f {encoding} -t UTF-8"
    return f"convert it: iconv -f {encoding} -t UTF-8 {path.name} > converted{path.suffix}"
