from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from asr.audio.stream import AudioStream
from asr.config import Config
from asr.corpus.manifest import Utterance
from asr.errors import AudioError
from asr.transcription.passage import Passage, State
from asr.transcription.reading import read_ahead
from asr.transcription.sources import Source

RATE = 8000
CONFIG = Config.model_validate({"features": {"sample_rate": RATE}})
SECONDS = [1.0, 100.0, 0.5, 130.0, 2.0, 3.0, 1.0, 0.1]


class Unforeseen(Source):
    def open(self, sample_rate: int) -> AbstractContextManager[AudioStream]:  # noqa: ARG002
        raise RuntimeError("a decoder\nhas met its master")


def samples_of(index: int) -> np.ndarray:
    length = round(SECONDS[index] * RATE)
    return np.random.default_rng(index).uniform(-0.5, 0.5, length).astype("f4")


def passages() -> list[Passage[None]]:
    """Noise of a known length in each, but one that cannot be read."""
    return [
        Passage(
            (Unforeseen if index == 6 else Source)(
                utterance=Utterance(
                    id=str(index), audio_filepath=Path(f"{index}.wav"), duration=0.0
                ),
                samples=samples_of(index),
                sample_rate=RATE,
            ),
            CONFIG,
        )
        for index in range(len(SECONDS))
    ]


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_pieces_come_in_order_and_are_the_audio(threads: int) -> None:
    ahead = [(p, pieces, p.state) for p, pieces in read_ahead(passages(), threads)]
    names = [passage.source.id for passage, _, _ in ahead]
    assert names == sorted(names)
    for index in (0, 1, 2, 3, 4, 5, 7):
        own = [row for row in ahead if row[0].source.id == str(index)]
        states = [state for _, _, state in own]
        assert states == [State.READING] * (len(own) - 1) + [State.HEARING]
        audio = np.zeros(round(SECONDS[index] * RATE), np.float32)
        for piece in (piece for _, pieces, _ in own for piece in pieces):
            audio[piece.start : piece.start + len(piece.values)] = piece.values
        assert np.array_equal(audio, samples_of(index))
        assert own[-1][0].duration == SECONDS[index]


def test_what_nobody_has_foreseen_ends_one_passage() -> None:
    errors = {p.source.id: p.error for p, _ in read_ahead(passages(), 2) if p.error is not None}
    assert list(errors) == ["6"]
    assert isinstance(errors["6"], AudioError)
    assert str(errors["6"]) == "6.wav: RuntimeError: a decoder\\nhas met its master"


def test_no_more_is_read_than_a_few_files_ahead() -> None:
    begun: list[str] = []

    def watched() -> Iterator[Passage[None]]:
        for passage in passages():
            begun.append(passage.source.id)
            yield passage

    ahead = read_ahead(watched(), 1)
    passage, _ = next(ahead)
    assert passage.source.id == "0"
    assert begun == ["0", "1", "2"]
    ahead.close()  # type: ignore[attr-defined]


def test_a_passage_is_done_when_all_its_pieces_are_read_and_heard() -> None:
    passage = passages()[1]
    pieces = list(passage.pieces())
    assert len(pieces) > 2
    passage.arrive(len(pieces), is_last=False)
    for piece in pieces:
        passage.hear(piece, np.zeros((1, 2), np.float32))
    assert passage.state is State.READING
    assert passage.seconds == pytest.approx(SECONDS[1])
    passage.arrive(0, is_last=True)
    assert passage.state is State.DONE


def test_of_several_errors_the_first_counts() -> None:
    passage = passages()[0]
    first = AudioError("first")
    passage.fail(first)
    passage.arrive(1, is_last=False)
    passage.arrive(0, is_last=True, error=AudioError("second"))
    assert passage.error is first
