"""A trained model as another model folder, whose weights may take a quarter of the space."""

import tempfile
from pathlib import Path

from asr.decoding import options, spotting
from asr.errors import ModelError
from asr.model.export.trial import ExportReport, compare_networks
from asr.model.folder import WEIGHTS, locate_model, read_model, write_model
from asr.model.network import read_network, write_weights
from asr.model.quantization import quantize


def copy_model(folder: Path, output: Path, *, int8: bool = False) -> ExportReport:
    """Write a trained model, or a starter, into a new model folder.

    It is used like the first: to transcribe, to tune, to start training from.

    Args:
        int8: store matrices as 8 bit integers (`asr.model.quantization`); else as float32.

    Raises:
        ModelError: `folder` cannot be read, or `output` is there already.
    """
    folder = locate_model(folder)
    model = read_model(folder)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ModelError(f"{output}: is there already; name a folder that is not")
    trained = read_network(folder / WEIGHTS, model.config, len(model.tokens), "cpu")
    weights = trained.network.state_dict()
    with tempfile.TemporaryDirectory() as scratch:
        trial = Path(scratch)
        write_weights(quantize(weights) if int8 else weights, trial / WEIGHTS)
        written = read_network(trial / WEIGHTS, model.config, len(model.tokens), "cpu")
        report = compare_networks(trained, written, model.config, trial)
        numbers = "int8" if int8 else "float32"
        write_model(output, model.config, model.tokens, {**model.training, "numbers": numbers})
        _copy_decoding(folder, output)
        # Last: without it the folder is no model.
        write_weights(quantize(weights) if int8 else weights, output / WEIGHTS)
    return report


def _copy_decoding(folder: Path, output: Path) -> None:
    spotting.copy_thresholds(folder, output)
    if not options.has_decoding(folder):
        return
    decoding = options.read_decoding(folder)
    paths = {
        name: folder / value if (value := getattr(decoding, name)) else None
        for name in ("lm", "lexicon", "neural_lm")
    }
    options.write_decoding(output, decoding, **paths)
