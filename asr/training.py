"""Training with CTC: epochs, steps, and going on after a stop.

A step's random numbers (augmentation, dropout) are a function of the seed and the step's number,
and the order of batches one of the seed and the epoch's. So a run that was stopped anywhere goes
on from its last checkpoint exactly as if it had not been.

Dimension names: batch (utterances), frame, bin, step, token.
"""

import copy
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lightning.fabric import Fabric
from numpy.typing import NDArray
from torch import Generator, Tensor

from asr.checkpoints import load_checkpoint, require_space, save_checkpoint
from asr.config import Config, fingerprint
from asr.data import PackedCorpus, plan_batches, write_batch
from asr.dev_scores import DevScores, score_dev
from asr.diagnosis import diagnose_history, diagnose_sets
from asr.errors import DataError, StoppedError, TrainingError
from asr.feasibility import find_infeasible, write_infeasible
from asr.history import draw_curves, write_history
from asr.inputs import measure_statistics
from asr.model import CtcModel, count_parameters
from asr.model_folder import Network, load_weights, write_model, write_weights
from asr.objective import Objective
from asr.optimization import is_out_of_memory, make_optimizer, rate_share
from asr.processes import choose_precision, open_fabric
from asr.progress import Report, format_seconds, track
from asr.tokens import TokenTable, build_tokens
from asr.training_report import write_training_report
from asr.version import program_version

Targets = Sequence[Sequence[int]]


def train(
    train_set: PackedCorpus,
    dev_set: PackedCorpus,
    config: Config,
    folder: Path,
    *,
    scratch: Path,
    device: str = "auto",
    report: Report,
) -> None:
    """Train a model and write it as a model folder; the dev set chooses the epoch.

    Args:
        folder: gets `model/`, the curves, logs and `training.html`.
        scratch: keeps checkpoints; a run that finds its own there goes on from the last one.

    Raises:
        DataError: a transcript has characters without a token, or no utterance can be learnt.
        TrainingError: too many steps without a finite gradient, no memory for one utterance, or
            no room on the disk.
        StoppedError: SIGTERM; the state was saved.
    """
    fabric = open_fabric(device, folder)
    if fabric.global_rank:
        report = _nobody
    tokens = build_tokens([text_of(u.text) for u in train_set.utterances], config.tokens)
    tokens.check((text_of(u.text) for u in dev_set.utterances), "dev set")
    train_targets = encode_texts(train_set, tokens)
    network = Network(config, len(tokens))
    infeasible = find_infeasible(train_set, train_targets, network)
    if fabric.is_global_zero:
        write_infeasible(infeasible, folder / "infeasible.tsv")
    if infeasible:
        report(
            f"{len(infeasible)} of {len(train_set)} utterances are left out: their text is longer "
            f"than their audio can spell (infeasible.tsv)"
        )
    left_out = {utterance.id for utterance in infeasible}
    rows = np.array([i for i, u in enumerate(train_set.utterances) if u.id not in left_out])
    if not len(rows):
        raise DataError("no utterance can be learnt: see infeasible.tsv; lower encoder.subsampling")
    torch.manual_seed(config.training.seed)
    run = _Run(
        config=config,
        tokens=tokens,
        train_set=train_set,
        train_targets=train_targets,
        rows=rows,
        dev_set=dev_set,
        scratch=scratch,
        folder=folder,
        report=report,
        fabric=fabric,
    )
    for finding in run.findings:
        report(f"warning: {finding}")
    report(
        f"{count_parameters(run.network) / 1e6:.2f} million parameters, {len(tokens)} tokens, "
        f"{len(rows)} utterances, {run.num_steps_total} steps, {run.objective.dtype} products"
    )
    with _sigterm() as stopping:
        run.fit(stopping)
    if fabric.is_global_zero:
        best = Network(config, len(tokens))
        load_weights(best, scratch / "best.safetensors")
        write_model(folder / "model", config, tokens, best.state_dict(), run.origin())
        draw_curves(run.history, folder / "curves.png")
        write_training_report(
            folder / "training.html", run.history, run.samples, run.findings, run.origin()
        )
    fabric.barrier()


def text_of(text: str | None) -> str:
    """A transcript that may be absent."""
    return text or ""


def encode_texts(corpus: PackedCorpus, tokens: TokenTable) -> Targets:
    """Token ids of every transcript.

    Raises:
        DataError: characters without a token, with counts; or an utterance without a transcript.
    """
    missing = [u.id for u in corpus.utterances if u.text is None]
    if missing:
        raise DataError(f"{len(missing)} utterances have no text, the first is {missing[0]}")
    texts = [text_of(u.text) for u in corpus.utterances]
    tokens.check(texts, "training set")
    return [tokens.encode(text) for text in texts]


class _Run:
    """A training run: its networks, where it stands, and what it has seen."""

    def __init__(
        self,
        *,
        config: Config,
        tokens: TokenTable,
        train_set: PackedCorpus,
        train_targets: Targets,
        rows: NDArray[np.int64],
        dev_set: PackedCorpus,
        folder: Path,
        scratch: Path,
        report: Report,
        fabric: Fabric,
    ):
        self.config, self.settings, self.tokens = config, config.training, tokens
        self.train_set, self.train_targets, self.rows = train_set, train_targets, rows
        self.dev_set, self.dev_targets = dev_set, encode_texts(dev_set, tokens)
        self.folder, self.scratch, self.report, self.fabric = folder, scratch, report, fabric
        self.device = fabric.device
        self.network = Network(config, len(tokens))
        if config.features.normalization == "global":
            self.network.frontend.set_statistics(*measure_statistics(train_set, config.features))
        dtype = choose_precision(self.settings.precision, config.encoder.cell, self.device.type)
        self.average = copy.deepcopy(self.network).requires_grad_(False).to(self.device)
        self.objective = Objective(self.network, config, dtype)
        self._shared_objective = fabric.setup_module(self.objective)
        self.parameters = list(self.network.parameters())
        self.optimizer = make_optimizer(self.parameters, self.settings.weight_decay)
        unit = config.features.frame_shift if train_set.kind == "features" else 1
        self._units_per_second = config.features.sample_rate / unit
        self._budget = int(self.settings.batch_seconds * self._units_per_second)
        self._plan_sizes = [len(self._plan(epoch)) for epoch in range(self.settings.epochs)]
        self.findings = diagnose_sets(train_set, dev_set, self._budget)
        # What a checkpoint holds beside networks and optimizer.
        self.epoch = 0  # being trained
        self.batch = 0  # of the epoch, the next
        self.bad_steps = 0
        self.piece_budget = self._budget  # padded units that fit into memory
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] = {}
        self.samples: list[dict[str, str]] = []
        self._sums = _EpochSums(self.network.encoder, self.device)
        self._suspect: _Suspect | None = None
        self._started, self._steps_here = time.monotonic(), 0
        self._saved_at = time.monotonic()

    # Plan

    @property
    def num_steps_total(self) -> int:
        """Optimizer steps of the whole run."""
        return sum(self._plan_sizes)

    @property
    def step(self) -> int:
        """Number of the next step in the run."""
        return sum(self._plan_sizes[: self.epoch]) + self.batch

    def _plan(self, epoch: int) -> list[NDArray[np.int64]]:
        """The epoch's batches, shortest first in epoch 0."""
        plan = plan_batches(
            self.train_set.lengths[self.rows],
            self._budget,
            seed=self.settings.seed * 1_000_003 + epoch,
            shuffle=epoch > 0,
        )
        return [self.rows[part] for part in plan]

    # Epochs

    def fit(self, stopping: threading.Event) -> None:
        """All epochs that are left."""
        size = 4 * sum(tensor.numel() for tensor in self.network.state_dict().values())
        require_space(self.scratch, 3 * 4 * size + 2 * size)  # three checkpoints, best, model
        state = load_checkpoint(self.scratch, self.report)
        if state is not None:
            self._restore(state)
            self.report(f"going on from the last checkpoint, before step {self.step}")
        while self.epoch < self.settings.epochs:
            self._train_epoch(stopping)
            self._finish_epoch()
        self._save()

    def _train_epoch(self, stopping: threading.Event) -> None:
        plan = self._plan(self.epoch)[self.batch :]
        label = f"epoch {self.epoch + 1}/{self.settings.epochs}"
        self.objective.train()
        since = time.perf_counter()
        for rows in track(plan, total=len(plan), label=label, unit="batches"):
            self._train_step(rows)
            self.batch += 1
            self._steps_here += 1
            now = time.perf_counter()
            self._sums.times["seconds"] += now - since
            since = now
            if stopping.is_set():
                self._save()
                raise StoppedError(
                    "SIGTERM: the state is saved; the same command goes on from here"
                )
            if time.monotonic() - self._saved_at >= self.settings.checkpoint_seconds:
                self._save()

    def _finish_epoch(self) -> None:
        """Score the dev set, keep the best weights, log."""
        self._look_at_suspect()
        row = {
            "epoch": self.epoch + 1,
            **self._sums.row(self._plan_sizes[self.epoch], self.fabric),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "bad_steps": self.bad_steps,
        }
        scores = None
        last = self.epoch + 1 == self.settings.epochs
        if last or (self.epoch + 1) % self.settings.dev_interval == 0:
            scores = score_dev(
                self.average,
                self.dev_set,
                self.dev_targets,
                self.tokens,
                self._budget,
                self.device,
            )
            row |= scores.row
            self._keep_best(row, scores)
        self.history.append(row)
        findings = diagnose_history(self.history, self.settings.epochs)
        if self.fabric.is_global_zero:
            write_history(self.history, self.folder / "history.csv")
        self.fabric.log_dict(row, step=self.epoch)
        self._say(row, scores)
        for finding in findings:
            # Said once: the numbers in it change from epoch to epoch, the first words do not.
            if not any(said[:20] == finding[:20] for said in self.findings):
                self.report(f"warning: {finding}")
                self.findings.append(finding)
        self.epoch, self.batch = self.epoch + 1, 0
        self._sums = _EpochSums(self.network.encoder, self.device)

    def _keep_best(self, row: dict[str, float], scores: DevScores) -> None:
        """Keep the weights if no epoch before made fewer errors."""
        keys = ("dev_wer", "dev_cer", "dev_loss")
        if self.best and [row[k] for k in keys] >= [self.best[k] for k in keys]:
            return
        self.best = {k: row[k] for k in ("epoch", *keys)}
        self.samples = [
            {"id": s.id, "reference": s.reference, "hypothesis": s.hypothesis}
            for s in scores.examples(9)
        ]
        if self.fabric.is_global_zero:
            write_weights(self.average.state_dict(), self.scratch / "best.safetensors")

    def _say(self, row: dict[str, float], scores: DevScores | None) -> None:
        line = f"epoch {row['epoch']}/{self.settings.epochs}: loss {row['loss']:.3f}"
        if scores is not None:
            line += f", dev WER {row['dev_wer']:.2f} %, CER {row['dev_cer']:.2f} %"
            line += f" (best {self.best['dev_wer']:.2f} % at {self.best['epoch']:.0f})"
        if row["skipped"]:
            line += f", {row['skipped']:.0f} skipped as too short for their text"
        norms = [f"{v:.2f}" for k, v in row.items() if k.startswith("gradient_")]
        steps_left = sum(self._plan_sizes[self.epoch + 1 :])
        left = (time.monotonic() - self._started) / max(1, self._steps_here) * steps_left
        line += f"; gradients {' '.join(norms)}; {row['real_time_factor']:.0f} x real time"
        line += f", {100 * row['data_wait']:.1f} % waiting for data; {format_seconds(left)} left"
        self.report(line)
        if scores is not None:
            for sample in scores.examples(self.settings.num_samples):
                rate = sample.characters.rate or 0.0
                self.report(
                    f"  {sample.id} (CER {rate:.0f} %)\n"
                    f"    ref {sample.reference}\n    hyp {sample.hypothesis}"
                )

    # Steps

    def _train_step(self, rows: NDArray[np.int64]) -> None:
        num_tokens = max(1, sum(len(self.train_targets[row]) for row in rows))
        own = rows[self.fabric.global_rank :: self.fabric.world_size]
        losses = self._gradients(own if len(own) else rows[:1], num_tokens, counted=len(own) > 0)
        norms = self._layer_norms()
        norm = torch.nn.utils.clip_grad_norm_(
            self.parameters, self.settings.clip_norm, foreach=True
        )
        # The fused optimizer leaves everything as it is when this is 1: no look at the device.
        finite = torch.isfinite(norm)
        self.optimizer.found_inf = 1.0 - finite.float()  # type: ignore[attr-defined]
        rate = self.settings.learning_rate * rate_share(
            self.step, self.num_steps_total, self.settings.warmup_share
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        # The average follows more closely in the first steps.
        decay = min(self.settings.average_decay, (2 + self.step) / (11 + self.step))
        torch._foreach_lerp_(list(self.average.parameters()), self.parameters, 1 - decay)
        if len(own):
            own_tokens = sum(len(self.train_targets[row]) for row in own)
            units = int(self.train_set.lengths[own].sum())
            self._sums.add(losses, own_tokens, units / self._units_per_second)
        self._sums.norms += torch.where(finite, norms, 0.0)
        self._look_at_suspect()
        self._suspect = _Suspect(step=self.step, rows=own, losses=losses[0], finite=finite)
        if self.device.type == "cpu":
            self._look_at_suspect()

    def _gradients(self, rows: NDArray[np.int64], num_tokens: int, *, counted: bool) -> Tensor:
        """Add up the gradients of a batch, in pieces if memory has been short.

        Returns:
            CTC losses and whether each utterance was skipped, [2, batch].
        """
        while True:
            pieces = self._pieces(rows)
            try:
                torch.manual_seed(self._seed())  # dropout
                generator = Generator(self.device).manual_seed(self._seed())
                self.optimizer.zero_grad()
                losses = [
                    self._piece_gradients(
                        piece, num_tokens, generator, counted=counted, last=piece is pieces[-1]
                    )
                    for piece in pieces
                ]
                return torch.cat(losses, dim=1)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            self._lower_budget(pieces)

    def _piece_gradients(
        self,
        rows: NDArray[np.int64],
        num_tokens: int,
        generator: Generator,
        *,
        counted: bool,
        last: bool,
    ) -> Tensor:
        start = time.perf_counter()
        batch = self.train_set.batch(rows.tolist(), self.train_targets).to(self.device)
        self._sums.times["wait"] += time.perf_counter() - start
        done = self.step / self.num_steps_total
        with self.fabric.no_backward_sync(self._shared_objective, enabled=not last):
            total, ctc, skipped = self._shared_objective(batch, generator, done)
            # Processes average their gradients; a process without a share adds nothing.
            weight = self.fabric.world_size * counted / num_tokens
            self.fabric.backward(total.sum() * weight)
        return torch.stack([ctc.detach(), skipped.float()])

    def _pieces(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        if self.piece_budget >= self._budget:
            return [rows]
        return [rows[p] for p in plan_batches(self.train_set.lengths[rows], self.piece_budget)]

    def _lower_budget(self, pieces: Sequence[NDArray[np.int64]]) -> None:
        lengths = self.train_set.lengths
        largest = max(pieces, key=lambda piece: len(piece) * lengths[piece].max())
        if len(largest) == 1:
            utterance = self.train_set.utterances[largest[0]]
            raise TrainingError(
                f"no memory for utterance {utterance.id} of {utterance.duration:.1f} s alone: "
                f"leave out the longest utterances, or make the network smaller"
            )
        if self.fabric.world_size > 1:
            raise TrainingError("no memory for a batch: lower training.batch_seconds")
        self.piece_budget = int(len(largest) * lengths[largest].max()) // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.report(
            f"warning: step {self.step}: no memory for a batch of {len(largest)} utterances; "
            f"batches are split into pieces of {self.piece_budget / self._units_per_second:.1f} s "
            f"from here on"
        )

    def _seed(self) -> int:
        # Processes must not draw alike; 2**40 is beyond any seed and step of another.
        return self.settings.seed * 1_000_003 + self.step + (self.fabric.global_rank << 40)

    def _layer_norms(self) -> Tensor:
        """Gradient norm of each layer: a vanishing or exploding one shows in the log."""
        norms = []
        for layer in self._sums.layers.values():
            gradients = [p.grad for p in layer.parameters() if p.grad is not None]
            norms.append(torch.stack(torch._foreach_norm(gradients)).norm())
        return torch.stack(norms)

    def _look_at_suspect(self) -> None:
        """Name the utterances of a step that was left out; stop after too many.

        On a GPU a step is looked at while the next one is on its way.
        """
        suspect, self._suspect = self._suspect, None
        if suspect is None or bool(suspect.finite):
            return
        self.bad_steps += 1
        batch = self.train_set.batch(suspect.rows.tolist(), self.train_targets)
        finite = torch.isfinite(suspect.losses).tolist()
        named = [name for name, good in zip(batch.ids, finite, strict=True) if not good]
        what = "the loss is" if named else "a gradient is"
        names = ", ".join((named or batch.ids)[:5])
        path = self.folder / "bad_batches" / f"step-{suspect.step:06d}.safetensors"
        write_batch(batch, path)
        message = (
            f"step {suspect.step}: {what} not a number at {names}; the step is left out, its "
            f"batch is in {path.parent.name}/{path.name}"
        )
        if self.bad_steps > self.settings.max_bad_steps:
            raise TrainingError(
                f"{message}; that makes {self.bad_steps} such steps, over training.max_bad_steps"
            )
        self.report(f"warning: {message} ({self.bad_steps} so far)")

    # Checkpoints

    def _save(self) -> None:
        self._look_at_suspect()
        self._saved_at = time.monotonic()
        if not self.fabric.is_global_zero:
            return
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sums": self._sums.state(),
            **{name: getattr(self, name) for name in _STATE},
        }
        save_checkpoint(state, self.scratch)

    def _restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._sums.restore(state["sums"])
        for name in _STATE:
            setattr(self, name, state[name])

    def origin(self) -> dict[str, Any]:
        """What `training.json` says."""
        utterances = self.train_set.utterances
        texts = [
            [u.id, u.text, int(n)] for u, n in zip(utterances, self.train_set.lengths, strict=True)
        ]
        return {
            "program": program_version(),
            "torch": torch.__version__,
            "seed": self.settings.seed,
            "data": fingerprint(texts),
            "utterances": len(utterances),
            "parameters": count_parameters(self.network),
            "precision": str(self.objective.dtype).removeprefix("torch."),
            "epoch": self.best["epoch"],
            "dev_wer": round(self.best["dev_wer"], 4),
            "dev_cer": round(self.best["dev_cer"], 4),
            "seconds": round(sum(row["seconds"] for row in self.history), 1),
        }


_STATE = (
    "epoch",
    "batch",
    "bad_steps",
    "piece_budget",
    "history",
    "best",
    "samples",
    "findings",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Suspect:
    """A step whose gradient has not been looked at yet."""

    step: int
    rows: NDArray[np.int64]
    losses: Tensor
    """Of each utterance, [batch]; in no order but that of `rows` unless memory was short."""
    finite: Tensor


class _EpochSums:
    """What an epoch adds up; on the device, so that no step waits for a number."""

    def __init__(self, encoder: CtcModel, device: torch.device):
        layers = {f"layer{index + 1}": layer for index, layer in enumerate(encoder.layers)}
        self.layers = {"subsampling": encoder.subsampling, **layers, "output": encoder.output}
        self.losses = torch.zeros(3, device=device)  # in nats, tokens, skipped
        self.norms = torch.zeros(len(self.layers), device=device)
        self.times = {"audio": 0.0, "seconds": 0.0, "wait": 0.0}

    def add(self, losses: Float[Tensor, "two batch"], num_tokens: int, audio: float) -> None:
        """A step's losses and skipped utterances, tokens, and seconds of audio."""
        loss, skipped = losses.nan_to_num(0.0, 0.0, 0.0).sum(dim=1)
        self.losses += torch.stack([loss, torch.full_like(loss, num_tokens), skipped])
        self.times["audio"] += audio

    def row(self, num_steps: int, fabric: Fabric) -> dict[str, float]:
        """Columns of the history, of all processes together."""
        losses = torch.as_tensor(fabric.all_reduce(self.losses, reduce_op="sum"))
        loss, num_tokens, skipped = losses.tolist()
        seconds = max(self.times["seconds"], 1e-9)
        audio = self.times["audio"] * fabric.world_size
        norms = (self.norms / num_steps).tolist()
        return {
            "loss": loss / max(1.0, num_tokens),
            "skipped": int(skipped),
            "seconds": seconds,
            "real_time_factor": audio / seconds,
            "data_wait": self.times["wait"] / seconds,
            **{f"gradient_{k}": v for k, v in zip(self.layers, norms, strict=True)},
        }

    def state(self) -> dict[str, Any]:
        return {"losses": self.losses, "norms": self.norms, "times": self.times}

    def restore(self, state: dict[str, Any]) -> None:
        self.losses.copy_(state["losses"])
        self.norms.copy_(state["norms"])
        self.times = dict(state["times"])


@contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets in place of ending the program, as a cluster sends it."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGTERM, before)


def _nobody(line: str) -> None:
    del line
