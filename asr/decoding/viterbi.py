"""Most probable paths, compiled by Numba: of a transcript, and through a chain of states; no torch.

Dimension names: step (model outputs in time), token (the token table), target (the transcript's
tokens); frame, state (of a chain).
"""

import numpy as np
from numpy.typing import NDArray

from asr.decoding.compilation import compiled

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
