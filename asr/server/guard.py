"""Who may ask, how much and for how long: what holds of every request, before it is looked at."""

import asyncio
import base64
import binascii
import contextlib
import ipaddress
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from asr.errors import printable
from asr.server.counters import Counters
from asr.server.options import ServerOptions
from asr.server.replies import Refusal

KEY_PROTOCOL = "key."
"""Begins the websocket subprotocol by which a page brings its key, in base64url."""

_OPEN = ("/", "/review", "/record", "/healthz")
_OPEN_FOLDER = "/static/"
_DRAINED_SECONDS, _DRAINED_BYTES = 5.0, 2**28  # of a refused body, so that its sender reads why
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cache-control": "no-store",
}


class Guard:
    """Stands before an application: hosts, origins, keys, sizes and times."""

    def __init__(self, app: ASGIApp, options: ServerOptions, counters: Counters):
        self._app, self._options, self._counters = app, options, counters
        self._upload_bytes = 0
        self.is_stopping = False
        """Whether new requests are refused."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
        except Refusal as refusal:
            await self._refuse(refusal, scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        async with self._limited(receive) as limited:
            await self._app(scope, limited, self._answering(scope, send))

    def _check(self, scope: Scope) -> None:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        host = headers.get("host", "")
        if not self._is_called(host):
            raise Refusal(
                403,
                f"this server is not called {printable(host)!r}; --allow-host NAME lets it be",
                code="unknown_host",
            )
        origin = headers.get("origin")
        if origin is not None and re.sub("^https?://", "", origin.lower()) != host.lower():
            raise Refusal(
                403, f"pages of {printable(origin)!r} may not use this server", code="other_origin"
            )
        if self.is_stopping and scope["path"] != "/healthz":
            raise Refusal(503, "the server is about to stop", code="stopping")
        is_page = scope["path"] in _OPEN or scope["path"].startswith(_OPEN_FOLDER)
        is_open = is_page and scope["type"] == "http"
        if self._options.key_digests and not is_open:
            self._check_key(scope, headers)
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._options.max_bytes:
            raise self._too_large()

    def _is_called(self, host: str) -> bool:
        """Whether a Host header is one of this server: a page elsewhere can only send its own.

        An address is always one, as nobody can make it lead elsewhere (DNS rebinding needs a name).
        """
        matched = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]/@\s]+)(:[0-9]{1,5})?", host)
        if matched is None:
            return False
        name = matched[1].lower()
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(name.strip("[]"))
            return True
        names = ("localhost", self._options.host, *self._options.allowed_hosts)
        return name.removesuffix(".") in [other.lower() for other in names]

    def _check_key(self, scope: Scope, headers: dict[str, str]) -> None:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scope["type"] == "websocket" and not key:
            scheme, key = "bearer", _key_of_protocols(scope.get("subprotocols", []))
        if scheme.lower() != "bearer" or not self._options.admits(key.strip()):
            message = "a key of this server is needed, as `Authorization: Bearer KEY`"
            raise Refusal(401, message, code="invalid_api_key")

    def _too_large(self) -> Refusal:
        limit = f"{self._options.max_bytes / 2**20:g} MiB"
        return Refusal(413, f"the request is larger than {limit}", code="too_large")

    @asynccontextmanager
    async def _limited(self, receive: Receive) -> AsyncIterator[Receive]:
        """The request's body, as far as size and time go."""
        options = self._options
        deadline = asyncio.get_running_loop().time() + options.body_seconds
        num_bytes = 0
        is_complete = False

        async def limited() -> Message:
            nonlocal num_bytes, is_complete
            if is_complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                text = f"the request did not arrive within {options.body_seconds:g} s"
                raise Refusal(408, text, code="too_slow") from error
            if message["type"] == "http.request":
                size = len(message.get("body", b""))
                num_bytes += size
                self._upload_bytes += size
                is_complete = not message.get("more_body", False)
                if num_bytes > options.max_bytes:
                    await _drain(receive)
                    raise self._too_large()
                if self._upload_bytes > options.max_upload_bytes:
                    raise Refusal(429, "too much is being uploaded; try again", code="busy")
            return message

        try:
            yield limited
        finally:
            self._upload_bytes -= num_bytes

    def _answering(self, scope: Scope, send: Send) -> Send:
        """Sends with what all answers say, and not for ever."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = _counted_path(scope["path"]) if message["status"] != 404 else "other"
                self._counters.count_answer(path, message["status"])
                _add_headers(message)
            async with asyncio.timeout(self._options.idle_seconds):
                await send(message)

        return answer

    async def _refuse(self, refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        self._counters.count_answer("refused", refusal.status)
        if scope["type"] == "http":
            await _drain(receive)
            await send_refusal(refusal, send, "http.response")
        elif "websocket.http.response" in scope.get("extensions", {}):
            await send_refusal(refusal, send, "websocket.http.response")
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.message[:120]})


async def send_refusal(refusal: Refusal, send: Send, kind: str) -> None:
    """Answer with an error object.

    Args:
        kind: `http.response`, or `websocket.http.response` for a handshake.
    """
    content = refusal.content.encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
    ]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.status in (429, 503):
        headers.append((b"retry-after", b"1"))
    start: Message = {"type": f"{kind}.start", "status": refusal.status, "headers": headers}
    _add_headers(start)
    await send(start)
    await send({"type": f"{kind}.body", "body": content})


def _counted_path(path: str) -> str:
    """Without what differs from request to request."""
    return next(
        (
            folder
            for folder in ("/static", "/v1/models", "/review/audio")
            if path.startswith(folder)
        ),
        path,
    )


def _add_headers(message: Message) -> None:
    headers = message["headers"] = list(message.get("headers", []))
    names = {name.lower() for name, _ in headers}
    headers += [
        (name.encode(), value.encode())
        for name, value in _HEADERS.items()
        if name.encode() not in names
    ]


async def _drain(receive: Receive) -> None:
    """Take the rest of a body, as far as it comes soon: who is cut off does not read the answer."""
    num_bytes = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAINED_SECONDS):
            while num_bytes < _DRAINED_BYTES:
                message = await receive()
                num_bytes += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return


def _key_of_protocols(protocols: list[str]) -> str:
    for protocol in protocols:
        if protocol.startswith(KEY_PROTOCOL):
            text = protocol.removeprefix(KEY_PROTOCOL)
            with contextlib.suppress(ValueError, binascii.Error):
                return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    return ""
