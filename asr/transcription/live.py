"""Transcription of audio as it arrives; no torch, which the network brings along.

Dimension names: sample, step, token.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asr.audio import Resampler
from asr.config import Config
from asr.decoding import Decoder, greedy
from asr.model import inference
from asr.text import TokenTable
from asr.transcription.pieces import LONGEST_SECONDS, blank_step
from asr.transcription.transcript import Transcript, make_transcript

ENDPOINT_SECONDS = 0.8
_QUANTUM_SECONDS = 0.1  # the network takes so much at a time, however it arrives


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveResult:
    """What is known after some more audio."""

    text: str
    """Of the speech that is going on; may still change."""
    finished: tuple[Transcript, ...] = ()
    """Stretches of speech that have ended, with times from the start of the stream."""


class LiveSteps:
    """Samples in, the network's steps out, whatever the portions in which the samples arrive."""

    def __init__(
        self,
        open_network: Callable[[], inference.LiveNetwork],
        config: Config,
        sample_rate: int | None = None,
    ):
        """Begin.

        Args:
            sample_rate: Hz, of what will arrive; none is the model's.
        """
        features = config.features
        self._rate = features.sample_rate
        self._step = config.encoder.subsampling * features.frame_shift
        self._resampler = Resampler(sample_rate or self._rate, self._rate)
        self._quantum = max(1, round(_QUANTUM_SECONDS * self._rate))
        self._most_steps = self.count(LONGEST_SECONDS)
        self._open_network = open_network
        self._network = open_network()
        self._origin = 0  # sample at which the network began
        self._num_samples = 0
        self._waiting = np.zeros(0, np.float32)
        self.step_seconds = self._step / self._rate
        """From one step to the next."""
        self.number = 0
        """Of steps that the network has given since it began."""
        lookahead = 2 * features.deltas * features.frame_shift
        delay = self._quantum + features.frame_length + self._step + lookahead
        self.latency = delay / self._rate
        """Seconds from a sound to the step that hears it, at most; computing not counted."""

    def accept(self, samples: ArrayLike) -> Iterator[NDArray[np.float32]]:
        """The steps of some more samples, [sample] in [-1, 1]; log-probabilities [step, token]."""
        values = self._resampler.resample(np.asarray(samples, np.float32))
        self._waiting = np.concatenate([self._waiting, values])
        while len(self._waiting) >= self._quantum:
            part, self._waiting = np.split(self._waiting, [self._quantum])
            yield self._hear(part)

    def finish(self) -> NDArray[np.float32]:
        """The last steps; no more audio may follow."""
        return self._hear(np.concatenate([self._waiting, self._resampler.finish()]), last=True)

    def count(self, seconds: float) -> int:
        """Steps in so many seconds, one at least."""
        return max(1, round(seconds * self._rate / self._step))

    def seconds(self, step: float) -> float:
        """From the start of the stream to a step since the network began."""
        return (self._origin + step * self._step) / self._rate

    @property
    def is_long(self) -> bool:
        """Whether the network remembers as much as it should."""
        return self.number >= self._most_steps

    def restart(self) -> None:
        """Have the network forget what it has heard."""
        self._network = self._open_network()
        self._origin, self.number = self._num_samples, 0

    def _hear(self, samples: NDArray[np.float32], last: bool = False) -> NDArray[np.float32]:
        self._num_samples += len(samples)
        steps = self._network.accept(samples, last=last)
        self.number += len(steps)
        return steps


class LiveStream:
    """Speech in, text out.

    A pause of `endpoint_seconds` ends a stretch of speech, and with it a word. What is going on is
    decoded greedily; what has ended, with the recognizer's decoder. The results do not depend on
    the portions in which the audio arrives.

    The network remembers everything for 40 s; the first pause after that lets it begin afresh, as
    a long recording's pieces do.
    """

    def __init__(
        self,
        open_network: Callable[[], inference.LiveNetwork],
        config: Config,
        tokens: TokenTable,
        decoder: Decoder,
        *,
        sample_rate: int | None = None,
        endpoint_seconds: float = ENDPOINT_SECONDS,
    ):
        """Begin to listen; see `Recognizer.stream`."""
        self._steps = LiveSteps(open_network, config, sample_rate)
        self._tokens, self._decoder = tokens, decoder
        self.endpoint_seconds = endpoint_seconds
        self._num_blanks = self._steps.count(endpoint_seconds)
        self._most_steps = self._steps.count(LONGEST_SECONDS)
        self._pending = np.zeros((0, len(tokens)), np.float32)
        self.latency = self._steps.latency
        """Seconds from a sound to the text that it can change, at most; computing not counted."""

    def accept(self, samples: ArrayLike) -> LiveResult:
        """What is known with some more samples, [sample] in [-1, 1]."""
        finished: list[Transcript] = []
        for steps in self._steps.accept(samples):
            finished += self._advance(steps)
            blank = not greedy(self._pending).tokens
            if blank and self._steps.is_long:
                self._steps.restart()
            if blank:
                self._pending = self._pending[:0]
        return self._result(finished)

    def finish(self) -> LiveResult:
        """What is known at the end; no more audio may follow."""
        finished = [*self._advance(self._steps.finish())]
        if greedy(self._pending).tokens:
            finished.append(self._take(len(self._pending)))
        self._pending = self._pending[:0]
        return self._result(finished)

    def _result(self, finished: list[Transcript]) -> LiveResult:
        return LiveResult(
            text=self._tokens.decode(greedy(self._pending).tokens), finished=tuple(finished)
        )

    def _advance(self, steps: NDArray[np.float32]) -> Iterator[Transcript]:
        self._pending = np.concatenate([self._pending, steps])
        while (end := self._end_of_speech()) is not None:
            yield self._take(end)

    def _end_of_speech(self) -> int | None:
        """Steps up to which a stretch of speech has ended, if one has."""
        is_token = self._pending.argmax(axis=1) != 0
        places = np.flatnonzero(is_token)
        if not len(places):
            return None
        # Blanks from each token to the next one, or to the end.
        gaps = np.diff(places, append=len(is_token)) - 1
        long = np.flatnonzero(gaps >= self._num_blanks)
        if len(long):
            return int(places[long[0]]) + 1 + self._num_blanks
        if len(self._pending) > self._most_steps:
            return blank_step(self._pending, self._most_steps // 2)
        return None

    def _take(self, num_steps: int) -> Transcript:
        segment, self._pending = np.split(self._pending, [num_steps])
        first = self._steps.number - len(self._pending) - len(segment)
        return make_transcript(
            self._decoder.decode(segment),
            segment,
            self._tokens,
            start=self._steps.seconds(first),
            step_seconds=self._steps.step_seconds,
            nbest=self._decoder.config.nbest,
            calibration=self._decoder.config.confidence,
        )
