"""Is one system better than another on the same references, or is it chance?"""

from collections.abc import Sequence
from dataclasses import dataclass

from asr.errors import DataError
from asr.scoring.errors import Score, UtteranceScore, format_rate
from asr.scoring.statistics import (
    Interval,
    MatchedPairs,
    McNemar,
    PairedBootstrap,
    error_segments,
    matched_pairs,
    mcnemar,
    paired_bootstrap,
)

_ENOUGH_SEGMENTS = 50  # below, the normal distribution of MAPSSWE is a guess
_ENOUGH_UNITS = 20  # below, a bootstrap interval is too narrow


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two scores against the same references, and the tests of their difference."""

    a: Score
    b: Score
    bootstrap: PairedBootstrap | None
    matched_pairs: MatchedPairs
    mcnemar: McNemar
    num_a_better: int
    """Utterances with fewer errors in A."""
    num_b_better: int
    """Utterances with fewer errors in B."""


def compare(a: Score, b: Score) -> Comparison:
    """Compare utterance by utterance.

    Raises:
        DataError: the scores are not of the same references.
    """
    if [utterance.id for utterance in a.utterances] != [utterance.id for utterance in b.utterances]:
        raise DataError("two scores of different references cannot be compared")
    pairs = list(zip(a.utterances, b.utterances, strict=True))
    by_speaker = a.by_speaker
    units: dict[str, list[int]] = {}
    for one, other in pairs:
        counts = units.setdefault(str(one.speaker) if by_speaker else one.id, [0, 0, 0, 0])
        counts[0] += one.words.errors
        counts[1] += one.words.reference_length
        counts[2] += other.words.errors
        counts[3] += other.words.reference_length
    return Comparison(
        a=a,
        b=b,
        bootstrap=paired_bootstrap(
            *zip(*units.values(), strict=True), unit="speaker" if by_speaker else "utterance"
        ),
        matched_pairs=matched_pairs(
            [segment for one, other in pairs for segment in _segments(one, other)]
        ),
        mcnemar=mcnemar(
            [not one.words.errors for one, _ in pairs],
            [not other.words.errors for _, other in pairs],
        ),
        num_a_better=sum(1 for one, other in pairs if one.words.errors < other.words.errors),
        num_b_better=sum(1 for one, other in pairs if one.words.errors > other.words.errors),
    )


def comparison_lines(comparison: Comparison) -> list[str]:
    """What `asr compare` prints."""
    a, b, bootstrap = comparison.a, comparison.b, comparison.bootstrap
    matched, sentences = comparison.matched_pairs, comparison.mcnemar
    lines = [_system_line("A", a), _system_line("B", b)]
    if bootstrap is None:
        lines.append("Difference A - B: no interval; at least two utterances with words are needed")
    else:
        lines += [
            f"Difference A - B: {bootstrap.difference:+.2f} points "
            f"[{bootstrap.low:+.2f}, {bootstrap.high:+.2f}] ({bootstrap.confidence * 100:g} %, "
            f"paired bootstrap by {bootstrap.unit}, {bootstrap.num_units} {bootstrap.unit}s)",
            f"Paired bootstrap: p = {_format_p(bootstrap.p)}",
        ]
    z = "" if matched.z is None else f"z = {matched.z:.2f}, "
    lines += [
        f"MAPSSWE: {z}p = {_format_p(matched.p)} ({matched.num_segments} segments)",
        f"McNemar on sentences: p = {_format_p(sentences.p)} (only A right "
        f"{sentences.only_a_right}, only B right {sentences.only_b_right})",
        f"Utterances: A better {comparison.num_a_better}, B better {comparison.num_b_better}, "
        f"equal {len(a.utterances) - comparison.num_a_better - comparison.num_b_better}",
    ]
    if bootstrap is not None:
        lines.append(
            f"This test set cannot distinguish less than {bootstrap.detectable:.2f} points "
            "(5 % significance, 80 % power)"
        )
    return lines


def comparison_notes(comparison: Comparison) -> list[str]:
    """Why the tests may mean less than they seem to."""
    notes = []
    if comparison.matched_pairs.num_segments < _ENOUGH_SEGMENTS:
        notes.append(
            f"MAPSSWE supposes about {_ENOUGH_SEGMENTS} segments; "
            f"there are {comparison.matched_pairs.num_segments}"
        )
    return notes + unit_notes(comparison.bootstrap)


def unit_notes(interval: Interval | PairedBootstrap | None) -> list[str]:
    """A note where few units make an interval too narrow."""
    if interval is None or interval.num_units >= _ENOUGH_UNITS:
        return []
    return [
        f"{interval.num_units} {interval.unit}s are few: the interval is narrower than it should be"
    ]


def comparison_values(comparison: Comparison) -> dict[str, object]:
    """The comparison as plain values, for JSON."""
    bootstrap, matched = comparison.bootstrap, comparison.matched_pairs
    return {
        "schema_version": 1,
        "wer_a": comparison.a.words.rate,
        "wer_b": comparison.b.words.rate,
        "bootstrap": bootstrap
        and {
            "difference": bootstrap.difference,
            "low": bootstrap.low,
            "high": bootstrap.high,
            "confidence": bootstrap.confidence,
            "p": bootstrap.p,
            "unit": bootstrap.unit,
            "num_units": bootstrap.num_units,
            "detectable": bootstrap.detectable,
        },
        "mapsswe": {
            "num_segments": matched.num_segments,
            "mean": matched.mean,
            "z": matched.z,
            "p": matched.p,
        },
        "mcnemar": {
            "only_a_right": comparison.mcnemar.only_a_right,
            "only_b_right": comparison.mcnemar.only_b_right,
            "p": comparison.mcnemar.p,
        },
        "num_a_better": comparison.num_a_better,
        "num_b_better": comparison.num_b_better,
    }


def _segments(one: UtteranceScore, other: UtteranceScore) -> Sequence[tuple[int, int]]:
    if one.reference == other.reference:
        return error_segments(one.operations, other.operations)
    # Alternates were chosen differently, so the words do not match: the utterance is one segment.
    return [(one.words.errors, other.words.errors)]


def _system_line(name: str, score: Score) -> str:
    words = score.words
    return (
        f"{name}: WER {format_rate(words.rate)} % [ {words.errors} / {words.reference_length}, "
        f"{words.insertions} ins, {words.deletions} del, {words.substitutions} sub ], "
        f"{len(score.missing)} missing"
    )


def _format_p(p: float | None) -> str:
    return "-" if p is None else f"{p:.4f}" if p >= 0.0001 else "< 0.0001"
