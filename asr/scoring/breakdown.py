"""Where the errors are: by speaker, length, place and word."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median, stdev
from typing import Any

from asr.scoring.errors import (
    CORRECT,
    DELETION,
    INSERTION,
    SUBSTITUTION,
    ErrorCounts,
    Score,
    UtteranceScore,
)

Operation = tuple[str, str | None, str | None]
"""Letter, reference word, hypothesis word."""

_DURATION_EDGES = (1, 2, 5, 10, 20, 30)  # seconds
_NUM_POSITIONS = 5
_MAX_SUBSETS = 20  # a column with more values does not divide a test set
_NOT_SUBSETS = frozenset(
    {"id", "audio_filepath", "text", "pred_text", "offset", "duration", "speaker"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Some of the utterances, or some of their words."""

    name: str
    num_utterances: int
    num_wrong: int
    """Utterances with an error, in these words."""
    words: ErrorCounts


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Groups that together are the whole test set."""

    title: str
    column: str
    groups: tuple[Group, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class WordCounts:
    """What became of a word."""

    word: str
    correct: int
    num_reference: int
    num_hypothesis: int

    @property
    def errors(self) -> int:
        """Times it was not recognized, or recognized where it was not said."""
        return self.num_reference + self.num_hypothesis - 2 * self.correct


def tables(score: Score, columns: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """By speaker, duration, every column that divides the test set, and place.

    Args:
        score: of the test set.
        columns: what is known of an utterance, by its id.
    """
    candidates = [by_speaker(score), _by_duration(score, columns)]
    candidates += [_by_column(score, columns, name) for name in _subset_columns(columns)]
    return [table for table in (*candidates, _by_position(score)) if table and table.groups]


def by_speaker(score: Score) -> Table | None:
    """Speakers by name; None where none is known."""
    if not any(utterance.speaker for utterance in score.utterances):
        return None
    return _table("By speaker", "speaker", score, lambda u: u.speaker or "(unknown)")


def operation_counts(score: Score) -> Counter[Operation]:
    """How often each aligned pair occurs."""
    return Counter(pair for utterance in score.utterances for pair in utterance.pairs())


def most_common(
    counts: Mapping[Operation, int], letter: str, number: int | None = None
) -> list[tuple[str, str, int]]:
    """Reference word, hypothesis word (`*` for none) and count; the most frequent first."""
    chosen = [
        (reference if reference is not None else "*", said if said is not None else "*", count)
        for (operation, reference, said), count in counts.items()
        if operation == letter
    ]
    return sorted(chosen, key=lambda row: (-row[2], row[0], row[1]))[:number]


def word_counts(counts: Mapping[Operation, int]) -> list[WordCounts]:
    """Every word of either side, the one with the most errors first."""
    correct: Counter[str] = Counter()
    in_reference: Counter[str] = Counter()
    in_hypothesis: Counter[str] = Counter()
    for (letter, reference, said), count in counts.items():
        if reference is not None:
            in_reference[reference] += count
        if said is not None:
            in_hypothesis[said] += count
            correct[said] += count * (letter == CORRECT)
    rows = [
        WordCounts(
            word=word,
            correct=correct[word],
            num_reference=in_reference[word],
            num_hypothesis=in_hypothesis[word],
        )
        for word in in_reference.keys() | in_hypothesis.keys()
    ]
    return sorted(rows, key=lambda row: (-row.errors, row.word))


def worst_first(utterances: Iterable[UtteranceScore]) -> list[UtteranceScore]:
    """By number of errors, then by rate, then by id."""
    return sorted(utterances, key=lambda u: (-u.words.errors, u.words.reference_length, u.id))


def spread(table: Table) -> dict[str, float] | None:
    """Mean, standard deviation and median of the groups' rates, as sclite has them."""
    rates = [group.words.rate for group in table.groups if group.words.rate is not None]
    if len(rates) < 2:
        return None
    return {"mean": fmean(rates), "sd": stdev(rates), "median": median(rates)}


def _table(
    title: str,
    column: str,
    score: Score,
    key: Callable[[UtteranceScore], str | None],
    order: Sequence[str] = (),
) -> Table:
    members: dict[str, list[UtteranceScore]] = {name: [] for name in order}
    for utterance in score.utterances:
        name = key(utterance)
        if name is not None:
            members.setdefault(name, []).append(utterance)
    names = order or sorted(members)
    return Table(
        title=title,
        column=column,
        groups=tuple(
            Group(
                name=name,
                num_utterances=len(members[name]),
                num_wrong=sum(1 for utterance in members[name] if utterance.words.errors),
                words=sum((utterance.words for utterance in members[name]), ErrorCounts()),
            )
            for name in names
            if members[name]
        ),
    )


def _by_duration(score: Score, columns: Mapping[str, Mapping[str, Any]]) -> Table | None:
    seconds = {
        utterance_id: row["duration"]
        for utterance_id, row in columns.items()
        if isinstance(row.get("duration"), int | float)
    }
    if not seconds:
        return None
    names = [
        f"up to {_DURATION_EDGES[0]} s",
        *(f"{low} to {high} s" for low, high in pairwise(_DURATION_EDGES)),
        f"over {_DURATION_EDGES[-1]} s",
        "(unknown)",
    ]

    def name(utterance: UtteranceScore) -> str:
        if utterance.id not in seconds:
            return names[-1]
        return names[sum(1 for edge in _DURATION_EDGES if seconds[utterance.id] > edge)]

    return _table("By duration", "duration", score, name, names)


def _subset_columns(columns: Mapping[str, Mapping[str, Any]]) -> list[str]:
    values: dict[str, set[str]] = {}
    for row in columns.values():
        for name, value in row.items():
            if name not in _NOT_SUBSETS and isinstance(value, str | int | bool):
                values.setdefault(name, set()).add(str(value))
    return sorted(name for name, texts in values.items() if 2 <= len(texts) <= _MAX_SUBSETS)


def _by_column(score: Score, columns: Mapping[str, Mapping[str, Any]], name: str) -> Table:
    def value(utterance: UtteranceScore) -> str:
        cell = columns.get(utterance.id, {}).get(name)
        return "(none)" if cell is None else str(cell)

    return _table(f"By {name}", name, score, value)


def _by_position(score: Score) -> Table | None:
    """Fifths of an utterance's reference; what is inserted counts at the word after it."""
    errors: Counter[tuple[int, str]] = Counter()
    wrong: Counter[int] = Counter()
    for utterance in score.utterances:
        length = utterance.words.reference_length
        word = 0
        wrong_here = set()
        for letter in utterance.operations if length else ():
            fifth = min(word, length - 1) * _NUM_POSITIONS // length
            errors[fifth, letter] += 1
            word += letter != INSERTION
            if letter != CORRECT:
                wrong_here.add(fifth)
        wrong.update(wrong_here)
    if not errors:
        return None
    names = ("first fifth", "second fifth", "middle fifth", "fourth fifth", "last fifth")
    groups = []
    for fifth, name in enumerate(names):
        correct, substitutions, deletions, insertions = (
            errors[fifth, letter] for letter in (CORRECT, SUBSTITUTION, DELETION, INSERTION)
        )
        length = correct + substitutions + deletions
        words = ErrorCounts(substitutions, deletions, insertions, length)
        groups.append(
            Group(
                name=name,
                num_utterances=len(score.utterances),
                num_wrong=wrong[fifth],
                words=words,
            )
        )
    return Table(title="By place in the utterance", column="place", groups=tuple(groups))
