"""What is in a corpus: hours, speakers, words, characters; and what manifests have in common."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from asr.corpus.manifest import Utterance

QUANTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)
"""Percent, of durations."""

_NUM_NAMED = 5  # words and speakers that are named


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a manifest holds."""

    name: str
    num_utterances: int
    num_with_text: int
    num_with_speaker: int
    num_without_duration: int
    """Utterances whose manifest says 0, which is to the end of the file; not in the seconds."""
    seconds: float
    quantiles: Mapping[int, float]
    """Seconds by percent, of the utterances with a duration; empty where none has one."""
    words: Mapping[str, int]
    characters: Mapping[str, int]
    speakers: Mapping[str, int]
    """Utterances of each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """What two manifests have in common, and what the first lacks of the second."""

    first: str
    second: str
    shared_speakers: tuple[str, ...]
    unseen_words: Mapping[str, int]
    """Words of the second that the first does not have."""
    num_words: int
    """Of the second."""

    @property
    def unseen_rate(self) -> float | None:
        """Unseen words in percent of the second's running words."""
        return 100 * sum(self.unseen_words.values()) / self.num_words if self.num_words else None


def summarize(utterances: Iterable[Utterance], name: str) -> Summary:
    """Count in one pass; memory grows with words, speakers and 8 bytes an utterance."""
    durations = array("d")
    words: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    speakers: Counter[str] = Counter()
    num_utterances = num_with_text = 0
    for utterance in utterances:
        num_utterances += 1
        if utterance.duration:
            durations.append(utterance.duration)
        if utterance.text is not None:
            num_with_text += 1
            words.update(utterance.text.split())
            characters.update(utterance.text)
        if utterance.speaker is not None:
            speakers[utterance.speaker] += 1
    values = np.percentile(durations, QUANTILES).tolist() if durations else []
    return Summary(
        name=name,
        num_utterances=num_utterances,
        num_with_text=num_with_text,
        num_with_speaker=speakers.total(),
        num_without_duration=num_utterances - len(durations),
        seconds=float(np.sum(durations)),
        quantiles=dict(zip(QUANTILES, values, strict=False)),
        words=words,
        characters=characters,
        speakers=speakers,
    )


def overlaps(summaries: Sequence[Summary]) -> list[Overlap]:
    """What every two manifests have in common, and which words only the later one has."""
    return [
        Overlap(
            first=first.name,
            second=second.name,
            shared_speakers=tuple(sorted(first.speakers.keys() & second.speakers.keys())),
            unseen_words={w: n for w, n in second.words.items() if w not in first.words},
            num_words=sum(second.words.values()),
        )
        for first, second in combinations(summaries, 2)
    ]


def summary_lines(summary: Summary) -> Iterator[str]:
    """What a manifest holds, as `asr data stats` prints it."""
    yield f"manifest     {summary.name}"
    without = summary.num_utterances - summary.num_with_text
    yield f"utterances   {summary.num_utterances:,}" + (
        f", {without:,} without text" * bool(without)
    )
    yield f"hours        {summary.seconds / 3600:.3f}"
    if summary.num_without_duration:
        yield f"             without {summary.num_without_duration:,} of unknown duration"
    if summary.quantiles:
        shown = ", ".join(f"{percent} % {s:.2f}" for percent, s in summary.quantiles.items())
        yield f"seconds      {shown}"
    yield f"speakers     {_speakers(summary)}"
    num_words = sum(summary.words.values())
    once = sum(count == 1 for count in summary.words.values())
    yield f"words        {num_words:,}, {len(summary.words):,} different, {once:,} of them once"
    yield f"characters   {len(summary.characters):,} different: {_characters(summary)}"


def overlap_lines(overlap: Overlap) -> Iterator[str]:
    """What two manifests have in common, as `asr data stats` prints it."""
    rate = overlap.unseen_rate
    shown = "" if rate is None else f" ({rate:.2f} %)"
    yield (
        f"{overlap.second} has {sum(overlap.unseen_words.values()):,} of {overlap.num_words:,} "
        f"words{shown} that {overlap.first} lacks, {len(overlap.unseen_words):,} different"
        + _named(sorted(overlap.unseen_words, key=lambda w: (-overlap.unseen_words[w], w)))
    )
    yield (
        f"{overlap.second} shares {len(overlap.shared_speakers):,} speakers with {overlap.first}"
        + _named(overlap.shared_speakers)
    )


def summary_row(summary: Summary) -> dict[str, Any]:
    """What a manifest holds, as `asr data stats --format json` prints it."""
    return {
        "manifest": summary.name,
        "utterances": summary.num_utterances,
        "with_text": summary.num_with_text,
        "with_speaker": summary.num_with_speaker,
        "without_duration": summary.num_without_duration,
        "seconds": round(summary.seconds, 3),
        "duration_quantiles": {str(p): round(s, 3) for p, s in summary.quantiles.items()},
        "words": sum(summary.words.values()),
        "vocabulary": _descending(summary.words),
        "characters": _descending(summary.characters),
        "speakers": _descending(summary.speakers),
    }


def overlap_row(overlap: Overlap) -> dict[str, Any]:
    """What two manifests have in common, as `asr data stats --format json` prints it."""
    return {
        "first": overlap.first,
        "second": overlap.second,
        "shared_speakers": list(overlap.shared_speakers),
        "unseen_words": _descending(overlap.unseen_words),
        "unseen_percent": overlap.unseen_rate,
    }


def _speakers(summary: Summary) -> str:
    if not summary.speakers:
        return "not given"
    without = summary.num_utterances - summary.num_with_speaker
    counts = summary.speakers.values()
    return (
        f"{len(summary.speakers):,}, with {min(counts):,} to {max(counts):,} utterances"
        + f"; {without:,} utterances without" * bool(without)
    )


def _characters(summary: Summary) -> str:
    return " ".join(
        f"{'space' if c == ' ' else c if c.isprintable() else f'U+{ord(c):04X}'}:{n}"
        for c, n in _descending(summary.characters).items()
    )


def _descending(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _named(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f": {', '.join(names[:_NUM_NAMED])}" + ", ..." * (len(names) > _NUM_NAMED)
