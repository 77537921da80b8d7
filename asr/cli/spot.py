"""`asr spot`."""

from contextlib import ExitStack
from pathlib import Path

import click

from asr import decoding, transcription
from asr import model as models
from asr.cli.live import open_live
from asr.cli.terminal import put_transcript, report
from asr.cli.transcription import (
    NO_SEARCH,
    check_formats,
    check_ray,
    load_recognizer,
    on_ray,
    run_job,
    stopped_by_sigterm,
)

_FORMATS = ("jsonl", "ctm")
_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=_FILE)
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option("--keywords", type=_FILE, required=True, help="File: a word or phrase a line.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Least score; else MODEL's, or 0.5.")
@click.option("--format", "formats", default="jsonl", show_default=True, help="Of jsonl, ctm.")
@click.option("--output-dir", type=_FILE, help="Folder for the results.")
@click.option("--recursive", is_flag=True, help="Look into the folders of folders.")
@click.option("--live", is_flag=True, help="One input, from - as it arrives; hits at once.")
@click.option("--skip-existing", is_flag=True, help="Leave out inputs whose results are there.")
@click.option("--ray", metavar="local|ADDRESS", help="By workers of a Ray cluster, or of one here.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads to use.")
def spot(
    model: Path,
    inputs: tuple[str, ...],
    keywords: Path,
    threshold: float | None,
    formats: str,
    output_dir: Path | None,
    recursive: bool,
    live: bool,
    skip_existing: bool,
    ray: str | None,
    device: str,
    threads: int | None,
) -> int:
    """Find words or phrases in running speech, with the network of MODEL as it is.

    INPUT is a file, folder, pattern or manifest, as for `asr transcribe`. Each hit is a line: when
    the keyword was said, and how probable that is. `asr tune --keywords` finds thresholds for a
    number of false alarms an hour.
    """
    kinds = check_formats(formats, _FORMATS, output_dir, skip_existing)
    if live and (output_dir is not None or len(inputs) > 1):
        raise click.UsageError("--live prints the hits of one input")
    device_here = device
    if ray is not None:
        check_ray(ray, inputs, live)
        device_here, threads = "cpu", threads or 1  # the workers have the devices
    recognizer = load_recognizer(model, device_here, threads, NO_SEARCH)
    config = decoding.spotting.read_thresholds(models.locate_model(model))
    spotter = transcription.spotting.open_spotter(recognizer, keywords, config, threshold)
    options = transcription.SourceOptions(recursive=recursive)
    sources, failures = transcription.find_sources(inputs, options)
    if live:
        with stopped_by_sigterm():
            return _spot_live(recognizer, spotter, inputs[0], kinds[0])
    if transcription.sources.STDIN in inputs:
        raise click.UsageError("- is heard with --live")
    folder = None if output_dir is None else transcription.ResultFolder(output_dir, kinds)
    job = transcription.Job(sources, folder, failures=failures, skip_existing=skip_existing)
    if ray is not None:
        setup = transcription.cluster.Setup(
            model=model,
            decoding=decoding.DecodingOptions(**NO_SEARCH),
            threads=recognizer.threads,
            device=device,
            spotter=spotter,
        )
        transcriber = on_ray(ray, recognizer, setup)
    else:
        transcriber = _here(recognizer, spotter)
    printed = None if output_dir else kinds[0]
    with stopped_by_sigterm():
        return run_job(job, transcriber, output_dir, printed, is_single=True)


def _here(
    recognizer: "transcription.Recognizer", spotter: "decoding.spotting.Spotter"
) -> "transcription.job.Transcriber":
    """By this process."""
    return lambda sources, watch: transcription.spotting.spot_sources(
        recognizer,
        spotter,
        sources,
        watch=watch,
        starts=transcription.job.task_starts(sources),
    )


def _spot_live(recognizer, spotter, name: str, kind: str) -> int:  # type: ignore[no-untyped-def]
    """Print each hit as soon as its word has ended."""
    listener = transcription.spotting.LiveSpotter(recognizer.steps(), spotter)
    write = transcription.output.OUTPUT_FORMATS[kind]

    def put(words: "list[transcription.Word]") -> None:
        found = transcription.Transcript(text="", words=tuple(words), log_prob=0.0, duration=0.0)
        put_transcript(write(source.utterance, found), kind)

    with ExitStack() as stack:
        source, sound = open_live(recognizer, name, transcription.SourceOptions(), stack)
        report(f"listening; a hit comes at most {listener.latency:.2f} s after its word")
        for block in sound:
            put(listener.accept(block))
        put(listener.finish())
        for warning in sound.warnings():
            report(f"warning: {warning}")
    return 0
