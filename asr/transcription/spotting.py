"""Keywords in recordings and in audio that is still arriving: what `asr spot` does.

A hit is a word of a transcript that holds nothing else: its confidence is the hit's score.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asr.config import SpottingConfig
from asr.decoding import spotting
from asr.errors import AsrError
from asr.transcription.live import ENDPOINT_SECONDS, LiveSteps
from asr.transcription.pipeline import Watch
from asr.transcription.recognizer import Recognizer
from asr.transcription.sources import Source
from asr.transcription.transcript import Transcript, Word

PAUSE_SECONDS = 0.3
"""Without a token, which end a word where no space does."""


def open_spotter(
    recognizer: Recognizer, keywords: Path, config: SpottingConfig, threshold: float | None = None
) -> spotting.Spotter:
    """What listens for the keywords of a file, with a recognizer's network.

    Args:
        config: thresholds, by keyword.
        threshold: of all keywords, in place of these.

    Raises:
        DataError: as `read_keywords`.
    """
    words = spotting.read_keywords(keywords, recognizer.tokens)
    thresholds = [
        config.thresholds.get(word.text, config.threshold) if threshold is None else threshold
        for word in words
    ]
    pause_steps = max(1, round(PAUSE_SECONDS / recognizer.step_seconds))
    return spotting.Spotter(words, recognizer.tokens, thresholds, pause_steps)


def spot_sources(
    recognizer: Recognizer,
    spotter: spotting.Spotter,
    sources: Iterable[Source],
    *,
    watch: Watch | None = None,
    starts: Collection[int] = (),
) -> Generator[tuple[Source, Transcript | AsrError], None, None]:
    """Each source with the keywords heard in it, or what it met; as `transcribe_sources`."""
    step_seconds = recognizer.step_seconds

    def make(log_probs: NDArray[np.float32], start: float) -> Transcript:
        words = [
            _word(spotter, hit, lambda step: start + step * step_seconds)
            for hit in spotter.spot(log_probs)
        ]
        return _transcript(words, len(log_probs) * step_seconds)

    yield from recognizer.make_sources(sources, make, watch=watch, starts=starts)


class LiveSpotter:
    """Audio in, hits out: each as soon as its word has ended, in a space or a pause of 0.3 s."""

    def __init__(self, steps: LiveSteps, spotter: spotting.Spotter):
        """Begin to listen.

        Args:
            steps: of the network; see `Recognizer.steps`.
        """
        self._steps = steps
        self._spotter = spotter
        self._listening = spotter.listen()
        self._most_blanks = self._steps.count(ENDPOINT_SECONDS)
        self._num_blanks = 0
        self.latency = self._steps.latency + spotter.delay_steps * self._steps.step_seconds
        """Seconds from the end of a word to its hit, at most, where a pause follows."""

    def accept(self, samples: ArrayLike) -> list[Word]:
        """Hits that are known with some more samples, [sample] in [-1, 1]."""
        words: list[Word] = []
        for steps in self._steps.accept(samples):
            words += self._words(self._listening.accept(steps))
            tokens = np.flatnonzero(steps.argmax(axis=1))
            blanks = self._num_blanks + len(steps)
            self._num_blanks = len(steps) - 1 - int(tokens[-1]) if len(tokens) else blanks
            if self._steps.is_long and self._num_blanks >= self._most_blanks:
                words += self._words(self._listening.finish())
                self._listening = self._spotter.listen()
                self._steps.restart()
        return words

    def finish(self) -> list[Word]:
        """The last hits; no more audio may follow."""
        hits = self._listening.accept(self._steps.finish())
        return self._words([*hits, *self._listening.finish()])

    def _words(self, hits: Sequence[spotting.Hit]) -> list[Word]:
        return [_word(self._spotter, hit, self._steps.seconds) for hit in hits]


def _word(spotter: spotting.Spotter, hit: spotting.Hit, seconds: Callable[[float], float]) -> Word:
    return Word(
        text=spotter.keywords[hit.keyword].text,
        start=seconds(hit.start),
        end=seconds(hit.end),
        confidence=hit.score,
    )


def _transcript(words: Sequence[Word], duration: float) -> Transcript:
    text = " ".join(word.text for word in words)
    return Transcript(text=text, words=tuple(words), log_prob=0.0, duration=duration)
