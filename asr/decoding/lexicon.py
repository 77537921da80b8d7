"""Which words may be spelled, and with which tokens.

A lexicon file has a spelling a line, `word token token ...`; a word may stand on several lines.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.decoding.automaton import frozen
from asr.decoding.tables import OUTSIDE, ROOT, Trie
from asr.errors import DataError
from asr.files import open_atomic
from asr.lm import LanguageModel, ngram, sentences
from asr.text import TokenTable, quoted
from asr.text import tokens as token_tables


class Bounds(Enum):
    """What tells words apart in a sequence of tokens."""

    SPACE = "a space stands between them"
    MARK = "the first token of each has a mark"
    NONE = "nothing but the lexicon"


def word_bounds(tokens: TokenTable) -> Bounds:
    """How the words of a token table's sequences are told apart."""
    if any(symbol.startswith(token_tables.WORD_START) for symbol in tokens.symbols):
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
        DataError: as `read_spellings`, and with file and line a symbol that is no token.
    """
    ids = {symbol: token for token, symbol in enumerate(tokens.symbols) if token != 0}
    numbers: dict[str, int] = {}
    spellings: dict[tuple[int, tuple[int, ...]], None] = {}
    for number, word, symbols in token_tables.read_spellings(path):
        unknown = [symbol for symbol in symbols if symbol not in ids]
        if unknown:
            raise DataError(
                f"{path}:{number}: {quoted(unknown[0])} in the spelling of {quoted(word)} is no "
                f"token of the model; tokens are {_shown(list(ids))}"
            )
        index = numbers.setdefault(word, len(numbers))
        spellings[index, tuple(ids[symbol] for symbol in symbols)] = None
    return Lexicon(words=tuple(numbers), spellings=tuple(spellings), is_open=False)


def spell_vocabulary(model: LanguageModel, tokens: TokenTable) -> tuple[Lexicon, list[str]]:
    """The words of a language model as the tokens write them, others allowed; and those left out.

    Raises:
        DataError: fewer than half of the words can be spelled.
    """
    words = [
        word
        for word in model.words
        if word not in (sentences.UNKNOWN, sentences.START, sentences.END)
    ]
    lexicon, unspelled = spell_words(words, tokens)
    if len(lexicon.words) <= len(unspelled):
        raise DataError(
            f"{len(unspelled)} of the language model's {len(words)} words cannot be spelled with "
            f"the model's tokens, as {_shown(unspelled)}; tokens are {_shown(tokens.symbols[1:])}"
        )
    return replace(lexicon, is_open=True), unspelled


def spell_words(words: Sequence[str], tokens: TokenTable) -> tuple[Lexicon, list[str]]:
    """Words as the tokens write them, no others allowed; and those that they cannot write."""
    spellings: list[tuple[int, tuple[int, ...]]] = []
    spelled: list[str] = []
    unspelled: list[str] = []
    for word in words:
        try:
            written = [spelling for spelling in tokens.spellings(word) if spelling]
        except DataError:
            unspelled.append(word)
            continue
        if written:
            spellings += [(len(spelled), spelling) for spelling in written]
            spelled.append(word)
    return Lexicon(words=tuple(spelled), spellings=tuple(spellings), is_open=False), unspelled


def pronunciation_lexicon(tokens: TokenTable) -> Lexicon | None:
    """All words that a table of phones can spell; none for other tables."""
    if tokens.pronunciations is None:
        return None
    return spell_words(list(tokens.pronunciations), tokens)[0]


def write_lexicon(lexicon: Lexicon, tokens: TokenTable, path: Path) -> None:
    """Write what `read_lexicon` reads."""
    with open_atomic(path) as file:
        for word, spelling in lexicon.spellings:
            symbols = " ".join(tokens.symbols[token] for token in spelling)
            file.write(f"{lexicon.words[word]} {symbols}\n")


def build_trie(lexicon: Lexicon, model: LanguageModel | None, num_tokens: int) -> Trie:
    """The trie of a lexicon's spellings; its look-ahead is not weighed yet.

    Args:
        model: of words, or none.
    """
    labels = np.full(len(lexicon.words), ngram.UNKNOWN_ID, np.int32)
    unigrams = np.zeros(len(lexicon.words))
    unknown = 0.0
    if model is not None:
        labels = np.array(model.ids(lexicon.words), np.int32)
        unigrams = model.advance(np.zeros(len(labels), np.int64), labels)[0]
        unknown = model.score(0, ngram.UNKNOWN_ID)
    own = np.maximum(unigrams, unknown) if lexicon.is_open else unigrams
    owners, lengths, tokens = _flatten(lexicon)
    best = [np.array([-np.inf, unknown])]
    keys: list[NDArray[np.int64]] = []
    nodes, num_nodes = np.zeros(len(owners), np.int64), 2
    firsts = np.cumsum(lengths) - lengths
    # All spellings side by side: those that share a beginning share its node.
    for depth in range(lengths.max(initial=0)):
        longer = np.flatnonzero(lengths > depth)
        level, inverse = np.unique(
            nodes[longer] * num_tokens + tokens[firsts[longer] + depth], return_inverse=True
        )
        nodes[longer] = num_nodes + inverse
        best.append(np.full(len(level), -np.inf))
        np.maximum.at(best[-1], inverse, own[owners[longer]])
        keys.append(level)
        num_nodes += len(level)
    arc_keys = np.concatenate([np.zeros(0, np.int64), *keys])
    places = np.arange(num_nodes + 1)
    ends = np.lexsort((owners, nodes))
    potentials = np.concatenate(best) if model is not None else np.zeros(num_nodes)
    return Trie(
        first_arcs=frozen(np.searchsorted(arc_keys, places * num_tokens), np.int64),
        arc_keys=frozen(arc_keys, np.int64),
        arc_nodes=frozen(np.arange(2, num_nodes), np.int32),
        first_words=frozen(np.searchsorted(nodes[ends], places), np.int64),
        words=frozen(owners[ends], np.int32),
        labels=frozen(labels, np.int32),
        potentials=frozen(potentials, np.float64),
    )


def _flatten(
    lexicon: Lexicon,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Of the spellings: their words, their lengths, and all their tokens."""
    size = len(lexicon.spellings)
    return (
        np.fromiter((word for word, _ in lexicon.spellings), np.int64, size),
        np.fromiter((len(spelling) for _, spelling in lexicon.spellings), np.int64, size),
        np.fromiter(itertools.chain.from_iterable(s for _, s in lexicon.spellings), np.int64),
    )


def weigh(trie: Trie, scale: float, bonus: float, unknown: float) -> Trie:
    """With look-ahead in nats.

    Args:
        scale: on the language model's log-probabilities (to the base 10), to nats.
        bonus: added for each word.
        unknown: added for each word that is in no list.
    """
    potentials = scale * trie.potentials + bonus
    potentials[ROOT] = 0.0
    potentials[OUTSIDE] += unknown
    return trie._replace(potentials=frozen(potentials, np.float64))


def spellings_by_word(lexicon: Lexicon) -> Mapping[str, list[tuple[int, ...]]]:
    """Each word's spellings."""
    spellings: dict[str, list[tuple[int, ...]]] = {}
    for word, spelling in lexicon.spellings:
        spellings.setdefault(lexicon.words[word], []).append(spelling)
    return spellings


def spell(
    word: str, where: str, tokens: TokenTable, spelled: Mapping[str, list[tuple[int, ...]]] | None
) -> list[tuple[int, ...]]:
    """A word's spellings: those of a lexicon, or without one those of the tokens.

    Args:
        where: file and line of the word, for errors.

    Raises:
        DataError: the lexicon lacks it, or the tokens cannot spell it.
    """
    if spelled is not None:
        if word not in spelled:
            raise DataError(f"{where}: {quoted(word)} is not in the lexicon; add its spelling")
        return spelled[word]
    try:
        return tokens.spellings(word)
    except DataError as error:
        raise DataError(f"{where}: {quoted(word)} cannot be spelled: {error}") from error


def _shown(words: Sequence[str]) -> str:
    more = ", ..." if len(words) > 10 else ""
    return " ".join(quoted(word) for word in words[:10]) + more
