"""What a page of this server sends, as far as it can be used."""

import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from asr.errors import printable
from asr.server.replies import Refusal, json_text
from asr.text import normalize

_MOST_BYTES = 2**20
LONGEST_NAME, LONGEST_TEXT = 100, 10_000  # characters


async def read_message(request: Request) -> Mapping[str, Any]:
    """The JSON object of a request.

    Raises:
        Refusal: it is none, larger than a MiB, or has half a surrogate pair in it.
    """
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > _MOST_BYTES:
            raise Refusal(413, "more than a MiB for a decision", code="too_large")
    try:
        values = json.loads(content)
        json.dumps(values, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "a JSON object is expected") from error
    if not isinstance(values, dict):
        raise Refusal(400, "a JSON object is expected")
    return values


def text_of_message(values: Mapping[str, Any], key: str, longest: int = LONGEST_NAME) -> str:
    """A text, as tokens see it; empty where there is none.

    Raises:
        Refusal: it is none, or too long.
    """
    value = values.get(key) or ""
    if not isinstance(value, str) or len(value) > longest:
        raise Refusal(400, f"{key}: a text of at most {longest:,} characters", param=key)
    return normalize("".join(c if c.isprintable() else " " for c in value))


def client_of(values: Mapping[str, Any]) -> str:
    """The name that a page has given itself, by chance.

    Raises:
        Refusal: it has none.
    """
    client = text_of_message(values, "client")
    if not client:
        raise Refusal(400, "client is missing: a name of the page's own", param="client")
    return client


def number_of(values: Mapping[str, Any], count: int, thing: str) -> int:
    """The `number` of one of so many things.

    Raises:
        Refusal: it is none.
    """
    value = values.get("number")
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Refusal(400, "number: a number is expected", param="number")
    if value >= count:
        raise Refusal(404, f"there is no {thing} {value}")
    return value


def seconds_of(values: Mapping[str, Any], key: str) -> float:
    """A time in seconds.

    Raises:
        Refusal: it is none.
    """
    value = values.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise Refusal(400, f"{key}: seconds are expected", param=key)
    return float(value)


def answer(value: object) -> Response:
    """A page's answer."""
    return Response(json_text(value), media_type="application/json")


def one_line(error: Exception) -> str:
    """What is wrong, without what could steer a terminal or a page."""
    return printable(" ".join(str(error).split()))
