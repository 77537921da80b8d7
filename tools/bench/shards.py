"""A large corpus of tiny audio: tar shards written, read, indexed, and trained from.

    python tools/bench/shards.py --utterances 1000000 --folder /somewhere/with/room
    python tools/bench/shards.py --utterances 10000000 --index-only

The first trains some steps from the shards, once whole and once with a `kill -9` in between, and
compares the weights. The second goes to the first step of a training and has no audio. "Own" memory
is what the process holds for itself (RssAnon); with the pages of mapped files, which the system
takes back when it needs them, it is what `time` calls the maximum resident set (VmHWM).
"""

import argparse
import hashlib
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from asr.config import Config  # noqa: E402
from asr.corpus import pack  # noqa: E402
from asr.corpus.members import read_shards  # noqa: E402
from asr.corpus.shards import list_shards  # noqa: E402
from asr.corpus.streamed import index_shards, open_sharded  # noqa: E402
from asr.errors import StoppedError  # noqa: E402
from asr.training import train  # noqa: E402
from asr.training.step import Learner  # noqa: E402
from tests.tones import TONES, write_corpus  # noqa: E402

RATE = 8000
SHARD = 20_000  # utterances
WINDOW = 150_000_000  # bytes of samples
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", *TONES)
LETTERS = sorted({letter for word in TONES for letter in word})  # the dev set is tones
CONFIG = Config.model_validate(
    {
        "features": {"sample_rate": RATE, "num_mel_bins": 20},
        "encoder": {"hidden_size": 24, "num_layers": 1, "conv_channels": 24, "subsampling": 1},
        "training": {"epochs": 1, "checkpoint_seconds": 2, "stream": True},
    }
)


class EnoughError(Exception):
    """As many steps as were asked for."""


def memory(key: str) -> float:
    """Megabytes of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("no /proc here")


@contextmanager
def measured(what: str, count: int) -> Iterator[None]:
    start, cpu = time.monotonic(), time.process_time()
    yield
    wall, own = time.monotonic() - start, time.process_time() - cpu
    print(
        f"{what:<24} {count / own:>12,.0f} a second of processor time, {own:8.1f} s ({wall:.1f} s "
        f"by the clock), {memory('RssAnon'):8.0f} MB",
        flush=True,
    )


def member(name: str, content: bytes) -> bytes:
    """A file of a tar, as ustar has it."""
    header = bytearray(512)
    header[: len(name)] = name.encode()
    header[124:136] = b"%011o\0" % len(content)
    header[148:157] = b"        0"
    header[257:265] = b"ustar\x0000"
    header[148:156] = b"%06o\0 " % sum(header)
    return header + content + bytes(-len(content) % 512)


def write(folder: Path, count: int) -> None:
    """Shards of 0.1 to 0.2 s of noise and two letters each, every other one with a space."""
    random = np.random.default_rng(1)
    noise = random.integers(-9000, 9000, 60_000).astype("<i2").tobytes()
    folder.mkdir()
    for first in range(0, count, SHARD):
        with (folder / f"{first // SHARD:06d}.tar").open("wb") as file:
            last = min(count, first + SHARD)
            lengths = random.integers(RATE // 10, RATE // 5, last - first).tolist()
            places = random.integers(0, 50_000, last - first).tolist()
            for number, length, place in zip(range(first, last), lengths, places, strict=True):
                samples = noise[2 * place : 2 * (place + length)]
                form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
                data = form + struct.pack("<4sI", b"data", len(samples)) + samples
                wav = struct.pack("<4sI4s", b"RIFF", 4 + len(data), b"WAVE") + data
                letters = LETTERS[number % 4], LETTERS[number // 4 % 4]
                text = ("", " ")[number % 2].join(letters)
                row = json.dumps({"id": f"u{number}", "text": text}).encode()
                file.write(member(f"{number:09d}.wav", wav) + member(f"{number:09d}.json", row))
            file.write(bytes(1024))


def write_index(folder: Path, count: int) -> None:
    """What the pack stage would keep of shards: 1 to 5 s an utterance, four words."""
    index = folder / "index"
    index.mkdir()
    random = np.random.default_rng(1)
    lengths = random.integers(RATE, 5 * RATE, count)
    with (index / "manifest.jsonl").open("w") as file:
        for number, length in enumerate(lengths.tolist()):
            text = " ".join(WORDS[int(digit)] for digit in f"{number:08d}"[-4:])
            row = f'"id": "u{number}", "audio_filepath": "{number // SHARD:06d}.tar/{number}.wav"'
            file.write(f'{{{row}, "duration": {length / RATE}, "text": "{text}"}}\n')
    np.save(index / "starts.npy", np.concatenate([[0], np.cumsum(lengths)]))
    np.save(index / "digests.npy", random.integers(0, 2**63, count).astype(np.uint64))
    firsts = [*range(0, count, SHARD), count]
    np.save(index / "shards.npy", np.array(firsts))
    names = (f"{number:06d}.tar\n" for number in range(len(firsts) - 1))
    (folder / "train.shards").write_text("".join(names))


def train_here(folder: Path, own: Path, stop: int, window: int) -> None:
    """In a process of its own: from the index to the step `stop`, and what the weights are then."""
    began = time.monotonic()
    config = CONFIG
    (own / "scratch").mkdir(parents=True, exist_ok=True)
    if not (folder / "dev").exists():
        pack(write_corpus(folder / "audio", 20, 2), folder / "dev", config.features)
    from asr.corpus import open_packed

    learn = Learner.step
    first: list[int] = []

    def step(self: Learner, rows: Any, number: int) -> None:
        if not first and stop:
            learn(self, rows, number)
        if not stop:  # there is no audio: save the state as it is
            os.kill(os.getpid(), signal.SIGTERM)
        if not first:
            print(
                f"at step {number + bool(stop)} after {time.monotonic() - began:.1f} s, "
                f"{time.process_time():.1f} s of processor time; own memory "
                f"{memory('RssAnon'):.0f} MB",
                flush=True,
            )
            first.append(number)
        else:
            learn(self, rows, number)
        if not stop:
            return
        print(f"step {number}", flush=True)
        if number + 1 >= stop:
            digest = hashlib.sha256()
            for value in self.network.state_dict().values():
                digest.update(value.numpy().tobytes())
            print(f"weights {digest.hexdigest()[:16]}; {1 + number - first[0]} steps here", end="")
            raise EnoughError

    Learner.step = step  # type: ignore[method-assign]
    listed, dev = folder / "train.shards", open_packed(folder / "dev")
    with open_sharded(folder / "index", listed, config.features, window) as corpus:
        read, seen = corpus.values._read, []  # type: ignore[union-attr]
        corpus.values._read = lambda shard: seen.append(shard) or read(shard)  # type: ignore
        try:
            train(corpus, dev, config, own, scratch=own / "scratch", device="cpu", report=print)
        except StoppedError:
            pass
        except EnoughError:
            print(
                f", {len(seen)} of {len(corpus.values.starts) - 1} shards begun; most memory: own "  # type: ignore
                f"and mapped {memory('VmHWM'):.0f} MB; own now {memory('RssAnon'):.0f} MB; "
                f"{time.process_time():.1f} s of processor time",
                flush=True,
            )


def start(folder: Path, name: str, stop: int, window: int) -> "subprocess.Popen[str]":
    own = folder / name
    command = [sys.executable, __file__, "--here", str(own), "--folder", str(folder)]
    command += ["--steps", str(stop), "--window", str(window)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def follow(process: "subprocess.Popen[str]", kill_at: int | None = None) -> str:
    """Show what it prints; returns what it says of the weights."""
    assert process.stdout is not None
    weights = ""
    for line in process.stdout:
        if line.startswith("step "):
            if kill_at is not None and int(line.split()[1]) >= kill_at:
                process.kill()
                print(f"  killed in step {int(line.split()[1]) + 1}", flush=True)
                break
            continue
        if line.startswith("weights "):
            weights = line.split()[1]
        print(f"  {line.rstrip()}", flush=True)
    process.wait()
    return weights


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--utterances", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--index-only", action="store_true")
    parser.add_argument("--steps", type=int, default=200, help="of 60 s of audio")
    parser.add_argument("--window", type=int, default=WINDOW, help="bytes of samples")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    count, steps, window = arguments.utterances, arguments.steps, arguments.window
    if arguments.here:
        train_here(arguments.folder, arguments.here, steps, window)
        return 0
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        if arguments.index_only:
            with measured("index made up", count):
                write_index(folder, count)
            print("first start:")
            follow(start(folder, "run", 0, 10**9))
            print("second start:")
            follow(start(folder, "run", 0, 10**9))
            return 0
        with measured("shards written", count):
            write(folder / "shards", count)
        (folder / "train.shards").write_text(
            "".join(f"shards/{path.name}\n" for path in sorted((folder / "shards").iterdir()))
        )
        locations, _ = list_shards(folder / "train.shards")
        with measured("a shard read", min(count, SHARD)):
            assert sum(1 for _ in read_shards(locations[:1])) == min(count, SHARD)
        with measured("shards indexed", count):
            index_shards(locations, count, folder / "index", CONFIG.features)
        print("one run:")
        whole = follow(start(folder, "whole", steps, window))
        print("killed, and again:")
        follow(start(folder, "killed", steps, window), kill_at=steps * 4 // 5)
        again = follow(start(folder, "killed", steps, window))
        print("equal to the bit" if whole == again != "" else "DIFFERENT")
        return int(whole != again)


if __name__ == "__main__":
    sys.exit(main())
