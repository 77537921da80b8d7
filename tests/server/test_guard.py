"""Who may ask, how much and for how long, over real sockets."""

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from asr.corpus.manifest import Utterance
from asr.errors import ConfigError
from asr.server.options import ServerOptions, check_reachable, read_keys
from tests.server.conftest import PATH, Client, Serve, form

KEY, OTHER = "0123456789abcdef", "fedcba9876543210-and-more"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[bytes, ...]:
    (tmp_path / "keys").write_text(f"{KEY}\n\n {OTHER} \n", encoding="utf-8")
    return read_keys(tmp_path / "keys")


def read_all(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "", "a b", "127.0.0.1.x", "[::"]
)
def test_names_of_other_hosts_are_refused(client: Client, host: str) -> None:
    answer = client.ask("/v1/models", headers={"host": host})
    assert answer.status == 403
    assert answer.error["code"] == "unknown_host"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:80", "10.0.0.9"])
def test_addresses_and_localhost_are_answered(client: Client, host: str) -> None:
    assert client.ask("/v1/models", headers={"host": host}).status == 200


def test_a_name_may_be_allowed(tones: Any, serving: Serve) -> None:
    with serving(tones, allowed_hosts=("Speech.example",)) as client:
        assert client.ask("/v1/models", headers={"host": "speech.example:8080"}).status == 200


def test_pages_of_other_origins_are_refused(client: Client, speech: list[Utterance]) -> None:
    content = speech[0].audio_filepath.read_bytes()
    here = f"127.0.0.1:{client.port}"
    for origin in ("https://evil.example", "null", "file://", f"http://127.0.0.1:{client.port}0"):
        answer = client.transcribe(content, headers={"origin": origin})
        assert (answer.status, answer.error["code"]) == (403, "other_origin")
    assert client.transcribe(content, headers={"origin": f"http://{here}"}).status == 200
    assert "access-control-allow-origin" not in answer.headers


def test_every_answer_has_the_policy(client: Client) -> None:
    for path in ("/healthz", "/metrics", "/v1/models", "/nothing"):
        headers = client.ask(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
    assert (
        "default-src" in client.ask("/", headers={"host": "x"}).headers["content-security-policy"]
    )


def test_a_key_is_needed_where_there_are_some(
    tones: Any, serving: Serve, keys: tuple[bytes, ...], speech: list[Utterance]
) -> None:
    content = speech[0].audio_filepath.read_bytes()
    with serving(tones, key_digests=keys) as client:
        for header in (
            {},
            {"authorization": f"Bearer {KEY}x"},
            {"authorization": f"Basic {KEY}"},
            {"authorization": "Bearer "},
            {"authorization": "Bearer \xe9"},
        ):
            answer = client.transcribe(content, headers=header)
            assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
            assert answer.error["type"] == "authentication_error"
            assert client.ask("/metrics", headers=header).status == 401
        assert client.ask("/healthz").status == 200
        for key in (KEY, OTHER):
            answer = client.transcribe(content, headers={"authorization": f"bearer {key}"})
            assert answer.status == 200


def test_keys_that_can_be_guessed_are_no_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    for text, said in [("", "no key"), ("short\n", "keys:1: a key has"), (f"{KEY}\nä" * 9, ":2")]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=said):
            read_keys(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_keys(tmp_path / "none")


def test_other_machines_need_a_key_or_the_word(keys: tuple[bytes, ...]) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.2", "speech.example"):
        with pytest.raises(ConfigError, match="--insecure"):
            check_reachable(ServerOptions(host=host), insecure=False)
        check_reachable(ServerOptions(host=host), insecure=True)
        check_reachable(ServerOptions(host=host, key_digests=keys), insecure=False)
    for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        check_reachable(ServerOptions(host=host), insecure=False)


def test_large_bodies_are_refused_whether_or_not_they_say_so(tones: Any, serving: Serve) -> None:
    body, kind = form(bytes(3 * 2**20), model="tones")
    with serving(tones, max_bytes=2**20) as client:
        answer = client.ask(PATH, body, {"content-type": kind})
        assert (answer.status, answer.error["code"]) == (413, "too_large")
        assert "1 MiB" in answer.error["message"]
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
            "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
            connection.sendall(head.encode())
            for start in range(0, len(body), 65536):
                part = body[start : start + 65536]
                connection.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            connection.sendall(b"0\r\n\r\n")
            assert read_all(connection).startswith(b"HTTP/1.1 413 ")
        assert client.ask("/healthz").status == 200


def test_slow_clients_are_not_waited_for(tones: Any, serving: Serve) -> None:
    with serving(tones, body_seconds=0.4, idle_seconds=0.4) as client:
        address = ("127.0.0.1", client.port)
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
        head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        with socket.create_connection(address, timeout=20) as connection:
            connection.sendall(head.encode() + b"--x\r\n")
            answer = read_all(connection)
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"did not arrive within 0.4 s" in answer
        for start in (b"", b"GET / HT", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /h"):
            begin = time.monotonic()
            with socket.create_connection(address, timeout=20) as connection:
                connection.sendall(start)
                answer = read_all(connection)
            assert answer.count(b"HTTP/1.1 200") == start.count(b"\r\n\r\n")
            assert time.monotonic() - begin < 19
        assert client.ask("/healthz").status == 200


def test_clients_that_go_away_leave_nothing_behind(
    tones: Any, serving: Serve, speech: list[Utterance]
) -> None:
    body, kind = form(speech[0].audio_filepath.read_bytes(), model="tones")
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with serving(tones) as client:
        for share in (0.0, 0.5, 1.0) * 17:
            with socket.create_connection(("127.0.0.1", client.port)) as connection:
                connection.sendall(head.encode() + body[: int(share * len(body))])
        for _ in range(200):
            if "asr_requests_open 0" in client.ask("/metrics").body.decode():
                break
            time.sleep(0.05)
        else:
            raise AssertionError("requests of users who have gone are still open")
        assert client.ask(PATH, body, {"content-type": kind}).json["text"] == speech[0].text
