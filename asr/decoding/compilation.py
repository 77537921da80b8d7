"""Functions compiled by Numba, whose code is kept on the disk where that can be done.

Numba by itself fails where it finds no folder to write to, where the disk is full and, from then
on, where a file of its cache is damaged. Here such a cache is as good as none.
"""

import contextlib
import hashlib
import pickle
from collections.abc import Callable
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.serialize import dumps


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator: `numba.njit` with these options, without the interpreter's lock."""

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = numba.njit(nogil=True, **options)(function)
        # A RuntimeError says that no folder can be written to.
        with contextlib.suppress(RuntimeError, OSError):
            dispatcher._cache = _Cache(function)
        return dispatcher

    return decorate


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
