"""lhotse's manifests: recordings with supervisions, or cuts; JSON lines or an array, `.gz` or not.

Written against lhotse's data model (docs, "Representing a corpus"); the package is not needed.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.corpus.formats.nemo import report_unknown
from asr.corpus.manifest import (
    Utterance,
    open_rows,
    read_rows,
    seconds_value,
    text_value,
    write_row,
)
from asr.corpus.recordings import Stretch, is_there, measure
from asr.errors import DataError
from asr.files import LARGEST_FILE
from asr.folders import claim_names
from asr.progress import Report
from asr.text import UniqueIds, quoted
from asr.unpacking import DAMAGES, open_unpacked

_SUPERVISION_KEYS = frozenset(
    ("id", "recording_id", "start", "duration", "channel", "text", "speaker")
)
_ROUND = 6  # decimals of seconds; a microsecond
_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
_CUTS = ("MonoCut", "MultiCut")
_KEPT = "Resample"  # the transform after which times and sound are still those of the file


@dataclass(frozen=True, kw_only=True, slots=True)
class _Recording:
    path: Path
    duration: float
    channels: frozenset[int]


def read_lhotse(folder: Path, report: Report) -> Iterator[Utterance]:
    """The utterances of a folder with one file of recordings and one of supervisions.

    Raises:
        DataError: no such files or several, a malformed line, a source that is not a file, sound
            that lhotse would compute from it, some channels of several, or an id that occurs
            twice; with file, line and key.
    """
    recordings = dict(_read_recordings(_one_file(folder, "recordings")))
    path = _one_file(folder, "supervisions")
    ids = UniqueIds(path)
    unknown: Counter[str] = Counter()
    for number, row in _rows(path):
        where = f"{path}:{number}"
        recording_id = _name(row, "recording_id", where)
        if recording_id not in recordings:
            raise DataError(f"{where}: recording_id {recording_id} is not among the recordings")
        utterance = _supervised(row, recordings[recording_id], 0.0, where, unknown)
        ids.add(utterance.id, number)
        yield utterance
    report_unknown(unknown, path, report)


def read_cuts(path: Path, report: Report) -> Iterator[Utterance]:
    """An utterance for each supervision of each cut, or for a cut that has none.

    Raises:
        DataError: as `read_lhotse`, or a cut that is mixed, padded, or of features alone.
    """
    ids = UniqueIds(path)
    unknown: Counter[str] = Counter()
    for number, row in _rows(path):
        where = f"{path}:{number}"
        kind = row.get("type", "MonoCut")
        if kind not in _CUTS:
            kinds = " or ".join(_CUTS)
            raise DataError(f"{where}: type {kind!r}: only a {kinds} is a stretch of one recording")
        recording = _recording(_mapping(row.get("recording"), "recording", where), path, where)
        _check_channel(row, recording, where)
        begin = seconds_value(row, "start", where)
        supervisions = row.get("supervisions") or []
        if not isinstance(supervisions, list):
            raise DataError(f"{where}: supervisions is no list")
        for supervision in supervisions:
            row_of = _mapping(supervision, "supervisions", where)
            utterance = _supervised(row_of, recording, begin, where, unknown)
            ids.add(utterance.id, number)
            yield utterance
        if not supervisions:
            utterance = Utterance(
                id=_name(row, "id", where),
                audio_filepath=recording.path,
                offset=begin,
                duration=seconds_value(row, "duration", where),
            )
            ids.add(utterance.id, number)
            yield utterance
    report_unknown(unknown, path, report)


def write_lhotse(utterances: Iterable[Utterance], folder: Path, report: Report) -> None:
    """Write `recordings.jsonl.gz` and `supervisions.jsonl.gz`.

    Raises:
        DataError: audio that cannot be read.
    """
    del report
    claim_names(folder, ["recordings.jsonl.gz", "supervisions.jsonl.gz"])
    names: dict[Path, str] = {}
    with (
        open_rows(folder / "recordings.jsonl.gz") as recordings,
        open_rows(folder / "supervisions.jsonl.gz") as supervisions,
    ):
        for stretch in measure(utterances):
            path = stretch.utterance.audio_filepath
            if path not in names:
                names[path] = _recording_id(stretch)
                write_row(recordings, _recording_row(stretch, names[path]))
            write_row(supervisions, _supervision_row(stretch, names[path], 0.0))


def write_cuts(utterances: Iterable[Utterance], path: Path, report: Report) -> None:
    """Write one cut for each utterance, with its recording in it: a MultiCut of several channels.

    Raises:
        DataError: audio that cannot be read.
    """
    del report
    with open_rows(path) as file:
        for stretch in measure(utterances):
            utterance = stretch.utterance
            name = _recording_id(stretch)
            supervision = _supervision_row(stretch, name, utterance.offset)
            row = {
                "id": utterance.id,
                "start": round(utterance.offset, _ROUND),
                "duration": round(utterance.duration, _ROUND),
                "channel": supervision["channel"],
                "supervisions": [supervision],
                "recording": _recording_row(stretch, name),
                "type": _CUTS[stretch.recording.num_channels > 1],
            }
            write_row(file, row)


def _one_file(folder: Path, kind: str) -> Path:
    files = [path for path in sorted(folder.glob(f"*{kind}*")) if path.name.endswith(_SUFFIXES)]
    if len(files) != 1:
        names = ", ".join(path.name for path in files) or "none"
        raise DataError(
            f"{folder}: one file of {kind} ({', '.join(_SUFFIXES)}) is expected: {names}"
        )
    return files[0]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line and object of each line, or place and object of each element of an array."""
    if not path.name.endswith((".json", ".json.gz")):
        yield from read_rows(path)
        return
    try:
        with open_unpacked(path) as file:
            content = file.read(LARGEST_FILE + 1)
        rows = json.loads(content) if len(content) <= LARGEST_FILE else None
    except (OSError, ValueError, RecursionError, *DAMAGES) as error:
        raise DataError(f"{path}: no JSON that can be read: {error}") from error
    if not isinstance(rows, list):
        raise DataError(f"{path}: an array of objects is expected")
    for number, row in enumerate(rows, start=1):
        yield number, dict(_mapping(row, "element", f"{path}:{number}"))


def _read_recordings(path: Path) -> Iterator[tuple[str, _Recording]]:
    ids = UniqueIds(path)
    for number, row in _rows(path):
        where = f"{path}:{number}"
        recording_id = _name(row, "id", where)
        ids.add(recording_id, number)
        yield recording_id, _recording(row, path, where)


def _recording(row: Mapping[str, Any], manifest: Path, where: str) -> _Recording:
    sources = row.get("sources")
    if not isinstance(sources, list) or len(sources) != 1:
        raise DataError(f"{where}: sources: a list of one file is expected")
    source = _mapping(sources[0], "sources", where)
    kind = source.get("type")
    if kind != "file":
        raise DataError(f"{where}: sources: type {kind!r}: only files are read; nothing is run")
    channels = source.get("channels", [0])
    if not isinstance(channels, list) or not all(isinstance(c, int) for c in channels):
        raise DataError(f"{where}: channels is no list of numbers")
    _check_transforms(row, where)
    return _Recording(
        path=_resolved(Path(_name(source, "source", where)), manifest, where),
        duration=seconds_value(row, "duration", where),
        channels=frozenset(channels),
    )


def _resolved(path: Path, manifest: Path, where: str) -> Path:
    """A path that counts from the manifest, or from the current folder as lhotse has it.

    Raises:
        DataError: a relative one that is at neither place.
    """
    if path.is_absolute():
        return path
    for candidate in (manifest.parent / path, path):
        if is_there(candidate):
            return candidate
    raise DataError(
        f"{where}: source {quoted(str(path))} is neither below {manifest.parent} nor below the "
        "current folder, from which lhotse counts"
    )


def _check_transforms(row: Mapping[str, Any], where: str) -> None:
    transforms = row.get("transforms") or []
    if not isinstance(transforms, list):
        raise DataError(f"{where}: transforms is no list")
    for transform in transforms:
        name = _mapping(transform, "transforms", where).get("name")
        if name != _KEPT:
            raise DataError(
                f"{where}: transforms: {name!r} is sound that lhotse computes, which is in no "
                "file; save the audio with lhotse first"
            )


def _supervised(
    row: Mapping[str, Any],
    recording: _Recording,
    begin: float,
    where: str,
    unknown: Counter[str],
) -> Utterance:
    """An utterance from a supervision whose `start` counts from `begin` in its recording."""
    unknown.update(key for key in row.keys() - _SUPERVISION_KEYS if row[key] is not None)
    _check_channel(row, recording, where)
    start = seconds_value(row, "start", where, signed=True)
    offset = round(begin + start, _ROUND)
    if offset < 0:
        raise DataError(f"{where}: start {start:g} is before the recording")
    return Utterance(
        id=_name(row, "id", where),
        audio_filepath=recording.path,
        offset=offset,
        duration=seconds_value(row, "duration", where),
        text=text_value(row, "text", where),
        speaker=text_value(row, "speaker", where),
    )


def _check_channel(row: Mapping[str, Any], recording: _Recording, where: str) -> None:
    channel = row.get("channel", 0)
    num_channels = len(recording.channels)
    is_all = isinstance(channel, list) and all(c in channel for c in recording.channels)
    if num_channels > 1 and not is_all:
        raise DataError(
            f"{where}: channel {channel} of {recording.path}, which has {num_channels}: channels "
            "are averaged here; split them into files of their own first"
        )


def _recording_row(stretch: Stretch, recording_id: str) -> dict[str, Any]:
    recording = stretch.recording
    return {
        "id": recording_id,
        "sources": [
            {
                "type": "file",
                "channels": list(range(recording.num_channels)),
                "source": str(stretch.utterance.audio_filepath.absolute()),
            }
        ],
        "sampling_rate": recording.sample_rate,
        "num_samples": recording.num_samples,
        "duration": recording.duration,
    }


def _supervision_row(stretch: Stretch, recording_id: str, begin: float) -> dict[str, Any]:
    utterance = stretch.utterance
    num_channels = stretch.recording.num_channels
    row = {
        "id": utterance.id,
        "recording_id": recording_id,
        "start": round(utterance.offset - begin, _ROUND),
        "duration": round(utterance.duration, _ROUND),
        "channel": 0 if num_channels == 1 else list(range(num_channels)),
        "text": utterance.text,
        "speaker": utterance.speaker,
    }
    return {key: value for key, value in row.items() if value is not None}


def _mapping(value: object, key: str, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: {key}: an object is expected")
    return value


def _name(row: Mapping[str, Any], key: str, where: str) -> str:
    value = text_value(row, key, where)
    if not value:
        raise DataError(f"{where}: key {key} is missing")
    return value


def _recording_id(stretch: Stretch) -> str:
    return str(stretch.utterance.audio_filepath.absolute()).lstrip("/")
