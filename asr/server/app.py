"""Which address answers what."""

from collections.abc import Sequence
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from asr.errors import printable
from asr.server.counters import Counters
from asr.server.guard import Guard
from asr.server.models import ServedModel
from asr.server.options import ServerOptions
from asr.server.replies import Refusal, json_text
from asr.server.site import show_page
from asr.server.sockets import LiveDesk
from asr.server.transcriptions import Desk


class PageDesk(Protocol):
    """What answers a page besides `/`."""

    @property
    def page(self) -> str:
        """Where it is: `review` for `/review`."""

    @property
    def routes(self) -> list[Route]:
        """What it asks."""


class Site:
    """The models of a server behind their addresses."""

    def __init__(
        self,
        models: Sequence[ServedModel],
        options: ServerOptions,
        counters: Counters,
        desks: Sequence[PageDesk] = (),
    ):
        self.options, self.counters = options, counters
        self.desks = desks
        self.models = {model.name: model for model in models}
        self.desk = Desk(self.models, options, counters)
        counters.gauges["asr_requests_open"] = (
            "Requests that are received, wait or are worked on.",
            lambda: self.desk.num_requests,
        )
        self.live = LiveDesk(self.desk, options, counters)
        counters.gauges["asr_streams_open"] = (
            "Live streams.",
            lambda: self.live.num_streams,
        )
        self.guard = Guard(self._routes(), options, counters)
        """The application."""

    async def stop(self) -> None:
        """Refuse what comes, and end live streams with what they have heard."""
        self.guard.is_stopping = True
        await self.live.stop()

    def close(self) -> None:
        """End when what runs is done."""
        self.desk.close()
        self.live.close()

    def _routes(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/healthz", self._health),
                Route("/metrics", self._metrics),
                Route("/v1/models", self._list_models),
                Route("/v1/models/{name:path}", self._describe_model),
                Route("/v1/audio/transcriptions", self.desk.transcribe, methods=["POST"]),
                Route("/", show_page),
                Route("/static/{name}", show_page),
                *(Route(f"/{desk.page}", show_page) for desk in self.desks),
                *(route for desk in self.desks for route in desk.routes),
                WebSocketRoute("/", self.live.listen),  # Where Vosk's clients look for it.
                WebSocketRoute("/live", self.live.listen),
            ],
            exception_handlers={
                Refusal: _refused,
                HTTPException: _http_error,
                Exception: _fault,
            },
        )

    async def _health(self, request: Request) -> Response:
        del request
        if self.guard.is_stopping:
            return _json({"status": "stopping"}, 503)
        pages = [desk.page for desk in self.desks]
        return _json({"status": "ok", "models": list(self.models), "pages": pages})

    async def _metrics(self, request: Request) -> Response:
        del request
        return PlainTextResponse(
            self.counters.text(), headers={"content-type": "text/plain; version=0.0.4"}
        )

    async def _list_models(self, request: Request) -> Response:
        del request
        return _json({"object": "list", "data": [dict(m.facts) for m in self.models.values()]})

    async def _describe_model(self, request: Request) -> Response:
        return _json(dict(self.desk.find_model(request.path_params["name"]).facts))


def make_app(
    models: Sequence[ServedModel],
    options: ServerOptions | None = None,
    counters: Counters | None = None,
    desks: Sequence[PageDesk] = (),
) -> Guard:
    """An ASGI application, for a server of one's own; `run_server` brings one along."""
    return Site(models, options or ServerOptions(), counters or Counters(), desks).guard


def _json(value: object, status: int = 200) -> Response:
    return Response(json_text(value), status, media_type="application/json")


def _refused(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, Refusal)
    headers = {"retry-after": "1"} if error.status in (429, 503) else {}
    return Response(error.content, error.status, headers, "application/json")


def _http_error(request: Request, error: Exception) -> Response:
    """What Starlette refuses: paths, methods, forms that are none."""
    assert isinstance(error, HTTPException)
    detail = {404: "there is nothing at", 405: f"{request.method} is not what one does with"}
    text = detail.get(error.status_code)
    message = f"{text} {request.url.path}" if text else str(error.detail)
    return _refused(request, Refusal(error.status_code, printable(message)))


def _fault(request: Request, error: Exception) -> Response:
    """A fault of this program: its traceback is logged, and not shown to strangers."""
    return _refused(request, Refusal(500, f"{type(error).__name__}: a fault of this program"))
