"""OpenAI's transcription interface: what a request asks for, and how it is done."""

import asyncio
import errno
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, TypeVar

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from asr.corpus import Utterance
from asr.errors import AsrError, DataError, printable
from asr.server.counters import Counters
from asr.server.events import EventStream, OrderedParts
from asr.server.models import ServedModel
from asr.server.options import ServerOptions
from asr.server.replies import GRANULARITIES, REPLY_FORMATS, Refusal, format_reply
from asr.transcription import Recognizer, Source, Transcript

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_FIELDS = ("model", "language", "prompt", "response_format", "temperature", "stream")
_LISTS = ("timestamp_granularities", "include")
_IGNORED = ("chunking_strategy",)
_MOST_FIELDS, _LONGEST_FIELD = 32, 2**16  # bytes
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, kw_only=True, slots=True)
class TranscriptionRequest:
    """What is asked for."""

    model: ServedModel
    name: str
    """Of the uploaded file."""
    path: Path
    response_format: str = "json"
    granularities: tuple[str, ...] = ()
    language: str = ""
    prompt: str = ""
    is_streamed: bool = False


class Desk:
    """Takes requests, has at most so many worked on at once, and refuses those beyond a bound."""

    def __init__(
        self, models: Mapping[str, ServedModel], options: ServerOptions, counters: Counters
    ):
        self.models = models
        self._options, self._counters = options, counters
        self._threads = ThreadPoolExecutor(options.max_running, "asr-request")
        self.num_requests = 0
        """That are received, wait or are worked on."""

    async def transcribe(self, request: Request) -> Response:
        """Answer `POST /v1/audio/transcriptions`."""
        async with AsyncExitStack() as stack:
            stack.enter_context(self._place())
            form = await stack.enter_async_context(_form_of(request))
            wanted = await stack.enter_async_context(self._uploaded(form))
            events = EventStream()
            work = asyncio.create_task(self._work(request, wanted, events.tell))
            # The file stays as long as somebody reads it.
            stack.push_async_callback(_ended, work)
            if wanted.is_streamed:
                # What is wrong from the beginning is an error as any other.
                if not await events.has_begun(work):
                    await work
                return events.response(work, stack.pop_all())
            transcript = await work
            content, media_type = format_reply(
                transcript, wanted.response_format, wanted.granularities, wanted.language
            )
            return Response(content, media_type=media_type)

    async def _work(
        self, request: Request, wanted: TranscriptionRequest, told: Callable[[str], None]
    ) -> Transcript:
        begin = time.monotonic()
        recognizer = wanted.model.recognizer
        if wanted.prompt:
            weight = self._options.prompt_weight
            recognizer = await asyncio.to_thread(wanted.model.heeding, wanted.prompt, weight)
        transcript = await self.run(
            request,
            lambda watch: _transcribe(recognizer, wanted, watch, told),
            self._options.max_seconds,
        )
        self._note(wanted, transcript, time.monotonic() - begin)
        return transcript

    async def run(
        self, request: Request, work: "Callable[[Watcher], _T]", max_seconds: float
    ) -> _T:
        """Do something in a thread until it is done or the user has gone."""
        watch = Watcher(max_seconds)
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._threads, work, watch)
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            either: set[asyncio.Future[Any]] = {done, gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not done.done():
                watch.cancel()
            return await done
        finally:
            watch.cancel()
            gone.cancel()

    def close(self) -> None:
        """End when all is done."""
        self._threads.shutdown()

    def _note(self, wanted: TranscriptionRequest, transcript: Transcript, delay: float) -> None:
        self._counters.count_audio(transcript.duration, delay)
        text = f": {transcript.text}" if self._options.log_transcripts else ""
        _log.info(
            "%s: %.2f s of audio in %.2f s%s", wanted.model.name, transcript.duration, delay, text
        )

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self.num_requests >= self._options.max_requests:
            text = f"{self.num_requests} requests are waiting or worked on; try again"
            raise Refusal(429, text, code="busy")
        self.num_requests += 1
        try:
            yield
        finally:
            self.num_requests -= 1

    @asynccontextmanager
    async def _uploaded(self, form: FormData) -> AsyncIterator[TranscriptionRequest]:
        """What a form asks for, with its file on disk."""
        _check_fields(form)
        model = self.find_model(_text(form, "model"))
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise Refusal(400, "`file` is missing: the audio, as a file", param="file")
        kind = _text(form, "response_format") or "json"
        if kind not in REPLY_FORMATS:
            text = f"response_format {kind!r}: one of {', '.join(REPLY_FORMATS)} is expected"
            raise Refusal(400, printable(text), param="response_format")
        granularities = (*form.getlist("timestamp_granularities[]"),)
        granularities += (*form.getlist("timestamp_granularities"),)
        for value in granularities:
            if value not in GRANULARITIES:
                text = f"timestamp_granularities: {' or '.join(GRANULARITIES)} is expected"
                raise Refusal(400, text, param="timestamp_granularities")
        if granularities and kind != "verbose_json":
            text = "timestamp_granularities are for response_format verbose_json"
            raise Refusal(400, text, param="timestamp_granularities")
        is_streamed = _text(form, "stream").lower() in ("true", "1")
        if is_streamed and kind not in ("json", "text"):
            text = "stream is for response_format json, which has the text"
            raise Refusal(400, text, param="stream")
        yield TranscriptionRequest(
            model=model,
            name=printable(upload.filename or "audio"),
            path=await asyncio.to_thread(_path_of, upload),
            response_format=kind,
            granularities=tuple(str(value) for value in granularities),
            language=_text(form, "language"),
            prompt=_text(form, "prompt"),
            is_streamed=is_streamed,
        )

    def find_model(self, name: str) -> ServedModel:
        """A model by name; without one, the first.

        Raises:
            Refusal: there is none of that name.
        """
        if not name:
            return next(iter(self.models.values()))
        if name not in self.models:
            text = f"no model {name!r} is served here; there is {', '.join(self.models)}"
            raise Refusal(404, printable(text), param="model", code="model_not_found")
        return self.models[name]


class Watcher:
    """Ends work that nobody waits for, or that is more than one may ask for; a pipeline's watch."""

    def __init__(self, max_seconds: float):
        self._max_seconds = max_seconds
        self._is_cancelled = threading.Event()

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self._is_cancelled.set()

    def __call__(self, source: Source, seconds: float, expected: float | None) -> None:
        """So many seconds of so many are done.

        Raises:
            Refusal: that is enough.
        """
        del source
        if self._is_cancelled.is_set():
            raise Refusal(499, "the user has gone")
        if max(seconds, expected or 0.0) > self._max_seconds:
            text = f"the audio is longer than {self._max_seconds:g} s"
            raise Refusal(413, text, param="file", code="too_long")


async def _ended(work: "asyncio.Task[Transcript]") -> None:
    await asyncio.wait([work])
    if not work.cancelled():
        work.exception()


def _transcribe(
    recognizer: Recognizer,
    wanted: TranscriptionRequest,
    watch: Watcher,
    told: Callable[[str], None],
) -> Transcript:
    utterance = Utterance(id=wanted.name, audio_filepath=wanted.path, duration=0.0)
    source = Source(utterance=utterance)
    with explained(wanted):
        watch(source, 0.0, None)
        parts = OrderedParts(recognizer.tokens.separator, told) if wanted.is_streamed else None
        results = recognizer.transcribe_sources(
            [source], watch=watch, told=parts.add if parts else None
        )
        ((_, result),) = results
        if isinstance(result, AsrError):
            raise result
    warnings = tuple(_named(warning, wanted) for warning in result.warnings)
    return Transcript(
        text=result.text,
        words=result.words,
        log_prob=result.log_prob,
        duration=result.duration,
        warnings=warnings,
    )


@contextmanager
def explained(wanted: TranscriptionRequest) -> Iterator[None]:
    """What is wrong with an upload, under its own name."""
    try:
        yield
    except DataError as error:
        text = _named(str(error), wanted)
        raise Refusal(400, text, param="file", code="invalid_audio") from error


def _named(text: str, wanted: TranscriptionRequest) -> str:
    return printable(" ".join(text.replace(str(wanted.path), wanted.name).split()))


@asynccontextmanager
async def _form_of(request: Request) -> AsyncIterator[FormData]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise Refusal(400, "a form is expected: multipart/form-data with `file` and `model`")
    try:
        async with request.form(
            max_files=1, max_fields=_MOST_FIELDS, max_part_size=_LONGEST_FIELD
        ) as form:
            yield form
    except OSError as error:
        if error.errno in _NO_ROOM:
            text = "the server has no room for the upload"
            raise Refusal(503, text, code="no_room") from error
        raise


def _check_fields(form: FormData) -> None:
    accepted = {"file", *_FIELDS, *_LISTS, *(f"{name}[]" for name in _LISTS), *_IGNORED}
    for name in form:
        if name not in accepted:
            text = f"{name[:100]!r} is no field of a transcription; there are "
            raise Refusal(400, printable(text + ", ".join(sorted(accepted))), param=name[:100])
    for name in _FIELDS:
        if len(form.getlist(name)) > 1:
            raise Refusal(400, f"{name} is there more than once", param=name)
    if _text(form, "stream").lower() not in ("", "false", "0", "true", "1"):
        raise Refusal(400, "stream: true or false is expected", param="stream")
    temperature = _text(form, "temperature")
    if temperature:
        try:
            float(temperature)
        except ValueError as error:
            raise Refusal(400, "temperature: a number is expected", param="temperature") from error


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    if isinstance(value, UploadFile):
        raise Refusal(400, f"{name} is a file; a text is expected", param=name)
    return value or ""


def _path_of(upload: UploadFile) -> Path:
    """A path by which an upload can be opened; it has no name that could be left behind."""
    file = upload.file
    assert isinstance(file, SpooledTemporaryFile)
    file.rollover()
    file.flush()
    return Path(f"/proc/self/fd/{file.fileno()}")


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
