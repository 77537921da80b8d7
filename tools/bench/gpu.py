"""Is training on this GPU right, and how fast is it? Parts in the order of their value.

    python tools/bench/gpu.py --minutes 8 [--an4 FOLDER] [--output gpu.txt]
    python tools/bench/gpu.py --minutes 8 --device cpu --small      to see that it runs

Each part is a process with a time limit: its share of the minutes that are left. What it finds is
written at once, so that nothing is lost when the time is over, a part hangs or the GPU is taken
away. FOLDER is AN4 as it is published (23 MB); without it that part is left out.

    right       loss, gradients, 20 steps and going on after a stop, beside the CPU; in float32
    speed       a step of 5 x 512 by number format; on two streams and on one; other sizes
    an4         the recipe, to its score
    transcribe  seconds of audio that a trained network hears a second
    memory      of a step, for each second of audio in a batch
    profile     where the time of a step goes

Audio is generated noise of 2 to 16 s at 16 kHz with random transcripts. A step is that of training,
all in it: loading, filter banks, augmentation, forward, loss, backward, optimizer; steps are timed
from an idle device to an idle device.
"""

import argparse
import io
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from asr.batches import plan_batches
from asr.config import Config
from asr.corpus import PackedCorpus, Utterance
from asr.model import Network, TorchNetwork, encoder
from asr.training.batch import Examples
from asr.training.processes import open_place
from asr.training.step import Learner

ROOT = Path(__file__).resolve().parents[2]
RATE, NUM_TOKENS = 16000, 64
WARM_UP = 5
AUGMENT = {"speeds": [0.9, 1.0, 1.1], "noise_probability": 0.3, "time_masks": 2, "freq_masks": 2}


class Bench:
    """What to measure with, and on."""

    def __init__(self, arguments: argparse.Namespace):
        self.device, self.is_small, self.an4 = arguments.device, arguments.small, arguments.an4
        self.is_gpu = self.device == "cuda"
        self.batch_seconds, self.num_steps = (20.0, 3) if self.is_small else (600.0, 30)
        self.corpus, self.targets = generate(40, 3) if self.is_small else generate(1000, 16)

    @property
    def size(self) -> tuple[int, int]:
        """Layers and units of the network that the aim is for."""
        return (2, 24) if self.is_small else (5, 512)

    @contextmanager
    def learner(
        self,
        size: tuple[int, int],
        device: str | None = None,
        *,
        precision: str = "auto",
        batch_seconds: float | None = None,
        augment: bool = True,
        dropout: float = 0.2,
    ) -> Iterator[Learner]:
        """A learner of random weights that are always the same."""
        config = Config.model_validate(
            {
                "encoder": {
                    "num_layers": size[0],
                    "hidden_size": size[1],
                    "subsampling": 4,
                    "dropout": dropout,
                },
                "augment": AUGMENT if augment else {},
                "training": {
                    "batch_seconds": batch_seconds or self.batch_seconds,
                    "precision": precision,
                },
            }
        )
        torch.manual_seed(1)
        network = Network(config, NUM_TOKENS).train()
        examples = Examples.of(self.corpus, self.targets, config)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            place = open_place(device or self.device, folder, folder, print)
            yield Learner(network, config, examples, place, num_steps=1000)

    def learn(self, learner: Learner, first: int, count: int) -> tuple[float, float]:
        """Take steps; the seconds that they took, and those of their audio."""
        plan = plan_batches(self.corpus.lengths, learner.examples.budget, seed=1)
        audio = 0.0
        self.wait()
        start = time.perf_counter()
        for number in range(first, first + count):
            rows = plan[number % len(plan)]
            learner.step(rows, number)
            audio += self.corpus.lengths[rows].sum() / RATE
        self.wait()
        return time.perf_counter() - start, audio

    def wait(self) -> None:
        if self.is_gpu:
            torch.cuda.synchronize()


def generate(num_utterances: int, longest: float) -> tuple[PackedCorpus, list[list[int]]]:
    """Noise, and transcripts of eight tokens a second."""
    random = np.random.default_rng(1)
    seconds = random.uniform(longest / 8, longest, num_utterances)
    lengths = (seconds * RATE).astype(np.int64)
    values = random.normal(0, 1000, lengths.sum()).astype(np.int16)
    utterances = tuple(
        Utterance(id=str(i), audio_filepath=Path(f"{i}.wav"), duration=float(s), text="")
        for i, s in enumerate(seconds)
    )
    corpus = PackedCorpus(
        kind="waveforms",
        utterances=utterances,
        values=values,
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        digests=np.arange(num_utterances, dtype=np.uint64),
    )
    return corpus, [random.integers(1, NUM_TOKENS, int(8 * s)).tolist() for s in seconds]


def exactly() -> None:
    """No TF32, so that a GPU can be compared with a CPU."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False


def check_right(bench: Bench) -> None:
    """Loss, gradients, 20 steps and going on, beside the CPU."""
    size, seconds, steps = (2, 24) if bench.is_small else (3, 128), 20.0, 20
    gradients, losses, weights = [], [], []
    for device in ("cpu", bench.device):
        with bench.learner(
            size, device, precision="float32", batch_seconds=seconds, augment=False, dropout=0.0
        ) as learner:
            exactly()
            bench.learn(learner, 0, 1)
            gradients.append([p.grad.cpu() for p in learner.parameters if p.grad is not None])
            losses.append(learner.sums.losses.tolist()[0])
            bench.learn(learner, 1, steps - 1)
            losses.append(learner.sums.losses.tolist()[0])
            weights.append(flat(learner.network))
    say(f"loss of one step: {losses[2]:.6g}, on the CPU {losses[0]:.6g}")
    worst = max(
        float((there - here).norm() / here.norm().clamp_min(1e-12))
        for here, there in zip(*gradients, strict=True)
    )
    say(f"gradients: the norm of the difference is at most {worst:.2g} of theirs")
    say(f"losses of {steps} steps: {losses[3]:.6g}, on the CPU {losses[1]:.6g}")
    difference = float((weights[1] - weights[0]).abs().max())
    say(f"weights after {steps} steps: differ by at most {difference:.2g}")
    check_going_on(bench, size, seconds)


def check_going_on(bench: Bench, size: tuple[int, int], seconds: float) -> None:
    """A run that was stopped, beside one that was not; with augmentation and dropout."""
    ends = []
    for stops in (False, False, True):
        with bench.learner(size, precision="float32", batch_seconds=seconds) as learner:
            bench.learn(learner, 0, 5)
            if not stops:
                bench.learn(learner, 5, 5)
                ends.append(flat(learner.network))
                continue
            file = io.BytesIO()
            torch.save(learner.state(), file)
        file.seek(0)
        with bench.learner(size, precision="float32", batch_seconds=seconds) as learner:
            learner.restore(torch.load(file, weights_only=True))
            bench.learn(learner, 5, 5)
            ends.append(flat(learner.network))
    again, stopped = (float((ends[0] - end).abs().max()) for end in ends[1:])
    say(f"ten steps again: weights differ by {again:.2g}; stopped after five: {stopped:.2g}")


def flat(network: Network) -> torch.Tensor:
    return torch.cat([p.detach().cpu().flatten() for p in network.parameters()])


def check_speed(bench: Bench) -> None:
    """Steps by number format, streams and size."""
    say(f"batches of {bench.batch_seconds:.0f} s, {bench.num_steps} steps")
    say(f"{'encoder':10}{'million':>8}{'products':>10}{'streams':>8}{'ms a step':>10}{'x real':>8}")
    rows = [(bench.size, precision, 2) for precision in ("auto", "float32")]
    rows.append((bench.size, "auto", 1))
    rows += [(size, "auto", 2) for size in ((4, 320), (6, 1024)) if not bench.is_small]
    for size, precision, streams in rows:
        with bench.learner(size, precision=precision) as learner:
            if streams == 1 and bench.is_gpu:
                encoder._second_stream = torch.cuda.current_stream
            bench.learn(learner, 0, WARM_UP)
            taken, audio = bench.learn(learner, WARM_UP, bench.num_steps)
            million = encoder.count_parameters(learner.network) / 1e6
            kind = str(learner.dtype).removeprefix("torch.")
        say(
            f"{size[0]} x {size[1]:<6}{million:8.1f}{kind:>10}{streams:8}"
            f"{1000 * taken / bench.num_steps:10.1f}{audio / taken:8.0f}"
        )


def check_memory(bench: Bench) -> None:
    """The slope of a step's memory over the seconds of its batch."""
    if not bench.is_gpu:
        say("a CPU's is not measured")
        return
    peaks = []
    for seconds in (150.0, 600.0):
        with bench.learner(bench.size, batch_seconds=seconds) as learner:
            torch.cuda.reset_peak_memory_stats()
            bench.learn(learner, 0, WARM_UP)
            peaks.append((seconds, torch.cuda.max_memory_allocated() / 1e6))
            say(f"batches of {seconds:.0f} s: {peaks[-1][1]:.0f} MB")
    (short, less), (long, more) = peaks
    say(f"{(more - less) / (long - short):.1f} MB for each second")


def check_transcription(bench: Bench) -> None:
    """Batches of 60 s, as transcription makes them."""
    with bench.learner(bench.size) as learner:
        network = TorchNetwork(learner.average, bench.device)
    samples = bench.corpus.values[: int(60 * RATE)].astype(np.float32) / 32768
    batch = np.array_split(samples, 6)
    network.log_probs(batch)
    count = 2 if bench.is_small else 50
    start = time.perf_counter()
    for _ in range(count):
        network.log_probs(batch)
    taken = time.perf_counter() - start
    say(
        f"{count * len(samples) / RATE / taken:.0f} x real time, without reading files and decoding"
    )


def check_an4(bench: Bench) -> None:
    """The recipe, as a user runs it."""
    if bench.an4 is None:
        say("left out: no --an4")
        return
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "asr", "run", "recipes/an4", "--corpus", str(bench.an4)]
        command += ["--work", work, "--device", bench.device]
        if bench.is_small:
            small = ("training.epochs=1", "encoder.num_layers=1", "encoder.hidden_size=16")
            command += [part for setting in small for part in ("--set", setting)]
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("%WER") or "epoch" in line or "error" in line.lower():
                say(f"{time.perf_counter() - start:6.0f} s  {line.strip()}")
        say(f"exit code {process.wait()} after {time.perf_counter() - start:.0f} s")


def check_profile(bench: Bench) -> None:
    """Kernels by time, and the share of cuDNN's operators in it."""
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if bench.is_gpu else [])]
    with bench.learner(bench.size) as learner:
        bench.learn(learner, 0, WARM_UP)
        with profile(activities=kinds) as profiler:
            bench.learn(learner, WARM_UP, 3)
    events = profiler.key_averages()
    order = "self_device_time_total" if bench.is_gpu else "self_cpu_time_total"
    for line in events.table(sort_by=order, row_limit=20, max_name_column_width=40).splitlines():
        say(line)
    if not bench.is_gpu:
        return
    kernels = [event for event in events if event.device_type == DeviceType.CUDA]
    total = sum(event.self_device_time_total for event in kernels)
    own = sum(
        event.device_time_total
        for event in events
        if event.device_type == DeviceType.CPU and "cudnn" in event.key
    )
    say(f"cuDNN's operators: {100 * own / max(1e-9, total):.0f} % of the time of all kernels")


PARTS: dict[str, tuple[float, Callable[[Bench], None]]] = {
    "right": (0.15, check_right),
    "speed": (0.25, check_speed),
    "an4": (0.35, check_an4),
    "transcribe": (0.08, check_transcription),
    "memory": (0.09, check_memory),
    "profile": (0.08, check_profile),
}
"""Shares of the time, and what is done in it."""


def say(line: str) -> None:
    print(line, flush=True)


def run_part(name: str, limit: float, own: list[str], log: IO[str]) -> None:
    """A part in a process of its own; its lines go to the screen and to the results at once."""

    def tell(line: str) -> None:
        say(line)
        log.write(line + "\n")
        log.flush()

    tell(f"\n## {name} ({limit:.0f} s at most)\n")
    process = subprocess.Popen(
        [sys.executable, __file__, *own, "--part", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        os.killpg(process.pid, 9)

    timer = threading.Timer(limit, stop)
    timer.start()
    assert process.stdout is not None
    for line in process.stdout:
        tell(line.rstrip())
    code = process.wait()
    timer.cancel()
    if stopped.is_set():
        tell(f"stopped: its {limit:.0f} s are over")
    elif code:
        tell(f"failed, exit code {code}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="small networks and little audio")
    parser.add_argument("--an4", type=Path, help="AN4 as it is published")
    parser.add_argument("--output", type=Path, default=Path("gpu.txt"), help="takes the results")
    parser.add_argument("--part", choices=PARTS, help="this one alone, in this process")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU here; --device cpu --small shows that the program runs")
    if arguments.part is not None:
        PARTS[arguments.part][1](Bench(arguments))
        return
    own = ["--device", arguments.device, *(["--small"] if arguments.small else [])]
    if arguments.an4 is not None:
        own += ["--an4", str(arguments.an4.resolve())]
    end = time.monotonic() + 60 * arguments.minutes
    with arguments.output.open("w") as log:
        name = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.machine()
        cudnn = torch.backends.cudnn.version()
        line = f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {cudnn}"
        say(line)
        log.write(line + "\n")
        names = list(PARTS)
        for place, part in enumerate(names):
            later = sum(PARTS[other][0] for other in names[place:])
            limit = max(1.0, end - time.monotonic()) * PARTS[part][0] / later
            run_part(part, limit, own, log)


if __name__ == "__main__":
    main()
