"""Live text from a network that needs whole utterances: what goes on is read again and again.

No torch. Dimension names: sample, step, token.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asr.audio import Resampler
from asr.config import Config
from asr.decoding import greedy
from asr.model import InferenceNetwork
from asr.text import TokenTable
from asr.transcription.live import ENDPOINT_SECONDS, LiveResult
from asr.transcription.pieces import (
    Piece,
    PieceLengths,
    Stitcher,
    blank_step,
    pause_finder,
    split_into_pieces,
)
from asr.transcription.pipeline import Make
from asr.transcription.transcript import Transcript, Word, join_transcripts, make_transcript

_EVERY_SECONDS = 0.5  # of new audio, before the stretch is read again
# Before the last pause, where what is read again begins: silence by itself is normalized to noise.
_CONTEXT_SECONDS = 6.0
_Samples = NDArray[np.float32]


class RereadStream:
    """Speech in, text out; like `LiveStream`, for networks that hear both directions.

    What has ended is what `Recognizer.transcribe` gives of the same audio: cut in the same places,
    so that it comes 40 s late or at the end. What is shown before, is the best path of the stretch
    since the last pause, which is read again every half second, or as often as half of the time
    allows.
    """

    def __init__(
        self,
        network: InferenceNetwork,
        config: Config,
        tokens: TokenTable,
        make: Make[Transcript],
        *,
        sample_rate: int | None = None,
        endpoint_seconds: float = ENDPOINT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Begin to listen; see `Recognizer.listen`."""
        features = config.features
        self._rate = features.sample_rate
        self._frame = features.frame_length
        self._network, self._tokens, self._make, self._clock = network, tokens, make, clock
        self._lengths = PieceLengths.of_samples(config)
        self._num_blanks = max(1, round(endpoint_seconds * self._rate / self._lengths.step))
        self._resampler = Resampler(sample_rate or self._rate, self._rate)
        self._stitcher = Stitcher(self._lengths)
        self._blocks: deque[_Samples] = deque()
        self._pieces = split_into_pieces(self._arrived(), self._lengths, pause_finder(self._rate))
        self._num_samples = 0
        self._piece_start = 0  # sample from which on nothing was cut off yet
        self._ended = 0.0  # seconds, up to which the text has ended
        self._stretch = np.zeros(0, np.float32)  # what is read again
        self._settled: list[Word] = []  # of stretches that pauses have ended
        self._settled_end = 0.0  # seconds, at the last of these pauses
        self._words: Sequence[Word] = ()  # since then
        self._num_unread = 0
        self._earliest = 0.0  # time of the next reading

    def accept(self, samples: ArrayLike) -> LiveResult:
        """What is known with some more samples, [sample] in [-1, 1]."""
        return self._result(self._advance(self._resampler.resample(np.asarray(samples, "f4"))))

    def finish(self) -> LiveResult:
        """What is known at the end; no more audio may follow."""
        finished = list(self._advance(self._resampler.finish(), last=True))
        duration = self._num_samples / self._rate
        self._settled, self._words = [], ()
        return LiveResult(
            text="",
            finished=tuple(
                join_transcripts([part], self._tokens, duration=duration)
                for part in finished
                if part.text
            ),
        )

    def _arrived(self) -> Iterator[_Samples]:
        while self._blocks:
            yield self._blocks.popleft()

    def _advance(self, samples: _Samples, last: bool = False) -> Iterator[Transcript]:
        self._blocks.append(samples)
        self._num_samples += len(samples)
        self._num_unread += len(samples)
        self._stretch = np.concatenate([self._stretch, samples])
        if last:
            for piece in self._pieces:
                yield from self._hear(piece)
            return
        # So much that a piece can be cut off without asking for a block that is not there.
        while self._num_samples - self._piece_start > self._lengths.longest:
            yield from self._hear(next(self._pieces))

    def _hear(self, piece: Piece) -> Iterator[Transcript]:
        overlap = self._lengths.overlap if piece.continues else 0
        self._piece_start = piece.start + len(piece.values) - overlap
        if len(piece.values) < self._frame:
            return
        (log_probs,) = self._network.log_probs([piece.values])
        for start, segment in self._stitcher.add(piece, log_probs).items():
            self._ended = (start + len(segment) * self._lengths.step) / self._rate
            yield self._make(segment, start / self._rate)

    def _result(self, parts: Iterator[Transcript]) -> LiveResult:
        finished = tuple(part for part in parts if part.text)
        is_due = self._num_unread >= _EVERY_SECONDS * self._rate
        if is_due and len(self._stretch) >= self._frame and self._clock() >= self._earliest:
            begin = self._clock()
            self._read_again()
            end = self._clock()
            self._earliest, self._num_unread = end + (end - begin), 0
        self._settled = [word for word in self._settled if self._is_open(word)]
        words = [*self._settled, *filter(self._is_open, self._words)]
        text = self._tokens.separator.join(word.text for word in words)
        return LiveResult(text=text, finished=finished)

    def _is_open(self, word: Word) -> bool:
        """Whether a word is not in the text that has ended."""
        return (word.start + word.end) / 2 >= self._ended

    def _read_again(self) -> None:
        (log_probs,) = self._network.log_probs([self._stretch])
        start = (self._num_samples - len(self._stretch)) / self._rate
        words = [
            word
            for word in self._read(log_probs, start)
            if (word.start + word.end) / 2 >= self._settled_end
        ]
        pause = start + self._end_of_speech(log_probs) * self._lengths.step / self._rate
        self._settled += [word for word in words if word.end <= pause]
        self._words = [word for word in words if word.end > pause]
        self._settled_end = max(self._settled_end, pause)
        last = self._settled_end if self._words else self._num_samples / self._rate
        keep = self._num_samples - round((last - _CONTEXT_SECONDS) * self._rate)
        self._stretch = self._stretch[-keep:]

    def _read(self, log_probs: NDArray[np.float32], start: float) -> Sequence[Word]:
        return make_transcript(
            [greedy(log_probs)],
            log_probs,
            self._tokens,
            start=start,
            step_seconds=self._lengths.step / self._rate,
            nbest=1,
        ).words

    def _end_of_speech(self, log_probs: NDArray[np.float32]) -> int:
        """Steps up to which the speech has ended; 0 if it goes on."""
        is_token = log_probs.argmax(axis=1) != 0
        places = np.flatnonzero(is_token)
        gaps = np.diff(places, append=len(is_token)) - 1
        long = np.flatnonzero(gaps >= self._num_blanks)
        if len(long):
            return int(places[long[-1]]) + 1 + self._num_blanks
        most = self._lengths.longest // self._lengths.step
        return blank_step(log_probs, most // 2) if len(log_probs) > most else 0
