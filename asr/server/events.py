"""A transcript as server-sent events, whose text comes while the rest is still being heard."""

import asyncio
import heapq
import math
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from asr.server.replies import Refusal, json_text
from asr.transcription import Transcript

_TOLERANCE = 0.2  # seconds between segments that follow one another


class OrderedParts:
    """Texts of segments that come in any order, told in the order of the audio."""

    def __init__(self, separator: str, told: Callable[[str], None]):
        """Begin.

        Args:
            separator: stands between words.
            told: is given each portion of the text.
        """
        self._separator, self._told = separator, told
        self._waiting: list[tuple[float, float, str]] = []
        self._end = 0.0
        self._is_begun = False
        self._lock = threading.Lock()

    def add(self, part: Transcript, start: float) -> None:
        """A segment that starts at so many seconds."""
        with self._lock:
            heapq.heappush(self._waiting, (start, part.duration, part.text))
            while self._waiting and self._waiting[0][0] <= self._end + _TOLERANCE:
                begin, seconds, text = heapq.heappop(self._waiting)
                self._end = begin + seconds
                if text:
                    self._told(self._separator * self._is_begun + text)
                    self._is_begun = True


class EventStream:
    """What becomes of a request, as OpenAI's events of a transcription."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._portions: asyncio.Queue[str | None] = asyncio.Queue()
        self._first: str | None = None

    def tell(self, text: str) -> None:
        """A further portion of the text; from any thread."""
        self._loop.call_soon_threadsafe(self._portions.put_nowait, text)

    async def has_begun(self, work: "asyncio.Task[Transcript]") -> bool:
        """Wait for the first portion; whether there was one before all was done."""
        work.add_done_callback(lambda _: self._loop.call_soon(self._portions.put_nowait, None))
        self._first = await self._portions.get()
        return self._first is not None

    def response(self, work: "asyncio.Task[Transcript]", held: AsyncExitStack) -> Response:
        """The answer.

        Args:
            held: what the work needs, to be given up when it is done.
        """
        return _Response(self._events(work), held)

    async def _events(self, work: "asyncio.Task[Transcript]") -> AsyncIterator[str]:
        portion, told = self._first, ""
        while portion is not None:
            told += portion
            yield _event({"type": "transcript.text.delta", "delta": portion})
            portion = await self._portions.get()
        try:
            transcript = await work
        except Refusal as refusal:
            yield f"data: {refusal.content}\n\n"
            return
        if rest := transcript.text.removeprefix(told):
            yield _event({"type": "transcript.text.delta", "delta": rest})
        usage = {"type": "duration", "seconds": math.ceil(transcript.duration)}
        yield _event({"type": "transcript.text.done", "text": transcript.text, "usage": usage})


class _Response(Response):
    """Sends events as they come, and gives up what they are made of at the end."""

    def __init__(self, events: AsyncIterator[str], held: AsyncExitStack):
        super().__init__(media_type="text/event-stream")
        del self.headers["content-length"]
        self._events, self._held = events, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        async with self._held:
            start = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **start})
            async for event in self._events:
                content = event.encode()
                await send({"type": "http.response.body", "body": content, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def _event(values: dict[str, object]) -> str:
    return f"data: {json_text(values)}\n\n"
