"""What the network says of a long recording, kept on the disk; no torch.

Dimension names: step, token.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSegment:
    """Where the log-probabilities of a segment are, and what is most probable."""

    start: float
    """Seconds from the start of the recording."""
    row: int
    """Of the file, its first."""
    path: NDArray[np.int32]
    """The most probable token of each step, [step]."""
    best: NDArray[np.float32]
    """Its log-probability, [step]."""


class LogProbFile:
    """A file without name for log-probabilities, in 16 bits; it goes when it is closed."""

    def __init__(self) -> None:
        """Open the file."""
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._lock = Lock()
        self._num_rows = 0
        self._num_tokens = 0

    def close(self) -> None:
        """Give the room back."""
        self._file.close()

    def put(self, log_probs: NDArray[np.float32], start: float) -> StoredSegment:
        """Keep [step, token] of a segment that starts at a second; segments come in any order."""
        content = log_probs.astype(np.float16).tobytes()
        with self._lock:
            row, self._num_tokens = self._num_rows, log_probs.shape[1]
            self._num_rows += len(log_probs)
            self._file.write(content)
        return StoredSegment(
            start=start,
            row=row,
            path=log_probs.argmax(axis=1).astype(np.int32),
            best=log_probs.max(axis=1),
        )

    def get(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Some rows, [step, token]; those that follow one another are read at once."""
        parts = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        width = 2 * self._num_tokens
        contents = []
        for part in parts:
            self._file.seek(int(part[0]) * width)
            contents.append(self._file.read(len(part) * width))
        values = np.frombuffer(b"".join(contents), np.float16)
        return values.reshape(len(rows), self._num_tokens).astype(np.float32)


class Heard:
    """A recording as the network hears it."""

    def __init__(
        self,
        store: LogProbFile,
        segments: Sequence[StoredSegment],
        step_seconds: float,
        separator: int | None,
    ):
        """Put the segments of a recording in order.

        Args:
            separator: a token that is no sound.
        """
        self._store = store
        self.step_seconds = step_seconds
        empty = [np.zeros(0)]
        self._rows = np.concatenate(
            [np.zeros(0, np.int64), *(s.row + np.arange(len(s.path)) for s in segments)]
        )
        self.times: NDArray[np.float64] = np.concatenate(
            empty + [s.start + np.arange(len(s.path)) * step_seconds for s in segments]
        )
        """Seconds at which each step begins, [step]."""
        self.path: NDArray[np.int32] = np.concatenate(
            [np.zeros(0, np.int32), *(s.path for s in segments)]
        )
        """The most probable token of each step, [step]."""
        self.best: NDArray[np.float32] = np.concatenate(
            [np.zeros(0, np.float32), *(s.best for s in segments)]
        )
        """Its log-probability, [step]."""
        changes = np.diff(self.path, prepend=-1) != 0
        self.begins: NDArray[np.bool_] = changes & (self.path > 0)
        """Whether a token begins with a step, [step]."""
        sounds = self.begins & (self.path != (-1 if separator is None else separator))
        self._sound_times = self.times[sounds] + step_seconds / 2

    def log_probs(self, steps: NDArray[np.int64]) -> NDArray[np.float32]:
        """Of some steps, [step, token]."""
        return self._store.get(self._rows[steps])

    def step_at(self, seconds: float) -> int:
        """The first step that begins at a time or after it."""
        return int(np.searchsorted(self.times, seconds))

    def num_sounds(self, start: float, end: float) -> int:
        """Tokens that are heard between two times, in seconds."""
        first, last = np.searchsorted(self._sound_times, [start, end])
        return max(0, int(last - first))
