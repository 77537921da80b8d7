"""Thresholds of keywords for a number of false alarms an hour, found on dev speech."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.config import SpottingConfig
from asr.corpus import Utterance
from asr.decoding import spotting
from asr.errors import AsrError, DataError
from asr.files import open_atomic
from asr.model import folder as model_folder
from asr.model import locate_model
from asr.progress import track
from asr.text import find_normalizer
from asr.transcription.recognizer import Recognizer
from asr.transcription.sources import Source
from asr.transcription.spotting import open_spotter, spot_sources

_LEAST = 0.1  # of a threshold: dev speech is too short to show how often less is a false alarm
_RATES = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)  # false alarms an hour, of the table


@dataclass(frozen=True, kw_only=True, slots=True)
class KeywordTrials:
    """What was heard of a keyword in dev speech."""

    text: str
    said: int
    """Times that it stands in the texts."""
    right: tuple[float, ...]
    """Scores of its hits where it was said, highest first."""
    wrong: tuple[float, ...]
    """Scores of the others, highest first."""

    def threshold(self, allowed: int) -> float:
        """The one that lets so many false alarms pass, in the middle between two scores."""
        wrong = self.wrong[allowed] if allowed < len(self.wrong) else 0.0
        above = [score for score in self.right if score > wrong]
        return max(_LEAST, math.nextafter(wrong, 1.0), (wrong + min(above, default=1.0)) / 2)

    def count(self, threshold: float) -> tuple[int, int]:
        """How often it is found, and how many false alarms there are."""
        found, false = (sum(s >= threshold for s in scores) for scores in (self.right, self.wrong))
        return found, false


@dataclass(frozen=True, kw_only=True, slots=True)
class SpottingTuning:
    """What dev speech says of keywords."""

    keywords: tuple[KeywordTrials, ...]
    hours: float

    def thresholds(self, false_alarms: float) -> dict[str, float]:
        """By keyword, for at most so many false alarms an hour of all of them together.

        Of the false alarms that are allowed each goes where it lets most hits pass.
        """
        allowed = dict.fromkeys(range(len(self.keywords)), 0)
        room = int(false_alarms * self.hours + 1e-9)
        while room > 0:
            gains = {
                (number, more): self._gain(number, before, more) / more
                for number, before in allowed.items()
                for more in range(1, min(room, len(self.keywords[number].wrong) - before) + 1)
            }
            best = max(gains, key=lambda choice: gains[choice], default=None)
            if best is None or gains[best] <= 0:
                break
            allowed[best[0]] += best[1]
            room -= best[1]
        return {self.keywords[n].text: self.keywords[n].threshold(k) for n, k in allowed.items()}

    def missed(self, thresholds: Mapping[str, float]) -> tuple[float, int]:
        """Percentage of what was said that is missed, and the number of false alarms."""
        counts = [word.count(thresholds[word.text]) for word in self.keywords]
        said = sum(word.said for word in self.keywords)
        found = sum(found for found, _ in counts)
        return 100 * (said - found) / max(1, said), sum(false for _, false in counts)

    def table(self) -> str:
        """Missed against false alarms, then the keywords at the lowest rate; tab separated."""
        lines = ["false_alarms_per_hour\tfalse_alarms\tmissed_percent"]
        for rate in _RATES:
            missed, false = self.missed(self.thresholds(rate))
            lines.append(f"{rate:g}\t{false}\t{missed:.2f}")
        return "\n".join(lines) + "\n"

    def keyword_table(self, false_alarms: float) -> str:
        """Each keyword at its threshold; tab separated."""
        lines = ["keyword\tthreshold\tsaid\tmissed\tfalse_alarms"]
        for word in self.keywords:
            threshold = self.thresholds(false_alarms)[word.text]
            found, false = word.count(threshold)
            lines.append(f"{word.text}\t{threshold:.4g}\t{word.said}\t{word.said - found}\t{false}")
        return "\n".join(lines) + "\n"

    def describe(self, false_alarms: float) -> Iterator[str]:
        """In lines."""
        missed, false = self.missed(self.thresholds(false_alarms))
        said = sum(word.said for word in self.keywords)
        yield (
            f"{len(self.keywords)} keywords, {said:,} times in {self.hours:.2f} hours: "
            f"{missed:.1f} % missed, {false} false alarms"
        )
        if false_alarms * self.hours < 1:
            yield (
                f"note: {false_alarms:g} an hour is less than one in {self.hours:.2f} hours, so "
                "thresholds let none pass; more dev speech says more"
            )
        unsaid = [word.text for word in self.keywords if not word.said]
        if unsaid:
            yield f"note: never said in the dev speech: {', '.join(unsaid[:10])}"

    def _gain(self, number: int, before: int, more: int) -> int:
        word = self.keywords[number]
        after, now = (word.count(word.threshold(n))[0] for n in (before + more, before))
        return after - now


def tune_keywords(
    model: Path,
    keywords: Path,
    utterances: Sequence[Utterance],
    *,
    false_alarms: float,
    device: str = "auto",
) -> SpottingTuning:
    """Find thresholds of keywords on dev speech, and store them in a model folder.

    Raises:
        ModelError: it is no model, or a starter.
        DataError: as `read_keywords`; an utterance cannot be read or has no text, or none is there.
    """
    folder = locate_model(model)
    model_folder.check_is_own(folder)
    recognizer = Recognizer.load(folder, device=device)
    spotter = open_spotter(recognizer, keywords, SpottingConfig(), spotting.LEAST_SCORE)
    tuning = try_keywords(recognizer, spotter, utterances)
    config = SpottingConfig(thresholds=tuning.thresholds(false_alarms), false_alarms=false_alarms)
    spotting.write_thresholds(config, folder)
    return tuning


def try_keywords(
    recognizer: Recognizer, spotter: spotting.Spotter, utterances: Sequence[Utterance]
) -> SpottingTuning:
    """What is heard of keywords in utterances whose texts are known.

    Of an utterance that has a keyword so many times, as many of its hits are right, the best ones.

    Raises:
        DataError: an utterance cannot be read or has no text, or there is none.
    """
    names = [keyword.text for keyword in spotter.keywords]
    said: Counter[str] = Counter()
    right: dict[str, list[float]] = {name: [] for name in names}
    wrong: dict[str, list[float]] = {name: [] for name in names}
    seconds = 0.0
    sources = [Source(utterance=utterance) for utterance in utterances]
    results = spot_sources(recognizer, spotter, sources)
    for source, result in track(results, total=len(sources), label="spotting", unit="utterances"):
        if isinstance(result, AsrError):
            raise DataError(f"{source.id}: {result}") from result
        if source.utterance.text is None:
            raise DataError(f"{source.id}: no text to compare with")
        seconds += result.duration
        counts = count_phrases(names, source.utterance.text, recognizer.tokens.separator)
        for name in names:
            hits = (word.confidence for word in result.words if word.text == name)
            scores = sorted(hits, reverse=True)
            said[name] += counts[name]
            right[name] += scores[: counts[name]]
            wrong[name] += scores[counts[name] :]
    if not sources:
        raise DataError("no utterance to tune on")
    return SpottingTuning(
        keywords=tuple(
            KeywordTrials(
                text=name,
                said=said[name],
                right=tuple(sorted(right[name], reverse=True)),
                wrong=tuple(sorted(wrong[name], reverse=True)),
            )
            for name in names
        ),
        hours=seconds / 3600,
    )


def count_phrases(phrases: Iterable[str], text: str, separator: str) -> dict[str, int]:
    """How often each phrase stands in a text; in whole words where a separator stands between."""
    clean = find_normalizer("basic")
    padded = f"{separator}{clean(text)}{separator}".replace(separator, 2 * separator)
    counts = {}
    for phrase in phrases:
        inner = clean(phrase).replace(separator, 2 * separator) if separator else clean(phrase)
        counts[phrase] = padded.count(f"{separator}{inner}{separator}")
    return counts


def write_det(tuning: SpottingTuning, false_alarms: float, path: Path) -> None:
    """Write both tables."""
    with open_atomic(path) as file:
        file.write(tuning.table() + "\n" + tuning.keyword_table(false_alarms))
