"""A large corpus of tiny audio: tar shards written, read, packed, and indexed for training.

    python tools/bench/shards.py --utterances 1000000 --folder /somewhere/with/room
    python tools/bench/shards.py --utterances 10000000 --index-only

Memory is what the process holds for itself (RssAnon); pages of mapped files are the system's, which
takes them back when it needs them.
"""

import argparse
import io
import json
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from asr.batches import plan_batches
from asr.config import FeatureConfig, TokenConfig
from asr.data import pack_shards
from asr.manifest_table import ManifestTable
from asr.shards import read_shards
from asr.token_rows import TokenRows
from asr.tokens import build_tokens

RATE = 8000
SHARD = 100_000  # utterances
FEATURES = FeatureConfig(sample_rate=RATE, num_mel_bins=20)
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def text_of(number: int) -> str:
    return " ".join(WORDS[int(digit)] for digit in f"{number:08d}")


def memory() -> float:
    """Megabytes of the process's own."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1024
    raise SystemExit("no /proc here")


@contextmanager
def measured(what: str, count: int) -> Iterator[None]:
    start, cpu = time.monotonic(), time.process_time()
    yield
    wall, own = time.monotonic() - start, time.process_time() - cpu
    print(
        f"{what:<28} {count / own:>12,.0f} a second of processor time, {own:8.1f} s ({wall:.1f} s "
        f"by the clock), {memory():8.0f} MB",
        flush=True,
    )


def write(folder: Path, count: int) -> list[str]:
    """Shards as `asr.shards` writes them, each utterance 0.05 s of the same noise."""
    noise = np.random.default_rng(1).integers(-9000, 9000, RATE // 20).astype(np.int16)
    buffer = io.BytesIO()
    soundfile.write(buffer, noise, RATE, format="WAV", subtype="PCM_16")
    audio = buffer.getvalue()
    names = []
    for first in range(0, count, SHARD):
        names.append(str(folder / f"{first // SHARD:06d}.tar"))
        with tarfile.open(names[-1], "w", format=tarfile.USTAR_FORMAT) as tar:
            for number in range(first, min(count, first + SHARD)):
                row = {"id": f"u{number}", "duration": 0.05, "text": text_of(number)}
                members = ((".wav", audio), (".json", json.dumps(row).encode()))
                for suffix, content in members:
                    header = tarfile.TarInfo(f"{number:09d}{suffix}")
                    header.size = len(content)
                    tar.addfile(header, io.BytesIO(content))
    return names


def index(path: Path, count: int) -> None:
    """All that training keeps of a corpus beside its memory-mapped audio."""
    with measured("manifest opened", count):
        table = ManifestTable(path)
    with measured("every line checked", count):
        table.check()
    with measured("tokens", count):
        tokens = build_tokens((str(u.text) for u in table), TokenConfig())
    with measured("transcripts encoded", count):
        rows = TokenRows(tokens.encode(str(u.text)) for u in table)
    lengths = np.random.default_rng(1).integers(4000, 80_000, count)
    with measured("an epoch planned", count):
        plan = plan_batches(lengths, 60 * RATE, seed=1)
    print(f"{len(plan):,} batches, {rows.lengths.sum():,} tokens, {memory():.0f} MB in the end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--index-only", action="store_true")
    arguments = parser.parse_args()
    count = arguments.utterances
    print(f"at the start: {memory():.0f} MB")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        manifest = folder / "packed" / "manifest.jsonl"
        if arguments.index_only:
            manifest.parent.mkdir()
            with measured("manifest written", count), manifest.open("w") as file:
                for number in range(count):
                    row = f'"id": "u{number}", "audio_filepath": "{number // SHARD:06d}.tar"'
                    file.write(f'{{{row}, "duration": 2.5, "text": "{text_of(number)}"}}\n')
        else:
            with measured("shards written", count):
                names = write(folder, count)
            with measured("shards read", count):
                assert sum(1 for _ in read_shards(names)) == count
            with measured("shards packed", count):
                pack_shards(names, count, folder / "packed", FEATURES)
        index(manifest, count)


if __name__ == "__main__":
    main()
