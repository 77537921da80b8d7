"""Counts for `/metrics`, as text in Prometheus's format (version 0.0.4)."""

import threading
from collections import defaultdict
from collections.abc import Callable

_DELAYS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Counters:
    """What a server did since its start; any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[tuple[str, int], int] = defaultdict(int)
        self._audio_seconds = 0.0
        self._delays = _Histogram(_DELAYS)
        self._batches = _Histogram(_SIZES)
        self.gauges: dict[str, tuple[str, Callable[[], float]]] = {}
        """What is read when it is asked for: by name, its meaning and its value."""

    def count_answer(self, path: str, status: int) -> None:
        """A request was answered."""
        with self._lock:
            self._answers[path, status] += 1

    def count_audio(self, seconds: float, delay: float) -> None:
        """So many seconds of audio were transcribed, so many seconds after they had come."""
        with self._lock:
            self._audio_seconds += seconds
            self._delays.add(delay)

    def count_batch(self, num_inputs: int) -> None:
        """The network heard so many inputs at once."""
        with self._lock:
            self._batches.add(num_inputs)

    def text(self) -> str:
        """All of it."""
        with self._lock:
            lines = _head("asr_requests_total", "counter", "Requests, by path and status.")
            lines += [
                f'asr_requests_total{{path="{path}",status="{status}"}} {count}'
                for (path, status), count in sorted(self._answers.items())
            ]
            lines += _head("asr_audio_seconds_total", "counter", "Seconds of audio transcribed.")
            lines.append(f"asr_audio_seconds_total {self._audio_seconds:.3f}")
            lines += self._delays.lines(
                "asr_delay_seconds", "From the last byte of a request to its transcript."
            )
            lines += self._batches.lines("asr_batch_inputs", "Stretches of audio heard at once.")
        for name, (meaning, value) in self.gauges.items():
            lines += [*_head(name, "gauge", meaning), f"{name} {value():g}"]
        return "\n".join(lines) + "\n"


class _Histogram:
    def __init__(self, bounds: tuple[float, ...]):
        self._bounds = bounds
        self._counts = [0] * len(bounds)
        self._count, self._sum = 0, 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts = [
            count + (value <= bound)
            for count, bound in zip(self._counts, self._bounds, strict=True)
        ]
        self._count += 1
        self._sum += value

    def lines(self, name: str, meaning: str) -> list[str]:
        """As a metric of that name."""
        return [
            *_head(name, "histogram", meaning),
            *(
                f'{name}_bucket{{le="{bound:g}"}} {count}'
                for bound, count in zip(self._bounds, self._counts, strict=True)
            ),
            f'{name}_bucket{{le="+Inf"}} {self._count}',
            f"{name}_sum {self._sum:.6f}",
            f"{name}_count {self._count}",
        ]


def _head(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
