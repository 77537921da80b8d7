"""Live transcription by the trained and by the exported network, and how soon the first word comes.

The network is that of a configuration, with random weights, which cost what others do; audio is
noise. It is heard a tenth of a second at a time, as `LiveSteps` gives it. In processor time, which
other programs on the machine do not stretch; in turns, the best of some rounds.

Run: python tools/bench/live.py [CONF] [ROUNDS]
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from asr.config import TokenConfig
from asr.config_files import load_conf
from asr.model import InferenceNetwork, open_network, read_model
from asr.model.export import export_model
from asr.model.folder import WEIGHTS, write_model
from asr.model.network import Network, write_weights
from asr.text.tokens import build_tokens

SECONDS = 60
LETTERS = "abcdefghijklmnopqrstuvwxyz '"


def main(conf: Path, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folders = write_models(conf, Path(scratch))
        networks = {
            name: open_network(folder, read_model(folder), "cpu", 1)
            for name, folder in folders.items()
        }
        rate = read_model(folders["torch"]).config.features.sample_rate
        noise = np.random.default_rng(0).uniform(-0.3, 0.3, SECONDS * rate).astype("f4")
        expected = hear(networks["torch"], noise, rate)[0]
        speeds: dict[str, list[float]] = {name: [] for name in folders}
        first: dict[str, list[float]] = {name: [] for name in folders}
        for _ in range(rounds):
            for name, folder in folders.items():
                speeds[name].append(SECONDS / hear(networks[name], noise, rate)[1])
                first[name].append(first_word(folder, noise[: 3 * rate], rate))
        print("          times real time   start to first word   furthest from torch")
        for name, network in networks.items():
            apart = np.abs(hear(network, noise, rate)[0] - expected).max()
            best = f"{max(speeds[name]):6.0f}            {min(first[name]):5.2f} s"
            print(f"{name:<9} {best}               {apart:.2g} nats")


def write_models(conf: Path, folder: Path) -> dict[str, Path]:
    """The model of a configuration, and what is exported of it."""
    config = load_conf(conf)
    tokens = build_tokens([LETTERS], TokenConfig())
    torch.manual_seed(0)
    network = Network(config, len(tokens))
    write_model(folder / "torch", config, tokens, {})
    write_weights(network.state_dict(), folder / "torch" / WEIGHTS)
    export_model(folder / "torch", folder / "float32")
    folders = {"torch": folder / "torch", "float32": folder / "float32"}
    if config.encoder.cell == "lstm":
        export_model(folder / "torch", folder / "int8", quantize=True)
        folders["int8"] = folder / "int8"
    return folders


def hear(network: InferenceNetwork, samples: np.ndarray, rate: int) -> tuple[np.ndarray, float]:
    """Log-probabilities, and seconds of the processor."""
    start = time.process_time()
    stream = network.stream()
    parts = [
        stream.accept(part)
        for part in np.split(samples, range(rate // 10, len(samples), rate // 10))
    ]
    parts.append(stream.accept(samples[:0], last=True))
    return np.concatenate(parts), time.process_time() - start


def first_word(folder: Path, samples: np.ndarray, rate: int) -> float:
    """Seconds of the processor from a program's start to the first text on stderr."""
    command = [sys.executable, "-m", "asr", "transcribe", str(folder), "-", "--live"]
    command += ["--raw", str(rate), "--threads", "1", "--device", "cpu"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write((samples * 32767).astype("<i2").tobytes())
        process.stdin.flush()
        for line in process.stderr:
            if line.startswith(b"... "):
                break
        # Fields after the name, which is in brackets: user and system time are the 12th and 13th.
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()
        process.kill()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main(
        Path(sys.argv[1] if len(sys.argv) > 1 else "conf/digits/live.yaml"),
        int(sys.argv[2]) if len(sys.argv) > 2 else 3,
    )
