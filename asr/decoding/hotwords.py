"""Words and phrases that decoding prefers, without any training.

A file has `word weight` or `several words weight` a line. Where a phrase is recognized, each of its
words adds the weight in nats. While it is being spelled it is lent its share of that, which it
gives back where it goes on otherwise (Aho and Corasick 1975, "Efficient string matching").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.decoding.automaton import Automaton, make_automaton
from asr.decoding.lexicon import Bounds, Lexicon, spell, spellings_by_word, word_bounds
from asr.errors import DataError
from asr.text import TokenTable, normalize, quoted, read_lines


@dataclass(frozen=True, kw_only=True, slots=True)
class HotPhrase:
    """Words in a row, and what each adds."""

    words: tuple[str, ...]
    weight: float
    """In nats; below 0 it is avoided."""
    where: str
    """File and line, for errors."""


def read_hot_words(path: Path) -> tuple[HotPhrase, ...]:
    """Read a file of hot words.

    Raises:
        DataError: with file and line: unreadable, no word, a weight that is missing or no number.
    """
    phrases = []
    for number, line in read_lines(path):
        *words, last = line.split()
        try:
            weight = float(last)
        except ValueError:
            weight = math.nan
        if not words or not math.isfinite(weight):
            raise DataError(
                f"{path}:{number}: a word or phrase and its weight are expected, as "
                f"`kathleen 5`: {quoted(line)}"
            )
        text = normalize(" ".join(words))
        where = f"{path}:{number}"
        phrases.append(HotPhrase(words=tuple(text.split()), weight=weight, where=where))
    if not phrases:
        raise DataError(f"{path}: there is no word in it")
    return tuple(phrases)


def boundary_label(tokens: TokenTable) -> int:
    """The label of a word's bound: the space, or one beyond the tokens."""
    spaced = word_bounds(tokens) is Bounds.SPACE
    return tokens.symbols.index(" ") if spaced else len(tokens)


def hot_automaton(phrases: Sequence[HotPhrase], tokens: TokenTable, lexicon: Lexicon) -> Automaton:
    """Labels are tokens, then the word's bound, then the end of the sentence.

    Raises:
        DataError: with file and line, a word that the tokens cannot spell or the lexicon lacks.
    """
    bound = boundary_label(tokens)
    spelled = spellings_by_word(lexicon) if not lexicon.is_open else None
    children: list[dict[int, int]] = [{}]
    lent, gains = [0.0], [0.0]
    for phrase in phrases:
        total = phrase.weight * len(phrase.words)
        spellings = [spell(word, phrase.where, tokens, spelled) for word in phrase.words]
        for labels in _alternatives(spellings, bound):
            node = 0
            for depth, label in enumerate(labels):
                if label not in children[node]:
                    children[node][label] = len(children)
                    children.append({})
                    lent.append(0.0)
                    gains.append(0.0)
                node = children[node][label]
                if depth < len(labels) - 1:
                    lent[node] = max(lent[node], total * depth / (len(labels) - 1))
            gains[node] += total
    return _link(children, lent, gains, num_labels=len(tokens) + 2, bound=bound)


def _alternatives(spellings: Sequence[list[tuple[int, ...]]], bound: int) -> list[list[int]]:
    readings = [[bound]]
    for choices in spellings:
        readings = [[*start, *choice, bound] for start in readings for choice in choices]
    return readings


def _link(
    children: list[dict[int, int]],
    lent: list[float],
    gains: list[float],
    num_labels: int,
    bound: int,
) -> Automaton:
    """Each state falls back to its longest suffix; scores are what is gained, lent and returned."""
    suffixes = [0] * len(children)
    queue = list(children[0].values())
    for node in queue:  # grows: by depth, so that suffixes are known before what needs them
        lent[node] = max(lent[node], lent[suffixes[node]])
        gains[node] += gains[suffixes[node]]
        for label, child in children[node].items():
            state = suffixes[node]
            while state and label not in children[state]:
                state = suffixes[state]
            suffixes[child] = children[state].get(label, 0)
            queue.append(child)
    arcs = [
        {label: (lent[child] - lent[node] + gains[child], child) for label, child in below.items()}
        for node, below in enumerate(children)
    ]
    fallbacks = [(lent[suffix] - lent[node], suffix) for node, suffix in enumerate(suffixes)]
    return make_automaton(num_labels, children[0][bound], arcs, fallbacks, 0.0)
