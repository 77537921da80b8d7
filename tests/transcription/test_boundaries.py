from itertools import pairwise, product

import numpy as np
import pytest

from asr.decoding import best_states
from asr.transcription import boundaries
from asr.transcription.boundaries import Recording, SpokenToken, cepstra_of, find_boundaries
from tests import tones


def _spoken(words: list[str], places: list[float]) -> list[list[SpokenToken]]:
    """One token a word, heard somewhere within it."""
    return [
        [SpokenToken(token=list(tones.TONES).index(word), previous=-1, place=place)]
        for word, place in zip(words, places, strict=True)
    ]


def _recording(seed: int, pause: float) -> tuple[Recording, np.ndarray]:
    """Ten tones with pauses of so many seconds, and where they really are, in frames."""
    random = np.random.default_rng(seed)
    words = [str(word) for word in random.choice(list(tones.TONES), 10)]
    words = [w for w, before in zip(words, ["", *words], strict=False) if pause or w != before]
    silence = np.zeros(round(pause * tones.RATE))
    parts, bounds, position = [np.zeros(1600)], [], 1600
    for word in words:
        time = np.arange(random.integers(1200, 2000)) / tones.RATE
        parts += [0.3 * np.sin(2 * np.pi * tones.TONES[word] * time), silence]
        bounds.append((position, position + len(time)))
        position += len(time) + len(silence)
    samples = np.concatenate([*parts, np.zeros(1600)])
    samples += 0.003 * random.standard_normal(len(samples))
    truth = np.array(bounds) / tones.RATE * 100
    places = [start + (end - start) * random.uniform(0.3, 0.7) for start, end in truth]
    cepstra, levels = cepstra_of([samples.astype(np.float32)], tones.RATE)
    return Recording(cepstra=cepstra, levels=levels, words=_spoken(words, places)), truth


@pytest.mark.parametrize("pause", [0.2, 0.0])
def test_edges_are_where_words_are(pause: float) -> None:
    recordings, truths = zip(*(_recording(seed, pause) for seed in range(3)), strict=True)
    for bounds, truth in zip(find_boundaries(recordings), truths, strict=True):
        np.testing.assert_allclose(bounds, truth, atol=2)


def test_blocks_of_any_size_give_the_same_frames() -> None:
    samples = np.random.default_rng(1).standard_normal(5000).astype(np.float32)
    whole, levels = cepstra_of([samples], tones.RATE)
    assert len(whole) == 1 + 5000 // 80  # one centred on the first sample, one each 10 ms after
    for size in (7, 80, 700):
        blocks = [samples[start : start + size] for start in range(0, len(samples), size)]
        cepstra, others = cepstra_of(blocks, tones.RATE)
        np.testing.assert_allclose(cepstra, whole, atol=1e-4)
        np.testing.assert_allclose(others, levels, atol=1e-4)


def test_one_recording_alone_is_enough() -> None:
    recording, truth = _recording(5, 0.2)
    (bounds,) = find_boundaries([recording])
    np.testing.assert_allclose(bounds, truth, atol=2)


def test_chains_of_a_long_recording_join_without_a_seam() -> None:
    parts = [_recording(seed, 0.2) for seed in range(60)]
    offsets = np.cumsum([0, *(len(part.cepstra) for part, _ in parts)])
    words = [
        [SpokenToken(token=t.token, previous=-1, place=t.place + offset) for t in word]
        for (part, _), offset in zip(parts, offsets, strict=False)
        for word in part.words
    ]
    whole = Recording(
        cepstra=np.concatenate([part.cepstra for part, _ in parts]),
        levels=np.concatenate([part.levels for part, _ in parts]),
        words=words,
    )
    truth = np.concatenate([t + o for (_, t), o in zip(parts, offsets, strict=False)])
    (bounds,) = find_boundaries([whole])
    assert bounds.shape == truth.shape
    np.testing.assert_allclose(bounds, truth, atol=3)


@pytest.mark.parametrize("num_frames", [0, 1, 5])
def test_tokens_that_crowd_keep_their_places(num_frames: int) -> None:
    cepstra = np.random.default_rng(0).standard_normal((num_frames, 13))
    crowd = [SpokenToken(token=n, previous=n - 1, place=1.0 + n / 10) for n in range(8)]
    recording = Recording(cepstra=cepstra, levels=np.zeros(num_frames), words=[crowd])
    (bounds,) = find_boundaries([recording])
    assert bounds.shape == (8, 2)
    assert (bounds[:, 0] <= bounds[:, 1]).all()
    assert (np.diff(bounds[:, 0]) >= 0).all()


def test_tokens_that_are_far_from_their_places_are_all_found() -> None:
    cepstra = np.random.default_rng(0).standard_normal((200, 13))
    heap = [[SpokenToken(token=n, previous=-1, place=150.0)] for n in range(60)]
    recording = Recording(cepstra=cepstra, levels=np.arange(200.0), words=heap)
    (bounds,) = find_boundaries([recording])
    assert (bounds[:, 0] < bounds[:, 1]).all()
    assert (bounds[1:, 0] >= bounds[:-1, 1]).all()


def test_no_recordings_no_boundaries() -> None:
    assert find_boundaries([]) == []
    silent = Recording(cepstra=np.zeros((9, 13)), levels=np.zeros(9), words=[])
    (bounds,) = find_boundaries([silent])
    assert bounds.shape == (0, 2)


@pytest.mark.parametrize("seed", range(20))
def test_the_best_states_are_those_of_all_paths(seed: int) -> None:
    random = np.random.default_rng(seed)
    optional = np.array([True, False, False, True, False, True])
    scores = random.standard_normal((6, 6))
    scores[random.random((6, 6)) < seed % 4 / 4] = -np.inf
    finite = np.maximum(scores, -1e9)
    paths = [
        path
        for path in product(range(6), repeat=6)
        if all(0 <= b - a <= 1 or (b - a == 2 and optional[a + 1]) for a, b in pairwise(path))
        and path[0] <= 1
        and path[-1] >= 4
    ]
    best = max(finite[np.arange(6), list(path)].sum() for path in paths)
    states = best_states(scores, optional).tolist()
    assert tuple(states) in paths
    assert finite[np.arange(6), states].sum() == pytest.approx(best)


@pytest.mark.parametrize("by_state", [False, True])
def test_scores_are_those_of_gaussians_drawn_towards_their_token_and_all_frames(
    by_state: bool,
) -> None:
    """Written out frame by frame, of two recordings that share tokens."""
    chains = [
        chain
        for number in range(2)
        for chain in boundaries._chains(number, _recording(number, 0.2)[0])
    ]
    paths = [boundaries._first_path(chain) for chain in chains]
    gaussians = boundaries._Gaussians(chains)
    gaussians.estimate(paths, by_state=by_state)
    frames: dict[tuple[int, ...], list[np.ndarray]] = {}
    for chain, path in zip(chains, paths, strict=True):
        for values, state in zip(chain.cepstra, path, strict=True):
            token, part = int(chain.tokens[state]), int(chain.parts[state]) if by_state else 0
            frames.setdefault((token,), []).append(values)
            if token >= 0:
                frames.setdefault((token, part), []).append(values)
    every = np.concatenate([chain.cepstra for chain in chains])
    for place, chain in enumerate(chains):
        scores = gaussians.scores(place)
        for state in range(len(chain.tokens)):
            token, part = int(chain.tokens[state]), int(chain.parts[state]) if by_state else 0
            mean, variance = every.mean(axis=0), every.var(axis=0)
            for key in [(token,)] if token < 0 else [(token,), (token, part)]:
                own = np.array(frames.get(key, np.zeros((0, len(mean)))))
                weight = len(own) + 5
                second = (own**2).sum(axis=0) + 5 * (variance + mean**2)
                mean = (own.sum(axis=0) + 5 * mean) / weight
                variance = np.maximum(second / weight - mean**2, 0.05 * every.var(axis=0))
            density = (chain.cepstra - mean) ** 2 / variance + np.log(variance)
            expected = -density.sum(axis=1) / 2 - (2 if token < 0 else 0)
            far = np.abs(np.arange(len(scores)) - chain.places[state]) > 40
            if token >= 0:
                expected[far] = -np.inf
            np.testing.assert_allclose(scores[:, state], expected, rtol=1e-7, atol=1e-7)
