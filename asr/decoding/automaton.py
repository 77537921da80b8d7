"""Weighted automata that score labels one after the other: words, or tokens.

As in a language model, a state without an arc for a label falls back to another state at a cost,
down to state 0. A list of sentences and hot words are such automata too. Dimensions: arc, state,
label.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asr.lm import LanguageModel


class Automaton(NamedTuple):
    """Flat arrays, all of them read-only, for compiled code."""

    num_labels: int
    """0 if there is nothing to score."""
    start: int
    first_arcs: NDArray[np.int64]
    """[state + 1] where a state's arcs begin."""
    arc_keys: NDArray[np.int64]
    """[arc] state * num_labels + label; sorted."""
    arc_scores: NDArray[np.float32]
    """[arc]"""
    arc_states: NDArray[np.int32]
    """[arc] where it leads."""
    fallback_scores: NDArray[np.float32]
    """[state] added where a state has no arc for a label."""
    fallback_states: NDArray[np.int32]
    """[state]"""
    root_scores: NDArray[np.float32]
    """[label] in state 0, which falls back to nothing."""
    root_states: NDArray[np.int32]
    """[label] after state 0."""


_Number = TypeVar("_Number", bound=np.generic)


def frozen(values: ArrayLike, dtype: type[_Number]) -> NDArray[_Number]:
    """A read-only view: mapped files are, and compiled code is made for one kind of array."""
    array = np.ascontiguousarray(np.asarray(values, dtype)).view(np.ndarray)
    array.flags.writeable = False
    return array


def make_automaton(
    num_labels: int,
    start: int,
    arcs: Sequence[Mapping[int, tuple[float, int]]],
    fallbacks: Sequence[tuple[float, int]],
    otherwise: float,
) -> Automaton:
    """An automaton from each state's arcs, `label: (score, state)`.

    Args:
        fallbacks: score and state for each state; state 0's is not used.
        otherwise: score in state 0 of a label without an arc.
    """
    rows = [
        (state * num_labels + label, *arcs[state][label])
        for state in range(len(arcs))
        for label in sorted(arcs[state])
    ]
    keys = np.array([key for key, _, _ in rows], np.int64)
    root_scores = np.full(num_labels, otherwise, np.float32)
    root_states = np.zeros(num_labels, np.int32)
    for label, (score, state) in arcs[0].items():
        root_scores[label], root_states[label] = score, state
    return _pack(
        num_labels=num_labels,
        start=start,
        first_arcs=np.searchsorted(keys, np.arange(len(arcs) + 1) * num_labels),
        arc_keys=keys,
        arc_scores=[score for _, score, _ in rows],
        arc_states=[state for _, _, state in rows],
        fallback_scores=[score for score, _ in fallbacks],
        fallback_states=[state for _, state in fallbacks],
        root_scores=root_scores,
        root_states=root_states,
    )


def language_model_automaton(model: LanguageModel | None) -> Automaton:
    """A language model's arrays, logarithms to the base 10 as they are; without one, no labels."""
    if model is None:
        return make_automaton(0, 0, [{}], [(0.0, 0)], 0.0)
    labels = np.arange(len(model.words))
    scores, states = model.advance(np.zeros(len(labels), np.int64), labels)
    return _pack(
        num_labels=len(model.words),
        start=model.start,
        first_arcs=model.first_arcs,
        arc_keys=model.arc_keys,
        arc_scores=model.arc_log_probs,
        arc_states=model.arc_states,
        fallback_scores=model.backoffs,
        fallback_states=model.backoff_states,
        root_scores=scores,
        root_states=states,
    )


def _pack(num_labels: int, start: int, **arrays: ArrayLike) -> Automaton:
    kinds: dict[str, type[np.generic]] = {
        "first_arcs": np.int64,
        "arc_keys": np.int64,
        "arc_scores": np.float32,
        "arc_states": np.int32,
        "fallback_scores": np.float32,
        "fallback_states": np.int32,
        "root_scores": np.float32,
        "root_states": np.int32,
    }
    values = {name: frozen(array, kinds[name]) for name, array in arrays.items()}
    return Automaton(num_labels=num_labels, start=start, **values)  # type: ignore[arg-type]
