"""Utterances read ahead, in pieces, while the network is at work; no torch."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice

from asr.audio import AudioStream, open_audio
from asr.config import Config
from asr.corpus import Utterance, is_feature_path, read_features
from asr.errors import AsrError, AudioError, DataError, printable
from asr.transcription.pieces import Piece, PieceLengths, no_pause, pause_finder, split_into_pieces

OpenAudio = Callable[[Utterance], AbstractContextManager[AudioStream]]
"""Opens an utterance's audio at the model's rate."""

_HANDFUL = 2  # pieces read before somebody else may read on
_MOST_READERS = 4


class Reading:
    """An utterance while it is read."""

    def __init__(self, utterance: Utterance, config: Config, opener: OpenAudio):
        self.utterance = utterance
        self.duration = 0.0
        """Seconds read so far."""
        self.expected: float | None = None
        """Seconds in all, if the file tells."""
        self.warnings: tuple[str, ...] = ()
        """Complete after the last piece."""
        self.is_audio = not is_feature_path(utterance.audio_filepath)
        self.lengths = (PieceLengths.of_samples if self.is_audio else PieceLengths.of_frames)(
            config
        )
        self.rate = config.features.sample_rate / (
            1 if self.is_audio else config.features.frame_shift
        )
        """Units (samples or frames) in a second."""
        self._config = config
        self._open = opener

    def pieces(self) -> Iterator[Piece]:
        """The pieces in order; once only.

        Raises:
            DataError: the file cannot be read, is shorter than a frame, or does not fit the model.
        """
        for piece in self._audio_pieces() if self.is_audio else self._feature_pieces():
            self.duration = (piece.start + len(piece.values)) / self.rate
            yield piece

    def _audio_pieces(self) -> Iterator[Piece]:
        features = self._config.features
        with self._open(self.utterance) as stream:
            self.expected = stream.duration
            find_pause = pause_finder(features.sample_rate)
            for piece in split_into_pieces(stream, self.lengths, find_pause):
                if len(piece.values) < features.frame_length:
                    raise AudioError(
                        f"{stream.name}: {len(piece.values)} samples at {features.sample_rate} Hz "
                        f"are less than one frame of {features.frame_length}"
                    )
                yield piece
            self.warnings = stream.warnings()

    def _feature_pieces(self) -> Iterator[Piece]:
        path, features = self.utterance.audio_filepath, self._config.features
        frames = read_features(path)
        if frames.shape[1] != features.num_base_bins:
            raise DataError(
                f"{path}: {frames.shape[1]} values a frame, but the model's features have "
                f"{features.num_base_bins}"
            )
        self.expected = len(frames) / self.rate
        yield from split_into_pieces([frames], self.lengths, no_pause)


@dataclass(frozen=True, kw_only=True, slots=True)
class Handful:
    """Some pieces of an utterance that follow one another."""

    reading: Reading
    pieces: tuple[Piece, ...]
    is_last: bool
    error: AsrError | None = None
    """What ended the reading early."""


def audio_opener(sample_rate: int) -> OpenAudio:
    """Opens an utterance's own stretch of its file."""

    def opener(utterance: Utterance) -> AbstractContextManager[AudioStream]:
        return open_audio(
            utterance.audio_filepath,
            sample_rate=sample_rate,
            offset=utterance.offset,
            duration=utterance.duration or None,
        )

    return opener


def read_ahead(readings: Iterable[Reading], threads: int) -> Iterator[Handful]:
    """The pieces of all utterances, in order, while threads read what comes next."""
    workers = max(1, min(threads, _MOST_READERS))
    remaining = iter(readings)
    waiting: deque[tuple[Iterator[Piece], Future[Handful]]] = deque()
    pool = ThreadPoolExecutor(max_workers=workers)

    def begin() -> None:
        for reading in islice(remaining, 1):
            pieces = reading.pieces()
            waiting.append((pieces, pool.submit(_handful, reading, pieces)))

    try:
        for _ in range(workers + 1):
            begin()
        while waiting:
            pieces, future = waiting.popleft()
            handful = future.result()
            while not handful.is_last:
                future = pool.submit(_handful, handful.reading, pieces)
                yield handful
                handful = future.result()
            begin()
            yield handful
    finally:
        pool.shutdown(cancel_futures=True)


def _handful(reading: Reading, pieces: Iterator[Piece]) -> Handful:
    taken: list[Piece] = []
    try:
        taken += islice(pieces, _HANDFUL)
    except AsrError as error:
        return Handful(reading=reading, pieces=(), is_last=True, error=error)
    except Exception as error:
        # A decoder's fault that nobody has met yet must not end a job of a night.
        name = printable(reading.utterance.audio_filepath)
        known = AudioError(f"{name}: {type(error).__name__}: {printable(error)}")
        return Handful(reading=reading, pieces=(), is_last=True, error=known)
    return Handful(reading=reading, pieces=tuple(taken), is_last=len(taken) < _HANDFUL)
