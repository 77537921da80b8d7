import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import DataError
from asr.lm.arpa import Arpa
from asr.lm.kneser_ney import estimate
from asr.lm.ngram import START_ID, LanguageModel, build_model, perplexity
from asr.lm.pruning import history_shares, prune, relative_entropies
from asr.lm.trie import NGramTrie, build_ngram_trie, list_ngrams, with_weights

TEXT = [
    list(sentence)
    for sentence in [
        "abca",
        "abd",
        "bca",
        "cab",
        "dab",
        "abcd",
        "dd",
        "bac",
        "cc",
        "aab",
        "abc",
        "abd",
        "bcab",
        "cabca",
        "dabc",
        "aa",
        "ab",
    ]
]
SENTENCES = st.lists(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=6), min_size=1, max_size=12
)


def names(trie: NGramTrie) -> list[tuple[str, ...]]:
    """The words of each node."""
    found: list[tuple[str, ...]] = [()]
    for history, word in zip(trie.histories[1:].tolist(), trie.last_words[1:], strict=True):
        found.append((*found[history], trie.words[word]))
    return found


def probability(model: LanguageModel, history: tuple[str, ...], word: str) -> float:
    return 10 ** model.score(model.state(model.ids(history)), model.ids([word])[0])


def histories_of_text(arpa: Arpa, order: int) -> dict[tuple[str, ...], float]:
    """How often the last words are these, in a text that the model draws: a dense Markov chain."""
    model = build_model(arpa)
    words = [word for word in arpa.words if word not in ("<s>", "</s>")]
    inner = [h for n in range(order) for h in itertools.product(words, repeat=n)]
    states = [h for h in inner if len(h) == order - 1]
    states += [("<s>", *h) for h in inner if len(h) < order - 1] if order > 1 else []
    places = {state: index for index, state in enumerate(states)}
    steps = np.zeros((len(states), len(states)))
    for state in states:
        for word in (*words, "</s>"):
            after = ("<s>",) if word == "</s>" else (*state, word)
            after = after[max(0, len(after) - order + 1) :]
            steps[places[state], places[after]] += probability(model, state, word)
    shares = np.linalg.matrix_power(steps, 4096)[0]
    found = dict.fromkeys([()], 1.0)
    for state, share in zip(states, shares, strict=True):
        for first in range(len(state)):
            found[state[first:]] = found.get(state[first:], 0.0) + float(share)
    return found


def each_without(arpa: Arpa) -> Iterator[tuple[int, Arpa]]:
    """The model without one of its longest n-grams, and that one's node."""
    trie = build_ngram_trie(arpa)
    for node in trie.level(len(arpa.orders)).tolist():
        kept = np.ones(len(trie.keys), bool)
        kept[node] = False
        yield node, list_ngrams(with_weights(build_ngram_trie(list_ngrams(trie, kept))))


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("counts", [(), (1,)])
def test_histories_are_as_frequent_as_in_a_text_that_the_model_draws(
    order: int, counts: tuple[int, ...]
) -> None:
    arpa = estimate(TEXT, order=order, prune=counts).arpa
    trie = build_ngram_trie(arpa)
    expected = histories_of_text(arpa, order)
    shares = history_shares(trie)
    for history, name in enumerate(names(trie)):
        if history in trie.histories:
            assert shares[history] == pytest.approx(expected[name], abs=2e-4)


@pytest.mark.parametrize("order", [2, 3])
def test_the_cost_of_an_ngram_is_the_relative_entropy_to_the_model_without_it(order: int) -> None:
    arpa = estimate(TEXT, order=order).arpa
    trie, model = build_ngram_trie(arpa), build_model(arpa)
    costs, named, shares = relative_entropies(trie), names(trie), histories_of_text(arpa, order)
    words = [word for word in arpa.words if word != "<s>"]
    for node, smaller in each_without(arpa):
        history = named[node][:-1]
        without = build_model(smaller)
        divergence = 0.0
        for word in words:
            before = probability(model, history, word)
            divergence += before * math.log(before / probability(without, history, word))
        assert costs[node] == pytest.approx(shares[history] * divergence, rel=0.01, abs=1e-7)


@given(SENTENCES, st.integers(1, 4), st.sampled_from([0.0, 1e-3, 0.02, 0.5]))
@settings(max_examples=60, deadline=None)
def test_a_pruned_model_sums_to_one_in_every_state(
    sentences: list[list[str]], order: int, threshold: float
) -> None:
    model = build_model(prune(estimate(sentences, order=order).arpa, threshold=threshold).arpa)
    words = [word for word in range(len(model.words)) if word != START_ID]
    for state in range(len(model.backoffs)):
        log_probs, _ = model.advance([state] * len(words), words)
        assert (10**log_probs).sum() == pytest.approx(1, abs=1e-5)


def test_what_stays_has_its_probability_and_its_history() -> None:
    arpa = estimate(TEXT, order=3).arpa
    pruned = prune(arpa, threshold=0.01).arpa
    before, after = build_ngram_trie(arpa), build_ngram_trie(pruned)
    listed = dict(zip(names(before), before.log_probs.tolist(), strict=True))
    assert 0 < len(pruned.orders[2]) < len(arpa.orders[2])
    assert len(pruned.orders[0]) == len(arpa.orders[0])
    # A history that nobody lists would have been added when the trie was built.
    assert len(after.keys) == 1 + sum(map(len, pruned.orders))
    for name, log_prob in zip(names(after), after.log_probs.tolist(), strict=True):
        assert log_prob == listed[name]


def test_a_model_loses_little_at_first_and_more_later() -> None:
    arpa = estimate(TEXT, order=3).arpa
    sizes, values = [], []
    for threshold in (0.0, 1e-3, 1e-2, 1.0):
        pruned = prune(arpa, threshold=threshold).arpa
        sizes.append(sum(map(len, pruned.orders)))
        values.append(perplexity(build_model(pruned), TEXT).without_oov)
    assert sizes == sorted(sizes, reverse=True)
    assert values == sorted(values)
    full = perplexity(build_model(arpa), TEXT).without_oov
    assert values[0] == pytest.approx(full, rel=1e-6)
    assert sizes[-1] == len(arpa.orders[0])


def test_a_number_of_ngrams_is_a_threshold() -> None:
    arpa = estimate(TEXT, order=3).arpa
    most = len(arpa.orders[0]) + 12
    by_number = prune(arpa, max_ngrams=most)
    assert most - 3 <= sum(map(len, by_number.arpa.orders)) <= most
    # The threshold itself would keep the first that had to go.
    again = prune(arpa, threshold=by_number.threshold * 1.0001).arpa
    assert [len(n) for n in again.orders] == [len(n) for n in by_number.arpa.orders]
    whole = prune(arpa, max_ngrams=10**6).arpa
    assert [len(n) for n in whole.orders] == [len(n) for n in arpa.orders]
    with pytest.raises(DataError, match="3 n-grams are fewer than the 7 words"):
        prune(arpa, max_ngrams=3)
