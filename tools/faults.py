"""Kills a training run at random moments until it is done, and compares it with one left alone.

    python tools/faults.py [--kills 20] [--seed 1] [--init]

Two tiny runs of the same configuration on generated tones: one undisturbed, one that is ended by
SIGKILL at random moments and started again. Weights, history and dev scores must be equal, to the
bit. With `--init` both start from a model, whose output layer alone learns for a fifth of the
steps, and learn some of what it has learnt again.
"""

import argparse
import csv
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("epoch", "loss", "dev_loss", "dev_wer", "gradient_layer1", "learning_rate")


def train_here(folder: Path, source: Path | None) -> None:
    """In a process of its own: pack the tones and train, or go on.

    Args:
        source: a run whose model is started from, and whose training set is replayed.
    """
    from asr.config import Config
    from asr.corpus import open_packed, pack
    from asr.training import train
    from tests.tones import CONFIG, write_corpus

    values = CONFIG.model_dump()
    values["training"] |= {"epochs": 12, "checkpoint_seconds": 0.05}
    if source is not None:
        values["training"]["init"] |= {
            "model": source / "model",
            "freeze_share": 0.2,
            "replay": source / "train" / "manifest.jsonl",
            "replay_share": 0.3,
        }
    config = Config.model_validate(values)
    seeds = (1, 2) if source is None else (3, 4)
    for name, count, seed in (("train", 60, seeds[0]), ("dev", 12, seeds[1])):
        if not (folder / name / "manifest.jsonl").exists():
            pack(write_corpus(folder / "audio" / name, count, seed), folder / name, config.features)
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    sets = (open_packed(folder / "train"), open_packed(folder / "dev"))
    replay_set = None if source is None else open_packed(source / "train")
    train(
        *sets,
        config,
        folder,
        scratch=scratch,
        device="cpu",
        report=print,
        replay_set=replay_set,
    )


def start(folder: Path, source: Path | None = None) -> "subprocess.Popen[bytes]":
    log = (folder / "log.txt").open("ab")
    command = [sys.executable, __file__, "--here", str(folder)]
    if source is not None:
        command += ["--source", str(source)]
    with log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def outcome(folder: Path) -> tuple[bytes, list[list[str]]]:
    with (folder / "history.csv").open(encoding="utf-8") as file:
        rows = [[row[column] for column in COLUMNS] for row in csv.DictReader(file)]
    return (folder / "model" / "weights.safetensors").read_bytes(), rows


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--init", action="store_true")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        sys.path.insert(0, str(ROOT))
        train_here(arguments.here, arguments.source)
        return 0
    draw = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as temporary:
        whole, broken = Path(temporary) / "whole", Path(temporary) / "broken"
        whole.mkdir()
        broken.mkdir()
        source = Path(temporary) / "source" if arguments.init else None
        if source is not None:
            source.mkdir()
            if start(source).wait() != 0:
                print((source / "log.txt").read_text())
                return 2
        began = time.monotonic()
        if start(whole, source).wait() != 0:
            print((whole / "log.txt").read_text())
            return 2
        seconds = time.monotonic() - began
        kills = in_training = 0
        while kills < arguments.kills:
            process = start(broken, source)
            # Most of a process's life is its start; the run must get on between two kills.
            try:
                process.wait(timeout=draw.uniform(0.2, 1.0) * seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
                in_training += any((broken / "scratch").glob("last.ckpt"))
                print(f"kill {kills}: {progress(broken)}", flush=True)
                continue
            if process.returncode != 0:
                print((broken / "log.txt").read_text())
                return 2
            print(f"done after {kills} kills; what is left of them falls on a new run", flush=True)
            if outcome(whole) != outcome(broken):
                print("DIFFERENT from the run that was left alone")
                return 1
            restart(broken)
        if start(broken, source).wait() != 0 or outcome(whole) != outcome(broken):
            print("DIFFERENT from the run that was left alone")
            return 1
    print(f"{kills} kills, {in_training} with a checkpoint to go on from: equal to the bit")
    return 0


def restart(folder: Path) -> None:
    """Forget the run, keep the packed corpus."""
    for path in (folder / "scratch").iterdir():
        path.unlink()
    (folder / "history.csv").unlink()
    (folder / "model" / "weights.safetensors").unlink()


def progress(folder: Path) -> str:
    lines = [x for x in (folder / "log.txt").read_text().splitlines() if x.startswith("epoch ")]
    return lines[-1].partition(";")[0] if lines else "before the first epoch's end"


if __name__ == "__main__":
    sys.exit(main())
