"""Which words may be spelled, and with which tokens.

A lexicon file has a spelling a line, `word token token ...`; a word may stand on several lines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.automaton import frozen
from asr.beam import Trie
from asr.errors import DataError
from asr.language_model import UNKNOWN_ID, LanguageModel
from asr.lines import quoted, read_lines
from asr.sentences import END, START, UNKNOWN
from asr.tokens import TokenTable, normalize

_WORD_START = "\u2581"  # SentencePiece's mark of a word's beginning


class Bounds(Enum):
    """What tells words apart in a sequence of tokens."""

    SPACE = "a space stands between them"
    MARK = "the first token of each has a mark"
    NONE = "nothing but the lexicon"


def word_bounds(tokens: TokenTable) -> Bounds:
    """How the words of a token table's sequences are told apart."""
    if any(symbol.startswith(_WORD_START) for symbol in tokens.symbols):
        return Bounds.MARK
    return Bounds.SPACE if " " in tokens.symbols else Bounds.NONE


@dataclass(frozen=True, kw_only=True, slots=True)
class Lexicon:
    """Words and their spellings."""

    words: tuple[str, ...]
    spellings: tuple[tuple[int, tuple[int, ...]], ...]
    """Number of the word, and token ids."""
    is_open: bool
    """Other words are allowed too."""


OPEN = Lexicon(words=(), spellings=(), is_open=True)
"""Any word."""


def read_lexicon(path: Path, tokens: TokenTable) -> Lexicon:
    """Read a file of spellings; no other words are allowed.

    Raises:
        DataError: with file and line: unreadable, no word, a word without a spelling, a symbol that
            is no token, a space within a word.
    """
    ids = {symbol: token for token, symbol in enumerate(tokens.symbols) if token != 0}
    numbers: dict[str, int] = {}
    spellings: dict[tuple[int, tuple[int, ...]], None] = {}
    for number, line in read_lines(path):
        fields = line.split()
        if not fields:
            continue
        word, *symbols = fields
        if not symbols:
            raise DataError(f"{path}:{number}: {quoted(word)} has no spelling after it")
        unknown = [symbol for symbol in symbols if symbol not in ids]
        if unknown:
            raise DataError(
                f"{path}:{number}: {quoted(unknown[0])} in the spelling of {quoted(word)} is no "
                f"token of the model; tokens are {_shown(list(ids))}"
            )
        index = numbers.setdefault(normalize(word), len(numbers))
        spellings[index, tuple(ids[symbol] for symbol in symbols)] = None
    if not numbers:
        raise DataError(f"{path}: there is no word in this lexicon")
    return Lexicon(words=tuple(numbers), spellings=tuple(spellings), is_open=False)


def spell_vocabulary(model: LanguageModel, tokens: TokenTable) -> tuple[Lexicon, list[str]]:
    """The words of a language model as the tokens write them, others allowed; and those left out.

    Raises:
        DataError: fewer than half of the words can be spelled.
    """
    words = [word for word in model.words if word not in (UNKNOWN, START, END)]
    spellings: list[tuple[int, tuple[int, ...]]] = []
    spelled: list[str] = []
    unspelled: list[str] = []
    for word in words:
        try:
            spelling = tuple(tokens.encode(word))
        except DataError:
            unspelled.append(word)
            continue
        if spelling:
            spellings.append((len(spelled), spelling))
            spelled.append(word)
    if len(spelled) <= len(unspelled):
        raise DataError(
            f"{len(unspelled)} of the language model's {len(words)} words cannot be spelled with "
            f"the model's tokens, as {_shown(unspelled)}; tokens are {_shown(tokens.symbols[1:])}"
        )
    return Lexicon(words=tuple(spelled), spellings=tuple(spellings), is_open=True), unspelled


def build_trie(
    lexicon: Lexicon, model: LanguageModel | None, num_tokens: int, scale: float, bonus: float
) -> Trie:
    """The trie of a lexicon's spellings, with look-ahead.

    Args:
        model: of words, or none.
        scale: on its log-probabilities (to the base 10), to nats.
        bonus: added for each word.
    """
    labels = np.full(len(lexicon.words), UNKNOWN_ID, np.int32)
    unigrams = np.zeros(len(lexicon.words))
    unknown = 0.0
    if model is not None:
        labels = np.array(model.ids(lexicon.words), np.int32)
        unigrams = model.advance(np.zeros(len(labels), np.int64), labels)[0]
        unknown = model.score(0, UNKNOWN_ID)
    children: dict[int, int] = {}
    best = [-np.inf, unknown]
    ends: list[tuple[int, int]] = []
    for word, spelling in lexicon.spellings:
        node, log_prob = 0, max(float(unigrams[word]), unknown if lexicon.is_open else -np.inf)
        for token in spelling:
            key = node * num_tokens + token
            node = children.setdefault(key, len(best))
            if node == len(best):
                best.append(-np.inf)
            best[node] = max(best[node], log_prob)
        ends.append((node, word))
    nodes = np.arange(len(best) + 1)
    keys = np.array(sorted(children), np.int64)
    ends.sort()
    potentials = scale * np.array(best) + bonus if model else np.full(len(best), bonus)
    potentials[0] = 0.0
    return Trie(
        first_arcs=_frozen_int64(np.searchsorted(keys, nodes * num_tokens)),
        arc_keys=_frozen_int64(keys),
        arc_nodes=frozen([children[key] for key in keys.tolist()], np.int32),  # type: ignore[arg-type]
        first_words=_frozen_int64(np.searchsorted([node for node, _ in ends], nodes)),
        words=frozen([word for _, word in ends], np.int32),  # type: ignore[arg-type]
        labels=frozen(labels, np.int32),  # type: ignore[arg-type]
        potentials=frozen(potentials, np.float64),  # type: ignore[arg-type]
    )


def spellings_by_word(lexicon: Lexicon) -> Mapping[str, list[tuple[int, ...]]]:
    """Each word's spellings."""
    found: dict[str, list[tuple[int, ...]]] = {}
    for word, spelling in lexicon.spellings:
        found.setdefault(lexicon.words[word], []).append(spelling)
    return found


def _frozen_int64(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return frozen(values, np.int64)  # type: ignore[return-value]


def _shown(words: Sequence[str]) -> str:
    more = ", ..." if len(words) > 10 else ""
    return " ".join(quoted(word) for word in words[:10]) + more
