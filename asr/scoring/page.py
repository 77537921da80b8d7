"""A score as one HTML file: rate, tables, confusions, and the utterances with the most errors."""

import base64
import io
import math
import os
import wave
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from asr import page
from asr.errors import AsrError
from asr.files import open_atomic
from asr.page import Bars, Posteriors
from asr.scoring.breakdown import Table, most_common, spread
from asr.scoring.errors import (
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
_BIN_LABELS = ("0", *(str(edge) for edge in range(10, 101, 10)), ">100")


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


def _page(report: ScoreReport, media: Mapping[str, "_Media"]) -> str:
    shown = report.worst_first[:MAX_ROWS]
    return page.render_template(
        "score.html",
        f"WER {format_rate(report.score.words.rate)} %: {report.hypothesis}",
        script="score.js",
        report=report,
        format_rate=format_rate,
        sure=_sure(report),
        facts=_facts(report),
        notes=report_notes(report),
        examples=normalization_examples(report),
        rates=_rate_bars(report.score.utterances),
        calibration=report.calibration,
        tables=[
            (table, _highest(table), spread(table) if table.column == "speaker" else None)
            for table in report.tables
        ],
        confusions=[*_confusions(report)],
        utterances=[(utterance, media.get(utterance.id)) for utterance in shown],
        num_more=len(report.worst_first) - len(shown),
    )


def _sure(report: ScoreReport) -> str:
    interval = report.interval
    if interval is None:
        return "no interval: too few utterances"
    return (
        f"{interval.low:.2f} to {interval.high:.2f} % ({interval.confidence * 100:g} %, "
        f"bootstrap by {interval.unit}, {interval.num_units} {interval.unit}s)"
    )


def _facts(report: ScoreReport) -> page.Facts:
    score, words = report.score, report.score.words
    result = [
        ("CER", f"{format_rate(score.characters.rate)} %"),
        ("SER", f"{score.sentence_rate:.2f} %"),
        ("Errors", f"{words.errors:,} of {words.reference_length:,} words"),
        ("Substituted", f"{words.substitutions:,}"),
        ("Deleted", f"{words.deletions:,}"),
        ("Inserted", f"{words.insertions:,}"),
    ]
    if report.raw is not None:
        result.append(("WER before the normalizer", f"{format_rate(report.raw.words.rate)} %"))
    if report.real_time_factor is not None:
        result.append(("Real-time factor", f"{report.real_time_factor:.4f}"))
    data = [
        ("Utterances", f"{len(score.utterances):,}"),
        ("Without hypothesis", f"{len(score.missing):,}"),
        ("Normalizer", report.normalizer),
    ]
    if score.num_empty:
        data.append(
            ("Empty references", f"{score.num_empty}, {score.empty.insertions} words inserted")
        )
    if report.audio_seconds is not None:
        data.append(("Audio", f"{report.audio_seconds / 60:.1f} min"))
    origin = page.describe_origin(report.provenance)
    return {
        "Result": result,
        "Model": [*origin["Result"], *origin["Model"]],
        "Data": [*data, *origin["Data"]],
    }


def _rate_bars(utterances: Sequence[UtteranceScore]) -> Bars:
    counts = [0] * len(_BIN_LABELS)
    for utterance in utterances:
        rate = utterance.words.rate
        if rate is not None:
            counts[0 if rate == 0 else min(int(-(-rate // 10)), len(counts) - 1)] += 1
    ranges = (f"over {low} to {low + 10} %" for low in range(0, 100, 10))
    return Bars(
        title="Utterances by their WER",
        counts=tuple(counts),
        names=("0 %", *ranges, "over 100 %"),
        marks=_BIN_LABELS,
        caption="% WER, each up to the number below it",
    )


def _highest(table: Table) -> float:
    """The rate whose bar fills its cell."""
    return min(100, max(group.words.rate or 0 for group in table.groups)) or 1


def _confusions(report: ScoreReport) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Title, columns and rows of what was confused, deleted and inserted."""
    for title, letter, columns in (
        ("Confused", SUBSTITUTION, ["reference", "hypothesis", "times"]),
        ("Deleted", DELETION, ["reference", "times"]),
        ("Inserted", INSERTION, ["hypothesis", "times"]),
    ):
        rows = []
        for reference, said, count in most_common(report.operations, letter, _NUM_LISTED):
            cells = {"reference": reference, "hypothesis": said, "times": str(count)}
            rows.append([cells[column] for column in columns])
        yield title, columns, rows


@dataclass(frozen=True, kw_only=True, slots=True)
class _Media:
    """What there is to hear and see of an utterance, or why there is nothing."""

    source: str = ""
    """Address of the sound."""
    picture: str = ""
    trouble: str = ""


def _media(
    report: ScoreReport,
    folder: Path,
    read_audio: AudioReader | None,
    posteriors: Mapping[str, Posteriors],
) -> dict[str, _Media]:
    """Sound and picture of the listed utterances that have audio, by id."""
    media: dict[str, _Media] = {}
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
                media[utterance.id] = _Media(trouble=str(error))
                continue
            if fits:
                source = _wav_uri(sound.samples)
                num_bytes += size
            if wants_picture:
                picture = page.draw(sound.samples, _SAMPLE_RATE, posteriors.get(utterance.id))
                num_pictures += 1
        media[utterance.id] = _Media(source=source, picture=picture)
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
