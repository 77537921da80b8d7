"""A server in a thread, and what a client needs to talk to it by hand."""

import http.client
import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from asr.corpus.manifest import Utterance
from asr.transcription.recognizer import Recognizer
from tests.tones import write_corpus

if TYPE_CHECKING:
    from asr.server.models import ServedModel
    from asr.server.running import RunningServer

PATH = "/v1/audio/transcriptions"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]


def form(
    content: bytes | None, name: str = "a.wav", **fields: str | list[str]
) -> tuple[bytes, str]:
    """A multipart body and its type; a field `x__` is called `x[]`."""
    bound = uuid.uuid4().hex
    lines = []
    for key, values in fields.items():
        for value in [values] if isinstance(values, str) else values:
            field = key.removesuffix("__") + "[]" if key.endswith("__") else key
            lines += [f"--{bound}", f'Content-Disposition: form-data; name="{field}"', "", value]
    body = "\r\n".join([*lines, ""]).encode() if lines else b""
    if content is not None:
        quoted = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "%0A")
        head = f'--{bound}\r\nContent-Disposition: form-data; name="file"; filename="{quoted}"\r\n'
        body += head.encode("utf-8", "surrogateescape")
        body += b"Content-Type: audio/wav\r\n\r\n" + content + b"\r\n"
    return body + f"--{bound}--\r\n".encode(), f"multipart/form-data; boundary={bound}"


class Client:
    def __init__(self, server: "RunningServer"):
        self.server = server
        self.url = server.url
        self.port = int(server.url.rstrip("/").rpartition(":")[2])

    def ask(
        self,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        method: str | None = None,
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(
                method or ("GET" if body is None else "POST"), path, body, headers or {}
            )
            response = connection.getresponse()
            head = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, head, response.read())
        finally:
            connection.close()

    def tell(self, path: str, **values: Any) -> Answer:
        """What a page says, as JSON."""
        return self.ask(path, json.dumps(values).encode())

    def transcribe(
        self,
        content: bytes | None,
        name: str = "a.wav",
        headers: Mapping[str, str] | None = None,
        **fields: str | list[str],
    ) -> Answer:
        body, kind = form(content, name, **fields)
        return self.ask(PATH, body, {"content-type": kind, **(headers or {})})


Serve = Callable[..., AbstractContextManager[Client]]


@pytest.fixture(scope="session")
def serving() -> Serve:
    """Starts a server with models and options, as a context."""
    pytest.importorskip("uvicorn")
    pytest.importorskip("starlette")
    pytest.importorskip("websockets")
    pytest.importorskip("python_multipart")
    from asr.server.counters import Counters
    from asr.server.options import ServerOptions
    from asr.server.running import RunningServer

    @contextmanager
    def start(
        *models: "ServedModel",
        counters: Counters | None = None,
        desks: Sequence[Any] = (),
        **options: Any,
    ) -> Iterator[Client]:
        server = RunningServer(models, ServerOptions(**{"port": 0} | options), counters, desks)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield Client(server)
        finally:
            server.stop()
            thread.join(30)
            assert not thread.is_alive()

    return start


@pytest.fixture(scope="session")
def tones(tone_run: Path, serving: Serve) -> "ServedModel":
    """The tones' model, of two directions."""
    del serving
    from asr.server.models import serve_model

    return serve_model("tones", Recognizer.load(tone_run / "model", device="cpu"))


@pytest.fixture(scope="session")
def client(tones: "ServedModel", serving: Serve) -> Iterator[Client]:
    with serving(tones) as started:
        yield started


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    return write_corpus(tmp_path_factory.mktemp("speech"), 12, seed=9, longest_pause=0.8)
