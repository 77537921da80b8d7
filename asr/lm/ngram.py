"""N-gram language models as automata, ready for a beam search.

A state is a history, cut down to what the model can tell apart; state 0 is the empty one. An arc
is an n-gram: it leads from its history, over its last word, to the next state. A word without an
arc costs the state's back-off weight and is looked for in the back-off state. All logarithms are
to the base 10.

Dimensions: arc, state.
"""

import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import ArrayLike, NDArray

from asr.errors import DataError, ModelError, opens_model
from asr.files import check_inside, check_regular, read_file
from asr.folders import replace_folder
from asr.lm.arpa import Arpa, read_arpa
from asr.lm.sentences import END, SPACE, START, UNKNOWN, Unit
from asr.lm.trie import NGramTrie, build_ngram_trie, find_keys, find_states

UNKNOWN_ID, START_ID, END_ID = range(3)

_FORMAT = 1  # of the stored form
_MAX_HEADER = 2**16  # bytes of model.json
_NUM_CHECKED = 2**20  # numbers of an array that are looked at at once
_NUM_SCORED = 10_000  # sentences side by side
_ARRAYS = {
    "first_arcs": np.int64,
    "arc_keys": np.int64,
    "arc_log_probs": np.float32,
    "arc_states": np.int32,
    "backoffs": np.float32,
    "backoff_states": np.int32,
}
MAPPED_FILES = (*(f"{name}.npy" for name in _ARRAYS), "words.txt", "model.json")
"""What `save_model` writes into a folder."""


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """An n-gram model of words or of characters."""

    words: tuple[str, ...]
    """By word id: `<unk>`, `<s>`, `</s>`, then all others."""
    num_ngrams: tuple[int, ...]
    """By order, as listed in the file or estimated."""
    first_arcs: NDArray[np.int64]
    """[state + 1] where a state's arcs begin; the last is their number."""
    arc_keys: NDArray[np.int64]
    """[arc] state * number of words + word; sorted."""
    arc_log_probs: NDArray[np.float32]
    """[arc]"""
    arc_states: NDArray[np.int32]
    """[arc] where the arc leads."""
    backoffs: NDArray[np.float32]
    """[state] added where a state has no arc for a word."""
    backoff_states: NDArray[np.int32]
    """[state] the longest shorter history that is a state."""

    @property
    def order(self) -> int:
        """Words in the longest n-grams."""
        return len(self.num_ngrams)

    @cached_property
    def unit(self) -> Unit:
        """Characters if `<space>` is in the vocabulary, or if no word is longer than one."""
        spelled = self.words[END_ID + 1 :]
        characters = SPACE in spelled or all(len(word) == 1 for word in spelled)
        return "character" if characters else "word"

    @cached_property
    def start(self) -> int:
        """The state at the beginning of a sentence."""
        return int(self.advance([0], [START_ID])[1][0])

    def ids(self, words: Iterable[str]) -> list[int]:
        """Word ids; UNKNOWN_ID for a word that is not in the vocabulary."""
        return [self._ids.get(word, UNKNOWN_ID) for word in words]

    def state(self, history: Sequence[int]) -> int:
        """The state after the word ids of a history, which may begin with START_ID."""
        state = 0
        for word in history:
            state = int(self.advance([state], [word])[1][0])
        return state

    def score(self, state: int, word: int) -> float:
        """Log-probability of a word id; -inf for a word without a unigram."""
        return float(self.advance([state], [word])[0][0])

    def advance(
        self, states: ArrayLike, words: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Log-probabilities of word ids, one in each state, and the states that follow."""
        states = np.array(states, np.int64)
        words = np.asarray(words, np.int64)
        log_probs = np.zeros(len(states))
        following = np.zeros(len(states), np.int64)
        pending = np.arange(len(states))
        while pending.size:
            keys = states[pending] * len(self.words) + words[pending]
            arcs, found = find_keys(self.arc_keys, keys)
            log_probs[pending[found]] += self.arc_log_probs[arcs[found]]
            following[pending[found]] = self.arc_states[arcs[found]]
            pending = pending[~found]
            at_root = states[pending] == 0
            log_probs[pending[at_root]] = -np.inf
            pending = pending[~at_root]
            log_probs[pending] += self.backoffs[states[pending]]
            states[pending] = self.backoff_states[states[pending]]
        return log_probs, following

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}


def sentence_log_prob(model: LanguageModel, sentence: Iterable[str]) -> float:
    """Of the words and the end of one sentence, to the base 10; unknown words are `<unk>`."""
    state, total = model.start, 0.0
    for word in [*model.ids(sentence), END_ID]:
        log_probs, states = model.advance([state], [word])
        total += float(log_probs[0])
        state = int(states[0])
    return total


@dataclass(frozen=True, kw_only=True, slots=True)
class Perplexity:
    """How well a model predicts sentences, each with its end."""

    num_sentences: int
    num_words: int
    """Units, without the sentences' ends."""
    known_log_prob: float
    """Of the words in the vocabulary and of the ends."""
    oov_log_prob: float
    """Of the words out of vocabulary (OOV), each as `<unk>`; -inf if the model has none."""
    oov: Counter[str]
    """How often each occurs."""

    @property
    def num_oov(self) -> int:
        """Words out of vocabulary."""
        return self.oov.total()

    @property
    def num_known(self) -> int:
        """Words in the vocabulary, and ends of sentences."""
        return self.num_words + self.num_sentences - self.num_oov

    @property
    def with_oov(self) -> float:
        """Of each word and end of sentence."""
        log_prob = self.known_log_prob + self.oov_log_prob
        return _perplexity(log_prob, self.num_known + self.num_oov)

    @property
    def without_oov(self) -> float:
        """Of each word and end of sentence but the OOVs, which histories have all the same."""
        return _perplexity(self.known_log_prob, self.num_known)


def _perplexity(log_prob: float, count: int) -> float:
    exponent = -log_prob / count
    return 10**exponent if exponent < sys.float_info.max_10_exp else math.inf


def perplexity(model: LanguageModel, sentences: Iterable[Sequence[str]]) -> Perplexity:
    """Of sentences without `<s>` and `</s>`; empty ones are left out.

    Raises:
        DataError: there is no sentence.
    """
    kept = [sentence for sentence in sentences if sentence]
    if not kept:
        raise DataError("no sentence to score")
    oov: Counter[str] = Counter()
    known_log_prob = oov_log_prob = 0.0
    for first in range(0, len(kept), _NUM_SCORED):
        rows = [(sentence, model.ids(sentence)) for sentence in kept[first : first + _NUM_SCORED]]
        for sentence, ids in rows:
            # A literal <unk> is in the vocabulary only by name.
            oov.update(w for w, i in zip(sentence, ids, strict=True) if i == UNKNOWN_ID)
        known, unknown = _score_rows(model, [[*ids, END_ID] for _, ids in rows])
        known_log_prob += known
        oov_log_prob += unknown
    return Perplexity(
        num_sentences=len(kept),
        num_words=sum(map(len, kept)),
        known_log_prob=known_log_prob,
        oov_log_prob=oov_log_prob,
        oov=oov,
    )


def _score_rows(model: LanguageModel, rows: list[list[int]]) -> tuple[float, float]:
    """Log-probability of the words in the vocabulary, and of those out of it."""
    rows.sort(key=len, reverse=True)
    lengths = np.array([len(row) for row in rows])
    words = np.concatenate(rows)
    firsts = np.cumsum(lengths) - lengths
    states = np.full(len(rows), model.start)
    totals = np.zeros(2)
    for position in range(lengths[0]):
        running = int(np.count_nonzero(lengths > position))
        column = words[firsts[:running] + position]
        log_probs, states = model.advance(states[:running], column)
        unknown = column == UNKNOWN_ID
        totals += log_probs[~unknown].sum(), log_probs[unknown].sum()
    return float(totals[0]), float(totals[1])


def read_language_model(path: Path) -> LanguageModel:
    """Read an ARPA file, or a folder that `save_model` wrote.

    Raises:
        DataError: as `read_arpa`, or an n-gram that is listed twice.
        ModelError: as `load_model`.
    """
    if path.is_dir():
        return load_model(path)
    arpa = read_arpa(path)
    try:
        return build_model(arpa)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def save_model(model: LanguageModel, folder: Path) -> None:
    """Write the arrays as they are, for `load_model` to map into memory.

    Raises:
        AsrError: in the folder there is anything else than such a model.
    """
    with replace_folder(folder, MAPPED_FILES) as fresh:
        for name, dtype in _ARRAYS.items():
            np.save(fresh / f"{name}.npy", np.asarray(getattr(model, name), dtype))
        (fresh / "words.txt").write_bytes("\n".join(model.words).encode())
        header = {
            "format": _FORMAT,
            "num_words": len(model.words),
            "num_ngrams": model.num_ngrams,
        }
        (fresh / "model.json").write_text(json.dumps(header), encoding="utf-8")


@opens_model
def load_model(folder: Path) -> LanguageModel:
    """Open what `save_model` wrote; the arrays stay in their files until they are used.

    Raises:
        ModelError: a file is missing, is of another format, does not fit the others, or holds what
            would lead a search out of them.
    """
    for name in MAPPED_FILES:
        check_inside(folder, name)
    try:
        header = json.loads(read_file(folder / "model.json", _MAX_HEADER))
        if header["format"] != _FORMAT:
            raise ModelError(
                f"{folder}: format {header['format']}, but this program reads {_FORMAT}; "
                "build it again from the ARPA file"
            )
        num_words, num_ngrams = header["num_words"], tuple(map(int, header["num_ngrams"]))
        words = tuple(read_file(folder / "words.txt").decode().split("\n"))
        arrays = {
            name: open_memmap(check_regular(folder / f"{name}.npy"), mode="r") for name in _ARRAYS
        }
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError) as error:
        raise ModelError(f"{folder}: the language model cannot be read: {error}") from error
    if len(words) != num_words:
        raise ModelError(
            f"{folder / 'words.txt'}: {len(words)} words, but {num_words} are expected"
        )
    num_arcs, num_states = len(arrays["arc_keys"]), len(arrays["backoffs"])
    shapes = {"first_arcs": num_states + 1, "backoff_states": num_states, "backoffs": num_states}
    for name, dtype in _ARRAYS.items():
        if arrays[name].shape != (shapes.get(name, num_arcs),) or arrays[name].dtype != dtype:
            raise ModelError(f"{folder / name}.npy: does not fit the other files")
    model = LanguageModel(words=words, num_ngrams=num_ngrams, **arrays)
    if not _is_sound(model):
        raise ModelError(f"{folder}: the language model is damaged; build it again")
    return model


def _is_sound(model: LanguageModel) -> bool:
    """Whether every number of the arrays leads to a place in them, and all searches end.

    Compiled code looks at no bounds. Each array is read once, in order.
    """
    num_words, num_arcs, num_states = len(model.words), len(model.arc_keys), len(model.backoffs)
    if not num_arcs or not num_states or model.words[: END_ID + 1] != (UNKNOWN, START, END):
        return False
    keys, first_arcs, above = model.arc_keys, model.first_arcs, model.backoff_states
    if not (first_arcs[0] == 0 and first_arcs[-1] == num_arcs and _rises(first_arcs, 0)):
        return False
    filled = np.flatnonzero(first_arcs[1:] > first_arcs[:-1])
    return (
        # Sorted, and every state's in its part; so each has a word and none is there twice.
        _rises(keys, 1)
        and bool((keys[first_arcs[filled]] >= filled * num_words).all())
        and bool((keys[first_arcs[filled + 1] - 1] < (filled + 1) * num_words).all())
        and _within(model.arc_states, num_states)
        # Backing off ends, since each state leads to one before it.
        and _within(above, num_states)
        and bool((above[1:] < np.arange(1, num_states)).all())
        # Neither NaN nor infinite, but for the logarithm of 0.
        and float(np.max(model.arc_log_probs)) < math.inf
        and float(np.max(model.backoffs)) < math.inf
    )


def _rises(values: NDArray[np.int64], least: int) -> bool:
    """Whether each value is at least so much more than the one before it."""
    return all(
        bool((part[1:] >= part[:-1] + least).all())
        for first in range(0, len(values), _NUM_CHECKED)
        # Of the next part the first value, too.
        for part in (values[first : first + _NUM_CHECKED + 1],)
    )


def _within(values: NDArray[np.int32], limit: int) -> bool:
    return int(values.min()) >= 0 and int(values.max()) < limit


def build_model(arpa: Arpa) -> LanguageModel:
    """The automaton of a model.

    A history that is not listed, but that a longer n-gram needs, gets the probability that backing
    off gives, and weight 1.

    Raises:
        DataError: an n-gram is listed twice.
    """
    return _minimize(arpa, build_ngram_trie(arpa))


def _minimize(arpa: Arpa, trie: NGramTrie) -> LanguageModel:
    """States are the nodes that differ from their suffixes: they have arcs, or a weight."""
    num_words = len(arpa.words)
    parents, words = trie.histories[1:], trie.last_words[1:]
    is_state, states = find_states(trie)
    nodes = np.flatnonzero(is_state)
    ranks = np.cumsum(is_state) - 1
    arc_keys = ranks[parents] * num_words + words
    return LanguageModel(
        words=arpa.words,
        num_ngrams=tuple(len(ngrams) for ngrams in arpa.orders),
        first_arcs=np.searchsorted(arc_keys, np.arange(len(nodes) + 1) * num_words),
        arc_keys=arc_keys,
        arc_log_probs=trie.log_probs[1:].astype(np.float32),
        arc_states=ranks[states[1:]].astype(np.int32),
        backoffs=trie.backoffs[nodes].astype(np.float32),
        backoff_states=ranks[states[trie.shorter[nodes]]].astype(np.int32),
    )
