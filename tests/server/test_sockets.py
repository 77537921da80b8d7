"""Live speech over websockets, with clients that do as those of vosk-server do."""

import asyncio
import base64
import contextlib
import json
import time
import wave
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.corpus.manifest import Utterance
from asr.transcription.recognizer import Recognizer
from tests.server.conftest import Client, Serve


@pytest.fixture(scope="module")
def connect(serving: Serve) -> Any:
    del serving
    from websockets.sync.client import connect

    # A ping after the test has ended would draw from `random` while Hypothesis watches it.
    return partial(connect, ping_interval=None)


def address(client: Client, path: str = "") -> str:
    return client.url.replace("http", "ws") + path


def talk(socket: Any, path: Path, seconds: float = 0.2) -> list[dict[str, Any]]:
    """As vosk-server's example does: config, portions in lock-step, eof."""
    answers = []
    with wave.open(str(path), "rb") as file:
        socket.send(f'{{ "config" : {{ "sample_rate" : {file.getframerate()} }} }}')
        while data := file.readframes(int(file.getframerate() * seconds)):
            socket.send(data)
            answers.append(json.loads(socket.recv()))
        socket.send('{"eof" : 1}')
        answers.append(json.loads(socket.recv()))
    return answers


def final_text(answers: list[dict[str, Any]]) -> str:
    return " ".join(answer["text"] for answer in answers if answer.get("text"))


def test_a_client_of_vosk_gets_partial_results_and_the_text_of_the_command_line(
    client: Client, connect: Any, speech: list[Utterance], tone_run: Path
) -> None:
    recognizer = Recognizer.load(tone_run / "model", device="cpu")
    for row in (1, 3, 5):
        with connect(address(client)) as socket:
            answers = talk(socket, speech[row].audio_filepath)
        expected = recognizer.transcribe(speech[row].audio_filepath)
        assert all(set(answer) == {"partial"} for answer in answers[:-1])
        assert any(answer["partial"] for answer in answers[:-1])
        assert answers[-1]["text"] == expected.text
        for word, other in zip(answers[-1]["result"], expected.words, strict=True):
            assert word["word"] == other.text
            assert (word["start"], word["end"]) == pytest.approx((other.start, other.end), abs=1e-3)
            assert word["conf"] == pytest.approx(other.confidence, abs=1e-3)


def test_the_asynchronous_example_works(
    client: Client, connect: Any, speech: list[Utterance]
) -> None:
    del connect
    from websockets.asyncio.client import connect as connect_async

    async def run() -> dict[str, Any]:
        async with connect_async(address(client, "live?model=tones")) as socket:
            with wave.open(str(speech[7].audio_filepath), "rb") as file:
                await socket.send(json.dumps({"config": {"sample_rate": 8000, "words": False}}))
                while data := file.readframes(1600):
                    await socket.send(data)
                    await socket.recv()
            await socket.send('{"eof" : 1}')
            answer: dict[str, Any] = json.loads(await socket.recv())
            await socket.wait_closed()
            assert socket.close_code == 1000
            return answer

    assert asyncio.run(run()) == {"text": speech[7].text}


def test_long_speech_ends_in_stretches_and_is_that_of_the_command_line(
    client: Client, connect: Any, speech: list[Utterance], tone_run: Path, tmp_path: Path
) -> None:
    samples = [soundfile.read(utterance.audio_filepath)[0] for utterance in speech]
    path = tmp_path / "long.wav"
    soundfile.write(path, np.concatenate(samples * 5), 8000, subtype="PCM_16")
    with connect(address(client)) as socket:
        answers = talk(socket, path, seconds=2.0)
    results = [answer for answer in answers if "text" in answer]
    assert len(results) > 3
    expected = Recognizer.load(tone_run / "model", device="cpu").transcribe(path)
    assert final_text(answers) == expected.text
    words = [word for answer in results for word in answer["result"]]
    assert [word["start"] for word in words] == pytest.approx(
        [word.start for word in expected.words], abs=1e-3
    )


def test_audio_of_another_rate_and_odd_portions_is_taken(
    client: Client, connect: Any, speech: list[Utterance]
) -> None:
    samples = soundfile.read(speech[1].audio_filepath)[0]
    doubled = np.repeat(samples, 2)
    data = (32767 * doubled).astype("<i2").tobytes()
    with connect(address(client)) as socket:
        socket.send('{"config": {"sample_rate": 16000}}')
        for start in range(0, len(data), 3333):
            socket.send(data[start : start + 3333])
            socket.recv()
        socket.send('{"eof": 1}')
        assert json.loads(socket.recv())["text"] == speech[1].text


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("hello", "is expected"),
        ("[]", "is expected"),
        ('{"config": 5}', "an object"),
        ('{"config": {"sample_rate": 0}}', "1000 to 768000 Hz"),
        ('{"config": {"sample_rate": true}}', "1000 to 768000 Hz"),
        ('{"config": {"sample_rate": 1e999}}', "1000 to 768000 Hz"),
        ('{"config": {"model": "whisper"}}', "there is tones"),
        ('{"config": {"model": 3}}', "a name"),
    ],
)
def test_what_is_no_message_ends_the_stream_with_a_reason(
    client: Client, connect: Any, message: str, said: str
) -> None:
    with connect(address(client)) as socket:
        socket.send(message)
        assert said in json.loads(socket.recv())["error"]
        with pytest.raises(Exception, match="1008"):
            socket.recv()


def test_an_end_without_speech_is_an_empty_result(client: Client, connect: Any) -> None:
    for portions in ([], [b""], [b"\x00"], [bytes(100)], [bytes(32000)]):
        with connect(address(client)) as socket:
            for data in portions:
                socket.send(data)
                assert json.loads(socket.recv()) == {"partial": ""}
            socket.send('{"eof": 1}')
            assert json.loads(socket.recv()) == {"result": [], "text": ""}
            with contextlib.suppress(Exception):
                socket.send('{"eof": 1}')


def test_other_origins_and_missing_keys_are_refused(
    client: Client, connect: Any, tones: Any, serving: Serve
) -> None:
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus) as refused, connect(address(client), origin="http://x.y"):
        pass
    assert refused.value.response.status_code == 403
    assert "may not use this server" in refused.value.response.body.decode()

    from asr.server.options import _digest

    key = "0123456789abcdef"
    with serving(tones, key_digests=(_digest(key),)) as locked:
        with pytest.raises(InvalidStatus) as refused, connect(address(locked)):
            pass
        assert refused.value.response.status_code == 401
        bearer = {"authorization": f"Bearer {key}"}
        with connect(address(locked), additional_headers=bearer) as socket:
            socket.send('{"eof": 1}')
            assert json.loads(socket.recv())["text"] == ""
        mark = "key." + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
        with connect(address(locked), subprotocols=["vosk", mark]) as socket:
            assert socket.subprotocol == "vosk"


def test_streams_have_a_bound_and_those_that_are_cut_count_no_more(
    connect: Any, tones: Any, serving: Serve
) -> None:
    from websockets.exceptions import InvalidStatus

    with serving(tones, max_streams=2) as client:
        first, second = (connect(address(client), legacy=True) for _ in range(2))
        with pytest.raises(InvalidStatus) as refused, connect(address(client)):
            pass
        assert refused.value.response.status_code == 429
        first.close()
        second.close()
        for row in range(50):
            for _ in range(200):
                if "asr_streams_open 0" in client.ask("/metrics").body.decode():
                    break
                time.sleep(0.02)
            socket = connect(address(client), legacy=True)
            socket.send(bytes(200 * row))
            socket.socket.close()
        for _ in range(500):
            if "asr_streams_open 0" in client.ask("/metrics").body.decode():
                break
            time.sleep(0.02)
        else:
            raise AssertionError("streams that were cut are still open")
        socket.close()


def test_a_silent_socket_and_a_stop_end_with_what_was_heard(
    connect: Any, tones: Any, serving: Serve, speech: list[Utterance]
) -> None:
    with wave.open(str(speech[1].audio_filepath), "rb") as file:
        data = file.readframes(10**6)
    with serving(tones, idle_seconds=1.0) as client, connect(address(client)) as socket:
        socket.send(data)
        socket.recv()
        assert json.loads(socket.recv())["text"] == speech[1].text
    with serving(tones) as client, connect(address(client)) as socket:
        socket.send(data)
        socket.recv()
        client.server.stop()
        assert json.loads(socket.recv())["text"] == speech[1].text
