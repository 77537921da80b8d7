"""Attacks the readers: files of every kind, damaged and replaced, opened and used until they break.

    python tools/attack.py [--cases 600] [--seed 1] [--only model] [--seconds 600]
    python tools/attack.py --flips --cases 100000 --seconds 7200

A case is one file of a set that works, changed: bits and bytes, numbers at their limits, parts that
are missing or twice, words that are traps; or replaced: by a pipe, a device, a link out of its
folder, a folder, nothing, terabytes of nothing. Held is what ends within ten seconds, in a result
or in an error of one line, and takes less than 2 GB. Each case follows from the seed and its number
alone, and a process that dies is named with its case. Exit code 1 if anything broke.

With `--flips` a case is one to three bits of a file, and what is run is what reads that file, so
that there is time for very many.
"""

import argparse
import json
import os
import queue
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools import attack_material as kinds  # noqa: E402

PATIENCE = 10.0  # seconds for a case
START = 600.0  # seconds in which a process is ready: it compiles the search
MEMORY = 2_000_000  # KiB
TRAPS = (
    *(b"\0", b"\x1b[2J", b"\xff\xfe", b"\xed\xa0\x80", "\u202e".encode(), b"\r", b"\n" * 300),
    *(b"../../../../etc/passwd", b"/dev/zero", b"-1", b"1e999", b"nan", b"9" * 5000, b"0x" * 20),
    *(
        b"[" * 100_000,
        b"{" * 20_000,
        b'"',
        b"{ a / b",
        b"/ @ }",
        b"2024-13-45",
        b"!!python/name:os",
    ),
    *(
        b"&a [*a,*a]",
        b"<!DOCTYPE x [<!ENTITY a 'b'>]>",
        b"\\data\\",
        b"%s%n",
        b"$(id)",
        b"a" * 70_000,
    ),
)
NUMBERS = (0, 1, -1, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63), 2**40, 255)


Target = tuple[str, str, Callable[[Path], Any]]
"""Group, file in its folder, and what uses the folder or the file."""


def targets(material: Path) -> list[Target]:
    """What may be attacked, each file once."""
    found: list[Target] = []
    for group in ("model", "exported"):
        files = sorted(p for p in (material / group).rglob("*") if p.is_file())
        found += [
            (group, p.relative_to(material / group).as_posix(), kinds.use_model)
            for p in files
            if p.name != ".asr-files.json"
        ]
    return found + [("data", name, read) for name, read in kinds.data_readers().items()]


def quick_targets(material: Path) -> list[Target]:
    """Of files that an export shares with its model one, and each with what reads it alone."""
    chosen = []
    for group, name, use in targets(material):
        if group == "data":
            chosen.append((group, name, use))
        elif group == "model" or name == "model.onnx":
            chosen.append((group, name, kinds.use_part(name, material / group)))
    return chosen


def flipped(content: bytes, draw: random.Random) -> bytes:
    """One to three bits changed."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def damaged(content: bytes, draw: random.Random) -> bytes:
    """A few bytes changed, or a part; most changes are small, so that the rest is still read."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        size = len(data)
        place = draw.randrange(size + 1)
        kind = draw.randrange(8)
        if kind <= 1 and size:
            data[place % size] ^= 1 << draw.randrange(8)
        elif kind == 2 and size:
            data[place % size] = draw.randrange(256)
        elif kind == 3:
            code = draw.choice(("<i", "<q", "<d", ">I", "<f"))
            number: float = draw.choice(NUMBERS)
            if code in ("<d", "<f"):
                number = draw.choice((float("nan"), float("inf"), -1e30, 1e30, 0.0))
            wide = struct.calcsize(code)
            value = number if isinstance(number, float) else number % 2 ** (8 * wide)
            if code in ("<i", "<q") and value >= 2 ** (8 * wide - 1):
                value -= 2 ** (8 * wide)
            place -= place % wide
            data[place : place + wide] = struct.pack(code, value)
        elif kind == 4:
            del data[place : place + draw.choice((1, 8, 100, 10**6))]
        elif kind == 5:
            data[place:place] = data[place : place + draw.choice((1, 8, 100))]
        elif kind == 6:
            data[place:place] = draw.choice(TRAPS)
        else:
            words = bytes(data).split(b" ")
            words[draw.randrange(len(words))] = draw.choice(TRAPS)
            data = bytearray(b" ".join(words))
    return bytes(data)


def replace(path: Path, draw: random.Random) -> None:
    """Something else than a file in its place."""
    path.unlink()
    kind = draw.randrange(7)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.symlink_to("/dev/zero")
    elif kind == 2:
        path.symlink_to("/etc/passwd")
    elif kind == 3:
        path.mkdir()
    elif kind == 4:
        path.write_bytes(b"")
    elif kind == 5:
        with path.open("wb") as file:
            file.truncate(2**42)
    else:
        path.symlink_to(path.name)


def attack(target: Target, material: Path, scratch: Path, draw: random.Random) -> str:
    """What became of a case: `ok`, `refused`, or what is wrong."""
    group, name, use = target
    folder = scratch / group
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(material / group, folder)
    path = folder / name
    if draw.random() < 0.1:
        replace(path, draw)
    else:
        path.write_bytes(damaged(path.read_bytes(), draw))
    return outcome_of(use, folder if group != "data" else path)


def flip(target: Target, material: Path, scratch: Path, draw: random.Random) -> str:
    """As `attack`, in a folder that stays."""
    group, name, use = target
    folder = scratch / group
    if not folder.exists():
        shutil.copytree(material / group, folder)
    content = (material / group / name).read_bytes()
    try:
        write_anew(folder / name, flipped(content, draw))
        return outcome_of(use, folder if group != "data" else folder / name)
    finally:
        write_anew(folder / name, content)


def write_anew(path: Path, content: bytes) -> None:
    """As another file, since the one of before may still be mapped into memory."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def outcome_of(use: Callable[[Path], Any], path: Path) -> str:
    from asr.errors import AsrError

    try:
        use(path)
    except AsrError as error:
        return "refused" if "\n" not in str(error) else f"an error of several lines: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
    return "ok"


def work(
    material: Path, scratch: Path, first: int, last: int, seed: int, only: str, flips: bool
) -> None:
    """In a process of its own: cases one by one, each with a line before it and one after it."""
    import faulthandler
    import resource
    import warnings

    faulthandler.enable()
    warnings.simplefilter("ignore")
    chosen = (quick_targets if flips else targets)(material)
    all_targets = [t for t in chosen if only in f"{t[0]}/{t[1]}"]
    kinds.use_model(material / "model")
    print(json.dumps({"ready": True}), flush=True)
    for number in range(first, last):
        draw = random.Random(seed * 1_000_003 + number)
        # Every file in turn, so that small ones get as many as large ones.
        target = all_targets[number % len(all_targets)]
        print(json.dumps({"case": number, "file": f"{target[0]}/{target[1]}"}), flush=True)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        outcome = (flip if flips else attack)(target, material, scratch, draw)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        if grown > MEMORY:
            outcome = f"{grown} KiB of memory"
        print(json.dumps({"outcome": outcome}), flush=True)


def rows_of(process: "subprocess.Popen[str]") -> "queue.Queue[dict[str, Any] | None]":
    """Its lines as they come; none at its end."""
    rows: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                rows.put(json.loads(line))
            except ValueError:
                continue
        rows.put(None)

    threading.Thread(target=read, daemon=True).start()
    return rows


def outcomes(
    material: Path, scratch: Path, cases: int, seed: int, only: str, seconds: float, flips: bool
) -> Iterator[tuple[int, str, str]]:
    """Number, file and outcome of each case, whatever becomes of the processes."""
    first, end = 0, time.monotonic() + seconds
    while first < cases and time.monotonic() < end:
        command = [sys.executable, __file__, "--work", str(material), str(scratch)]
        command += [str(first), str(cases), str(seed), only, "flips" if flips else ""]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            rows, case, patience = rows_of(process), {"case": first, "file": "(start)"}, START
            while True:
                try:
                    row = rows.get(timeout=patience)
                except queue.Empty:
                    process.kill()
                    yield case["case"], case["file"], f"no end in {patience:g} s"
                    break
                if row is None:
                    yield case["case"], case["file"], f"the process ended with {process.wait()}"
                    break
                patience = PATIENCE
                if "case" in row:
                    case = row
                elif "outcome" in row:
                    yield case["case"], case["file"], row["outcome"]
                    first = case["case"] + 1
                    if first == cases or time.monotonic() > end:
                        process.kill()
                        return
            first = max(first, case["case"] + 1)


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--work"]:
        material, scratch, first, last, seed, only, flips = arguments[1:]
        work(Path(material), Path(scratch), int(first), int(last), int(seed), only, bool(flips))
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="a part of the names of files, as model/lm/")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--flips", action="store_true", help="bits alone, quickly")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        material = Path(name, "material")
        kinds.make_model(material / "model")
        kinds.make_exported(material / "exported", material / "model")
        kinds.make_data(material / "data")
        counts: Counter[str] = Counter()
        broken = []
        for number, file, outcome in outcomes(
            material,
            Path(name),
            chosen.cases,
            chosen.seed,
            chosen.only,
            chosen.seconds,
            chosen.flips,
        ):
            held = outcome in ("ok", "refused")
            counts[outcome if held else "broken"] += 1
            if not held:
                broken.append(f"seed {chosen.seed}, case {number}, {file}: {outcome}")
                print(broken[-1], flush=True)
    total, held = counts.total(), f"{counts['refused']} refused in a line, {counts['ok']} read"
    print(f"{total} cases: {held}, {len(broken)} broken")
    return bool(broken) or not total


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
