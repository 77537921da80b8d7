"""A trained model as ONNX, in a folder that transcribes without torch."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import onnx

from asr.config import Config
from asr.decoding import options, spotting
from asr.errors import ModelError
from asr.files import check_regular, open_atomic, read_file
from asr.model.arrival import can_stream
from asr.model.export.encoder import add_encoder
from asr.model.export.features import add_base, add_finish, add_noise_floor
from asr.model.export.graph import Graph, Shape
from asr.model.export.step import step_graph
from asr.model.export.trial import ExportReport, compare_networks, rounding_error
from asr.model.folder import (
    WEIGHTS,
    LoadedModel,
    is_exported,
    locate_model,
    read_model,
    write_model,
)
from asr.model.network import Network, read_network
from asr.model.onnx import FRONTEND, MODEL, STEP, OnnxNetwork
from asr.text import TokenTable
from asr.text import tokens as token_tables

Input = Literal["waveform", "features"]
_ROWS = ("batch",)
# By which a log-probability may differ from torch's: in nats, or of itself where it is below -1,
# since float32 rounds the log-probability of what is all but impossible more coarsely; or, in a
# network that makes more of rounding, so many times what torch's own differs from double precision,
# up to a bound.
_MOST_OFF, _MOST_ROUNDING, _MOST_AT_ALL = 1e-4, 4, 1e-2
_SYMBOLS = "symbols.txt"


def export_model(
    folder: Path, output: Path, *, takes: Input = "waveform", quantize: bool = False
) -> ExportReport:
    """Write a trained model, or a starter, as a model folder with ONNX in place of weights.

    Normalization by speaker becomes that by utterance.

    Args:
        takes: what the network's file takes: samples; or frames as Kaldi computes them, without
            deltas, noise and normalization, and the features stand in a file beside it.
        quantize: weights and products of the recurrent and output layers in 8 bit integers.

    Raises:
        ModelError: `folder` cannot be read or exported so, or what came out differs from it.
    """
    folder = locate_model(folder)
    model = read_model(folder)
    if (output / WEIGHTS).exists():
        raise ModelError(f"{output}: holds a trained model; name another folder")
    if output.is_dir() and any(output.iterdir()) and not is_exported(output):
        raise ModelError(f"{output}: is there already and no exported model; name another folder")
    if quantize and model.config.encoder.cell != "lstm":
        raise ModelError(
            f"{folder}: its cell is {model.config.encoder.cell}, and ONNX Runtime has 8 bit "
            "layers for lstm only; leave out --quantize"
        )
    torch_network = read_network(folder / WEIGHTS, model.config, len(model.tokens), "cpu")
    with tempfile.TemporaryDirectory() as scratch:
        trial = Path(scratch)
        for name, graph in _graphs(torch_network.network, model, takes, quantize).items():
            onnx.save(graph, trial / name)
        exported_config = _as_exported(model.config)
        exported_network = OnnxNetwork(trial, exported_config, len(model.tokens))
        report = compare_networks(torch_network, exported_network, model.config, trial)
        if not quantize and not report.difference <= _MOST_OFF:
            rounding = _MOST_ROUNDING * rounding_error(torch_network, model.config)
            most = min(max(_MOST_OFF, rounding), _MOST_AT_ALL)
            if not report.difference <= most:
                raise ModelError(
                    f"{folder}: log-probabilities of the exported network are up to "
                    f"{report.difference:.2g} from the trained one's; more than {most:.2g} is wrong"
                )
        exported = {
            "input": takes,
            "numbers": "int8" if quantize else "float32",
            "largest_difference": report.difference,
        }
        write_model(
            output,
            exported_config,
            model.tokens,
            {**model.training, "exported": exported},
        )
        _copy_decoding(folder, output)
        if takes == "features":
            write_symbols(model.tokens, output / _SYMBOLS)
        for path in trial.iterdir():
            with open_atomic(output / path.name, "wb") as file:
                file.write(read_file(path, 2**32))
    return report


def write_symbols(tokens: TokenTable, path: Path) -> None:
    """A token table as other programs read it: `symbol id` lines, "▁" for a space."""
    with open_atomic(path) as file:
        for token, symbol in enumerate(tokens.symbols):
            file.write(f"{token_tables.WORD_START if symbol == ' ' else symbol} {token}\n")


def _graphs(
    network: Network, model: LoadedModel, takes: Input, quantize: bool
) -> Mapping[str, onnx.ModelProto]:
    frontend, config, num_tokens = network.frontend, model.config, len(model.tokens)
    base_shape: Shape = ("batch", "frame", config.features.num_base_bins)
    inputs: dict[str, Shape] = {"waveforms": ("batch", "sample"), "num_samples": _ROWS}
    graphs = {}
    graph = Graph()
    if takes == "waveform":
        base, num_frames = add_base(graph, frontend, "waveforms", "num_samples")
    else:
        alone = Graph()
        outputs = add_base(alone, frontend, "waveforms", "num_samples")
        described = {"features": (outputs[0], base_shape), "num_frames": (outputs[1], _ROWS)}
        graphs[FRONTEND] = alone.model(inputs, described, {})
        inputs = {"features": base_shape, "num_frames": _ROWS}
        base, num_frames = "features", "num_frames"
    stored = add_noise_floor(graph, frontend, base) if config.features.kind == "fbank" else base
    features = add_finish(graph, frontend, stored, num_frames)
    of_features = [node.name for node in graph.nodes]
    log_probs, num_steps = add_encoder(graph, network.encoder, features, num_frames)
    graphs[MODEL] = graph.model(
        inputs,
        {
            "log_probs": (log_probs, ("batch", "step", num_tokens)),
            "num_steps": (num_steps, _ROWS),
        },
        # What sherpa-onnx asks of a WeNet CTC model.
        {
            "model_type": "asr_ctc",
            "vocab_size": str(num_tokens),
            "subsampling_factor": str(config.encoder.subsampling),
        },
    )
    if quantize:
        graphs[MODEL] = _quantized(graphs[MODEL], of_features)
    if can_stream(config.features, config.encoder):
        graphs[STEP], of_features = step_graph(network, num_tokens)
        if quantize:
            graphs[STEP] = _quantized(graphs[STEP], of_features)
    return graphs


def _quantized(model: onnx.ModelProto, left: list[str]) -> onnx.ModelProto:
    """The same with 8 bit recurrent and linear layers; the nodes `left` stay as they are."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch, "float32.onnx"), Path(scratch, "int8.onnx")
        onnx.save(model, source)
        logging.disable(logging.WARNING)  # it recommends steps that this graph has no need of
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["LSTM", "MatMul"],
            nodes_to_exclude=left,
            weight_type=QuantType.QInt8,
        )
        logging.disable(logging.NOTSET)
        return onnx.load(check_regular(target))


def _as_exported(config: Config) -> Config:
    """The same, but that the graph knows nothing of speakers and normalizes by utterance."""
    if config.features.normalization != "speaker":
        return config
    features = config.features.model_copy(update={"normalization": "utterance"})
    return config.model_copy(update={"features": features})


def _copy_decoding(folder: Path, output: Path) -> None:
    spotting.copy_thresholds(folder, output)
    if not options.has_decoding(folder):
        return
    # A neural language model would bring torch along; without it its share is the n-gram's.
    decoding = options.read_decoding(folder).model_copy(update={"neural_share": 0.0})
    options.write_decoding(
        output,
        decoding,
        lm=folder / decoding.lm if decoding.lm else None,
        lexicon=folder / decoding.lexicon if decoding.lexicon else None,
    )
