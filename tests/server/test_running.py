"""`asr serve` as a program: how it starts and how it stops."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from asr.cli import main
from asr.corpus.manifest import Utterance
from asr.server.models import _name_and_place
from tests.server.conftest import Serve, form

Captured = pytest.CaptureFixture[str]


def test_it_serves_until_sigterm_and_finishes_what_runs(
    tone_run: Path, serving: Serve, speech: list[Utterance]
) -> None:
    del serving
    command = [sys.executable, "-m", "asr", "serve", f"tones={tone_run / 'model'}", "--port", "0"]
    command += ["--device", "cpu", "--threads", "1", "--log-transcripts"]
    program = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert program.stderr is not None
        line = program.stderr.readline()
        started = re.fullmatch(r"(http://127\.0\.0\.1:(\d+)/) serves tones\n", line)
        assert started, line
        body, kind = form(speech[0].audio_filepath.read_bytes(), model="tones")
        address = ("127.0.0.1", int(started[2]))
        with socket.create_connection(address, timeout=60) as connection:
            connection.sendall(
                f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            )
            connection.sendall(body[:-10])
            # That it is being received is known when it counts as open.
            for _ in range(200):
                with urllib.request.urlopen(f"{started[1]}metrics") as answer:
                    if b"asr_requests_open 1" in answer.read():
                        break
                time.sleep(0.05)
            program.send_signal(signal.SIGTERM)
            for _ in range(200):
                try:
                    socket.create_connection(address, timeout=5).close()
                except ConnectionRefusedError:
                    break
                time.sleep(0.05)
            connection.sendall(body[-10:])
            head, _, content = connection.makefile("rb").read().partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            assert json.loads(content)["text"] == speech[0].text
        out, err = program.communicate(timeout=60)
        assert program.returncode == 0
        assert not out
        assert re.fullmatch(rf"tones: .* s of audio in .* s: {speech[0].text}\n", err), err
    finally:
        program.kill()
        program.wait()


def test_a_port_that_is_taken_is_said_in_a_line(
    tone_run: Path, serving: Serve, capsys: Captured
) -> None:
    del serving
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        model = str(tone_run / "model")
        assert main(["serve", model, "--device", "cpu", "--port", str(port)]) == 2
    assert f"--port {port}: another program listens there" in capsys.readouterr().err


def test_wrong_usage_is_said_before_a_model_is_read(
    serving: Serve, capsys: Captured, tmp_path: Path
) -> None:
    del serving
    for arguments, said in [
        (["nowhere", "--host", "0.0.0.0"], "--api-key-file FILE, or --insecure"),
        (["nowhere", "--api-key-file", str(tmp_path / "k")], "No such file"),
        (["nowhere"], "nowhere: not a model folder"),
        (["=x"], "=x: NAME=FOLDER is expected"),
        (["a/x", "b/x"], "a/x and b/x would both be called x"),
        (["x=a", "x=b"], "a and b would both be called x"),
    ]:
        assert main(["serve", *arguments]) == 2
        assert said in capsys.readouterr().err


def test_models_are_named_after_what_their_path_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {
        "work/calls/default/model": "calls",
        "work/calls/live/model": "live",
        "digits-onnx/": "digits-onnx",
        "english": "english",
        "phone=work/calls/default/model": "phone",
    }
    assert {given: _name_and_place(given)[0] for given in names} == names


def test_without_its_packages_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "uvicorn" else 1)
    assert main(["serve", "english"]) == 2
    assert "asr serve needs uvicorn: pip install 'asr-recipes[serve]'" in capsys.readouterr().err
