"""A corpus packed for training, and the batches cut from it.

Decoding audio once and keeping it in one memory-mapped file makes an epoch's loading a matter of
copying: int16 samples at the model's rate, or float32 frames where features were given.

Dimension names: batch (utterances), sample (of audio), frame and bin (of features), token.
"""

import itertools
import json
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.audio import read_audio
from asr.config import FeatureConfig
from asr.errors import DataError
from asr.files import open_atomic
from asr.manifest import Utterance, write_manifest
from asr.manifest_table import ManifestTable
from asr.moments import GroupStatistics
from asr.progress import track
from asr.shards import ShardedUtterance, decode, read_shards
from asr.stored_features import is_feature_path, read_features

Kind = Literal["waveforms", "features"]
_KINDS: dict[Kind, type[np.generic]] = {"waveforms": np.int16, "features": np.float32}
Loaded = tuple[Utterance, tuple[NDArray[np.generic], int | None]]
"""An utterance with its samples or frames, and the rate of its file."""

_AHEAD = 64  # utterances read ahead
_MANIFEST, _VALUES, _STARTS = "manifest.jsonl", "values.npy", "starts.npy"


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Utterances padded with zeros to one length."""

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

    def to(self, device: torch.device | str) -> "Batch":
        """The same on another device; on the way to a GPU while the host goes on."""
        tensors = self.tensors
        if torch.device(device).type == "cuda":
            tensors = {name: tensor.pin_memory() for name, tensor in tensors.items()}
        moved: dict[str, Any] = {n: t.to(device, non_blocking=True) for n, t in tensors.items()}
        return replace(self, **moved)

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


def write_batch(batch: Batch, path: Path) -> None:
    """A file that shows a batch: its tensors, and the ids under `ids` in its metadata."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in batch.tensors.items()}
    with open_atomic(path, "wb") as file:
        file.write(safetensors.torch.save(tensors, {"ids": json.dumps(batch.ids)}))


@dataclass(frozen=True, kw_only=True)
class PackedCorpus:
    """Utterances and all of their samples or frames, one after another."""

    kind: Kind
    utterances: Sequence[Utterance]
    values: NDArray[np.generic]
    """Samples [sample] or frames [frame, bin]; memory-mapped."""
    starts: NDArray[np.int64]
    """Where each utterance begins, and the end."""
    speakers: GroupStatistics | None = None
    """Of the features of each utterance's speaker; for normalization by "speaker"."""

    def __len__(self) -> int:
        return len(self.utterances)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Samples or frames of each utterance."""
        return np.diff(self.starts)

    def batch(self, rows: Sequence[int], targets: Sequence[Sequence[int]]) -> Batch:
        """A padded batch of the utterances `rows`; `targets` are all utterances' token ids."""
        lengths = self.starts[np.add(rows, 1)] - self.starts[rows]
        padded = np.zeros((len(rows), lengths.max(), *self.values.shape[1:]), self.values.dtype)
        for place, row in enumerate(rows):
            padded[place, : lengths[place]] = self.values[self.starts[row] : self.starts[row + 1]]
        num_tokens = [len(targets[row]) for row in rows]
        padded_targets = np.zeros((len(rows), max([1, *num_tokens])), np.int64)
        for place, row in enumerate(rows):
            padded_targets[place, : num_tokens[place]] = targets[row]
        return Batch(
            ids=tuple(self.utterances[row].id for row in rows),
            inputs=torch.from_numpy(padded),
            lengths=torch.from_numpy(lengths),
            targets=torch.from_numpy(padded_targets),
            num_tokens=torch.tensor(num_tokens),
            statistics=None if self.speakers is None else torch.from_numpy(self.speakers.of(rows)),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PackReport:
    """What was noticed while packing."""

    seconds: float
    low_rate: tuple[str, ...]
    """Ids of utterances whose audio has a lower rate than the model."""


def pack(utterances: Sequence[Utterance], folder: Path, features: FeatureConfig) -> PackReport:
    """Decode every utterance into `folder`, which is replaced; two threads read ahead.

    Raises:
        DataError: an utterance cannot be read (named), or audio and features are mixed.
    """
    if not utterances:
        raise DataError(f"{folder.name}: there are no utterances")
    from_features = {is_feature_path(utterance.audio_filepath) for utterance in utterances}
    if len(from_features) > 1:
        raise DataError(f"{folder.name}: some utterances are audio and some are features")
    kind: Kind = "features" if from_features.pop() else "waveforms"
    load = _frames_reader(features) if kind == "features" else _samples_reader(features)
    loaded = _read_ahead(load, utterances)
    return _write_packed(
        zip(utterances, loaded, strict=True), len(utterances), folder, kind, features
    )


def pack_shards(
    locations: Sequence[str], total: int, folder: Path, features: FeatureConfig
) -> PackReport:
    """Decode the audio of tar files into `folder`, as they are read from front to back.

    Args:
        locations: as `read_shards` takes them.
        total: how many utterances are expected, for the progress.

    Raises:
        DataError: as `read_shards`, an utterance that cannot be decoded, or none at all.
    """

    def load(found: ShardedUtterance) -> tuple[Utterance, NDArray[np.int16], int]:
        name = str(found.utterance.audio_filepath)
        samples, rate = decode(found.audio, name, features.sample_rate)
        _check_length(samples, found.utterance, features)
        duration = len(samples) / features.sample_rate
        return replace(found.utterance, duration=duration), _as_int16(samples), rate

    def loaded() -> Iterator[Loaded]:
        utterances = read_shards(locations)
        with ThreadPoolExecutor(max_workers=2) as pool:
            while piece := list(itertools.islice(utterances, _AHEAD)):
                for utterance, samples, rate in pool.map(load, piece):
                    yield utterance, (samples, rate)

    return _write_packed(loaded(), total, folder, "waveforms", features)


def _write_packed(
    loaded: Iterable[Loaded], total: int, folder: Path, kind: Kind, features: FeatureConfig
) -> PackReport:
    """Store utterances one by one; only lengths are kept in memory."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    raw_path = folder / "values.raw"
    lengths = array("q")
    low_rate: list[str] = []

    def stored(raw: IO[bytes]) -> Iterator[Utterance]:
        tracked = track(loaded, total=total, label="reading", unit="utterances")
        for utterance, (values, source_rate) in tracked:
            raw.write(values.tobytes())
            lengths.append(len(values))
            if source_rate is not None and source_rate < features.sample_rate:
                low_rate.append(utterance.id)
            yield utterance

    with raw_path.open("wb") as raw:
        write_manifest(stored(raw), folder / _MANIFEST)
    if not lengths:
        raise DataError(f"{folder.name}: there are no utterances")
    shape = (features.num_base_bins,) if kind == "features" else ()
    dtype = _KINDS[kind]
    num_values = sum(lengths)
    raw_values = np.memmap(raw_path, dtype, "r", shape=(num_values, *shape))
    np.save(folder / _VALUES, raw_values)
    raw_path.unlink()
    np.save(folder / _STARTS, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    unit = features.frame_shift if kind == "features" else 1
    seconds = num_values * unit / features.sample_rate
    return PackReport(seconds=seconds, low_rate=tuple(low_rate))


def open_packed(folder: Path) -> PackedCorpus:
    """Map what `pack` wrote.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        values = np.load(folder / _VALUES, mmap_mode="r")
        starts = np.load(folder / _STARTS)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: the packed corpus cannot be read: {error}") from error
    utterances = ManifestTable(folder / _MANIFEST)
    if len(starts) != len(utterances) + 1 or starts[-1] != len(values):
        raise DataError(f"{folder}: the packed corpus is damaged; run the pack stage again")
    kind: Kind = "waveforms" if values.ndim == 1 else "features"
    return PackedCorpus(kind=kind, utterances=utterances, values=values, starts=starts)


def _read_ahead(
    load: Callable[[Utterance], tuple[NDArray[np.generic], int | None]],
    utterances: Sequence[Utterance],
) -> Iterator[tuple[NDArray[np.generic], int | None]]:
    # Pieces bound the memory: map() alone would read everything as fast as it can.
    with ThreadPoolExecutor(max_workers=2) as pool:
        for start in range(0, len(utterances), _AHEAD):
            yield from pool.map(load, utterances[start : start + _AHEAD])


def _samples_reader(
    config: FeatureConfig,
) -> Callable[[Utterance], tuple[NDArray[np.generic], int | None]]:
    def load(utterance: Utterance) -> tuple[NDArray[np.generic], int | None]:
        audio = read_audio(
            utterance.audio_filepath,
            sample_rate=config.sample_rate,
            offset=utterance.offset,
            duration=utterance.duration or None,
        )
        _check_length(audio.samples, utterance, config)
        return _as_int16(audio.samples), audio.source_rate

    return load


def _check_length(
    samples: NDArray[np.float32], utterance: Utterance, config: FeatureConfig
) -> None:
    if len(samples) < config.frame_length:
        raise DataError(
            f"{utterance.audio_filepath}: utterance {utterance.id}: {len(samples)} samples are "
            f"less than one frame of {config.frame_length}"
        )


def _as_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


def _frames_reader(
    config: FeatureConfig,
) -> Callable[[Utterance], tuple[NDArray[np.generic], int | None]]:
    def load(utterance: Utterance) -> tuple[NDArray[np.generic], int | None]:
        frames = read_features(utterance.audio_filepath)
        if frames.shape[1] != config.num_base_bins:
            raise DataError(
                f"{utterance.audio_filepath}: {frames.shape[1]} values a frame, but the "
                f"configuration's features have {config.num_base_bins}"
            )
        return frames.astype(np.float32), None

    return load
