"""Functions compiled by Numba, whose code is kept on the disk where that can be done.

Numba by itself fails where it finds no folder to write to, where the disk is full and, from then
on, where a file of its cache is damaged. Here such a cache is as good as none. Numba does not see
either when what a function takes from another file has changed; here all their sources count.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile
from numba.core.serialize import dumps

from asr.files import read_file

_IMPORT = re.compile(rb"^from ([\w.]+) import ", re.MULTILINE)


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator: `numba.njit` with these options, without the interpreter's lock."""

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(nogil=True, **options)(function)
        # A RuntimeError says that no folder can be written to.
        with contextlib.suppress(RuntimeError, OSError):
            dispatcher._cache = _Cache(function)
        return dispatcher

    return decorate


_INLINED: dict[str, Any] = {
    "error_model": "numpy",
    "forceinline": True,
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
inlined = numba.njit(**_INLINED)
"""For functions that compiled ones call in an inner loop, and Python never.

Arguments are many arrays each: a call that stays a call costs as much as what it does. Their code
is part of their callers', so that neither a cache nor what Python would call them by is made.
"""


class _Code(CompileResultCacheImpl):  # type: ignore[misc, unused-ignore]
    """Compiled code as it is stored, with a digest: what is not what was stored must not run."""

    def reduce(self, data: Any) -> tuple[bytes, bytes]:
        code = dumps(super().reduce(data))
        return hashlib.sha256(code).digest(), code

    def rebuild(self, target_context: Any, reduced_data: tuple[bytes, bytes]) -> Any:
        digest, code = reduced_data
        if hashlib.sha256(code).digest() != digest:
            raise ValueError("damaged")
        return super().rebuild(target_context, pickle.loads(code))


class _Cache(FunctionCache):  # type: ignore[misc, unused-ignore]
    """Numba's cache of a function; what goes wrong with it costs time alone."""

    _impl_class = _Code

    def __init__(self, function: Callable[..., Any]):
        super().__init__(function)
        try:
            _check_owner(Path(self._cache_path))
        except PermissionError:
            folder = _own_folder(function)
            _check_owner(folder)
            self._cache_path = str(folder)
        self._cache_file = IndexDataCacheFile(
            cache_path=self._cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=_digest(function.__module__),
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        # Damaged pickles raise whatever they like.
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            with contextlib.suppress(OSError):
                self.flush()  # or it could not be written anew
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with contextlib.suppress(Exception):
            super().save_overload(sig, data)


def _check_owner(folder: Path) -> None:
    """Refuse a folder in which others may put code, which the digest beside it would not tell.

    Raises:
        PermissionError: it is another user's, or others may write to it.
    """
    if os.name != "posix":
        return
    status = folder.stat()
    # A user's own group, of the same number, has nobody else in it.
    others = stat.S_IWOTH | (stat.S_IWGRP if status.st_gid != status.st_uid else 0)
    if status.st_uid not in (os.getuid(), 0) or status.st_mode & others:
        raise PermissionError(f"{folder}: others may write here")


def _own_folder(function: Callable[..., Any]) -> Path:
    """In the user's cache, where nobody else writes, one for the functions of each source file."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    source = hashlib.sha256(os.fsencode(function.__code__.co_filename)).hexdigest()[:16]
    folder = cache / "asr" / f"{function.__module__}-{source}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@functools.cache
def _digest(module: str) -> str:
    """Of the sources of a module and of those of its package that it imports from."""
    package = module.partition(".")[0]
    sources: dict[str, bytes] = {}
    waiting = {module}
    while waiting:
        name = waiting.pop()
        path = getattr(sys.modules.get(name), "__file__", None)
        sources[name] = read_file(Path(path)) if path else b""
        imported = {match.decode() for match in _IMPORT.findall(sources[name])}
        waiting |= {other for other in imported if other.partition(".")[0] == package}
        waiting -= sources.keys()
    return hashlib.sha256(b"".join(sources[name] for name in sorted(sources))).hexdigest()
