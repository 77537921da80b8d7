"""`asr export`."""

import importlib.util
from pathlib import Path

import click

from asr import corpus, transcription
from asr import model as models
from asr.cli.terminal import put, tell

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=_PATH)
@click.option("--format", "kind", type=click.Choice(["onnx"]), default="onnx", show_default=True)
@click.option("--quantize", type=click.Choice(["int8"]), help="Smaller and faster; see --check.")
@click.option(
    "--input",
    "takes",
    type=click.Choice(["waveform", "features"]),
    default="waveform",
    show_default=True,
    help="What the network's file takes; sherpa-onnx wants features.",
)
@click.option("--output", type=_PATH, help="Folder to write; by default MODEL-onnx.")
@click.option("--check", type=_PATH, help="Manifest on which both models are scored.")
def export(
    model: Path,
    kind: str,
    quantize: str | None,
    takes: str,
    output: Path | None,
    check: Path | None,
) -> None:
    """Write MODEL as a folder that is transcribed by ONNX Runtime, without torch.

    The exported network is compared with the trained one on random audio; float32 fails if a
    log-probability differs by more than 0.0001 nats, or of itself where it is below -1.
    """
    output = output or model.absolute().with_name(f"{model.absolute().name}-{kind}")
    _need_packages()
    utterances = corpus.read_manifest(check) if check else None
    report = models.export.export_model(model, output, takes=takes, quantize=quantize is not None)  # type: ignore[arg-type]
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
