"""Word, character and sentence errors of hypotheses against references, joined by utterance id.

Conventions
    Words are what white space separates. Characters are those of the words joined by one space,
    the spaces included. Counts are whole numbers and add up over any split; rates are derived
    from them, in percent, and are never clipped. A rate over nothing is None.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Self

import jiwer

from asr.errors import DataError
from asr.scoring.statistics import Interval, bootstrap_interval
from asr.text import Alternates, alternates

CORRECT, SUBSTITUTION, DELETION, INSERTION = "CSDI"

_LETTERS = {
    "equal": CORRECT,
    "substitute": SUBSTITUTION,
    "delete": DELETION,
    "insert": INSERTION,
}
_BATCH_SIZE = 500  # utterances aligned at once; bounds the memory that alignments take
_NUM_NAMED = 5  # ids that an error names


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """Errors of an alignment with the fewest of them, and what they are counted against."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    reference_length: int = 0

    def __add__(self, other: Self) -> "ErrorCounts":
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.reference_length + other.reference_length,
        )

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def correct(self) -> int:
        """Words (or characters) of the reference that the hypothesis has."""
        return self.reference_length - self.substitutions - self.deletions

    @property
    def rate(self) -> float | None:
        """Errors in percent of the reference's length; None where that is 0."""
        if not self.reference_length:
            return None
        return 100 * self.errors / self.reference_length


@dataclass(frozen=True, kw_only=True, slots=True)
class UtteranceScore:
    """One utterance's words, aligned."""

    id: str
    reference_words: tuple[str, ...]
    """As compared: normalized, and with the alternates that cost least."""
    hypothesis_words: tuple[str, ...] | None
    """As compared; None where there is no hypothesis."""
    operations: str
    """A letter for each aligned pair, in order: C, S, D or I."""
    words: ErrorCounts
    characters: ErrorCounts
    speaker: str | None = None

    @property
    def reference(self) -> str:
        """The words of the reference, joined by spaces."""
        return " ".join(self.reference_words)

    @property
    def hypothesis(self) -> str | None:
        """The words of the hypothesis, joined by spaces; None where there is no hypothesis."""
        return None if self.hypothesis_words is None else " ".join(self.hypothesis_words)

    def right_words(self) -> Iterator[bool]:
        """Whether each word of the hypothesis is right, in order."""
        return (letter == CORRECT for letter in self.operations if letter != DELETION)

    def pairs(self) -> Iterator[tuple[str, str | None, str | None]]:
        """Operation, reference word and hypothesis word of each aligned pair."""
        reference = iter(self.reference_words)
        hypothesis = iter(self.hypothesis_words or ())
        for letter in self.operations:
            yield (
                letter,
                None if letter == INSERTION else next(reference),
                None if letter == DELETION else next(hypothesis),
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A test set's errors."""

    utterances: tuple[UtteranceScore, ...]
    """In the order of the references."""
    words: ErrorCounts
    characters: ErrorCounts
    num_wrong: int
    """Utterances with an error."""
    missing: tuple[str, ...]
    """Ids without a hypothesis: all their words are deletions."""
    extra: tuple[str, ...]
    """Ids without a reference, left out by permission."""
    empty: ErrorCounts
    """Of the utterances whose reference has no words; part of `words`."""
    num_empty: int

    @property
    def sentence_rate(self) -> float:
        """Utterances with an error, in percent."""
        return 100 * self.num_wrong / len(self.utterances)

    @property
    def by_speaker(self) -> bool:
        """Whether every utterance's speaker is known, and there are two or more."""
        speakers = {utterance.speaker for utterance in self.utterances}
        return None not in speakers and len(speakers) > 1


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorCounts:
    """Errors of one sequence of words or characters against another."""
    return _counts(next(_align([reference], [hypothesis])))


def score(
    references: Mapping[str, str | Alternates],
    hypotheses: Mapping[str, str | Alternates],
    *,
    normalizer: Callable[[str], str] | None = None,
    speakers: Mapping[str, str] | None = None,
    allow_extra: bool = False,
) -> Score:
    """Compare every reference with the hypothesis of the same id.

    Args:
        references: text, or text with alternates, of which those that cost least are taken.
        hypotheses: an id that is absent counts as deletions; "" is a hypothesis like another.
        normalizer: applied to both sides.
        speakers: by utterance id; may lack some.
        allow_extra: leave hypotheses without a reference out instead of refusing them.

    Raises:
        DataError: no references, or a hypothesis without a reference.
    """
    if not references:
        raise DataError("there are no references to score against")
    extra = tuple(utterance_id for utterance_id in hypotheses if utterance_id not in references)
    if extra and not allow_extra:
        raise DataError(f"{_name(extra)} without a reference; with --allow-extra they are left out")
    speakers = speakers or {}
    utterances = []
    ids = list(references)
    for first in range(0, len(ids), _BATCH_SIZE):
        batch = ids[first : first + _BATCH_SIZE]
        utterances += _score_batch(batch, references, hypotheses, normalizer, speakers)
    empty = [utterance for utterance in utterances if not utterance.words.reference_length]
    return Score(
        utterances=tuple(utterances),
        words=total(utterance.words for utterance in utterances),
        characters=total(utterance.characters for utterance in utterances),
        num_wrong=sum(1 for utterance in utterances if utterance.words.errors),
        missing=tuple(utterance_id for utterance_id in ids if utterance_id not in hypotheses),
        extra=extra,
        empty=total(utterance.words for utterance in empty),
        num_empty=len(empty),
    )


def total(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    """The sum of counts."""
    return reduce(add, counts, ErrorCounts())


def word_error_interval(score: Score) -> Interval | None:
    """95 % interval of the word error rate; resampled by speaker where speakers are known."""
    by_speaker = score.by_speaker
    units: dict[str, ErrorCounts] = {}
    for utterance in score.utterances:
        unit = str(utterance.speaker) if by_speaker else utterance.id
        units[unit] = units.get(unit, ErrorCounts()) + utterance.words
    return bootstrap_interval(
        [counts.errors for counts in units.values()],
        [counts.reference_length for counts in units.values()],
        unit="speaker" if by_speaker else "utterance",
    )


def kaldi_lines(score: Score, interval: Interval | None = None) -> list[str]:
    """The summary: the lines of Kaldi's compute-wer, the interval and the characters.

    Args:
        score: what to summarize.
        interval: `word_error_interval(score)`, computed if it is not given.
    """
    interval = interval or word_error_interval(score)
    num_utterances = len(score.utterances)
    return [
        # Kaldi's mark, too, for hypotheses that are not there.
        _counts_line("%WER", score.words) + (" [PARTIAL]" if score.missing else ""),
        f"%SER {score.sentence_rate:.2f} [ {score.num_wrong} / {num_utterances} ]",
        interval_line(score, interval),
        f"Scored {num_utterances} sentences, {len(score.missing)} not present in hyp.",
        _counts_line("%CER", score.characters),
    ]


def interval_line(score: Score, interval: Interval | None) -> str:
    """The word error rate with its interval, its method and the number of units."""
    rate = format_rate(score.words.rate)
    if interval is None:
        return f"WER {rate} % (no interval: at least two utterances with words are needed)"
    return (
        f"WER {rate} % [{interval.low:.2f}, {interval.high:.2f}] "
        f"({interval.confidence * 100:g} %, bootstrap by {interval.unit}, "
        f"{interval.num_units} {interval.unit}s)"
    )


def format_rate(rate: float | None) -> str:
    """Two decimals; `-` for a rate over nothing."""
    return "-" if rate is None else f"{rate:.2f}"


def _counts_line(label: str, counts: ErrorCounts) -> str:
    # Kaldi prints 0 / 0 as nan, and scripts parse it.
    rate = "nan" if counts.rate is None else f"{counts.rate:.2f}"
    return (
        f"{label} {rate} [ {counts.errors} / {counts.reference_length}, "
        f"{counts.insertions} ins, {counts.deletions} del, {counts.substitutions} sub ]"
    )


def _score_batch(
    ids: Sequence[str],
    references: Mapping[str, str | Alternates],
    hypotheses: Mapping[str, str | Alternates],
    normalizer: Callable[[str], str] | None,
    speakers: Mapping[str, str],
) -> list[UtteranceScore]:
    pairs = [_split(references[each], hypotheses.get(each, ""), normalizer, each) for each in ids]
    reference_words = [expected for expected, _ in pairs]
    hypothesis_words = [said for _, said in pairs]
    word_operations = _align(reference_words, hypothesis_words)
    character_operations = _align(
        [" ".join(words) for words in reference_words],
        [" ".join(words) for words in hypothesis_words],
    )
    return [
        UtteranceScore(
            id=utterance_id,
            reference_words=expected,
            hypothesis_words=said if utterance_id in hypotheses else None,
            operations=operations,
            words=_counts(operations),
            characters=_counts(operations_on_characters),
            speaker=speakers.get(utterance_id),
        )
        for utterance_id, expected, said, operations, operations_on_characters in zip(
            ids,
            reference_words,
            hypothesis_words,
            word_operations,
            character_operations,
            strict=True,
        )
    ]


def _split(
    reference: str | Alternates,
    hypothesis: str | Alternates,
    normalizer: Callable[[str], str] | None,
    utterance_id: str,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words of both sides, normalized; of alternates those nearest to the other side."""
    if normalizer:
        reference, hypothesis = (
            normalizer(side) if isinstance(side, str) else side.normalized(normalizer)
            for side in (reference, hypothesis)
        )
    if not isinstance(hypothesis, str):
        expected, heard = alternates.choose_wordings(reference, hypothesis, utterance_id)
        return tuple(expected), tuple(heard)
    said = _words(hypothesis)
    if isinstance(reference, str):
        return _words(reference), said
    return tuple(alternates.choose_wording(reference, said, utterance_id)), said


def _words(text: str) -> tuple[str, ...]:
    # Equal words are one object: most words of a test set are said often.
    return tuple(map(sys.intern, text.split()))


def _align(
    references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]
) -> Iterator[str]:
    """The operations of each pair of sequences, with the fewest errors."""
    output = jiwer.process_words(references, hypotheses, _AsItIs(), _AsItIs())  # type: ignore[arg-type]
    for chunks in output.alignments:
        yield "".join(
            _LETTERS[chunk.type]
            * max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
            for chunk in chunks
        )


class _AsItIs(jiwer.AbstractTransform):
    """In place of jiwer's own splitting: the sequences are split already; it takes lists alone."""

    def __call__(self, sequences: Any) -> Any:
        return [[*sequence] for sequence in sequences]


def _counts(operations: str) -> ErrorCounts:
    insertions = operations.count(INSERTION)
    return ErrorCounts(
        operations.count(SUBSTITUTION),
        operations.count(DELETION),
        insertions,
        len(operations) - insertions,
    )


def _name(ids: Sequence[str]) -> str:
    named = ", ".join(ids[:_NUM_NAMED])
    more = f" and {len(ids) - _NUM_NAMED} more" if len(ids) > _NUM_NAMED else ""
    noun = "hypothesis" if len(ids) == 1 else "hypotheses"
    return f"{len(ids)} {noun} ({named}{more})"
