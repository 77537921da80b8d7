"""The pages and their parts, which stand in `asr/assets/serve` and are served as they are."""

from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from asr.errors import printable
from asr.server.replies import Refusal

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_PAGES = {"/": "index.html", "/review": "review.html", "/record": "record.html"}
_SHARED = ("page.css", "sound.js", "recorder.js")  # with the pages that `asr export` writes


@cache
def page_parts() -> dict[str, tuple[str, str]]:
    """The text and media type of each file of the page, by name."""
    assets = files("asr") / "assets"
    parts = [*(assets / "serve").iterdir(), *(assets / name for name in _SHARED)]
    return {
        part.name: (part.read_text(encoding="utf-8"), _TYPES[part.name.rpartition(".")[2]])
        for part in parts
    }


async def show_page(request: Request) -> Response:
    """Answer a page, or `/static/NAME`."""
    name = request.path_params.get("name") or _PAGES[request.url.path]
    if name not in page_parts():
        raise Refusal(404, f"there is nothing at {printable(request.url.path)}")
    content, media_type = page_parts()[name]
    return Response(content, media_type=media_type)
