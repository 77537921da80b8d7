"""Transcripts as token ids: of many utterances in two arrays."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from asr.corpus import PackedCorpus
from asr.errors import DataError
from asr.text import TokenTable


class TokenRows(Sequence[list[int]]):
    """A row of token ids for each utterance, all of them one after another.

    One byte a token, two where an id needs them: lists of integers take a hundred bytes an
    utterance and eight a token.
    """

    def __init__(self, rows: Iterable[Sequence[int]]):
        """Take over rows, one at a time; ids are below 65,536."""
        tokens, ends = array("B"), array("q", [0])
        for row in rows:
            if tokens.typecode == "B" and max(row, default=0) > 255:
                tokens = array("H", tokens)
            tokens.extend(row)
            ends.append(len(tokens))
        kind = np.dtype(tokens.typecode)
        self.tokens: NDArray[np.unsignedinteger] = (
            np.frombuffer(tokens, kind) if tokens else np.zeros(0, kind)
        )
        """Of all rows."""
        self.starts: NDArray[np.int64] = np.frombuffer(ends, np.int64)
        """Where each row begins, and the end."""

    @classmethod
    def of(cls, tokens: NDArray[np.unsignedinteger], starts: NDArray[np.int64]) -> "TokenRows":
        """Those of another's `tokens` and `starts`.

        Raises:
            DataError: they do not belong together.
        """
        if not len(starts) or starts[0] or starts[-1] != len(tokens) or (np.diff(starts) < 0).any():
            raise DataError("these starts are not those of rows of tokens")
        rows = cls(())
        rows.tokens, rows.starts = tokens, starts
        return rows

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        return np.diff(self.starts)

    @overload
    def __getitem__(self, place: int) -> list[int]: ...
    @overload
    def __getitem__(self, place: slice) -> list[list[int]]: ...
    def __getitem__(self, place: int | slice) -> list[int] | list[list[int]]:
        """The token ids of a row, or those of a slice's rows."""
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        index = int(place) + len(self) if place < 0 else int(place)
        if not 0 <= index < len(self):
            raise IndexError(f"row {place} of {len(self)}")
        row: list[int] = self.tokens[self.starts[index] : self.starts[index + 1]].tolist()
        return row

    def __iter__(self) -> Iterator[list[int]]:
        return (self[index] for index in range(len(self)))


def encode_texts(corpus: PackedCorpus, tokens: TokenTable) -> TokenRows:
    """Token ids of every transcript.

    Raises:
        DataError: characters without a token, with counts; or an utterance without a transcript.
    """
    missing: list[int] = []

    def noted() -> Iterator[str]:
        for row, text in enumerate(corpus.column("text")):
            if text is None:
                missing.append(row)
            yield text or ""

    tokens.check(noted(), "training set")
    if missing:
        first = corpus.utterances[missing[0]].id
        raise DataError(f"{len(missing)} utterances have no text, the first is {first}")
    return TokenRows(tokens.encode(text) for text in texts_of(corpus))


def texts_of(corpus: PackedCorpus) -> Iterator[str]:
    """The transcripts, empty where there is none."""
    return (text or "" for text in corpus.column("text"))
