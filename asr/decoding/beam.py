"""CTC prefix beam search, compiled by Numba; no torch.

A prefix is a sequence of tokens with the words that end in it. All paths through the steps that
spell one prefix are summed, as in Graves 2012, "Supervised sequence labelling", 7.5.3; what
language model, word bonus and hot words add depends on the prefix alone and stands in its node.

Probabilities are linear, scaled in every step by the best prefix's, whose logarithm is kept; only
ranks are logarithms. Dimensions: step, token.
"""

import math

import numpy as np

from asr.decoding.borrowing import borrowed
from asr.decoding.compilation import compiled, inlined
from asr.decoding.endings import choose_best, finish, read_out
from asr.decoding.prefixes import NOWHERE, lead, most_after_word, most_in_word, offer
from asr.decoding.tables import (
    CANDIDATE,
    NO_WORD,
    NODE,
    ROOT,
    SLOT,
    TIME,
    UNKNOWN_WORD,
    Extension,
    Scores,
    Tree,
    Workspace,
)


@inlined
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


@inlined
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


@inlined
def _floor(candidates, heap, size, best, threshold):  # type: ignore[no-untyped-def]
    """A candidate has to rank above this."""
    least = candidates[heap[0]].rank if size == len(heap) else -np.inf
    return max(least, best - threshold)


@inlined
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


@inlined
def _extend(index, row, active, size, best, nodes, space, plan):  # type: ignore[no-untyped-def]
    """Offer the prefix of a slot with each of the active tokens added, the most probable first."""
    options, trie = plan.options, plan.trie
    log_probs, candidates, heap = row.log_probs, space.candidates, space.heap
    slot = space.slots[index]
    node = nodes[slot.node]
    inner = np.int64(node.trie)
    most_in, most_after = most_in_word(options, trie, node), most_after_word(options, node)
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
        after, first, last, goes_on = lead(token, ends, inner, len(log_probs), plan)
        if after == NOWHERE:
            continue
        for variant in range(first - 1 if goes_on else first, last):
            word, reached = NO_WORD, after
            if not goes_on or variant >= first:
                word = trie.words[variant] if variant >= 0 else UNKNOWN_WORD
                reached = np.int64(ROOT) if options.ends_at_once else after
            extension = Extension(slot.node, token, word, reached)
            rank = offer(extension, log_prob, floor, nodes, space.scratch[0], plan)
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


@inlined
def _grown(array, size):  # type: ignore[no-untyped-def]
    if size <= len(array):
        return array
    longer = np.empty(2 * size, array.dtype)
    # The assignment of a slice takes two seconds to compile: it can raise errors with texts.
    for place in range(len(array)):
        longer[place] = array[place]
    return longer


@inlined
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


@inlined
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


@inlined
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


@inlined
def _search(lent_scores, lent_plan, lent_space):  # type: ignore[no-untyped-def]
    # The caller holds what it lends.
    scores, plan, space = borrowed(lent_scores), borrowed(lent_plan), borrowed(lent_space)
    options, slots = plan.options, space.slots
    # Room for a beam without limit is not taken before it is needed.
    own_tree = Tree(np.empty(1024, NODE), np.empty(1024, TIME))
    tree = borrowed(own_tree)
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
        tree = borrowed(own_tree)
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
    finals = finish(num_slots, slots, tree.nodes, plan)
    choose_best(finals, options.num_best)
    return read_out(finals[: options.num_best], slots, own_tree, offset)


@compiled(error_model="numpy")
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
