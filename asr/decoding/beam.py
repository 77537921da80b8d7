"""CTC prefix beam search, compiled by Numba; no torch.

A prefix is a sequence of tokens with the words that end in it. All paths through the steps that
spell one prefix are summed, as in Graves 2012, "Supervised sequence labelling", 7.5.3; what
language model, word bonus and hot words add depends on the prefix alone and stands in its node.

Probabilities are linear, scaled in every step by the best prefix's, whose logarithm is kept; only
ranks are logarithms. Dimensions: step, token.

Arrays are borrowed (`_borrowed`) by one rule: whoever lends one uses it himself after the last use
of what is borrowed, or holds it as the caller; and nothing that is given back is borrowed.

The compiled functions stand in one file, longer than others, because Numba's cache does not see
when a function that they call changes in another.
"""

import math
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from asr.decoding.compilation import compiled
from asr.decoding.tables import (
    CANDIDATE,
    NO_WORD,
    NODE,
    OUTSIDE,
    ROOT,
    SLOT,
    TIME,
    UNKNOWN_WORD,
    Extension,
    HypothesisTable,
    Scores,
    Tree,
    Workspace,
)

_NOWHERE = -1
_codegen: Any = cgutils  # Numba's types are not known to all checkers

_compiled = compiled(error_model="numpy")
# Arguments are many arrays each: a call that stays a call costs as much as what it does.
_inlined = compiled(error_model="numpy", forceinline=True)


def _strip(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """An array, or a tuple with arrays, without its counter of references."""
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder, value=value)
        array.meminfo = _codegen.get_null_value(array.meminfo.type)
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        kinds: Any = kind
        items = zip(kinds, _codegen.unpack_tuple(builder, value), strict=True)
        stripped = [_strip(context, builder, inner, item) for inner, item in items]
        return context.make_tuple(builder, kind, stripped)
    return value


def _type_borrowed(_context: Any, values: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _strip(context, builder, signature.args[0], arguments[0])

    return values(values), generate


_borrowed: Any = intrinsic(_type_borrowed)
"""In compiled code: an array, or a tuple with arrays, that does not count references to itself.

Numba counts them with atomic operations wherever an array is taken out of a tuple or handed on,
which took three quarters of the search's time. It frees an array after the last use of one that
does count, and what is borrowed then dangles: hence the rule at the top of this file.
"""


@_inlined
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


@_inlined
def _advance(automaton, state, label):  # type: ignore[no-untyped-def]
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


@_inlined
def _below(trie, node, token, num_tokens, is_open):  # type: ignore[no-untyped-def]
    """The trie's node after a token."""
    if node != OUTSIDE:
        key = node * np.int64(num_tokens) + token
        arc = _find(trie.arc_keys, trie.first_arcs[node], trie.first_arcs[node + 1], key)
        if arc >= 0:
            return np.int64(trie.arc_nodes[arc])
    return np.int64(OUTSIDE) if is_open else np.int64(_NOWHERE)


@_inlined
def _word_range(trie, node, is_open):  # type: ignore[no-untyped-def]
    """Where the words that end in a node are listed; (-1, 0) for one unknown word."""
    first, last = trie.first_words[node], trie.first_words[node + 1]
    if first == last and is_open:
        return np.int64(-1), np.int64(0)
    return first, last


@_inlined
def _end_word(plan, state, word):  # type: ignore[no-untyped-def]
    """What the end of a word adds, and the language model's state after it."""
    options, model = plan.options, plan.models.words
    if word == NO_WORD:
        return 0.0, state
    if model.num_labels == 0:
        return options.word_bonus, state
    label = plan.trie.labels[word] if word >= 0 else 0
    score, state = _advance(model, state, label)
    score = options.word_bonus + options.word_scale * score
    return score + (options.unknown_score if word < 0 else 0.0), state


@_inlined
def _raise_top(candidates, heap, size):  # type: ignore[no-untyped-def]
    """Restore the order of a heap, least rank first, whose top is new."""
    place, moved = 0, heap[0]
    rank = candidates[moved].rank
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and candidates[heap[child + 1]].rank < candidates[heap[child]].rank:
            child += 1
        if candidates[heap[child]].rank >= rank:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = moved


@_inlined
def _admit(candidates, heap, size, rank):  # type: ignore[no-untyped-def]
    """Make room for a candidate that ranks above the least; its place, and the heap's size."""
    if size < len(heap):
        place = size
        candidates[size].rank = rank
        while place > 0 and candidates[heap[(place - 1) >> 1]].rank > rank:
            heap[place] = heap[(place - 1) >> 1]
            place = (place - 1) >> 1
        heap[place] = size
        return size, size + 1
    index = heap[0]
    candidates[index].rank = rank
    _raise_top(candidates, heap, size)
    return index, size


@_inlined
def _floor(candidates, heap, size, best, threshold):  # type: ignore[no-untyped-def]
    """A candidate has to rank above this."""
    least = candidates[heap[0]].rank if size == len(heap) else -np.inf
    return max(least, best - threshold)


@_inlined
def _offer(extension, log_prob, floor, nodes, scratch, plan):  # type: ignore[no-untyped-def]
    """Fill `scratch` with the prefix one token longer; its rank, or -inf if it is not wanted."""
    prefix, token, word, trie_node = extension
    options, token_model, hot = plan.options, plan.models.tokens, plan.models.hot
    potential = plan.trie.potentials[trie_node]
    parent = nodes[prefix]
    score, word_state = parent.score, parent.word_state
    if word != NO_WORD:
        if parent.ended != word:
            added, state = _end_word(plan, np.int64(word_state), word)
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
        added, token_state = _advance(token_model, token_state, options.token_labels[token])
        score += options.token_scale * added
    if hot.num_labels > 0 and score + ahead + options.best_hot > floor:
        if options.begins_word[token]:
            added, hot_state = _advance(hot, hot_state, options.boundary_label)
            score += added
        added, hot_state = _advance(hot, hot_state, token)
        score += added
        if options.ends_at_once and word != NO_WORD:
            added, hot_state = _advance(hot, hot_state, options.boundary_label)
            score += added
    scratch.parent, scratch.token, scratch.word = prefix, token, word
    scratch.trie, scratch.word_state = trie_node, word_state
    scratch.token_state, scratch.hot_state = token_state, hot_state
    scratch.score = score
    scratch.rank_score = score + potential
    return log_prob + scratch.rank_score


@_inlined
def _stay(probs, num_slots, nodes, space):  # type: ignore[no-untyped-def]
    """Offer the prefixes of the beam themselves, with what longer paths of shorter ones give."""
    slots, candidates = space.slots, space.candidates
    best = -np.inf
    size = 0
    for index in range(num_slots):
        slot = slots[index]
        node = nodes[slot.node]
        blank = (slot.blank + slot.token) * probs[0]
        last = 0.0
        begins, time = 0, slot.time
        if node.parent >= 0:
            last = slot.token * probs[node.token]
            above = nodes[node.parent].slot
            if above >= 0:
                source = slots[above]
                given = source.blank
                if nodes[source.node].token != node.token:
                    given += source.token
                given *= probs[node.token]
                if given > blank + last:
                    begins, time = 1, source.time
                last += given
        if not blank + last > 0:
            continue
        log_prob = math.log(blank + last)
        rank = log_prob + node.rank_score
        best = max(best, rank)
        place, size = _admit(candidates, space.heap, size, rank)
        chosen = candidates[place]
        chosen.existing, chosen.begins, chosen.time = slot.node, begins, time
        chosen.blank, chosen.last, chosen.log = blank, last, log_prob
    return size, best


@_inlined
def _most_in_word(options, trie, node):  # type: ignore[no-untyped-def]
    """What a prefix can score at most, one token longer in the same word, or in its first."""
    bonus = max(options.word_bonus, 0.0)
    if options.ends_at_once:
        # The word may end there, at a probability of 1 at most.
        return node.score + bonus + max(trie.potentials[node.trie], bonus) + options.best_hot
    return node.rank_score + (bonus if node.trie == ROOT else 0.0) + options.best_hot


@_inlined
def _most_after_word(options, node):  # type: ignore[no-untyped-def]
    """The same where the token ends the word and perhaps begins another."""
    return node.score + 2 * max(options.word_bonus, 0.0) + options.best_hot


@_inlined
def _lead(token, ends, inner, num_tokens, plan):  # type: ignore[no-untyped-def]
    """Where a token leads in the trie, and which words may end with it.

    Args:
        ends: whether it ends the word before it.
        inner: the trie's node before it.

    Returns:
        The node after it, or `_NOWHERE`; first and last place in the trie's list of words; and
        whether it may end no word, too.
    """
    options, trie = plan.options, plan.trie
    if token == options.space:
        after = np.int64(ROOT)
    else:
        origin = np.int64(ROOT) if ends else inner
        after = _below(trie, origin, token, num_tokens, options.is_open)
    first, last, goes_on = np.int64(0), np.int64(0), True
    if after != _NOWHERE:
        if ends and inner != ROOT:
            first, last = _word_range(trie, inner, options.is_open)
            goes_on = False
        elif options.ends_at_once:
            first, last = trie.first_words[after], trie.first_words[after + 1]
            goes_on = trie.first_arcs[after] < trie.first_arcs[after + 1]
    return after, first, last, goes_on


@_inlined
def _extend(index, row, active, size, best, nodes, space, plan):  # type: ignore[no-untyped-def]
    """Offer the prefix of a slot with each of the active tokens added, the most probable first."""
    options, trie = plan.options, plan.trie
    log_probs, candidates, heap = row.log_probs, space.candidates, space.heap
    slot = space.slots[index]
    node = nodes[slot.node]
    inner = np.int64(node.trie)
    most_in, most_after = _most_in_word(options, trie, node), _most_after_word(options, node)
    floor = _floor(candidates, heap, size, best, options.beam_threshold)
    for token in active:
        log_prob = log_probs[token] + slot.log
        if log_prob + max(most_in, most_after) <= floor:
            break
        weight = slot.blank + slot.token
        if token == node.token:
            weight = slot.blank
            log_prob = log_probs[token] + (math.log(weight) if weight > 0 else -np.inf)
        ends = token == options.space or options.begins_word[token]
        if log_prob + (most_after if ends else most_in) <= floor:
            continue
        after, first, last, goes_on = _lead(token, ends, inner, len(log_probs), plan)
        if after == _NOWHERE:
            continue
        for variant in range(first - 1 if goes_on else first, last):
            word, reached = NO_WORD, after
            if not goes_on or variant >= first:
                word = trie.words[variant] if variant >= 0 else UNKNOWN_WORD
                reached = np.int64(ROOT) if options.ends_at_once else after
            extension = Extension(slot.node, token, word, reached)
            rank = _offer(extension, log_prob, floor, nodes, space.scratch[0], plan)
            if not rank > floor:
                continue
            best = max(best, rank)
            place, size = _admit(candidates, heap, size, rank)
            candidates[place] = space.scratch[0]
            chosen = candidates[place]
            chosen.rank = rank
            chosen.begins, chosen.time = 1, slot.time
            chosen.blank, chosen.last, chosen.log = 0.0, weight * row.probs[token], log_prob
            floor = _floor(candidates, heap, size, best, options.beam_threshold)
    return size, best


@_inlined
def _grown(array, size):  # type: ignore[no-untyped-def]
    if size <= len(array):
        return array
    longer = np.empty(2 * size, array.dtype)
    longer[: len(array)] = array
    return longer


@_inlined
def _choose_tokens(row, threshold, active):  # type: ignore[no-untyped-def]
    """Tokens but the blank that are not far less probable than the best, by rank; their number."""
    floor = row.max() - threshold
    count = 0
    for token in range(1, len(row)):
        if row[token] >= floor and row[token] > -np.inf:
            place = count
            while place > 0 and row[active[place - 1]] < row[token]:
                active[place] = active[place - 1]
                place -= 1
            active[place] = token
            count += 1
    return count


@_inlined
def _finish(num_slots, slots, nodes, plan):  # type: ignore[no-untyped-def]
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
            first, last = _word_range(trie, inner, options.is_open)
            if options.ends_at_once:
                continue
        base = node.score
        if token_model.num_labels > 0:
            added, _ = _advance(token_model, np.int64(node.token_state), options.end_label)
            base += options.token_scale * added
        if hot.num_labels > 0:
            added, state = _advance(hot, np.int64(node.hot_state), options.boundary_label)
            base += added
            base += _advance(hot, state, hot.num_labels - 1)[0]
        for variant in range(first, last):
            word = np.int64(NO_WORD)
            if inner != ROOT:
                word = np.int64(trie.words[variant] if variant >= 0 else UNKNOWN_WORD)
            state = np.int64(node.word_state)
            score, state = _end_word(plan, state, word)
            if word_model.num_labels > 0:
                score += options.word_scale * _advance(word_model, state, 2)[0]
            if base + score > -np.inf:
                finals.append((base + score + slot.log, index, word))
    return finals


@_inlined
def _rebuild(step, size, limit, num_nodes, num_times, tree, space):  # type: ignore[no-untyped-def]
    """Fill `slots` with the candidates that rank above a limit; how many, and the best's weight."""
    nodes, times, slots = tree.nodes, tree.times, space.slots
    count, top = 0, 0.0
    for place in range(size):
        chosen = space.candidates[space.heap[place]]
        if not chosen.rank >= limit:
            continue
        index = np.int64(chosen.existing)
        if index < 0:
            index = num_nodes
            num_nodes += 1
            node = nodes[index]
            node.parent, node.token, node.word = chosen.parent, chosen.token, chosen.word
            node.trie, node.word_state = chosen.trie, chosen.word_state
            node.token_state, node.hot_state = chosen.token_state, chosen.hot_state
            node.score, node.rank_score = chosen.score, chosen.rank_score
            node.first_child, node.ended = -1, NO_WORD
            node.sibling = nodes[chosen.parent].first_child
            nodes[chosen.parent].first_child = index
        time = np.int64(chosen.time)
        if chosen.begins:
            times[num_times].step, times[num_times].previous = step, time
            time = num_times
            num_times += 1
        slots[count].node, slots[count].time = index, time
        slots[count].blank, slots[count].token = chosen.blank, chosen.last
        slots[count].log = chosen.log
        nodes[index].slot = count
        top = max(top, chosen.blank + chosen.last)
        count += 1
    return count, top, num_nodes, num_times


@_inlined
def _read_out(finals, slots, tree, offset):  # type: ignore[no-untyped-def]
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


@_inlined
def _plant(nodes, slots, models):  # type: ignore[no-untyped-def]
    """The empty prefix, alone in the beam."""
    root = nodes[0]
    root.parent, root.token, root.word = -1, -1, NO_WORD
    root.first_child, root.sibling, root.slot, root.trie = -1, -1, 0, ROOT
    root.ended = NO_WORD
    root.word_state, root.token_state = models.words.start, models.tokens.start
    root.hot_state = models.hot.start
    root.score = root.rank_score = 0.0
    slots[0].node, slots[0].time = 0, -1
    slots[0].blank, slots[0].token, slots[0].log = 1.0, 0.0, 0.0


@_inlined
def _search(lent_scores, lent_plan, lent_space):  # type: ignore[no-untyped-def]
    # The caller holds what it lends.
    scores, plan, space = _borrowed(lent_scores), _borrowed(lent_plan), _borrowed(lent_space)
    options, slots = plan.options, space.slots
    # Room for a beam without limit is not taken before it is needed.
    own_tree = Tree(np.empty(1024, NODE), np.empty(1024, TIME))
    tree = _borrowed(own_tree)
    _plant(tree.nodes, slots, plan.models)
    num_slots, num_nodes, num_times = 1, 1, 0
    offset = 0.0
    for step in range(len(scores.log_probs)):
        row = Scores(scores.log_probs[step], scores.probs[step])
        blank = row.log_probs[0]
        if blank >= options.blank_log_prob:
            for index in range(num_slots):
                slots[index].blank += slots[index].token
                slots[index].token = 0.0
            offset += blank
            continue
        num_active = _choose_tokens(row.log_probs, options.token_threshold, space.active)
        active = space.active[:num_active]
        size, best = _stay(row.probs, num_slots, tree.nodes, space)
        # From the end of what was a heap, where its better ones are: the worse then give up soon.
        for index in range(num_slots - 1, -1, -1):
            size, best = _extend(index, row, active, size, best, tree.nodes, space, plan)
        own_tree = Tree(
            _grown(own_tree.nodes, num_nodes + size), _grown(own_tree.times, num_times + size)
        )
        tree = _borrowed(own_tree)
        for index in range(num_slots):
            tree.nodes[slots[index].node].slot = -1
        limit = best - options.beam_threshold
        num_slots, top, num_nodes, num_times = _rebuild(
            step, size, limit, num_nodes, num_times, tree, space
        )
        if num_slots == 0:
            break
        log_top = math.log(top)
        for index in range(num_slots):
            slots[index].blank /= top
            slots[index].token /= top
            slots[index].log -= log_top
        offset += log_top
    finals = _finish(num_slots, slots, tree.nodes, plan)
    finals.sort(reverse=True)
    return _read_out(finals[: options.num_best], slots, own_tree, offset)


@_compiled
def search(scores, plan):  # type: ignore[no-untyped-def]
    """The best complete hypotheses.

    Args:
        scores: `Scores` of an utterance; token 0 is the blank.
        plan: `Plan`.

    Returns:
        A `HypothesisTable`, empty if no hypothesis is allowed.
    """
    beam, num_tokens = plan.options.beam, scores.log_probs.shape[1]
    space = Workspace(
        np.empty(beam, SLOT),
        np.empty(beam, CANDIDATE),
        np.empty(1, CANDIDATE),
        np.empty(beam, np.int32),
        np.empty(num_tokens, np.int64),
    )
    return _search(scores, plan, space)
