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
        features = config.features
        self._rate = features.sample_rate
        self._step = config.encoder.subsampling * features.frame_shift
        self._tokens, self._decoder = tokens, decoder
        self._resampler = Resampler(sample_rate or self._rate, self._rate)
        self._quantum = max(1, round(_QUANTUM_SECONDS * self._rate))
        self.endpoint_seconds = endpoint_seconds
        self._num_blanks = max(1, round(endpoint_seconds * self._rate / self._step))
        self._most_steps = round(LONGEST_SECONDS * self._rate / self._step)
        self._open_network = open_network
        self._network = open_network()
        self._origin = 0  # sample at which the network began
        self._num_steps = 0  # that the network has given
        self._num_samples = 0
        self._waiting = np.zeros(0, np.float32)
        self._pending = np.zeros((0, len(tokens)), np.float32)
        lookahead = 2 * features.deltas * features.frame_shift
        delay = self._quantum + features.frame_length + self._step + lookahead
        self.latency = delay / self._rate
        """Seconds from a sound to the text that it can change, at most; computing not counted."""

    def accept(self, samples: ArrayLike) -> LiveResult:
        """What is known with some more samples, [sample] in [-1, 1]."""
        values = self._resampler.resample(np.asarray(samples, np.float32))
        self._waiting = np.concatenate([self._waiting, values])
        finished: list[Transcript] = []
        while len(self._waiting) >= self._quantum:
            part, self._waiting = np.split(self._waiting, [self._quantum])
            finished += self._advance(part)
        return self._result(finished)

    def finish(self) -> LiveResult:
        """What is known at the end; no more audio may follow."""
        rest = np.concatenate([self._waiting, self._resampler.finish()])
        finished = [*self._advance(rest, last=True)]
        if greedy(self._pending).tokens:
            finished.append(self._take(len(self._pending)))
        self._pending = self._pending[:0]
        return self._result(finished)

    def _result(self, finished: list[Transcript]) -> LiveResult:
        return LiveResult(
            text=self._tokens.decode(greedy(self._pending).tokens), finished=tuple(finished)
        )

    def _advance(self, samples: NDArray[np.float32], last: bool = False) -> Iterator[Transcript]:
        self._num_samples += len(samples)
        steps = self._network.accept(samples, last=last)
        self._num_steps += len(steps)
        self._pending = np.concatenate([self._pending, steps])
        while (end := self._end_of_speech()) is not None:
            yield self._take(end)
        blank = not greedy(self._pending).tokens
        if blank and self._num_steps >= self._most_steps and not last:
            self._network = self._open_network()
            self._origin, self._num_steps = self._num_samples, 0
            self._pending = self._pending[:0]
        elif blank:
            self._pending = self._pending[:0]

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
        first = self._num_steps - len(self._pending) - len(segment)
        return make_transcript(
            self._decoder.decode(segment),
            segment,
            self._tokens,
            start=(self._origin + first * self._step) / self._rate,
            step_seconds=self._step / self._rate,
            nbest=self._decoder.config.nbest,
            calibration=self._decoder.config.confidence,
        )
