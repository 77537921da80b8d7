"""`asr export`."""

import importlib.util
from pathlib import Path
from typing import Literal

import click

from asr import corpus, transcription
from asr import model as models
from asr.cli.terminal import put, tell

_PATH = click.Path(path_type=Path)


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
    type=click.Choice(["int8"]),
    help="A quarter of the size; onnx is faster, too. See --check.",
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
    ONNX if a log-probability differs by more than 0.0001 nats, or of itself where it is below -1.
    """
    if kind != "onnx" and takes is not None:
        raise click.UsageError("--input says what model.onnx takes; it is for --format onnx")
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
    int8 = quantize is not None
    if kind == "onnx":
        report = models.export.export_model(model, output, takes=takes or "waveform", quantize=int8)
    elif runtime is not None:
        report = models.export.export_web(model, output, runtime=runtime, quantize=int8)
    else:
        report = models.export.copy_model(model, output, int8=int8)
    put(f"exported     {output}, {report.num_bytes / 1e6:.1f} MB of networks")
    put(
        f"difference   {report.difference:.2g} nats at most, the best token the same in "
        f"{report.agreement:.2%} of steps (random audio)"
    )
    if utterances is None:
        return
    rates = []
    for name, folder in (("trained", model), ("exported", output)):
        recognizer = transcription.Recognizer.load(folder, device="cpu")
        evaluation = transcription.evaluate(
            recognizer, utterances, name=str(folder), test_set=str(check)
        )
        for utterance, error in evaluation.failures:
            tell(f"{utterance}: {error}")
        counts = evaluation.report.score.words
        rates.append(counts.rate or 0.0)
        put(f"{name:<12} WER {rates[-1]:.2f} % of {counts.reference_length} words")
    put(f"change       {rates[1] - rates[0]:+.2f} points")


def _need_packages() -> None:
    missing = [n for n in ("onnx", "onnxruntime") if importlib.util.find_spec(n) is None]
    if missing:
        raise click.UsageError(
            f"{' and '.join(missing)} not installed: pip install 'asr-recipes[export]'"
        )
