"""Pruning of n-gram models by relative entropy.

An n-gram is left out where backing off predicts its last word nearly as well. What that costs is
the relative entropy between the model with it and the model without it, in nats:

    D = - p(h) { p(w|h) [log p(w|h') + log a'(h) - log p(w|h)] + [log a'(h) - log a(h)] r(h) }

where h' lacks the first word of the history h, r(h) is what the n-grams listed after h leave to
others, and a(h) and a'(h) are the back-off weights with and without the n-gram. The perplexity
rises by a factor of e^D.

p(h) is how often h stands in text that the model itself draws, sentence after sentence. The paper
multiplies the probabilities of h's words, which is another number in a model by Kneser and Ney:
its lower orders say in how many places a word stands, and are made to be backed off to.

Sources:
    Stolcke, Entropy-based pruning of backoff language models, DARPA Broadcast News Transcription
    and Understanding Workshop, 1998, equation 6.
    Chelba, Brants, Neveitt and Xu, Study on interaction between entropy pruning and Kneser-Ney
    smoothing, Interspeech 2010.

Dimension: node, of `asr.lm.trie`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError
from asr.lm.arpa import Arpa
from asr.lm.sentences import END, START
from asr.lm.trie import (
    NGramTrie,
    build_ngram_trie,
    find_states,
    list_ngrams,
    listed_mass,
    shorter_log_probs,
    sum_by,
    with_weights,
)

_MOST_ROUNDS = 200
_STILL = 1e-5  # change in one round, in all probability, that is none


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """A smaller model, and what made it so."""

    arpa: Arpa
    threshold: float
    """Relative rise of perplexity below which an n-gram was left out."""


def prune(arpa: Arpa, *, threshold: float | None = None, max_ngrams: int | None = None) -> Pruned:
    """Leave out n-grams, but no unigram and no history of one that stays.

    Args:
        arpa: after whose histories the words sum to 1.
        threshold: relative rise of perplexity that is too little for an n-gram to stay.
        max_ngrams: of all orders, in place of a threshold.

    Raises:
        DataError: an n-gram is listed twice, or there are more unigrams than n-grams wanted.
    """
    trie = build_ngram_trie(arpa)
    num_unigrams = trie.firsts[min(2, len(trie.firsts) - 1)] - trie.firsts[1]
    needs = _spread_up(trie, relative_entropies(trie))
    if max_ngrams is not None:
        room = max_ngrams - num_unigrams
        if room < 0:
            raise DataError(
                f"{max_ngrams} n-grams are fewer than the {num_unigrams} words, which all stay; "
                "estimate with a smaller --vocabulary"
            )
        ranked = np.sort(needs[1 + num_unigrams :])[::-1]
        limit = ranked[room] if room < len(ranked) else -np.inf
        kept = needs > limit
        threshold = float(np.expm1(max(limit, 0.0)))
    else:
        threshold = threshold or 0.0
        kept = needs >= np.log1p(threshold)
    smaller = build_ngram_trie(list_ngrams(trie, kept))
    return Pruned(arpa=list_ngrams(with_weights(smaller)), threshold=threshold)


def relative_entropies(trie: NGramTrie) -> NDArray[np.float64]:
    """[node] the cost of leaving it out, in nats; infinite for unigrams."""
    costs = np.full(len(trie.keys), np.inf)
    shares = history_shares(trie)
    for order in range(2, len(trie.firsts) - 1):
        level = trie.level(order)
        listed, covered = listed_mass(trie, level)
        histories = trie.histories[level]
        left = np.maximum(1 - listed[histories], 0.0)
        missing = np.maximum(1 - covered[histories], 0.0)
        prob, shorter = 10 ** trie.log_probs[level], 10 ** shorter_log_probs(trie, level)
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = np.log(left) - np.log(missing)
            without = np.log(left + prob) - np.log(missing + shorter)
            others = np.where(left > 0, left * (without - weight), 0.0)
            word = prob * (np.log(shorter) + without - np.log(prob))
        costs[level] = -shares[histories] * (word + others)
    return costs


def history_shares(trie: NGramTrie) -> NDArray[np.float64]:
    """[node] how often its words are the last ones in text that the model draws; of histories.

    The share of the model's states in all steps from word to word, by repeated steps. In a state
    the words that backing off gives are all but those listed.
    """
    histories, shorter = trie.histories, trie.shorter
    _, following = find_states(trie)
    is_end = trie.last_words == trie.words.index(END)
    starts = trie.level(1)[trie.last_words[trie.level(1)] == trie.words.index(START)]
    following = np.where(is_end, starts[0] if starts.size else 0, following)
    following[0] = 0
    probs = 10**trie.log_probs
    probs[0] = 0.0
    longer = np.arange(trie.firsts[min(2, len(trie.firsts) - 1)], len(trie.keys))
    covered = 10 ** (trie.backoffs[histories[longer]] + shorter_log_probs(trie, longer))
    weights = 10**trie.backoffs
    shares = sum_by(following, probs * (histories == 0), len(probs))
    for _ in range(_MOST_ROUNDS):
        reached = shares.copy()
        for order in range(len(trie.firsts) - 2, 0, -1):
            level = trie.level(order)
            reached += sum_by(shorter[level], weights[level] * reached[level], len(probs))
        flow = probs * reached[histories]
        flow -= sum_by(shorter[longer], covered * reached[histories[longer]], len(probs))
        flow[0] = 0.0
        before, shares = shares, sum_by(following, np.maximum(flow, 0.0), len(probs))
        shares /= shares.sum()
        if np.abs(shares - before).sum() < _STILL:
            break
    for order in range(len(trie.firsts) - 2, 0, -1):
        level = trie.level(order)
        shares += sum_by(shorter[level], shares[level], len(probs))
    return shares


def _spread_up(trie: NGramTrie, costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """[node] its cost, or that of the most costly n-gram which begins with it."""
    needs = costs.copy()
    for order in range(len(trie.firsts) - 2, 1, -1):
        level = trie.level(order)
        if level.size:
            histories, firsts = np.unique(trie.histories[level], return_index=True)
            most = np.maximum.reduceat(needs[level], firsts)
            needs[histories] = np.maximum(needs[histories], most)
    return needs
