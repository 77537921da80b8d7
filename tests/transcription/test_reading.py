from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest

from asr.audio.stream import AudioStream, stream_samples
from asr.config import Config
from asr.corpus.manifest import Utterance
from asr.errors import AudioError
from asr.transcription.reading import Handful, Reading, read_ahead

RATE = 8000
CONFIG = Config.model_validate({"features": {"sample_rate": RATE}})
SECONDS = [1.0, 100.0, 0.5, 130.0, 2.0, 3.0, 1.0, 0.1]


class Opener:
    """Noise of a known length for each utterance."""

    def __call__(self, utterance: Utterance) -> AbstractContextManager[AudioStream]:
        if utterance.id == "6":
            raise RuntimeError("a decoder\nhas met its master")
        return nullcontext(stream_samples(samples_of(int(utterance.id)), RATE, RATE))


def samples_of(index: int) -> np.ndarray:
    length = round(SECONDS[index] * RATE)
    return np.random.default_rng(index).uniform(-0.5, 0.5, length).astype("f4")


def readings(opener: Opener) -> list[Reading]:
    utterances = [
        Utterance(id=str(index), audio_filepath=Path(f"{index}.wav"), duration=0.0)
        for index in range(len(SECONDS))
    ]
    return [Reading(utterance, CONFIG, opener) for utterance in utterances]


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_pieces_come_in_order_and_are_the_audio(threads: int) -> None:
    handfuls = list(read_ahead(readings(Opener()), threads))
    names = [handful.reading.utterance.id for handful in handfuls]
    assert names == sorted(names)
    for index in (0, 1, 2, 3, 4, 5, 7):
        own = [handful for handful in handfuls if handful.reading.utterance.id == str(index)]
        assert [handful.is_last for handful in own] == [False] * (len(own) - 1) + [True]
        found = np.zeros(round(SECONDS[index] * RATE), np.float32)
        for piece in (piece for handful in own for piece in handful.pieces):
            found[piece.start : piece.start + len(piece.values)] = piece.values
        assert np.array_equal(found, samples_of(index))
        assert own[-1].reading.duration == SECONDS[index]


def test_what_nobody_has_foreseen_ends_one_reading() -> None:
    handfuls = list(read_ahead(readings(Opener()), 2))
    errors = {h.reading.utterance.id: h.error for h in handfuls if h.error is not None}
    assert list(errors) == ["6"]
    assert isinstance(errors["6"], AudioError)
    assert str(errors["6"]) == "6.wav: RuntimeError: a decoder\\nhas met its master"


def test_no_more_is_read_than_a_few_files_ahead() -> None:
    begun: list[str] = []

    def watched() -> Iterator[Reading]:
        for reading in readings(Opener()):
            begun.append(reading.utterance.id)
            yield reading

    ahead = read_ahead(watched(), 1)
    first: Handful = next(ahead)
    assert first.reading.utterance.id == "0"
    assert begun == ["0", "1", "2"]
    ahead.close()  # type: ignore[attr-defined]
