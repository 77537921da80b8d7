"""What a prefix of the beam search scores, and may score, one token longer; compiled by Numba."""

import numpy as np

from asr.decoding.compilation import inlined
from asr.decoding.tables import NO_WORD, OUTSIDE, ROOT

NOWHERE = -1
"""In place of a node of a trie: there is none."""


@inlined
def advance(automaton, state, label):  # type: ignore[no-untyped-def]
    """Score of a label in a state, and the state after it."""
    total = 0.0
    while state != 0:
        arc = _find(
            automaton.arc_keys,
            automaton.first_arcs[state],
            automaton.first_arcs[state + 1],
            state * np.int64(automaton.num_labels) + label,
        )
        if arc >= 0:
            return total + automaton.arc_scores[arc], np.int64(automaton.arc_states[arc])
        total += automaton.fallback_scores[state]
        state = np.int64(automaton.fallback_states[state])
    return total + automaton.root_scores[label], np.int64(automaton.root_states[label])


@inlined
def word_range(trie, node, is_open):  # type: ignore[no-untyped-def]
    """Where the words that end in a node are listed; (-1, 0) for one unknown word."""
    first, last = trie.first_words[node], trie.first_words[node + 1]
    if first == last and is_open:
        return np.int64(-1), np.int64(0)
    return first, last


@inlined
def end_word(plan, state, word):  # type: ignore[no-untyped-def]
    """What the end of a word adds, and the language model's state after it."""
    options, model = plan.options, plan.models.words
    if word == NO_WORD:
        return 0.0, state
    if model.num_labels == 0:
        return options.word_bonus, state
    label = plan.trie.labels[word] if word >= 0 else 0
    score, state = advance(model, state, label)
    score = options.word_bonus + options.word_scale * score
    return score + (options.unknown_score if word < 0 else 0.0), state


@inlined
def most_in_word(options, trie, node):  # type: ignore[no-untyped-def]
    """What a prefix can score at most, one token longer in the same word, or in its first."""
    bonus = max(options.word_bonus, 0.0)
    if options.ends_at_once:
        # The word may end there, at a probability of 1 at most.
        return node.score + bonus + max(trie.potentials[node.trie], bonus) + options.best_hot
    return node.rank_score + (bonus if node.trie == ROOT else 0.0) + options.best_hot


@inlined
def most_after_word(options, node):  # type: ignore[no-untyped-def]
    """The same where the token ends the word and perhaps begins another."""
    return node.score + 2 * max(options.word_bonus, 0.0) + options.best_hot


@inlined
def lead(token, ends, inner, num_tokens, plan):  # type: ignore[no-untyped-def]
    """Where a token leads in the trie, and which words may end with it.

    Args:
        ends: whether it ends the word before it.
        inner: the trie's node before it.

    Returns:
        The node after it, or `NOWHERE`; first and last place in the trie's list of words; and
        whether it may end no word, too.
    """
    options, trie = plan.options, plan.trie
    if token == options.space:
        after = np.int64(ROOT)
    else:
        origin = np.int64(ROOT) if ends else inner
        after = _below(trie, origin, token, num_tokens, options.is_open)
    first, last, goes_on = np.int64(0), np.int64(0), True
    if after != NOWHERE:
        if ends and inner != ROOT:
            first, last = word_range(trie, inner, options.is_open)
            goes_on = False
        elif options.ends_at_once:
            first, last = trie.first_words[after], trie.first_words[after + 1]
            goes_on = trie.first_arcs[after] < trie.first_arcs[after + 1]
    return after, first, last, goes_on


@inlined
def offer(extension, log_prob, floor, nodes, scratch, plan):  # type: ignore[no-untyped-def]
    """Fill `scratch` with the prefix one token longer; its rank, or -inf if it is not wanted."""
    prefix, token, word, trie_node = extension
    options, token_model, hot = plan.options, plan.models.tokens, plan.models.hot
    potential = plan.trie.potentials[trie_node]
    parent = nodes[prefix]
    score, word_state = parent.score, parent.word_state
    if word != NO_WORD:
        if parent.ended != word:
            added, state = end_word(plan, np.int64(word_state), word)
            parent.ended, parent.end_score, parent.end_state = word, added, state
        score, word_state = score + parent.end_score, parent.end_state
    ahead = log_prob + potential
    if not score + ahead + options.best_hot > floor:
        return -np.inf
    child = parent.first_child
    while child >= 0 and not (nodes[child].token == token and nodes[child].word == word):
        child = nodes[child].sibling
    scratch.existing = child
    if child >= 0:
        # A prefix in the beam has been given this path already.
        return -np.inf if nodes[child].slot >= 0 else log_prob + nodes[child].rank_score
    token_state, hot_state = np.int64(parent.token_state), np.int64(parent.hot_state)
    if token_model.num_labels > 0 and score + ahead + options.best_hot > floor:
        added, token_state = advance(token_model, token_state, options.token_labels[token])
        score += options.token_scale * added
    if hot.num_labels > 0 and score + ahead + options.best_hot > floor:
        if options.begins_word[token]:
            added, hot_state = advance(hot, hot_state, options.boundary_label)
            score += added
        added, hot_state = advance(hot, hot_state, token)
        score += added
        if options.ends_at_once and word != NO_WORD:
            added, hot_state = advance(hot, hot_state, options.boundary_label)
            score += added
    scratch.parent, scratch.token, scratch.word = prefix, token, word
    scratch.trie, scratch.word_state = trie_node, word_state
    scratch.token_state, scratch.hot_state = token_state, hot_state
    scratch.score = score
    scratch.rank_score = score + potential
    return log_prob + scratch.rank_score


@inlined
def _below(trie, node, token, num_tokens, is_open):  # type: ignore[no-untyped-def]
    """The trie's node after a token."""
    if node != OUTSIDE:
        key = node * np.int64(num_tokens) + token
        arc = _find(trie.arc_keys, trie.first_arcs[node], trie.first_arcs[node + 1], key)
        if arc >= 0:
            return np.int64(trie.arc_nodes[arc])
    return np.int64(OUTSIDE) if is_open else np.int64(NOWHERE)


@inlined
def _find(keys, first, last, key):  # type: ignore[no-untyped-def]
    """Place of a key in a part of sorted keys, or -1."""
    end = last
    while first < last:
        middle = (first + last) >> 1
        if keys[middle] < key:
            first = middle + 1
        else:
            last = middle
    return first if first < end and keys[first] == key else -1
