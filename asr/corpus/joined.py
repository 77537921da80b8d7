"""What two corpora hold, one after the other, without a copy of either."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from asr.corpus.manifest import Utterance
from asr.corpus.table import ManifestTable


class JoinedValues:
    """Samples [sample] or frames [frame, bin] of two corpora, looked up by ranges."""

    def __init__(
        self,
        first: "NDArray[np.generic] | JoinedValues",
        second: "NDArray[np.generic] | JoinedValues",
    ):
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of a sample or value."""
        return self._first.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of both together."""
        return (len(self), *self._first.shape[1:])

    def __getitem__(self, place: slice) -> NDArray[np.generic]:
        """The values of a range, which lies within one of the two."""
        start, stop, _ = place.indices(len(self))
        border = len(self._first)
        if stop <= border:
            return self._first[start:stop]
        if start < border:
            raise IndexError(f"{start} to {stop} is a range of two corpora, which meet at {border}")
        return self._second[start - border : stop - border]


class JoinedUtterances(Sequence[Utterance]):
    """The utterances of two corpora."""

    def __init__(self, first: Sequence[Utterance], second: Sequence[Utterance]):
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    @overload
    def __getitem__(self, place: int) -> Utterance: ...
    @overload
    def __getitem__(self, place: slice) -> list[Utterance]: ...
    def __getitem__(self, place: int | slice) -> Utterance | list[Utterance]:
        """An utterance, or those of a slice."""
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        index = int(place) + len(self) if place < 0 else int(place)
        if not 0 <= index < len(self):
            raise IndexError(f"utterance {place} of {len(self)}")
        border = len(self._first)
        return self._first[index] if index < border else self._second[index - border]

    def __iter__(self) -> Iterator[Utterance]:
        return chain(self._first, self._second)

    def column(self, key: Literal["text", "speaker"]) -> Iterator[str | None]:
        """The texts or speakers of all of them."""
        return chain(column_of(self._first, key), column_of(self._second, key))


def column_of(
    utterances: Sequence[Utterance], key: Literal["text", "speaker"]
) -> Iterator[str | None]:
    """The texts or speakers of utterances; quicker than to ask each where they are in a file."""
    if isinstance(utterances, ManifestTable | JoinedUtterances):
        return utterances.column(key)
    return (getattr(utterance, key) for utterance in utterances)
