"""What a training run shows while it goes on: one screen on a terminal, lines elsewhere.

Both are told the same: the steps as they are taken, then the rows of `history.csv`. Neither looks
at the device. The screen is drawn between two steps, once a second, for at most a fiftieth of the
time.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from asr.errors import visible
from asr.progress import Report, format_seconds, is_terminal, track
from asr.scoring import UtteranceScore, errors
from asr.training.history import History, Pace, find_best

_T = TypeVar("_T")

_REFRESH_SECONDS = 1.0
_DRAWING_SHARE = 0.02  # of the time, at most
_MOST_FINDINGS = 3
_GAP = 3  # columns between two tables side by side
_OTHER_LINES = 24  # of the screen, beside the rows of epochs
_TRACE = 24  # epochs in a line of little bars
_BARS = "▁▂▃▄▅▆▇█"


class TrainingLines:
    """A line for each epoch, and dev utterances below it."""

    def __init__(
        self,
        epochs: int,
        num_steps: int,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.epochs, self.num_steps, self.report = epochs, num_steps, report
        self._clock = clock
        self.step = self._first = 0
        self._started: float | None = None

    def __enter__(self) -> "TrainingLines":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def time_left(self) -> str:
        """In words: what a step took on average, times those that are left."""
        taken = self.step - self._first
        if self._started is None or not taken:
            return "?"
        each = (self._clock() - self._started) / taken
        return format_seconds(each * (self.num_steps - self.step))

    def steps(
        self,
        plan: Sequence[_T],
        *,
        epoch: int,
        step: int,
        pace: Callable[[], Pace],  # noqa: ARG002
    ) -> Iterator[_T]:
        """The batches of epoch `epoch` (from 1) that are left; the first is the run's `step`."""
        label = f"epoch {epoch}/{self.epochs}"
        batches = track(plan, total=len(plan), label=label, unit="batches")
        return self._count(batches, step)

    def _count(self, batches: Iterable[_T], step: int) -> Iterator[_T]:
        if self._started is None:
            self._first, self._started = step, self._clock()
        self.step = step
        for batch in batches:
            yield batch
            self.step += 1

    def show(
        self, history: History, samples: Sequence[UtteranceScore], findings: Sequence[str]
    ) -> None:
        """Tell of an epoch, the last of `history`.

        Args:
            samples: dev utterances from the best to the worst; none if they were not scored.
            findings: what goes wrong, in words; those that are new have been reported.
        """
        del findings
        row = history[-1]
        line = f"epoch {row['epoch']}/{self.epochs}: "
        line += f"loss {row['loss']:.3f}" if "loss" in row else "before the first step"
        best = find_best(history)
        if "dev_wer" in row and best is not None:
            line += f", dev WER {row['dev_wer']:.2f} %, CER {row['dev_cer']:.2f} %"
            line += f" (best {best['dev_wer']:.2f} % at {best['epoch']:.0f})"
        self.report(line + (self._training_part(row) if "loss" in row else ""))
        for sample in samples:
            rate = sample.characters.rate or 0.0
            lines = (
                f"  {sample.id} (CER {rate:.0f} %)",
                f"    ref {sample.reference}",
                f"    hyp {sample.hypothesis}",
            )
            self.report("\n".join(map(visible, lines)))

    def _training_part(self, row: Mapping[str, float]) -> str:
        """Of an epoch's line, what its steps were like."""
        skipped = ""
        if row["skipped"]:
            skipped = f", {row['skipped']:.0f} skipped as too short for their text"
        norms = [f"{row[layer]:.2f}" for layer in _layers(row)]
        return (
            f"{skipped}; gradients {' '.join(norms)}; {row['real_time_factor']:.0f} x real time"
            f", {100 * row['data_wait']:.1f} % waiting for data; {self.time_left} left"
        )


class TrainingScreen(TrainingLines):
    """One screen that is drawn anew; lines that others print to stderr go above it."""

    def __init__(
        self,
        epochs: int,
        num_steps: int,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
        console: Console | None = None,
    ):
        super().__init__(epochs, num_steps, report, clock)
        self._console = console or Console(stderr=True)
        self._next_drawing = 0.0
        self._epoch, self._batch, self._num_batches = 1, 0, 1
        self._pace: Pace | None = None
        self._history: History = ()
        self._samples: Sequence[UtteranceScore] = ()
        self._findings: Sequence[str] = ()
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            get_renderable=self.draw,
            redirect_stdout=False,
            vertical_overflow="crop",
        )

    def __enter__(self) -> "TrainingScreen":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def steps(
        self, plan: Sequence[_T], *, epoch: int, step: int, pace: Callable[[], Pace]
    ) -> Iterator[_T]:
        """As `TrainingLines.steps`."""
        self._epoch = epoch
        self._num_batches = len(plan)
        for done, batch in enumerate(self._count(plan, step)):
            self._batch = done
            yield batch
            now = self._clock()
            if now >= self._next_drawing:
                self._pace = pace()
                self._live.refresh()
                drawing = self._clock() - now
                self._next_drawing = now + max(_REFRESH_SECONDS, drawing / _DRAWING_SHARE)
        self._batch, self._pace = len(plan), pace()
        self._live.refresh()

    def show(
        self, history: History, samples: Sequence[UtteranceScore], findings: Sequence[str]
    ) -> None:
        """As `TrainingLines.show`."""
        self._history, self._findings = history, findings
        self._samples = samples or self._samples
        self._live.refresh()

    def draw(self) -> RenderableType:
        """The whole screen, as it is now."""
        parts: list[RenderableType] = [self._progress()]
        if self._history:
            num_rows = max(3, self._console.height - _OTHER_LINES)
            epochs = epochs_table(self._history, num_rows)
            norms = norms_table(self._history)
            if self._width(epochs) + _GAP + self._width(norms) <= self._console.width:
                tables = Table.grid(padding=(0, _GAP))
                tables.add_row(epochs, norms)
                parts += [Text(), tables]
            else:
                row = self._history[-1]
                said = [f"{_layer_name(key)} {row[key]:.3g}" for key in _layers(row)]
                parts += [Text(), epochs, _line(f"gradients: {', '.join(said)}")]
        for finding in self._findings[-_MOST_FINDINGS:]:
            parts.append(_line(f"! {finding}", style="yellow"))
        for name, sample in zip(_names(len(self._samples)), self._samples, strict=True):
            rate = sample.characters.rate or 0.0
            parts.append(_line(f"{name} {sample.id}, CER {rate:.0f} %".lstrip(), style="dim"))
            parts += marked(sample)
        return Group(*parts)

    @property
    def _scored_epoch(self) -> float:
        """The last that is over."""
        return self._history[-1]["epoch"] if self._history else 0

    def _width(self, table: Table) -> int:
        """Columns that a table takes if nothing of it is cut."""
        return Measurement.get(self._console, self._console.options, table).maximum

    def _progress(self) -> RenderableType:
        grid = Table.grid(padding=(0, 2))
        percent = 100 * self.step / max(1, self.num_steps)
        grid.add_row(
            "run",
            ProgressBar(self.num_steps, self.step, width=40),
            f"{self.step} of {self.num_steps} steps, {percent:.0f} %",
            f"{self.time_left} left",
        )
        ended = self._batch >= self._num_batches
        grid.add_row(
            f"epoch {self._epoch}/{self.epochs}",
            ProgressBar(self._num_batches, self._batch, width=40),
            f"{self._batch} of {self._num_batches} batches",
            "scoring the dev set" if ended and self._scored_epoch < self._epoch else "",
        )
        pace = self._pace
        if pace is None:
            return grid
        line = Text(
            f"learning rate {pace.learning_rate:.2e}   {pace.real_time_factor:.0f} x real time   "
            f"{100 * pace.data_wait:.1f} % waiting for data"
        )
        return Group(grid, line)


def open_display(epochs: int, num_steps: int, report: Report) -> "TrainingLines | TrainingScreen":
    """A screen where stderr is a terminal, otherwise lines, which go to `report`."""
    kind = TrainingScreen if is_terminal() else TrainingLines
    return kind(epochs, num_steps, report)


def epochs_table(history: History, num_rows: int) -> Table:
    """The last epochs, and the best one; what fits 80 columns, `history.csv` has the rest."""
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("epoch", "loss", "dev loss", "WER %", "CER %", "rate"):
        table.add_column(name, justify="right", no_wrap=True)
    best = find_best(history)
    shown = list(history[-num_rows:])
    if best is not None and best not in shown:
        shown[0] = best
    for row in shown:
        table.add_row(
            f"{row['epoch']:.0f}{'*' if row is best else ' '}",
            _number(row, "loss", ".3f"),
            _number(row, "dev_loss", ".3f"),
            _number(row, "dev_wer", ".2f"),
            _number(row, "dev_cer", ".2f"),
            _number(row, "learning_rate", ".1e"),
            style="bold green" if row is best else "",
        )
    return table


def norms_table(history: History) -> Table:
    """Gradient norm of each layer in the last epoch, and how it came there."""
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("gradients", no_wrap=True)
    table.add_column("norm", justify="right", no_wrap=True)
    table.add_column("log scale", no_wrap=True, overflow="crop")
    for layer in _layers(history[-1]):
        values = [row[layer] for row in history[-_TRACE:] if layer in row]
        table.add_row(_layer_name(layer), f"{values[-1]:.3g}", trace(values))
    return table


def trace(values: Sequence[float]) -> str:
    """Positive numbers as a line of little bars, on a logarithmic scale."""
    logs = [math.log(value) if value > 0 and math.isfinite(value) else None for value in values]
    finite = [value for value in logs if value is not None]
    if not finite:
        return ""
    low, span = min(finite), max(max(finite) - min(finite), 1e-9)
    top = len(_BARS) - 1
    return "".join(" " if v is None else _BARS[round(top * (v - low) / span)] for v in logs)


def marked(sample: UtteranceScore) -> list[Text]:
    """Reference and hypothesis, each a line; words that differ are coloured."""
    reference, hypothesis = _line("  ref "), _line("  hyp ")
    for operation, said, heard in sample.pairs():
        right = operation == errors.CORRECT
        if said is not None:
            reference.append(f"{visible(said)} ", style="" if right else "red")
        if heard is not None:
            hypothesis.append(f"{visible(heard)} ", style="" if right else "green")
    return [reference, hypothesis]


def _names(count: int) -> list[str]:
    """What to call utterances that are spread from the best to the worst."""
    if count < 2:
        return ["best"][:count]
    names = ["best", *[""] * (count - 2), "worst"]
    if count % 2:
        names[count // 2] = "median"
    return names


def _layers(row: Mapping[str, float]) -> list[str]:
    return [key for key in row if key.startswith("gradient_")]


def _layer_name(column: str) -> str:
    return column.removeprefix("gradient_")


def _line(text: str, style: str = "") -> Text:
    return Text(visible(text), style=style, no_wrap=True, overflow="ellipsis")


def _number(row: Mapping[str, float], key: str, form: str) -> str:
    return format(row[key], form) if key in row else ""
