"""Folders that are there whole or not at all, and never in the place of a stranger's.

A folder that is replaced as a whole holds the list of its files (`.asr-files.json`): what is not in
it was put there by others. So does one to which files are added: they are claimed first.
"""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from asr.errors import AsrError
from asr.files import (
    is_temporary,
    locked,
    open_atomic,
    read_file,
    remove_leftovers,
    temporary_path,
)

LIST = ".asr-files.json"
"""In a folder: names of the files that it was written with, relative to it."""
_JOURNAL = ".asr-files.jsonl"
"""Beside the list while files are added one by one: their names, a line each, then removed."""
_NOBODYS = (".DS_Store", "Thumbs.db", "desktop.ini")  # which file managers leave where one looks


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
    fresh = temporary_path(path)
    fresh.mkdir(parents=True)
    with locked(fresh):
        try:
            yield fresh
            if not files:
                _write_list(fresh, _files_in(fresh))
            check_replaceable(path, files, optional)
            old = temporary_path(path)
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
        old = temporary_path(path)
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


def _files_in(folder: Path) -> Iterator[str]:
    """Names, relative to a folder, of all that is not a folder in it and below it."""

    def stop(error: OSError) -> None:
        raise error

    for top, folders, names in os.walk(folder, onerror=stop):
        inner = Path(top).relative_to(folder)
        links = [name for name in folders if (Path(top) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if not is_temporary(name))
        for name in sorted([*names, *links]):
            if name not in (LIST, _JOURNAL, *_NOBODYS) and not is_temporary(name):
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
