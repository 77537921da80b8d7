import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from asr.audio import read_audio
from asr.cli import main
from asr.config import Config, DecodingConfig, TokenConfig
from asr.decoding.options import read_decoding, write_decoding
from asr.errors import ModelError
from asr.model.export import encoder as onnx_encoder
from asr.model.export import export as onnx_export
from asr.model.export import features as onnx_features
from asr.model.export.export import export_model
from asr.model.export.trial import rounding_error
from asr.model.folder import WEIGHTS, read_model, write_model
from asr.model.network import Network, read_network, write_weights
from asr.model.onnx import MODEL
from asr.text.tokens import build_tokens
from asr.transcription.recognizer import Recognizer
from tests.tones import RATE, write_corpus

Folders = Callable[..., Path]
ENCODER = {"hidden_size": 16, "num_layers": 2, "conv_channels": 12, "subsampling": 3}
FEATURES = {"sample_rate": RATE, "num_mel_bins": 20}
SPHINX = {"convention": "sphinx", "kind": "mfcc", "low_freq": 130, "normalization": "none"}


@pytest.fixture
def untrained(tmp_path: Path) -> Folders:
    """Model folders of random networks, with outputs as decided as those of a trained one."""

    def write(features: dict[str, Any] = FEATURES, **encoder: Any) -> Path:
        folder = tmp_path / "model"
        config = Config.model_validate({"features": features, "encoder": {**ENCODER, **encoder}})
        tokens = build_tokens(["one two three four"], TokenConfig())
        torch.manual_seed(3)
        network = Network(config, len(tokens))
        network.encoder.output.weight.data *= 1.5
        bins = config.features.num_bins
        network.frontend.set_statistics(torch.linspace(2, 9, bins), torch.linspace(1, 3, bins))
        write_model(folder, config, tokens, {"seed": 3})
        write_weights(network.state_dict(), folder / WEIGHTS)
        return folder

    return write


def noises(*lengths: int) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    return [0.1 * random.standard_normal(length).astype(np.float32) for length in lengths]


def largest_difference(one: Recognizer, other: Recognizer, inputs: list[np.ndarray]) -> float:
    pairs = zip(one.log_probs(inputs), other.log_probs(inputs), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


@pytest.mark.parametrize("takes", ["waveform", "features"])
@pytest.mark.parametrize(
    ("features", "encoder"),
    [
        pytest.param(FEATURES, {}, id="lstm"),
        pytest.param({**FEATURES, "deltas": 2}, {"cell": "gru", "subsampling": 4}, id="gru"),
        pytest.param({**FEATURES, "noise_floor_db": -60}, {"cell": "rnn"}, id="rnn, noise floor"),
        pytest.param(
            {**FEATURES, "normalization": "global"}, {"bidirectional": False}, id="one direction"
        ),
        pytest.param({**FEATURES, **SPHINX, "deltas": 1}, {"subsampling": 1}, id="sphinx"),
        pytest.param({**FEATURES, "normalization": "speaker"}, {}, id="by speaker"),
        pytest.param({**FEATURES, "normalization": "running"}, {"cell": "gru"}, id="running"),
        pytest.param({**FEATURES, "normalization": "sliding", "deltas": 1}, {}, id="sliding"),
        pytest.param({"sample_rate": 11025, "frame_shift_ms": 10.1}, {}, id="odd frames"),
    ],
)
def test_an_exported_network_is_the_trained_one(
    untrained: Folders, tmp_path: Path, takes: Any, features: dict[str, Any], encoder: Any
) -> None:
    folder = untrained(features, **encoder)
    report = export_model(folder, tmp_path / "exported", takes=takes)
    assert report.difference < 1e-4
    trained = Recognizer.load(folder, device="cpu", threads=1)
    exported = Recognizer.load(tmp_path / "exported", threads=2)
    shortest = trained.config.features.frame_length
    inputs = noises(9 * RATE // 10, shortest, 3 * RATE, shortest + 81, RATE + 1)
    assert largest_difference(trained, exported, inputs) < 1e-4
    assert largest_difference(trained, exported, inputs[1:2]) < 1e-4
    if takes == "features":
        width = trained.config.features.num_base_bins
        frames = [12 + 20 * values for values in noises(50 * width, width, 7 * width)]
        frames = [values.reshape(-1, width) for values in frames]
        assert largest_difference(trained, exported, frames) < 1e-4


def furthest(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """Largest difference of log-probabilities: in nats, of themselves where they are below -1."""
    pairs = zip(one, other, strict=True)
    return max(float(np.max(np.abs(a - b) / np.maximum(1, np.abs(b)))) for a, b in pairs)


@pytest.mark.parametrize(
    "features",
    [
        pytest.param({}, id="utterance"),
        pytest.param({"normalization": "global"}, id="global"),
        pytest.param({"normalization": "sliding", "deltas": 1}, id="sliding"),
        pytest.param({"kind": "mfcc", "deltas": 2}, id="cepstra"),
        pytest.param({"noise_floor_db": -50}, id="noise floor"),
    ],
)
def test_real_speech_gives_the_same_alone_in_a_batch_and_exported(
    untrained: Folders, tmp_path: Path, corpora: Path, features: dict[str, Any]
) -> None:
    """Also cut in silence, where little varies and what does is large once it is normalized."""
    folder = untrained({**FEATURES, **features})
    export_model(folder, tmp_path / "exported")
    trained = Recognizer.load(folder, device="cpu", threads=1)
    exported = Recognizer.load(tmp_path / "exported", threads=1)
    paths = sorted((corpora / "yesno").rglob("*.wav"))[:10]
    speech = [read_audio(path, sample_rate=RATE).samples for path in paths]
    inputs = [*speech, *(samples[:RATE] for samples in speech)]
    inputs += [np.zeros(count, np.float32) for count in (RATE, 3 * RATE)]
    alone = [trained.log_probs([samples])[0] for samples in inputs]
    assert furthest(trained.log_probs(inputs), alone) < 1e-5
    assert furthest(exported.log_probs(inputs), alone) < 1e-3
    assert furthest(exported.log_probs(speech), alone[: len(speech)]) < 1e-4


def test_an_exported_network_that_is_not_the_trained_one_is_refused(
    untrained: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(onnx_encoder._GATES, "lstm", (0, 1, 2, 3))
    with pytest.raises(ModelError, match="log-probabilities of the exported network are up to"):
        export_model(untrained(), tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_what_rounding_costs_the_trained_network_is_let_be(
    untrained: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "_MOST_OFF", 0.0)
    report = export_model(untrained(), tmp_path / "exported")
    assert 0 < report.difference < 1e-5
    monkeypatch.setattr(onnx_export, "_MOST_ROUNDING", 1e-3)
    with pytest.raises(ModelError, match="is wrong"):
        export_model(untrained(), tmp_path / "again")


@pytest.mark.parametrize(
    "features", [{}, {"kind": "mfcc", "convention": "sphinx"}, {"normalization": "running"}]
)
def test_the_rounding_error_is_what_float32_makes_of_a_network(
    features: dict[str, Any], untrained: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = untrained({**FEATURES, **features})
    model = read_model(folder)
    trained = read_network(folder / WEIGHTS, model.config, len(model.tokens), "cpu")
    assert 1e-8 < rounding_error(trained, model.config) < 1e-4
    log_probs = trained.log_probs
    # Added to a number below -1 it counts less, by as much as that is below.
    monkeypatch.setattr(trained, "log_probs", lambda inputs: [log_probs(inputs)[0] + 0.01])
    assert rounding_error(trained, model.config) == pytest.approx(0.01, rel=0.05)


def test_wrong_features_are_noticed(
    untrained: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_features, "PREEMPHASIS", 0.95)
    with pytest.raises(ModelError, match=r"more than 0\.0001 is wrong"):
        export_model(untrained(), tmp_path / "exported")


def test_eight_bits_are_smaller_and_nearly_the_same(untrained: Folders, tmp_path: Path) -> None:
    folder = untrained(hidden_size=64)
    whole = export_model(folder, tmp_path / "whole")
    report = export_model(folder, tmp_path / "small", quantize=True)
    assert report.num_bytes < 0.6 * whole.num_bytes
    assert report.difference > 1e-4
    assert report.agreement > 0.9
    kinds = [node.op_type for node in onnx.load(tmp_path / "small" / MODEL).graph.node]
    assert kinds.count("DynamicQuantizeLSTM") == 2
    # Those of the features stay exact.
    assert kinds.count("MatMul") == 3


def test_eight_bits_of_another_cell_are_refused(untrained: Folders, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="its cell is gru"):
        export_model(untrained(cell="gru"), tmp_path / "exported", quantize=True)


def test_a_folder_of_the_users_is_not_written_to(untrained: Folders, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("config.yaml", MODEL):
        (docs / name).write_text("mine")
    with pytest.raises(ModelError, match="docs: is there already and no exported model"):
        export_model(untrained(), docs)
    assert {path.name for path in docs.iterdir()} == {"config.yaml", MODEL}
    assert (docs / "config.yaml").read_text() == "mine"
    for _ in range(2):
        export_model(untrained(), tmp_path / "exported")


def test_a_trained_model_is_not_written_over(untrained: Folders) -> None:
    folder = untrained()
    with pytest.raises(ModelError, match="holds a trained model"):
        export_model(folder, folder)


def test_decoding_goes_with_the_model(untrained: Folders, tmp_path: Path) -> None:
    folder = untrained()
    lexicon = tmp_path / "words.txt"
    lexicon.write_text("two t w o\none o n e\n", encoding="utf-8")
    write_decoding(folder, DecodingConfig(beam=256, word_bonus=20), lexicon=lexicon)
    export_model(folder, tmp_path / "exported")
    assert read_decoding(tmp_path / "exported") == read_decoding(folder)
    (samples,) = noises(RATE)
    expected = Recognizer.load(folder, device="cpu").transcribe(samples, sample_rate=RATE)
    found = Recognizer.load(tmp_path / "exported").transcribe(samples, sample_rate=RATE)
    assert found.text == expected.text != ""
    assert [word.start for word in found.words] == [word.start for word in expected.words]


_WITHOUT_TORCH = """
import sys
from asr.cli import main
code = main(sys.argv[1:])
from importlib.metadata import packages_distributions
packages = {name.partition(".")[0] for name in sys.modules}
names = {name for top in packages for name in packages_distributions().get(top, ())}
print(*sorted(names), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("takes", ["waveform", "features"])
def test_an_exported_folder_transcribes_without_torch(
    untrained: Folders, tmp_path: Path, takes: Any
) -> None:
    folder = untrained()
    export_model(folder, tmp_path / "exported", takes=takes)
    files = [u.audio_filepath for u in write_corpus(tmp_path / "audio", 3, seed=1)]
    arguments = ["transcribe", str(tmp_path / "exported"), *map(str, files), "--format", "json"]
    result = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(result.stderr.splitlines()[-1].split())
    assert not imported & {"torch", "torchaudio", "lightning", "librosa", "numba", "onnx"}
    lock = (Path(__file__).parents[2] / "requirements-runtime.lock").read_text(encoding="utf-8")
    locked = re.findall(r"^([a-z-]+)==", lock, re.MULTILINE)
    assert "onnxruntime" in imported
    assert {name.lower().replace("_", "-") for name in imported} <= {
        *locked,
        "asr",
        "asr-recipes",
        "setuptools",
    }
    recognizer = Recognizer.load(folder, device="cpu")
    for path in files:
        text = recognizer.transcribe(path).text
        assert len(text) > 1
        assert json.dumps(text) in result.stdout


def test_audio_is_all_that_a_waveform_model_takes(untrained: Folders, tmp_path: Path) -> None:
    export_model(untrained(), tmp_path / "exported")
    with pytest.raises(Exception, match="--input features"):
        Recognizer.load(tmp_path / "exported").log_probs([np.zeros((9, 20), np.float32)])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param(MODEL, b"", "not an ONNX model", id="empty"),
        pytest.param(MODEL, b"\x80\x04pickle", "truncated", id="no ONNX"),
        pytest.param("tokens.txt", b"<blank>\na\n", "but the token table has 2", id="tokens"),
    ],
)
def test_a_damaged_export_is_named(
    untrained: Folders, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    export_model(untrained(), tmp_path / "exported")
    (tmp_path / "exported" / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        Recognizer.load(tmp_path / "exported")
    assert str(tmp_path / "exported") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_exported_model_does_not_run_on_a_gpu(untrained: Folders, tmp_path: Path) -> None:
    export_model(untrained(), tmp_path / "exported")
    with pytest.raises(ModelError, match="not on cuda"):
        Recognizer.load(tmp_path / "exported", device="cuda")


def small_manifest(folder: Path) -> Path:
    """Of three utterances."""
    lines = []
    for utterance in write_corpus(folder / "audio", 3, seed=1):
        row = {
            "id": utterance.id,
            "audio_filepath": str(utterance.audio_filepath),
            "duration": utterance.duration,
            "text": "one two",
        }
        lines.append(json.dumps(row) + "\n")
    manifest = folder / "dev.jsonl"
    manifest.write_text("".join(lines), encoding="utf-8")
    return manifest


def test_export_shows_what_eight_bits_cost(
    untrained: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, manifest = untrained(), small_manifest(tmp_path)
    output = tmp_path / "exported"
    arguments = ["export", str(folder), "--quantize", "int8", "--output", str(output)]
    assert main([*arguments, "--check", str(manifest)]) == 0
    out = capsys.readouterr().out
    rates = [float(line.split()[2]) for line in out.splitlines() if " WER " in line]
    assert len(rates) == 2
    assert f"change       {rates[1] - rates[0]:+.2f} points" in out
    assert main(["show", str(output)]) == 0
    shown = capsys.readouterr().out
    assert f"network      {MODEL}, " in shown
    assert "numbers int8" in shown


@pytest.mark.parametrize(
    ("wer", "numbers"),
    [(5.0, "int8"), (5.09, "int8"), (5.1, "float32"), (7.0, "float32"), (4.0, "int8")],
)
def test_eight_bits_are_taken_where_they_cost_less_than_a_tenth_of_a_point(
    wer: float,
    numbers: str,
    untrained: Folders,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output, manifest = tmp_path / "exported", small_manifest(tmp_path)
    found = {"trained": 4.0, "exported": 5.0, "int8": wer}
    monkeypatch.setattr("asr.cli.export._score", lambda name, *_: found[name])
    arguments = ["export", str(untrained()), "--output", str(output), "--quantize", "auto"]
    assert main([*arguments, "--check", str(manifest)]) == 0
    assert f"int8 costs   {wer - 5:+.2f} points" in capsys.readouterr().out
    assert main(["show", str(output)]) == 0
    assert f"numbers {numbers}" in capsys.readouterr().out


def test_a_network_without_layers_of_eight_bits_stays_as_it_is(
    untrained: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, manifest = tmp_path / "exported", small_manifest(tmp_path)
    arguments = ["export", str(untrained(cell="gru")), "--output", str(output)]
    assert main([*arguments, "--quantize", "auto", "--check", str(manifest)]) == 0
    assert "float32 it is: " in capsys.readouterr().err
    assert main(["show", str(output)]) == 0
    assert "numbers float32" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["--check", "dev.jsonl", "--format", "folder"]])
def test_eight_bits_are_weighed_by_a_check_and_for_onnx(
    arguments: list[str], untrained: Folders, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(untrained()), "--quantize", "auto", *arguments]) == 2
    assert "--quantize auto is for --format onnx, and needs --check" in capsys.readouterr().err


def test_a_check_of_which_nothing_can_be_read_compares_nothing(
    untrained: Folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = small_manifest(tmp_path)
    for path in (tmp_path / "audio").glob("*.wav"):
        path.write_bytes(b"no audio")
    arguments = ["export", str(untrained()), "--output", str(tmp_path / "exported")]
    assert main([*arguments, "--quantize", "auto", "--check", str(manifest)]) == 2
    assert "none of it can be read" in capsys.readouterr().err
    assert main(["show", str(tmp_path / "exported")]) == 0
    assert "numbers float32" in capsys.readouterr().out


def test_without_a_folder_it_is_written_beside_the_model(untrained: Folders) -> None:
    folder = untrained()
    assert main(["export", str(folder), "--format", "onnx"]) == 0
    assert (folder.with_name("model-onnx") / MODEL).is_file()


def sherpa_text(folder: Path, config: Config, path: Path, **features: Any) -> str:
    """What sherpa-onnx reads in a file with an exported model as its WeNet CTC model."""
    sherpa_onnx = pytest.importorskip("sherpa_onnx")
    recognizer = sherpa_onnx.OfflineRecognizer.from_wenet_ctc(
        model=str(folder / MODEL),
        tokens=str(folder / "symbols.txt"),
        sample_rate=config.features.sample_rate,
        feature_dim=config.features.num_mel_bins,
    )
    if features:
        changed = recognizer.config
        for name, value in features.items():
            setattr(changed.feat_config, name, value)
        recognizer.recognizer = type(recognizer.recognizer)(changed)
    import soundfile

    samples, rate = soundfile.read(path, dtype="float32")
    stream = recognizer.create_stream()
    stream.accept_waveform(rate, samples)
    recognizer.decode_stream(stream)
    text: str = stream.result.text
    return " ".join(text.split())


def test_sherpa_onnx_reads_the_same_text(tone_run: Path, tmp_path: Path) -> None:
    """A trained model: the choices of a random one are closer than two programs' rounding."""
    output = tmp_path / "exported"
    export_model(tone_run / "model", output, takes="features")
    recognizer = Recognizer.load(tone_run / "model", device="cpu")
    # Its frames lie at other places and its filters end lower unless it is told.
    ours = {"snip_edges": True, "high_freq": 0.0, "low_freq": 20.0}
    for utterance in write_corpus(tmp_path / "speech", 12, seed=4):
        text = recognizer.transcribe(utterance.audio_filepath).text
        assert text
        assert sherpa_text(output, recognizer.config, utterance.audio_filepath, **ours) == text
