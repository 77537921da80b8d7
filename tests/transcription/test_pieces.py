from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.config import Config
from asr.transcription.pieces import (
    PieceLengths,
    Stitcher,
    blank_step,
    no_pause,
    pause_finder,
    split_into_pieces,
)

RATE = 8000
STEP = 3
LENGTHS = PieceLengths(longest=60, usual=40, shortest=20, overlap=12, step=STEP)
SPEECH_LENGTHS = PieceLengths.of_samples(Config.model_validate({"features": {"sample_rate": RATE}}))


def in_blocks(values: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
    start = 0
    for size in sizes:
        yield values[start : start + size]
        start += size
    yield values[start:]


def random_pauses(seed: int):  # type: ignore[no-untyped-def]
    random = np.random.default_rng(seed)

    def find(values: np.ndarray, first: int, last: int) -> int | None:
        assert len(values) == last
        return int(random.integers(first, last)) if random.random() < 0.5 else None

    return find


@given(
    num_units=st.integers(1, 700),
    sizes=st.lists(st.integers(0, 100), max_size=10),
    seed=st.integers(0, 99),
)
def test_pieces_cover_the_input_and_overlap_where_they_say(
    num_units: int, sizes: list[int], seed: int
) -> None:
    values = np.arange(num_units, dtype=np.float32)
    pieces = list(split_into_pieces(in_blocks(values, sizes), LENGTHS, random_pauses(seed)))
    expected = 0
    for index, piece in enumerate(pieces):
        assert piece.follows == (index > 0 and pieces[index - 1].continues)
        assert piece.start == expected
        end = piece.start + len(piece.values)
        assert np.array_equal(piece.values, values[piece.start : end])
        assert len(piece.values) <= LENGTHS.longest
        expected = end - LENGTHS.overlap if piece.continues else end
    assert expected == num_units
    assert not pieces[-1].continues
    assert len(pieces) == 1 or num_units > LENGTHS.longest


def output_of(values: np.ndarray) -> np.ndarray:
    """A network whose output is the first unit of each step."""
    return np.stack([values[::STEP], -values[::STEP]], axis=1)


@given(num_units=st.integers(1, 3000), order=st.randoms(use_true_random=False))
def test_what_overlaps_is_stitched_to_what_one_piece_would_give(
    num_units: int, order: object
) -> None:
    values = np.arange(num_units, dtype=np.float32)
    pieces = list(split_into_pieces([values], LENGTHS, no_pause))
    order.shuffle(pieces)  # type: ignore[attr-defined]
    stitcher = Stitcher(LENGTHS)
    segments: dict[int, np.ndarray] = {}
    for piece in pieces:
        segments |= stitcher.add(piece, output_of(piece.values))
    whole = output_of(values)
    assert np.array_equal(np.concatenate(list(segments.values())), whole)
    for start, segment in segments.items():
        assert segment[0, 0] == start
        assert len(segment) * STEP <= 3 * LENGTHS.longest


def test_half_of_the_overlap_is_taken_from_each_side() -> None:
    values = np.zeros(100, np.float32)
    stitcher = Stitcher(LENGTHS)
    segments: dict[int, np.ndarray] = {}
    for number, piece in enumerate(split_into_pieces([values], LENGTHS, no_pause)):
        segments |= stitcher.add(piece, np.full_like(output_of(piece.values), number))
    (segment,) = segments.values()
    # The second piece begins at 48 and they share 48 to 60.
    assert segment[:, 0].tolist() == [0] * (54 // STEP) + [1] * 16


@given(num_units=st.integers(61, 700), seed=st.integers(0, 99))
def test_with_pauses_and_overlaps_no_step_is_lost(num_units: int, seed: int) -> None:
    values = np.arange(num_units, dtype=np.float32)
    stitcher = Stitcher(LENGTHS)
    segments: dict[int, np.ndarray] = {}
    for piece in split_into_pieces([values], LENGTHS, random_pauses(seed)):
        segments |= stitcher.add(piece, output_of(piece.values))
    seen = np.concatenate([segment[:, 0] for segment in segments.values()])
    assert (np.diff(seen) <= STEP).all()
    assert (np.diff(seen) > 0).all()
    assert seen[0] == 0
    assert seen[-1] >= num_units - STEP


@pytest.mark.parametrize("noise_db", [-90.0, -45.0, -35.0])
def test_speech_is_cut_in_its_pauses(noise_db: float) -> None:
    """Sentences of 3 to 6 s of noise with a syllable's rhythm, pauses of half a second."""
    random = np.random.default_rng(1)
    parts, pauses, position = [], [], 0
    for _ in range(30):
        time = np.arange(int(RATE * random.uniform(3, 6))) / RATE
        rhythm = 0.15 + np.square(np.sin(2 * np.pi * 4 * time))
        parts += [0.1 * rhythm * random.standard_normal(len(time)), np.zeros(RATE // 2)]
        position += len(time)
        pauses.append((position, position + RATE // 2))
        position += RATE // 2
    samples = np.concatenate(parts)
    samples += 10 ** (noise_db / 20) * random.standard_normal(len(samples))
    pieces = list(split_into_pieces([samples.astype("f4")], SPEECH_LENGTHS, pause_finder(RATE)))
    assert len(pieces) > 12
    for piece in pieces[1:]:
        assert not piece.follows
        assert any(start < piece.start < end for start, end in pauses)


@pytest.mark.parametrize("level", [0.0, 0.2])
def test_where_there_is_no_pause_pieces_overlap(level: float) -> None:
    samples = level * np.random.default_rng(0).standard_normal(100 * RATE).astype("f4")
    pieces = list(split_into_pieces([samples], SPEECH_LENGTHS, pause_finder(RATE)))
    assert [piece.continues for piece in pieces] == [True, True, False]


def test_a_transcript_is_cut_amid_most_blanks() -> None:
    best = [1, 0, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 2, 2]
    log_probs = np.log(np.full((len(best), 3), 0.1, np.float32))
    log_probs[np.arange(len(best)), best] = np.log(0.8)
    assert blank_step(log_probs, 0) == 3
    assert blank_step(log_probs, 6) == 10
    log_probs[:, 0] = -np.arange(len(best)) - 9
    assert blank_step(log_probs, 4) == 4
