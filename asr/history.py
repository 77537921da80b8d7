"""What a training run measured, epoch by epoch: a table and a picture."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asr.files import open_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_history(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """One row for each epoch; a value that an epoch does not have stays empty."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    with open_atomic(path) as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)


def read_history(path: Path) -> list[dict[str, float]]:
    """What `write_history` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def draw_curves(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """The picture, as a PNG."""
    figure_of(history).savefig(path, dpi=110, format="png")


def figure_of(history: Sequence[Mapping[str, float]]) -> "Figure":
    """Loss, dev error rates, gradient norms, learning rate and speed by epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 12), layout="constrained")
    losses, errors, norms, rates, speeds = figure.subplots(
        5, 1, sharex=True, height_ratios=[3, 3, 3, 2, 2]
    )
    _plot(losses, history, {"loss": "train (augmented)", "dev_loss": "dev"})
    losses.set(yscale="log", ylabel="loss (nats a token)")
    _plot(errors, history, {"dev_wer": "dev WER", "dev_cer": "dev CER"})
    errors.set(yscale="log", ylabel="errors (%)")
    layers = [key for key in history[-1] if key.startswith("gradient_")] if history else []
    _plot(norms, history, {key: key.removeprefix("gradient_") for key in layers})
    norms.set(yscale="log", ylabel="gradient norm (mean)")
    _plot(rates, history, {"learning_rate": "learning rate"}, least=0.0)
    rates.set(ylabel="at the epoch's end")
    _plot(speeds, history, {"real_time_factor": "audio seconds a second"}, least=0.0)
    speeds.set(ylabel="speed", xlabel="epoch", ylim=(0, None))
    for axes in (losses, errors, norms, rates, speeds):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(loc="upper right", fontsize="small")
    return figure


def _plot(
    axes: object,
    history: Sequence[Mapping[str, float]],
    labels: Mapping[str, str],
    least: float = 1e-2,
) -> None:
    for key, label in labels.items():
        # On a logarithmic axis a zero is drawn at the smallest rate that can be told from it.
        points = [(row["epoch"], max(row[key], least)) for row in history if key in row]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker=".")  # type: ignore[attr-defined]
