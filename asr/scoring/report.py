"""A score and what is known about it, as lines of text and as JSON."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from asr.scoring import breakdown
from asr.scoring.breakdown import Operation, Table, most_common
from asr.scoring.calibration import Calibration, measure_calibration
from asr.scoring.comparison import unit_notes
from asr.scoring.errors import (
    DELETION,
    INSERTION,
    SUBSTITUTION,
    ErrorCounts,
    Score,
    UtteranceScore,
    format_rate,
    kaldi_lines,
    word_error_interval,
)
from asr.scoring.statistics import Interval, detectable_difference

_SCHEMA_VERSION = 1

_NUM_LISTED = 50  # confusions and words in report.json
_NUM_EXAMPLES = 3  # texts shown before and after normalization
_NUM_NAMED = 10  # missing ids in a note


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """An utterance's audio."""

    path: Path
    offset: float = 0.0
    """Seconds from the start of the file."""
    duration: float | None = None
    """Seconds; None is the whole file."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """The same test set, heard otherwise."""

    name: str
    score: Score

    @cached_property
    def interval(self) -> Interval | None:
        """Of the word error rate."""
        return word_error_interval(self.score)

    @property
    def line(self) -> str:
        """As `asr evaluate` prints it."""
        words, interval = self.score.words, self.interval
        sure = f" [{interval.low:.2f}, {interval.high:.2f}]" if interval else ""
        counts = f"{words.errors} / {words.reference_length}"
        return f"{self.name}: WER {format_rate(words.rate)} %{sure} ({counts})"


@dataclass(frozen=True, kw_only=True)
class ScoreReport:
    """A score, and what is known about it.

    What lines, files and page show of it is computed when it is first asked for, and once.
    """

    score: Score
    reference: str
    """Name of the references."""
    hypothesis: str
    """Name of the hypotheses."""
    normalizer: str = "none"
    raw: Score | None = None
    """Before the normalizer, if there is one."""
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What else is known of an utterance, by its id."""
    confidences: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Of the hypothesis' words, 0 to 1, by utterance id, where they are known."""
    clips: Mapping[str, Clip] = field(default_factory=dict)
    """Audio by utterance id, where it is at hand."""
    audio_seconds: float | None = None
    compute_seconds: float | None = None
    """What recognizing the audio took."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Where the hypotheses come from, as commit or model, by name."""
    conditions: Sequence[Condition] = ()
    """What became of it in noise, if that was tried."""

    @cached_property
    def interval(self) -> Interval | None:
        """Of the word error rate."""
        return word_error_interval(self.score)

    @cached_property
    def calibration(self) -> Calibration | None:
        """What the confidences are worth; none where no word has one."""
        said: list[float] = []
        right: list[bool] = []
        for utterance in self.score.utterances:
            confidences = self.confidences.get(utterance.id, ())
            # A normalizer may have joined or divided words.
            if len(confidences) == len(utterance.hypothesis_words or ()):
                said += confidences
                right += utterance.right_words()
        return measure_calibration(said, right)

    @cached_property
    def operations(self) -> Counter[Operation]:
        """How often each aligned pair occurs."""
        return breakdown.operation_counts(self.score)

    @cached_property
    def tables(self) -> list[Table]:
        """By speaker, duration, every column that divides the test set, and place."""
        return breakdown.tables(self.score, self.columns)

    @cached_property
    def worst_first(self) -> list[UtteranceScore]:
        """The utterances, those with the most errors first."""
        return breakdown.worst_first(self.score.utterances)

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of computing for a second of audio."""
        if not self.audio_seconds or self.compute_seconds is None:
            return None
        return self.compute_seconds / self.audio_seconds


def report_lines(report: ScoreReport) -> list[str]:
    """What `asr score` prints."""
    score = report.score
    lines = kaldi_lines(score, report.interval)
    if report.raw is not None:
        raw = report.raw.words
        lines.append(
            f"Before normalizer {report.normalizer}: WER {format_rate(raw.rate)} % "
            f"({raw.errors} / {raw.reference_length})"
        )
    if score.num_empty:
        lines.append(
            f"Empty references: {score.num_empty}, with {score.empty.insertions} words inserted"
        )
    if report.real_time_factor is not None:
        lines.append(f"Real-time factor {report.real_time_factor:.4f}")
    return [*lines, *(condition.line for condition in report.conditions)]


def report_notes(report: ScoreReport) -> list[str]:
    """What a reader of the number should know; for stderr."""
    score, interval = report.score, report.interval
    notes = unit_notes(interval)
    if score.missing:
        more = ", ..." if len(score.missing) > _NUM_NAMED else ""
        named = ", ".join(score.missing[:_NUM_NAMED])
        notes.append(
            f"{len(score.missing)} without a hypothesis, counted as deletions: {named}{more}"
        )
    if score.extra:
        notes.append(f"{len(score.extra)} hypotheses without a reference are left out")
    if interval is not None and score.words.errors == 0:
        bound = 100 * 3 / score.words.reference_length
        notes.append(
            "no errors: resampling cannot bound the rate; if errors were independent it would be "
            f"below {bound:.2g} % (3 / words)"
        )
    elif interval is not None:
        notes.append(
            "two systems with unrelated errors are told apart here from about "
            f"{detectable_difference(interval):.2f} points on; asr compare says it of two"
        )
    return notes


def report_values(report: ScoreReport) -> dict[str, Any]:
    """The whole report as plain values, for JSON."""
    score, interval = report.score, report.interval
    return {
        "schema_version": _SCHEMA_VERSION,
        "reference": report.reference,
        "hypothesis": report.hypothesis,
        "normalizer": report.normalizer,
        "wer": score.words.rate,
        "words": _counts_values(score.words),
        "cer": score.characters.rate,
        "characters": _counts_values(score.characters),
        "ser": score.sentence_rate,
        "sentences": {"num": len(score.utterances), "num_wrong": score.num_wrong},
        "interval": _interval_values(interval),
        "raw": report.raw
        and {
            "wer": report.raw.words.rate,
            "words": _counts_values(report.raw.words),
            "examples": normalization_examples(report),
        },
        "empty_references": {"num": score.num_empty, "insertions": score.empty.insertions},
        "missing": list(score.missing),
        "extra": list(score.extra),
        "real_time_factor": report.real_time_factor,
        "audio_seconds": report.audio_seconds,
        "compute_seconds": report.compute_seconds,
        "provenance": dict(report.provenance),
        "conditions": [
            {
                "name": condition.name,
                "wer": condition.score.words.rate,
                "words": _counts_values(condition.score.words),
                "interval": _interval_values(condition.interval),
            }
            for condition in report.conditions
        ],
        "notes": report_notes(report),
        "calibration": report.calibration and asdict(report.calibration),
        "tables": [_table_values(table) for table in report.tables],
        "confusions": _pair_values(most_common(report.operations, SUBSTITUTION, _NUM_LISTED)),
        "deletions": _pair_values(most_common(report.operations, DELETION, _NUM_LISTED)),
        "insertions": _pair_values(most_common(report.operations, INSERTION, _NUM_LISTED)),
        "utterances": [_utterance_values(utterance) for utterance in score.utterances],
    }


def report_json(report: ScoreReport) -> str:
    """`report_values` as JSON text; NaN cannot occur in it."""
    return json.dumps(report_values(report), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def normalization_examples(report: ScoreReport) -> list[dict[str, str]]:
    """The first references and hypotheses that the normalizer changed."""
    if report.raw is None:
        return []
    examples = []
    for raw, normalized in zip(report.raw.utterances, report.score.utterances, strict=True):
        for before, after in (
            (raw.reference, normalized.reference),
            (raw.hypothesis, normalized.hypothesis),
        ):
            if before is not None and after is not None and before != after:
                examples.append({"id": raw.id, "before": before, "after": after})
                if len(examples) == _NUM_EXAMPLES:
                    return examples
    return examples


def results_table(report: ScoreReport) -> list[str]:
    """The lines of a Markdown table: header and one row."""
    words, interval = report.score.words, report.interval
    cells = {
        "Test set": report.reference,
        "System": report.hypothesis,
        "Snt": str(len(report.score.utterances)),
        "Wrd": str(words.reference_length),
        "Sub": str(words.substitutions),
        "Del": str(words.deletions),
        "Ins": str(words.insertions),
        "WER %": format_rate(words.rate),
        "95 %": f"{interval.low:.2f} to {interval.high:.2f} ({interval.num_units} {interval.unit}s)"
        if interval
        else "-",
        "CER %": format_rate(report.score.characters.rate),
        "SER %": f"{report.score.sentence_rate:.2f}",
        "Normalizer": report.normalizer,
    }
    if report.real_time_factor is not None:
        cells["RTF"] = f"{report.real_time_factor:.4f}"
    cells |= report.provenance
    return [
        _row(cells),
        _row("---" for _ in cells),
        _row(" ".join(value.replace("|", "\\|").split()) for value in cells.values()),
    ]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _interval_values(interval: Interval | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    return {
        "low": interval.low,
        "high": interval.high,
        "confidence": interval.confidence,
        "unit": interval.unit,
        "num_units": interval.num_units,
        "standard_error": interval.standard_error,
    }


def _counts_values(counts: ErrorCounts) -> dict[str, int]:
    return {
        "errors": counts.errors,
        "reference_length": counts.reference_length,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
    }


def _table_values(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "column": table.column,
        "spread": breakdown.spread(table),
        "groups": [
            {
                "name": group.name,
                "num_utterances": group.num_utterances,
                "num_wrong": group.num_wrong,
                "wer": group.words.rate,
                "words": _counts_values(group.words),
            }
            for group in table.groups
        ],
    }


def _pair_values(pairs: Sequence[tuple[str, str, int]]) -> list[dict[str, Any]]:
    return [
        {"reference": reference, "hypothesis": said, "count": count}
        for reference, said, count in pairs
    ]


def _utterance_values(utterance: UtteranceScore) -> dict[str, Any]:
    return {
        "id": utterance.id,
        "speaker": utterance.speaker,
        "reference": utterance.reference,
        "hypothesis": utterance.hypothesis,
        "operations": utterance.operations,
        "wer": utterance.words.rate,
        "words": _counts_values(utterance.words),
        "characters": _counts_values(utterance.characters),
    }
