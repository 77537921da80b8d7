"""How far something long is, with rate and time left, on stderr.

A bar on a terminal; elsewhere a plain line now and then. Nothing is shown in the first seconds, and
only the first of several processes shows something.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from asr.launch import find_launch

_T = TypeVar("_T")
Report = Callable[[str], None]
"""Takes a line of what is going on."""

_QUIET_SECONDS = 2.0
_LINE_SECONDS = 15.0
_BAR_SECONDS = 0.5


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


class Meter:
    """Counts audio. A line that is drawn anew on a terminal; elsewhere one now and then."""

    def __init__(
        self,
        sizes: Mapping[str, float],
        clock: Callable[[], float] = time.monotonic,
        write: Callable[[str], object] | None = None,
    ):
        """Begin to count.

        Args:
            sizes: of each input by id, in any unit that grows with its length, as bytes.
        """
        self._sizes = sizes
        self._total = sum(sizes.values())
        self._clock = clock
        self._write = write or sys.stderr.write
        self._is_terminal = write is None and sys.stderr.isatty()
        self._start = self._shown = clock()
        self._seconds: dict[str, float] = {}
        """Of inputs that are not finished."""
        self._shares: dict[str, float] = {}
        self._finished_seconds = self._finished_size = 0.0
        self.num_finished = 0

    def update(self, name: str, seconds: float, expected: float | None) -> None:
        """So many seconds of an input are done, of so many if that is known."""
        self._seconds[name] = seconds
        self._shares[name] = min(1.0, seconds / expected) if expected else 0.0
        self._show()

    def finish(self, name: str, seconds: float) -> None:
        """An input is done; it had so many seconds."""
        self._seconds.pop(name, None)
        self._shares.pop(name, None)
        self._finished_seconds += seconds
        self._finished_size += self._sizes[name]
        self.num_finished += 1
        self._show()

    def clear(self) -> None:
        """Remove the line from a terminal, before something else is written."""
        if self._is_terminal:
            self._write("\r\x1b[K")

    def summary(self) -> str:
        """What was done, and how fast."""
        elapsed = max(1e-9, self._clock() - self._start)
        audio = self._finished_seconds + sum(self._seconds.values())
        return (
            f"{format_seconds(audio)} of audio in {format_seconds(elapsed)}, "
            f"{audio / elapsed:.0f} x real time"
        )

    def _show(self) -> None:
        now = self._clock()
        wait = _BAR_SECONDS if self._is_terminal else _LINE_SECONDS
        if now - self._start < _QUIET_SECONDS or now - self._shown < wait:
            return
        self._shown = now
        text = self._line(now - self._start)
        self._write(f"\r{text}\x1b[K" if self._is_terminal else text + "\n")

    def _line(self, elapsed: float) -> str:
        audio = self._finished_seconds + sum(self._seconds.values())
        done = self._finished_size + sum(
            share * self._sizes[name] for name, share in self._shares.items()
        )
        text = f"transcribing: {self.num_finished} of {len(self._sizes)} inputs"
        if done and self._total:
            left = format_seconds(elapsed * (self._total - done) / done)
            text += f", {done / self._total:.0%}, {left} left"
        return f"{text}, {audio / elapsed:.0f} x real time"
