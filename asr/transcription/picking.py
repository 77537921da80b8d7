"""Which speech is most worth a person's time: what `asr data pick` does.

What a model hears is cut into stretches, and of each the errors are expected that its words'
confidences promise. The choice has as many of them as fit, of as many speakers, recordings and
words as it can.
"""

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from asr.corpus import Utterance, manifest
from asr.transcription.labelling import cut_transcript, has_no_pause, mean_confidence
from asr.transcription.sources import Source
from asr.transcription.transcript import Transcript, Word

_SILENCE = 0.5  # errors that are expected where nothing was heard
_OVERHEAD = 1.0  # seconds that a stretch costs a person besides its own


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A stretch of speech that a person may review, and what a model hears in it."""

    utterance: Utterance
    """Without a text."""
    text: str
    """What the model hears."""
    words: tuple[Word, ...]
    """Their times are seconds from its start."""

    @property
    def expected_errors(self) -> float:
        """How many words are wrong, if confidences mean what they say."""
        return sum(_doubts(self).values())

    @property
    def confidence(self) -> float:
        """The share of its words that is expected to be right."""
        return mean_confidence(self.words)


def find_candidates(
    source: Source, transcript: Transcript, max_seconds: float
) -> Iterator[Candidate]:
    """The stretches of a source, cut as labels are.

    What has no pause for longer than `max_seconds` is left out, and so is silence as long.
    """
    space = " " if " " in transcript.text else ""
    for stretch, words in cut_transcript(source.utterance, transcript, max_seconds):
        if has_no_pause(stretch, max_seconds):
            continue
        begin = stretch.offset - source.utterance.offset
        yield Candidate(
            utterance=stretch,
            text=space.join(word.text for word in words),
            words=tuple(
                replace(word, start=word.start - begin, end=word.end - begin) for word in words
            ),
        )


def pick(candidates: Sequence[Candidate], seconds: float) -> list[Candidate]:
    """The most valuable candidates that have so many seconds together, most valuable first.

    A candidate's value is that of its words, which are worth their doubt, for each second. A word
    that has been picked n times is worth it divided by the root of n + 1, and what comes of a
    speaker or recording is worth half when that has had its equal share of the time.
    """
    places = [_places(candidate.utterance) for candidate in candidates]
    shares = [seconds / max(1, len({place[kind] for place in places})) for kind in range(2)]
    spent: dict[tuple[int, str], float] = defaultdict(float)
    words: Counter[str] = Counter()

    def worth(row: int) -> float:
        doubts = _doubts(candidates[row])
        value = sum(doubt / math.sqrt(1 + words[word]) for word, doubt in doubts.items())
        for kind, name in enumerate(places[row]):
            value /= 1 + spent[kind, name] / shares[kind]
        return value / (candidates[row].utterance.duration + _OVERHEAD)

    # What is worth less with each choice need not be looked at again until its turn comes.
    waiting = [(-worth(row), row) for row in range(len(candidates))]
    heapq.heapify(waiting)
    chosen: list[Candidate] = []
    left = seconds
    while waiting:
        _, row = heapq.heappop(waiting)
        candidate = candidates[row]
        if candidate.utterance.duration > left:
            continue
        value = worth(row)
        if waiting and (-value, row) > waiting[0]:
            heapq.heappush(waiting, (-value, row))
            continue
        chosen.append(candidate)
        left -= candidate.utterance.duration
        words.update(list(_doubts(candidate)))
        for place in enumerate(places[row]):
            spent[place] += candidate.utterance.duration
    return chosen


def pick_at_random(
    candidates: Sequence[Candidate], seconds: float, seed: int = 0
) -> list[Candidate]:
    """Candidates that have so many seconds together, drawn without looking at them."""
    chosen: list[Candidate] = []
    left = seconds
    for row in np.random.default_rng(seed).permutation(len(candidates)).tolist():
        if candidates[row].utterance.duration <= left:
            chosen.append(candidates[row])
            left -= candidates[row].utterance.duration
    return chosen


def write_candidates(candidates: Sequence[Candidate], path: Path) -> None:
    """Write a manifest of them, with what the model hears as `pred_text` and `words`."""
    with manifest.open_rows(path) as file:
        for candidate in candidates:
            utterance = candidate.utterance
            words = [
                {
                    "word": word.text,
                    "start": round(word.start, 3),
                    "end": round(word.end, 3),
                    "confidence": round(word.confidence, 4),
                }
                for word in candidate.words
            ]
            row = {
                **manifest.row_of(utterance, path.parent),
                "pred_text": candidate.text,
                "confidence": round(candidate.confidence, 4),
                "expected_errors": round(candidate.expected_errors, 3),
                "words": words,
            }
            manifest.write_row(file, row)


def _doubts(candidate: Candidate) -> dict[str, float]:
    """The expected errors by word."""
    doubts: dict[str, float] = {} if candidate.words else {"": _SILENCE}
    for word in candidate.words:
        doubts[word.text] = doubts.get(word.text, 0.0) + 1 - word.confidence
    return doubts


def _places(utterance: Utterance) -> tuple[str, str]:
    """Speaker and recording; one whose speaker is unknown speaks alone in a recording."""
    path = str(utterance.audio_filepath)
    return utterance.speaker or f"/{path}", path
