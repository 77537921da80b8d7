"""What a training run measured, epoch by epoch: a table and a picture."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.files import open_atomic, read_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

History = Sequence[Mapping[str, float]]

_GREY = "#8a8f98"  # legible on white and on black


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How an epoch goes, so far."""

    learning_rate: float
    real_time_factor: float
    """Seconds of audio in a second."""
    data_wait: float
    """Share of the time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """A picture of some columns by epoch."""

    label: str
    lines: Mapping[str, str] = field(default_factory=dict)
    """Columns and what to call them; without any, those that begin with `prefix`."""
    prefix: str = ""
    logarithmic: bool = False


CURVES = (
    Curve(
        label="loss (nats a token)",
        lines={"loss": "train (augmented)", "dev_loss": "dev"},
        logarithmic=True,
    ),
    Curve(label="errors (%)", lines={"dev_wer": "dev WER", "dev_cer": "dev CER"}, logarithmic=True),
    Curve(label="gradient norm (mean)", prefix="gradient_", logarithmic=True),
    Curve(label="learning rate at the end", lines={"learning_rate": ""}),
    Curve(label="audio seconds a second", lines={"real_time_factor": ""}),
    Curve(label="share of time waiting for data", lines={"data_wait": ""}),
)


def write_history(history: History, path: Path) -> None:
    """One row for each epoch; a value that an epoch does not have stays empty."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    with open_atomic(path) as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)


def read_history(path: Path) -> list[dict[str, float]]:
    """What `write_history` wrote."""
    text = read_file(path).decode()
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return [{k: float(v) for k, v in row.items() if v} for row in rows]


def draw_curves(history: History, path: Path) -> None:
    """All curves in one picture, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.4 * len(CURVES)), layout="constrained")
    for axes, curve in zip(figure.subplots(len(CURVES), 1), CURVES, strict=True):
        _plot(axes, history, curve)
    figure.savefig(path, dpi=110, format="png")


def draw_curve(history: History, curve: Curve) -> bytes:
    """One of the curves as an SVG without a background, legible on light and on dark."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    colours = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    style: dict[Any, Any] = {**dict.fromkeys(colours, _GREY), "font.size": 9}
    with rc_context(style | {"svg.hashsalt": "asr"}):  # the same picture, the same file
        figure = Figure(figsize=(5, 2.8), layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        _plot(axes, history, curve)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


def find_best(history: History) -> Mapping[str, float] | None:
    """The epoch with the fewest dev errors, of equal ones the first; None if none was scored."""
    scored = [row for row in history if "dev_wer" in row]
    keys = ("dev_wer", "dev_cer", "dev_loss")
    return min(scored, key=lambda row: [row[key] for key in keys], default=None)


def _plot(axes: "Axes", history: History, curve: Curve) -> None:
    from matplotlib.ticker import MaxNLocator

    lines = curve.lines
    if not lines:
        columns = [key for key in (history[-1] if history else {}) if key.startswith(curve.prefix)]
        lines = {key: key.removeprefix(curve.prefix) for key in columns}
    # On a logarithmic axis a zero is drawn at the smallest rate that can be told from it.
    least = 1e-2 if curve.logarithmic else 0.0
    for key, label in lines.items():
        points = [(row["epoch"], max(row[key], least)) for row in history if key in row]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker=".")
    axes.set(ylabel=curve.label, xlabel="epoch")
    if curve.logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(0, None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if len(lines) > 1 and axes.lines:
        axes.legend(loc="upper right", fontsize="small", framealpha=0)
