"""Utterances of a packed corpus as one padded batch of tensors.

Dimension names: batch (utterances), sample (of audio), frame and bin (of features), token.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.config import Config, FeatureConfig
from asr.corpus import PackedCorpus
from asr.files import open_atomic


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Utterances padded with zeros to one length.

    Lengths and targets stay in the host's memory, where a step needs to know them: reading them
    from a GPU would mean waiting for all that it has been given to do.
    """

    ids: tuple[str, ...]
    inputs: Tensor
    """Int16 samples at the model's rate [batch, sample], or frames without deltas and
    normalization [batch, frame, bin]."""
    lengths: Tensor
    """Samples or frames of each utterance, [batch]."""
    targets: Tensor
    """Token ids, [batch, token]; zeros at the end."""
    num_tokens: Tensor
    """Tokens of each utterance, [batch]."""
    statistics: Tensor | None = None
    """Means and standard deviations of each one's speaker, [batch, two, bin]; for normalization
    by "speaker"."""

    def to(self, device: torch.device) -> "Batch":
        """The same with inputs and statistics on another device."""
        statistics = None if self.statistics is None else send(self.statistics, device)
        return replace(self, inputs=send(self.inputs, device), statistics=statistics)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All of its tensors by name."""
        names = ("inputs", "lengths", "targets", "num_tokens", "statistics")
        values = {name: getattr(self, name) for name in names}
        return {name: tensor for name, tensor in values.items() if tensor is not None}

    @property
    def is_audio(self) -> bool:
        """Whether the inputs are samples."""
        return self.inputs.ndim == 2


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; on the way from the host to a GPU while the host goes on."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def make_batch(
    corpus: PackedCorpus, rows: Sequence[int], targets: Sequence[Sequence[int]]
) -> Batch:
    """A padded batch of the utterances `rows`; `targets` are all utterances' token ids."""
    inputs, lengths = corpus.padded(rows)
    num_tokens = [len(targets[row]) for row in rows]
    padded_targets = np.zeros((len(rows), max([1, *num_tokens])), np.int64)
    for place, row in enumerate(rows):
        padded_targets[place, : num_tokens[place]] = targets[row]
    speakers = corpus.speakers
    return Batch(
        ids=tuple(corpus.utterances[row].id for row in rows),
        inputs=torch.from_numpy(inputs),
        lengths=torch.from_numpy(lengths),
        targets=torch.from_numpy(padded_targets),
        num_tokens=torch.tensor(num_tokens),
        statistics=None if speakers is None else torch.from_numpy(speakers.of(rows)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """A packed corpus and its token ids: what is learnt from, or scored, batch by batch."""

    corpus: PackedCorpus
    targets: Sequence[Sequence[int]]
    """Token ids of every utterance."""
    budget: int
    """Padded samples or frames in a batch."""
    units_per_second: float
    """Samples or frames, whichever the corpus holds."""

    @classmethod
    def of(
        cls, corpus: PackedCorpus, targets: Sequence[Sequence[int]], config: Config
    ) -> "Examples":
        """In batches of `training.batch_seconds`."""
        rate, unit = config.features.sample_rate, samples_per_unit(corpus, config.features)
        budget = int(config.training.batch_seconds * rate / unit)
        return cls(corpus=corpus, targets=targets, budget=budget, units_per_second=rate / unit)

    def batch(self, rows: NDArray[np.int64]) -> Batch:
        """The utterances `rows`, padded."""
        return make_batch(self.corpus, rows.tolist(), self.targets)

    def num_tokens(self, rows: NDArray[np.int64]) -> int:
        """Of the utterances `rows` together."""
        return sum(len(self.targets[row]) for row in rows)

    def seconds(self, rows: NDArray[np.int64]) -> float:
        """Of the utterances `rows` together, without padding."""
        return int(self.corpus.lengths[rows].sum()) / self.units_per_second


def samples_per_unit(corpus: PackedCorpus, features: FeatureConfig) -> int:
    """Samples in one of what the corpus's lengths count: samples, or frames."""
    return features.frame_shift if corpus.kind == "features" else 1


def write_batch(batch: Batch, path: Path) -> None:
    """A file that shows a batch: its tensors, and the ids under `ids` in its metadata."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in batch.tensors.items()}
    with open_atomic(path, "wb") as file:
        file.write(safetensors.torch.save(tensors, {"ids": json.dumps(batch.ids)}))
