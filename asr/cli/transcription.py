"""`asr transcribe` and `asr evaluate`."""

import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from asr import audio, corpus, decoding, transcription
from asr.cli.live import LIVE_FORMATS, transcribe_live
from asr.cli.terminal import put, put_transcript, report, tell
from asr.errors import StoppedError, printable

_F = TypeVar("_F", bound=Callable[..., object])
_DEVICE = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
_THREADS = click.option("--threads", type=click.IntRange(min=1), help="Processor threads to use.")
_KINDS = ("txt", "json", "srt", "vtt", "tsv", "ctm", "trn")
_FILE = click.Path(path_type=Path)
NO_SEARCH: dict[str, Any] = {"beam": 1}
"""Settings of decoding for verbs that need none: a model's language model is not read."""
_DECODING = (
    click.option("--beam", type=click.IntRange(min=1), help="Prefixes kept; 1 is the best path."),
    click.option("--nbest", type=click.IntRange(min=1), help="Readings in json output."),
    click.option("--lm", type=_FILE, help="Language model: ARPA, or what `asr lm` stores."),
    click.option("--lm-weight", type=click.FloatRange(min=0), help="On the language model."),
    click.option("--word-bonus", type=float, help="Added for each word, in nats."),
    click.option("--lexicon", type=_FILE, help="Only these words: `word token token ...` lines."),
    click.option("--grammar", type=_FILE, help="Only these sentences: a list, or JSGF."),
    click.option("--hotwords", type=_FILE, help="Words to prefer: `word weight` lines."),
)


def decoding_options(command: _F) -> _F:
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
@click.option("--channel", default="mix", help="`mix` (the mean), a number from 1, or `each`.")
@click.option("--raw", metavar="RATE[:s16|f32...[:CHANNELS]]", help="Inputs have no headers.")
@click.option("--allow-commands", is_flag=True, help="Run the commands of a wav.scp, shell-less.")
@click.option("--live", is_flag=True, help="One input, from - as it arrives; text at each pause.")
@click.option("--skip-existing", is_flag=True, help="Leave out inputs whose results are there.")
@click.option("--ray", metavar="local|ADDRESS", help="By workers of a Ray cluster, or of one here.")
@decoding_options
@_DEVICE
@_THREADS
def transcribe(
    model: Path,
    inputs: tuple[str, ...],
    formats: str,
    output_dir: Path | None,
    recursive: bool,
    channel: str,
    raw: str | None,
    allow_commands: bool,
    live: bool,
    skip_existing: bool,
    ray: str | None,
    device: str,
    threads: int | None,
    **settings: Any,
) -> int:
    """Turn audio files, folders of them, patterns, manifests, wav.scp or stdin (-) into text.

    One input prints its text; several print a line each, `path<TAB>text`. Failed inputs are
    listed in failures.tsv (in the output folder, or here), and the exit code is 1.
    """
    kinds = check_formats(formats, _KINDS, output_dir, skip_existing)
    options = _source_options(recursive, channel, raw, allow_commands)
    if live and (output_dir is not None or len(inputs) > 1 or kinds[0] not in LIVE_FORMATS):
        raise click.UsageError(f"--live prints one input as one of {', '.join(LIVE_FORMATS)}")
    if ray is not None:
        check_ray(ray, inputs, live, allow_commands)
    # Workers are given the devices; here the model is only looked at.
    if ray is not None:
        device_here, threads = "cpu", threads or 1  # workers side by side share a machine best
    else:
        device_here = device
    recognizer = load_recognizer(model, device_here, threads, settings)
    if live:
        with stopped_by_sigterm():
            return transcribe_live(recognizer, inputs[0], kinds[0], options)
    with ExitStack() as stack:
        stack.enter_context(stopped_by_sigterm())
        if transcription.sources.STDIN in inputs:
            spool = stack.enter_context(audio.pipes.spooled(sys.stdin.buffer))
            options = replace(options, stdin=spool)
        sources, failures = transcription.find_sources(inputs, options)
        single = len(inputs) == 1 and [source.id for source in sources] == [
            "stdin" if inputs[0] == transcription.sources.STDIN else str(Path(inputs[0]))
        ]
        if output_dir is None and len(sources) > 1 and kinds[0] in ("srt", "vtt", "tsv"):
            raise click.UsageError(f"--format {kinds[0]} of several inputs needs --output-dir")
        folder = None if output_dir is None else transcription.ResultFolder(output_dir, kinds)
        whole = transcription.Job(sources, folder, failures=failures, skip_existing=skip_existing)
        transcriber = transcription.job.in_this_process(recognizer)
        if ray is not None:
            setup = transcription.cluster.Setup(
                model=model,
                decoding=decoding.DecodingOptions(**settings),
                threads=recognizer.threads,
                device=device,
            )
            transcriber = on_ray(ray, recognizer, setup)
        return run_job(whole, transcriber, output_dir, None if output_dir else kinds[0], single)


def on_ray(
    address: str, recognizer: "transcription.Recognizer", setup: "transcription.cluster.Setup"
) -> "transcription.job.Transcriber":
    """By the workers of a cluster."""
    return lambda sources, _: transcription.cluster.transcribe_on_ray(
        address, sources, setup, recognizer.config, report
    )


def check_ray(
    address: str, inputs: Sequence[str], live: bool, allow_commands: bool = False
) -> None:
    """Say what does not go with --ray before anything is loaded."""
    if live or transcription.sources.STDIN in inputs:
        raise click.UsageError("--ray takes files; - and --live are heard here")
    if allow_commands:
        raise click.UsageError("--ray runs no commands of a wav.scp; leave --allow-commands out")
    transcription.cluster.check_address(address)


def run_job(
    job: "transcription.Job",
    transcriber: "transcription.job.Transcriber",
    output_dir: Path | None,
    printed: str | None,
    is_single: bool,
) -> int:
    """Run a job and say what comes of it, after what has failed before.

    Args:
        printed: the format in which results are printed, if they are.
        is_single: whether the one input is what the user named, and needs no name in the output.
    """
    for name, error in job.failures:
        complain(name, error)
    try:
        with closing(job.run(transcriber)) as outcomes:
            for source, outcome in outcomes:
                if isinstance(outcome, Exception):
                    complain(source.id, outcome)
                    continue
                for warning in outcome.warnings:
                    report(f"warning: {warning}")
                if printed is not None:
                    _put(source, outcome, printed, is_single)
    except (OSError, StoppedError, KeyboardInterrupt):
        hint = "; their results are complete, and --skip-existing goes on" if output_dir else ""
        tell(f"{job.num_done} of {job.num_inputs} inputs were transcribed{hint}")
        raise
    if len(job.sources) > 1 or output_dir is not None:
        report(job.summary())
    return report_failures(job.failures, job.num_inputs, output_dir)


def _put(
    source: "transcription.Source",
    transcript: "transcription.Transcript",
    kind: str,
    is_single: bool,
) -> None:
    text = transcription.output.OUTPUT_FORMATS[kind](source.utterance, transcript)
    named = kind == "txt" and not is_single
    put_transcript(f"{printable(source.id)}\t{text}" if named else text, kind)


def _source_options(
    recursive: bool, channel: str, raw: str | None, allow_commands: bool
) -> "transcription.SourceOptions":
    if channel not in ("mix", "each") and not re.fullmatch("[1-9][0-9]{0,3}", channel):
        raise click.UsageError(f"--channel {channel}: mix, each or a number from 1 is expected")
    try:
        raw_format = None if raw is None else audio.RawFormat.parse(raw)
    except ValueError as error:
        raise click.UsageError(f"--raw {error}") from error
    return transcription.SourceOptions(
        recursive=recursive,
        channel=channel if channel in ("mix", "each") else int(channel),  # type: ignore[arg-type]
        raw=raw_format,
        allow_commands=allow_commands,
    )


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM as an exception, so that temporary files go away; commands end at once."""

    def stop(*_: object) -> None:
        audio.pipes.kill_commands()
        raise StoppedError("stopped by SIGTERM")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        audio.pipes.kill_commands()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _levels(_context: click.Context, _option: click.Parameter, value: str) -> tuple[float, ...]:
    """Levels with commas between them."""
    try:
        levels = tuple(float(part) for part in value.split(","))
    except ValueError:
        levels = ()
    if not levels or not all(-50 <= level <= 100 for level in levels):
        raise click.BadParameter(f"{value!r}: levels in dB are expected, as 20,10,0")
    return levels


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--output-dir", type=click.Path(path_type=Path), help="Folder for the results.")
@click.option("--noise", type=_FILE, help="Noise (file, folder or manifest) to score in as well.")
@click.option("--snr", "levels_db", default="20,10,0", callback=_levels, help="Its levels in dB.")
@decoding_options
@_DEVICE
@_THREADS
def evaluate(
    model: Path,
    manifest: Path,
    output_dir: Path | None,
    noise: Path | None,
    levels_db: tuple[float, ...],
    device: str,
    threads: int | None,
    **settings: Any,
) -> int:
    """Transcribe the utterances of MANIFEST and score them against its texts.

    An utterance that cannot be read counts as deletions, is listed in failures.tsv, and makes the
    exit code 1.
    """
    utterances = corpus.read_manifest(manifest)
    recognizer = load_recognizer(model, device, threads, settings)
    names = {"name": str(model), "test_set": manifest.name}
    conditions = []
    if noise is not None:
        conditions = transcription.noisy.evaluate_in_noise(
            recognizer, utterances, noise, levels_db, **names
        )
    evaluation = transcription.evaluate(recognizer, utterances, **names)
    evaluation = replace(evaluation, report=replace(evaluation.report, conditions=conditions))
    if output_dir is not None:
        transcription.write_evaluation(evaluation, utterances, recognizer, output_dir)
    for name, error in evaluation.failures:
        complain(name, error)
    put(*evaluation.summary().removesuffix("\n").split("\n"))
    return report_failures(evaluation.failures, len(utterances), output_dir)


def check_formats(
    formats: str, known: Sequence[str], output_dir: Path | None, skip_existing: bool
) -> list[str]:
    """The formats that are asked for, of those known to a verb."""
    kinds = formats.split(",")
    for kind in kinds:
        if kind not in known:
            raise click.UsageError(f"--format {kind}: one of {', '.join(known)} is expected")
    if output_dir is None and len(kinds) > 1:
        raise click.UsageError("several formats need --output-dir")
    if output_dir is None and skip_existing:
        raise click.UsageError("--skip-existing needs --output-dir")
    return kinds


def load_recognizer(model: Path, device: str, threads: int | None, settings: dict[str, Any]):  # type: ignore[no-untyped-def]
    """The recognizer of a model folder or starter; what is odd about its language model is told."""
    options = decoding.DecodingOptions(**settings)
    recognizer = transcription.Recognizer.load(
        model, device=device, threads=threads, decoding=options
    )
    for warning in recognizer.warnings:
        report(f"warning: {warning}")
    return recognizer


def complain(name: str, error: Exception) -> None:
    """Say in a line what is wrong with an input."""
    name, message = printable(name), printable(" ".join(str(error).split()))
    tell(message if name in message else f"{name}: {message}")


def report_failures(
    failures: Sequence[tuple[str, Exception]], num_inputs: int, output_dir: Path | None
) -> int:
    """List what failed in a folder, or here; the exit code."""
    if not failures:
        if output_dir is not None:
            transcription.results.write_failures([], output_dir)
        return 0
    said = f"{len(failures)} of {num_inputs} inputs failed"
    try:
        path = transcription.results.write_failures(failures, output_dir or Path())
    except OSError as error:
        tell(f"{said}; {error.filename}: {error.strerror}")
    else:
        tell(f"{said}: see {path}")
    return 1
