"""A score as one HTML file: nothing to install, nothing fetched, readable in light and dark.

Everything that comes from files (ids, words, names) is escaped, and the page's own policy
forbids loading anything but its pictures and sound.
"""

import base64
import io
import math
import os
import wave
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from asr.errors import AsrError
from asr.files import open_atomic
from asr.page import Posteriors, draw
from asr.scoring.breakdown import Table, most_common, spread
from asr.scoring.errors import (
    CORRECT,
    DELETION,
    INSERTION,
    SUBSTITUTION,
    UtteranceScore,
    format_rate,
)
from asr.scoring.report import Clip, ScoreReport, normalization_examples, report_notes

MAX_ROWS = 500
"""Utterances listed, the worst ones; all are in report.json."""
MAX_EMBEDDED_BYTES = 4_000_000
"""Sound inside the file; further clips are linked."""
NUM_PICTURES = 5
"""Worst utterances with audio that get a spectrogram."""

_SAMPLE_RATE = 16000  # of embedded sound
_MAX_CLIP_SECONDS = 30.0  # longer ones are linked
_NUM_LISTED = 20  # confusions and words
_BIN_LABELS = ("0", *(f"to {edge}" for edge in range(10, 101, 10)), "over 100")


class Sound(Protocol):
    """Decoded audio."""

    @property
    def samples(self) -> NDArray[np.float32]:
        """[sample], in [-1, 1]."""


class AudioReader(Protocol):
    """`asr.audio.stream.read_audio`."""

    def __call__(self, path: Path, *, sample_rate: int, offset: float, duration: float) -> Sound:
        """A stretch of a file."""


def write_html(
    report: ScoreReport,
    path: Path,
    read_audio: AudioReader | None = None,
    posteriors: Mapping[str, Posteriors] | None = None,
) -> None:
    """Write the page.

    Args:
        report: the score and what is known about it.
        path: of the page; sound that is not embedded is linked relative to it.
        read_audio: decodes the clips; without it they are linked, and there are no pictures.
        posteriors: of a CTC model, by utterance id; drawn for the worst utterances.
    """
    media = _media(report, path.parent, read_audio, posteriors or {})
    with open_atomic(path) as file:
        file.write(_page(report, media))


def _page(report: ScoreReport, media: Mapping[str, str]) -> str:
    title = f"WER {format_rate(report.score.words.rate)} %: {report.hypothesis}"
    assets = files("asr") / "assets"
    style = (assets / "report.css").read_text(encoding="utf-8")
    script = (assets / "report.js").read_text(encoding="utf-8")
    policy = (
        "default-src 'none'; img-src data:; media-src data: file: 'self'; "
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    )
    return "".join(
        [
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title><style>{style}</style></head><body><main>",
            _headline(report),
            _notes(report),
            _histogram(report.score.utterances),
            '<section class="grid">',
            *(_group_table(table) for table in report.tables),
            "</section>",
            _confusions(report),
            _utterances(report, media),
            f"</main><script>{script}</script></body></html>\n",
        ]
    )


def _headline(report: ScoreReport) -> str:
    score, interval = report.score, report.interval
    words = score.words
    sure = "no interval: too few utterances"
    if interval:
        sure = (
            f"{interval.low:.2f} to {interval.high:.2f} % ({interval.confidence * 100:g} %, "
            f"bootstrap by {interval.unit}, {interval.num_units} {interval.unit}s)"
        )
    facts = [
        ("CER", f"{format_rate(score.characters.rate)} %"),
        ("SER", f"{score.sentence_rate:.2f} %"),
        ("Errors", f"{words.errors} of {words.reference_length} words"),
        ("Substituted", str(words.substitutions)),
        ("Deleted", str(words.deletions)),
        ("Inserted", str(words.insertions)),
        ("Utterances", str(len(score.utterances))),
        ("Without hypothesis", str(len(score.missing))),
        ("Normalizer", report.normalizer),
    ]
    if report.raw is not None:
        facts.append(("WER before it", f"{format_rate(report.raw.words.rate)} %"))
    if score.num_empty:
        facts.append(
            ("Empty references", f"{score.num_empty}, {score.empty.insertions} words inserted")
        )
    if report.real_time_factor is not None:
        facts.append(("Real-time factor", f"{report.real_time_factor:.4f}"))
    if report.audio_seconds is not None:
        facts.append(("Audio", f"{report.audio_seconds / 60:.1f} min"))
    facts += [(name, value) for name, value in report.provenance.items()]
    return (
        f"<header><h1>{_text(report.hypothesis)} <small>against {_text(report.reference)}</small>"
        f'</h1><p class="wer">{format_rate(words.rate)}<span> % WER</span></p>'
        f'<p class="sure">{sure}</p><dl>'
        + "".join(
            f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in facts
        )
        + "</dl></header>"
    )


def _notes(report: ScoreReport) -> str:
    notes = "".join(f"<li>{_text(note)}</li>" for note in report_notes(report))
    examples = "".join(
        f"<li>{_text(example['before'])}<br>{_text(example['after'])}</li>"
        for example in normalization_examples(report)
    )
    return (f'<ul class="notes">{notes}</ul>' if notes else "") + (
        f"<details><summary>What normalizer {_text(report.normalizer)} does</summary>"
        f'<ul class="notes">{examples}</ul></details>'
        if examples
        else ""
    )


def _histogram(utterances: Sequence[UtteranceScore]) -> str:
    rates = [u.words.rate for u in utterances if u.words.rate is not None]
    counts = [0] * len(_BIN_LABELS)
    for rate in rates:
        counts[0 if rate == 0 else min(int(-(-rate // 10)), len(counts) - 1)] += 1
    top = max(counts) or 1
    bars = []
    for index, (label, count) in enumerate(zip(_BIN_LABELS, counts, strict=True)):
        height = 120 * count / top
        x = 12 + index * 58
        bars.append(
            f'<rect x="{x}" y="{140 - height:.1f}" width="46" height="{height:.1f}" rx="2"/>'
            f'<text x="{x + 23}" y="{134 - height:.1f}" class="n">{count or ""}</text>'
            f'<text x="{x + 23}" y="156">{label}</text>'
        )
    return (
        "<section><h2>Utterances by their WER</h2>"
        '<div class="scroll"><svg viewBox="0 0 710 176" role="img" '
        'aria-label="Histogram of utterance WER">'
        f'{"".join(bars)}<text x="355" y="173">% WER</text></svg></div></section>'
    )


def _group_table(table: Table) -> str:
    highest = min(100, max(group.words.rate or 0 for group in table.groups)) or 1
    rows = []
    for group in table.groups:
        rate = group.words.rate
        width = min(100, 100 * (rate or 0) / highest)
        rows.append(
            f'<tr><td>{_text(group.name)}</td><td class="bar" data-sort="{rate or 0:.4f}">'
            f'<span style="width:{width:.0f}%"></span><b>{format_rate(rate)}</b></td>'
            f"<td>{group.words.errors}</td><td>{group.words.reference_length}</td>"
            f"<td>{group.num_utterances}</td></tr>"
        )
    about = spread(table) if table.column == "speaker" else None
    foot = (
        f'<p class="small">Mean {about["mean"]:.2f}, standard deviation {about["sd"]:.2f}, '
        f"median {about['median']:.2f}</p>"
        if about
        else ""
    )
    return (
        f"<div><h2>{_text(table.title)}</h2>"
        + _table((table.column, "WER %", "errors", "words", "utts"), rows)
        + f"{foot}</div>"
    )


def _confusions(report: ScoreReport) -> str:
    parts = []
    for title, letter in (
        ("Confused", SUBSTITUTION),
        ("Deleted", DELETION),
        ("Inserted", INSERTION),
    ):
        pairs = most_common(report.operations, letter, _NUM_LISTED)
        rows = [
            "<tr>"
            + (f"<td>{_text(reference)}</td>" if letter != INSERTION else "")
            + (f"<td>{_text(said)}</td>" if letter != DELETION else "")
            + f"<td>{count}</td></tr>"
            for reference, said, count in pairs
        ]
        columns = {
            SUBSTITUTION: ("reference", "hypothesis", "times"),
            DELETION: ("reference", "times"),
            INSERTION: ("hypothesis", "times"),
        }[letter]
        body = _table(columns, rows) if rows else '<p class="small">None.</p>'
        parts.append(f"<div><h2>{title}</h2>{body}</div>")
    return f'<section class="grid">{"".join(parts)}</section>'


def _utterances(report: ScoreReport, media: Mapping[str, str]) -> str:
    utterances = report.worst_first
    rows = []
    for utterance in utterances[:MAX_ROWS]:
        words = utterance.words
        rows.append(
            f"<tr><td>{_text(utterance.id)}</td><td>{_text(utterance.speaker or '')}</td>"
            f'<td data-sort="{-1 if words.rate is None else words.rate:.4f}">'
            f"{format_rate(words.rate)}</td><td>{words.errors}</td>"
            f"<td>{words.reference_length}</td>"
            f'<td class="words">{_aligned(utterance)}{media.get(utterance.id, "")}</td></tr>'
        )
    more = len(utterances) - len(rows)
    note = f'<p class="small">{more} better ones are in report.json.</p>' if more > 0 else ""
    return (
        '<section id="utterances"><h2>Utterances, most errors first</h2>'
        '<p class="key"><del>not recognized</del> <ins>recognized instead, or inserted</ins></p>'
        '<input type="search" id="filter" placeholder="Filter by id, speaker or word" '
        'aria-label="Filter utterances">'
        + _table(("id", "speaker", "WER %", "errors", "words", "text"), rows)
        + f"{note}</section>"
    )


def _aligned(utterance: UtteranceScore) -> str:
    if utterance.hypothesis is None:
        return f'<p dir="auto"><del>{escape(utterance.reference)}</del> <i>no hypothesis</i></p>'
    words = []
    for letter, reference, said in utterance.pairs():
        if letter == CORRECT:
            words.append(escape(str(reference)))
        else:
            lost = f"<del>{escape(reference)}</del>" if reference is not None else ""
            found = f"<ins>{escape(said)}</ins>" if said is not None else ""
            words.append(f"<span>{lost}{found}</span>")
    return f'<p dir="auto">{" ".join(words)}</p>'


def _table(columns: Iterable[str], rows: Iterable[str]) -> str:
    head = "".join(
        f'<th scope="col"><button type="button">{_text(column)}</button></th>' for column in columns
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _text(text: str) -> str:
    return f'<bdi dir="auto">{escape(text)}</bdi>'


def _media(
    report: ScoreReport,
    folder: Path,
    read_audio: AudioReader | None,
    posteriors: Mapping[str, Posteriors],
) -> dict[str, str]:
    """Player and picture of the listed utterances that have audio, by id."""
    media: dict[str, str] = {}
    num_bytes = num_pictures = 0
    for utterance in report.worst_first[:MAX_ROWS]:
        clip = report.clips.get(utterance.id)
        if clip is None:
            continue
        source, picture = _link(clip, folder), ""
        wants_picture = num_pictures < NUM_PICTURES and utterance.words.errors > 0
        seconds = clip.duration if clip.duration is not None else math.inf
        size = 2 * math.ceil(min(seconds, 2 * _MAX_CLIP_SECONDS) * _SAMPLE_RATE)
        fits = seconds <= _MAX_CLIP_SECONDS and num_bytes + size <= MAX_EMBEDDED_BYTES
        if read_audio is not None and (wants_picture or fits):
            try:
                sound = read_audio(
                    clip.path,
                    sample_rate=_SAMPLE_RATE,
                    offset=clip.offset,
                    duration=min(seconds, _MAX_CLIP_SECONDS),
                )
            except AsrError as error:
                media[utterance.id] = f'<p class="small">{escape(str(error))}</p>'
                continue
            if fits:
                source = _wav_uri(sound.samples)
                num_bytes += size
            if wants_picture:
                image = draw(sound.samples, _SAMPLE_RATE, posteriors.get(utterance.id))
                picture = f'<img alt="Spectrogram" src="{image}">'
                num_pictures += 1
        media[utterance.id] = (
            f'<audio controls preload="none" src="{escape(source)}"></audio>{picture}'
        )
    return media


def _link(clip: Clip, folder: Path) -> str:
    path = quote(Path(os.path.relpath(clip.path, folder)).as_posix())
    if clip.duration is not None:
        return f"{path}#t={clip.offset:.3f},{clip.offset + clip.duration:.3f}"
    return f"{path}#t={clip.offset:.3f}" if clip.offset else path


def _wav_uri(samples: NDArray[np.float32]) -> str:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_SAMPLE_RATE)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return f"data:audio/wav;base64,{base64.b64encode(buffer.getvalue()).decode()}"
