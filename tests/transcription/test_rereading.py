"""Live text from a network of two directions."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus.manifest import Utterance
from asr.transcription.recognizer import Recognizer
from asr.transcription.rereading import RereadStream
from tests.tones import RATE, write_corpus


@pytest.fixture(scope="module")
def recognizer(tone_run: Path) -> Recognizer:
    return Recognizer.load(tone_run / "model", device="cpu")


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    return write_corpus(tmp_path_factory.mktemp("speech"), 10, seed=4, longest_pause=0.8)


def samples_of(*utterances: Utterance) -> np.ndarray:
    return np.concatenate(
        [soundfile.read(u.audio_filepath, dtype="float32")[0] for u in utterances]
    )


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def in_time(recognizer: Recognizer, clock: Clock | None = None) -> RereadStream:
    return RereadStream(
        recognizer._network,
        recognizer.config,
        recognizer.tokens,
        recognizer._decode,
        clock=clock or Clock(),
    )


def listen(stream: RereadStream, samples: np.ndarray, size: int) -> tuple[list[str], str]:
    partials, finals = [], []
    for start in range(0, len(samples), size):
        result = stream.accept(samples[start : start + size])
        partials.append(result.text)
        finals += [part.text for part in result.finished]
    finals += [part.text for part in stream.finish().finished]
    return partials, " ".join(finals)


def test_a_model_of_two_directions_is_read_again(recognizer: Recognizer) -> None:
    assert isinstance(recognizer.listen(), RereadStream)


def test_partial_text_grows_while_one_speaks(
    recognizer: Recognizer, speech: list[Utterance]
) -> None:
    longest = max(speech, key=lambda utterance: utterance.duration)
    noise = 0.003 * np.random.default_rng(0).standard_normal(RATE // 2).astype("f4")
    samples = np.concatenate([samples_of(longest), noise])
    partials, final = listen(in_time(recognizer), samples, RATE // 2)
    assert partials[-1] == final == longest.text
    lengths = [len(text.split()) for text in partials]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]


def test_what_a_pause_has_ended_is_read_no_more_and_stays(
    recognizer: Recognizer, speech: list[Utterance]
) -> None:
    noise = 0.003 * np.random.default_rng(0).standard_normal(RATE).astype("f4")
    parts = [utterance for utterance in speech if utterance.duration < 2] * 2
    assert len(parts) > 6
    samples = np.concatenate([part for u in parts for part in (samples_of(u), noise)])
    assert len(samples) > 15 * RATE
    stream = in_time(recognizer)
    lengths = []
    for start in range(0, len(samples), RATE // 2):
        result = stream.accept(samples[start : start + RATE // 2])
        lengths.append(len(stream._stretch))
    assert result.text == " ".join(u.text or "" for u in parts)
    assert max(lengths) < 10 * RATE


def test_half_of_the_time_is_spent_on_reading_at_most(
    recognizer: Recognizer, speech: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = samples_of(*speech)
    read = RereadStream._read_again
    for cost, share in ((0.0, 1.0), (0.2, 1.0), (2.0, 0.5 / 4.0)):
        clock, times = Clock(), []

        def spend(
            stream: RereadStream,
            clock: Clock = clock,
            times: list[float] = times,
            cost: float = cost,
        ) -> None:
            times.append(clock.now)
            clock.now += cost
            read(stream)

        monkeypatch.setattr(RereadStream, "_read_again", spend)
        stream = in_time(recognizer, clock)
        for start in range(0, len(samples), RATE // 10):
            clock.now = max(clock.now, start / RATE)
            stream.accept(samples[start : start + RATE // 10])
        most = len(samples) / RATE / 0.5
        assert share * most / 2 < len(times) <= share * most + 1, cost
        assert all(b - a >= 2 * cost for a, b in pairwise(times))


@pytest.mark.parametrize("size", [1237, RATE, 5 * RATE - 1])
def test_the_end_is_what_is_read_at_once(
    recognizer: Recognizer, speech: list[Utterance], size: int
) -> None:
    samples = samples_of(*5 * speech)
    expected = recognizer.transcribe(samples, sample_rate=RATE)
    assert expected.duration > 60
    stream = in_time(recognizer)
    words = []
    for start in range(0, len(samples), size):
        for part in stream.accept(samples[start : start + size]).finished:
            words += part.words
    words += [word for part in stream.finish().finished for word in part.words]
    assert [(word.text, word.start) for word in words] == [
        (word.text, pytest.approx(word.start)) for word in expected.words
    ]


def test_nothing_gives_nothing(recognizer: Recognizer) -> None:
    for count in (0, 1, 100):
        stream = recognizer.listen()
        if count:
            assert stream.accept(np.zeros(count, "f4")).text == ""
        assert stream.finish().finished == ()
