"""The files beside a score that scripts look for, as Kaldi, icefall and sclite have them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import quote

from asr.files import open_atomic
from asr.folders import claim_names
from asr.scoring.breakdown import Operation, most_common, word_counts
from asr.scoring.errors import (
    CORRECT,
    DELETION,
    INSERTION,
    SUBSTITUTION,
    ErrorCounts,
    Score,
    UtteranceScore,
    format_rate,
)
from asr.scoring.report import ScoreReport, report_json, report_lines, results_table

_OPERATION_NAMES = {
    CORRECT: "correct",
    SUBSTITUTION: "substitution",
    INSERTION: "insertion",
    DELETION: "deletion",
}


def write_files(report: ScoreReport, folder: Path) -> None:
    """Write `report.txt`, `report.json` and the files of detail into a folder.

    Those are `alignments.txt`, `per_utt`, `per_spk`, `ops`, `ref.trn`, `hyp.trn` and `RESULTS.md`.

    Raises:
        AsrError: a file of such a name is there, and not of an earlier call.
    """
    score = report.score
    contents = {
        "report.txt": "".join(f"{line}\n" for line in report_lines(report)),
        "report.json": report_json(report),
        "alignments.txt": _lines(_alignment_lines(report)),
        "per_utt": _lines(_per_utterance_lines(score)),
        "per_spk": _lines(_per_speaker_lines(report)),
        "ops": _lines(_operation_lines(report.operations)),
        "ref.trn": _lines(f"{u.reference} ({safe_id(u.id)})".strip() for u in score.utterances),
        "hyp.trn": _lines(
            f"{u.hypothesis} ({safe_id(u.id)})".strip()
            for u in score.utterances
            if u.hypothesis is not None
        ),
        "RESULTS.md": _lines(results_table(report)),
    }
    claim_names(folder, contents.keys())
    for name, content in contents.items():
        with open_atomic(folder / name) as file:
            file.write(content)


def safe_id(utterance_id: str) -> str:
    """An id without the characters that end ids in these files: they become %20 and the like."""
    return "".join(quote(c) if c.isspace() or c in "()%" else c for c in utterance_id)


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _alignment_lines(report: ScoreReport) -> Iterable[str]:
    """As icefall's errs files: `(ref->hyp)` in the line, then what was confused."""
    yield from report_lines(report)
    yield from (
        "",
        "UTTERANCES: a word, (reference->hypothesis), (reference->*) or (*->hypothesis)",
    )
    for utterance in report.worst_first:
        note = "" if utterance.hypothesis is not None else " [no hypothesis]"
        yield f"{safe_id(utterance.id)}:\t{' '.join(_inline(utterance))}{note}"
    yield from ("", "SUBSTITUTIONS: count reference -> hypothesis")
    for reference, said, count in most_common(report.operations, SUBSTITUTION):
        yield f"{count}   {reference} -> {said}"
    yield from ("", "DELETIONS: count reference")
    for reference, _, count in most_common(report.operations, DELETION):
        yield f"{count}   {reference}"
    yield from ("", "INSERTIONS: count hypothesis")
    for _, said, count in most_common(report.operations, INSERTION):
        yield f"{count}   {said}"
    yield from ("", "WORDS: word correct errors in_reference in_hypothesis")
    for word in word_counts(report.operations):
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


def _per_speaker_lines(report: ScoreReport) -> Iterable[str]:
    """As Kaldi's per_spk: counts (raw) and percentages (sys) of each speaker, and the sum."""
    header = [*("SPEAKER", "id", "#SENT", "#WORD", "Corr", "Sub", "Ins", "Del", "Err", "S.Err")]
    rows = [header]
    score = report.score
    for table in report.tables:
        for group in table.groups if table.column == "speaker" else ():
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


def _operation_lines(operations: Mapping[Operation, int]) -> Iterable[str]:
    """As Kaldi's ops: operation, reference, hypothesis, count."""
    for letter, name in _OPERATION_NAMES.items():
        for reference, said, count in most_common(operations, letter):
            one = "***" if letter == INSERTION else reference
            other = "***" if letter == DELETION else said
            yield f"{name} {one} {other} {count}"
