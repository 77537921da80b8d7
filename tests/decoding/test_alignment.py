import itertools

import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decoding.alignment import align
from asr.decoding.hypothesis import greedy
from asr.decoding.viterbi import best_path
from asr.errors import DataError


def random_log_probs(seed: int, num_steps: int, num_tokens: int) -> np.ndarray:
    scores = np.random.default_rng(seed).standard_normal((num_steps, num_tokens))
    return (scores - np.log(np.exp(scores).sum(1, keepdims=True))).astype(np.float32)


@pytest.mark.parametrize("target", [(1,), (1, 1), (2, 1), (1, 2, 1)])
def test_alignment_is_the_best_of_all_paths(target: tuple[int, ...]) -> None:
    log_probs = random_log_probs(7, 6, 3)
    spelling = [
        path
        for path in itertools.product(range(3), repeat=6)
        if tuple(token for token, _ in itertools.groupby(path) if token) == target
    ]
    best = max(spelling, key=lambda path: log_probs[np.arange(6), path].sum())
    expected, step = [], 0
    for token, run in itertools.groupby(best):
        length = len(list(run))
        if token != 0:
            expected.append((token, step, step + length))
        step += length
    spans = align(log_probs, target)
    assert [(span.token, span.start, span.end) for span in spans] == expected
    for span in spans:
        mean = np.exp(log_probs[span.start : span.end, span.token]).mean()
        assert span.probability == pytest.approx(float(mean), abs=1e-5)


@settings(max_examples=200, deadline=None)
@given(
    tokens=st.lists(st.integers(1, 4), min_size=1, max_size=12),
    spare=st.integers(0, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_alignment_is_that_of_torchaudio(tokens: list[int], spare: int, seed: int) -> None:
    repeats = sum(one == other for one, other in itertools.pairwise(tokens))
    log_probs = random_log_probs(seed, len(tokens) + repeats + spare, 5)
    with_batch = torch.from_numpy(log_probs)[None]
    (path,), (scores,) = torchaudio.functional.forced_align(with_batch, torch.tensor([tokens]))
    theirs = torchaudio.functional.merge_tokens(path, scores.exp())
    ours = align(log_probs, tokens)
    assert [(s.token, s.start, s.end) for s in ours] == [(s.token, s.start, s.end) for s in theirs]
    assert [s.probability for s in ours] == pytest.approx([s.score for s in theirs], abs=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_path_of_all_is_also_the_best_of_its_own_transcript(seed: int) -> None:
    log_probs = random_log_probs(seed, 12, 3)
    tokens = np.array(greedy(log_probs).tokens, np.int64)
    assert best_path(log_probs, tokens).tolist() == log_probs.argmax(axis=1).tolist()


def test_alignment_of_too_few_steps_is_an_error() -> None:
    with pytest.raises(DataError, match="2 tokens need 3 steps, there are 2"):
        align(random_log_probs(0, 2, 3), [1, 1])


def test_alignment_of_nothing_is_nothing() -> None:
    assert align(random_log_probs(0, 2, 3), []) == []
