"""What files packed by gzip, bzip2 or xz hold; a few bytes may be a bomb, and so there are bounds.

Text shrinks to a tenth and audio hardly; zeros shrink to a thousandth.
"""

import bz2
import errno
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

from asr.files import open_regular

MAX_RATIO = 100
"""Unpacked by packed bytes, beyond `HARMLESS_BYTES`."""
HARMLESS_BYTES = 2**28
"""Unpacked bytes that are let be, however few they were."""
DAMAGES = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)
"""What is raised, besides OSError, where a packed file is damaged or ends early."""

_MARKS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))
_BUFFER = 2**17  # bytes


def open_unpacked(path: Path, *, bounded: bool = True) -> BinaryIO:
    """The bytes of a file, unpacked where its first bytes say that it is packed.

    Args:
        bounded: give up where there is far more than was packed; else the caller counts.

    Raises:
        OSError: as `open_regular`; when it is read, more than `MAX_RATIO` times its size; or one of
            `DAMAGES`.
    """
    file = open_regular(path)
    try:
        packed = file.seek(0, io.SEEK_END)
        file.seek(0)
        start = file.read(6)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    for mark, opened in _MARKS:
        if start.startswith(mark):
            unpacked = cast(BinaryIO, opened(file))
            most = max(HARMLESS_BYTES, MAX_RATIO * packed) if bounded else None
            return cast(BinaryIO, io.BufferedReader(_Unpacked(unpacked, file, most), _BUFFER))
    return file


class _Unpacked(io.RawIOBase):
    """A packed file that is closed with what unpacks it, and ends in an error at its bound."""

    def __init__(self, unpacked: BinaryIO, file: BinaryIO, most: int | None) -> None:
        self._unpacked = unpacked
        self._file = file
        self._most = most

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        return self._counted(self._unpacked.seek(position, whence))

    def tell(self) -> int:
        return self._unpacked.tell()

    def readinto(self, buffer: Any) -> int:
        content = self._unpacked.read(len(buffer))
        self._counted(self._unpacked.tell())
        buffer[: len(content)] = content
        return len(content)

    def _counted(self, position: int) -> int:
        if self._most is not None and position > self._most:
            reason = f"more than {self._most:,} bytes unpacked, {MAX_RATIO} times what is packed"
            raise OSError(errno.EFBIG, reason)
        return position

    def close(self) -> None:
        if not self.closed:
            self._unpacked.close()
            self._file.close()
        super().close()
