"""Training with CTC: epochs, steps, and going on after a stop.

A step's random numbers (augmentation, dropout) are a function of the seed and the step's number,
and the order of batches one of the seed and the epoch's. So a run that was stopped anywhere goes
on from its last checkpoint exactly as if it had not been.

Dimension names: batch (utterances), frame, bin, step, token.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from numpy.typing import NDArray

from asr.config import Config, fingerprint_rows
from asr.corpus import PackedCorpus
from asr.errors import DataError, StoppedError
from asr.model import Network, encoder, features, write_model
from asr.model import folder as model_folder
from asr.model import network as networks
from asr.progress import Report, silent
from asr.text import TokenTable, build_tokens
from asr.training.checkpoints import load_checkpoint, require_space, save_checkpoint
from asr.training.dev_set import DevScores, score_dev
from asr.training.diagnosis import diagnose_history, diagnose_sets
from asr.training.feasibility import find_infeasible, write_infeasible
from asr.training.history import draw_curves, write_history
from asr.training.inputs import measure_statistics
from asr.training.page import write_training_report
from asr.training.processes import open_fabric
from asr.training.screen import TrainingLines, open_display
from asr.training.step import Learner
from asr.training.targets import TokenRows
from asr.version import program_version


def train(
    train_set: PackedCorpus,
    dev_set: PackedCorpus,
    config: Config,
    folder: Path,
    *,
    scratch: Path,
    device: str = "auto",
    report: Report,
    pronunciations: Path | None = None,
) -> None:
    """Train a model and write it as a model folder; the dev set chooses the epoch.

    Args:
        folder: gets `model/`, the curves, logs and `training.html`.
        scratch: keeps checkpoints; a run that finds its own there goes on from the last one.
        pronunciations: file of them, where tokens are phones.

    Raises:
        DataError: a transcript has characters without a token, or no utterance can be learnt.
        TrainingError: too many steps without a finite gradient, no memory for one utterance, or
            no room on the disk.
        StoppedError: SIGTERM; the state was saved.
    """
    fabric = open_fabric(device, folder)
    warn = report  # a process tells of bad numbers in its own share
    if fabric.global_rank:
        report = silent
    tokens = build_tokens(_texts(train_set), config.tokens, pronunciations)
    tokens.check(_texts(dev_set), "dev set")
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
    left_out = [utterance.row for utterance in infeasible]
    rows = np.delete(np.arange(len(train_set)), left_out)
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
        warn=warn,
        fabric=fabric,
    )
    for finding in run.findings.values():
        report(f"warning: {finding}")
    report(
        f"{encoder.count_parameters(run.network) / 1e6:.2f} million parameters, "
        f"{len(tokens)} tokens, {len(rows)} utterances, {run.num_steps_total} steps, "
        f"{run.learner.dtype} products"
    )
    with _sigterm() as stopping, run.display:
        try:
            run.fit(stopping)
        except RuntimeError as error:  # torch's, for the first process has saved all and is gone
            if not (stopping.is_set() and fabric.global_rank):
                raise
            raise StoppedError(_STOPPED) from error
    if fabric.is_global_zero:
        best = Network(config, len(tokens))
        networks.load_weights(best, scratch / "best.safetensors")
        write_model(folder / "model", config, tokens, run.origin())
        networks.write_weights(best.state_dict(), folder / "model" / model_folder.WEIGHTS)
        draw_curves(run.history, folder / "curves.png")
        write_training_report(
            folder / "training.html",
            run.history,
            run.samples,
            [*run.findings.values()],
            run.origin(),
            config.model_dump(mode="json"),
        )
    fabric.barrier()


def encode_texts(corpus: PackedCorpus, tokens: TokenTable) -> TokenRows:
    """Token ids of every transcript.

    Raises:
        DataError: characters without a token, with counts; or an utterance without a transcript.
    """
    missing: list[int] = []

    def noted() -> Iterator[str]:
        for row, text in enumerate(corpus.column("text")):
            if text is None:
                missing.append(row)
            yield text or ""

    tokens.check(noted(), "training set")
    if missing:
        first = corpus.utterances[missing[0]].id
        raise DataError(f"{len(missing)} utterances have no text, the first is {first}")
    return TokenRows(tokens.encode(text) for text in _texts(corpus))


def _texts(corpus: PackedCorpus) -> Iterator[str]:
    return (text or "" for text in corpus.column("text"))


def _by_speaker(corpus: PackedCorpus, config: Config) -> PackedCorpus:
    """The corpus with the statistics of its speakers' features."""
    speakers = measure_statistics(corpus, config.features, corpus.column("speaker"))
    return replace(corpus, speakers=speakers)


class _Run:
    """A training run: its networks, where it stands, and what it has seen."""

    def __init__(
        self,
        *,
        config: Config,
        tokens: TokenTable,
        train_set: PackedCorpus,
        train_targets: TokenRows,
        rows: NDArray[np.int64],
        dev_set: PackedCorpus,
        folder: Path,
        scratch: Path,
        report: Report,
        warn: Report,
        fabric: Fabric,
    ):
        self.config, self.settings, self.tokens = config, config.training, tokens
        self.network = Network(config, len(tokens))
        if config.features.normalization in features.BY_TRAINING_SET:
            everything = measure_statistics(train_set, config.features, [""] * len(train_set))
            self.network.frontend.set_statistics(*torch.from_numpy(everything.values[0]))
        if config.features.normalization == "speaker":
            train_set, dev_set = (_by_speaker(part, config) for part in (train_set, dev_set))
        self.train_set, self.train_targets, self.rows = train_set, train_targets, rows
        self.dev_set, self.dev_targets = dev_set, encode_texts(dev_set, tokens)
        self.folder, self.scratch, self.report, self.fabric = folder, scratch, report, fabric
        unit = config.features.frame_shift if train_set.kind == "features" else 1
        seconds = self.settings.batch_seconds
        self._budget = int(seconds * config.features.sample_rate / unit)
        self._plan_sizes = [len(self._plan(epoch)) for epoch in range(self.settings.epochs)]
        self.learner = Learner(
            self.network,
            config,
            corpus=train_set,
            targets=train_targets,
            budget=self._budget,
            num_steps=self.num_steps_total,
            folder=folder,
            fabric=fabric,
            report=warn,
            separator=tokens.separator_id,
        )
        kind = open_display if fabric.is_global_zero else TrainingLines
        self.display = kind(self.settings.epochs, self.num_steps_total, report)
        self.findings = diagnose_sets(train_set, dev_set, self._budget)
        # What a checkpoint holds beside the learner's.
        self.epoch = 0  # being trained
        self.batch = 0  # of the epoch, the next
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] = {}
        self.samples: list[dict[str, str]] = []
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
        seed = self._seed(epoch)
        return self.train_set.plan(self._budget, rows=self.rows, seed=seed, shuffle=epoch > 0)

    def _seed(self, epoch: int) -> int:
        """Of the order of an epoch's batches."""
        return self.settings.seed * 1_000_003 + epoch

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
        self.train_set.follow(self._seed(self.epoch), self._seed(self.epoch + 1))
        self.network.train()
        since = time.perf_counter()
        for rows in self.display.steps(
            plan, epoch=self.epoch + 1, step=self.step, pace=self.learner.pace
        ):
            self.learner.step(rows, self.step)
            self.batch += 1
            now = time.perf_counter()
            self.learner.sums.times["seconds"] += now - since
            since = now
            # The other processes go on until the first has gone, which needs them in its step.
            if stopping.is_set() and self.fabric.is_global_zero:
                self._save()
                raise StoppedError(_STOPPED)
            if time.monotonic() - self._saved_at >= self.settings.checkpoint_seconds:
                self._save()

    def _finish_epoch(self) -> None:
        """Score the dev set, keep the best weights, log."""
        self.learner.check()
        row = {
            "epoch": self.epoch + 1,
            **self.learner.sums.row(self._plan_sizes[self.epoch], self.fabric),
            "learning_rate": self.learner.optimizer.param_groups[0]["lr"],
            "bad_steps": self.learner.bad_steps,
        }
        scores = None
        last = self.epoch + 1 == self.settings.epochs
        if last or (self.epoch + 1) % self.settings.dev_interval == 0:
            scores = score_dev(
                self.learner.average,
                self.dev_set,
                self.dev_targets,
                self.tokens,
                self._budget,
                self.fabric,
            )
            row |= scores.row
            self._keep_best(row, scores)
        self.history.append(row)
        findings = diagnose_history(self.history, self.settings.epochs)
        if self.fabric.is_global_zero:
            write_history(self.history, self.folder / "history.csv")
        self.fabric.log_dict(row, step=self.epoch)
        fresh = {kind: text for kind, text in findings.items() if kind not in self.findings}
        self.findings |= fresh
        samples = scores.examples(self.settings.num_samples) if scores else []
        self.display.show(self.history, samples, [*self.findings.values()])
        for finding in fresh.values():
            self.report(f"warning: {finding}")
        self.epoch, self.batch = self.epoch + 1, 0
        self.learner.start_epoch()

    def _keep_best(self, row: dict[str, float], scores: DevScores) -> None:
        """Keep the weights if no epoch before made fewer errors."""
        keys = ("dev_wer", "dev_cer", "dev_loss")
        if self.best and [row[k] for k in keys] >= [self.best[k] for k in keys]:
            return
        self.best = {k: row[k] for k in ("epoch", *keys)}
        self.samples = [
            {"id": s.id, "reference": s.reference, "hypothesis": s.hypothesis or ""}
            for s in scores.examples(9)
        ]
        if self.fabric.is_global_zero:
            networks.write_weights(
                self.learner.average.state_dict(), self.scratch / "best.safetensors"
            )

    # Checkpoints

    def _save(self) -> None:
        self.learner.check()
        self._saved_at = time.monotonic()
        if not self.fabric.is_global_zero:
            return
        own = {name: getattr(self, name) for name in _STATE}
        save_checkpoint({"learner": self.learner.state(), "run": own}, self.scratch)

    def _restore(self, state: dict[str, Any]) -> None:
        self.learner.restore(state["learner"])
        for name in _STATE:
            setattr(self, name, state["run"][name])

    def origin(self) -> dict[str, Any]:
        """What `training.json` says."""
        utterances = self.train_set.utterances
        lengths = self.train_set.lengths
        texts = ([u.id, u.text, int(n)] for u, n in zip(utterances, lengths, strict=True))
        return {
            "program": program_version(),
            "torch": torch.__version__,
            "seed": self.settings.seed,
            "data": fingerprint_rows(texts),
            "utterances": len(utterances),
            "parameters": encoder.count_parameters(self.network),
            "precision": str(self.learner.dtype).removeprefix("torch."),
            "epoch": self.best["epoch"],
            "dev_wer": round(self.best["dev_wer"], 4),
            "dev_cer": round(self.best["dev_cer"], 4),
            "seconds": round(sum(row["seconds"] for row in self.history), 1),
        }


_STOPPED = "SIGTERM: the state is saved; the same command goes on from here"
_STATE = ("epoch", "batch", "history", "best", "samples", "findings")


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
