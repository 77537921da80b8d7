"""What all HTML pages have in common: their shell, histograms, facts about a model, and pictures.

A page is one file that fetches nothing: styles and scripts are inside, and its policy forbids
everything but pictures and sound. Templates escape all that comes from files. Templates, styles and
scripts stand in `asr/assets`.
"""

import base64
import hashlib
import io
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from asr.progress import format_seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Facts = Mapping[str, list[tuple[str, str]]]
"""Groups of label and value."""

_POLICY = (
    "default-src 'none'; img-src data:; media-src data: file: 'self'; style-src 'unsafe-inline'"
)
_HOP = 0.01  # seconds between columns of the spectrogram
_FLOOR_DB = 80.0
_NUM_SYMBOLS = 12  # most likely ones, shown
_GREY = "#8a8f98"  # legible on white and on black


@dataclass(frozen=True, kw_only=True, slots=True)
class Bars:
    """A histogram as a page shows it."""

    title: str
    counts: tuple[int, ...]
    names: tuple[str, ...]
    """What each bar counts; shown where it is pointed at."""
    marks: tuple[str, ...]
    """Below the bars: one for each, or fewer that are spread from the left to the right end."""
    caption: str

    @property
    def marked_each(self) -> bool:
        """Whether every bar has a mark of its own; then its count stands above it."""
        return len(self.marks) == len(self.counts)


def render_template(
    template: str, title: str, *, script: str | None = None, **values: object
) -> str:
    """A page.

    Args:
        template: name of a file in `asr/assets`, which extends `shell.html`.
        title: plain text.
        script: name of a file there; the only one that the page may run.
        values: what the template asks for.
    """
    policy = _POLICY
    source = None
    if script is not None:
        source = _asset(script)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
    return (
        _environment()
        .get_template(template)
        .render(
            title=title,
            policy=Markup(policy),
            style=Markup(_asset("page.css")),
            script=None if source is None else Markup(source),
            **values,
        )
    )


def render_text(template: str, **values: object) -> str:
    """A template of `asr/assets` that is a page by itself, with files of its own beside it."""
    return _environment().get_template(template).render(**values)


def describe_origin(origin: Mapping[str, object]) -> Facts:
    """What `training.json` says, in words and units, by what it is about: result, model, data.

    What has no words of its own stands with the model, under its key.
    """
    groups: dict[str, list[tuple[str, str]]] = {"Result": [], "Model": [], "Data": []}
    for key, (group, label, form) in _ORIGIN.items():
        if key in origin:
            groups[group].append((label, _in_words(origin[key], form)))
    others = [(key, value) for key, value in origin.items() if key not in _ORIGIN]
    groups["Model"] += [(key.replace("_", " "), str(value)) for key, value in others]
    return groups


def _in_words(value: object, form: Callable[[float], str] | None) -> str:
    if form is None:
        return str(value)
    # A report has texts, and training.json may have been written by another version.
    try:
        return form(float(str(value)))
    except (ValueError, OverflowError):
        return str(value)


def _percent(rate: float) -> str:
    return f"{rate:.2f} %"


def _count(number: float) -> str:
    return f"{number:,.0f}"


_ORIGIN: Mapping[str, tuple[str, str, Callable[[float], str] | None]] = {
    "dev_wer": ("Result", "Dev WER", _percent),
    "dev_cer": ("Result", "Dev CER", _percent),
    "epoch": ("Result", "Best epoch", _count),
    "seconds": ("Result", "Training time", format_seconds),
    "init": ("Model", "Started from", None),
    "parameters": ("Model", "Parameters", _count),
    "precision": ("Model", "Precision", None),
    "seed": ("Model", "Seed", None),
    "program": ("Model", "Program", None),
    "torch": ("Model", "PyTorch", None),
    "utterances": ("Data", "Training utterances", _count),
    "data": ("Data", "Training fingerprint", None),
}


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("asr", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _asset(name: str) -> str:
    return (files("asr") / "assets" / name).read_text(encoding="utf-8")


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
