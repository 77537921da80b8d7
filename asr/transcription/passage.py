"""A source on its way to words: read in pieces, heard by the network, decoded in segments.

Dimension names: sample, frame, bin, step, token.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from asr.config import Config
from asr.corpus import read_features
from asr.errors import AsrError, AudioError, DataError
from asr.transcription.pieces import (
    Piece,
    PieceLengths,
    Stitcher,
    no_pause,
    pause_finder,
    split_into_pieces,
)
from asr.transcription.sources import Source

_T = TypeVar("_T")


class State(Enum):
    """How far a passage is."""

    READING = "some of its pieces are still to be read"
    HEARING = "all pieces are read; the network has not heard them all"
    DONE = "all that is made of its segments is there, or it has failed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """What the network says of a stretch of a source."""

    start: float
    """Seconds from the start of the source."""
    log_probs: NDArray[np.float32]
    """[step, token]"""


class Passage(Generic[_T]):
    """A source on its way, with what is made of its segments."""

    def __init__(
        self, source: Source, config: Config, statistics: NDArray[np.float32] | None = None
    ):
        """Begin.

        Args:
            statistics: of its speaker's features, [two, bin], for normalization by speaker.
        """
        self.source, self.statistics = source, statistics
        self.duration = 0.0
        """Seconds read so far."""
        self.expected: float | None = None
        """Seconds in all, if the file tells."""
        self.warnings: tuple[str, ...] = ()
        """Complete after the last piece."""
        self.seconds = 0.0
        """That the network has heard."""
        self.error: AsrError | None = None
        features = config.features
        hop = 1 if self.is_audio else features.frame_shift
        self.rate = features.sample_rate / hop
        """Units (samples or frames) in a second."""
        of_units = PieceLengths.of_samples if self.is_audio else PieceLengths.of_frames
        self._lengths = of_units(config)
        self._features = features
        self._stitcher = Stitcher(self._lengths)
        self._num_waiting = 0
        self._is_read = False
        self._parts: dict[int, _T] = {}

    @property
    def is_audio(self) -> bool:
        """Whether it has samples, and not stored features."""
        return not self.source.has_features

    @property
    def state(self) -> State:
        """How far it is."""
        if not self._is_read:
            return State.READING
        return State.HEARING if self._num_waiting else State.DONE

    @property
    def parts(self) -> list[_T]:
        """What was made of its segments, in order."""
        return [self._parts[start] for start in sorted(self._parts)]

    def pieces(self) -> Iterator[Piece]:
        """The pieces in order; once only.

        Raises:
            DataError: the file cannot be read, is shorter than a frame, or does not fit the model.
        """
        for piece in self._audio_pieces() if self.is_audio else self._feature_pieces():
            self.duration = (piece.start + len(piece.values)) / self.rate
            yield piece

    def arrive(self, num_pieces: int, *, is_last: bool, error: AsrError | None = None) -> None:
        """Some pieces have been read, perhaps the last ones, or an error has ended the reading."""
        self._num_waiting += num_pieces
        self._is_read = is_last
        if error is not None:
            self.fail(error)

    def hear(self, piece: Piece, log_probs: NDArray[np.float32]) -> dict[int, NDArray[np.float32]]:
        """The segments that are complete with one more piece, as `Stitcher.add` gives them."""
        self._num_waiting -= 1
        overlap = self._lengths.overlap if piece.continues else 0
        self.seconds += (len(piece.values) - overlap) / self.rate
        return self._stitcher.add(piece, log_probs)

    def keep(self, start: int, part: _T) -> None:
        """Keep what was made of the segment that starts at a unit."""
        self._parts[start] = part

    def fail(self, error: AsrError) -> None:
        """Nothing can be made of a segment; of several errors the first counts."""
        self.error = self.error or error

    def _audio_pieces(self) -> Iterator[Piece]:
        features = self._features
        find_pause = pause_finder(features.sample_rate)
        with self.source.open(features.sample_rate) as stream:
            self.expected = stream.duration
            for piece in split_into_pieces(stream, self._lengths, find_pause):
                if len(piece.values) < features.frame_length:
                    raise AudioError(
                        f"{stream.name}: {len(piece.values)} samples at {features.sample_rate} Hz "
                        f"are less than one frame of {features.frame_length}"
                    )
                yield piece
            self.warnings = stream.warnings()

    def _feature_pieces(self) -> Iterator[Piece]:
        path, num_bins = self.source.utterance.audio_filepath, self._features.num_base_bins
        frames = read_features(path)
        if frames.shape[1] != num_bins:
            raise DataError(
                f"{path}: {frames.shape[1]} values a frame, but the model's features have "
                f"{num_bins}"
            )
        self.expected = len(frames) / self.rate
        yield from split_into_pieces([frames], self._lengths, no_pause)
