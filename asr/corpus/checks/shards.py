"""Measures of the audio in shards: each file of a tar lies on disk only while it is measured."""

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from asr.corpus.checks.findings import Finding
from asr.corpus.checks.store import FileRequest, Outcome, Store, measure_files
from asr.corpus.manifest import Utterance
from asr.corpus.members import ShardedUtterance, read_shards
from asr.corpus.shards import INDEX, list_shards, read_index
from asr.errors import DataError
from asr.progress import track

_SUFFIXES = (".tar", ".shards")


def is_sharded(path: Path) -> bool:
    """Whether a path is a folder of shards, a shard or a list of shards, and not a manifest."""
    return path.suffix in _SUFFIXES or path.is_dir()


@dataclass(kw_only=True, slots=True)
class MeasuredShards:
    """The utterances of shards, and what was measured of them."""

    utterances: list[Utterance] = field(default_factory=list)
    results: list[Outcome] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    """Shards that cannot be read on, and utterances whose id another one has."""


def measure_shards(path: Path, jobs: int, store: Store | None) -> MeasuredShards:
    """Read shards from front to back, and measure the audio of their utterances.

    A shard that is damaged is left at the damage, and the next one is read.

    Raises:
        DataError: no index or list, or no utterance in any shard.
    """
    measured = MeasuredShards()
    with tempfile.TemporaryDirectory() as folder:
        requests = _requests(path, Path(folder), measured)
        for number, result in enumerate(measure_files(requests, jobs, store)):
            file = _file(Path(folder), number)
            file.unlink()
            if isinstance(result, str):
                result = result.replace(str(file), str(measured.utterances[number].audio_filepath))
            measured.results.append(result)
    if not measured.utterances:
        reasons = [finding.message for finding in measured.findings]
        raise DataError(reasons[0] if reasons else f"{path}: there are no utterances")
    return measured


def _requests(path: Path, folder: Path, measured: MeasuredShards) -> Iterator[FileRequest]:
    """Write the audio of each utterance to the folder; the utterances are added to `measured`."""
    members: dict[str, Path] = {}
    for sharded in _read(path, measured):
        utterance = sharded.utterance
        other = members.setdefault(utterance.id, utterance.audio_filepath)
        if other != utterance.audio_filepath:
            message = f"{utterance.audio_filepath}: id {utterance.id!r} is that of {other}"
            measured.findings.append(
                Finding(kind="repeated-id", message=message, manifest=str(path))
            )
            continue
        file = _file(folder, len(measured.utterances))
        file.write_bytes(sharded.audio)
        measured.utterances.append(utterance)
        digest = hashlib.blake2b(sharded.audio, digest_size=16).hexdigest()
        yield FileRequest(file, ((0.0, 0.0),), content=digest)


def _read(path: Path, measured: MeasuredShards) -> Iterator[ShardedUtterance]:
    shards = _list(path)
    for location, expected in track(shards, total=len(shards), label="reading", unit="shards"):
        count = 0
        try:
            for sharded in read_shards([location]):
                count += 1
                yield sharded
            if expected not in (None, count):
                raise DataError(f"{location}: {count} utterances, the index says {expected}")
        except DataError as error:
            measured.findings.append(
                Finding(kind="damaged-shard", message=str(error), manifest=str(path))
            )


def _list(path: Path) -> list[tuple[str, int | None]]:
    """Shards, and how many utterances should be in each as far as an index says it."""
    if path.suffix == ".shards":
        return [(location, None) for location in list_shards(path)[0]]
    if not path.is_dir():
        return [(str(path), None)]
    if not (path / INDEX).is_file():
        raise DataError(
            f"{path}: a folder without {INDEX}; of corpora that are no shards a manifest is "
            "checked: asr data import writes it"
        )
    return [(str(path / shard.name), shard.num_utterances) for shard in read_index(path)]


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number}"
