"""OpenAI's interface over real sockets."""

import io
import itertools
import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr.cli import main
from asr.corpus.manifest import Utterance
from asr.server.counters import Counters
from asr.transcription.output import OUTPUT_FORMATS
from asr.transcription.recognizer import Recognizer
from asr.transcription.transcript import Transcript
from tests.bad_audio import FAILURES, FINE, WARNINGS, encoded
from tests.bad_audio import speech as beeps
from tests.server.conftest import PATH, Client, Serve, form


@pytest.fixture(scope="module")
def expected(tone_run: Path, speech: list[Utterance]) -> list[Transcript]:
    recognizer = Recognizer.load(tone_run / "model", device="cpu")
    return [recognizer.transcribe(utterance.audio_filepath) for utterance in speech]


def content(utterance: Utterance) -> bytes:
    return utterance.audio_filepath.read_bytes()


def test_all_formats_say_what_the_command_line_says(
    client: Client, speech: list[Utterance], expected: list[Transcript]
) -> None:
    answer = client.transcribe(content(speech[1]), model="tones")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["text"] == expected[1].text == speech[1].text
    for kind, name in {"text": "txt", "srt": "srt", "vtt": "vtt"}.items():
        answer = client.transcribe(content(speech[1]), model="tones", response_format=kind)
        assert answer.status == 200
        assert answer.body.decode() == OUTPUT_FORMATS[name](speech[1], expected[1])


def test_verbose_json_has_the_words_and_segments_that_are_asked_for(
    client: Client, speech: list[Utterance], expected: list[Transcript]
) -> None:
    def ask(*granularities: str) -> Mapping[str, Any]:
        answer = client.transcribe(
            content(speech[3]),
            model="tones",
            response_format="verbose_json",
            language="la",
            timestamp_granularities__=list(granularities),
        )
        assert answer.status == 200, answer.body
        values: Mapping[str, Any] = answer.json
        assert values["text"] == expected[3].text
        assert values["duration"] == pytest.approx(expected[3].duration, abs=1e-3)
        assert values["language"] == "la"
        return values

    assert "words" not in ask()
    assert "segments" in ask()
    words = ask("word")["words"]
    assert "segments" not in ask("word")
    for word, other in zip(words, expected[3].words, strict=True):
        assert word["word"] == other.text
        assert word["start"] == pytest.approx(other.start, abs=1e-3)
        assert word["end"] == pytest.approx(other.end, abs=1e-3)
        assert word["probability"] == pytest.approx(other.confidence, abs=1e-3)
    both = ask("word", "segment")
    assert both["words"] == words
    assert " ".join(segment["text"] for segment in both["segments"]) == both["text"]


def test_users_at_once_share_batches_and_get_their_own_words(
    tone_run: Path,
    serving: Serve,
    speech: list[Utterance],
    expected: list[Transcript],
) -> None:
    from asr.server.models import serve_model

    counters = Counters()
    recognizer = Recognizer.load(tone_run / "model", device="cpu")
    model = serve_model("tones", recognizer, counters.count_batch)
    with serving(model, counters=counters) as client, ThreadPoolExecutor(24) as users:
        answers = list(
            users.map(
                lambda row: client.transcribe(
                    content(speech[row % len(speech)]),
                    response_format="verbose_json",
                    timestamp_granularities__=["word"],
                ),
                range(72),
            )
        )
        metrics = client.ask("/metrics").body.decode()
    for row, answer in enumerate(answers):
        other = expected[row % len(speech)]
        assert answer.json["text"] == other.text
        assert [word["start"] for word in answer.json["words"]] == pytest.approx(
            [word.start for word in other.words], abs=1e-3
        )
    counts = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line[0] != "#")
    assert float(counts["asr_batch_inputs_sum"]) == 72
    assert 1 <= float(counts["asr_batch_inputs_count"]) <= 72
    assert counts[f'asr_requests_total{{path="{PATH}",status="200"}}'] == "72"
    assert float(counts["asr_audio_seconds_total"]) == pytest.approx(
        6 * sum(transcript.duration for transcript in expected), abs=0.1
    )


def test_long_audio_is_what_it_is_on_the_command_line(
    client: Client,
    speech: list[Utterance],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tone_run: Path,
) -> None:
    import soundfile

    samples = [soundfile.read(utterance.audio_filepath)[0] for utterance in speech]
    soundfile.write(tmp_path / "long.wav", np.concatenate(samples * 4), 8000)
    assert main(["transcribe", str(tone_run / "model"), str(tmp_path / "long.wav")]) == 0
    answer = client.transcribe((tmp_path / "long.wav").read_bytes(), response_format="text")
    assert answer.body.decode() == capsys.readouterr().out
    assert len(answer.body.split()) > 50


def test_models_are_listed_and_chosen_by_name(client: Client, speech: list[Utterance]) -> None:
    (model,) = client.ask("/v1/models").json["data"]
    assert (model["id"], model["object"], model["owned_by"]) == ("tones", "model", "asr")
    assert client.ask("/v1/models/tones").json == model
    missing = client.transcribe(content(speech[0]), model="whisper-1")
    assert missing.status == 404
    assert missing.error["code"] == "model_not_found"
    assert missing.error["param"] == "model"
    assert "there is tones" in missing.error["message"]
    assert client.ask("/v1/models/whisper-1").status == 404


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"response_format": "docx"}, "response_format", "one of json, text"),
        ({"timestamp_granularities__": ["line"]}, "timestamp_granularities", "word or segment"),
        ({"timestamp_granularities__": ["word"]}, "timestamp_granularities", "verbose_json"),
        ({"model": ["tones", "tones"]}, "model", "more than once"),
        ({"temperature": "warm"}, "temperature", "a number"),
        ({"<script>": "1"}, "<script>", "no field of a transcription"),
    ],
)
def test_wrong_fields_are_named(
    client: Client, speech: list[Utterance], fields: dict[str, Any], param: str, said: str
) -> None:
    answer = client.transcribe(content(speech[0]), **fields)
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.error["type"] == "invalid_request_error"
    assert answer.error["param"] == param
    assert said in answer.error["message"]


# Starlette leaves it to Python to close the file of a form that breaks off, which it does at once.
@pytest.mark.filterwarnings("ignore:Unclosed file", "ignore:Exception ignored in")
def test_what_is_no_form_is_refused(client: Client, speech: list[Utterance]) -> None:
    assert "`file` is missing" in client.transcribe(None, model="tones").error["message"]
    body, kind = form(None, model="tones", file="text in place of a file")
    assert client.ask(PATH, body, {"content-type": kind}).error["param"] == "file"
    body, kind = form(content(speech[0]))
    for wrong, header in [
        (b"{}", "application/json"),
        (b"", ""),
        (body, "multipart/form-data"),
        (body, kind + "x"),
        (body[:-200], kind),
        (b"\r\n" * 100 + b"\x00\xff", kind),
    ]:
        answer = client.ask(PATH, wrong, {"content-type": header})
        assert answer.status == 400, (wrong[:20], header)
        assert answer.error["message"]
    assert client.ask(PATH).status == 405
    assert client.ask("/v1/nothing").status == 404
    two = form(content(speech[0]), model="tones")
    bound = two[1].partition("boundary=")[2]
    doubled = two[0].replace(f"--{bound}--\r\n".encode(), b"") + form(b"x")[0]
    assert client.ask(PATH, doubled, {"content-type": two[1]}).status == 400


def test_nasty_audio_is_answered_with_its_reason(client: Client) -> None:
    for name, (audio, reason) in FAILURES.items():
        answer = client.transcribe(audio, name)
        assert answer.status == 400, name
        message = answer.error["message"]
        assert reason in message, name
        assert name in message
        assert "/proc" not in message
    for name, (audio, warning) in WARNINGS.items():
        answer = client.transcribe(audio, name, response_format="verbose_json")
        assert answer.status == 200, name
        (said,) = answer.json["warnings"]
        assert said.startswith(name)
        assert warning in said
    texts = {name: client.transcribe(audio, name).json["text"] for name, audio in FINE.items()}
    assert texts["fine.wav"]
    assert client.ask("/healthz").json["status"] == "ok"


def test_names_of_files_do_not_reach_the_disk_or_a_terminal(client: Client) -> None:
    for name in ("../../etc/passwd", "/dev/stdin", "a.mfc", "x.ark:5", "\x1b[2J.wav", "-"):
        assert client.transcribe(encoded(samples=beeps()), name).status == 200, name
        message = client.transcribe(b"no audio", name).error["message"]
        assert "\x1b" not in message


def test_audio_that_is_too_long_is_refused(tones: Any, serving: Serve) -> None:
    with serving(tones, max_seconds=2.0) as client:
        assert client.transcribe(encoded(samples=beeps(1.9))).status == 200
        answer = client.transcribe(encoded(samples=beeps(2.2)))
        assert (answer.status, answer.error["code"]) == (413, "too_long")
        # A length that the header does not tell.
        assert client.transcribe(encoded("FLAC", beeps(60))).status == 413


def events_of(answer: Any) -> list[Any]:
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = answer.body.decode().split("\n\n")
    assert lines.pop() == ""
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.fixture(scope="module")
def long(speech: list[Utterance]) -> bytes:
    import soundfile

    samples = [soundfile.read(utterance.audio_filepath)[0] for utterance in speech]
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(samples * 4), 8000, format="WAV", subtype="PCM_16")
    return file.getvalue()


def test_a_text_comes_in_events_while_the_rest_is_heard(client: Client, long: bytes) -> None:
    whole = client.transcribe(long).json
    *deltas, done = events_of(client.transcribe(long, stream="true"))
    assert {event["type"] for event in deltas} == {"transcript.text.delta"}
    assert len(deltas) > 1
    assert "".join(event["delta"] for event in deltas) == whole["text"] == done["text"]
    assert done["type"] == "transcript.text.done"
    assert done["usage"] == whole["usage"]
    quiet = encoded(samples=0.001 * np.random.default_rng(0).standard_normal(4000))
    *deltas, done = events_of(client.transcribe(quiet, stream="1"))
    assert "".join(event["delta"] for event in deltas) == done["text"]
    assert done["text"] == client.transcribe(quiet).json["text"]


def test_what_cannot_be_streamed_is_an_error_as_any_other(client: Client, long: bytes) -> None:
    answer = client.transcribe(b"no audio", stream="true")
    assert (answer.status, answer.error["code"]) == (400, "invalid_audio")
    for fields in ({"stream": "true", "response_format": "srt"}, {"stream": "perhaps"}):
        answer = client.transcribe(long, **fields)
        assert (answer.status, answer.error["param"]) == (400, "stream")


def test_an_error_in_the_middle_of_a_stream_is_told(
    tones: Any, serving: Serve, long: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asr.server import transcriptions

    def fail(recognizer: Any, wanted: Any, watch: Any, told: Any) -> None:
        del recognizer, wanted, watch
        told("la")
        raise transcriptions.Refusal(413, "too long", code="too_long")

    monkeypatch.setattr(transcriptions, "_transcribe", fail)
    with serving(tones) as client:
        first, error = events_of(client.transcribe(long, stream="true"))
        assert first["delta"] == "la"
        assert error["error"]["code"] == "too_long"
        for _ in range(100):
            if "asr_requests_open 0" in client.ask("/metrics").body.decode():
                break
            time.sleep(0.02)
        else:
            raise AssertionError("a request that failed is still open")


def test_parts_are_told_in_order() -> None:
    from asr.server.events import OrderedParts

    def part(text: str, seconds: float) -> Transcript:
        return Transcript(text=text, words=(), log_prob=0.0, duration=seconds)

    parts = [(part("a", 10), 0.0), (part("", 5), 10.03), (part("b c", 9), 15.0), (part("d", 1), 24)]
    for order in itertools.permutations(parts):
        told: list[str] = []
        ordered = OrderedParts(" ", told.append)
        for each, start in order:
            ordered.add(each, start)
        assert told == ["a", " b c", " d"]


def test_a_prompt_that_cannot_be_spelled_changes_nothing(
    client: Client, tones: Any, speech: list[Utterance], expected: list[Transcript]
) -> None:
    for prompt in ("\u00e7a va? XYZ", "La, mi.", ". , ;", "la " * 5000):
        answer = client.transcribe(content(speech[1]), prompt=prompt)
        assert answer.json["text"] == expected[1].text, prompt
    assert tones.heeding("XYZ qq", 2.0) is tones.recognizer
    assert tones.heeding("la", 0.0) is tones.recognizer
    assert tones.heeding("(La!)", 2.0) is not tones.recognizer


def test_a_queue_has_a_bound(tones: Any, serving: Serve, speech: list[Utterance]) -> None:
    body, kind = form(content(speech[0]), model="tones")
    with serving(tones, max_requests=2, max_running=1) as client:
        import http.client

        slow = []
        for _ in range(2):
            connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
            connection.putrequest("POST", PATH)
            connection.putheader("content-type", kind)
            connection.putheader("content-length", str(len(body)))
            connection.endheaders()
            connection.send(body[:100])
            slow.append(connection)
        waited = threading.Event()
        for _ in range(100):
            if "asr_requests_open 2" in client.ask("/metrics").body.decode():
                break
            waited.wait(0.05)
        answer = client.ask(PATH, body, {"content-type": kind})
        assert (answer.status, answer.error["code"]) == (429, "busy")
        assert answer.headers["retry-after"] == "1"
        for connection in slow:
            connection.send(body[100:])
            assert json.loads(connection.getresponse().read())["text"] == speech[0].text
            connection.close()
        assert client.ask(PATH, body, {"content-type": kind}).status == 200


def test_the_openai_client_reads_every_format(
    client: Client, speech: list[Utterance], expected: list[Transcript]
) -> None:
    openai = pytest.importorskip("openai")
    api = openai.OpenAI(base_url=client.url + "v1", api_key="none", max_retries=0)
    path = speech[5].audio_filepath
    create = api.audio.transcriptions.create
    with api:
        assert [model.id for model in api.models.list()] == ["tones"]
        assert create(model="tones", file=path).text == expected[5].text
        for kind in ("text", "srt", "vtt"):
            text = create(model="tones", file=path, response_format=kind)
            name = "txt" if kind == "text" else kind
            assert text == OUTPUT_FORMATS[name](speech[5], expected[5])
        verbose = create(
            model="tones",
            file=path,
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
            language="la",
            prompt="la mi",
            temperature=0,
        )
        assert verbose.text == expected[5].text
        assert [word.word for word in verbose.words] == verbose.text.split()
        assert verbose.segments[0].start == verbose.words[0].start
        assert type(verbose.segments[0].avg_logprob) is float
        with create(model="tones", file=path, stream=True) as stream:
            *deltas, done = list(stream)
        assert "".join(event.delta for event in deltas) == done.text == expected[5].text
        with pytest.raises(openai.NotFoundError, match="no model 'whisper-1'"):
            create(model="whisper-1", file=path)
        with pytest.raises(openai.BadRequestError, match="not audio"):
            create(model="tones", file=("a.wav", b"no audio"))


class Gated:
    """A network that hears nothing until it may."""

    def __init__(self, network: Any):
        self.network, self.gate = network, threading.Event()
        self.threads, self.calls = 1, 0

    def log_probs(self, inputs: Any, statistics: Any = None) -> Any:
        self.calls += 1
        assert self.gate.wait(30)
        return self.network.log_probs(inputs, statistics)

    def stream(self) -> Any:
        return self.network.stream()


def test_what_32_users_ask_at_once_is_heard_in_one_batch(
    tone_run: Path, serving: Serve, speech: list[Utterance], expected: list[Transcript]
) -> None:
    from asr.server.models import serve_model

    gated: list[Gated] = []
    batches: list[int] = []

    def wrap(network: Any) -> Any:
        gated.append(Gated(network))
        gated[0].gate.set()
        return gated[0]

    recognizer = Recognizer.load(tone_run / "model", device="cpu").with_network(wrap)
    model = serve_model("tones", recognizer, batches.append)
    gated[0].gate.clear()
    gated[0].calls = 0
    shared: Any = model.recognizer._network
    # A batch has a minute at most.
    shortest = min(range(len(speech)), key=lambda number: speech[number].duration)
    assert 31 * speech[shortest].duration < 60
    numbers = [0, *[shortest] * 31]
    with serving(model) as client, ThreadPoolExecutor(len(numbers)) as users:
        answers = [users.submit(client.transcribe, content(speech[n])) for n in numbers[:1]]
        wait_for(lambda: client.server.site.desk.num_requests == 1 and gated[0].calls == 1)
        answers += [users.submit(client.transcribe, content(speech[n])) for n in numbers[1:]]
        wait_for(lambda: len(shared._waiting) == 31)
        gated[0].gate.set()
        for number, answer in zip(numbers, answers, strict=True):
            assert answer.result().json["text"] == expected[number].text
    assert batches == [1, 31]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
