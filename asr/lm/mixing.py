"""Several n-gram models in one: their probabilities mixed, by weights found on a text.

The mixture lists every n-gram that one of the models lists, with the weighted sum of what all of
them give; back-off weights are fitted anew. Where no model lists an n-gram, the mixture backs off,
which is not quite the sum of what each would give: the text's perplexity is computed both ways.

A word that a model lacks has probability 0 in it, and not that of its `<unk>`; so the words after
every history sum to 1.

Source:
    Jelinek and Mercer, Interpolated estimation of Markov source parameters from sparse data, 1980
    (weights by expectation and maximization).

Dimensions: model, word (of a text, ends of sentences included), node (of `asr.lm.trie`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError
from asr.lm.arpa import Arpa
from asr.lm.ngram import UNKNOWN_ID, LanguageModel, build_model
from asr.lm.sentences import END, START, UNKNOWN
from asr.lm.trie import list_ngrams, make_trie, number_nodes, with_weights

_MOST_ROUNDS = 1000
_STILL = 1e-9  # rise of the log-likelihood of a word, in nats, that is none


@dataclass(frozen=True, kw_only=True)
class TextScores:
    """What models make of a text."""

    probs: NDArray[np.float64]
    """[word, model] probabilities; words that no model has are left out."""
    num_unknown: int
    """Words that no model has."""

    def perplexities(self) -> list[tuple[float, int]]:
        """Of each model: over the words that it has, and how many it lacks."""
        return [
            (_perplexity(column[column > 0]), int(np.count_nonzero(column == 0)))
            for column in self.probs.T
        ]

    def perplexity(self, weights: Sequence[float]) -> float:
        """Of the weighted sum of the probabilities."""
        return _perplexity(self.probs @ np.array(weights))


def score_text(models: Sequence[LanguageModel], sentences: Iterable[Sequence[str]]) -> TextScores:
    """Probabilities of a text's words, which must be of the models' units.

    Raises:
        DataError: no word of it is in a model.
    """
    vocabulary = set().union(*(model.words for model in models)) - {UNKNOWN, START}
    kept = [list(sentence) for sentence in sentences if sentence]
    there = np.array([word in vocabulary for s in kept for word in (*s, END)], bool)
    if there.sum() <= len(kept):
        raise DataError("no word of it is in the models' vocabularies")
    columns = [_probabilities(model, kept)[there] for model in models]
    return TextScores(probs=np.stack(columns, axis=1), num_unknown=int(np.count_nonzero(~there)))


def find_weights(scores: TextScores) -> tuple[list[float], list[float]]:
    """The weights that make a text most probable, by expectation and maximization.

    Returns:
        A weight for each model; and the mean log-likelihood of a word in nats, after each round.
    """
    probs = scores.probs[scores.probs.any(axis=1)]
    weights = np.full(probs.shape[1], 1 / probs.shape[1])
    history: list[float] = []
    for _ in range(_MOST_ROUNDS):
        parts = probs * weights
        sums = parts.sum(axis=1)
        history.append(float(np.log(sums).mean()))
        if len(history) > 1 and history[-1] - history[-2] < _STILL:
            break
        weights = (parts / sums[:, None]).mean(axis=0)
    return weights.tolist(), history


def mix(arpas: Sequence[Arpa], weights: Sequence[float]) -> Arpa:
    """One model from several; one of weight 0 is left out.

    Args:
        arpas: of the same units.
        weights: of each; they sum to 1.

    Raises:
        DataError: the weights are no shares of the models, or an n-gram is listed twice.
    """
    if len(weights) != len(arpas) or min(weights) < 0 or abs(sum(weights) - 1) > 1e-3:
        given = ", ".join(f"{weight:g}" for weight in weights)
        raise DataError(
            f"weights {given}: {len(arpas)} numbers from 0 up are expected that sum to 1"
        )
    parts = [(arpa, w / sum(weights)) for arpa, w in zip(arpas, weights, strict=True) if w]
    marks = (UNKNOWN, START, END)
    words = (*marks, *sorted(set().union(*(arpa.words for arpa, _ in parts)) - set(marks)))
    ids = {word: index for index, word in enumerate(words)}
    keys, _ = number_nodes(_join_rows([arpa for arpa, _ in parts], ids), len(words))
    trie = make_trie(words, keys)
    probs = np.zeros(len(trie.keys))
    for arpa, weight in parts:
        model = build_model(arpa)
        mapped = np.full(len(words), -1)
        mapped[[ids[word] for word in arpa.words]] = np.arange(len(arpa.words))
        states = np.zeros(len(trie.keys), np.int64)
        for order in range(1, len(keys)):
            level = trie.level(order)
            log_probs, states[level] = _advance(
                model, states[trie.histories[level]], mapped[trie.last_words[level]]
            )
            probs[level] += weight * 10**log_probs
    with np.errstate(divide="ignore"):
        return list_ngrams(with_weights(replace(trie, log_probs=np.log10(probs))))


def _join_rows(arpas: Sequence[Arpa], ids: dict[str, int]) -> list[NDArray[np.int32]]:
    """The n-grams of all models, by order, in the words of the mixture."""
    rows = []
    for order in range(1, max(len(arpa.orders) for arpa in arpas) + 1):
        parts = [np.zeros((0, order), np.int32)]
        for arpa in arpas:
            if order <= len(arpa.orders):
                mapped = np.array([ids[word] for word in arpa.words], np.int32)
                parts.append(mapped[arpa.orders[order - 1].words])
        rows.append(np.concatenate(parts))
    return rows


def _probabilities(model: LanguageModel, sentences: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """[word] of all words and ends of sentences, one sentence after the other."""
    lengths = np.array([len(sentence) + 1 for sentence in sentences])
    known = {word: index for index, word in enumerate(model.words)}
    words = np.array(
        [known.get(word, -1) for sentence in sentences for word in (*sentence, END)], np.int64
    )
    words[words == UNKNOWN_ID] = -1
    firsts = np.cumsum(lengths) - lengths
    states = np.full(len(sentences), model.start)
    probs = np.zeros(len(words))
    for position in range(lengths.max()):
        running = np.flatnonzero(lengths > position)
        places = firsts[running] + position
        log_probs, states[running] = _advance(model, states[running], words[places])
        probs[places] = 10**log_probs
    return probs


def _advance(
    model: LanguageModel, states: NDArray[np.int64], words: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """As the model's own, but a word that it lacks, -1, has no probability; after it is `<unk>`."""
    lacking = words < 0
    log_probs, following = model.advance(states, np.where(lacking, UNKNOWN_ID, words))
    return np.where(lacking, -np.inf, log_probs), following


def _perplexity(probs: NDArray[np.float64]) -> float:
    if not probs.size:
        return float("inf")
    with np.errstate(divide="ignore"):
        return float(np.exp(-np.log(probs).mean()))
