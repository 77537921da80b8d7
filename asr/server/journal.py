"""`reviewed.jsonl`: a manifest to which each decision is appended, and is on disk before it counts.

A row is an utterance as training takes it, or one without a text, of which nothing is learnt. Its
further keys say what was decided, when and by whom, and what stood there before.
"""

import contextlib
import io
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asr.corpus import manifest
from asr.errors import DataError
from asr.files import check_regular, open_atomic, read_file
from asr.server.replies import Refusal

if sys.platform != "win32":
    import fcntl

JournalRow = Mapping[str, Any]

SUBJECT = "stretch"
"""Key of a row: what was decided about. A subject may have several rows, which come together."""
_DECISION, _PART = "decision", "part"
_BEGINNING = b'{"id": "'  # of every line that is written here


class Journal:
    """The decisions in a file, which is this program's alone as long as it is open."""

    def __init__(self, path: Path):
        """Open it and read what is in it; of a write that was cut off nothing is kept.

        Raises:
            DataError: it cannot be written, is another server's, or was written by something else.
        """
        self.path = path
        self._lock = threading.Lock()
        self._rows: dict[str, list[JournalRow]] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._is_new = not path.exists()
            if not self._is_new:
                check_regular(path)
            self._file = self._open()
            try:
                self._size = self._read()
            except BaseException:
                self._file.close()
                raise
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}") from error

    @property
    def folder(self) -> Path:
        """In which it lies."""
        return self.path.parent

    def rows_of(self, subject: str) -> Sequence[JournalRow]:
        """What was decided about something; nothing if it is open."""
        return tuple(self._rows.get(subject, ()))

    def subjects(self) -> Mapping[str, Sequence[JournalRow]]:
        """All that was decided, in order."""
        with self._lock:
            return dict(self._rows)

    def names(self) -> set[str]:
        """The ids of all rows."""
        with self._lock:
            return {row["id"] for rows in self._rows.values() for row in rows}

    def put(self, subject: str, rows: Sequence[JournalRow]) -> None:
        """Keep a decision; it is on disk when this returns, in the place of an earlier one.

        Raises:
            Refusal: it could not be written; nothing has changed.
        """
        marked: list[JournalRow] = [
            {**row, SUBJECT: subject, **({_PART: [number, len(rows)]} if len(rows) > 1 else {})}
            for number, row in enumerate(rows, start=1)
        ]
        with self._lock:
            rest = {name: rows for name, rows in self._rows.items() if name != subject}
            try:
                if subject in self._rows or not self._is_there():
                    self._write_all({**rest, subject: marked})
                else:
                    self._append(marked)
            except OSError as error:
                text = f"{self.path.name}: not written: {error.strerror or error}"
                raise Refusal(503, text, code="no_room") from error
            self._rows = {**rest, subject: marked}

    def close(self) -> None:
        """Let another program have it; where nothing was decided, no empty file is left."""
        with self._lock:
            if not self._file.closed and self._rows:
                with contextlib.suppress(OSError, Refusal):
                    if not self._is_there():
                        self._write_all(self._rows)
            elif not self._file.closed and self._is_new:
                with contextlib.suppress(OSError, Refusal):
                    if self._is_there():
                        self.path.unlink()
            self._file.close()

    def _open(self) -> io.FileIO:
        file = self.path.open("ab", buffering=0)
        if sys.platform != "win32":
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.close()
                raise DataError(
                    f"{self.path}: another server writes to it; stop that, or name another file "
                    "with --reviewed"
                ) from error
        return file

    def _read(self) -> int:
        """Take what is in the file, without what was cut off; how many bytes that is."""
        content = read_file(self.path)
        size = content.rfind(b"\n") + 1
        tail = content[size:]
        if tail[: len(_BEGINNING)] != _BEGINNING[: len(tail)]:
            raise DataError(self._strange(content.count(b"\n") + 1))
        groups: dict[str, list[JournalRow]] = {}
        last = 0  # where the last decision begins
        place = 0
        for number, line in enumerate(content[:size].splitlines(keepends=True), start=1):
            row = manifest.parse_row(line, self.path, number)
            manifest.parse_line(line, self.path, number)
            subject = row.get(SUBJECT)
            if _DECISION not in row or not isinstance(subject, str):
                raise DataError(self._strange(number))
            last = last if subject in groups else place
            groups.setdefault(subject, []).append(row)
            place += len(line)
        if groups:
            subject, rows = list(groups.items())[-1]
            if rows[-1].get(_PART, [1, 1])[1] != len(rows):
                del groups[subject]
                size = last
        if size < len(content):
            self._file.truncate(size)
        self._rows = groups
        return size

    def _strange(self, number: int) -> str:
        return (
            f"{self.path}:{number}: not a decision of asr serve; name another file with --reviewed"
        )

    def _is_there(self) -> bool:
        """Whether the file has its name still.

        Raises:
            Refusal: another one has.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return False
        if os.path.samestat(status, os.fstat(self._file.fileno())):
            if status.st_size == self._size:
                return True
            text = f"{self.path.name} was changed by another program; start asr serve again"
        else:
            text = f"{self.path.name} was replaced by another program; move its file away"
        raise Refusal(503, text, code="changed")

    def _append(self, rows: Sequence[JournalRow]) -> None:
        content = _lines(rows)
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError:
            with contextlib.suppress(OSError):  # if not now, then when it is read again
                self._file.truncate(self._size)
            raise
        self._size += len(content)

    def _write_all(self, groups: Mapping[str, Sequence[JournalRow]]) -> None:
        """Write the file anew, whole or not at all."""
        content = b"".join(_lines(rows) for rows in groups.values())
        with open_atomic(self.path, "wb") as file:
            file.write(content)
        self._file.close()
        self._file = self._open()
        self._size = len(content)


def _lines(rows: Sequence[JournalRow]) -> bytes:
    lines = io.StringIO()
    for row in rows:
        manifest.write_row(lines, row)
    return lines.getvalue().encode()
