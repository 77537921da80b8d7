"""`asr export`."""

import importlib.util
import tempfile
from pathlib import Path
from typing import Literal

import click

from asr import corpus, transcription
from asr import model as models
from asr.cli.terminal import put, tell
from asr.errors import DataError, ModelError

_PATH = click.Path(path_type=Path)
_MOST_COST = 0.1  # points of WER


@click.command()
@click.argument("model", type=_PATH)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["onnx", "folder", "web"]),
    default="onnx",
    show_default=True,
    help="For ONNX Runtime, a model folder as training writes it, or a page for browsers.",
)
@click.option(
    "--quantize",
    type=click.Choice(["int8", "auto"]),
    help="int8: a quarter of the size, and onnx is faster, too; auto: if that costs less than 0.1 "
    "points of WER on --check.",
)
@click.option(
    "--input",
    "takes",
    type=click.Choice(["waveform", "features"]),
    help="What model.onnx takes, by default waveforms; sherpa-onnx wants features.",
)
@click.option(
    "--runtime", type=_PATH, help="For --format web: the npm package onnxruntime-web, unpacked."
)
@click.option(
    "--output", type=_PATH, help="Folder to write; by default MODEL-onnx or MODEL-folder."
)
@click.option("--check", type=_PATH, help="Manifest on which both models are scored.")
def export(
    model: Path,
    kind: str,
    quantize: str | None,
    takes: Literal["waveform", "features"] | None,
    runtime: Path | None,
    output: Path | None,
    check: Path | None,
) -> None:
    """Write MODEL as a folder that is transcribed by ONNX Runtime, without torch.

    Or, with --format folder, as another model folder, to be tuned or kept in less space; or, with
    --format web, as a site of static files that recognizes speech in the browser.

    The network that was written is compared with the trained one on random audio; float32 fails as
    ONNX if a log-probability differs by more than 0.0001 nats, or of itself where it is below -1,
    and by more than four times what rounding costs the trained one.
    """
    if kind != "onnx" and takes is not None:
        raise click.UsageError("--input says what model.onnx takes; it is for --format onnx")
    if quantize == "auto" and (kind != "onnx" or check is None):
        raise click.UsageError("--quantize auto is for --format onnx, and needs --check")
    if (kind == "web") != (runtime is not None):
        raise click.UsageError(
            "--format web needs --runtime, the unpacked npm package onnxruntime-web, and nothing "
            "else does"
        )
    if kind == "web" and check is not None:
        raise click.UsageError("--check: score the same network as --format onnx")
    output = output or model.absolute().with_name(f"{model.absolute().name}-{kind}")
    if kind != "folder":
        _need_packages()
    utterances = corpus.read_manifest(check) if check else None

    def write(output: Path, *, int8: bool) -> "models.export.ExportReport":
        if runtime is not None:
            return models.export.export_web(model, output, runtime=runtime, quantize=int8)
        if kind == "folder":
            return models.export.copy_model(model, output, int8=int8)
        return models.export.export_model(model, output, takes=takes or "waveform", quantize=int8)

    _tell_export(output, write(output, int8=quantize == "int8"))
    if utterances is None:
        return
    trained = _score("trained", model, utterances, str(check))
    exported = _score("exported", output, utterances, str(check))
    put(f"change       {exported - trained:+.2f} points")
    if quantize == "auto":
        with tempfile.TemporaryDirectory() as scratch:
            small = Path(scratch, "int8")
            try:
                write(small, int8=True)
            except ModelError as error:  # its cell has no such layers
                tell(f"float32 it is: {error}")
                return
            cost = round(_score("int8", small, utterances, str(check)) - exported, 2)
        put(f"int8 costs   {cost:+.2f} points")
        if cost < _MOST_COST:
            _tell_export(output, write(output, int8=True))


def _tell_export(output: Path, report: "models.export.ExportReport") -> None:
    put(f"exported     {output}, {report.num_bytes / 1e6:.1f} MB of networks")
    put(
        f"difference   {report.difference:.2g} nats at most, the best token the same in "
        f"{report.agreement:.2%} of steps (random audio)"
    )


def _score(name: str, folder: Path, utterances: "list[corpus.Utterance]", check: str) -> float:
    """Per cent of words wrong, which are shown."""
    recognizer = transcription.Recognizer.load(folder, device="cpu")
    evaluation = transcription.evaluate(recognizer, utterances, name=str(folder), test_set=check)
    for utterance, error in evaluation.failures:
        tell(f"{utterance}: {error}")
    if len(evaluation.failures) == len(utterances):
        raise DataError(f"{check}: none of it can be read, so there is nothing to compare")
    counts = evaluation.report.score.words
    rate = counts.rate or 0.0
    put(f"{name:<12} WER {rate:.2f} % of {counts.reference_length} words")
    return rate


def _need_packages() -> None:
    missing = [n for n in ("onnx", "onnxruntime") if importlib.util.find_spec(n) is None]
    if missing:
        raise click.UsageError(
            f"{' and '.join(missing)} not installed: pip install 'asr-recipes[export]'"
        )
