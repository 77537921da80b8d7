"""How far a transcription is: files, share of the audio, speed and time left, on stderr."""

import sys
import time
from collections.abc import Callable, Mapping

from asr.progress import format_seconds

_QUIET_SECONDS = 2.0
_LINE_SECONDS = 15.0
_BAR_SECONDS = 0.5


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
