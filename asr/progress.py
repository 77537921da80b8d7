"""How far something long is, with rate and time left.

A bar on stderr where that is a terminal; elsewhere a line in the log now and then. Nothing is shown
in the first two seconds, and only the first of several processes shows something.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from asr.launch import find_launch

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

_T = TypeVar("_T")
Report = Callable[[str], None]
"""Takes a line of what is going on."""

_QUIET_SECONDS = 2.0
_LINE_SECONDS = 15.0
_BAR_SECONDS = 0.5

_log = logging.getLogger(__name__)


def silent(line: str) -> None:
    """Report to nobody."""
    del line


def is_terminal() -> bool:
    """Whether stderr is a terminal on which lines can be drawn anew."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def format_seconds(seconds: float) -> str:
    """A duration as people say it: `45 s`, `3 min 20 s`, `2 h 05 min`."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


def track(
    items: Iterable[_T],
    *,
    total: int,
    label: str,
    unit: str,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[_T]:
    """The items, one by one, while the progress through `total` of them is shown."""
    with Progress(label, clock=clock) as progress:
        for count, item in enumerate(items):
            if count:
                progress.show(
                    f"{count} of {total} {unit}", share=count / max(count, total), amount=count
                )
            yield item


class Progress:
    """Shows how far something is; a context, at whose end the bar is taken away."""

    def __init__(
        self,
        label: str,
        *,
        rate: str = "{:.1f} a second",
        clock: Callable[[], float] = time.monotonic,
        console: "Console | None" = None,
    ):
        """Begin.

        Args:
            label: what is done.
            rate: how an amount in a second is written.
            console: takes the bar, in place of a terminal at stderr.
        """
        self._label, self._rate, self._clock, self._console = label, rate, clock, console
        # With `asr -q` there is no bar either.
        self._is_shown = not find_launch().rank and _log.isEnabledFor(logging.WARNING)
        self._has_bar = console is not None or is_terminal()
        self._start = self._shown = clock()
        self._live: Live | None = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.hide()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self._clock() - self._start

    def show(self, count: str, *, share: float, amount: float) -> None:
        """Say where it is, if it is time to.

        Args:
            count: what is done of what, in words.
            share: of the whole, 0 to 1; 0 where nobody knows.
            amount: from which the rate is computed.
        """
        now = self._clock()
        wait = _BAR_SECONDS if self._has_bar else _LINE_SECONDS
        if now - self._start < _QUIET_SECONDS or now - self._shown < wait or not self._is_shown:
            return
        self._shown = now
        elapsed = now - self._start
        parts = [count]
        if share:
            left = format_seconds(elapsed * (1 - share) / share)
            parts += [f"{share:.0%}", f"{left} left"]
        parts.append(self._rate.format(amount / elapsed))
        if self._has_bar:
            self._draw(share, parts)
        else:
            _log.info("%s: %s", self._label, ", ".join(parts))

    def hide(self) -> None:
        """Take the bar away until it is shown again, before something else is written."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _draw(self, share: float, parts: list[str]) -> None:
        # rich is imported where there is something to draw: a short job starts without it.
        from rich.live import Live

        if self._live is None:
            self._live = Live(
                console=self._console or _stderr_console(),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
            )
            self._live.start()
        self._live.update(_bar(self._label, share, parts), refresh=True)


def _stderr_console() -> "Console":
    from rich.console import Console

    return Console(stderr=True)


def _bar(label: str, share: float, parts: list[str]) -> "Table":
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for _ in range(2 + len(parts)):
        grid.add_column(no_wrap=True)
    grid.add_row(Text(label), ProgressBar(1.0, share, width=20), *map(Text, parts))
    return grid
