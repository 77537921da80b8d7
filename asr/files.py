"""Files that are read once it is seen what they are, and written whole or not at all.

`open_regular` is the one door by which anything is opened to be read: a test forbids all others.

While it is written, a file or folder has a name of its own beside the one that it will take:
`.NAME.xxxxxxxx.asr-tmp` with eight hexadecimal digits. The writer holds a lock on it, so that what
a killed process left is told from what another one is at work on.
"""

import errno
import io
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from asr.errors import ModelError

if sys.platform != "win32":
    import fcntl

LARGEST_FILE = 2**30
"""Most bytes of a file that is held as a whole, where its reader says nothing else."""

_TEMPORARY = re.compile(r"\.(.*)\.[0-9a-f]{8}\.asr-tmp", re.DOTALL)
_MOST_CHARACTERS = 32  # of a name in its temporary name, which may be as long as names can be


def open_regular(path: Path, buffering: int = io.DEFAULT_BUFFER_SIZE) -> io.BufferedReader:
    """A file opened for reading, in bytes; a pipe, a device or a socket is refused at once.

    Names come from manifests and model folders, which may be anyone's. To open a pipe waits for
    ever, to open a device may do anything, and what it gives need not end.

    Raises:
        OSError: missing, unreadable, a folder, or not a regular file, as `strerror` says.
    """
    try:
        _check_kind(path, path.stat())
        flags = ("O_BINARY", "O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY")
        descriptor = os.open(path, os.O_RDONLY | sum(getattr(os, name, 0) for name in flags))
    except ValueError as error:
        raise OSError(errno.EINVAL, f"not a name of a file ({error})", str(path)) from error
    try:
        _check_kind(path, os.fstat(descriptor))  # it may have changed since
        return io.BufferedReader(io.FileIO(descriptor), buffering)
    except BaseException:
        os.close(descriptor)
        raise


def read_file(path: Path, max_bytes: int = LARGEST_FILE) -> bytes:
    """All of a file.

    Raises:
        OSError: as `open_regular`, or it is larger.
    """
    with open_regular(path) as file:
        is_larger = os.fstat(file.fileno()).st_size > max_bytes
        content = b"" if is_larger else file.read()
    if is_larger:
        raise OSError(errno.EFBIG, f"more than {max_bytes:,} bytes", str(path))
    return content


def check_regular(path: Path) -> Path:
    """The path, for a library that opens files by name.

    Raises:
        OSError: as `open_regular`.
    """
    open_regular(path).close()
    return path


@contextmanager
def open_atomic(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file that takes the name `path` when the block ends well, and leaves nothing otherwise.

    Permissions are those of any new file (the umask). A link at `path` is replaced, and the file
    that it points to stays as it was. What is no file, as a device, a pipe or the program's own
    stdout, is written to as the block goes on, through links too.

    Args:
        mode: "w" for text in UTF-8, or "wb".

    Raises:
        OSError: it cannot be written, or `path` is a folder.
    """
    encoding = None if "b" in mode else "utf-8"
    stream = _open_stream(path, mode, encoding)
    if stream is not None:
        with stream:
            yield stream
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        temporary.touch(exist_ok=False)
        with locked(temporary):
            with temporary.open(mode, encoding=encoding) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def walk_once(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder and those in it, each with the names of its files; hidden folders are left out.

    Links are followed, but no folder is visited twice: with two links to a folder above them, paths
    without end lead to each file.
    """
    visited = {os.path.realpath(folder)}
    for top, folders, files in os.walk(folder, followlinks=True):
        real = {name: os.path.realpath(Path(top) / name) for name in sorted(folders)}
        folders.clear()
        for name, place in real.items():
            if not name.startswith(".") and place not in visited:
                visited.add(place)
                folders.append(name)
        yield Path(top), files


def check_inside(folder: Path, name: str, where: str = "") -> None:
    """Refuse a file that is not in a model folder, and links out of it.

    A model folder may come from anyone, and what is read as one of its files may be shown.

    Args:
        where: begins the message.

    Raises:
        ModelError: the name leads out of the folder.
    """
    if not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise ModelError(
            f"{where}{folder / name} is not in the model folder; put the file itself there"
        )


def temporary_path(path: Path) -> Path:
    """A name beside `path`, for what will take its place."""
    name = f".{path.name[:_MOST_CHARACTERS]}.{secrets.token_hex(4)}.asr-tmp"
    return path.with_name(name)


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is being written, or was left by a killed process."""
    return _TEMPORARY.fullmatch(name) is not None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Have other processes know that this one is at work; without effect where locks are not."""
    if sys.platform == "win32":  # where a file that is open cannot be removed
        yield
        return
    descriptor = _open_for_lock(path)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left in a folder, not below it; of writing `name`, or of all.

    What a process still writes stays, and so does what cannot be removed.
    """
    wanted = None if name is None else name[:_MOST_CHARACTERS]
    try:
        paths = list(folder.iterdir())
    except OSError:
        return
    for path in paths:
        match = _TEMPORARY.fullmatch(path.name)
        if match and wanted in (None, match[1]) and _is_abandoned(path):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()


def _check_kind(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        reason = "not a regular file, but a pipe or a device; put what it gives into a file"
        raise OSError(errno.EINVAL, reason, str(path))


def _open_stream(path: Path, mode: str, encoding: str | None) -> IO[Any] | None:
    """What is at `path`, opened, where it is something that cannot be replaced by a file."""
    try:
        status = path.stat()
    except OSError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    for stream in (sys.stdout, sys.stderr):
        # Opened by its name, a file that the shell made stdout would be written from its start.
        with suppress(OSError, AttributeError, ValueError):
            if os.path.samestat(status, os.fstat(stream.fileno())):
                stream.flush()
                return os.fdopen(os.dup(stream.fileno()), mode, encoding=encoding)
    return None if stat.S_ISREG(status.st_mode) else path.open(mode, encoding=encoding)


def _is_abandoned(path: Path) -> bool:
    """Whether no process holds the lock of a temporary file or folder."""
    if sys.platform == "win32":
        return True
    try:
        descriptor = _open_for_lock(path)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


if sys.platform != "win32":

    def _open_for_lock(path: Path) -> int:
        # By NFS only what may be written can be locked.
        access = os.O_RDONLY if path.is_dir() else os.O_RDWR
        return os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK)
