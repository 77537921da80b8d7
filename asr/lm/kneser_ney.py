"""N-gram models estimated from text, by interpolated Kneser-Ney smoothing with three discounts.

Source:
    Chen and Goodman, An Empirical Study of Smoothing Techniques for Language Modeling, Harvard
    TR-10-98, 1998, section 3: p(w | h) = (c(hw) - D(c(hw))) / sum_x c(hx) + b(h) p(w | h'),
    where h' lacks the first word of h. In the highest order c is the count; below it is the
    number of different words before the n-gram, or the count where it begins with `<s>`.
"""

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError
from asr.lm.arpa import LOG_ZERO, Arpa, NGrams
from asr.lm.sentences import END, START, UNKNOWN

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)

_UNKNOWN_ID, _START_ID, _END_ID = range(3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Discounts:
    """What is taken from the counts of one order."""

    values: tuple[float, float, float]
    """From a count of 1, 2, and 3 or more."""
    estimated: bool
    """Or else FALLBACK_DISCOUNTS: too few different counts to estimate from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A model, and how it came about."""

    arpa: Arpa
    discounts: tuple[Discounts, ...]
    """By order."""
    num_sentences: int
    num_words: int
    """Units, without the sentences' ends."""
    num_unknown: int
    """Of these, outside of the vocabulary that was asked for."""


@dataclass(frozen=True, slots=True)
class _Level:
    """Different n-grams of one order in the text, sorted by prefix, then by last word."""

    prefixes: NDArray[np.int32]
    """[n-gram] which n-gram of the order below is all but the last word."""
    suffixes: NDArray[np.int32]
    """[n-gram] which n-gram of the order below is all but the first word."""
    last_words: NDArray[np.int32]
    begins: NDArray[np.bool_]
    """[n-gram] whether it begins with `<s>`."""
    counts: NDArray[np.int64]


def estimate(
    sentences: Iterable[Sequence[str]],
    *,
    order: int,
    prune: Sequence[int] = (),
    vocabulary: int | Collection[str] | None = None,
) -> Estimate:
    """Estimate a model of words, or of any other units.

    `<unk>` gets a word's share of the uniform distribution that unigrams are interpolated with, as
    does a word of the vocabulary that the text lacks; and what the text has of other words, which
    are `<unk>`, too.

    Args:
        sentences: without `<s>` and `</s>`; empty ones are left out.
        order: words in the longest n-grams, 1 or more.
        prune: for order 2, 3, ... the largest count (in the text) that is left out; the last value
            holds for all further orders. What is left out goes to the shorter histories.
        vocabulary: the words, or how many of the most frequent; by default all.

    Raises:
        DataError: there is no sentence, `<s>` or `</s>` is a word, or `prune` falls.
    """
    thresholds = _thresholds(order, prune)
    words, tokens = _encode(sentences, vocabulary)
    levels = _count(tokens, len(words), order)
    discounts, orders = [], []
    # Of the order below, for each of its n-grams: words, probability, and whether it is kept.
    rows = np.zeros((1, 0), np.int32)
    lower = np.array([1 / (len(words) - 1)])  # uniform, over all words but <s>
    lower_kept = np.array([True])
    for number, level in enumerate(levels):
        counts = _adjusted(level, levels[number + 1] if number + 1 < order else None)
        if number == 0:
            counts[_START_ID] = 0  # nothing precedes it: it is never predicted
        discount = _discounts(counts)
        kept = (level.counts > thresholds[number]) | (number == 0)
        taken = np.array([0.0, *discount.values])[np.minimum(counts, 3)]
        totals = _sum(counts, level.prefixes, len(lower))
        left = _sum(np.where(kept, taken, counts), level.prefixes, len(lower))
        weights = np.divide(left, totals, out=np.ones_like(left), where=totals > 0)
        if number:
            orders.append(_ngrams(rows[lower_kept], lower[lower_kept], weights[lower_kept]))
        shares = np.divide(counts - taken, totals[level.prefixes])
        probs = shares + weights[level.prefixes] * lower[level.suffixes]
        if number == 0:
            probs[_START_ID] = 0.0
        rows = np.column_stack([rows[level.prefixes], level.last_words])
        lower, lower_kept = probs, kept
        discounts.append(discount)
    orders.append(_ngrams(rows[lower_kept], lower[lower_kept], np.ones(int(lower_kept.sum()))))
    num_sentences = int(np.count_nonzero(tokens == _END_ID))
    return Estimate(
        arpa=Arpa(words=words, orders=tuple(orders)),
        discounts=tuple(discounts),
        num_sentences=num_sentences,
        num_words=len(tokens) - 2 * num_sentences,
        num_unknown=int(np.count_nonzero(tokens == _UNKNOWN_ID)),
    )


def _thresholds(order: int, prune: Sequence[int]) -> list[int]:
    """The largest count left out, by order; those of a longer n-gram are never smaller."""
    if order < 1:
        raise DataError(f"order {order}: at least 1 is expected")
    if list(prune) != sorted(prune) or any(value < 0 for value in prune):
        raise DataError(
            f"prune {','.join(map(str, prune))}: counts that do not fall are expected, or n-grams "
            "would stay whose history does not"
        )
    if len(prune) > order - 1:
        raise DataError(f"prune: {len(prune)} counts, for the orders 2 to {order}")
    values = [0, *prune]
    return values + [values[-1]] * (order - len(values))


def _encode(
    sentences: Iterable[Sequence[str]], vocabulary: int | Collection[str] | None
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The vocabulary, sorted but for the three marks, and all sentences as one row of ids."""
    ids = {UNKNOWN: _UNKNOWN_ID, START: _START_ID, END: _END_ID}
    tokens = array("i")
    num_sentences = 0
    for sentence in sentences:
        if not sentence:
            continue
        tokens.append(_START_ID)
        tokens.extend([ids.setdefault(word, len(ids)) for word in sentence])
        tokens.append(_END_ID)
        num_sentences += 1
    if not num_sentences:
        raise DataError("no sentence to learn from")
    seen = np.frombuffer(tokens, np.intc)
    if np.count_nonzero((seen == _START_ID) | (seen == _END_ID)) != 2 * num_sentences:
        raise DataError(f"{START} and {END} are no words: sentences get their bounds by themselves")
    marks = (UNKNOWN, START, END)
    chosen = sorted(_choose(ids, seen, vocabulary).difference(marks))
    words = (*marks, *chosen)
    ranks = np.full(len(ids), _UNKNOWN_ID, np.int64)
    for rank, word in enumerate(words):
        if word in ids:
            ranks[ids[word]] = rank
    return words, ranks[seen]


def _choose(
    ids: Mapping[str, int], tokens: NDArray[np.intc], vocabulary: int | Collection[str] | None
) -> set[str]:
    """The words that are told apart; of equally frequent ones the first by the alphabet."""
    if vocabulary is None:
        return set(ids)
    if not isinstance(vocabulary, int):
        chosen = set(vocabulary)
        if not any(word in ids for word in chosen.difference((UNKNOWN, START, END))):
            raise DataError("no word of the vocabulary is in the text")
        return chosen
    if vocabulary < 1:
        raise DataError(f"vocabulary {vocabulary}: at least 1 word is expected")
    counts = np.bincount(tokens, minlength=len(ids)).tolist()
    ranked = sorted(list(ids)[_END_ID + 1 :], key=lambda word: (-counts[ids[word]], word))
    return set(ranked[:vocabulary])


def _count(tokens: NDArray[np.int64], num_words: int, order: int) -> list[_Level]:
    unigrams = np.arange(num_words, dtype=np.int32)
    levels = [
        _Level(
            prefixes=np.zeros_like(unigrams),
            suffixes=np.zeros_like(unigrams),
            last_words=unigrams,
            begins=unigrams == _START_ID,
            counts=np.bincount(tokens, minlength=num_words),
        )
    ]
    ngrams = tokens.copy()  # at each position, the n-gram of the order below that begins there
    starts = np.arange(len(tokens))
    for size in range(2, order + 1):
        starts = starts[tokens[starts + size - 2] != _END_ID]
        keys, inverse, counts = np.unique(
            ngrams[starts] * num_words + tokens[starts + size - 1],
            return_inverse=True,
            return_counts=True,
        )
        prefixes, last_words = np.divmod(keys, num_words)
        suffixes = np.empty(len(keys), np.int32)
        suffixes[inverse] = ngrams[starts + 1]
        levels.append(
            _Level(
                prefixes=prefixes.astype(np.int32),
                suffixes=suffixes,
                last_words=last_words.astype(np.int32),
                begins=levels[-1].begins[prefixes],
                counts=counts,
            )
        )
        ngrams[starts] = inverse
    return levels


def _adjusted(level: _Level, above: _Level | None) -> NDArray[np.int64]:
    """The counts that smoothing works with."""
    if above is None:
        return level.counts.copy()
    return np.where(
        level.begins, level.counts, np.bincount(above.suffixes, minlength=len(level.counts))
    )


def _sum(values: NDArray[Any], groups: NDArray[np.int32], num_groups: int) -> NDArray[np.float64]:
    # Of no values bincount makes integers, whatever the weights.
    return np.bincount(groups, values, minlength=num_groups).astype(np.float64)


def _discounts(counts: NDArray[np.int64]) -> Discounts:
    """Chen and Goodman's equation 26, where it gives values in (0, 1], (0, 2] and (0, 3]."""
    once, twice, thrice, four_times = (int(np.count_nonzero(counts == n)) for n in range(1, 5))
    if once and twice and thrice:
        ratio = once / (once + 2 * twice)
        values = (
            1 - 2 * ratio * twice / once,
            2 - 3 * ratio * thrice / twice,
            3 - 4 * ratio * four_times / thrice,
        )
        if all(value > 0 for value in values):
            return Discounts(values=values, estimated=True)
    return Discounts(values=FALLBACK_DISCOUNTS, estimated=False)


def _ngrams(
    words: NDArray[np.int32], probs: NDArray[np.float64], weights: NDArray[np.float64]
) -> NGrams:
    log_probs = np.log10(probs, out=np.full(len(probs), LOG_ZERO), where=probs > 0)
    return NGrams(words=words, log_probs=log_probs, backoffs=np.log10(weights))
