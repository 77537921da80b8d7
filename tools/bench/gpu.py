"""Training on a GPU: real-time factors by size of encoder, and the share of cuDNN in a step.

    python tools/bench/gpu.py [--device cuda] [--steps 50]
    python tools/bench/gpu.py --device cpu --small      to see that it runs

The audio is generated noise of 2 to 16 seconds at 16 kHz with random transcripts; a step is that of
training, all in it: loading, filter banks, augmentation, forward, loss, backward, optimizer.
Steps are counted from an idle device to an idle device. The share of cuDNN is that of the kernels
of its operators in the time of all kernels, by torch.profiler, in a few steps more.
"""

import argparse
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from asr.batches import plan_batches
from asr.config import Config
from asr.corpus import PackedCorpus, Utterance
from asr.model import Network
from asr.model.encoder import count_parameters
from asr.training.batch import Examples
from asr.training.processes import open_place
from asr.training.step import Learner

SIZES = [(4, 320), (5, 512), (6, 1024)]
SMALL_SIZES = [(1, 16), (2, 24)]
RATE, NUM_TOKENS = 16000, 64
WARM_UP, PROFILED = 5, 5
AUGMENT = {
    "speeds": [0.9, 1.0, 1.1],
    "noise_probability": 0.3,
    "time_masks": 2,
    "freq_masks": 2,
}


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
    starts = np.concatenate([[0], np.cumsum(lengths)])
    corpus = PackedCorpus(
        kind="waveforms",
        utterances=utterances,
        values=values,
        starts=starts,
        digests=np.arange(num_utterances, dtype=np.uint64),
    )
    return corpus, [random.integers(1, NUM_TOKENS, int(8 * s)).tolist() for s in seconds]


def measure(
    size: tuple[int, int],
    corpus: PackedCorpus,
    targets: list[list[int]],
    batch_seconds: float,
    num_steps: int,
    device: str,
) -> str:
    """A line of the table."""
    layers, units = size
    config = Config.model_validate(
        {
            "encoder": {"num_layers": layers, "hidden_size": units, "subsampling": 4},
            "augment": AUGMENT,
            "training": {"batch_seconds": batch_seconds},
        }
    )
    budget = int(batch_seconds * RATE)
    plan = plan_batches(corpus.lengths, budget, seed=1)
    with tempfile.TemporaryDirectory() as temporary:
        network = Network(config, NUM_TOKENS).train()
        learner = Learner(
            network,
            config,
            Examples.of(corpus, targets, config),
            open_place(device, Path(temporary), Path(temporary), print),
            num_steps=WARM_UP + num_steps + PROFILED,
        )
        numbers = iter(range(learner.num_steps))

        def learn(count: int) -> float:
            """Seconds of audio."""
            audio = 0.0
            for _ in range(count):
                number = next(numbers)
                rows = plan[number % len(plan)]
                learner.step(rows, number)
                audio += corpus.lengths[rows].sum() / RATE
            wait_for(device)
            return audio

        learn(WARM_UP)
        start = time.perf_counter()
        audio = learn(num_steps)
        taken = time.perf_counter() - start
        cudnn = f"{cudnn_share(lambda: learn(PROFILED)):8.0f} %" if device == "cuda" else "       -"
        memory = (
            f"{torch.cuda.max_memory_allocated() / 1e9:7.1f}" if device == "cuda" else "      -"
        )
    parameters = count_parameters(network.encoder) / 1e6
    dtype = str(learner.dtype).removeprefix("torch.")
    return (
        f"{layers}x{units:<6}{parameters:8.1f}{dtype:>10}{1000 * taken / num_steps:10.1f}"
        f"{audio / taken:13.0f}{cudnn:>10}{memory:>8}"
    )


def wait_for(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def cudnn_share(learn: Callable[[], object]) -> float:
    """Per cent of the time of all kernels that those of cuDNN's operators take."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        learn()
    events = profiler.key_averages()
    kernels = [event for event in events if event.device_type == DeviceType.CUDA]
    total = sum(event.self_device_time_total for event in kernels)
    own = sum(
        event.device_time_total
        for event in events
        if event.device_type == DeviceType.CPU and "cudnn" in event.key
    )
    return 100 * own / max(1e-9, total)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="small networks and little audio")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch-seconds", type=float, default=600)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU here; --device cpu --small shows that the program runs")
    sizes, seconds, steps = SIZES, arguments.batch_seconds, arguments.steps
    corpus, targets = generate(1000, 16) if not arguments.small else generate(40, 3)
    if arguments.small:
        sizes, seconds, steps = SMALL_SIZES, 20.0, 3
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.machine()
    cudnn = torch.backends.cudnn.version()
    print(f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {cudnn}")
    print(f"batches of {seconds:.0f} s, {steps} steps; audio hours an hour are x real time")
    print(
        f"{'encoder':8}{'million':>8}{'products':>10}{'ms a step':>10}{'x real time':>13}", end=""
    )
    print(f"{'cuDNN':>10}{'GB':>8}")
    for size in sizes:
        if arguments.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        line = measure(size, corpus, targets, seconds, steps, arguments.device)
        print(line, flush=True)


if __name__ == "__main__":
    main()
