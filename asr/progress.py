"""How far something long is, with rate and time left, on stderr.

A bar on a terminal; elsewhere a plain line now and then. Nothing is shown in the first seconds, and
only the first of several processes shows something.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from asr.launch import find_launch

_T = TypeVar("_T")
Report = Callable[[str], None]
"""Takes a line of what is going on."""

_QUIET_SECONDS = 2.0
_LINE_SECONDS = 15.0


def silent(line: str) -> None:
    """Report to nobody."""
    del line


def is_terminal() -> bool:
    """Whether stderr is a terminal on which lines can be drawn anew."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def track(items: Iterable[_T], *, total: int, label: str, unit: str) -> Iterator[_T]:
    """The items, one by one, while the progress through `total` of them is shown."""
    if find_launch().rank:
        return iter(items)
    if is_terminal():
        return _track_with_bar(items, total, label)
    return _track_with_lines(items, total, label, unit)


def _track_with_bar(items: Iterable[_T], total: int, label: str) -> Iterator[_T]:
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, label, total, console=Console(stderr=True), transient=True)


def _track_with_lines(items: Iterable[_T], total: int, label: str, unit: str) -> Iterator[_T]:
    start = last = time.monotonic()
    for count, item in enumerate(items):
        now = time.monotonic()
        if now - start > _QUIET_SECONDS and now - last > _LINE_SECONDS and count:
            last = now
            rate = count / (now - start)
            left = format_seconds((total - count) / rate)
            message = f"{label}: {count} of {total} {unit}, {rate:.1f} a second, {left} left"
            sys.stderr.write(message + "\n")
        yield item


def format_seconds(seconds: float) -> str:
    """A duration as people say it: `45 s`, `3 min 20 s`, `2 h 05 min`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
