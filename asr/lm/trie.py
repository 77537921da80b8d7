"""The n-grams of a model as nodes of a trie, each with its history and its shorter form.

Node 0 is the empty n-gram. Every other one has a probability, those too that a file leaves out
though a longer n-gram begins with them. All logarithms are to the base 10. Dimension: node.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError
from asr.lm.arpa import LOG_ZERO, Arpa, NGrams

_START_ID = 1
_LEAST_LEFT = 1e-12  # of a history's probability, that is more than rounding


@dataclass(frozen=True, kw_only=True)
class NGramTrie:
    """Nodes are numbered by order, then sorted by history and last word."""

    words: tuple[str, ...]
    keys: NDArray[np.int64]
    """[node] history * number of words + last word; sorted."""
    log_probs: NDArray[np.float64]
    """[node] of the last word after those before it."""
    backoffs: NDArray[np.float64]
    """[node] weight of the shorter history."""
    shorter: NDArray[np.int64]
    """[node] the longest proper suffix that is a node."""
    firsts: tuple[int, ...]
    """[order + 1] the first node with so many words; the last is the number of nodes."""

    @cached_property
    def histories(self) -> NDArray[np.int64]:
        """[node] the node of all words but the last; node 0 has -1."""
        return self.keys // len(self.words)

    @cached_property
    def last_words(self) -> NDArray[np.int64]:
        """[node] ids; node 0 has none."""
        return self.keys % len(self.words)

    def level(self, order: int) -> NDArray[np.int64]:
        """The nodes with so many words."""
        return np.arange(self.firsts[order], self.firsts[order + 1])


def number_nodes(
    rows: Sequence[NDArray[np.int32]], num_words: int
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]:
    """Number n-grams and their prefixes.

    Args:
        rows: by order: [n-gram, position] word ids, in any order, perhaps twice.
        num_words: of the vocabulary.

    Returns:
        By order, from 0: the nodes' keys. By order, from 1: each row's place in its level.
    """
    nodes = [np.zeros(len(level), np.int64) for level in rows]
    keys, places = [np.array([-1])], []
    num_nodes = 1
    for index in range(len(rows)):
        longer = range(index, len(rows))
        wanted = [nodes[number] * num_words + rows[number][:, index] for number in longer]
        level, inverse = np.unique(np.concatenate(wanted), return_inverse=True)
        parts = np.split(inverse, np.cumsum([len(part) for part in wanted])[:-1])
        for number, part in zip(longer, parts, strict=True):
            nodes[number] = num_nodes + part
        keys.append(level)
        places.append(parts[0])
        num_nodes += len(level)
    return keys, places


def make_trie(words: tuple[str, ...], keys: Sequence[NDArray[np.int64]]) -> NGramTrie:
    """A trie without probabilities, which are NaN, of the keys of each order's nodes."""
    flat = np.concatenate(keys)
    order = len(keys) - 1
    return NGramTrie(
        words=words,
        keys=flat,
        log_probs=np.append(0.0, np.full(len(flat) - 1, np.nan)),
        backoffs=np.zeros(len(flat)),
        shorter=_find_shorter(flat, len(words), order),
        firsts=(0, *np.cumsum([len(level) for level in keys]).tolist()),
    )


def build_ngram_trie(arpa: Arpa) -> NGramTrie:
    """The trie of a model.

    A history that is not listed, but that a longer n-gram needs, gets the probability that backing
    off gives, and weight 1. Nothing predicts `<s>`, whatever is listed.

    Raises:
        DataError: an n-gram is listed twice.
    """
    keys, places = number_nodes([ngrams.words for ngrams in arpa.orders], len(arpa.words))
    trie = make_trie(arpa.words, keys)
    for order, (listed, place) in enumerate(zip(arpa.orders, places, strict=True), start=1):
        twice = np.flatnonzero(np.bincount(place, minlength=1) > 1)
        if twice.size:
            row = listed.words[np.flatnonzero(place == twice[0])[0]]
            raise DataError(f"{' '.join(arpa.words[word] for word in row)!r} is listed twice")
        nodes = trie.firsts[order] + place
        trie.log_probs[nodes] = listed.log_probs
        trie.backoffs[nodes] = listed.backoffs
        level = trie.level(order)
        if order == 1:
            trie.log_probs[level[trie.keys[level] == _START_ID]] = LOG_ZERO
        missing = level[np.isnan(trie.log_probs[level])]
        weights = trie.backoffs[trie.histories[missing]]
        trie.log_probs[missing] = weights + shorter_log_probs(trie, missing)
    return trie


def shorter_log_probs(trie: NGramTrie, nodes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of the last words, after the histories without their first words; -inf for unigrams."""
    targets = trie.shorter[nodes]
    totals = np.where(targets > 0, trie.log_probs[targets], -np.inf)
    histories = trie.shorter[trie.histories[nodes]]
    goals = np.maximum(trie.histories[targets], 0)
    pending = np.flatnonzero(histories != goals)
    while pending.size:
        totals[pending] += trie.backoffs[histories[pending]]
        histories[pending] = trie.shorter[histories[pending]]
        pending = pending[histories[pending] != goals[pending]]
    return totals


def listed_mass(
    trie: NGramTrie, nodes: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a level's n-grams sum to after each history, and what without the first word of it.

    Returns:
        [node] for all nodes, of which those that are no history of `nodes` have 0.
    """
    histories, size = trie.histories[nodes], len(trie.keys)
    shorter = 10 ** shorter_log_probs(trie, nodes)
    return sum_by(histories, 10 ** trie.log_probs[nodes], size), sum_by(histories, shorter, size)


def with_weights(trie: NGramTrie) -> NGramTrie:
    """With back-off weights by which the words after every history sum to 1.

    Unigrams have to sum to 1 as they are. Where a history has all words, its weight is 1.
    """
    fitted = replace(trie, backoffs=np.zeros(len(trie.keys)))
    for order in range(2, len(trie.firsts) - 1):
        listed, covered = listed_mass(fitted, fitted.level(order))
        histories = np.unique(fitted.histories[fitted.level(order)])
        left, missing = 1 - listed[histories], 1 - covered[histories]
        weights = np.full(len(histories), LOG_ZERO)
        np.log10(left / np.where(missing > 0, missing, 1), out=weights, where=left > _LEAST_LEFT)
        weights[missing <= _LEAST_LEFT] = 0.0
        fitted.backoffs[histories] = weights
    return fitted


def find_states(trie: NGramTrie) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which nodes predict otherwise than their suffixes do, and each node's longest that does.

    Returns:
        [node] whether it does: it has longer n-grams, or a weight. [node] the longest suffix that
        does, itself included.
    """
    differs = trie.backoffs != 0
    differs[trie.histories[1:]] = True
    differs[0] = True
    nearest = np.arange(len(trie.keys))
    while (others := np.flatnonzero(~differs[nearest])).size:
        nearest[others] = trie.shorter[nearest[others]]
    return differs, nearest


def list_ngrams(trie: NGramTrie, kept: NDArray[np.bool_] | None = None) -> Arpa:
    """The model of all nodes, or of some that include their histories."""
    rows = np.zeros((1, 0), np.int32)
    orders = []
    for order in range(1, len(trie.firsts) - 1):
        level = trie.level(order)
        above = trie.histories[level] - trie.firsts[order - 1]
        rows = np.column_stack([rows[above], trie.last_words[level].astype(np.int32)])
        chosen = slice(None) if kept is None else kept[level]
        orders.append(
            NGrams(
                words=rows[chosen],
                log_probs=np.maximum(trie.log_probs[level][chosen], LOG_ZERO),
                backoffs=trie.backoffs[level][chosen],
            )
        )
    return Arpa(words=trie.words, orders=tuple(orders))


def sum_by(
    groups: NDArray[np.int64], values: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    """[group] the sum of its values."""
    # Of no values bincount makes integers, whatever the weights.
    return np.bincount(groups, values, minlength=size).astype(np.float64, copy=False)


def find_keys(
    keys: NDArray[np.int64], wanted: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each of `wanted` is in sorted keys, and whether it is there."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return places, keys[places] == wanted


def _find_shorter(keys: NDArray[np.int64], num_words: int, order: int) -> NDArray[np.int64]:
    shorter = np.zeros(len(keys), np.int64)
    # Nodes of one order come after all their suffixes, whose own suffixes are known then.
    level = np.flatnonzero((keys >= 0) & (keys < num_words))
    for _ in range(2, order + 1):
        first, last = np.searchsorted(keys, [level[0] * num_words, (level[-1] + 1) * num_words])
        level = np.arange(first, last)
        if not level.size:
            break
        histories, words = np.divmod(keys[level], num_words)
        pending = np.arange(len(level))
        while pending.size:
            histories[pending] = shorter[histories[pending]]
            places, listed = find_keys(keys, histories[pending] * num_words + words[pending])
            shorter[level[pending[listed]]] = places[listed]
            pending = pending[~listed]
            pending = pending[histories[pending] != 0]
    return shorter
