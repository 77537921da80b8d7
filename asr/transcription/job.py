"""A job of many inputs: what of it is done already, what fails, and what may stop it."""

import errno
from collections.abc import Callable, Generator, Mapping, Sequence

from asr.corpus import Utterance
from asr.errors import AsrError, StoppedError
from asr.progress import Progress, format_seconds
from asr.transcription.pipeline import Watch
from asr.transcription.recognizer import Recognizer
from asr.transcription.results import ResultFolder
from asr.transcription.sources import Failure, Source
from asr.transcription.transcript import Transcript

Results = Generator[tuple[Source, Transcript | AsrError], None, None]
Transcriber = Callable[[Sequence[Source], Watch], Results]
"""Transcribes sources, in order, and tells how far it is."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_TASK_INPUTS, _TASK_BYTES = 256, 32 * 2**20  # a quarter of an hour of 16 kHz in 16 bits
_BYTES_PER_SECOND = 32000


class Job:
    """Inputs, each of which is transcribed or fails; what is done stays done when it is stopped.

    ```python
    sources, failures = find_sources(["speech"], SourceOptions(recursive=True))
    folder = ResultFolder(Path("results"), ["txt", "json"])
    job = Job(sources, folder, failures=failures, skip_existing=True)
    for source, outcome in job.run(in_this_process(Recognizer.load("model"))):
        print(source.id, outcome)
    write_failures(job.failures, folder.path)
    ```
    """

    def __init__(
        self,
        sources: Sequence[Source],
        folder: ResultFolder | None = None,
        *,
        failures: Sequence[Failure] = (),
        skip_existing: bool = False,
    ):
        """See what is to do.

        Args:
            folder: takes the results; without one they are the caller's.
            failures: arguments that mean no source.
            skip_existing: leave out inputs whose results are there; one in whose place another
                one's are has failed.
        """
        self.num_inputs = len(sources) + len(failures)
        self.num_done = 0
        """Transcribed in this run."""
        self.failures = list(failures)
        """Of all inputs; those that are there before the run, and those of it."""
        self._folder = folder
        if folder is not None:
            folder.prepare(sources)
        self.sources = self._missing(sources) if skip_existing and folder else list(sources)
        """What the run will transcribe."""
        self._meter = Meter({})

    def run(
        self, transcriber: Transcriber
    ) -> Generator[tuple[Source, Transcript | Exception], None, None]:
        """Each source with its transcript, when its results are written, or what it met; in order.

        Raises:
            OSError: there is no room for results.
        """
        self._meter = Meter({s.id: input_size(s.utterance) for s in self.sources})
        results = transcriber(self.sources, self._watch)
        try:
            for source, result in results:
                outcome = self._put(source, result)
                self._meter.clear()
                yield source, outcome
                if isinstance(outcome, Transcript):
                    self.num_done += 1
                    self._meter.finish(source.id, outcome.duration)
                else:
                    self._meter.finish(source.id, 0.0)
        finally:
            results.close()
            self._meter.clear()

    def summary(self) -> str:
        """How much audio was done, and how fast."""
        return self._meter.summary()

    def _missing(self, sources: Sequence[Source]) -> list[Source]:
        missing: list[Source] = []
        for source in sources:
            try:
                if self._folder is None or not self._folder.has(source):
                    missing.append(source)
            except AsrError as error:
                self.failures.append((source.id, error))
        return missing

    def _put(self, source: Source, result: Transcript | AsrError) -> Transcript | Exception:
        outcome: Transcript | Exception = result
        if self._folder is not None and isinstance(result, Transcript):
            try:
                self._folder.put(source, result)
            except (BrokenPipeError, StoppedError):
                raise
            except (AsrError, OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno in _NO_ROOM:
                    raise OSError(error.errno, error.strerror, str(self._folder.path)) from error
                outcome = error
        if isinstance(outcome, Exception):
            self.failures.append((source.id, outcome))
        return outcome

    def _watch(self, source: Source, seconds: float, expected: float | None) -> None:
        self._meter.update(source.id, seconds, expected)


def in_this_process(recognizer: Recognizer) -> Transcriber:
    """Transcribes in tasks, with one recognizer."""
    return lambda sources, watch: recognizer.transcribe_sources(
        sources, watch=watch, starts=task_starts(sources)
    )


def task_starts(sources: Sequence[Source]) -> list[int]:
    """Numbers of the sources with which the tasks of a job begin.

    What a batch holds changes the last bits of its results. No batch holds sources of two tasks,
    so a task gives the same bits wherever it is done.
    """
    starts: list[int] = []
    room = 0.0
    for number, source in enumerate(sources):
        if not starts or room <= 0 or number - starts[-1] == _TASK_INPUTS:
            starts.append(number)
            room = _TASK_BYTES
        room -= input_size(source.utterance)
    return starts


def input_size(utterance: Utterance) -> float:
    """Bytes of the file, or what so many seconds of it would have at 16 kHz in 16 bits."""
    try:
        seconds_size = _BYTES_PER_SECOND * utterance.duration
        return seconds_size or float(utterance.audio_filepath.stat().st_size)
    except (OSError, ValueError):
        return 0.0


class Meter:
    """Counts the audio of a job that is done, and shows how far the job is."""

    def __init__(self, sizes: Mapping[str, float], progress: Progress | None = None):
        """Begin to count.

        Args:
            sizes: of each input by id, in any unit that grows with its length, as bytes.
        """
        self._sizes = sizes
        self._total = sum(sizes.values())
        self._progress = progress or Progress("transcribing", rate="{:.0f} x real time")
        self._seconds: dict[str, float] = {}
        """Of inputs that are not finished."""
        self._shares: dict[str, float] = {}
        self._finished_seconds = self._finished_size = 0.0
        self.num_finished = 0

    def update(self, name: str, seconds: float, expected: float | None) -> None:
        """So many seconds of an input are done, of so many if that is known."""
        self._seconds[name] = seconds
        self._shares[name] = min(1.0, seconds / expected) if expected else 0.0
        self._show()

    def finish(self, name: str, seconds: float) -> None:
        """An input is done; it had so many seconds."""
        self._seconds.pop(name, None)
        self._shares.pop(name, None)
        self._finished_seconds += seconds
        self._finished_size += self._sizes[name]
        self.num_finished += 1
        self._show()

    def clear(self) -> None:
        """Take a bar away, before something else is written."""
        self._progress.hide()

    @property
    def _audio(self) -> float:
        return self._finished_seconds + sum(self._seconds.values())

    def summary(self) -> str:
        """What was done, and how fast."""
        elapsed = max(1e-9, self._progress.seconds)
        return (
            f"{format_seconds(self._audio)} of audio in {format_seconds(elapsed)}, "
            f"{self._audio / elapsed:.0f} x real time"
        )

    def _show(self) -> None:
        done = self._finished_size + sum(
            share * self._sizes[name] for name, share in self._shares.items()
        )
        self._progress.show(
            f"{self.num_finished} of {len(self._sizes)} inputs",
            share=done / self._total if self._total else 0.0,
            amount=self._audio,
        )
