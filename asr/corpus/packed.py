"""A corpus packed for training: its samples in one file, and the plan of its batches.

Decoding audio once and keeping it in one memory-mapped file makes an epoch's loading a matter of
copying: int16 samples at the model's rate, or float32 frames where features were given.

Dimension names: utterance, sample (of audio), frame and bin (of features).
"""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from asr.audio import Samples, as_int16, read_audio
from asr.batches import plan_batches
from asr.config import FeatureConfig
from asr.corpus.joined import JoinedUtterances, JoinedValues, column_of
from asr.corpus.manifest import Utterance, write_manifest
from asr.corpus.statistics import GroupStatistics
from asr.corpus.stored_features import is_feature_path, read_features
from asr.corpus.table import ManifestTable
from asr.corpus.windows import ShardWindows, Wanted
from asr.errors import DataError
from asr.files import check_regular
from asr.folders import remove_folder, replace_folder
from asr.progress import track

Kind = Literal["waveforms", "features"]
_KINDS: dict[Kind, type[np.generic]] = {"waveforms": np.int16, "features": np.float32}
Change = Callable[[Samples, Utterance], Samples]
"""What is done to an utterance's samples before they are packed."""
Loaded = tuple[Utterance, tuple[NDArray[np.generic], int | None]]
"""An utterance with its samples or frames, and the rate of its file."""

_AHEAD = 64  # utterances read ahead
_MANIFEST, _VALUES, STARTS = "manifest.jsonl", "values.npy", "starts.npy"
DIGESTS = "digests.npy"
SHARD_STARTS = "shards.npy"
_FILES = (_MANIFEST, STARTS, DIGESTS)
_MORE_FILES = (_VALUES, SHARD_STARTS)


@dataclass(frozen=True, kw_only=True)
class PackedCorpus:
    """Utterances and all of their samples or frames, one after another."""

    kind: Kind
    utterances: Sequence[Utterance]
    values: NDArray[np.generic] | ShardWindows | JoinedValues
    """Samples [sample] or frames [frame, bin]; memory-mapped, or read from shards."""
    starts: NDArray[np.int64]
    """Where each utterance begins, and the end."""
    digests: NDArray[np.uint64]
    """Of each utterance's samples or frames: the same for the same ones."""
    speakers: GroupStatistics | None = None
    """Of the features of each utterance's speaker; for normalization by "speaker"."""

    def __len__(self) -> int:
        return len(self.utterances)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Samples or frames of each utterance."""
        return np.diff(self.starts)

    def column(self, key: Literal["text", "speaker"]) -> Iterator[str | None]:
        """The texts or speakers of all utterances; quicker than to ask each of them."""
        return column_of(self.utterances, key)

    def plan(
        self,
        budget: int,
        *,
        rows: NDArray[np.int64] | None = None,
        seed: int | None = None,
        shuffle: bool = True,
    ) -> list[NDArray[np.int64]]:
        """Rows in batches, as `plan_batches` makes them; from shards, window by window.

        Args:
            rows: those that are wanted, in ascending order; None is all.
        """
        rows = np.arange(len(self)) if rows is None else rows
        windows = None
        if isinstance(self.values, ShardWindows):
            firsts = np.searchsorted(rows, np.searchsorted(self.starts, self.values.starts))
            windows = [
                np.concatenate([np.arange(firsts[shard], firsts[shard + 1]) for shard in window])
                for window in self.values.windows(seed)
            ]
        lengths = self.lengths[rows]
        plan = plan_batches(lengths, budget, seed=seed, shuffle=shuffle, windows=windows)
        return [rows[part] for part in plan]

    def follow(
        self, seeds: Sequence[int | None], wanted: Mapping[int | None, Wanted] | None = None
    ) -> None:
        """Announce that the batches of these plans come next, so that shards are read ahead.

        Args:
            seeds: of `plan`.
            wanted: by seed, which utterances will be asked for; none means all of them.
        """
        if isinstance(self.values, ShardWindows):
            self.values.follow(seeds, wanted)

    def padded(self, rows: Sequence[int]) -> tuple[NDArray[np.generic], NDArray[np.int64]]:
        """Samples [utterance, sample] or frames [utterance, frame, bin] of `rows`, and lengths."""
        lengths = self.starts[np.add(rows, 1)] - self.starts[rows]
        values = np.zeros((len(rows), lengths.max(), *self.values.shape[1:]), self.values.dtype)
        for place, row in enumerate(rows):
            values[place, : lengths[place]] = self.values[self.starts[row] : self.starts[row + 1]]
        return values, lengths


@dataclass(frozen=True, kw_only=True, slots=True)
class PackReport:
    """What was noticed while packing."""

    seconds: float
    low_rate: tuple[str, ...]
    """Ids of utterances whose audio has a lower rate than the model."""


def pack(
    utterances: Sequence[Utterance],
    folder: Path,
    features: FeatureConfig,
    change: Change | None = None,
) -> PackReport:
    """Decode every utterance into `folder`, which is replaced; two threads read ahead.

    Raises:
        DataError: an utterance cannot be read (named), audio and features are mixed, or features
            were to be changed as only audio can be.
    """
    if not utterances:
        raise DataError(f"{folder.name}: there are no utterances")
    from_features = {is_feature_path(utterance.audio_filepath) for utterance in utterances}
    if len(from_features) > 1:
        raise DataError(f"{folder.name}: some utterances are audio and some are features")
    kind: Kind = "features" if from_features.pop() else "waveforms"
    if kind == "features" and change is not None:
        raise DataError(f"{folder.name}: stored features go through no codec; drop augment.codecs")
    load = _frames_reader(features) if kind == "features" else _samples_reader(features, change)
    loaded = _read_ahead(load, utterances)
    return write_packed(
        zip(utterances, loaded, strict=True), len(utterances), folder, kind, features
    )


def write_packed(
    loaded: Iterable[Loaded],
    total: int,
    folder: Path,
    kind: Kind,
    features: FeatureConfig,
    *,
    keep_values: bool = True,
) -> PackReport:
    """Store utterances one by one in `folder`, which is replaced; lengths and digests are kept.

    Raises:
        DataError: there are none, or as `loaded`.
        AsrError: in the folder there is anything else than a packed corpus.
    """
    remove_packed(folder)  # first, since disks may hold no second one
    with replace_folder(folder, _FILES, _MORE_FILES) as fresh:
        return _write_packed(loaded, total, folder.name, fresh, kind, features, keep_values)


def _write_packed(
    loaded: Iterable[Loaded],
    total: int,
    name: str,
    folder: Path,
    kind: Kind,
    features: FeatureConfig,
    keep_values: bool,
) -> PackReport:
    raw_path = folder / "values.raw"
    lengths, digests = array("q"), array("Q")
    low_rate: list[str] = []

    def stored(raw: IO[bytes]) -> Iterator[Utterance]:
        tracked = track(loaded, total=total, label="reading", unit="utterances")
        for utterance, (values, source_rate) in tracked:
            if keep_values:
                raw.write(values.tobytes())
            lengths.append(len(values))
            digests.append(digest_of(values))
            if source_rate is not None and source_rate < features.sample_rate:
                low_rate.append(utterance.id)
            yield utterance

    with raw_path.open("wb") as raw:
        write_manifest(stored(raw), folder / _MANIFEST)
    if not lengths:
        raise DataError(f"{name}: there are no utterances")
    shape = (features.num_base_bins,) if kind == "features" else ()
    num_values = sum(lengths)
    if keep_values:
        raw_values = np.memmap(
            check_regular(raw_path), _KINDS[kind], "r", shape=(num_values, *shape)
        )
        np.save(folder / _VALUES, raw_values)
    raw_path.unlink()
    np.save(folder / STARTS, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))
    np.save(folder / DIGESTS, np.frombuffer(digests, np.uint64))
    unit = features.frame_shift if kind == "features" else 1
    seconds = num_values * unit / features.sample_rate
    return PackReport(seconds=seconds, low_rate=tuple(low_rate))


def remove_packed(folder: Path) -> None:
    """Remove a packed corpus, if there is one.

    Raises:
        AsrError: in the folder there is anything else.
    """
    remove_folder(folder, _FILES, _MORE_FILES)


def digest_of(values: NDArray[np.generic]) -> int:
    """A number that is the same for the same samples or frames, and for hardly any others."""
    return int.from_bytes(hashlib.blake2b(values.tobytes(), digest_size=8).digest(), "little")


def open_packed(folder: Path) -> PackedCorpus:
    """Open a packed corpus, as `pack` or `pack_shards` wrote it; its values stay in their file.

    Raises:
        DataError: it is missing or damaged.
    """
    (values,) = load_arrays(folder, _VALUES)
    kind: Kind = "waveforms" if values.ndim == 1 else "features"
    return open_values(folder, kind, values)


def join_packed(first: PackedCorpus, second: PackedCorpus) -> PackedCorpus:
    """The utterances of one packed corpus, and after them those of another.

    Raises:
        DataError: one holds audio and the other features, or one is read from shards.
    """
    if first.kind != second.kind:
        raise DataError(f"{first.kind} and {second.kind} cannot be learnt from together")
    if isinstance(first.values, ShardWindows) or isinstance(second.values, ShardWindows):
        raise DataError("shards that are read as training goes on stand alone")
    return PackedCorpus(
        kind=first.kind,
        utterances=JoinedUtterances(first.utterances, second.utterances),
        values=JoinedValues(first.values, second.values),
        starts=np.concatenate([first.starts, first.starts[-1] + second.starts[1:]]),
        digests=np.concatenate([first.digests, second.digests]),
    )


def open_values(
    folder: Path, kind: Kind, values: NDArray[np.generic] | ShardWindows
) -> PackedCorpus:
    """Open a packed corpus around its values, wherever these are.

    Raises:
        DataError: it is missing or damaged.
    """
    starts, digests = load_arrays(folder, STARTS, DIGESTS)
    utterances = ManifestTable(folder / _MANIFEST)
    if not len(starts) - 1 == len(digests) == len(utterances) or starts[-1] != len(values):
        raise DataError(f"{folder}: the packed corpus is damaged; run the pack stage again")
    return PackedCorpus(
        kind=kind, utterances=utterances, values=values, starts=starts, digests=digests
    )


def load_arrays(folder: Path, *names: str) -> list[NDArray[Any]]:
    """Map arrays of a packed corpus.

    Raises:
        DataError: one is missing or damaged.
    """
    try:
        return [np.asarray(open_memmap(check_regular(folder / name), mode="r")) for name in names]
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: the packed corpus cannot be read: {error}") from error


def _read_ahead(
    load: Callable[[Utterance], tuple[NDArray[np.generic], int | None]],
    utterances: Sequence[Utterance],
) -> Iterator[tuple[NDArray[np.generic], int | None]]:
    # Pieces bound the memory: map() alone would read everything as fast as it can.
    with ThreadPoolExecutor(max_workers=2) as pool:
        for start in range(0, len(utterances), _AHEAD):
            yield from pool.map(load, utterances[start : start + _AHEAD])


def _samples_reader(
    config: FeatureConfig, change: Change | None
) -> Callable[[Utterance], tuple[NDArray[np.generic], int | None]]:
    def load(utterance: Utterance) -> tuple[NDArray[np.generic], int | None]:
        audio = read_audio(
            utterance.audio_filepath,
            sample_rate=config.sample_rate,
            offset=utterance.offset,
            duration=utterance.duration or None,
        )
        check_length(audio.samples, utterance, config)
        samples = audio.samples if change is None else change(audio.samples, utterance)
        return as_int16(samples), audio.source_rate

    return load


def check_length(samples: NDArray[np.float32], utterance: Utterance, config: FeatureConfig) -> None:
    """Refuse an utterance without a frame.

    Raises:
        DataError: it has less samples than one.
    """
    if len(samples) < config.frame_length:
        raise DataError(
            f"{utterance.audio_filepath}: utterance {utterance.id}: {len(samples)} samples are "
            f"less than one frame of {config.frame_length}"
        )


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
