"""Epochs of training: beside SpeechBrain's, beside the matrix-product rate, and part by part.

    python tools/bench/training.py --digits WORK --an4 WORK [--peer PYTHON]
    python tools/bench/training.py --until WORK --goals 12,9 [--seeds 1,2,3] [--peer PYTHON]
        [--ways packed,unpacked]

WORK is the work folder of `asr run recipes/digits --to pack`, and of `recipes/an4`. PYTHON is an
interpreter that has SpeechBrain; tools/bench/speechbrain_training.py is its side.

An epoch is all that learning from a corpus once takes: loading, features, augmentation, forward,
loss, backward, optimizer. `digits` is audio, from which both sides compute filter banks; AN4
publishes features only, which both sides read. Ours is one whole epoch, cut into pieces of random
batches. After each piece SpeechBrain learns from its own batches, in random order too, for half as
long. It does so in two ways: "packed" gives lengths to its LSTM, so that outputs do not depend on
padding, as ours do not; "unpacked" gives none, as its TIMIT recipe does.

With --until it is what counts in the end: minutes, by the clock and of processor time, from the
first step until the dev word error rate is under each goal, dev scores included; a run of the
configuration in WORK, ended at the last goal or at --limit-minutes of processor time. SpeechBrain
learns the same data with a network and masks of the same size, in both ways, until it is there too
or has had --limit-times the processor time of ours. All run at once, with a thread each, so that
all have the same machine: their processor times compare.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import asr.training.loss
import asr.training.trainer
from asr.batches import plan_batches
from asr.config import Config
from asr.config_files import load_config
from asr.corpus import PackedCorpus, open_packed
from asr.model import CtcModel, Frontend, Network
from asr.model.encoder import count_parameters
from asr.text import build_tokens
from asr.training.batch import Batch, Examples
from asr.training.loss import Objective
from asr.training.processes import open_place
from asr.training.step import Learner
from asr.training.targets import encode_texts

THREADS = 2
ENCODERS = {"3x256": (3, 256), "4x384": (4, 384)}
ENCODER = {"cell": "lstm", "conv_channels": 128, "subsampling": 3, "dropout": 0.2}
AUGMENT = {"time_masks": 2, "time_mask_width": 20, "freq_masks": 2, "freq_mask_width": 6}
SPEEDS = (0.9, 1.0, 1.1)  # of audio; features have none on either side
TRAINING = {"batch_seconds": 80, "learning_rate": 0.001, "precision": "float32"}
PIECES, WARM_UP = 4, 3
WAYS = ("packed", "unpacked")
# SpeechBrain's until a goal: batches of about eight utterances, as in its TIMIT recipe, in float32,
# since its bfloat16 takes longer on a CPU.
PEER_TRAINING = {"batch_seconds": 20.0, "learning_rate": 0.001}
PARTS = {
    "loading": [(Examples, "batch"), (Batch, "to")],
    "features": [(Frontend, "base"), (Frontend, "finish")],
    "augmentation": [(asr.training.loss, "input_features")],
    "forward": [(CtcModel, "forward")],
    "loss": [(Objective, "forward")],
    "backward": [(Fabric, "backward")],
    "optimizer": [(Learner, "step")],
}


class Stopwatch:
    """Seconds of each part of a step, without those of other parts inside it."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._parts: list[str] = []
        self._since = 0.0

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._parts:
            self.seconds[self._parts[-1]] += now - self._since
        self._since = now

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Count what `owner.name` takes as `part`."""
        call = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            self._turn()
            self._parts.append(part)
            result = call(*arguments, **options)
            self._turn()
            self._parts.pop()
            return result

        setattr(owner, name, timed)


class Ours:
    """An epoch of this toolkit's training, piece by piece."""

    def __init__(self, corpus: PackedCorpus, config: Config, folder: Path, share: float):
        tokens = build_tokens([u.text or "" for u in corpus.utterances], config.tokens)
        self.corpus, self.units_per_second = corpus, units_per_second(corpus, config)
        budget = int(config.training.batch_seconds * self.units_per_second)
        plan = plan_batches(corpus.lengths, budget, seed=config.training.seed)
        self.plan = plan[: max(PIECES, round(share * len(plan)))]
        torch.manual_seed(config.training.seed)
        network = Network(config, len(tokens)).train()
        self.learner = Learner(
            network,
            config,
            Examples.of(corpus, encode_texts(corpus, tokens), config),
            open_place("cpu", folder, folder, print),
            num_steps=len(self.plan),
        )
        self.encoder = network.encoder
        self.seconds, self.audio, self.flops = 0.0, 0.0, 0.0
        self.frames, self.padded_frames = 0, 0
        for number in range(WARM_UP):
            self.learner.step(self.plan[number], number)
        self.encoder.register_forward_pre_hook(self._count)

    def _count(self, _: Any, inputs: tuple[Tensor, ...]) -> None:
        features, num_frames = inputs[:2]
        self.flops += training_flops(self.encoder, num_frames)
        self.frames += int(num_frames.sum())
        self.padded_frames += num_frames.numel() * features.shape[1]

    def learn(self, piece: int) -> float:
        """Seconds that one of the epoch's pieces took."""
        start = time.perf_counter()
        for number in range(piece, len(self.plan), PIECES):
            self.learner.step(self.plan[number], number)
            self.audio += self.corpus.lengths[self.plan[number]].sum() / self.units_per_second
        taken = time.perf_counter() - start
        self.seconds += taken
        return taken


class Peer:
    """SpeechBrain in a process of its own, which waits while others run."""

    def __init__(self, python: str, task: Path, way: str):
        self.process = start_peer(python, task, way)
        self._ask(f"{WARM_UP} batches")
        self.seconds, self.audio, self.padded = 0.0, 0.0, 0.0

    def learn(self, seconds: float) -> None:
        """Let it learn for so long, and to the end of a batch."""
        answer = self._ask(f"{seconds} seconds")
        self.seconds += answer["seconds"]
        self.audio += answer["audio"]
        self.padded += answer["padded"]

    def _ask(self, line: str) -> dict[str, float]:
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the process has no pipes")
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("SpeechBrain's side has stopped: see above")
        return dict(json.loads(answer))

    def close(self) -> None:
        self.process.communicate()


def start_peer(python: str, task: Path, way: str) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("speechbrain_training.py")
    return subprocess.Popen(
        [python, str(script), str(task), way],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def training_flops(encoder: CtcModel, num_frames: Tensor) -> float:
    """Multiplications and additions of matrix products of a step on an utterance's own frames.

    Each weight is used once a step in forward, and twice in backward, for the gradient of itself
    and of its input; that of the features is not computed.
    """
    total, steps = 0, num_frames
    for index, layer in enumerate(encoder.subsampling):
        steps = layer.num_steps(steps)
        total += (2 if index == 0 else 3) * layer.convolution.weight.numel() * int(steps.sum())
    matrices = [p for p in [*encoder.layers.parameters(), encoder.output.weight] if p.ndim == 2]
    total += 3 * sum(matrix.numel() for matrix in matrices) * int(steps.sum())
    return 2.0 * total


def product_rate() -> float:
    """FLOP/s of a product of two 1024 x 1024 matrices in float32."""
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    start = time.perf_counter()
    for _ in range(40):
        left @ right
    return 40 * 2 * 1024**3 / (time.perf_counter() - start)


def units_per_second(corpus: PackedCorpus, config: Config) -> float:
    """Samples or frames, in which the corpus counts."""
    unit = config.features.frame_shift if corpus.kind == "features" else 1
    return config.features.sample_rate / unit


def write_annotation(corpus: PackedCorpus, config: Config, path: Path) -> str:
    """What SpeechBrain's side needs to know of a corpus; where that stands."""
    annotation = {
        utterance.id: {
            "path": str(utterance.audio_filepath),
            "start": round(utterance.offset * config.features.sample_rate),
            "duration": float(length / units_per_second(corpus, config)),
            "text": utterance.text,
            "speaker": utterance.speaker,
        }
        for utterance, length in zip(corpus.utterances, corpus.lengths, strict=True)
    }
    path.write_text(json.dumps(annotation))
    return str(path)


def write_task(
    corpus: PackedCorpus, dev_set: PackedCorpus | None, config: Config, folder: Path
) -> Path:
    """What SpeechBrain's side needs to know: its annotation files, and all settings."""
    dev = None if dev_set is None else write_annotation(dev_set, config, folder / "dev.json")
    own = {
        "train": write_annotation(corpus, config, folder / "train.json"),
        "dev": dev,
        "threads": torch.get_num_threads(),
        "kind": corpus.kind,
    }
    (folder / "task.json").write_text(json.dumps({**own, **config.model_dump(mode="json")}))
    return folder / "task.json"


def run(
    corpus: PackedCorpus, config: Config, peer: str | None, share: float, watch: Stopwatch
) -> dict[str, float]:
    """An epoch of ours, or the share of one, and as much of SpeechBrain's as takes that long."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ours = Ours(corpus, config, folder, share)
        peers = {}
        if peer:
            task = write_task(corpus, None, config, folder)
            peers = {way: Peer(peer, task, way) for way in WAYS}
        watch.seconds.clear()
        rates = [product_rate()]
        for piece in range(PIECES):
            taken = ours.learn(piece)
            rates.append(product_rate())
            for other in peers.values():
                other.learn(taken / 2)
        for other in peers.values():
            other.close()
    product = statistics.median(rates)
    result = {
        "million": count_parameters(ours.encoder) / 1e6,
        "padding": 100 * (1 - ours.frames / ours.padded_frames),
        "ours": ours.audio / ours.seconds,
        "product": product / 1e9,
        "share": 100 * ours.flops / ours.seconds / product,
        **{part: 100 * watch.seconds[part] / ours.seconds for part in PARTS},
    }
    for name, other in peers.items():
        result[name] = other.audio / other.seconds
        result[f"{name} padding"] = 100 * (1 - other.audio / other.padded)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--digits", type=Path)
    parser.add_argument("--an4", type=Path)
    parser.add_argument("--peer", help="an interpreter that has SpeechBrain")
    parser.add_argument("--until", type=Path, metavar="WORK", help="time to error rates")
    parser.add_argument("--goals", default="12,9", help="dev WER in per cent")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--limit-minutes", type=float, default=60.0, help="of processor time")
    parser.add_argument("--limit-times", type=float, default=3.1, help="SpeechBrain's, of ours")
    parser.add_argument("--ways", default=",".join(WAYS), help="SpeechBrain's in --until")
    parser.add_argument("--share", type=float, default=1.0, help="of an epoch; for a first look")
    arguments = parser.parse_args()
    if arguments.until is not None:
        torch.set_num_threads(1)
        for seed in arguments.seeds.split(","):
            race(arguments, int(seed))
        return
    torch.set_num_threads(THREADS)
    watch = Stopwatch()
    for part, calls in PARTS.items():
        for owner, name in calls:
            watch.watch(owner, name, part)
    print(f"torch {torch.__version__}, {THREADS} threads, {cpu_name()}")
    results = {}
    for corpus_name in ("digits", "an4"):
        work = getattr(arguments, corpus_name)
        if work is None:
            continue
        corpus = open_packed(work / "packed" / "train")
        for encoder in ENCODERS:
            config = settings(work, encoder, is_audio=corpus.kind == "waveforms")
            name = f"{corpus_name} {encoder}"
            results[name] = run(corpus, config, arguments.peer, arguments.share, watch)
            say_speed(name, results[name])
    print("\nshares of our epochs' time, %")
    print(f"{'':14}" + "".join(f"{part:>14}" for part in PARTS))
    for name, result in results.items():
        print(f"{name:14}" + "".join(f"{result[part]:14.1f}" for part in PARTS))


class EndedError(Exception):
    """The last goal is reached, or the limit."""


class Goals:
    """Dev word error rates that a training is to come under, and when it did."""

    def __init__(self, side: str, goals: list[float], limit: float):
        self.side, self.limit = side, limit
        self.left = sorted(goals, reverse=True)
        self.best, self.minutes = float("inf"), 0.0

    def note(self, wer: float, clock: float, processor: float) -> bool:
        """Say what an epoch reached, after so many minutes; whether to go on."""
        self.best, self.minutes = min(self.best, wer), processor
        while self.left and wer < self.left[0]:
            print(
                f"{self.side}: dev WER under {self.left.pop(0):g} % after {clock:.2f} min, "
                f"{processor:.2f} of processor time",
                flush=True,
            )
        return bool(self.left) and processor < self.limit

    def close(self) -> None:
        for goal in self.left:
            print(
                f"{self.side}: dev WER under {goal:g} % not reached in {self.minutes:.2f} min of "
                f"processor time, best {self.best:.2f} %",
                flush=True,
            )


def race(arguments: argparse.Namespace, seed: int) -> None:
    """The minutes of ours, and beside it of SpeechBrain's."""
    work, peer, limit = arguments.until, arguments.peer, arguments.limit_minutes
    goals = [float(goal) for goal in arguments.goals.split(",")]
    config = load_config(work / "config.yaml", Config)
    training = config.training.model_copy(update={"seed": seed})
    config = config.model_copy(update={"training": training})
    train_set, dev_set = (open_packed(work / "packed" / name) for name in ("train", "dev"))
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor() as pool:
        folder = Path(temporary)
        sides, others = [], []
        if peer:
            task = write_task(train_set, dev_set, peer_config(config, train_set), folder)
            for way in arguments.ways.split(","):
                sides.append(Goals(f"seed {seed}, SpeechBrain {way}", goals, limit))
                others.append(pool.submit(follow, start_peer(peer, task, way), sides[-1]))
        ours = Goals(f"seed {seed}, ours", goals, limit)
        train_until(train_set, dev_set, config, folder, ours)
        for side in sides:
            side.limit = min(limit, arguments.limit_times * ours.minutes)
        for other in others:
            other.result()


def peer_config(config: Config, corpus: PackedCorpus) -> Config:
    """SpeechBrain's: as many masks an utterance as ours has on average, and its own training."""
    seconds = corpus.lengths.mean() / units_per_second(corpus, config)
    masks = max(1, round(config.augment.time_masks * seconds / 10))
    augment = config.augment.model_copy(update={"time_masks": masks})
    training = config.training.model_copy(update=PEER_TRAINING)
    return config.model_copy(update={"augment": augment, "training": training})


def follow(process: subprocess.Popen[str], goals: Goals) -> None:
    """Note what SpeechBrain's side says of its epochs, and end it when that is enough."""
    for line in process.stdout or ():
        if not goals.note(**json.loads(line)):
            process.terminate()
            break
    process.wait()
    goals.close()


def train_until(
    train_set: PackedCorpus, dev_set: PackedCorpus, config: Config, folder: Path, goals: Goals
) -> None:
    """Train ours, and note each epoch."""
    start: list[float] = []
    step, write_history = Learner.step, asr.training.trainer.write_history

    def timed_step(*arguments: Any) -> None:
        start.extend([] if start else [time.perf_counter(), time.process_time()])
        step(*arguments)

    def noted_history(history: Any, path: Path) -> None:
        write_history(history, path)
        clock, processor = time.perf_counter() - start[0], time.process_time() - start[1]
        if not goals.note(history[-1].get("dev_wer", 100.0), clock / 60, processor / 60):
            raise EndedError

    setattr(Learner, "step", timed_step)  # noqa: B010
    setattr(asr.training.trainer, "write_history", noted_history)  # noqa: B010
    try:
        with suppress(EndedError):
            asr.training.trainer.train(
                train_set,
                dev_set,
                config,
                folder,
                scratch=folder,
                device="cpu",
                report=lambda _: None,
            )
    finally:
        setattr(Learner, "step", step)  # noqa: B010
        setattr(asr.training.trainer, "write_history", write_history)  # noqa: B010
    goals.close()


def say_speed(name: str, result: dict[str, float]) -> None:
    print(
        f"{name}: {result['million']:.1f} M parameters, {result['ours']:.0f} x real time, "
        f"{result['padding']:.1f} % padding, {result['share']:.0f} % of the product's "
        f"{result['product']:.0f} GFLOP/s"
    )
    for kind in WAYS:
        if kind in result:
            print(
                f"    SpeechBrain {kind}: {result[kind]:.0f} x real time, "
                f"{result[f'{kind} padding']:.1f} % padding; ours is "
                f"{result['ours'] / result[kind]:.2f} times as fast",
                flush=True,
            )


def settings(work: Path, encoder: str, *, is_audio: bool) -> Config:
    """The features of the recipe, and the encoder and training of the benchmark."""
    layers, units = ENCODERS[encoder]
    features = load_config(work / "config.yaml", Config).features
    return Config.model_validate(
        {
            "features": features.model_copy(update={"normalization": "utterance"}),
            "encoder": {**ENCODER, "num_layers": layers, "hidden_size": units},
            "augment": {**AUGMENT, "speeds": SPEEDS if is_audio else (1.0,)},
            "training": TRAINING,
        }
    )


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))


if __name__ == "__main__":
    main()
