"""`asr transcribe` and `asr evaluate`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from asr.errors import AsrError
from asr.files import open_atomic

_F = TypeVar("_F", bound=Callable[..., object])
_DEVICE = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
_THREADS = click.option("--threads", type=click.IntRange(min=1), help="Processor threads to use.")
_KINDS = ("txt", "json", "srt", "vtt", "tsv", "ctm", "trn")
_FILE = click.Path(path_type=Path)
_DECODING = (
    click.option("--beam", type=click.IntRange(min=1), help="Prefixes kept; 1 is the best path."),
    click.option("--nbest", type=click.IntRange(min=1), help="Readings in json output."),
    click.option("--lm", type=_FILE, help="Language model: ARPA, or what `asr lm` stores."),
    click.option("--lm-weight", type=click.FloatRange(min=0), help="On the language model."),
    click.option("--word-bonus", type=float, help="Added for each word, in nats."),
    click.option("--lexicon", type=_FILE, help="Only these words: `word token token ...` lines."),
    click.option("--hotwords", type=_FILE, help="Words to prefer: `word weight` lines."),
)


def _decoding_options(command: _F) -> _F:
    """Give a command the options of decoding; they come as keywords of `DecodingOptions`."""
    for option in reversed(_DECODING):
        command = option(command)
    return command


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "--format",
    "formats",
    default="txt",
    help="Of txt, json, srt, vtt, tsv, ctm, trn; several with commas.",
)
@click.option("--output-dir", type=click.Path(path_type=Path), help="Folder for the results.")
@click.option("--recursive", is_flag=True, help="Look into the folders of folders.")
@click.option("--skip-existing", is_flag=True, help="Leave out inputs whose results are there.")
@_decoding_options
@_DEVICE
@_THREADS
def transcribe(
    model: Path,
    inputs: tuple[str, ...],
    formats: str,
    output_dir: Path | None,
    recursive: bool,
    skip_existing: bool,
    device: str,
    threads: int | None,
    **decoding: Any,
) -> int:
    """Turn audio files, folders of them, patterns or manifests into text.

    One input prints its text; several print a line each, `path<TAB>text`. Failed inputs are
    listed in failures.tsv (in the output folder, or here), and the exit code is 1.
    """
    kinds = _check_formats(formats, output_dir, skip_existing)
    recognizer = _load(model, device, threads, decoding)
    from asr import transcription
    from asr.output_formats import FORMATS
    from asr.progress import track

    utterances, failures = transcription.find_inputs(inputs, recursive=recursive)
    if output_dir is None and len(utterances) > 1 and kinds[0] in ("srt", "vtt", "tsv"):
        raise click.UsageError(f"--format {kinds[0]} of several inputs needs --output-dir")
    single = len(inputs) == 1 and [u.audio_filepath for u in utterances] == [Path(inputs[0])]
    for name, error in failures:
        _complain(name, error)
    failed: list[tuple[str, Exception]] = list(failures)
    stems = transcription.output_stems(utterances)
    if skip_existing and output_dir is not None:
        utterances = [
            utterance
            for utterance in utterances
            if not all(_result_path(output_dir, stems[utterance.id], k).exists() for k in kinds)
        ]
    results = recognizer.transcribe_utterances(utterances)
    for utterance, result in track(
        results, total=len(utterances), label="transcribing", unit="files"
    ):
        if isinstance(result, AsrError):
            failed.append((utterance.id, result))
            _complain(utterance.id, result)
            continue
        for warning in result.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        for kind in kinds:
            text = FORMATS[kind](utterance, result)
            if output_dir is not None:
                with open_atomic(_result_path(output_dir, stems[utterance.id], kind)) as file:
                    file.write(text)
            elif single or kind != "txt":
                print(text, end="", flush=True)
            else:
                print(f"{utterance.id}\t{text}", end="", flush=True)
    return _report_failures(failed, len(utterances) + len(failures), output_dir)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--output-dir", type=click.Path(path_type=Path), help="Folder for the results.")
@_decoding_options
@_DEVICE
@_THREADS
def evaluate(
    model: Path,
    manifest: Path,
    output_dir: Path | None,
    device: str,
    threads: int | None,
    **decoding: Any,
) -> int:
    """Transcribe the utterances of MANIFEST and score them against its texts.

    An utterance that cannot be read counts as deletions, is listed in failures.tsv, and makes the
    exit code 1.
    """
    from asr.manifest import read_manifest

    utterances = read_manifest(manifest)
    recognizer = _load(model, device, threads, decoding)
    from asr.evaluation import evaluate as evaluate_model
    from asr.evaluation import write_evaluation

    evaluation = evaluate_model(recognizer, utterances, name=str(model), test_set=manifest.name)
    if output_dir is not None:
        write_evaluation(evaluation, utterances, recognizer, output_dir)
    for name, error in evaluation.failures:
        _complain(name, error)
    print(evaluation.summary(), end="")
    return _report_failures(list(evaluation.failures), len(utterances), output_dir)


def _check_formats(formats: str, output_dir: Path | None, skip_existing: bool) -> list[str]:
    kinds = formats.split(",")
    for kind in kinds:
        if kind not in _KINDS:
            raise click.UsageError(f"--format {kind}: one of {', '.join(_KINDS)} is expected")
    if output_dir is None and len(kinds) > 1:
        raise click.UsageError("several formats need --output-dir")
    if output_dir is None and skip_existing:
        raise click.UsageError("--skip-existing needs --output-dir")
    return kinds


def _load(model: Path, device: str, threads: int | None, decoding: dict[str, Any]):  # type: ignore[no-untyped-def]
    # A wrong path is said before anything takes its time to be imported.
    if not (model / "config.yaml").is_file():
        raise click.UsageError(f"{model}: not a model folder (it has no config.yaml)")
    from asr.model_folder import DecodingOptions
    from asr.recognizer import Recognizer

    options = DecodingOptions(**decoding)
    recognizer = Recognizer.load(model, device=device, threads=threads, decoding=options)
    for warning in recognizer.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return recognizer


def _result_path(output_dir: Path, stem: Path, kind: str) -> Path:
    return output_dir / stem.with_name(f"{stem.name}.{kind}")


def _complain(name: str, error: Exception) -> None:
    message = " ".join(str(error).split())
    print(message if name in message else f"{name}: {message}", file=sys.stderr)


def _report_failures(
    failed: list[tuple[str, Exception]], num_inputs: int, output_dir: Path | None
) -> int:
    from asr.transcription import failure_lines

    path = (output_dir or Path()) / "failures.tsv"
    if not failed:
        if output_dir is not None:
            path.unlink(missing_ok=True)
        return 0
    with open_atomic(path) as file:
        file.writelines(failure_lines(failed))
    print(f"{len(failed)} of {num_inputs} inputs failed: see {path}", file=sys.stderr)
    return 1
