"""Training with CTC: epochs, steps, and going on after a stop.

A step's random numbers (augmentation, dropout) are a function of the seed and the step's number,
and the order of batches one of the seed and the epoch's. So a run that was stopped anywhere goes
on from its last checkpoint exactly as if it had not been.
"""

import faulthandler
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from asr.config import Config
from asr.corpus import PackedCorpus
from asr.errors import DataError, StoppedError
from asr.model import encoder, network, write_model
from asr.model import folder as model_folder
from asr.progress import Report
from asr.training.checkpoints import RunState, load_checkpoint, save_checkpoint
from asr.training.dev_set import DevScores, score_dev
from asr.training.diagnosis import diagnose_history, diagnose_sets
from asr.training.history import draw_curves, find_best, write_history
from asr.training.page import write_training_report
from asr.training.precision import bfloat16_speed
from asr.training.processes import Place, open_place
from asr.training.rooms import Rooms
from asr.training.screen import TrainingLines, open_display
from asr.training.source import note_learnt
from asr.training.step import Learner
from asr.training.task import Task, prepare_task
from asr.values import fingerprint_rows
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
    replay_set: PackedCorpus | None = None,
    more_sets: Sequence[PackedCorpus] = (),
    rooms: Rooms | None = None,
) -> None:
    """Train a model and write it as a model folder; the dev set chooses the epoch.

    A training that starts from another model has the dev set scored before its first step, too: as
    epoch 0, which is kept if none after it is better.

    Args:
        folder: gets `model/`, the curves, logs and `training.html`.
        scratch: keeps checkpoints; a run that finds its own there goes on from the last one.
        pronunciations: file of them, where tokens are phones.
        replay_set: what `training.init.replay` names.
        more_sets: what each of `training.more` names.
        rooms: what `augment.noise_files` and `augment.reverb_files` name.

    Raises:
        DataError: a transcript has characters without a token, no utterance can be learnt, or
            stored features were to be heard in noise or rooms.
        AsrError: as `check_source`.
        TrainingError: too many steps without a finite gradient, no memory for one utterance, or
            no room on the disk.
        StoppedError: SIGTERM; the state was saved.
    """
    place = open_place(device, folder, scratch, report)
    if train_set.kind == "features" and (config.augment.noise_files or config.augment.reverb_files):
        raise DataError(
            "augment.noise_files and augment.reverb_files change audio, and these are features"
        )
    task = prepare_task(train_set, dev_set, config, place, pronunciations, replay_set, more_sets)
    run = _Run(task, place, rooms)
    with _sigterm() as stopping, run.display:
        try:
            run.fit(stopping)
        except RuntimeError as error:  # torch's, for the first process has saved all and is gone
            if not stopping.is_set() or place.is_first:
                raise
            raise StoppedError(_STOPPED) from error
        finally:
            place.close_logs()
    if place.is_first:
        run.write_results()
    place.fabric.barrier()


class _Run:
    """A training run: its learner, where it stands, and what it has seen."""

    def __init__(self, task: Task, place: Place, rooms: Rooms | None):
        self.task, self.place = task, place
        self.settings = task.config.training
        self.learner = Learner(
            task.network,
            task.config,
            task.examples,
            place,
            num_steps=task.schedule.num_steps,
            separator=task.tokens.separator_id,
            rooms=rooms,
        )
        kind = open_display if place.is_first else TrainingLines
        self.display = kind(self.settings.epochs, task.schedule.num_steps, place.report)
        self.state = RunState()
        self._saved_at = time.monotonic()

    @property
    def step(self) -> int:
        """Number of the next step in the run."""
        return self.task.schedule.step(self.state.epoch, self.state.batch)

    # Epochs

    def fit(self, stopping: threading.Event) -> None:
        """All epochs that are left."""
        checkpoint = load_checkpoint(self.place.scratch, self.place.warn)
        if checkpoint is None:
            sets = (self.task.examples.corpus, self.task.dev.corpus)
            self.state = RunState(findings=diagnose_sets(*sets, self.task.examples.budget))
        else:
            self.learner.restore(checkpoint["learner"])
            self.state = RunState(**checkpoint["run"])
        self._introduce()
        if checkpoint is not None:
            self.place.report(f"going on from the last checkpoint, before step {self.step}")
        elif self.task.origin is not None:
            self._score_start()
        while self.state.epoch < self.settings.epochs:
            self._train_epoch(stopping)
            self._finish_epoch()
        self._save()

    def _introduce(self) -> None:
        """Say what is learnt, and what is wrong with it so far."""
        for finding in self.state.findings.values():
            self.place.warn(finding)
        task = self.task
        self.place.report(
            f"{encoder.count_parameters(task.network) / 1e6:.2f} million parameters, "
            f"{len(task.tokens)} tokens, {task.num_feasible} utterances, "
            f"{task.schedule.num_steps} steps, {self.learner.dtype} products"
        )
        on_cpu = self.place.fabric.device.type == "cpu"
        if on_cpu and self.learner.dtype == torch.bfloat16 and self.place.is_first:
            speed = bfloat16_speed(task.network.encoder)
            if speed < _NO_SLOWER:
                self.place.warn(
                    f"training.precision: bfloat16 is {1 / speed:.1f} times as slow as float32 on "
                    "this processor; float32 is also what `auto` takes"
                )

    def _score_start(self) -> None:
        """Score the dev set as epoch 0, with the weights of the model that is started from."""
        scores = score_dev(self.learner.average, self.task.dev, self.task.tokens, self.place.fabric)
        row = {"epoch": 0, **scores.row}
        self.state = replace(self.state, history=(row,), samples=self._keep_best(scores))
        self._tell(scores, {})

    def _train_epoch(self, stopping: threading.Event) -> None:
        epoch = self.state.epoch
        plan = self.task.schedule.batches(epoch, self.state.batch)
        self.task.network.train()
        since = time.perf_counter()
        for rows in self.display.steps(
            plan, epoch=epoch + 1, step=self.step, pace=self.learner.pace
        ):
            self.learner.step(rows, self.step)
            self.state = replace(self.state, batch=self.state.batch + 1)
            now = time.perf_counter()
            self.learner.sums.times["seconds"] += now - since
            since = now
            # The other processes go on until the first has gone, which needs them in its step.
            if stopping.is_set() and self.place.is_first:
                self._save()
                raise StoppedError(_STOPPED)
            if time.monotonic() - self._saved_at >= self.settings.checkpoint_seconds:
                self._save()

    def _finish_epoch(self) -> None:
        """Score the dev set, keep the best weights, log."""
        self.learner.bad_steps.check()
        epoch, fabric = self.state.epoch, self.place.fabric
        row = {
            "epoch": epoch + 1,
            **self.learner.sums.row(self.task.schedule.num_batches(epoch), fabric),
            "learning_rate": self.learner.learning_rate,
            "bad_steps": self.learner.bad_steps.count,
        }
        scores = None
        if epoch + 1 == self.settings.epochs or (epoch + 1) % self.settings.dev_interval == 0:
            scores = score_dev(self.learner.average, self.task.dev, self.task.tokens, fabric)
            row |= scores.row
        history = (*self.state.history, row)
        samples = self.state.samples
        if scores is not None and find_best(history) is row:
            samples = self._keep_best(scores)
        findings = diagnose_history(history, self.settings.epochs)
        fresh = {k: text for k, text in findings.items() if k not in self.state.findings}
        self.state = RunState(
            epoch=epoch + 1,
            history=history,
            samples=samples,
            findings=self.state.findings | fresh,
        )
        self._tell(scores, fresh)
        self.learner.start_epoch()

    def _keep_best(self, scores: DevScores) -> tuple[dict[str, str], ...]:
        """Keep the weights, since no epoch before made as few errors; give what they heard."""
        if self.place.is_first:
            network.write_weights(self.learner.average.state_dict(), self._best)
        return tuple(
            {"id": s.id, "reference": s.reference, "hypothesis": s.hypothesis or ""}
            for s in scores.examples(9)
        )

    def _tell(self, scores: DevScores | None, fresh: dict[str, str]) -> None:
        """Log and show an epoch that is over, the last of the history."""
        history = self.state.history
        if self.place.is_first:
            write_history(history, self.place.folder / "history.csv")
        self.place.fabric.log_dict(history[-1], step=len(history) - 1)
        samples = scores.examples(self.settings.num_samples) if scores else []
        self.display.show(history, samples, [*self.state.findings.values()])
        for finding in fresh.values():
            self.place.warn(finding)

    # Files

    @property
    def _best(self) -> Path:
        """The weights of the best epoch."""
        return self.place.scratch / "best.safetensors"

    def _save(self) -> None:
        self.learner.bad_steps.check()
        self._saved_at = time.monotonic()
        if self.place.is_first:
            state = {"learner": self.learner.state(), "run": asdict(self.state)}
            save_checkpoint(state, self.place.scratch)

    def write_results(self) -> None:
        """The model folder with the best epoch's weights, the curves and the page."""
        task, folder = self.task, self.place.folder
        best = self.learner.average
        network.load_weights(best, self._best)
        origin = self._origin()
        write_model(folder / "model", task.config, task.tokens, origin)
        network.write_weights(best.state_dict(), folder / "model" / model_folder.WEIGHTS)
        note_learnt((u.id for u in task.examples.corpus.utterances), folder)
        draw_curves(self.state.history, folder / "curves.png")
        write_training_report(
            folder / "training.html",
            self.state.history,
            self.state.samples,
            [*self.state.findings.values()],
            origin,
            task.config.model_dump(mode="json"),
        )

    def _origin(self) -> dict[str, Any]:
        """What `training.json` says."""
        corpus, history = self.task.examples.corpus, self.state.history
        rows = zip(corpus.utterances, corpus.lengths, strict=True)
        best = find_best(history) or {}
        return {
            "program": program_version(),
            "torch": torch.__version__,
            "seed": self.settings.seed,
            "data": fingerprint_rows([u.id, u.text, int(n)] for u, n in rows),
            "utterances": len(corpus),
            "parameters": encoder.count_parameters(self.task.network),
            "precision": str(self.learner.dtype).removeprefix("torch."),
            "epoch": best["epoch"],
            "dev_wer": round(best["dev_wer"], 4),
            "dev_cer": round(best["dev_cer"], 4),
            "seconds": round(sum(row.get("seconds", 0.0) for row in history), 1),
            **({} if self.task.origin is None else {"init": dict(self.task.origin)}),
        }


_NO_SLOWER = 0.9  # of float32's speed; a measurement is off by a few per cent
_STOPPED = "SIGTERM: the state is saved; the same command goes on from here"


@contextmanager
def _sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets in place of ending the program, as a cluster sends it."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return
    _take_signals_aside()
    before = signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGTERM, before)


def _take_signals_aside() -> None:
    """Have this thread handle signals on a stack of their own, which faulthandler allocates.

    oneDNN's gradient of an LSTM does not leave the usual one as signals need it: of some thousand
    signals one damaged the heap, so that a run ended by "free(): invalid size" in place of being
    saved (torch 2.11; 32,000 signals did nothing on a stack of their own).
    """
    # Without a file to write to it cannot be had, as in a program without a console.
    with suppress(ValueError, OSError):
        if sys.__stderr__ is not None and not faulthandler.is_enabled():
            faulthandler.enable(sys.__stderr__)
