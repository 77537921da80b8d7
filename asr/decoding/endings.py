"""The hypotheses that are left at the end of a beam search; compiled by Numba."""

import numpy as np

from asr.decoding.compilation import inlined
from asr.decoding.prefixes import advance, end_word, word_range
from asr.decoding.tables import NO_WORD, ROOT, UNKNOWN_WORD, HypothesisTable


@inlined
def finish(num_slots, slots, nodes, plan):  # type: ignore[no-untyped-def]
    """Complete hypotheses: score, slot, last word."""
    options, trie = plan.options, plan.trie
    word_model, token_model, hot = plan.models
    finals = []
    for index in range(num_slots):
        slot = slots[index]
        node = nodes[slot.node]
        inner = np.int64(node.trie)
        first, last = np.int64(0), np.int64(1)
        if inner != ROOT:
            first, last = word_range(trie, inner, options.is_open)
            if options.ends_at_once:
                continue
        base = node.score
        if token_model.num_labels > 0:
            added, _ = advance(token_model, np.int64(node.token_state), options.end_label)
            base += options.token_scale * added
        if hot.num_labels > 0:
            added, state = advance(hot, np.int64(node.hot_state), options.boundary_label)
            base += added
            base += advance(hot, state, hot.num_labels - 1)[0]
        for variant in range(first, last):
            word = np.int64(NO_WORD)
            if inner != ROOT:
                word = np.int64(trie.words[variant] if variant >= 0 else UNKNOWN_WORD)
            state = np.int64(node.word_state)
            score, state = end_word(plan, state, word)
            if word_model.num_labels > 0:
                score += options.word_scale * advance(word_model, state, 2)[0]
            if base + score > -np.inf:
                finals.append((base + score + slot.log, index, word))
    return finals


@inlined
def choose_best(finals, count):  # type: ignore[no-untyped-def]
    """Put the `count` best first, in their order.

    By choosing one after the other: the sort of a list takes three seconds to compile.
    """
    for place in range(min(count, len(finals))):
        best = place
        for other in range(place + 1, len(finals)):
            if finals[other] > finals[best]:
                best = other
        finals[place], finals[best] = finals[best], finals[place]


@inlined
def read_out(finals, slots, tree, offset):  # type: ignore[no-untyped-def]
    """Hypotheses with their tokens, steps and words; `offset` is the logarithm of their scale."""
    nodes, times = tree.nodes, tree.times
    count, longest = len(finals), 0
    scores, log_probs = np.empty(count), np.empty(count)
    lengths, last_words = np.zeros(count, np.int32), np.empty(count, np.int32)
    for place in range(count):
        _, index, _ = finals[place]
        node = slots[index].node
        while nodes[node].parent >= 0:
            lengths[place] += 1
            node = nodes[node].parent
        longest = max(longest, lengths[place])
    tokens = np.zeros((count, longest), np.int32)
    steps, words = np.zeros_like(tokens), np.zeros_like(tokens)
    for place in range(count):
        score, index, last_words[place] = finals[place]
        slot = slots[index]
        scores[place] = score + offset
        log_probs[place] = slot.log + offset
        node, time = slot.node, slot.time
        for position in range(lengths[place] - 1, -1, -1):
            tokens[place, position] = nodes[node].token
            words[place, position] = nodes[node].word
            steps[place, position] = times[time].step
            node, time = nodes[node].parent, times[time].previous
    return HypothesisTable(scores, log_probs, lengths, tokens, steps, words, last_words)
