"""Which utterances go together, and how they become one array; no torch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_PIECE = 65_536  # rows whose lengths are Python's numbers at a time, of 32 bytes each


def plan_batches(
    lengths: NDArray[np.int64],
    budget: int,
    *,
    seed: int | None = None,
    shuffle: bool = True,
    windows: Sequence[NDArray[np.int64]] | None = None,
) -> list[NDArray[np.int64]]:
    """Rows in batches of similar length whose padded size stays within `budget`.

    A batch holds at least one row, also one that is longer than the budget.

    Args:
        lengths: of each row, in any unit; `budget` is in the same unit.
        seed: of the order of rows of similar length, and of the batches; None keeps the order
            of lengths.
        shuffle: whether the batches come in random order, or shortest first.
        windows: rows that are batched among themselves, one window after another; None is one
            window of all.
    """
    keys = lengths.astype(np.float64)
    random = np.random.default_rng(seed)
    if seed is not None:
        # A few per cent of noise make different neighbours each epoch at little padding.
        keys *= random.uniform(0.97, 1.03, len(keys))
    plan = []
    for window in [np.arange(len(lengths))] if windows is None else windows:
        batches = _cut(window[np.argsort(keys[window], kind="stable")], lengths, budget)
        if seed is not None and shuffle:
            batches = [batches[index] for index in random.permutation(len(batches))]
        plan += batches
    return plan


def _cut(
    order: NDArray[np.int64], lengths: NDArray[np.int64], budget: int
) -> list[NDArray[np.int64]]:
    """Rows in a given order, cut wherever another one would not fit into the budget."""
    batches = []
    first = 0
    longest = 0
    for begin in range(0, len(order), _PIECE):
        piece = lengths[order[begin : begin + _PIECE]].tolist()
        for last, length in enumerate(piece, begin):
            longest = max(longest, length)
            if last > first and longest * (last - first + 1) > budget:
                batches.append(order[first:last])
                first, longest = last, length
    if first < len(order):
        batches.append(order[first:])
    return batches


def padded(inputs: Sequence[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Inputs of several lengths as one array with zeros at the ends, and their lengths."""
    lengths = np.array([len(values) for values in inputs], np.int64)
    batch = np.zeros((len(inputs), lengths.max(), *inputs[0].shape[1:]), np.float32)
    for row, values in enumerate(inputs):
        batch[row, : len(values)] = values
    return batch, lengths
