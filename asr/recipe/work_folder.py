"""A recipe's work folder: who may write there, and what killed runs have left."""

import errno
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from asr.config_files import write_config
from asr.errors import AsrError
from asr.files import open_atomic, remove_leftovers
from asr.recipe.stage import Stage, Work

if sys.platform != "win32":
    import fcntl

_LOCK = Path(".stages", "lock")


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep other runs out of a work folder; a killed process holds nothing."""
    path = folder / _LOCK
    path.parent.mkdir(exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        if sys.platform != "win32":
            try:
                # Not flock, which worker processes would inherit and keep when this one is killed.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
                file.seek(0)
                raise AsrError(
                    f"{folder}: another run (process {file.read().strip()}) is at work there; "
                    "wait for it, or give another folder with --work"
                ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def check_places(stages: Sequence[Stage], work: Work) -> None:
    """See that a folder in which no run was yet has nothing where this one writes."""
    if (work.folder / _LOCK).is_file():
        return
    # What is downloaded may be there, and is checked; nothing that is there gets another's name.
    outputs = [path for s in stages if not s.fetches_corpus for path in s.outputs]
    for name in ("config.yaml", "command.txt", ".stages", ".scratch", *outputs):
        path = work.path(name)
        if path.is_file() or path.is_symlink() or any(p.is_file() for p in path.rglob("*")):
            raise AsrError(
                f"{path}: was not made by asr run, which would write there; move it away, or give "
                "another folder with --work"
            )


def record_run(work: Work, command: str) -> None:
    """Write configuration and command beside what they make."""
    for name in ("config.yaml", "command.txt"):
        clear_leftovers(work.path(name))
    write_config(work.config, work.path("config.yaml"))
    with open_atomic(work.path("command.txt")) as file:
        file.write(f"{command}\n")


def discard(folder: Path) -> None:
    """Remove a folder that is to be there whole or not at all."""
    gone = folder.with_name(f"{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    if folder.exists():
        folder.rename(gone)
        shutil.rmtree(gone)


def clear_leftovers(path: Path) -> None:
    """Remove what a killed process left of writing `path`, or files in it, atomically."""
    remove_leftovers(path.parent, path.name)
    for folder, _, _ in os.walk(path):
        remove_leftovers(Path(folder))


@contextmanager
def system_errors(where: str) -> Iterator[None]:
    """Turn what the operating system refuses into a line that says where it happened."""
    try:
        yield
    except OSError as error:
        cause = " ".join(str(error.strerror or error).split())
        path = f": {error.filename}" if error.filename and str(error.filename) != where else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "; make room and give the same command again" if full else ""
        raise AsrError(f"{where}{path}: {cause}{remedy}") from error
