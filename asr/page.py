"""Spectrograms and CTC posteriors as PNG, drawn by librosa."""

import base64
import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HOP = 0.01  # seconds between columns of the spectrogram
_FLOOR_DB = 80.0
_NUM_SYMBOLS = 12  # most likely ones, shown
_GREY = "#8a8f98"  # legible on white and on black


@dataclass(frozen=True, kw_only=True, slots=True)
class Posteriors:
    """What a CTC model thinks at every step."""

    probabilities: NDArray[np.float32]
    """[step, symbol]"""
    symbols: tuple[str, ...]
    step_seconds: float


def draw(samples: NDArray[np.float32], sample_rate: int, posteriors: Posteriors | None) -> str:
    """The spectrogram, with the posteriors below where there are some, as a data URI."""
    # matplotlib and librosa take a second to import, and only reports with audio need them.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    num_rows = 2 if posteriors is not None else 1
    figure = Figure(figsize=(9, 2.2 * num_rows), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    figure.patch.set_alpha(0)
    axes = figure.subplots(num_rows, 1, squeeze=False)[:, 0]
    _draw_spectrogram(samples, sample_rate, axes[0])
    if posteriors is not None:
        _draw_posteriors(posteriors, axes[1])
    for ax in axes:
        ax.tick_params(colors=_GREY, labelsize=8)
        ax.xaxis.label.set_color(_GREY)
        ax.yaxis.label.set_color(_GREY)
        for spine in ax.spines.values():
            spine.set_color(_GREY)
    png = io.BytesIO()
    with warnings.catch_warnings():
        # matplotlib's font has no letters of many scripts and draws boxes for them.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure.savefig(png, format="png", metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"


def _draw_spectrogram(samples: NDArray[np.float32], sample_rate: int, ax: "Axes") -> None:
    import librosa
    import librosa.display

    hop = max(1, round(sample_rate * _HOP))
    size = max(16, round(sample_rate * 0.025))
    padded = np.pad(samples, (0, max(0, size - len(samples))))
    power = np.abs(librosa.stft(padded, n_fft=size, hop_length=hop)) ** 2
    decibels = librosa.power_to_db(power, ref=np.max, top_db=_FLOOR_DB)
    librosa.display.specshow(
        decibels,
        sr=sample_rate,
        hop_length=hop,
        n_fft=size,
        x_axis="time",
        y_axis="linear",
        cmap="magma",
        ax=ax,
    )
    ax.set(xlabel="", ylabel="Hz")


def _draw_posteriors(posteriors: Posteriors, ax: "Axes") -> None:
    import librosa.display

    probabilities = posteriors.probabilities
    chosen = np.sort(np.argsort(-probabilities.max(axis=0), kind="stable")[:_NUM_SYMBOLS])
    shown = probabilities[:, chosen].T
    times = np.arange(len(probabilities)) * posteriors.step_seconds
    librosa.display.specshow(
        shown, x_coords=times, y_coords=np.arange(len(chosen)), cmap="Blues", vmin=0, vmax=1, ax=ax
    )
    ax.set_yticks(np.arange(len(chosen)), [_label(posteriors.symbols[index]) for index in chosen])
    ax.set(xlabel="seconds", ylabel="")


def _label(symbol: str) -> str:
    return symbol.replace(" ", "\N{OPEN BOX}").replace("$", r"\$")
