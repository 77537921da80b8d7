"""An examination as one HTML file: nothing fetched, readable in light and dark.

What comes from files is escaped; the page's own policy forbids loading anything but its pictures
and, for the players, the corpus' own sound files.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import numpy as np

from asr.audio import read_audio
from asr.corpus.checks.examination import Examination
from asr.corpus.checks.findings import KINDS, Finding, count_kinds
from asr.corpus.checks.report import place, severity_counts
from asr.corpus.checks.sound import Case
from asr.errors import AudioError, DataError
from asr.page import draw
from asr.text import TokenTable

MAX_ROWS = 300
"""Findings listed of a kind; all are in check.json."""
NUM_PICTURES = 2
"""Spectrograms of a kind."""
MAX_PICTURES = 24

_PICTURE_RATE = 16000  # Hz
_PICTURE_SECONDS = 12.0
_NUM_BINS = 24
_OUTSIDE = 0.5  # percent at each end that share the outermost bins
_WIDTH, _HEIGHT = 360, 120  # of a histogram
# What a look at the sound says nothing about.
_NOT_PICTURED = frozenset(
    {"no-text", "empty-text", "digits", "case", "control-character", "markup", "mixed-script"}
    | {"spaces", "not-nfc", "duration", "duplicate", "unknown-character", "other-rate"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Histogram:
    """Counts of a number over utterances."""

    title: str
    unit: str
    edges: tuple[float, ...]
    """One more than counts; what lies outside is counted at the ends."""
    counts: tuple[int, ...]
    median: float


def render_page(examination: Examination, folder: Path, tokens: TokenTable | None = None) -> str:
    """The page.

    Args:
        examination: to show.
        folder: that the page will stand in; players link to sound relative to it.
        tokens: to count in texts; without them characters are counted.
    """
    title = f"Check of {', '.join(Path(name).name for name in examination.manifests)}"
    assets = files("asr") / "assets"
    style = "".join(
        (assets / name).read_text(encoding="utf-8") for name in ("report.css", "doctor.css")
    )
    policy = "default-src 'none'; img-src data:; media-src file: 'self'; style-src 'unsafe-inline'"
    return "".join(
        [
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title><style>{style}</style></head><body><main>",
            f"<header><h1>{escape(title)}</h1>{_numbers(examination)}</header>",
            '<section class="grid">',
            *(_svg(histogram) for histogram in histograms(examination.cases, tokens)),
            "</section><section><h2>Findings</h2>",
            *_kinds(examination, folder),
            "</section></main></body></html>\n",
        ]
    )


def histograms(cases: Sequence[Case], tokens: TokenTable | None = None) -> Iterator[Histogram]:
    """Durations, levels, words a second and lengths of texts; those that there are numbers for."""
    texts = [(case, case.utterance.text) for case in cases if case.utterance.text]
    columns: list[tuple[str, str, list[float]]] = [
        ("Duration", "s", [case.seconds for case in cases if case.seconds]),
        (
            "Level of the speech",
            "dB of full scale",
            [case.audio.level for case in cases if case.audio is not None and case.audio.peak],
        ),
        (
            "Words a second",
            "1/s",
            [len(text.split()) / case.seconds for case, text in texts if case.seconds],
        ),
        (
            "Characters" if tokens is None else "Tokens",
            "in a text",
            list(_lengths((text for _, text in texts), tokens)),
        ),
    ]
    for title, unit, values in columns:
        if values:
            yield make_histogram(title, unit, values)


def _lengths(texts: Iterable[str], tokens: TokenTable | None) -> Iterator[float]:
    for text in texts:
        if tokens is None:
            yield len(text)
        else:
            # Texts with other characters are a finding.
            with suppress(DataError):
                yield len(tokens.encode(text))


def make_histogram(title: str, unit: str, values: Sequence[float]) -> Histogram:
    """Equal bins between the percentiles 0.5 and 99.5."""
    low, median, high = np.percentile(values, [_OUTSIDE, 50, 100 - _OUTSIDE])
    if high <= low:
        low, high = low - 0.5, low + 0.5
    edges = np.linspace(low, high, _NUM_BINS + 1)
    counts, _ = np.histogram(np.clip(values, low, high), edges)
    return Histogram(
        title=title,
        unit=unit,
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        median=float(median),
    )


def _numbers(examination: Examination) -> str:
    hours = sum(case.seconds for case in examination.cases) / 3600
    counts = severity_counts(examination)
    return (
        '<div class="big">'
        f"<div>{len(examination.cases):,}<span>utterances</span></div>"
        f"<div>{hours:.2f}<span>hours</span></div>"
        + "".join(
            f'<div class="{severity if n else "note"}">{n:,}<span>{severity}s</span></div>'
            for severity, n in counts.items()
        )
        + "</div>"
    )


def _svg(histogram: Histogram) -> str:
    top = max(histogram.counts)
    width = _WIDTH / len(histogram.counts)
    bars = "".join(
        f'<rect x="{index * width + 1:.1f}" y="{_HEIGHT - height:.1f}" width="{width - 2:.1f}" '
        f'height="{height:.1f}"><title>{_number(histogram.edges[index])} to '
        f"{_number(histogram.edges[index + 1])}: {count:,}</title></rect>"
        for index, count in enumerate(histogram.counts)
        for height in [count / top * (_HEIGHT - 10)]
    )
    marks = "".join(
        f'<text x="{x}" y="{_HEIGHT + 16}" style="text-anchor:{anchor}">{_number(value)}</text>'
        for x, anchor, value in (
            (0, "start", histogram.edges[0]),
            (_WIDTH / 2, "middle", (histogram.edges[0] + histogram.edges[-1]) / 2),
            (_WIDTH, "end", histogram.edges[-1]),
        )
    )
    return (
        f"<div><h2>{escape(histogram.title)}</h2>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 20}" role="img" '
        f'aria-label="Histogram of {escape(histogram.title)}">{bars}{marks}</svg>'
        f'<p class="small">{escape(histogram.unit)}; median {_number(histogram.median)}</p></div>'
    )


def _kinds(examination: Examination, folder: Path) -> Iterator[str]:
    by_kind: dict[str, list[Finding]] = defaultdict(list)
    for finding in examination.findings:
        by_kind[finding.kind].append(finding)
    cases = {(case.manifest, case.utterance.id): case for case in examination.cases}
    left = MAX_PICTURES
    if not by_kind:
        yield "<p>Nothing was found.</p>"
    for kind in count_kinds(examination.findings):
        severity, findings = KINDS[kind].severity, by_kind[kind]
        pictures = [] if kind in _NOT_PICTURED else _pictures(findings, cases, folder, left)
        left -= len(pictures)
        rows = "".join(
            f"<tr><td>{_text(place(finding, examination.manifests))}</td>"
            f"<td>{_text(finding.message)}</td>"
            f"<td>{'' if finding.value is None else _number(finding.value)}</td></tr>"
            for finding in findings[:MAX_ROWS]
        )
        more = len(findings) - MAX_ROWS
        rest = f'<p class="small">{more:,} more are in check.json.</p>' if more > 0 else ""
        is_open = "" if severity == "note" else " open"
        yield (
            f'<details{is_open}><summary><b class="{severity}">{severity} {kind}</b> '
            f"{len(findings):,} <em>{escape(KINDS[kind].meaning)}</em></summary>"
            f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>{rest}'
            f'<div class="figures">{"".join(pictures)}</div></details>'
        )


def _pictures(
    findings: Sequence[Finding],
    cases: Mapping[tuple[str, str], Case],
    folder: Path,
    most: int,
) -> list[str]:
    """Spectrogram and player of the first utterances whose audio can be read."""
    pictures: list[str] = []
    for finding in findings:
        if len(pictures) >= min(NUM_PICTURES, most):
            break
        case = cases.get((finding.manifest, finding.utterance or ""))
        if case is None or case.audio is None or not case.audio.seconds:
            continue
        utterance = case.utterance
        try:
            sound = read_audio(
                utterance.audio_filepath,
                sample_rate=_PICTURE_RATE,
                offset=utterance.offset,
                duration=min(case.audio.seconds, _PICTURE_SECONDS),
            )
        except AudioError:  # as where samples are NaN
            continue
        link = quote(Path(os.path.relpath(utterance.audio_filepath, folder)).as_posix())
        stretch = f"#t={utterance.offset:.3f},{utterance.offset + case.audio.seconds:.3f}"
        pictures.append(
            f"<figure><figcaption>{_text(utterance.id)}: {_text(utterance.text or '')}"
            f'</figcaption><img alt="Spectrogram" src="{draw(sound.samples, _PICTURE_RATE, None)}">'
            f'<audio controls preload="none" src="{escape(link + stretch)}"></audio></figure>'
        )
    return pictures


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _text(text: str) -> str:
    return f'<bdi dir="auto">{escape(text)}</bdi>'
