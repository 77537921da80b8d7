"""A score as text, as JSON, and as the files that people and scripts look for."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from asr.files import open_atomic
from asr.scoring.breakdown import (
    Table,
    by_speaker,
    most_common,
    operation_counts,
    spread,
    tables,
    word_counts,
    worst_first,
)
from asr.scoring.comparison import unit_notes
from asr.scoring.errors import (
    CORRECT,
    DELETION,
    INSERTION,
    SUBSTITUTION,
    ErrorCounts,
    Score,
    UtteranceScore,
    format_rate,
    kaldi_lines,
)
from asr.scoring.statistics import Interval, detectable_difference

SCHEMA_VERSION = 1

_NUM_LISTED = 50  # confusions and words in report.json
_NUM_EXAMPLES = 3  # texts shown before and after normalization
_NUM_NAMED = 10  # missing ids in a note
_OPERATION_NAMES = {
    CORRECT: "correct",
    SUBSTITUTION: "substitution",
    INSERTION: "insertion",
    DELETION: "deletion",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """An utterance's audio."""

    path: Path
    offset: float = 0.0
    """Seconds from the start of the file."""
    duration: float | None = None
    """Seconds; None is the whole file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """A score, and what is known about it."""

    score: Score
    interval: Interval | None
    reference: str
    """Name of the references."""
    hypothesis: str
    """Name of the hypotheses."""
    normalizer: str = "none"
    raw: Score | None = None
    """Before the normalizer, if there is one."""
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What else is known of an utterance, by its id."""
    clips: Mapping[str, Clip] = field(default_factory=dict)
    """Audio by utterance id, where it is at hand."""
    audio_seconds: float | None = None
    compute_seconds: float | None = None
    """What recognizing the audio took."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Where the hypotheses come from, as commit or model, by name."""

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of computing for a second of audio."""
        if not self.audio_seconds or self.compute_seconds is None:
            return None
        return self.compute_seconds / self.audio_seconds


def report_lines(report: Report) -> list[str]:
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
    return lines


def report_notes(report: Report) -> list[str]:
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


def report_values(report: Report) -> dict[str, Any]:
    """The whole report as plain values, for JSON."""
    score, interval = report.score, report.interval
    operations = operation_counts(score)
    return {
        "schema_version": SCHEMA_VERSION,
        "reference": report.reference,
        "hypothesis": report.hypothesis,
        "normalizer": report.normalizer,
        "wer": score.words.rate,
        "words": _counts_values(score.words),
        "cer": score.characters.rate,
        "characters": _counts_values(score.characters),
        "ser": score.sentence_rate,
        "sentences": {"num": len(score.utterances), "num_wrong": score.num_wrong},
        "interval": interval
        and {
            "low": interval.low,
            "high": interval.high,
            "confidence": interval.confidence,
            "unit": interval.unit,
            "num_units": interval.num_units,
            "standard_error": interval.standard_error,
        },
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
        "notes": report_notes(report),
        "tables": [_table_values(table) for table in tables(score, report.columns)],
        "confusions": _pair_values(most_common(operations, SUBSTITUTION, _NUM_LISTED)),
        "deletions": _pair_values(most_common(operations, DELETION, _NUM_LISTED)),
        "insertions": _pair_values(most_common(operations, INSERTION, _NUM_LISTED)),
        "utterances": [_utterance_values(utterance) for utterance in score.utterances],
    }


def report_json(report: Report) -> str:
    """`report_values` as JSON text; NaN cannot occur in it."""
    return json.dumps(report_values(report), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def normalization_examples(report: Report) -> list[dict[str, str]]:
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


def write_files(report: Report, folder: Path) -> None:
    """Write `report.txt`, `report.json` and the files of detail into a folder.

    Those are `alignments.txt`, `per_utt`, `per_spk`, `ops`, `ref.trn`, `hyp.trn` and `RESULTS.md`.
    """
    score = report.score
    operations = operation_counts(score)
    contents = {
        "report.txt": "".join(f"{line}\n" for line in report_lines(report)),
        "report.json": report_json(report),
        "alignments.txt": _lines(_alignment_lines(report)),
        "per_utt": _lines(_per_utterance_lines(score)),
        "per_spk": _lines(_per_speaker_lines(score)),
        "ops": _lines(_operation_lines(operations)),
        "ref.trn": _lines(f"{u.reference} ({safe_id(u.id)})".strip() for u in score.utterances),
        "hyp.trn": _lines(
            f"{u.hypothesis} ({safe_id(u.id)})".strip()
            for u in score.utterances
            if u.hypothesis is not None
        ),
        "RESULTS.md": _lines(results_table(report)),
    }
    for name, content in contents.items():
        with open_atomic(folder / name) as file:
            file.write(content)


def results_table(report: Report) -> list[str]:
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


def safe_id(utterance_id: str) -> str:
    """An id without the characters that end ids in these files: they become %20 and the like."""
    return "".join(quote(c) if c.isspace() or c in "()%" else c for c in utterance_id)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


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
        "spread": spread(table),
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


def _alignment_lines(report: Report) -> Iterable[str]:
    """As icefall's errs files: `(ref->hyp)` in the line, then what was confused."""
    operations = operation_counts(report.score)
    yield from report_lines(report)
    yield from (
        "",
        "UTTERANCES: a word, (reference->hypothesis), (reference->*) or (*->hypothesis)",
    )
    for utterance in worst_first(report.score.utterances):
        note = "" if utterance.hypothesis is not None else " [no hypothesis]"
        yield f"{safe_id(utterance.id)}:\t{' '.join(_inline(utterance))}{note}"
    yield from ("", "SUBSTITUTIONS: count reference -> hypothesis")
    for reference, said, count in most_common(operations, SUBSTITUTION):
        yield f"{count}   {reference} -> {said}"
    yield from ("", "DELETIONS: count reference")
    for reference, _, count in most_common(operations, DELETION):
        yield f"{count}   {reference}"
    yield from ("", "INSERTIONS: count hypothesis")
    for _, said, count in most_common(operations, INSERTION):
        yield f"{count}   {said}"
    yield from ("", "WORDS: word correct errors in_reference in_hypothesis")
    for word in word_counts(operations):
        yield (
            f"{word.word}   {word.correct} {word.errors} {word.num_reference} {word.num_hypothesis}"
        )


def _inline(utterance: UtteranceScore) -> Iterable[str]:
    for letter, reference, said in utterance.pairs():
        if letter == CORRECT:
            yield str(reference)
        else:
            yield f"({'*' if reference is None else reference}->{'*' if said is None else said})"


def _per_utterance_lines(score: Score) -> Iterable[str]:
    """As Kaldi's per_utt: reference, hypothesis, operations, then their counts."""
    for utterance in score.utterances:
        name = safe_id(utterance.id)
        columns = [
            (reference or "***", said or "***", letter)
            for letter, reference, said in utterance.pairs()
        ]
        widths = [max(map(len, column)) for column in columns]
        for index, label in enumerate(("ref", "hyp", "op ")):
            cells = (
                column[index].ljust(width) for column, width in zip(columns, widths, strict=True)
            )
            yield f"{name} {label} {' '.join(cells)}".rstrip()
        words = utterance.words
        yield (
            f"{name} #csid {words.correct} {words.substitutions} {words.insertions} "
            f"{words.deletions}"
        )


def _per_speaker_lines(score: Score) -> Iterable[str]:
    """As Kaldi's per_spk: counts (raw) and percentages (sys) of each speaker, and the sum."""
    header = [*("SPEAKER", "id", "#SENT", "#WORD", "Corr", "Sub", "Ins", "Del", "Err", "S.Err")]
    rows = [header]
    table = by_speaker(score)
    for group in table.groups if table else ():
        rows += _speaker_rows(
            safe_id(group.name), group.num_utterances, group.num_wrong, group.words
        )
    rows += _speaker_rows("SUM", len(score.utterances), score.num_wrong, score.words)
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        yield " ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))


def _speaker_rows(name: str, num: int, num_wrong: int, words: ErrorCounts) -> list[list[str]]:
    counts = (
        words.correct,
        words.substitutions,
        words.insertions,
        words.deletions,
        words.errors,
    )
    length = words.reference_length
    sizes = [str(num), str(length)]
    percents = [format_rate(100 * count / length if length else None) for count in counts]
    return [
        [name, "raw", *sizes, *map(str, counts), str(num_wrong)],
        [name, "sys", *sizes, *percents, f"{100 * num_wrong / num:.2f}"],
    ]


def _operation_lines(operations: Mapping[tuple[str, str | None, str | None], int]) -> Iterable[str]:
    """As Kaldi's ops: operation, reference, hypothesis, count."""
    for letter, name in _OPERATION_NAMES.items():
        for reference, said, count in most_common(operations, letter):
            one = "***" if letter == INSERTION else reference
            other = "***" if letter == DELETION else said
            yield f"{name} {one} {other} {count}"
