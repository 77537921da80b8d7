"""An examination as one HTML file: numbers, histograms, and findings with pictures and sound."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import numpy as np

from asr import page
from asr.audio import read_audio
from asr.corpus.checks.examination import Examination
from asr.corpus.checks.findings import KINDS, Finding, count_kinds
from asr.corpus.checks.report import place, severity_counts
from asr.corpus.checks.sound import Case
from asr.errors import AudioError, DataError
from asr.page import Bars
from asr.text import TokenTable

_MAX_ROWS = 300  # findings listed of a kind; all are in check.json
_NUM_PICTURES = 2  # spectrograms of a kind
_MAX_PICTURES = 24
_PICTURE_RATE = 16000  # Hz
_PICTURE_SECONDS = 12.0
_NUM_BINS = 24
_OUTSIDE = 0.5  # percent at each end that share the outermost bins
# What a look at the sound says nothing about.
_NOT_PICTURED = frozenset(
    {
        "no-text",
        "no-texts",
        "empty-text",
        "digits",
        "case",
        "control-character",
        "markup",
        "mixed-script",
    }
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
    return page.render_template(
        "check.html",
        f"Check of {', '.join(Path(name).name for name in examination.manifests)}",
        numbers=_numbers(examination),
        histograms=[_bars(each) for each in histograms(examination.cases, tokens)],
        kinds=[*_kinds(examination, folder)],
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


def _numbers(examination: Examination) -> list[tuple[str, str, str]]:
    """Value, label and colour of the numbers at the top."""
    hours = sum(case.seconds for case in examination.cases) / 3600
    return [
        (f"{len(examination.cases):,}", "utterances", ""),
        (f"{hours:.2f}", "hours", ""),
        *(
            (f"{count:,}", f"{severity}s", severity if count else "note")
            for severity, count in severity_counts(examination).items()
        ),
    ]


def _bars(histogram: Histogram) -> Bars:
    edges = histogram.edges
    return Bars(
        title=histogram.title,
        counts=histogram.counts,
        names=tuple(f"{_number(low)} to {_number(high)}" for low, high in pairwise(edges)),
        marks=(_number(edges[0]), _number((edges[0] + edges[-1]) / 2), _number(edges[-1])),
        caption=f"{histogram.unit}; median {_number(histogram.median)}",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    """Findings of a kind."""

    name: str
    severity: str
    meaning: str
    count: int
    rows: list[tuple[str, str, str]]
    """Place, message and value of the first ones."""
    num_more: int
    figures: list["_Figure"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Figure:
    """An utterance's sound and its picture."""

    id: str
    text: str
    picture: str
    source: str
    """Address of the sound."""


def _kinds(examination: Examination, folder: Path) -> Iterator[_Kind]:
    by_kind: dict[str, list[Finding]] = defaultdict(list)
    for finding in examination.findings:
        by_kind[finding.kind].append(finding)
    cases = {(case.manifest, case.utterance.id): case for case in examination.cases}
    left = _MAX_PICTURES
    for name in count_kinds(examination.findings):
        findings = by_kind[name]
        figures = [] if name in _NOT_PICTURED else _figures(findings, cases, folder, left)
        left -= len(figures)
        yield _Kind(
            name=name,
            severity=KINDS[name].severity,
            meaning=KINDS[name].meaning,
            count=len(findings),
            rows=[
                (
                    place(finding, examination.manifests),
                    finding.message,
                    "" if finding.value is None else _number(finding.value),
                )
                for finding in findings[:_MAX_ROWS]
            ],
            num_more=len(findings) - _MAX_ROWS,
            figures=figures,
        )


def _figures(
    findings: Sequence[Finding],
    cases: Mapping[tuple[str, str], Case],
    folder: Path,
    most: int,
) -> list[_Figure]:
    """Spectrogram and sound of the first utterances whose audio can be read."""
    figures: list[_Figure] = []
    for finding in findings:
        if len(figures) >= min(_NUM_PICTURES, most):
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
        figures.append(
            _Figure(
                id=utterance.id,
                text=utterance.text or "",
                picture=page.draw(sound.samples, _PICTURE_RATE, None),
                source=link + stretch,
            )
        )
    return figures


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
