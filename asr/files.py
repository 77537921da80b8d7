"""Files and folders that are there whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def open_atomic(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file that takes the name `path` when the block ends well, and leaves nothing otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = None if "b" in mode else "utf-8"
    # Not longer than `path`, which may be as long as names can be.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:32]}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
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
def replace_folder(path: Path) -> Iterator[Path]:
    """An empty folder that takes the place of `path` when the block ends well.

    What was at `path` stays until then. What a killed process left is cleared away.
    """
    fresh = path.with_name(f".{path.name}.new")
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if path.exists():
        path.rename(old)
    fresh.rename(path)
    shutil.rmtree(old, ignore_errors=True)
