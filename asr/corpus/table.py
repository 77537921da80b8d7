"""A manifest of any length as a sequence: lines stay in the file and are parsed when asked for.

Ten million utterances as objects take over five gigabytes; where their lines begin takes 80 MB. A
packed manifest is unpacked into a temporary file that has no name, so that nothing stays of it.
"""

import hashlib
import io
import mmap
import os
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Literal, overload

import numpy as np
from numpy.typing import NDArray

from asr.corpus.manifest import (
    Utterance,
    is_blank,
    is_packed,
    parse_line,
    parse_row,
    text_value,
    unpacked_lines,
)
from asr.errors import DataError
from asr.files import open_regular

_MAX_BYTES = 2**36  # hundreds of millions of utterances
_PROBED = 64  # bytes that tell nearly always that a line is not blank


class ManifestTable(Sequence[Utterance]):
    """The utterances of a manifest by their place in it; blank lines have none.

    Equal to `read_manifest`'s list. Not to be written to while it is open.
    """

    def __init__(self, path: Path):
        """Find the lines of a manifest.

        Raises:
            DataError: unreadable; of a packed one also a line that is no JSON object.
        """
        self.path = path
        try:
            if is_packed(path):
                with tempfile.TemporaryFile() as file:
                    self._starts, self._numbers = _unpack(path, file)
                    self._content = _mapped(file)
            else:
                with open_regular(path) as file:
                    if file.seek(0, io.SEEK_END) > _MAX_BYTES:
                        raise DataError(f"{path}: more than {_MAX_BYTES:,} bytes")
                    self._content = _mapped(file)
                self._starts, self._numbers = _find_lines(self._content)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from error

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, place: int) -> Utterance: ...
    @overload
    def __getitem__(self, place: slice) -> list[Utterance]: ...
    def __getitem__(self, place: int | slice) -> Utterance | list[Utterance]:
        """An utterance, or those of a slice.

        Raises:
            DataError: its line is malformed; with file and line.
        """
        if isinstance(place, slice):
            return [self._parse(index) for index in range(*place.indices(len(self)))]
        index = int(place) + len(self) if place < 0 else int(place)
        if not 0 <= index < len(self):
            raise IndexError(f"utterance {place} of {len(self)}")
        return self._parse(index)

    def __iter__(self) -> Iterator[Utterance]:
        return (self._parse(index) for index in range(len(self)))

    def column(self, key: Literal["text", "speaker"]) -> Iterator[str | None]:
        """A text of every utterance: a third of the time that whole utterances take.

        Raises:
            DataError: a line that is no JSON, or where it is no text; with file and line.
        """
        for index in range(len(self)):
            line, number = self._line(index), int(self._numbers[index])
            row = parse_row(line, self.path, number)
            yield text_value(row, key, f"{self.path}:{number}")

    def check(self) -> None:
        """Parse every line once.

        Raises:
            DataError: a malformed line, or an id that occurs twice; with file and line.
        """
        digests = np.empty(len(self), np.uint64)
        for index, utterance in enumerate(self):
            digest = hashlib.blake2b(utterance.id.encode(), digest_size=8).digest()
            digests[index] = int.from_bytes(digest, "little")
        order = np.argsort(digests, kind="stable")
        twins = np.flatnonzero(digests[order[1:]] == digests[order[:-1]])
        for place in twins.tolist():
            earlier, later = order[place], order[place + 1]
            if self[earlier].id == self[later].id:
                raise DataError(
                    f"{self.path}:{self._numbers[later]}: id {self[later].id!r} stands in line "
                    f"{self._numbers[earlier]} already; give each utterance an id of its own"
                )

    def _parse(self, index: int) -> Utterance:
        return parse_line(self._line(index), self.path, int(self._numbers[index]))

    def _line(self, index: int) -> bytes:
        start = int(self._starts[index])
        end = self._content.find(b"\n", start)
        return self._content[start : end if end >= 0 else len(self._content)]


def _mapped(file: IO[bytes]) -> mmap.mmap | bytes:
    is_empty = not file.seek(0, os.SEEK_END)
    return b"" if is_empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _find_lines(content: mmap.mmap | bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the lines that are not blank start, and their numbers from 1."""
    starts, numbers = array("q"), array("q")
    position = number = 0
    while position < len(content):
        end = content.find(b"\n", position)
        end = len(content) if end < 0 else end
        number += 1
        if not is_blank(content[position : min(end, position + _PROBED)]) or (
            end - position > _PROBED and not is_blank(content[position:end])
        ):
            starts.append(position)
            numbers.append(number)
        position = end + 1
    return np.frombuffer(starts, np.int64), np.frombuffer(numbers, np.int64)


def _unpack(path: Path, file: IO[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Write the lines of a packed manifest that are not blank; returns as `_find_lines`."""
    starts, numbers = array("q"), array("q")
    position = 0
    for number, line in unpacked_lines(path):
        parse_row(line, path, number)  # what is no manifest shall not fill the disk
        starts.append(position)
        numbers.append(number)
        position += file.write(line)
    file.flush()
    return np.frombuffer(starts, np.int64), np.frombuffer(numbers, np.int64)
