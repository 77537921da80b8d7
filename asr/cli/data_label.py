"""`asr data label`."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import click

from asr import corpus, model, text, transcription
from asr.cli.terminal import put, report
from asr.cli.transcription import complain, decoding_options, load_recognizer, stopped_by_sigterm
from asr.errors import DataError, ModelError, printable
from asr.files import open_atomic

_FILE = click.Path(path_type=Path)
_SHARE = click.FloatRange(min=0, max=1)


@click.command()
@click.argument("arguments", metavar="MODEL AUDIO...", nargs=-1, required=True)
@click.option("--output", type=_FILE, required=True, help="Manifest to write.")
@click.option("--min-confidence", type=_SHARE, default=0.9, show_default=True, help="Of labels.")
@click.option("--calibrate", type=_FILE, metavar="MANIFEST", help="Reviewed speech like AUDIO.")
@click.option("--max-seconds", type=click.FloatRange(min=1), default=15.0, show_default=True)
@click.option("--with", "giant", metavar="faster-whisper:FOLDER", help="What labels, then.")
@click.option("--language", help="Of the speech, for --with; else it guesses.")
@click.option("--normalizer", help="Of texts; none, or with --with basic, unless said.")
@click.option("--recursive", is_flag=True, help="Look into the folders of folders.")
@decoding_options
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads to use.")
def label(
    arguments: tuple[str, ...],
    output: Path,
    min_confidence: float,
    calibrate: Path | None,
    max_seconds: float,
    giant: str | None,
    language: str | None,
    normalizer: str | None,
    recursive: bool,
    device: str,
    threads: int | None,
    **settings: Any,
) -> int:
    """Write a manifest of AUDIO with what MODEL hears in it, to train on.

    AUDIO is a file, folder, pattern or manifest, as for `asr transcribe`; what has a text already
    is left out. Recordings longer than --max-seconds are cut in pauses. `confidence` in the
    manifest is the share of right words that is expected: --calibrate measures it on reviewed
    speech that MODEL has not learnt from. OUTPUT.left_out.tsv says what is not in the manifest and
    why. With --with no MODEL is needed; of one that is named the tokens must spell the texts.
    """
    clean = text.find_normalizer(normalizer or ("basic" if giant else "none"))
    teacher, tokens, inputs = _open_teacher(arguments, giant, language, device, threads, settings)
    sources, failures = transcription.find_sources(
        inputs, transcription.SourceOptions(recursive=recursive)
    )
    reviewed = [source for source in sources if source.utterance.text is not None]
    job = transcription.Job(
        [source for source in sources if source.utterance.text is None], failures=failures
    )
    for name, error in job.failures:
        complain(name, error)
    with stopped_by_sigterm():
        calibration = _calibrate(calibrate, teacher, clean, min_confidence)
        with _open_output(output) as labels:
            for source in reviewed:
                labels.leave_out(source.id, "reviewed", "it has a text")
            with closing(job.run(teacher)) as outcomes:
                for source, outcome in outcomes:
                    if isinstance(outcome, Exception):
                        complain(source.id, outcome)
                        continue
                    for each in transcription.labelling.make_labels(
                        source,
                        outcome,
                        clean=clean,
                        calibration=calibration,
                        max_seconds=max_seconds,
                        min_confidence=min_confidence,
                    ):
                        labels.put(_spellable(each, tokens))
            for name, error in job.failures:
                labels.leave_out(name, "failed", str(error))
    put(*labels.summary())
    return 1 if job.failures else 0


def _open_teacher(
    arguments: Sequence[str],
    giant: str | None,
    language: str | None,
    device: str,
    threads: int | None,
    settings: dict[str, Any],
) -> "tuple[transcription.job.Transcriber, text.TokenTable | None, Sequence[str]]":
    """Who labels; the tokens that texts must fit, if known; and the audio."""
    if giant is None:
        if language is not None:
            raise click.UsageError("--language is for --with; a model has one of its own")
        if len(arguments) < 2:
            raise click.UsageError("MODEL and AUDIO are expected")
        recognizer = load_recognizer(Path(arguments[0]), device, threads, settings)
        return transcription.job.in_this_process(recognizer), None, arguments[1:]
    if any(value is not None for value in settings.values()):
        raise click.UsageError("options of decoding are for a MODEL; --with has its own")
    tokens = None
    try:
        tokens = text.read_tokens(model.locate_model(Path(arguments[0])))
        arguments = arguments[1:]
    except ModelError:
        pass  # it is audio
    if not arguments:
        raise click.UsageError("AUDIO is expected")
    teacher = transcription.teachers.open_teacher(
        giant, device=device, threads=threads, language=language
    )
    return teacher, tokens, arguments


def _calibrate(
    manifest: Path | None,
    teacher: "transcription.job.Transcriber",
    clean: Callable[[str], str],
    min_confidence: float,
) -> "transcription.labelling.LabelCalibration":
    if manifest is None:
        return transcription.labelling.LabelCalibration()
    sources = [transcription.Source(utterance=u) for u in corpus.read_manifest(manifest)]
    with closing(transcription.Job(sources).run(teacher)) as results:
        try:
            trials = transcription.labelling.try_teacher(results, clean)
        except DataError as error:
            raise DataError(f"{manifest}: {error}") from error
    calibration = transcription.labelling.calibrate_labels(trials)
    for line in transcription.labelling.describe_trials(trials, calibration, min_confidence):
        report(f"{manifest}: {line}")
    return calibration


def _spellable(
    each: "transcription.labelling.Label", tokens: "text.TokenTable | None"
) -> "transcription.labelling.Label":
    """Objected to if the tokens, where they are known, cannot write its text."""
    if tokens is None or each.objection:
        return each
    unknown = tokens.count_unknown([each.utterance.text or ""])
    named = ", ".join(repr(name) for name, _ in unknown.most_common(5))
    if not unknown:
        return each
    return replace(each, objection="unspelled", message=f"the model cannot write {named}")


@dataclass
class _Output:
    """The manifest and the list beside it, while they are written."""

    path: Path
    manifest: IO[str]
    list: IO[str]
    num_kept: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.list.write("id\tkind\tmessage\n")

    def put(self, each: "transcription.labelling.Label") -> None:
        """Write an utterance, or why it is left out."""
        if each.objection:
            self.leave_out(each.utterance.id, each.objection, each.message)
            return
        confidence = {"confidence": round(each.confidence, 4)}
        row = corpus.manifest.row_of(each.utterance, self.path.parent)
        corpus.manifest.write_row(self.manifest, {**row, **confidence})
        self.num_kept += 1
        self.seconds += each.utterance.duration

    def leave_out(self, name: str, kind: str, message: str) -> None:
        """Write why something is left out."""
        self.reasons[kind] += 1
        cells = (printable(name), kind, printable(message))
        self.list.write("\t".join(" ".join(cell.split()) for cell in cells) + "\n")

    def summary(self) -> Iterator[str]:
        """What was written, in lines."""
        yield f"{self.path}: {self.num_kept:,} utterances, {self.seconds / 3600:.2f} hours"
        if self.reasons:
            counts = ", ".join(f"{count:,} {kind}" for kind, count in self.reasons.most_common())
            yield f"left out: {counts}: see {_list_of(self.path)}"


@contextmanager
def _open_output(path: Path) -> Iterator[_Output]:
    with ExitStack() as stack:
        manifest = stack.enter_context(corpus.manifest.open_rows(path))
        listed = stack.enter_context(open_atomic(_list_of(path)))
        yield _Output(path, manifest, listed)


def _list_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.left_out.tsv")
