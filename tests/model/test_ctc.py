import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asr.decoding.alignment import required_steps
from asr.decoding.hypothesis import greedy
from asr.model import ctc


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != 0)


def random_log_probs(seed: int, num_steps: int, num_tokens: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_steps, num_tokens, generator=generator).log_softmax(-1)


def paths_of(target: tuple[int, ...], log_probs: Tensor) -> dict[tuple[int, ...], float]:
    num_steps, num_tokens = log_probs.shape
    return {
        path: sum(float(log_probs[step, token]) for step, token in enumerate(path))
        for path in itertools.product(range(num_tokens), repeat=num_steps)
        if collapse(path) == target
    }


@pytest.mark.parametrize("target", [(), (1,), (1, 2), (1, 1), (2, 1, 2)])
def test_loss_is_the_sum_over_all_paths(target: tuple[int, ...]) -> None:
    log_probs = random_log_probs(3, 5, 3)
    total = math.log(sum(math.exp(score) for score in paths_of(target, log_probs).values()))
    padded = torch.tensor([[*target, 0]])
    loss = ctc.ctc_loss(log_probs[None], torch.tensor([5]), padded, torch.tensor([len(target)]))
    assert float(loss[0]) == pytest.approx(-total, abs=1e-4)


@settings(max_examples=300, deadline=None)
@given(
    target=st.lists(st.integers(1, 3), min_size=0, max_size=8),
    num_steps=st.integers(1, 14),
    padding=st.integers(0, 3),
)
def test_loss_is_infinite_exactly_when_steps_are_too_few(
    target: list[int], num_steps: int, padding: int
) -> None:
    targets = torch.tensor([[*target, *[1] * (padding + 1)]])
    num_tokens = torch.tensor([len(target)])
    raw = torch.nn.functional.ctc_loss(
        random_log_probs(0, num_steps, 4)[:, None],
        targets,
        torch.tensor([num_steps]),
        num_tokens,
        reduction="none",
    )
    flagged = num_steps < int(required_steps(targets, num_tokens))
    assert bool(torch.isinf(raw[0])) == flagged


def test_an_infeasible_utterance_adds_no_gradient() -> None:
    log_probs = torch.stack([random_log_probs(0, 4, 3), random_log_probs(1, 4, 3)])
    log_probs.requires_grad_()
    targets = torch.tensor([[1, 1, 1], [1, 2, 0]])
    loss = ctc.ctc_loss(log_probs, torch.tensor([4, 4]), targets, torch.tensor([3, 2]))
    loss.sum().backward()
    assert loss[0] == 0
    assert log_probs.grad is not None
    assert not log_probs.grad[0].any()
    assert log_probs.grad[1].any()


@pytest.mark.parametrize(
    ("path", "tokens", "steps"),
    [
        pytest.param([0, 1, 1, 0, 2], (1, 2), (1, 4), id="repeats merge"),
        pytest.param([1, 0, 1], (1, 1), (0, 2), id="a blank between repeats keeps both"),
        pytest.param([0, 0], (), (), id="only blanks is empty"),
        pytest.param([2, 1, 2], (2, 1, 2), (0, 1, 2), id="no blanks needed between others"),
    ],
)
def test_greedy_merges_repeats_and_removes_blanks(
    path: list[int], tokens: tuple[int, ...], steps: tuple[int, ...]
) -> None:
    log_probs = np.full((len(path), 3), -5.0, dtype=np.float32)
    log_probs[np.arange(len(path)), path] = -0.5
    hypothesis = greedy(log_probs)
    assert hypothesis.tokens == tokens
    assert hypothesis.steps == steps
    assert hypothesis.log_prob == pytest.approx(-0.5 * len(path))


def test_greedy_of_no_steps_is_empty() -> None:
    assert greedy(np.zeros((0, 3), dtype=np.float32)).tokens == ()
