"""An exported network that hears audio as it arrives."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.config import Config, TokenConfig
from asr.errors import ModelError
from asr.model import InferenceNetwork, open_network, read_model
from asr.model.export import encoder as onnx_encoder
from asr.model.export import export_model
from asr.model.folder import WEIGHTS, write_model
from asr.model.network import Network, write_weights
from asr.model.onnx import STEP, OnnxStream, StepGraph
from asr.server import load_models
from asr.text.tokens import build_tokens
from asr.transcription import Recognizer
from asr.transcription.rereading import RereadStream
from tests.tones import RATE

# Of features and of the encoder.
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lstm": ({"normalization": "global"}, {"cell": "lstm", "subsampling": 3}),
    "gru": ({"normalization": "running", "deltas": 1}, {"cell": "gru", "subsampling": 4}),
    "rnn": (
        {"normalization": "global", "kind": "mfcc", "convention": "sphinx", "deltas": 2},
        {"cell": "rnn", "subsampling": 2},
    ),
    "odd": (
        {"normalization": "none", "noise_floor_db": -60, "frame_shift_ms": 10.1},
        {"subsampling": 1},
    ),
}


def write_untrained(folder: Path, features: dict[str, Any], encoder: dict[str, Any]) -> Path:
    """A model folder of a random network, with outputs as decided as those of a trained one."""
    config = Config.model_validate(
        {
            "features": {"sample_rate": RATE, "num_mel_bins": 20, **features},
            "encoder": {
                "bidirectional": False, "hidden_size": 16, "num_layers": 2, "conv_channels": 12,
                **encoder,
            },
        }
    )  # fmt: skip
    tokens = build_tokens(["one two three four"], TokenConfig())
    torch.manual_seed(3)
    network = Network(config, len(tokens))
    network.encoder.output.weight.data *= 1.5
    bins = config.features.num_bins
    network.frontend.set_statistics(torch.linspace(2, 9, bins), torch.linspace(1, 3, bins))
    write_model(folder, config, tokens, {"seed": 3})
    write_weights(network.state_dict(), folder / WEIGHTS)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A `model` and what is `exported` of it, of each of `SETTINGS`; not to be changed."""
    made = {}
    for name, (features, encoder) in SETTINGS.items():
        made[name] = tmp_path_factory.mktemp(name)
        write_untrained(made[name] / "model", features, encoder)
        export_model(made[name] / "model", made[name] / "exported")
    return made


@pytest.fixture(scope="module")
def networks(folders: dict[str, Path]) -> dict[str, list[InferenceNetwork]]:
    """Trained and exported, of each of `SETTINGS`."""
    return {
        name: [opened(folder / "model"), opened(folder / "exported")]
        for name, folder in folders.items()
    }


@pytest.fixture
def exported(folders: dict[str, Path]) -> Path:
    """An exported folder, not to be changed."""
    return folders["lstm"] / "exported"


def opened(folder: Path) -> InferenceNetwork:
    return open_network(folder, read_model(folder), "cpu", 1)


def heard(network: InferenceNetwork, samples: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Log-probabilities of samples that arrive in portions."""
    stream = network.stream()
    portions = np.split(samples, np.minimum(np.cumsum(sizes), len(samples)))
    parts = [stream.accept(part) for part in portions]
    return np.concatenate([*parts, stream.accept(samples[:0], last=True)])


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(sorted(SETTINGS)),
    num_samples=st.integers(0, 5000),
    sizes=st.lists(st.sampled_from([0, 1, 79, 80, 81, 200, 800, 1500]), max_size=12),
)
def test_portions_give_what_the_trained_network_gives_of_them_and_of_the_whole(
    networks: dict[str, list[InferenceNetwork]],
    name: str,
    num_samples: int,
    sizes: list[int],
) -> None:
    trained, exported = networks[name]
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, num_samples).astype("f4")
    steps = heard(exported, samples, sizes)
    expected = heard(trained, samples, sizes)
    assert steps.shape == expected.shape
    assert steps == pytest.approx(expected, abs=1e-4)
    if num_samples >= 250:
        (whole,) = exported.log_probs([samples])
        assert steps == pytest.approx(whole, abs=1e-4)


def test_a_running_normalization_forgets(
    networks: dict[str, list[InferenceNetwork]],
) -> None:
    """Ten seconds, of which a frame sees three."""
    trained, exported = networks["gru"]
    levels = np.repeat([0.01, 0.5, 0.02, 0.1], 20_000)
    samples = (levels * np.random.default_rng(0).uniform(-1, 1, 80_000)).astype("f4")
    (whole,) = trained.log_probs([samples])
    assert heard(exported, samples, [700] * 90) == pytest.approx(whole, abs=1e-4)


def test_eight_bits_hear_portions(folders: dict[str, Path], tmp_path: Path) -> None:
    report = export_model(folders["lstm"] / "model", tmp_path / "small", quantize=True)
    assert 1e-4 < report.difference < 0.1
    kinds = [node.op_type for node in onnx.load(tmp_path / "small" / STEP).graph.node]
    assert kinds.count("DynamicQuantizeLSTM") == 2
    network = opened(tmp_path / "small")
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 9000).astype("f4")
    (expected,) = network.log_probs([samples])
    # Each portion is rounded by the largest value in it.
    assert heard(network, samples, [800] * 9) == pytest.approx(expected, abs=0.1)


def test_a_step_that_is_not_the_trained_one_is_refused(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = onnx_encoder.States.after
    monkeypatch.setattr(
        onnx_encoder.States,
        "after",
        lambda states, name, value: kept(states, name, name if name.startswith("cell") else value),
    )
    with pytest.raises(ModelError, match="log-probabilities of the exported network are up to"):
        export_model(folders["lstm"] / "model", tmp_path / "exported")


@pytest.mark.parametrize(
    ("features", "encoder", "cause"),
    [
        ({"normalization": "global"}, {"bidirectional": True}, "one direction; this one has two"),
        ({"normalization": "utterance"}, {}, "global or none; this model's is utterance"),
    ],
)
def test_what_needs_whole_utterances_has_no_step(
    tmp_path: Path, features: dict[str, Any], encoder: dict[str, Any], cause: str
) -> None:
    folder = write_untrained(tmp_path / "model", features, encoder)
    export_model(folder, tmp_path / "exported")
    assert not (tmp_path / "exported" / STEP).exists()
    with pytest.raises(ModelError, match=cause):
        opened(tmp_path / "exported").stream()


def without_a_state(graph: onnx.GraphProto) -> None:
    del graph.output[-1]


def without_last(graph: onnx.GraphProto) -> None:
    """A state stands where it is told whether samples are the last."""
    first, last, *others = [
        onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in graph.input
    ]
    del graph.input[:]
    graph.input.extend([first, *others, last])


def huge_state(graph: onnx.GraphProto) -> None:
    for values, name in ((graph.input, "more"), (graph.output, "next_more")):
        values.append(onnx.helper.make_tensor_value_info(name, 1, (1, 2**20, 2**20)))
    graph.node.append(onnx.helper.make_node("Identity", ["more"], ["next_more"]))


def flat_state(graph: onnx.GraphProto) -> None:
    for values, name in ((graph.input, "more"), (graph.output, "next_more")):
        values.append(onnx.helper.make_tensor_value_info(name, 1, (1, 2)))
    graph.node.append(onnx.helper.make_node("Identity", ["more"], ["next_more"]))


def growing_state(graph: onnx.GraphProto) -> None:
    """A state that becomes another's."""
    names = {node.output[0]: node for node in graph.node}
    names["next_hidden_0"].input[0] = names["next_window_0"].input[0]
    for value in graph.output:
        if value.name == "next_hidden_0":
            value.type.tensor_type.ClearField("shape")


def other_steps(graph: onnx.GraphProto) -> None:
    names = {node.output[0]: node for node in graph.node}
    names["num_steps"].input[0] = names["log_probs"].input[0]
    for value in graph.output:
        if value.name == "num_steps":
            value.type.tensor_type.elem_type = 1


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (without_a_state, "does not return the states that it takes"),
        (without_last, "takes or gives other values than an exported network does"),
        (huge_state, "'more' is no state of a network"),
        (flat_state, "'more' is no state of a network"),
        (growing_state, "gives arrays of other shapes"),
        (other_steps, "takes or gives other values than an exported network does"),
    ],
)
def test_a_step_of_strangers_is_refused_in_a_line(
    exported: Path, tmp_path: Path, change: Callable[[onnx.GraphProto], None], cause: str
) -> None:
    model, graph = read_model(exported), onnx.load(exported / STEP)
    change(graph.graph)
    (tmp_path / STEP).write_bytes(graph.SerializeToString())

    def run() -> None:
        step = StepGraph(tmp_path / STEP, len(model.tokens))
        OnnxStream(step, model.config).accept(np.zeros(4000, np.float32), last=True)

    with pytest.raises(ModelError, match=cause) as caught:
        run()
    assert "\n" not in str(caught.value)
    assert STEP in str(caught.value)


def test_a_step_of_other_tokens_is_refused(exported: Path) -> None:
    with pytest.raises(ModelError, match="tokens, but the token table has 3"):
        StepGraph(exported / STEP, 3)


def test_a_step_is_seen_to_end_before_it_is_run(exported: Path, tmp_path: Path) -> None:
    graph = onnx.load(exported / STEP)
    graph.graph.node[0].op_type = "Loop"
    (tmp_path / STEP).write_bytes(graph.SerializeToString())
    with pytest.raises(ModelError, match=r"step\.onnx: operator 'Loop' is not run"):
        StepGraph(tmp_path / STEP, 3)


def test_folders_of_older_versions_go_on_reading_files(exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "older"))
    (folder / STEP).unlink()
    network = opened(folder)
    assert len(network.log_probs([np.zeros(4000, np.float32)])[0])
    with pytest.raises(ModelError, match="export the model again"):
        network.stream()
    assert isinstance(Recognizer.load(folder).listen(), RereadStream)


def test_a_damaged_step_is_not_gone_around(exported: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "damaged"))
    content = (folder / STEP).read_bytes()
    (folder / STEP).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"step\.onnx"):
        Recognizer.load(folder).listen()
    with pytest.raises(ModelError, match=r"step\.onnx"):
        load_models([str(folder)])
