"""`asr align`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from asr import transcription
from asr.cli.transcription import check_formats, load_recognizer, run_job, stopped_by_sigterm
from asr.errors import AsrError, DataError

_FORMATS = ("textgrid", "ctm", "srt", "vtt", "elan", "json", "tsv")
_MOST_BYTES = 100_000_000  # of a text; the longest books have six million


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="AUDIO TEXT | INPUT...", nargs=-1, required=True)
@click.option(
    "--format",
    "formats",
    default="textgrid",
    show_default=True,
    help=f"Of {', '.join(_FORMATS)}; several with commas.",
)
@click.option("--output-dir", type=click.Path(path_type=Path), help="Folder for the results.")
@click.option("--normalizer", default="basic", show_default=True, help="Of words as written.")
@click.option("--recursive", is_flag=True, help="Look into the folders of folders.")
@click.option("--skip-existing", is_flag=True, help="Leave out inputs whose results are there.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads to use.")
def align(
    model: Path,
    inputs: tuple[str, ...],
    formats: str,
    output_dir: Path | None,
    normalizer: str,
    recursive: bool,
    skip_existing: bool,
    device: str,
    threads: int | None,
) -> int:
    """Find where the words of a known text are said, to a hundredth of a second.

    AUDIO TEXT is a recording and a file with its text. INPUT is a file, folder, pattern or
    manifest, as for `asr transcribe`; a recording's text is the manifest's, or in the file beside
    it that ends in .txt. Recordings that are aligned together help one another. One without output
    folder is printed; several need one. Failed inputs are listed in failures.tsv, and the exit
    code is 1.
    """
    kinds = check_formats(formats, _FORMATS, output_dir, skip_existing)
    recognizer = load_recognizer(model, device, threads, {})
    aligner = transcription.aligner.Aligner(recognizer, normalizer)
    sources, failures = _find_texts(inputs, recursive)
    if output_dir is None and len(sources) + len(failures) > 1:
        raise click.UsageError("several inputs need --output-dir")
    folder = None if output_dir is None else transcription.ResultFolder(output_dir, kinds)
    job = transcription.Job(sources, folder, failures=failures, skip_existing=skip_existing)
    with stopped_by_sigterm():
        return run_job(
            job,
            lambda group, watch: aligner.align_sources(group, watch=watch),
            output_dir,
            None if output_dir else kinds[0],
            is_single=True,
        )


def _find_texts(
    inputs: Sequence[str], recursive: bool
) -> "tuple[list[transcription.Source], list[transcription.sources.Failure]]":
    """The inputs with their texts, and those without one."""
    pair = len(inputs) == 2 and inputs[1].lower().endswith(".txt")
    options = transcription.SourceOptions(recursive=recursive)
    opened, failures = transcription.find_sources(inputs[:1] if pair else inputs, options)
    if pair and len(opened) > 1:
        raise click.UsageError(
            f"{inputs[1]}: one text, but {inputs[0]} is {len(opened)} recordings"
        )
    sources = []
    for source in opened:
        try:
            path = Path(inputs[1]) if pair else source.utterance.audio_filepath.with_suffix(".txt")
            text = source.utterance.text if not pair else None
            text = _read_text(path) if text is None else text
            sources.append(replace(source, utterance=replace(source.utterance, text=text)))
        except AsrError as error:
            failures.append((source.id, error))
    return sources, failures


def _read_text(path: Path) -> str:
    """The text of a recording.

    Raises:
        DataError: it cannot be read, is too long, or is not UTF-8.
    """
    try:
        if not path.is_file():
            raise DataError(f"{path}: no such file, and no manifest that has the text")
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise DataError(f"{path}: more than {_MOST_BYTES:,} bytes; cut the recording in parts")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start})") from error
