"""Speed of `asr serve`: many users at once, live streams, and memory over many requests.

    python tools/bench/serving.py users MODEL MANIFEST [--requests 200] [--users 1,8,32]
    python tools/bench/serving.py live MODEL MANIFEST [--streams 1,2,4,8,16]
    python tools/bench/serving.py memory MODEL MANIFEST [--requests 10000]

`users` asks a server of one thread for the utterances of the manifest, each as a file of its own:
so many users, each with one request at a time. Beside it, in turns so that other work on the
machine hits all alike: a loop of `Recognizer.transcribe`, and `Recognizer.transcribe_all`, which is
what `asr transcribe` does. `live` plays joined utterances at the speed of speech, in portions of a
tenth of a second, and tells how late the answers are. `memory` prints what the server holds after
each thousand requests.
"""

import argparse
import asyncio
import http.client
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile

from asr.audio import read_audio
from asr.corpus import read_manifest
from asr.transcription import Recognizer

PATH = "/v1/audio/transcriptions"
PORTION = 0.1  # seconds
LIVE_SECONDS = 20.0


class Server:
    """`asr serve` as a program, with one thread."""

    def __init__(self, model: Path):
        command = [sys.executable, "-m", "asr", "serve", str(model), "--port", "0"]
        self.program = subprocess.Popen(
            [*command, "--threads", "1", "--device", "cpu"], stderr=subprocess.PIPE, text=True
        )
        assert self.program.stderr is not None
        line = next(line for line in self.program.stderr if " serves " in line)
        self.port = int(line.split()[0].rstrip("/").rpartition(":")[2])
        threading.Thread(target=self.program.stderr.read, daemon=True).start()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.program.terminate()
        self.program.wait()

    @property
    def megabytes(self) -> float:
        """Resident."""
        status = Path(f"/proc/{self.program.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


def body_of(path: Path) -> tuple[bytes, str]:
    bound = uuid.uuid4().hex
    head = (
        f'--{bound}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
    )
    content = head.encode() + path.read_bytes() + f"\r\n--{bound}--\r\n".encode()
    return content, f"multipart/form-data; boundary={bound}"


class User(threading.local):
    """A thread's connection, which it keeps."""

    connection: http.client.HTTPConnection | None = None


def ask(user: User, port: int, body: tuple[bytes, str]) -> tuple[str, float]:
    """The text, and seconds until it was there."""
    begin = time.perf_counter()
    for _ in range(2):  # a connection that was idle may have been closed
        user.connection = user.connection or http.client.HTTPConnection("127.0.0.1", port)
        try:
            user.connection.request("POST", PATH, body[0], {"content-type": body[1]})
            reply = user.connection.getresponse()
            content = reply.read()
            assert reply.status == 200, content
            return json.loads(content)["text"], time.perf_counter() - begin
        except (http.client.HTTPException, ConnectionError):
            user.connection = None
    raise AssertionError("the server does not answer")


def write_files(manifest: Path, folder: Path, count: int) -> list[Path]:
    paths = []
    for number, utterance in enumerate(read_manifest(manifest)[:count]):
        audio = read_audio(
            utterance.audio_filepath,
            sample_rate=16000,
            offset=utterance.offset,
            duration=utterance.duration,
        )
        paths.append(folder / f"{number}.wav")
        soundfile.write(paths[-1], audio.samples, 16000, subtype="PCM_16")
    return paths


def many_users(port: int, bodies: Sequence[tuple[bytes, str]], count: int) -> tuple[float, list]:
    """Seconds in all, and each request's text and delay."""
    user = User()
    with ThreadPoolExecutor(count) as pool:
        begin = time.perf_counter()
        answers = list(pool.map(lambda body: ask(user, port, body), bodies))
        return time.perf_counter() - begin, answers


def bench_users(model: Path, manifest: Path, requests: int, users: Sequence[int]) -> None:
    recognizer = Recognizer.load(model, device="cpu", threads=1)
    with tempfile.TemporaryDirectory() as folder, Server(model) as server:
        paths = write_files(manifest, Path(folder), requests)
        bodies = [body_of(path) for path in paths]
        seconds = sum(soundfile.info(path).duration for path in paths)
        print(f"{len(paths)} files, {seconds / len(paths):.2f} s each", flush=True)
        many_users(server.port, bodies[:20], 4)
        for path in paths[:5]:
            recognizer.transcribe(path)
        begin = time.perf_counter()
        texts = [recognizer.transcribe(path).text for path in paths]
        loop = time.perf_counter() - begin
        begin = time.perf_counter()
        list(recognizer.transcribe_all(paths))
        batch = time.perf_counter() - begin
        print(f"loop of Recognizer.transcribe {len(paths) / loop:7.1f} files a second")
        print(f"Recognizer.transcribe_all     {len(paths) / batch:7.1f}", flush=True)
        for count in users:
            took, answers = many_users(server.port, bodies, count)
            assert [text for text, _ in answers] == texts
            delays = sorted(1000 * delay for _, delay in answers)
            print(
                f"{count:3} users {len(paths) / took:7.1f} requests a second, delay "
                f"{statistics.median(delays):.0f} ms (95 %: "
                f"{delays[int(0.95 * (len(delays) - 1))]:.0f}), {batch / took:.0%} of the batch "
                f"rate, {loop / took:.2f} of the loop's",
                flush=True,
            )


async def one_stream(port: int, samples: np.ndarray, rate: int, late: list[float]) -> None:
    import websockets

    size = round(PORTION * rate)
    async with websockets.connect(f"ws://127.0.0.1:{port}/live") as socket:
        await socket.send(json.dumps({"config": {"sample_rate": rate, "words": False}}))
        begin = time.perf_counter()
        sent: list[float] = []

        async def send() -> None:
            for place in range(0, len(samples), size):
                await asyncio.sleep(max(0.0, begin + place / rate - time.perf_counter()))
                sent.append(time.perf_counter())
                await socket.send(samples[place : place + size].tobytes())

        sending = asyncio.create_task(send())
        for number in range(-(-len(samples) // size)):
            await socket.recv()
            late.append(time.perf_counter() - sent[number])
        await sending
        await socket.send('{"eof": 1}')
        await socket.recv()


def bench_live(model: Path, manifest: Path, streams: Sequence[int]) -> None:
    with tempfile.TemporaryDirectory() as folder, Server(model) as server:
        paths = write_files(manifest, Path(folder), 60)
        joined = np.concatenate([soundfile.read(path, dtype="int16")[0] for path in paths])
        size = round(LIVE_SECONDS * 16000)

        async def run(count: int, late: list[float]) -> None:
            shift = len(joined) // max(streams)
            parts = [np.roll(joined, -shift * number)[:size] for number in range(count)]
            await asyncio.gather(*(one_stream(server.port, part, 16000, late) for part in parts))

        for count in streams:
            late: list[float] = []
            asyncio.run(run(count, late))
            late.sort()
            print(
                f"{count:3} streams: answers after {1000 * statistics.median(late):.0f} ms "
                f"(95 %: {1000 * late[int(0.95 * (len(late) - 1))]:.0f}, "
                f"most {1000 * late[-1]:.0f})",
                flush=True,
            )


def bench_memory(model: Path, manifest: Path, requests: int) -> None:
    user = User()
    with tempfile.TemporaryDirectory() as folder, Server(model) as server:
        bodies = [body_of(path) for path in write_files(manifest, Path(folder), 100)]
        with ThreadPoolExecutor(8) as pool:
            for thousand in range(0, requests, 1000):
                count = min(1000, requests - thousand)
                rows = [bodies[number % len(bodies)] for number in range(count)]
                list(pool.map(lambda body: ask(user, server.port, body), rows))
                files = len(list(Path(f"/proc/{server.program.pid}/fd").iterdir()))
                threads = len(list(Path(f"/proc/{server.program.pid}/task").iterdir()))
                print(
                    f"{thousand + count:6} requests: {server.megabytes:.1f} MB, "
                    f"{files} open files, {threads} threads",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["users", "live", "memory"])
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--users", default="1,8,32")
    parser.add_argument("--streams", default="1,2,4,8,16")
    arguments = parser.parse_args()
    model, manifest = arguments.model, arguments.manifest
    if arguments.what == "users":
        users = [int(count) for count in arguments.users.split(",")]
        bench_users(model, manifest, arguments.requests or 200, users)
    elif arguments.what == "live":
        bench_live(model, manifest, [int(count) for count in arguments.streams.split(",")])
    else:
        bench_memory(model, manifest, arguments.requests or 10_000)


if __name__ == "__main__":
    main()
