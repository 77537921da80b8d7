import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.cli import main
from asr.config import Config, DecodingConfig
from asr.decoding.decoder import Decoder
from asr.errors import ModelError
from asr.model.network import Network, TorchNetwork
from asr.text.tokens import TokenTable
from asr.transcription.live import LiveStream
from asr.transcription.pieces import LONGEST_SECONDS
from asr.transcription.recognizer import Recognizer
from asr.transcription.transcript import Transcript
from tests import tones
from tests.tones import RATE

TOKENS = TokenTable(("<blank>", " ", "a", "b"))


def network_of(features: dict[str, object], encoder: dict[str, object]) -> TorchNetwork:
    config = Config.model_validate(
        {
            "features": {"sample_rate": RATE, "num_mel_bins": 20, **features},
            "encoder": {"bidirectional": False, "hidden_size": 8, "conv_channels": 6, **encoder},
        }
    )
    torch.manual_seed(1)
    network = Network(config, 5)
    bins = config.features.num_bins
    network.frontend.set_statistics(torch.randn(bins), 1 + torch.rand(bins))
    return TorchNetwork(network, "cpu")


def in_portions(samples: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    return np.split(samples, np.minimum(np.cumsum(sizes), len(samples)))


NETWORKS = [
    network_of({"normalization": "global"}, {"cell": "lstm", "subsampling": 3}),
    network_of({"normalization": "none", "deltas": 1}, {"cell": "gru", "subsampling": 4}),
    network_of(
        {"normalization": "global", "kind": "mfcc", "convention": "sphinx", "deltas": 2},
        {"cell": "rnn", "subsampling": 2},
    ),
    network_of({"normalization": "none", "convention": "sphinx"}, {"subsampling": 1}),
    network_of({"normalization": "running", "deltas": 1}, {"cell": "gru"}),
]


@settings(deadline=None, max_examples=25)
@given(
    network=st.sampled_from(NETWORKS),
    num_samples=st.integers(0, 4000),
    sizes=st.lists(st.sampled_from([0, 1, 79, 80, 81, 200, 800, 1500]), max_size=12),
)
def test_audio_in_portions_gives_the_log_probabilities_of_the_whole(
    network: TorchNetwork, num_samples: int, sizes: list[int]
) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, num_samples).astype("f4")
    stream = network.stream()
    parts = [stream.accept(part) for part in in_portions(samples, sizes)]
    found = np.concatenate([*parts, stream.accept(samples[:0], last=True)])
    whole = np.zeros((0, 5))
    if network.network.frontend.num_frames(num_samples):
        (whole,) = network.log_probs([samples])
    assert found.shape == whole.shape
    assert found == pytest.approx(whole, abs=1e-4)


@settings(deadline=None, max_examples=5)
@given(sizes=st.lists(st.integers(0, 20_000), min_size=4, max_size=9))
def test_a_running_normalization_forgets_alike_live_and_offline(sizes: list[int]) -> None:
    network = NETWORKS[-1]
    levels = np.repeat([0.01, 0.5, 0.02, 0.1], 16_000)
    samples = (levels * np.random.default_rng(0).uniform(-1, 1, 64_000)).astype("f4")
    stream = network.stream()
    parts = [stream.accept(part) for part in in_portions(samples, sizes)]
    found = np.concatenate([*parts, stream.accept(samples[:0], last=True)])
    (whole,) = network.log_probs([samples])
    assert found == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize(
    ("features", "encoder", "cause"),
    [
        ({"normalization": "global"}, {"bidirectional": True}, "one direction; this one has two"),
        ({"normalization": "utterance"}, {}, "global or none; this model's is utterance"),
        ({"normalization": "speaker"}, {}, "global or none; this model's is speaker"),
    ],
)
def test_what_needs_whole_utterances_is_refused(
    features: dict[str, object], encoder: dict[str, object], cause: str
) -> None:
    with pytest.raises(ModelError, match=cause):
        network_of(features, encoder).stream()


class Spoken:
    """A network that hears in the first sample of each step which token it is."""

    def __init__(self, step: int):
        self._step = step
        self._held = np.zeros(0, np.float32)

    def accept(self, samples: np.ndarray, *, last: bool = False) -> np.ndarray:
        self._held = np.concatenate([self._held, samples])
        count = len(self._held) // self._step + (last and len(self._held) % self._step > 0)
        best = np.rint(10 * self._held[:: self._step][:count]).astype(int)
        self._held = self._held[count * self._step :]
        log_probs = np.full((count, len(TOKENS)), np.log(0.1), np.float32)
        log_probs[np.arange(count), best] = np.log(0.7)
        return log_probs


CONFIG = Config.model_validate({"features": {"sample_rate": RATE}, "encoder": {"subsampling": 2}})
STEP = 160  # samples; 20 ms


def listen(
    best: list[int], sizes: list[int], opened: list[Spoken] | None = None
) -> tuple[list[Transcript], list[str]]:
    def open_network() -> Spoken:
        network = Spoken(STEP)
        if opened is not None:
            opened.append(network)
        return network

    stream = LiveStream(open_network, CONFIG, TOKENS, Decoder(TOKENS, DecodingConfig()))
    samples = np.repeat(np.array(best, np.float32) / 10, STEP)
    results = [stream.accept(part) for part in in_portions(samples, sizes)]
    results.append(stream.finish())
    return [t for r in results for t in r.finished], [r.text for r in results]


def speech(*items: str | float) -> list[int]:
    """Best tokens of the steps: of texts, and of pauses in seconds."""
    best: list[int] = []
    for item in items:
        if isinstance(item, str):
            best += [step for c in item for step in (TOKENS.symbols.index(c), 0)]
        else:
            best += [0] * round(50 * item)
    return best


def test_a_pause_ends_a_stretch_of_speech() -> None:
    finished, texts = listen(speech(0.5, "ab ba", 0.6, " a", 1.0, "b", 3.0, "aa"), [4000] * 11)
    assert [t.text for t in finished] == ["ab ba a", "b", "aa"]
    assert texts[1:3] == ["ab ba", "ab ba a"]
    assert texts[-1] == ""
    words = [word for transcript in finished for word in transcript.words]
    assert [word.text for word in words] == ["ab", "ba", "a", "b", "aa"]
    # Each letter takes 40 ms: a step, and a blank.
    starts = [0.5, 0.62, 1.34, 2.38, 5.42]
    assert [word.start for word in words] == pytest.approx(starts)


@settings(deadline=None, max_examples=30)
@given(
    pauses=st.lists(st.sampled_from([0.1, 0.5, 0.78, 0.8, 1.5, 12.0]), max_size=8),
    sizes=st.lists(st.integers(0, 30_000), max_size=20),
)
def test_results_do_not_depend_on_portions(pauses: list[float], sizes: list[int]) -> None:
    items = [item for pause in pauses for item in (" ab", pause)]
    assert listen(speech(*items), sizes)[0] == listen(speech(*items), [])[0]


def test_speech_without_end_comes_in_stretches_and_nothing_is_lost() -> None:
    text = "ab" * 2500
    finished, _ = listen(speech(text), [8000] * 200)
    assert len(finished) > 2
    assert "".join(t.text for t in finished) == text


def test_after_long_enough_a_pause_lets_the_network_begin_afresh() -> None:
    opened: list[Spoken] = []
    items = ["ab", LONGEST_SECONDS - 2, "ab", 1.0, "b", 3.0, "ba", 1.0]
    finished, _ = listen(speech(*items), [], opened)
    assert [t.text for t in finished] == ["ab", "ab", "b", "ba"]
    assert len(opened) == 2
    starts = [word.start for t in finished for word in t.words]
    # What the new network has not seen of a step is lost: at most one of 20 ms.
    assert starts == pytest.approx([0, 38.08, 39.16, 42.2], abs=0.021)


def test_a_socket_says_what_the_stream_says_as_audio_arrives(
    live_model: Path, tmp_path: Path
) -> None:
    """By `asr serve`, in Vosk's protocol."""
    pytest.importorskip("uvicorn")
    client = pytest.importorskip("websockets.sync.client")
    from asr.server import RunningServer, ServerOptions, load_models

    recognizer = Recognizer.load(live_model, device="cpu")
    server = RunningServer(load_models([str(live_model)], device="cpu"), ServerOptions(port=0))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        (utterance,) = tones.write_corpus(tmp_path, 1, seed=6, longest_pause=0.8)
        samples, _ = soundfile.read(utterance.audio_filepath, dtype="int16")
        stream = recognizer.stream()
        partials = set()
        with client.connect(server.url.replace("http", "ws"), ping_interval=None) as socket:
            for portion in in_portions(samples, [1600] * 100):
                if not len(portion):
                    break
                socket.send(portion.tobytes())
                answer = json.loads(socket.recv())
                expected = stream.accept(portion.astype(np.float32) / 32768)
                if expected.finished:
                    assert answer["text"] == " ".join(t.text for t in expected.finished)
                else:
                    assert answer == {"partial": expected.text}
                    partials.add(expected.text)
            socket.send('{"eof": 1}')
            last = " ".join(part.text for part in stream.finish().finished)
            assert json.loads(socket.recv())["text"] == last
        # Text grows before the end is known.
        assert len(partials) > 1
    finally:
        server.stop()
        thread.join(30)


def test_live_gives_the_text_of_offline(live_model: Path, tmp_path: Path) -> None:
    recognizer = Recognizer.load(live_model, device="cpu")
    for utterance in tones.write_corpus(tmp_path, 8, seed=5):
        samples, _ = soundfile.read(utterance.audio_filepath, dtype="float32")
        stream = recognizer.stream()
        results = [stream.accept(part) for part in in_portions(samples, [700] * 100)]
        texts = [t.text for r in [*results, stream.finish()] for t in r.finished]
        offline = recognizer.transcribe(utterance.audio_filepath)
        assert "".join("".join(texts).split()) == "".join(offline.text.split())
        assert offline.text


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Puts bytes into stdin, less than a pipe holds."""
    reader, writer = os.pipe()
    stdin = io.TextIOWrapper(os.fdopen(reader, "rb"))
    monkeypatch.setattr("sys.stdin", stdin)

    def put(content: bytes) -> None:
        with os.fdopen(writer, "wb") as file:
            file.write(content)

    yield put
    stdin.close()


@pytest.mark.parametrize("kind", ["wav", "raw"])
def test_stdin_is_transcribed_as_it_arrives(
    live_model: Path,
    tmp_path: Path,
    pipe: Callable[[bytes], None],
    kind: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    utterances = tones.write_corpus(tmp_path, 3, seed=5)
    silence = np.random.default_rng(0).integers(-100, 100, RATE).astype(np.int16)
    parts = [soundfile.read(u.audio_filepath, dtype="int16")[0] for u in utterances]
    samples = np.concatenate([part for own in parts for part in (own, silence)])[:32_000]
    options = ["--raw", str(RATE)] if kind == "raw" else []
    if kind == "raw":
        pipe(samples.tobytes())
    else:
        soundfile.write(tmp_path / "all.wav", samples, RATE)
        pipe((tmp_path / "all.wav").read_bytes())
    assert main(["transcribe", str(live_model), "-", "--live", *options]) == 0
    live = capsys.readouterr()
    assert "listening; text comes at most 0.14 s after its sound" in live.err
    assert len(live.out.splitlines()) > 1
    assert f"... {live.out.splitlines()[0]}\n" in live.err
    soundfile.write(tmp_path / "whole.wav", samples, RATE)
    assert main(["transcribe", str(live_model), str(tmp_path / "whole.wav")]) == 0
    # A pause ends a word, which the offline text may not know.
    offline = capsys.readouterr().out
    assert "".join(offline.split()) == "".join(live.out.split())


def test_a_model_that_cannot_says_so_in_a_line(
    tone_run: Path, pipe: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    pipe(b"")
    assert main(["transcribe", str(tone_run / "model"), "-", "--live"]) == 2
    assert "needs a model with one direction" in capsys.readouterr().err
