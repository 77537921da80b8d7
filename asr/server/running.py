"""How a server starts, and how it stops: what runs is finished, what comes is refused."""

import asyncio
import contextlib
import errno
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from asr.errors import ConfigError
from asr.server.app import PageDesk, Site
from asr.server.counters import Counters
from asr.server.models import ServedModel
from asr.server.options import ServerOptions

_LARGEST_MESSAGE = 2**20  # bytes, of a websocket
_BACKLOG = 128


class RunningServer:
    """A server that listens; it answers while `run` runs.

    ```python
    server = RunningServer(load_models(["english"]), ServerOptions(port=0))
    print(server.url)
    server.run()
    ```
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        options: ServerOptions,
        counters: Counters | None = None,
        desks: Sequence[PageDesk] = (),
    ):
        """Listen.

        Args:
            desks: of further pages.

        Raises:
            ConfigError: the address is taken, or none of this machine's.
        """
        self._socket = _listen(options)
        host, port = self._socket.getsockname()[:2]
        self.url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        self.site = Site(models, options, counters or Counters(), desks)
        self._server = _Uvicorn(self.site, options)

    def run(self) -> None:
        """Answer until SIGTERM, SIGINT or `stop`, and until what then runs is done."""
        # uvicorn repeats the signal that stopped it to whoever handled it before; that nobody is
        # killed by it, when all went well, is what the exit code tells.
        with _ignored(signal.SIGTERM):
            self._server.run(sockets=[self._socket])
        self.site.close()

    def stop(self) -> None:
        """Have `run` end as SIGTERM does; from any thread."""
        self._server.should_exit = True


def run_server(
    models: Sequence[ServedModel],
    options: ServerOptions,
    counters: Counters | None = None,
    ready: Callable[[str], None] = lambda _: None,
    desks: Sequence[PageDesk] = (),
) -> None:
    """Answer requests until SIGTERM or SIGINT; what runs then is finished.

    Args:
        ready: is told the address.
        desks: of further pages.

    Raises:
        ConfigError: the address cannot be had.
    """
    server = RunningServer(models, options, counters, desks)
    ready(server.url)
    server.run()


class _Uvicorn(uvicorn.Server):
    def __init__(self, site: Site, options: ServerOptions):
        # Forms that are none and the like are answered, and nobody's log needs them.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        config = uvicorn.Config(
            site.guard,
            http=_patient(options.idle_seconds),
            ws="websockets-sansio",
            ws_max_size=_LARGEST_MESSAGE,
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=max(1, min(5, int(options.idle_seconds))),
            limit_concurrency=options.max_connections,
            timeout_graceful_shutdown=round(options.stop_seconds),
        )
        super().__init__(config)
        self._site = site

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse what comes, then finish what runs."""
        await self._site.stop()
        await super().shutdown(sockets)


def _patient(seconds: float) -> type[H11Protocol]:
    """HTTP with an end to the patience for headers, which uvicorn has only between requests."""

    class _Connection(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._deadline = self.loop.call_later(seconds, self._give_up)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            waits = self.cycle is None or self.cycle.response_complete
            if waits and self._deadline is None:
                self._deadline = self.loop.call_later(seconds, self._give_up)
            elif not waits and self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def connection_lost(self, exc: Exception | None) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
            super().connection_lost(exc)

        def _give_up(self) -> None:
            self._deadline = None
            waits = self.cycle is None or self.cycle.response_complete
            # What has become a websocket is another's.
            if waits and self.transport.get_protocol() is self:
                self.transport.close()

    return _Connection


def _listen(options: ServerOptions) -> socket.socket:
    host, port = options.host, options.port
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
    except OSError as error:
        raise ConfigError(f"--host {host}: {error.strerror}") from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            text = f"--port {port}: another program listens there; --port 0 takes one that is free"
        elif error.errno == errno.EACCES:
            text = f"--port {port}: only root may listen there; take one from 1024 on"
        else:
            text = f"--host {host}: {error.strerror}"
        raise ConfigError(text) from error
    return listener


@contextlib.contextmanager
def _ignored(number: signal.Signals) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(number, before)
