"""`asr transcribe` and `asr evaluate`."""

import errno
import re
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from asr.cli.live import LIVE_FORMATS, transcribe_live
from asr.cli.terminal import put, put_transcript, report, tell
from asr.errors import AsrError, StoppedError, printable
from asr.files import open_atomic, remove_leftovers

if TYPE_CHECKING:
    from asr.corpus import Utterance
    from asr.transcription import Recognizer, Source, SourceOptions, Transcript
    from asr.transcription import job as jobs

_F = TypeVar("_F", bound=Callable[..., object])
_Results = Generator[tuple["Utterance", "Transcript | AsrError"], None, None]
_Transcriber = Callable[[Sequence["Source"], "jobs.Meter"], _Results]
_DEVICE = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
_THREADS = click.option("--threads", type=click.IntRange(min=1), help="Processor threads to use.")
_KINDS = ("txt", "json", "srt", "vtt", "tsv", "ctm", "trn")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_FILE = click.Path(path_type=Path)
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
@click.option("--channel", default="mix", help="`mix` (the mean), a number from 1, or `each`.")
@click.option("--raw", metavar="RATE[:s16|f32...[:CHANNELS]]", help="Inputs have no headers.")
@click.option("--allow-commands", is_flag=True, help="Run the commands of a wav.scp, shell-less.")
@click.option("--live", is_flag=True, help="One input, from - as it arrives; text at each pause.")
@click.option("--skip-existing", is_flag=True, help="Leave out inputs whose results are there.")
@click.option("--ray", metavar="local|ADDRESS", help="By workers of a Ray cluster, or of one here.")
@_decoding_options
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
    **decoding: Any,
) -> int:
    """Turn audio files, folders of them, patterns, manifests, wav.scp or stdin (-) into text.

    One input prints its text; several print a line each, `path<TAB>text`. Failed inputs are
    listed in failures.tsv (in the output folder, or here), and the exit code is 1.
    """
    kinds = _check_formats(formats, output_dir, skip_existing)
    options = _source_options(recursive, channel, raw, allow_commands)
    if live and (output_dir is not None or len(inputs) > 1 or kinds[0] not in LIVE_FORMATS):
        raise click.UsageError(f"--live prints one input as one of {', '.join(LIVE_FORMATS)}")
    if ray is not None:
        _check_ray(ray, inputs, live, allow_commands)
    # Workers are given the devices; here the model is only looked at.
    recognizer = _load(model, device if ray is None else "cpu", threads, decoding)
    if live:
        with _stopped_by_sigterm():
            return transcribe_live(recognizer, inputs[0], kinds[0], options)
    from asr.audio import pipes
    from asr.transcription import find_sources
    from asr.transcription import sources as audio_sources

    with ExitStack() as stack:
        stack.enter_context(_stopped_by_sigterm())
        if audio_sources.STDIN in inputs:
            spool = stack.enter_context(pipes.spooled(sys.stdin.buffer))
            options = replace(options, stdin=spool)
        sources, failures = find_sources(inputs, options)
        single = len(inputs) == 1 and [s.utterance.id for s in sources] == [
            "stdin" if inputs[0] == audio_sources.STDIN else str(Path(inputs[0]))
        ]
        if output_dir is None and len(sources) > 1 and kinds[0] in ("srt", "vtt", "tsv"):
            raise click.UsageError(f"--format {kinds[0]} of several inputs needs --output-dir")
        output = _Output(kinds, output_dir, is_single=single)
        transcriber = _here(recognizer, options)
        if ray is not None:
            transcriber = _on_ray(ray, recognizer, model, device, decoding, options)
        return _transcribe(transcriber, sources, failures, output, skip_existing)


def _here(recognizer: "Recognizer", options: "SourceOptions") -> _Transcriber:
    """In this process."""
    from asr.transcription import job
    from asr.transcription import sources as audio_sources

    def transcriber(sources: Sequence["Source"], meter: "jobs.Meter") -> _Results:
        utterances = [source.utterance for source in sources]
        return recognizer.transcribe_utterances(
            utterances,
            opener=audio_sources.source_opener(
                sources, recognizer.config.features.sample_rate, options
            ),
            watch=lambda utterance, seconds, expected: meter.update(
                utterance.id, seconds, expected
            ),
            starts=job.task_starts(utterances),
        )

    return transcriber


def _on_ray(
    address: str,
    recognizer: "Recognizer",
    model: Path,
    device: str,
    decoding: dict[str, Any],
    options: "SourceOptions",
) -> _Transcriber:
    """By the workers of a cluster."""
    from asr.decoding import DecodingOptions
    from asr.transcription import cluster

    setup = cluster.Setup(
        model=model,
        decoding=DecodingOptions(**decoding),
        threads=recognizer.threads,
        device=device,
        raw=options.raw,
    )
    return lambda sources, _: cluster.transcribe_on_ray(
        address, sources, setup, recognizer.config, report
    )


def _check_ray(address: str, inputs: Sequence[str], live: bool, allow_commands: bool) -> None:
    """Say what does not go with --ray before anything is loaded."""
    from asr.transcription import cluster
    from asr.transcription import sources as audio_sources

    if live or audio_sources.STDIN in inputs:
        raise click.UsageError("--ray takes files; - and --live are transcribed here")
    if allow_commands:
        raise click.UsageError("--ray runs no commands of a wav.scp; leave --allow-commands out")
    cluster.check_address(address)


class _Output:
    """Where results go."""

    def __init__(self, kinds: list[str], folder: Path | None, *, is_single: bool) -> None:
        from asr.transcription import job

        self.kinds = kinds
        self.folder = folder
        self._is_single = is_single
        self._origins = None if folder is None else job.Origins(folder)

    def is_there(self, source: "Source", stem: Path) -> bool:
        """Whether all results of an input are; an error if another one's are in their place."""
        return self._origins is not None and self._origins.are_there(
            self._paths(stem), source.origin
        )

    def remove_leftovers(self, stems: Iterable[Path]) -> None:
        """Remove temporary files of killed runs, in the folders that results are written to."""
        if self.folder is not None:
            for folder in {self.folder, *(self._paths(stem)[0].parent for stem in stems)}:
                remove_leftovers(folder)

    def put(self, source: "Source", transcript: "Transcript", stem: Path) -> None:
        from asr.transcription import output as outputs

        utterance = source.utterance
        texts = [outputs.OUTPUT_FORMATS[kind](utterance, transcript) for kind in self.kinds]
        if self._origins is not None:
            paths = self._paths(stem)
            with self._origins.writing(paths, source.origin):
                for path, text in zip(paths, texts, strict=True):
                    with open_atomic(path) as file:
                        file.write(text)
        elif self._is_single or self.kinds != ["txt"]:
            put_transcript(texts[0], self.kinds[0])
        else:
            put_transcript(f"{printable(utterance.id)}\t{texts[0]}", "txt")

    def _paths(self, stem: Path) -> list[Path]:
        from asr.transcription import job

        return [job.result_path(self.folder or Path(), stem, kind) for kind in self.kinds]


def _transcribe(
    transcriber: _Transcriber,
    sources: Sequence["Source"],
    failures: Sequence[tuple[str, Exception]],
    output: _Output,
    skip_existing: bool,
) -> int:
    from asr.transcription import job

    stems = job.output_stems([source.utterance for source in sources])
    num_inputs = len(sources) + len(failures)
    if skip_existing:
        sources, displaced = _missing(sources, stems, output)
        failures = [*failures, *displaced]
    failed = list(failures)
    for name, error in failures:
        _complain(name, error)
    output.remove_leftovers(stems.values())
    by_id = {source.utterance.id: source for source in sources}
    meter = job.Meter({name: job.input_size(source.utterance) for name, source in by_id.items()})
    results = transcriber(sources, meter)
    try:
        for utterance, result in results:
            meter.clear()
            try:
                if isinstance(result, AsrError):
                    raise result
                for warning in result.warnings:
                    tell(f"warning: {warning}")
                output.put(by_id[utterance.id], result, stems[utterance.id])
                meter.finish(utterance.id, result.duration)
            except (BrokenPipeError, StoppedError):
                raise
            except (AsrError, OSError, ValueError) as error:
                if output.folder is None and not isinstance(error, AsrError):
                    raise  # stdout is for all
                if isinstance(error, OSError) and error.errno in _NO_ROOM:
                    raise OSError(error.errno, error.strerror, str(output.folder)) from error
                failed.append((utterance.id, error))
                _complain(utterance.id, error)
                meter.finish(utterance.id, 0.0)
    except (OSError, StoppedError, KeyboardInterrupt):
        meter.clear()
        done = meter.num_finished - len(failed) + len(failures)
        hint = "; their results are complete, and --skip-existing goes on" if output.folder else ""
        tell(f"{done} of {num_inputs} inputs were transcribed{hint}")
        raise
    finally:
        results.close()
        meter.clear()
    if len(sources) > 1 or output.folder is not None:
        tell(meter.summary())
    return _report_failures(failed, num_inputs, output.folder)


def _missing(
    sources: Sequence["Source"], stems: dict[str, Path], output: _Output
) -> tuple[list["Source"], list[tuple[str, Exception]]]:
    """The sources without results, and those in whose place another one's results are."""
    missing: list[Source] = []
    displaced: list[tuple[str, Exception]] = []
    for source in sources:
        name = source.utterance.id
        try:
            if not output.is_there(source, stems[name]):
                missing.append(source)
        except AsrError as error:
            displaced.append((name, error))
    return missing, displaced


def _source_options(
    recursive: bool, channel: str, raw: str | None, allow_commands: bool
) -> "SourceOptions":
    from asr.audio import RawFormat
    from asr.transcription import SourceOptions

    if channel not in ("mix", "each") and not re.fullmatch("[1-9][0-9]{0,3}", channel):
        raise click.UsageError(f"--channel {channel}: mix, each or a number from 1 is expected")
    try:
        raw_format = None if raw is None else RawFormat.parse(raw)
    except ValueError as error:
        raise click.UsageError(f"--raw {error}") from error
    return SourceOptions(
        recursive=recursive,
        channel=channel if channel in ("mix", "each") else int(channel),  # type: ignore[arg-type]
        raw=raw_format,
        allow_commands=allow_commands,
    )


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM as an exception, so that temporary files go away; commands end at once."""
    from asr.audio import pipes

    def stop(*_: object) -> None:
        pipes.kill_commands()
        raise StoppedError("stopped by SIGTERM")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        pipes.kill_commands()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


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
    from asr.corpus import read_manifest

    utterances = read_manifest(manifest)
    recognizer = _load(model, device, threads, decoding)
    from asr.transcription import evaluate as evaluate_model
    from asr.transcription import write_evaluation

    evaluation = evaluate_model(recognizer, utterances, name=str(model), test_set=manifest.name)
    if output_dir is not None:
        write_evaluation(evaluation, utterances, recognizer, output_dir)
    for name, error in evaluation.failures:
        _complain(name, error)
    put(*evaluation.summary().removesuffix("\n").split("\n"))
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


def require_model(folder: Path) -> None:
    """Say that a path is wrong before torch takes its seconds to import."""
    if not (folder / "config.yaml").is_file():
        raise click.UsageError(f"{folder}: not a model folder (it has no config.yaml)")


def _load(model: Path, device: str, threads: int | None, decoding: dict[str, Any]):  # type: ignore[no-untyped-def]
    require_model(model)
    from asr.decoding import DecodingOptions
    from asr.transcription import Recognizer

    options = DecodingOptions(**decoding)
    recognizer = Recognizer.load(model, device=device, threads=threads, decoding=options)
    for warning in recognizer.warnings:
        tell(f"warning: {warning}")
    return recognizer


def _complain(name: str, error: Exception) -> None:
    name, message = printable(name), printable(" ".join(str(error).split()))
    tell(message if name in message else f"{name}: {message}")


def _report_failures(
    failed: list[tuple[str, Exception]], num_inputs: int, output_dir: Path | None
) -> int:
    from asr.transcription import job
    from asr.transcription import job as transcription_job

    path = transcription_job.failures_path(output_dir or Path())
    if not failed:
        if output_dir is not None:
            path.unlink(missing_ok=True)
        return 0
    said = f"{len(failed)} of {num_inputs} inputs failed"
    try:
        with open_atomic(path) as file:
            file.writelines(job.failure_lines(failed))
    except OSError as error:
        tell(f"{said}; {path}: {error.strerror or error}")
    else:
        tell(f"{said}: see {path}")
    return 1
