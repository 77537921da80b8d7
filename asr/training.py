"""Training with CTC: the loop is Lightning's, what happens in a step is here.

A step's random numbers (augmentation, dropout) are a function of the seed and the step's number,
and the order of batches one of the seed and the epoch's. So a run that was stopped goes on from
its last checkpoint exactly as if it had not been.

Dimension names: batch (utterances), frame, bin, step, token.
"""

import copy
import logging
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from torch import Tensor

from asr.config import Config, fingerprint
from asr.ctc import ctc_loss, required_steps
from asr.data import Batch, PackedCorpus, plan_batches
from asr.decoding import greedy
from asr.errors import DataError, TrainingError
from asr.feasibility import find_infeasible, write_infeasible
from asr.history import draw_curves, write_history
from asr.inputs import augmented_features, draw_windows, input_features, measure_statistics
from asr.model import CtcModel, count_parameters
from asr.model_folder import Network, choose_device, load_weights, write_model, write_weights
from asr.progress import Report, format_seconds
from asr.scoring import ErrorCounts, count_errors
from asr.tokens import TokenTable, build_tokens
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
        folder: gets `model/`, the curves and logs.
        scratch: keeps checkpoints; a run that finds its own there goes on from the last one.

    Raises:
        DataError: a transcript has characters without a token, or no utterance can be learnt.
        TrainingError: the loss is not a number.
    """
    tokens = build_tokens([text_of(u.text) for u in train_set.utterances], config.tokens)
    tokens.check((text_of(u.text) for u in dev_set.utterances), "dev set")
    train_targets = encode_texts(train_set, tokens)
    network = Network(config, len(tokens))
    infeasible = find_infeasible(train_set, train_targets, network)
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
    run = _Training(
        config=config,
        tokens=tokens,
        train_set=train_set,
        train_targets=train_targets,
        rows=rows,
        dev_set=dev_set,
        scratch=scratch,
        folder=folder,
        report=report,
    )
    report(
        f"{count_parameters(run.network) / 1e6:.2f} million parameters, {len(tokens)} tokens, "
        f"{len(rows)} utterances, {run.num_steps_total} steps"
    )
    _fit(run, config, folder, scratch, device, report)
    best = Network(config, len(tokens))
    load_weights(best, scratch / "best.safetensors")
    write_model(folder / "model", config, tokens, best.state_dict(), run.origin())
    draw_curves(run.history, folder / "curves.png")


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


class _EpochBatches:
    """The batches of one epoch; measures how long it takes to make them."""

    def __init__(self, corpus: PackedCorpus, targets: Targets, plan: Sequence[NDArray[np.int64]]):
        self.corpus = corpus
        self.targets = targets
        self.plan = plan
        self.seconds = 0.0

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        for rows in self.plan:
            start = time.perf_counter()
            batch = self.corpus.batch(rows.tolist(), self.targets)
            self.seconds += time.perf_counter() - start
            yield batch


class _Training(lightning.LightningModule):
    """Steps, dev scoring and checkpoints of one run."""

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
    ):
        super().__init__()
        self.config = config
        self.tokens = tokens
        self.train_set, self.train_targets, self.rows = train_set, train_targets, rows
        self.dev_set = dev_set
        self.dev_targets = encode_texts(dev_set, tokens)
        self.folder, self.scratch, self.report = folder, scratch, report
        self.network = Network(config, len(tokens))
        if config.features.normalization == "global":
            self.network.frontend.set_statistics(*measure_statistics(train_set, config.features))
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] = {}
        unit = config.features.frame_shift if train_set.kind == "features" else 1
        self._units_per_second = config.features.sample_rate / unit
        self._plan_sizes = [len(self._plan(e)) for e in range(config.training.epochs)]
        self._started = time.monotonic()
        self._steps_here = 0

    @property
    def num_steps_total(self) -> int:
        """Optimizer steps of the whole run."""
        return sum(self._plan_sizes)

    # Data

    def _plan(self, epoch: int) -> list[NDArray[np.int64]]:
        settings = self.config.training
        plan = plan_batches(
            self.train_set.lengths[self.rows],
            int(settings.batch_seconds * self._units_per_second),
            seed=settings.seed * 1_000_003 + epoch,
            shuffle=epoch > 0,
        )
        return [self.rows[part] for part in plan]

    def train_dataloader(self) -> Any:
        """This epoch's batches, shortest first in epoch 0."""
        self._batches = _EpochBatches(
            self.train_set, self.train_targets, self._plan(self.current_epoch)
        )
        return self._batches

    def val_dataloader(self) -> Any:
        """The dev set in batches of similar length."""
        budget = int(self.config.training.batch_seconds * self._units_per_second)
        plan = plan_batches(self.dev_set.lengths, budget)
        return _EpochBatches(self.dev_set, self.dev_targets, plan)

    # Steps

    def on_train_epoch_start(self) -> None:
        """Start the epoch's sums."""
        self._epoch_started = time.perf_counter()
        self._sums = torch.zeros(3, device=self.device)  # loss in nats, tokens, skipped
        self._norm_sums: dict[str, Tensor] = {}
        self._audio_seconds = 0.0

    def training_step(self, batch: Batch, *_: Any) -> Tensor:
        """Mean loss of a token in the batch."""
        seed = self.config.training.seed * 1_000_003 + self.global_step
        torch.manual_seed(seed)  # dropout
        generator = torch.Generator(self.device).manual_seed(seed)
        with torch.no_grad():
            features, num_frames = augmented_features(
                self.network.frontend, batch, self.config, generator
            )
        windows = draw_windows(self.config, generator)
        log_probs, num_steps = self.network.encoder(features, num_frames, windows)
        losses = ctc_loss(log_probs, num_steps, batch.targets, batch.num_tokens)
        skipped = num_steps < required_steps(batch.targets, batch.num_tokens)
        total = losses.sum()
        if not torch.isfinite(total):
            named = ", ".join(batch.ids[i] for i in (~torch.isfinite(losses)).nonzero()[:5, 0])
            raise TrainingError(f"step {self.global_step}: the loss is not a number at {named}")
        num_tokens = batch.num_tokens.sum()
        self._sums += torch.stack([total.detach(), num_tokens, skipped.sum()])
        self._audio_seconds += float(batch.lengths.sum()) / self._units_per_second
        return total / num_tokens.clamp_min(1)

    def on_before_optimizer_step(self, *_: Any) -> None:
        """Add up gradient norms by layer: a vanishing or exploding one shows in the log."""
        for name, layer in _layers(self.network.encoder):
            gradients = [p.grad for p in layer.parameters() if p.grad is not None]
            norm = torch.stack(torch._foreach_norm(gradients)).norm()
            self._norm_sums[name] = self._norm_sums.get(name, 0) + norm

    def on_train_batch_end(self, *_: Any) -> None:
        """Move the average of the weights; it follows more closely in the first steps."""
        self._steps_here += 1
        decay = min(
            self.config.training.average_decay, (1 + self.global_step) / (10 + self.global_step)
        )
        torch._foreach_lerp_(
            list(self.average.parameters()), list(self.network.parameters()), 1 - decay
        )

    def configure_optimizers(self) -> Any:
        """AdamW, decay on matrices only; the rate rises, then falls to nothing as a cosine."""
        settings = self.config.training
        parameters = list(self.network.parameters())
        groups = [
            {
                "params": [p for p in parameters if p.ndim > 1],
                "weight_decay": settings.weight_decay,
            },
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
        warmup = max(1, round(settings.warmup_share * self.num_steps_total))
        rest = max(1, self.num_steps_total - warmup)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / rest)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    # Dev set

    def on_validation_epoch_start(self) -> None:
        """Start the dev sums."""
        self._dev_words = self._dev_characters = ErrorCounts()
        self._dev_sums = torch.zeros(2, device=self.device)
        self._dev_samples: dict[str, tuple[str, str]] = {}

    def validation_step(self, batch: Batch, *_: Any) -> None:
        """Score a batch with the averaged weights."""
        self.average.eval()
        features, num_frames = input_features(self.average.frontend, batch)
        log_probs, num_steps = self.average.encoder(features, num_frames)
        losses = ctc_loss(log_probs, num_steps, batch.targets, batch.num_tokens)
        self._dev_sums += torch.stack([losses.sum(), batch.num_tokens.sum()])
        rows = zip(batch.ids, log_probs.cpu().numpy(), num_steps.tolist(), strict=True)
        for row, (utterance_id, values, steps) in enumerate(rows):
            target = batch.targets[row, : int(batch.num_tokens[row])].tolist()
            reference = self.tokens.decode(target)
            hypothesis = self.tokens.decode(greedy(values[:steps]).tokens)
            self._dev_words += count_errors(reference.split(), hypothesis.split())
            self._dev_characters += count_errors(reference, hypothesis)
            self._dev_samples[utterance_id] = (reference, hypothesis)

    def on_validation_epoch_end(self) -> None:
        """Keep the weights if no epoch before made fewer errors."""
        row = self._dev_row()
        keys = ("dev_wer", "dev_cer", "dev_loss")
        if not self.best or [row[k] for k in keys] < [self.best[k] for k in keys]:
            self.best = {"epoch": self.current_epoch + 1, **row}
            write_weights(self.average.state_dict(), self.scratch / "best.safetensors")

    def _dev_row(self) -> dict[str, float]:
        loss, num_tokens = self._dev_sums.tolist()
        return {
            "dev_wer": self._dev_words.rate or 0.0,
            "dev_cer": self._dev_characters.rate or 0.0,
            "dev_loss": loss / max(1.0, num_tokens),
        }

    # Epochs

    def on_train_epoch_end(self) -> None:
        """Log the epoch and write the checkpoint that a stopped run goes on from."""
        seconds = time.perf_counter() - self._epoch_started
        loss, num_tokens, skipped = self._sums.tolist()
        num_steps = len(self._batches)
        row = {
            "epoch": self.current_epoch + 1,
            "loss": loss / max(1.0, num_tokens),
            "skipped": int(skipped),
            "learning_rate": self.optimizers().param_groups[0]["lr"],  # type: ignore[union-attr]
            "seconds": seconds,
            "real_time_factor": self._audio_seconds / seconds,
            "data_wait": self._batches.seconds / seconds,
            **{f"gradient_{k}": float(v) / num_steps for k, v in self._norm_sums.items()},
        }
        scored = (self.current_epoch + 1) % self.config.training.dev_interval == 0
        if scored:
            row |= self._dev_row()
        self.history.append(row)
        for key, value in row.items():
            self.log(key, value)
        write_history(self.history, self.folder / "history.csv")
        self._say(row, scored)
        self._save_checkpoint()

    def _say(self, row: dict[str, float], scored: bool) -> None:
        epochs = self.config.training.epochs
        line = f"epoch {row['epoch']}/{epochs}: loss {row['loss']:.3f}"
        if scored:
            line += f", dev WER {row['dev_wer']:.2f} %, CER {row['dev_cer']:.2f} %"
            line += f" (best {self.best['dev_wer']:.2f} % at {self.best['epoch']:.0f})"
        if row["skipped"]:
            line += f", {row['skipped']:.0f} skipped as too short for their text"
        steps_left = sum(self._plan_sizes[self.current_epoch + 1 :])
        left = (time.monotonic() - self._started) / max(1, self._steps_here) * steps_left
        line += f"; {row['real_time_factor']:.0f} x real time, {100 * row['data_wait']:.1f} %"
        line += f" waiting for data; {format_seconds(left)} left"
        self.report(line)
        if scored:
            for utterance_id in sorted(self._dev_samples)[: self.config.training.num_samples]:
                reference, hypothesis = self._dev_samples[utterance_id]
                self.report(f"  {utterance_id}\n    ref {reference}\n    hyp {hypothesis}")

    def _save_checkpoint(self) -> None:
        fresh, last = self.scratch / "fresh.ckpt", self.scratch / "last.ckpt"
        self.trainer.save_checkpoint(fresh)
        if last.exists():
            last.replace(self.scratch / "previous.ckpt")
        fresh.replace(last)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the log and the choice of the best epoch need."""
        checkpoint["asr"] = {"history": self.history, "best": self.best}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        self.history = checkpoint["asr"]["history"]
        self.best = checkpoint["asr"]["best"]

    def origin(self) -> dict[str, Any]:
        """What `training.json` says."""
        utterances = self.train_set.utterances
        texts = [
            [u.id, u.text, int(n)] for u, n in zip(utterances, self.train_set.lengths, strict=True)
        ]
        return {
            "program": program_version(),
            "torch": torch.__version__,
            "seed": self.config.training.seed,
            "data": fingerprint(texts),
            "utterances": len(utterances),
            "parameters": count_parameters(self.network),
            "epoch": self.best["epoch"],
            "dev_wer": round(self.best["dev_wer"], 4),
            "dev_cer": round(self.best["dev_cer"], 4),
            "seconds": round(sum(row["seconds"] for row in self.history), 1),
        }


def _layers(encoder: CtcModel) -> list[tuple[str, torch.nn.Module]]:
    layers = [(f"layer{index + 1}", layer) for index, layer in enumerate(encoder.layers)]
    return [("subsampling", encoder.subsampling), *layers, ("output", encoder.output)]


def _fit(
    run: _Training, config: Config, folder: Path, scratch: Path, device: str, report: Report
) -> None:
    device = choose_device(device)
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on loader workers and loggers that does not apply
        trainer = lightning.Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            max_epochs=config.training.epochs,
            gradient_clip_val=config.training.clip_norm,
            check_val_every_n_epoch=config.training.dev_interval,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        )
        last = scratch / "last.ckpt"
        if last.exists():
            report("going on from the last checkpoint")
        trainer.fit(run, ckpt_path=last if last.exists() else None, weights_only=True)
