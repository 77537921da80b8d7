"""Two processes beside one with the same global batches: equal losses, and how much faster.

    python tools/bench/scaling.py [--processes 2] [--epochs 3]

Trains on generated tones without dropout and augmentation, whose draws depend on the process, with
one thread a process. `torchrun` starts the processes, as it would on several machines.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[2]


def train_here(folder: Path, epochs: int) -> None:
    import torch

    from asr.config import Config
    from asr.corpus import open_packed
    from asr.training import train
    from tests.tones import RATE

    torch.set_num_threads(1)
    config = Config.model_validate(
        {
            "features": {"sample_rate": RATE, "num_mel_bins": 40},
            "encoder": {"hidden_size": 192, "num_layers": 3, "dropout": 0.0},
            "training": {"epochs": epochs, "batch_seconds": 40, "precision": "float32"},
        }
    )
    packed = folder.parent / "packed"
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    sets = (open_packed(packed / "train"), open_packed(packed / "dev"))
    train(*sets, config, folder, scratch=scratch, device="cpu", report=print)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if arguments.here:
        train_here(arguments.here, arguments.epochs)
        return 0
    from asr.config import FeatureConfig
    from asr.corpus import pack
    from tests.tones import RATE, write_corpus

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        features = FeatureConfig(sample_rate=RATE, num_mel_bins=40)
        for name, count, seed in (("train", 600, 1), ("dev", 20, 2)):
            pack(
                write_corpus(folder / "audio" / name, count, seed),
                folder / "packed" / name,
                features,
            )
        rows = {}
        for processes in (1, arguments.processes):
            own = folder / f"processes{processes}"
            own.mkdir()
            launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command = [*launch, f"--nproc-per-node={processes}", __file__]
            command += ["--here", str(own), "--epochs", str(arguments.epochs)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            if done.returncode:
                print(done.stderr[-3000:])
                return 2
            with (own / "history.csv").open(encoding="utf-8") as file:
                rows[processes] = list(csv.DictReader(file))
    print(f"{'epoch':>6}{'processes':>11}{'loss':>12}{'dev loss':>12}{'x real time':>13}")
    worst = 0.0
    for one, several in zip(rows[1], rows[arguments.processes], strict=True):
        for processes, row in ((1, one), (arguments.processes, several)):
            numbers = f"{float(row['loss']):12.6f}{float(row['dev_loss']):12.6f}"
            speed = f"{float(row['real_time_factor']):13.0f}"
            print(f"{row['epoch']:>6}{processes:11}{numbers}{speed}")
        worst = max(worst, abs(float(one["loss"]) / float(several["loss"]) - 1))
    speeds = [sum(float(r["real_time_factor"]) for r in rows[n][1:]) for n in rows]
    print(f"losses differ by {worst:.1e} at most; speed-up {speeds[-1] / speeds[0]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
