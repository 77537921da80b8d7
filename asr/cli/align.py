"""`asr align`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click

from asr import corpus, transcription
from asr.cli.terminal import report
from asr.cli.transcription import (
    NO_SEARCH,
    check_formats,
    complain,
    load_recognizer,
    report_failures,
    run_job,
    stopped_by_sigterm,
)
from asr.errors import AsrError, DataError, printable
from asr.files import open_regular
from asr.progress import Progress, format_seconds

_FORMATS = ("textgrid", "ctm", "srt", "vtt", "elan", "json", "tsv")
_TEXTS = (".txt",)
_MOST_BYTES = 100_000_000  # of a text; the longest books have six million


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="AUDIO TEXT | INPUT...", nargs=-1, required=True)
@click.option(
    "--format",
    "formats",
    help=f"Of {', '.join(_FORMATS)}; several with commas; textgrid if none is named.",
)
@click.option("--output-dir", type=click.Path(path_type=Path), help="Folder for the results.")
@click.option(
    "--segment",
    "manifest",
    metavar="OUT.jsonl",
    type=click.Path(path_type=Path),
    help="Cut into utterances for a corpus, though text or reading have mistakes.",
)
@click.option("--normalizer", default="basic", show_default=True, help="Of words as written.")
@click.option("--recursive", is_flag=True, help="Look into the folders of folders.")
@click.option("--skip-existing", is_flag=True, help="Leave out inputs whose results are there.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads to use.")
def align(
    model: Path,
    inputs: tuple[str, ...],
    formats: str | None,
    output_dir: Path | None,
    manifest: Path | None,
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

    With --segment, TEXT may also be subtitles (.srt, .vtt), and may lack sentences or have some
    that are not said: utterances of 2 to 15 s are listed in OUT.jsonl, with scores, and what is in
    none of them in left_out.tsv beside it.
    """
    if manifest is not None:
        if formats is not None or output_dir is not None or skip_existing:
            raise click.UsageError("--segment writes a manifest, and no --format or --output-dir")
        if not corpus.is_manifest(manifest):
            raise click.UsageError(f"--segment {manifest}: a name that ends in .jsonl is expected")
        recognizer = load_recognizer(model, device, threads, NO_SEARCH)
        segmenter = transcription.segmenter.Segmenter(recognizer, normalizer)
        with stopped_by_sigterm():
            return _segment(
                segmenter,
                *_find_texts(inputs, recursive, (*_TEXTS, *transcription.subtitles.SUFFIXES)),
                manifest,
            )
    kinds = check_formats(formats or "textgrid", _FORMATS, output_dir, skip_existing)
    recognizer = load_recognizer(model, device, threads, NO_SEARCH)
    aligner = transcription.aligner.Aligner(recognizer, normalizer)
    sources, failures = _find_texts(inputs, recursive, _TEXTS)
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


def _segment(
    segmenter: "transcription.segmenter.Segmenter",
    sources: "Sequence[transcription.Source]",
    failures: "list[transcription.sources.Failure]",
    path: Path,
) -> int:
    """Write the utterances of all sources, and tell what comes of each."""
    stems = transcription.results.output_stems([source.id for source in sources])
    failed = list(failures)
    for name, error in failures:
        complain(name, error)
    sizes = {source.id: transcription.job.input_size(source.utterance) for source in sources}
    meter = transcription.job.Meter(sizes, Progress("aligning", rate="{:.0f} x real time"))

    def watch(source: "transcription.Source", seconds: float, expected: float | None) -> None:
        meter.update(source.id, seconds, expected)

    def outcomes() -> "Iterator[tuple[transcription.Source, transcription.segmenter.Segmentation]]":
        for source, outcome in segmenter.segment(sources, watch=watch):
            meter.clear()
            if isinstance(outcome, Exception):
                failed.append((source.id, outcome))
                complain(source.id, outcome)
                continue
            meter.finish(source.id, outcome.duration)
            for warning in outcome.warnings:
                report(f"warning: {warning}")
            seconds = sum(new.utterance.duration for new in outcome.utterances)
            report(
                f"{printable(source.id)}: {len(outcome.utterances)} utterances, "
                f"{format_seconds(seconds)} of {format_seconds(outcome.duration)}"
            )
            yield source, outcome

    new = transcription.segmenter.NewManifest(path, stems)
    try:
        count, seconds = new.write(outcomes())
        report(
            f"{path}: {count} utterances, {format_seconds(seconds)}; what is left out is in "
            f"{new.left_out_path}"
        )
    except transcription.segmenter.NoUtteranceError as error:
        if not failed:
            raise
        if len(failed) < len(sources) + len(failures):
            complain(str(path), error)
    finally:
        meter.clear()
    return report_failures(failed, len(sources) + len(failures), path.parent)


def _find_texts(
    inputs: Sequence[str], recursive: bool, suffixes: Sequence[str]
) -> "tuple[list[transcription.Source], list[transcription.sources.Failure]]":
    """The inputs with their texts, and those without one.

    Args:
        suffixes: of files with texts; of several beside a recording the first is taken.
    """
    subtitles = transcription.subtitles.SUFFIXES
    are_texts = [each.lower().endswith((*_TEXTS, *subtitles)) for each in inputs]
    if are_texts == [True, False]:
        raise click.UsageError(f"{inputs[0]}: a text; AUDIO stands before TEXT")
    pair = len(inputs) == 2 and are_texts[1]
    if pair and not inputs[1].lower().endswith(tuple(suffixes)):
        raise click.UsageError(f"{inputs[1]}: subtitles are for --segment; give a .txt here")
    options = transcription.SourceOptions(recursive=recursive)
    opened, failures = transcription.find_sources(inputs[:1] if pair else inputs, options)
    if pair and len(opened) > 1:
        raise click.UsageError(
            f"{inputs[1]}: one text, but {inputs[0]} is {len(opened)} recordings"
        )
    sources = []
    for source in opened:
        try:
            audio = source.utterance.audio_filepath
            beside = [audio.with_suffix(suffix) for suffix in suffixes]
            path = Path(inputs[1]) if pair else next(filter(Path.is_file, beside), beside[0])
            text = source.utterance.text if not pair else None
            text = _read_text(path) if text is None else text
            if path.suffix.lower() in subtitles and not transcription.subtitles.has_subtitles(text):
                raise DataError(f"{path}: no line like `00:00:01,000 --> 00:00:02,500` in it")
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
        with open_regular(path) as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise DataError(f"{path}: more than {_MOST_BYTES:,} bytes; cut the recording in parts")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start})") from error
