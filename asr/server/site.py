"""The pages and their parts, which stand in `asr/assets/serve`; pages share a head."""

from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from asr import page
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
    texts = {
        part.name: page.render_text(f"serve/{part.name}")
        if part.name.endswith(".html")
        else part.read_text(encoding="utf-8")
        for part in parts
    }
    return {name: (text, _TYPES[name.rpartition(".")[2]]) for name, text in texts.items()}


async def show_page(request: Request) -> Response:
    """Answer a page, or `/static/NAME`."""
    name = request.path_params.get("name") or _PAGES[request.url.path]
    if name not in page_parts():
        raise Refusal(404, f"there is nothing at {printable(request.url.path)}")
    content, media_type = page_parts()[name]
    return Response(content, media_type=media_type)
