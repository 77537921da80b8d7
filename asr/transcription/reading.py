"""Passages read ahead, in pieces, while the network is at work; no torch."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

from asr.errors import AsrError, AudioError, printable
from asr.transcription.passage import Passage
from asr.transcription.pieces import Piece

_T = TypeVar("_T")
_Some = tuple[list[Piece], AsrError | None]
"""Pieces that follow one another, or what ended the reading early."""

_HANDFUL = 2  # pieces read before somebody else may read on
_MOST_READERS = 4


def read_ahead(
    passages: Iterable[Passage[_T]], threads: int
) -> Iterator[tuple[Passage[_T], Sequence[Piece]]]:
    """Each passage with some of its pieces, all in order, while threads read what comes next.

    A passage's state and error are those after these pieces.
    """
    workers = max(1, min(threads, _MOST_READERS))
    remaining = iter(passages)
    waiting: deque[tuple[Passage[_T], Iterator[Piece], Future[_Some]]] = deque()
    pool = ThreadPoolExecutor(max_workers=workers)

    def begin() -> None:
        for passage in islice(remaining, 1):
            pieces = passage.pieces()
            waiting.append((passage, pieces, pool.submit(_read_some, passage, pieces)))

    try:
        for _ in range(workers + 1):
            begin()
        while waiting:
            passage, pieces, future = waiting.popleft()
            is_last = False
            while not is_last:
                some, error = future.result()
                is_last = len(some) < _HANDFUL
                if is_last:
                    begin()
                else:
                    future = pool.submit(_read_some, passage, pieces)
                passage.arrive(len(some), is_last=is_last, error=error)
                yield passage, some
    finally:
        pool.shutdown(cancel_futures=True)


def _read_some(passage: Passage[Any], pieces: Iterator[Piece]) -> _Some:
    """Fewer pieces than a handful are the last ones."""
    try:
        return list(islice(pieces, _HANDFUL)), None
    except AsrError as error:
        return [], error
    except Exception as error:
        # A decoder's fault that nobody has met yet must not end a job of many files.
        name = printable(passage.source.utterance.audio_filepath)
        return [], AudioError(f"{name}: {type(error).__name__}: {printable(error)}")
