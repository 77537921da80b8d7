"""Transcription, and spotting, by workers of a Ray cluster, on one machine or many; no torch here.

Ray Data deals the tasks to an actor pool, restarts workers that are lost and gives their tasks to
others. A worker is this package's own `Recognizer`; what travels are ids, paths and texts.
"""

import json
import logging
import os
import signal
import socket
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from asr.audio import RawFormat
from asr.config import Config
from asr.corpus import Utterance
from asr.decoding import DecodingOptions, spotting
from asr.errors import AsrError, DataError, ModelError, StoppedError, printable
from asr.model import inference
from asr.progress import Report
from asr.transcription.job import task_starts
from asr.transcription.recognizer import Recognizer
from asr.transcription.sources import Source
from asr.transcription.spotting import spot_sources
from asr.transcription.transcript import Alternative, Transcript, Word
from asr.version import program_version

LOCAL = "local"
"""The address of a cluster that is started on this machine and ends with the job."""

_MOST_RETRIES = 3  # of a task whose worker was lost; a file may be what kills it

_CONNECTION_SECONDS = 10.0
_LOOPBACK = ("localhost", "127.0.0.1")

Result = tuple[Source, Transcript | AsrError]


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What makes a worker the recognizer that it stands for."""

    model: Path
    decoding: DecodingOptions
    threads: int
    """Of the processor, for each worker."""
    device: str = "auto"
    """`cuda` and, where the cluster has GPUs, `auto` give each worker one."""
    spotter: spotting.Spotter | None = None
    """Listens for keywords, in the place of decoding."""


def check_address(address: str) -> None:
    """See that Ray is installed and that somebody listens at the address.

    Raises:
        AsrError: it is not.
    """
    # Not imported before its environment is set.
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise AsrError("--ray needs Ray Data: pip install 'asr-recipes[ray]'")
    if address == LOCAL:
        return
    try:
        host, port = _host_and_port(address)
        # Ray itself would try for a quarter of an hour.
        socket.create_connection((host, port), _CONNECTION_SECONDS).close()
    except (OSError, ValueError) as error:
        raise AsrError(
            f"--ray {address}: {error}; give `local`, or HOST:PORT of a cluster that "
            "`ray start` has made this machine part of"
        ) from error


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise ValueError("this is not HOST:PORT")
    return host, int(port)


def transcribe_on_ray(
    address: str, sources: Sequence[Source], setup: Setup, config: Config, report: Report
) -> Generator[Result, None, None]:
    """Transcripts or errors of `sources`, in order, as one machine would make them.

    The inputs of a task that could not be done, because each worker that tried was lost, get an
    error each.

    Args:
        address: `local` or `HOST:PORT`.
        config: of the model.
        report: is told how many workers there are.

    Raises:
        AsrError: no Ray, no cluster, no room in it, a worker cannot load the model or find the
            working folder, or the model must hear all of a speaker.
    """
    starts = task_starts(sources)
    tasks = [sources[i:j] for i, j in zip(starts, [*starts[1:], len(sources)], strict=True)]
    if not tasks:
        return
    by_speaker = config.features.normalization == "speaker"
    if by_speaker and any(source.utterance.speaker is not None for source in sources):
        raise ModelError(
            f"{setup.model}: its features are normalized by speaker, of whom workers would hear "
            "parts; leave --ray out"
        )
    check_address(address)
    with _connected(address, setup.threads):
        done = 0
        for number, results in _run(tasks, setup, report):
            for lost in tasks[done:number]:
                yield from _lost(lost)
            yield from zip(tasks[number], results, strict=True)
            done = number + 1
        for lost in tasks[done:]:
            yield from _lost(lost)


def _lost(task: Iterable[Source]) -> Iterator[Result]:
    for source in task:
        yield (
            source,
            DataError(
                f"{source.id}: {_MOST_RETRIES + 1} workers were lost with the inputs "
                "among which it was; without --ray it would show which one it is"
            ),
        )


@contextmanager
def _connected(address: str, threads: int) -> Iterator[None]:
    """Joined to a cluster; one at `local` ends with the block."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray says on stdout what it retries; stdout is for results.
    os.environ |= {"RAY_DEDUP_LOGS": "1", "RAY_DEDUP_LOGS_SKIP_REGEX": "^"}
    if address == LOCAL or _host_and_port(address)[0] in _LOOPBACK:
        # Ray's name for "this machine only": all of it has the loopback address.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray

    size: dict[str, Any] = {}
    if address == LOCAL:
        size = {"num_cpus": max(threads, len(os.sched_getaffinity(0))), "include_dashboard": False}
    at_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **size)
    except Exception as error:  # of any class, by what fails
        reason = str(error).strip().partition("\n")[0]
        hint = "Ray waits 30 s for its own start; try again when the machine is less busy"
        if address != LOCAL:
            hint = "has `ray start --address` made this machine part of the cluster?"
        raise AsrError(f"--ray {address}: {reason}; {hint}") from error
    except SystemExit as error:  # Ray's own handler of SIGTERM
        raise StoppedError("stopped by SIGTERM") from error
    finally:
        if signal.getsignal(signal.SIGTERM) is not at_sigterm:  # Ray sets its own
            signal.signal(signal.SIGTERM, at_sigterm)
    try:
        yield
    finally:
        ray.shutdown()


def _run(
    tasks: Sequence[Sequence[Source]], setup: Setup, report: Report
) -> Iterator[tuple[int, list[Transcript | AsrError]]]:
    """Number and results of each task that could be done, in order."""
    import ray.data
    from ray.exceptions import RayError
    from ray.util.annotations import RayDeprecationWarning

    workers, needs, setup = _room(setup, ray.nodes())
    workers = min(workers, len(tasks))
    report(f"Ray: {len(tasks)} tasks, {workers} workers, --threads {setup.threads}")
    logger = logging.getLogger("ray.data")
    logger.handlers = [h for h in logger.handlers if not isinstance(h, logging.StreamHandler)]
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    context.max_errored_blocks = -1
    context.max_consecutive_actor_init_deaths = _MOST_RETRIES
    rows = [{"number": number, "sources": _to_json(task)} for number, task in enumerate(tasks)]
    place = {"setup": setup, "folder": Path.cwd(), "version": program_version()}
    try:
        with warnings.catch_warnings():
            # Ray 2.64 will not take the number of retries, which then has no end.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
                _Worker,
                fn_constructor_kwargs=place,
                compute=ray.data.ActorPoolStrategy(size=workers),
                max_restarts=-1,
                max_task_retries=_MOST_RETRIES,
                **needs,
            )
        for row in dataset.iter_rows():
            if row["fault"]:
                raise ModelError(row["fault"])
            yield row["number"], [_from_json(result) for result in json.loads(row["results"])]
    except RayError as error:
        reason = str(error).strip().partition("\n")[0]
        if "No module named 'asr'" in str(error):
            reason = "asr is not installed on a machine of the cluster"
        raise AsrError(f"Ray gave up: {reason}") from error


def _room(setup: Setup, nodes: Iterable[dict[str, Any]]) -> tuple[int, dict[str, float], Setup]:
    """How many workers a cluster has room for, what each takes of it, and what it is."""
    free = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = sum(int(resources.get("GPU", 0)) for resources in free)
    on_gpu = setup.device == "cuda" or (
        setup.device == "auto" and gpus > 0 and not inference.has_onnx(setup.model)
    )
    if on_gpu and not gpus:
        raise ModelError("--device cuda: no machine of the Ray cluster has a GPU")
    setup = replace(setup, device="cuda" if on_gpu else "cpu")
    if on_gpu:
        return gpus, {"num_cpus": 0, "num_gpus": 1}, setup
    workers = sum(int(resources.get("CPU", 0)) // setup.threads for resources in free)
    if not workers:
        raise AsrError(
            f"no machine of the Ray cluster has {setup.threads} processors for a worker; say with "
            "--threads how many a worker uses"
        )
    return workers, {"num_cpus": setup.threads}, setup


class _Worker:
    """A recognizer in a process of Ray's; an actor that is called with a task at a time."""

    def __init__(self, setup: Setup, folder: Path, version: str):
        self._fault = ""
        self._spotter = setup.spotter
        try:
            if version != program_version():
                raise ModelError(f"asr {program_version()} is installed, not {version}")
            os.chdir(folder)
            self._recognizer = Recognizer.load(
                setup.model, device=setup.device, threads=setup.threads, decoding=setup.decoding
            )
        except (AsrError, OSError) as error:
            self._fault = f"worker on {socket.gethostname()}: {error}"

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The results of a task, or what keeps this worker from working."""
        number = row["number"]
        if self._fault:
            return {"number": number, "results": "", "fault": self._fault}
        sources = [_source(values) for values in json.loads(row["sources"])]
        try:
            if self._spotter is None:
                transcribed = self._recognizer.transcribe_sources(sources)
            else:
                transcribed = spot_sources(self._recognizer, self._spotter, sources)
            results = json.dumps([_to_values(result) for _, result in transcribed])
        except Exception as error:  # ends the job as it would here, and is no lost worker
            fault = f"{type(error).__name__}: {printable(error)}"
            return {"number": number, "results": "", "fault": fault}
        return {"number": number, "results": results, "fault": ""}


def _to_json(task: Iterable[Source]) -> str:
    return json.dumps([asdict(source) for source in task], default=str)  # paths


def _source(values: dict[str, Any]) -> Source:
    utterance, raw = values.pop("utterance"), values.pop("raw")
    path = Path(utterance.pop("audio_filepath"))
    return Source(
        utterance=Utterance(audio_filepath=path, **utterance),
        raw=None if raw is None else RawFormat(**raw),
        **values,
    )


def _to_values(result: Transcript | AsrError) -> dict[str, Any]:
    return {"error": str(result)} if isinstance(result, AsrError) else asdict(result)


def _from_json(values: dict[str, Any]) -> Transcript | AsrError:
    """The result that `_to_values` was given; floats come back bit by bit."""
    if "error" in values:
        return DataError(values["error"])
    words = tuple(Word(**word) for word in values.pop("words"))
    nbest = tuple(Alternative(**reading) for reading in values.pop("nbest"))
    tokens = tuple(Word(**token) for token in values.pop("tokens"))
    notes = tuple(values.pop("warnings"))
    return Transcript(words=words, nbest=nbest, warnings=notes, tokens=tokens, **values)
