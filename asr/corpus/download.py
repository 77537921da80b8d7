"""Downloads that can be resumed, and archives that are unpacked without trusting them."""

import hashlib
import http.client
import lzma
import os
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import IO, Literal, cast

from asr.errors import DataError
from asr.files import open_regular
from asr.folders import replace_folder
from asr.unpacking import open_unpacked

# Well above any corpus of the recipes; a bomb is beyond it.
MAX_BYTES = 100 * 2**30
MAX_MEMBERS = 1_000_000

# Audio hardly shrinks and text to a tenth; zeros shrink to a thousandth. Below 1 GiB all is let be.
_MAX_RATIO = 100
_HARMLESS_BYTES = 2**30
_MAX_PADDING = 2**26  # bytes behind the end mark of a tar archive
_MAX_HEADERS = 2**30  # bytes of all headers of a tar archive, where there is a KiB for each member
_CHUNK_BYTES = 2**20
_BLOCK = 512  # bytes of tar
_TIMEOUT = 30.0  # seconds without an answer
_CHECKSUMS = {32: "MD5", 64: "SHA-256"}  # by the number of their digits

_DAMAGES = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(RuntimeError, ValueError),  # zipfile's for encrypted members, and for names with a null byte
)

_Kind = Literal["file", "folder", "other"]


def download(url: str, path: Path, checksum: str | None = None, max_bytes: int = MAX_BYTES) -> None:
    """Fetch `url` to `path`, going on from `<path>.part` where an earlier attempt stopped.

    A `path` that exists is not fetched again, but its checksum is checked; it may be the user's,
    and stays whatever it is.

    Args:
        checksum: SHA-256, or MD5 where no other is published; hexadecimal.

    Raises:
        DataError: no network, an answer other than the file, more bytes than the limit, or
            another checksum.
    """
    if not path.exists():
        part = path.with_name(f"{path.name}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            _fetch(url, part, max_bytes)
        except (OSError, http.client.HTTPException) as error:
            raise DataError(
                f"{url}: cannot be downloaded: {_reason(error)}; try again, or get it by other "
                "means and name the folder with --corpus DIR"
            ) from error
        digest = _other_checksum(part, checksum)
        if digest is not None:
            part.unlink()  # the next attempt must not go on from it
            raise DataError(f"{url}: {digest}; what came was removed, try again")
        part.replace(path)
    else:
        digest = _other_checksum(path, checksum)
        if digest is not None:
            raise DataError(f"{path}: {digest}; move it away, and it is fetched again from {url}")


def extract(
    archive: Path, folder: Path, max_bytes: int = MAX_BYTES, max_members: int = MAX_MEMBERS
) -> None:
    """Unpack a zip or tar archive (compressed or not) so that it is `folder`, whole or not at all.

    Only files and folders are made, and not by `tarfile`: its filter against hostile members came
    with Python 3.11.4, and can be got round in many a release after it (CVE-2025-4517). Modes
    and owners are not taken over. What was unpacked at `folder` before is replaced.

    Raises:
        DataError: not an archive, damaged, cut off, encrypted, larger than the limits or 1 GiB and
            a hundred times its size, or with a member that is a link or a device or would be
            outside of `folder`.
        AsrError: in `folder` there are files that were not unpacked there.
    """
    num_bytes = 0
    try:
        packed = archive.stat().st_size
        most = min(max_bytes, max(_MAX_RATIO * packed, _HARMLESS_BYTES))
        with replace_folder(folder) as fresh:
            for num_members, member in enumerate(_members(archive, most), start=1):
                # Before anything is written; neither format yields more than the size it states.
                num_bytes += member.num_bytes
                if num_bytes > most:
                    raise DataError(f"{archive}: more than {most} bytes unpacked, {packed} packed")
                if num_members > max_members:
                    raise DataError(f"{archive}: more than {max_members} members")
                _write(member, fresh, archive)
    except _DAMAGES as error:
        raise DataError(f"{archive}: cannot be unpacked: {_reason(error)}") from error


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    num_bytes: int
    kind: _Kind
    open: Callable[[], IO[bytes] | None]


def content_sha256(paths: Iterable[Path]) -> str:
    """One checksum of the names and contents of files, whatever archive they came in.

    That of what `LC_ALL=C sha256sum *` prints in their folder.
    """
    lines = []
    for path in sorted(paths, key=lambda path: path.name):
        with open_regular(path) as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _write(member: _Member, folder: Path, archive: Path) -> None:
    path = _inside(folder, member.name)
    if path is None:
        raise DataError(f"{archive}: member {member.name!r} would be outside of its folder")
    if member.kind == "other":
        raise DataError(f"{archive}: member {member.name!r} is a link or a device")
    if member.kind == "folder":
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    source = member.open()
    assert source is not None  # a regular file
    with source, path.open("wb") as file:
        shutil.copyfileobj(source, file, _CHUNK_BYTES)


def _fetch(url: str, part: Path, max_bytes: int) -> None:
    num_have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={num_have}-"} if num_have else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        # All of it is there already, or the file has changed: begin again.
        part.unlink()
        _fetch(url, part, max_bytes)
        return
    with response:
        resumed = response.status == HTTPStatus.PARTIAL_CONTENT
        if resumed and not response.headers["Content-Range"].startswith(f"bytes {num_have}-"):
            raise OSError("the server answers with another part of the file than was asked for")
        with part.open("ab" if resumed else "wb") as file:
            num_expected = response.headers.get("Content-Length")
            num_before = file.tell()
            states_more = num_before + int(num_expected or 0) > max_bytes
            if states_more or not _copy(response, file, max_bytes):
                part.unlink()  # the next attempt must not go on from it
                raise DataError(f"{url}: not downloaded: larger than {max_bytes} bytes")
            num_missing = int(num_expected or 0) - (file.tell() - num_before)
            file.flush()
            os.fsync(file.fileno())
    if num_missing > 0:
        raise OSError(f"the connection ended {num_missing} bytes early")


def _copy(source: IO[bytes], file: IO[bytes], max_bytes: int) -> bool:
    """Append, unless the file would exceed its limit; says whether all of it was copied."""
    while chunk := source.read(_CHUNK_BYTES):
        if file.tell() + len(chunk) > max_bytes:
            return False
        file.write(chunk)
    return True


def _other_checksum(path: Path, checksum: str | None) -> str | None:
    """What a file's checksum is, in words, where it is not the one expected."""
    if checksum is None:
        return None
    name = _CHECKSUMS[len(checksum)]
    with open_regular(path) as file:
        digest = hashlib.file_digest(file, name.replace("-", "").lower()).hexdigest()
    return None if digest == checksum else f"{name} is {digest}, expected {checksum}"


def _members(archive: Path, max_bytes: int) -> Iterator[_Member]:
    """In the order of the archive; each is to be read before the next is asked for."""
    if _is_zip(archive):
        with open_regular(archive) as packed, zipfile.ZipFile(packed) as source:
            for entry in source.infolist():
                yield _Member(
                    entry.filename, entry.file_size, _zip_kind(entry), partial(source.open, entry)
                )
        return
    with open_unpacked(archive, bounded=False) as file:
        stream = _TarStream(file, max_bytes + _MAX_HEADERS)
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:") as tar:
            for header in tar:
                kind: _Kind = "folder" if header.isdir() else "file" if header.isreg() else "other"
                yield _Member(header.name, header.size, kind, partial(tar.extractfile, header))
        stream.finish()


class _TarStream:
    """A file for `tarfile`, which reads headers of any size, and goes back for a negative one."""

    def __init__(self, file: IO[bytes], max_bytes: int) -> None:
        self._file = file
        self._max_bytes = max_bytes
        self._last = b""

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, position: int) -> None:
        if position < self._file.tell():
            raise tarfile.ReadError("a member of a negative size")
        self._file.seek(position)

    def read(self, size: int) -> bytes:
        if size > _CHUNK_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self._last = self._file.read(size)
        if self._file.tell() > self._max_bytes:
            raise tarfile.ReadError(f"more than {self._max_bytes} bytes with its headers")
        return self._last

    def finish(self) -> None:
        """Check what `tarfile` does not: that it ended at the end mark, and the checksum after it.

        It takes a damaged header, and the end of the file, for the end of the archive.
        """
        if self._last != bytes(_BLOCK):
            raise tarfile.ReadError("damaged or cut off: there is no end mark after the members")
        end = self.tell()
        while self.read(_CHUNK_BYTES):
            if self.tell() > end + _MAX_PADDING:
                raise tarfile.ReadError(f"more than {_MAX_PADDING} bytes behind its end mark")


def _is_zip(archive: Path) -> bool:
    with open_regular(archive) as file:
        return zipfile.is_zipfile(file)


def _zip_kind(entry: zipfile.ZipInfo) -> _Kind:
    mode = stat.S_IFMT(entry.external_attr >> 16)
    if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "other"
    return "folder" if entry.is_dir() else "file"


def _inside(folder: Path, name: str) -> Path | None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        return None
    return folder / path


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        error = error.reason if isinstance(error.reason, OSError) else error
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
