"""Many sources through the network, in batches of similar length.

A passage is read in pieces. Pieces of any passages wait in a pool until there is enough for good
batches; the network hears a batch, pieces become segments again, and something is made of each
segment, in threads. Passages come out in the order in which they went in.

Dimension names: bin, step, token.
"""

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count, repeat
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from asr.batches import plan_batches
from asr.config import Config
from asr.corpus import statistics as feature_statistics
from asr.errors import DataError
from asr.model import InferenceNetwork
from asr.transcription.passage import Passage, State
from asr.transcription.pieces import Piece
from asr.transcription.reading import read_ahead
from asr.transcription.sources import Source

_T = TypeVar("_T")
_Values = NDArray[np.float32]

_BATCH_SECONDS = 60.0
_POOL_SECONDS, _POOL_PIECES = 240.0, 256  # in memory while batches of similar length are made

Make = Callable[[_Values, float], _T]
"""Takes log-probabilities [step, token] of a segment, and its start in seconds."""
Watch = Callable[[Source, float, float | None], None]
"""Is told a source, the seconds of it that are done, and those it has in all if known."""


class Pipeline(Generic[_T]):
    """What is on its way: passages, and a pool of pieces that wait for the network."""

    def __init__(
        self,
        config: Config,
        network: InferenceNetwork,
        make: Make[_T],
        watch: Watch | None = None,
    ):
        """Begin.

        Args:
            make: what is made of a segment; a DataError fails the segment's source.
            watch: is called when a batch is done.
        """
        self._config, self._network, self._make, self._watch = config, network, make, watch
        self._passages: deque[Passage[_T]] = deque()
        self._pool: list[tuple[Passage[_T], Piece]] = []
        self._pool_seconds = 0.0

    def run(self, sources: Iterable[Source], starts: Collection[int] = ()) -> Iterator[Passage[_T]]:
        """The passages of `sources`, in order, when they are done.

        Args:
            starts: numbers of sources that share no batch with those before them.
        """
        numbers, bounds = count(), frozenset(starts)
        for passage, pieces in read_ahead(self._open(sources), self._network.threads):
            if not self._passages or self._passages[-1] is not passage:
                if next(numbers) in bounds:
                    self._empty_pool()
                self._passages.append(passage)
            self._pool += [(passage, piece) for piece in pieces]
            self._pool_seconds += sum(len(piece.values) for piece in pieces) / passage.rate
            if self._pool_seconds > _POOL_SECONDS or len(self._pool) > _POOL_PIECES:
                self._empty_pool()
            yield from self._take_done()
        self._empty_pool()
        yield from self._take_done()

    def _open(self, sources: Iterable[Source]) -> Iterator[Passage[_T]]:
        statistics: Iterable[_Values | None] = repeat(None)
        if self._config.features.normalization == "speaker":
            sources = list(sources)
            if any(source.utterance.speaker is not None for source in sources):
                statistics = self._speaker_statistics(sources)
        for source, of_speaker in zip(sources, statistics, strict=False):
            yield Passage(source, self._config, of_speaker)

    def _speaker_statistics(self, sources: Sequence[Source]) -> _Values:
        """Of the speaker of each source, [source, two, bin]; see `asr.corpus.statistics`."""
        groups = feature_statistics.group_rows(source.utterance.speaker for source in sources)
        moments = np.zeros((len(sources), 3, self._config.features.num_bins))
        passages: Iterator[Passage[None]] = (Passage(source, self._config) for source in sources)
        row = 0
        for passage, pieces in read_ahead(passages, self._network.threads):
            for piece in pieces:
                moments[groups[row]] += self._network.moments([piece.values])[0]
            row += passage.state is not State.READING
        moments[:, 0] = np.maximum(moments[:, 0], 1)  # a speaker of whom nothing could be read
        return feature_statistics.statistics(moments)[groups]

    def _empty_pool(self) -> None:
        """Have the network hear all pieces that wait, in batches."""
        pool, self._pool, self._pool_seconds = self._pool, [], 0.0
        milliseconds = np.array(
            [math.ceil(1000 * len(piece.values) / passage.rate) for passage, piece in pool],
            np.int64,
        )
        # Samples and frames cannot share a batch.
        for is_audio in (True, False):
            rows = np.array(
                [i for i, (passage, _) in enumerate(pool) if passage.is_audio == is_audio], np.int64
            )
            for batch in plan_batches(milliseconds[rows], int(1000 * _BATCH_SECONDS)):
                self._run_batch([pool[row] for row in rows[batch]])

    def _run_batch(self, batch: Sequence[tuple[Passage[_T], Piece]]) -> None:
        statistics = [p.statistics for p, _ in batch if p.statistics is not None]
        all_log_probs = self._network.log_probs(
            [piece.values for _, piece in batch], np.stack(statistics) if statistics else None
        )
        segments = [
            (passage, start, segment)
            for (passage, piece), log_probs in zip(batch, all_log_probs, strict=True)
            for start, segment in passage.hear(piece, log_probs).items()
        ]
        with ThreadPoolExecutor(max_workers=self._network.threads) as threads:
            for (passage, start, _), part in zip(
                segments, threads.map(self._try_make, segments), strict=True
            ):
                if isinstance(part, DataError):
                    passage.fail(part)
                else:
                    passage.keep(start, part)
        if self._watch is not None:
            for passage, _ in batch:
                self._watch(passage.source, passage.seconds, passage.expected)

    def _try_make(self, segment: tuple[Passage[_T], int, _Values]) -> _T | DataError:
        passage, start, log_probs = segment
        try:
            return self._make(log_probs, start / passage.rate)
        except DataError as error:
            return error

    def _take_done(self) -> Iterator[Passage[_T]]:
        while self._passages and self._passages[0].state is State.DONE:
            yield self._passages.popleft()
