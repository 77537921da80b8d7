"""Files and folders that are there whole or not at all, and never in the place of a stranger's.

`open_regular` is the one door by which anything is opened to be read: a test forbids all others.

While it is written, a file or folder has a name of its own beside the one that it will take:
`.NAME.xxxxxxxx.asr-tmp` with eight hexadecimal digits. The writer holds a lock on it, so that what
a killed process left is told from what another one is at work on. A folder that is replaced as a
whole holds the list of its files (`.asr-files.json`): what is not in it was put there by others.
"""

import errno
import io
import json
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from asr.errors import AsrError, ModelError

if sys.platform != "win32":
    import fcntl

LIST = ".asr-files.json"
"""In a folder: names of the files that it was written with, relative to it."""
_JOURNAL = ".asr-files.jsonl"
"""Beside the list while files are added one by one: their names, a line each, then removed."""

LARGEST_FILE = 2**30
"""Most bytes of a file that is held as a whole, where its reader says nothing else."""

_TEMPORARY = re.compile(r"\.(.*)\.[0-9a-f]{8}\.asr-tmp", re.DOTALL)
_MOST_CHARACTERS = 32  # of a name in its temporary name, which may be as long as names can be
_NOBODYS = (".DS_Store", "Thumbs.db", "desktop.ini")  # which file managers leave where one looks


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
    temporary = _temporary(path)
    try:
        temporary.touch(exist_ok=False)
        with _locked(temporary):
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


@contextmanager
def replace_folder(
    path: Path, files: Collection[str] = (), optional: Collection[str] = ()
) -> Iterator[Path]:
    """An empty folder that takes the place of `path` when the block ends well.

    What was at `path` stays until then. What a killed process left is cleared away. Where `path` is
    a link to a folder, that folder is replaced.

    Args:
        files: as `check_replaceable`; such a folder gets no list.
        optional: as `check_replaceable`.

    Raises:
        AsrError: as `check_replaceable`, before the block and once more after it.
    """
    if path.is_symlink() or path.name in ("", ".."):
        path = Path(os.path.realpath(path))
    check_replaceable(path, files, optional)
    remove_leftovers(path.parent, path.name)
    fresh = _temporary(path)
    fresh.mkdir(parents=True)
    with _locked(fresh):
        try:
            yield fresh
            if not files:
                _write_list(fresh, _files_in(fresh))
            check_replaceable(path, files, optional)
            old = _temporary(path)
            if path.exists():
                path.rename(old)
            try:
                fresh.rename(path)
            except OSError:
                if old.exists():
                    old.rename(path)
                raise
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
    shutil.rmtree(old, ignore_errors=True)


def remove_folder(path: Path, files: Collection[str] = (), optional: Collection[str] = ()) -> None:
    """Remove a folder at once, if there is one; args and errors are `check_replaceable`'s."""
    check_replaceable(path, files, optional)
    if path.is_dir():
        path = Path(os.path.realpath(path))
        old = _temporary(path)
        path.rename(old)
        shutil.rmtree(old)


def check_replaceable(
    path: Path, files: Collection[str] = (), optional: Collection[str] = ()
) -> None:
    """See that nothing of the user's is lost when the folder `path` is replaced.

    That is so where nothing is at `path`, or a folder without files or with those of its list.

    Args:
        files: what folders of this kind always consist of. One with just these needs no list.
        optional: what there may be beside them.

    Raises:
        AsrError: a file is at `path`, or in the folder there is one of another origin; it is named.
    """
    if not path.is_dir():
        if path.exists():
            raise AsrError(f"{path}: is a file; name a folder")
        return
    listed = _read_list(path) or ()
    present = set()
    for name in _files_in(path):
        if _is_within(name, listed):
            continue
        if name not in (*files, *optional):
            _refuse(path, name)
        present.add(name)
    if present and not present.issuperset(files):
        _refuse(path, min(present))


def check_listed_folders(path: Path) -> None:
    """`check_replaceable` for `path` and the folders below it, as far as they have a list."""
    for top, _, names in os.walk(path):
        if LIST in names:
            check_replaceable(Path(top))


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


def claim(path: Path, top: Path) -> None:
    """Add `path`, which is about to be written, to the lists of the folders below `top` it is in.

    Raises:
        AsrError: it is there already, and in a list it is not.
    """
    for folder in path.parents:
        if folder == top:
            return
        listed = _read_list(folder)
        name = path.relative_to(folder).as_posix()
        if listed is not None and not _is_within(name, listed):
            if path.exists():
                _refuse(folder, name)
            remove_leftovers(folder, LIST)
            _write_list(folder, [*listed, name])


def claim_names(folder: Path, names: Collection[str]) -> None:
    """Add files that are about to be written to a folder, which may hold others, to its list.

    What killed processes left in the folder is cleared away.

    Raises:
        AsrError: one of them is there already, and in a list it is not.
    """
    remove_leftovers(folder)
    listed = _read_list(folder) or set()
    for name in names:
        if not _is_within(name, listed) and os.path.lexists(folder / name):
            _refuse(folder, name, "overwritten")
    if not listed.issuperset(names):
        _write_list(folder, listed.union(names))


@contextmanager
def claiming(folder: Path) -> Iterator[Callable[[Path], None]]:
    """`claim_names` for many files, each named when its turn comes; listed when the block is done.

    What a killed process had written is its own still: names are in a journal before the files are.

    Raises:
        AsrError: from the function: as `claim_names`.
    """
    remove_leftovers(folder)
    listed = _read_list(folder) or set()
    flags = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")  # a link or a pipe may lie in its place
    flag = os.O_WRONLY | os.O_CREAT | os.O_APPEND | sum(getattr(os, name, 0) for name in flags)
    descriptor = os.open(folder / _JOURNAL, flag, 0o666)
    try:
        with os.fdopen(descriptor, "a", encoding="utf-8") as journal:

            def claim(path: Path) -> None:
                name = path.relative_to(folder).as_posix()
                if _is_within(name, listed):
                    return
                if os.path.lexists(path):
                    _refuse(folder, name, "overwritten")
                listed.add(name)
                journal.write(f"{json.dumps(name)}\n")
                journal.flush()

            yield claim
    finally:
        if listed:
            _write_list(folder, listed)
        (folder / _JOURNAL).unlink(missing_ok=True)


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


def _temporary(path: Path) -> Path:
    name = f".{path.name[:_MOST_CHARACTERS]}.{secrets.token_hex(4)}.asr-tmp"
    return path.with_name(name)


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


@contextmanager
def _locked(path: Path) -> Iterator[None]:
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


def _files_in(folder: Path) -> Iterator[str]:
    """Names, relative to a folder, of all that is not a folder in it and below it."""

    def stop(error: OSError) -> None:
        raise error

    for top, folders, names in os.walk(folder, onerror=stop):
        inner = Path(top).relative_to(folder)
        links = [name for name in folders if (Path(top) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if not _TEMPORARY.fullmatch(name))
        for name in sorted([*names, *links]):
            if name not in (LIST, _JOURNAL, *_NOBODYS) and not _TEMPORARY.fullmatch(name):
                yield (inner / name).as_posix()


def _read_list(folder: Path) -> set[str] | None:
    """None where there is none; the names of a journal that a killed process left are in it."""
    try:
        names = json.loads(read_file(folder / LIST))
    except (OSError, ValueError, RecursionError):
        names = None
    added = list(_journal_names(folder))
    if not isinstance(names, list):
        return set(added) if added else None
    return {name for name in (*names, *added) if isinstance(name, str)}


def _journal_names(folder: Path) -> Iterator[str]:
    try:
        lines = read_file(folder / _JOURNAL).splitlines()
    except OSError:
        return
    for line in lines:
        with suppress(ValueError, RecursionError):  # the last one may have been cut
            name = json.loads(line)
            if isinstance(name, str):
                yield name


def _write_list(folder: Path, names: Collection[str] | Iterator[str]) -> None:
    with open_atomic(folder / LIST) as file:
        json.dump(sorted(names), file, indent=0)


def _is_within(name: str, listed: Collection[str]) -> bool:
    """Whether a name, or a folder that it is in, is in a list."""
    parts = name.split("/")
    return any("/".join(parts[:count]) in listed for count in range(1, len(parts) + 1))


def _refuse(folder: Path, name: str, fate: str = "replaced") -> NoReturn:
    raise AsrError(
        f"{folder}: would be {fate}, but asr did not write {name!r} in it; move that away, or "
        "name another folder"
    )
