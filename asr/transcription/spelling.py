"""The words of a text as it was written, with the model's tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError
from asr.text import TokenTable, find_normalizer


@dataclass(frozen=True, kw_only=True, slots=True)
class TextWord:
    """A word of a text."""

    written: str
    form: str
    """That is spelled."""
    tokens: tuple[int, ...]
    """None, where the model's tokens cannot spell it."""


class Speller:
    """Spells the words of texts as they stand or, where that fails, as a normalizer writes them."""

    def __init__(self, tokens: TokenTable, normalizer: str):
        """Begin.

        Raises:
            ConfigError: no such normalizer.
        """
        self._tokens = tokens
        self._normalize = find_normalizer(normalizer)

    def spell(self, text: str) -> list[TextWord]:
        """The words of a text; what is no word, as a dash, is left out."""
        words = []
        for written in text.split() if self._tokens.separator else list("".join(text.split())):
            normalized = self._normalize(written)
            if not normalized:
                continue
            word = TextWord(written=written, form=normalized, tokens=())
            for form in (written, normalized, normalized.upper()):
                if (ids := self._ids(form)) is not None:
                    word = TextWord(written=written, form=form, tokens=tuple(ids))
                    break
            else:
                words.append(word)
            if word.tokens:
                words.append(word)
        return words

    def join(self, words: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
        """All tokens with separators between, and the word of each, -1 for separators.

        Words without tokens are passed over.
        """
        ids: list[int] = []
        owners: list[int] = []
        space = self._tokens.separator_id
        for number, word in enumerate(words):
            if ids and word and space is not None:
                ids.append(space)
                owners.append(-1)
            ids += word
            owners += [number] * len(word)
        return ids, owners

    def _ids(self, form: str) -> list[int] | None:
        """Tokens of a word, which a normalizer may have made several of; none if it has none."""
        try:
            return [t for t in self._tokens.encode(form) if t != self._tokens.separator_id]
        except DataError:
            return None


def bounds_of_words(owners: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """The first token of each word and its last one, [word, two].

    Args:
        owners: the word of each token, as `Speller.join` gives them.
    """
    places = np.flatnonzero(np.asarray(owners) >= 0)
    words = np.asarray(owners)[places]
    changes = np.flatnonzero(np.diff(words))
    firsts, lasts = np.append(0, changes + 1), np.append(changes, len(places) - 1)
    return np.stack([places[firsts], places[lasts]], axis=1)
