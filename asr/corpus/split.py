"""Parts of a corpus: splits that share no speaker, random subsets, utterances that pass a filter.

A manifest is read twice, as a stream, where a choice needs all of it: memory grows with units
(speakers, recordings) or a few bytes an utterance, not with what lines hold.
"""

import math
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from asr.corpus.manifest import Entry, Utterance
from asr.errors import DataError

SplitUnit = Literal["speaker", "recording", "text", "utterance"]
"""What is never divided: all utterances of a speaker, of an audio file, or of a text."""

_NUM_NAMED = 3  # utterances that an error names


def first_minutes(utterances: Sequence[Utterance], minutes: float, seed: int) -> list[Utterance]:
    """So much of them, in their order, drawn so that fewer minutes are part of more.

    Those that bring a character which no other before them has come first: what is to be scored
    has them too.

    Raises:
        DataError: there are no more than that, or the first is longer.
    """
    total = sum(utterance.duration for utterance in utterances) / 60
    if minutes > total:
        raise DataError(f"corpus.train_minutes: {minutes:g}, and there are {total:.1f} to train on")
    drawn = np.random.default_rng(seed).permutation(len(utterances)).tolist()
    characters: set[str] = set()
    news: list[int] = []
    for place in drawn:
        if not set(utterances[place].text or "") <= characters:
            characters |= set(utterances[place].text or "")
            news.append(place)
    chosen: set[int] = set()
    seconds = 0.0
    for place in dict.fromkeys(news + drawn):
        seconds += utterances[place].duration
        if seconds > 60 * minutes:
            break
        chosen.add(place)
    if not chosen:
        raise DataError(f"corpus.train_minutes: {minutes:g}, and the first utterance is longer")
    return [utterance for place, utterance in enumerate(utterances) if place in chosen]


def unit_of(utterance: Utterance, unit: SplitUnit) -> str:
    """The name of the unit that an utterance belongs to."""
    if unit == "speaker":
        return utterance.speaker or ""
    if unit == "recording":
        return str(utterance.audio_filepath)
    if unit == "text":
        return " ".join((utterance.text or "").casefold().split())
    return utterance.id


def count_units(utterances: Iterable[Utterance], unit: SplitUnit) -> dict[str, int]:
    """Utterances of each unit, in the order of their first.

    Raises:
        DataError: some utterances have the speaker or text that is asked for and others not.
    """
    counts: dict[str, int] = {}
    without = 0
    examples: list[str] = []
    for utterance in utterances:
        name = unit_of(utterance, unit)
        if name:
            counts[name] = counts.get(name, 0) + 1
        else:
            without += 1
            examples += [utterance.id] if len(examples) < _NUM_NAMED else []
    if without and (counts or unit != "speaker"):
        more = ", ..." if without > len(examples) else ""
        raise DataError(
            f"{without} utterances have no {unit}: {', '.join(examples)}{more}; give each one, or "
            "split --by recording"
        )
    return counts


def choose_splits(
    counts: Mapping[str, int], shares: Mapping[str, float], rest: str, seed: int, unit: SplitUnit
) -> dict[str, str]:
    """Choose a split for each unit.

    Units come in random order; a split takes those that bring its number of utterances nearer to
    its share, at least one, and leaves at least one to those that follow.

    Args:
        counts: utterances by unit.
        shares: of all utterances, in (0, 1), by the split's name.
        rest: name of the split of all other units.
        seed: of the order.
        unit: how errors call a unit.

    Raises:
        DataError: there are fewer units than splits.
    """
    if len(counts) < len(shares) + 1:
        raise DataError(
            f"{len(counts)} different {unit}s cannot be divided into {len(shares) + 1} splits; "
            "choose another unit with --by"
        )
    # Sorted first: the choice depends on the units and the seed, not on the manifest's order.
    names = sorted(counts)
    left = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
    total = sum(counts.values())
    chosen: dict[str, str] = {}
    for position, (split, share) in enumerate(shares.items()):
        to_leave = len(shares) - position
        num_left, taken, passed = len(left), 0, []
        for name in left:
            nearer = abs(taken + counts[name] - share * total) < abs(taken - share * total)
            if nearer and num_left > to_leave:
                chosen[name] = split
                taken += counts[name]
                num_left -= 1
            else:
                passed.append(name)
        if not taken:
            smallest = min(passed, key=lambda name: counts[name])
            chosen[smallest] = split
            passed.remove(smallest)
        left = passed
    return chosen | dict.fromkeys(left, rest)


def choose_subset(
    durations: Sequence[float], seed: int, *, utterances: int | None, seconds: float = math.inf
) -> set[int]:
    """Positions of a random subset: so many utterances, or the first drawn that fit into `seconds`.

    The subset of a smaller number is part of that of a larger one with the same seed.
    """
    order = np.random.default_rng(seed).permutation(len(durations))
    if utterances is not None:
        return set(order[:utterances].tolist())
    total = np.cumsum(np.asarray(durations)[order])
    return set(order[: int(np.searchsorted(total, seconds, side="right"))].tolist())


def read_durations(utterances: Iterable[Utterance], *, all_known: bool) -> "array[float]":
    """Seconds of each utterance.

    Args:
        utterances: of a manifest.
        all_known: whether each must be.

    Raises:
        DataError: one is 0, which is to the end of the file, and must be known.
    """
    durations = array("d")
    for utterance in utterances:
        if all_known:
            _check_duration(utterance)
        durations.append(utterance.duration)
    return durations


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Conditions that an utterance must fulfil."""

    min_duration: float | None = None
    """Seconds."""
    max_duration: float | None = None
    """Seconds."""
    match: re.Pattern[str] | None = None
    """Must be found in the text."""
    speakers: frozenset[str] = frozenset()
    """One of these, if there are some."""
    min_score: float | None = None
    """Of an alignment, as `asr align --segment` states it."""
    min_confidence: float | None = None
    """Of a label, as `asr data label` states it."""

    def objection(self, entry: Entry, path: Path) -> str | None:
        """Why the utterance of a line is left out; none where it stays.

        Args:
            path: of the manifest, for errors.

        Raises:
            DataError: its duration is asked for and not known, or a score is no number.
        """
        utterance = entry.utterance
        if self.min_duration is not None or self.max_duration is not None:
            _check_duration(utterance)
        if self.min_duration is not None and utterance.duration < self.min_duration:
            return "too short"
        if self.max_duration is not None and utterance.duration > self.max_duration:
            return "too long"
        if self.speakers and utterance.speaker not in self.speakers:
            return "another speaker"
        if self.match is not None and not self.match.search(utterance.text or ""):
            return "no match in the text"
        if self.min_score is not None and entry.certainty("score", path) < self.min_score:
            return "a lower score"
        least = self.min_confidence
        if least is not None and entry.certainty("confidence", path) < least:
            return "a lower confidence"
        return None


def chosen_entries(entries: Iterable[Entry], positions: set[int]) -> Iterator[Entry]:
    """The entries at `positions`, in their order."""
    return (entry for position, entry in enumerate(entries) if position in positions)


def _check_duration(utterance: Utterance) -> None:
    if not utterance.duration:
        raise DataError(
            f"utterance {utterance.id}: duration 0 is to the end of the file; write the seconds "
            "into the manifest (asr data check --fix does)"
        )
