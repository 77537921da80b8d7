"""Live speech over websockets, in the protocol of vosk-server."""

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from asr.server.counters import Counters
from asr.server.guard import send_refusal
from asr.server.options import ServerOptions
from asr.server.replies import Refusal, json_text
from asr.server.transcriptions import Desk
from asr.transcription import LiveResult, Transcript

PROTOCOL = "vosk"
"""The websocket subprotocol, for clients that name one."""
_RATES = range(1000, 768_001)  # Hz
_CLOSED_NORMALLY, _GOING_AWAY, _WRONG = 1000, 1001, 1008


@dataclass(frozen=True, kw_only=True, slots=True)
class _Setup:
    """What a client's `config` says."""

    model: str = ""
    sample_rate: int | None = None
    has_words: bool = True

    @classmethod
    def of(cls, values: Mapping[str, Any], model: str) -> "_Setup":
        """Read it; what Vosk has more, is left out."""
        rate = values.get("sample_rate")
        if rate is not None and (
            not isinstance(rate, int | float)
            or isinstance(rate, bool)
            or not _RATES.start <= rate < _RATES.stop
        ):
            text = f"sample_rate: {_RATES.start} to {_RATES.stop - 1} Hz are expected"
            raise Refusal(400, text, param="sample_rate")
        name = values.get("model", model)
        if not isinstance(name, str):
            raise Refusal(400, "model: a name is expected", param="model")
        return cls(
            model=name,
            sample_rate=None if rate is None else int(rate),
            has_words=bool(values.get("words", True)),
        )


class LiveDesk:
    """Takes live streams, so many at once."""

    def __init__(self, desk: Desk, options: ServerOptions, counters: Counters):
        self._desk, self._options, self._counters = desk, options, counters
        self._threads = ThreadPoolExecutor(options.max_streams, "asr-live")
        self._stopping = asyncio.Event()
        self.num_streams = 0
        """That are live."""

    async def listen(self, websocket: WebSocket) -> None:
        """Answer each message with a partial or a final result."""
        if self.num_streams >= self._options.max_streams:
            text = f"{self.num_streams} streams are live; try again"
            refusal = Refusal(429, text, code="busy")
            await send_refusal(refusal, websocket.send, "websocket.http.response")
            return
        self.num_streams += 1
        try:
            wanted = PROTOCOL in websocket.scope.get("subprotocols", [])
            await websocket.accept(subprotocol=PROTOCOL if wanted else None)
            # Who has gone, or takes no answers, is not waited for.
            with contextlib.suppress(WebSocketDisconnect, TimeoutError):
                await self._converse(websocket)
        finally:
            self.num_streams -= 1

    async def stop(self) -> None:
        """Have each stream end with the result of what it has heard."""
        self._stopping.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.stop_seconds):
                while self.num_streams:
                    await asyncio.sleep(0.05)

    def close(self) -> None:
        """End when all is done."""
        self._threads.shutdown()

    async def _converse(self, websocket: WebSocket) -> None:
        talk = _Talk(self._desk, websocket.query_params.get("model", ""))
        loop = asyncio.get_running_loop()
        code = _CLOSED_NORMALLY
        try:
            while (message := await self._next(websocket)) is not None:
                if message["type"] == "websocket.disconnect":
                    return
                if talk.configures(message):
                    continue
                is_last = talk.is_last(message)
                samples = message.get("bytes") or b""
                work = talk.finish if is_last else partial(talk.accept, samples)
                answer = await loop.run_in_executor(self._threads, work)
                await self._send(websocket, answer)
                if is_last:
                    break
                if talk.seconds > self._options.max_seconds:
                    raise Refusal(413, f"more than {self._options.max_seconds:g} s of audio")
            else:
                code = _GOING_AWAY
                answer = await loop.run_in_executor(self._threads, talk.finish)
                await self._send(websocket, answer)
        except Refusal as refusal:
            code = _WRONG
            await self._send(websocket, json_text({"error": refusal.message}))
        self._counters.count_audio(talk.seconds, talk.delay)
        with contextlib.suppress(RuntimeError):
            await websocket.close(code)

    async def _next(self, websocket: WebSocket) -> Mapping[str, Any] | None:
        """The next message; none if there will be none that is waited for."""
        receive = asyncio.ensure_future(websocket.receive())
        stopping = asyncio.ensure_future(self._stopping.wait())
        either: set[asyncio.Future[Any]] = {receive, stopping}
        try:
            await asyncio.wait(
                either,
                timeout=self._options.idle_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            return receive.result() if receive.done() else None
        finally:
            receive.cancel()
            stopping.cancel()

    async def _send(self, websocket: WebSocket, text: str) -> None:
        async with asyncio.timeout(self._options.idle_seconds):
            await websocket.send_text(text)


class _Talk:
    """What was said on a socket, and what is answered."""

    def __init__(self, desk: Desk, model: str):
        self._desk = desk
        self._setup = _Setup(model=model)
        self._stream: Any = None
        self._rate = 0
        self._rest = b""
        self.seconds = 0.0
        """Of audio."""
        self.delay = 0.0
        """Seconds that the last answer took."""

    def configures(self, message: Mapping[str, Any]) -> bool:
        """Take a `config`, if the message is one.

        Raises:
            Refusal: it cannot be used.
        """
        text = message.get("text")
        if text is None:
            return False
        try:
            values = json.loads(text)
        except ValueError as error:
            raise Refusal(400, '{"config": ...}, {"eof": 1} or PCM is expected') from error
        if not isinstance(values, dict) or not {"config", "eof"} & set(values):
            raise Refusal(400, '{"config": ...}, {"eof": 1} or PCM is expected')
        if "config" not in values:
            return False
        if not isinstance(values["config"], dict):
            raise Refusal(400, "config: an object is expected")
        if self._stream is not None:
            raise Refusal(400, "config comes before the audio")
        self._setup = _Setup.of(values["config"], self._setup.model)
        self._desk.find_model(self._setup.model)
        return True

    def is_last(self, message: Mapping[str, Any]) -> bool:
        """Whether nothing follows: `eof`, the only text that is not `config`."""
        return message.get("text") is not None

    def accept(self, data: bytes) -> str:
        """The answer to PCM of 16 bits, little-endian."""
        begin = time.monotonic()
        stream = self._open()
        data = self._rest + data
        whole = len(data) // 2 * 2
        self._rest = data[whole:]
        samples = np.frombuffer(data[:whole], "<i2").astype(np.float32) / 32768
        self.seconds += len(samples) / self._rate
        result: LiveResult = stream.accept(samples)
        self.delay = time.monotonic() - begin
        if result.finished:
            return self._result(result.finished)
        return json_text({"partial": result.text})

    def finish(self) -> str:
        """The answer to `eof`."""
        begin = time.monotonic()
        finished = self._open().finish().finished if self.seconds else ()
        self.delay = time.monotonic() - begin
        return self._result(finished)

    def _open(self) -> Any:
        if self._stream is None:
            recognizer = self._desk.find_model(self._setup.model).recognizer
            self._rate = self._setup.sample_rate or recognizer.config.features.sample_rate
            self._space = recognizer.tokens.separator
            self._stream = recognizer.listen(sample_rate=self._rate)
        return self._stream

    def _result(self, parts: Sequence[Transcript]) -> str:
        space = self._space if self._stream is not None else " "
        values: dict[str, Any] = {}
        if self._setup.has_words:
            values["result"] = [
                {
                    "conf": round(word.confidence, 6),
                    "end": round(word.end, 3),
                    "start": round(word.start, 3),
                    "word": word.text,
                }
                for part in parts
                for word in part.words
            ]
        values["text"] = space.join(part.text for part in parts if part.text)
        return json_text(values)
