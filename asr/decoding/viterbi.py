"""Most probable paths, compiled by Numba: of a transcript, and through a chain of states; no torch.

Dimension names: step (model outputs in time), token (the token table), target (the transcript's
tokens), word (its words), gap (before each word and after the last); frame, state (of a chain).
"""

import numpy as np
from numpy.typing import NDArray

from asr.decoding.compilation import compiled

UNWRITTEN = -2
"""In place of a target: a step of speech that the transcript does not have."""
_FORBIDDEN = -1e9  # of a frame, in place of minus infinity: a path with the fewest is still found


@compiled()
def best_path(log_probs: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The token of each step, [step], on the best path that spells the targets.

    Args:
        log_probs: [step, token], with at least as many steps as the targets need.
        targets: [target], none of them the blank, 0.

    Source:
        Graves et al. 2006, section 4.1, with the maximum in place of the sum.
    """
    num_steps, num_states = len(log_probs), 2 * len(targets) + 1
    scores = np.full(num_states, -np.inf)
    moves = np.zeros((num_steps, num_states), np.uint8)  # states by which the path came forward
    scores[0] = log_probs[0, 0]
    if num_states > 1:
        scores[1] = log_probs[0, targets[0]]
    for step in range(1, num_steps):
        # From the last state down, so that those before are still of the step before.
        for state in range(min(num_states, 2 * step + 2) - 1, -1, -1):
            best, move = scores[state], 0
            if state > 0 and scores[state - 1] > best:
                best, move = scores[state - 1], 1
            target = targets[state // 2] if state % 2 else 0
            skips = state > 1 and state % 2 == 1 and target != targets[state // 2 - 1]
            if skips and scores[state - 2] > best:
                best, move = scores[state - 2], 2
            scores[state] = best + log_probs[step, target]
            moves[step, state] = move
    state = num_states - 1
    if num_states > 1 and scores[state - 1] > scores[state]:
        state -= 1
    path = np.zeros(num_steps, np.int64)
    for step in range(num_steps - 1, -1, -1):
        path[step] = targets[state // 2] if state % 2 else 0
        state -= moves[step, state]
    return path


@compiled()
def best_states(scores: NDArray[np.float64], optional: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The state of each frame, [frame]; states in order, all visited but the optional ones.

    Args:
        scores: [frame, state], log-likelihoods; -inf forbids, but where no path goes without. As
            many frames as states that are not optional, at least.
        optional: [state]; no two neighbours, and the first and last are.
    """
    num_frames, num_states = scores.shape
    totals = np.full(num_states, -np.inf)
    moves = np.zeros((num_frames, num_states), np.uint8)
    totals[0] = max(scores[0, 0], _FORBIDDEN)
    totals[1] = max(scores[0, 1], _FORBIDDEN)
    for frame in range(1, num_frames):
        for state in range(num_states - 1, -1, -1):
            best, move = totals[state], 0
            if state > 0 and totals[state - 1] > best:
                best, move = totals[state - 1], 1
            if state > 1 and optional[state - 1] and totals[state - 2] > best:
                best, move = totals[state - 2], 2
            totals[state] = best + max(scores[frame, state], _FORBIDDEN)
            moves[frame, state] = move
    path = np.zeros(num_frames, np.int64)
    state = num_states - 1
    if totals[state - 1] > totals[state]:
        state -= 1
    for frame in range(num_frames - 1, -1, -1):
        path[frame] = state
        state -= moves[frame, state]
    return path


@compiled()
def path_with_gaps(
    log_probs: NDArray[np.float32],
    unwritten: NDArray[np.float32],
    targets: NDArray[np.int64],
    bounds: NDArray[np.int64],
    unspoken: NDArray[np.float64],
    opening: float,
) -> NDArray[np.int64]:
    """The target of each step, [step], on the best path that may leave out words and speech.

    Between words the path may leave the transcript for a step or more, and come back at any word
    that follows. -1 is a blank, `UNWRITTEN` a step outside of the transcript.

    Args:
        log_probs: [step, token], one at least.
        unwritten: [step], score of a step outside of the transcript.
        targets: [target], none of them the blank, 0.
        bounds: [word, two], first target of each word and its last one; what lies between words
            is a separator, which is not spelled where the path leaves the transcript.
        unspoken: [word], what it costs to leave a word out.
        opening: what it costs to leave the transcript.
    """
    num_steps, num_states, num_words = len(log_probs), 2 * len(targets) + 1, len(bounds)
    word_at = np.full(num_states, -1)  # that begins with a state
    word_at[2 * bounds[:, 0] + 1] = np.arange(num_words)
    lasts = 2 * bounds[:, 1] + 1
    scores = np.full(num_states, -np.inf)
    outside = np.full(num_words + 1, -np.inf)
    entered = np.full(num_words + 1, -np.inf)
    moves = np.zeros((num_steps, num_states), np.uint8)  # states forward; 3 comes from outside
    gap_moves = np.zeros((num_steps, num_words + 1), np.uint8)  # 1, 2: as many states from a word's
    scores[0], scores[1] = log_probs[0, 0], log_probs[0, targets[0]]
    outside[0] = unwritten[0]
    for step in range(num_steps):
        if step:
            for word in range(num_words):
                gap_moves[step, word + 1] = 1 + (scores[lasts[word] + 1] > scores[lasts[word]])
                entered[word + 1] = max(scores[lasts[word]], scores[lasts[word] + 1]) - opening
            for state in range(num_states - 1, -1, -1):
                best, move = scores[state], 0
                if state > 0 and scores[state - 1] > best:
                    best, move = scores[state - 1], 1
                target = targets[state // 2] if state % 2 else 0
                skips = state > 1 and state % 2 == 1 and target != targets[state // 2 - 1]
                if skips and scores[state - 2] > best:
                    best, move = scores[state - 2], 2
                if word_at[state] >= 0 and outside[word_at[state]] > best:
                    best, move = outside[word_at[state]], 3
                scores[state] = best + log_probs[step, target]
                moves[step, state] = move
            for gap in range(num_words + 1):
                if outside[gap] >= entered[gap]:
                    gap_moves[step, gap] = 0
                outside[gap] = max(outside[gap], entered[gap]) + unwritten[step]
        for word in range(num_words):
            if outside[word] - unspoken[word] > outside[word + 1]:
                outside[word + 1] = outside[word] - unspoken[word]
                gap_moves[step, word + 1] = 3
    path = np.full(num_steps, -1)
    state, gap = num_states - 1, num_words
    if scores[state - 1] > scores[state]:
        state -= 1
    if outside[gap] > scores[state]:
        state = -1
    for step in range(num_steps - 1, -1, -1):
        if state < 0:
            while gap_moves[step, gap] == 3:
                gap -= 1
            path[step] = UNWRITTEN
            if gap_moves[step, gap]:
                state = lasts[gap - 1] + gap_moves[step, gap] - 1
        else:
            path[step] = state // 2 if state % 2 else -1
            if moves[step, state] == 3:
                gap, state = word_at[state], -1
            else:
                state -= moves[step, state]
    return path
