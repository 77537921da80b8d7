"""Corpora in tar files, in WebDataset's layout: written once, listed, and what an index says.

An utterance is two or three members of one name: the audio, and `.json` (or `.txt`) with what was
said. Shards are local files, or addresses (`s3://`, `gs://`, `https://`). `members` reads them.
"""

import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import soundfile

from asr.audio import as_int16, read_audio
from asr.corpus.addresses import is_address
from asr.corpus.manifest import Utterance, read_rows, seconds_value, text_value, write_row
from asr.corpus.members import AUDIO_MEMBERS
from asr.corpus.recordings import Stretch, measure
from asr.errors import DataError
from asr.files import open_atomic, read_file
from asr.folders import LIST, replace_folder
from asr.text import read_lines

INDEX = "shards.jsonl"
_PART = ".asr-shards"  # the folder in which shards are until all are written


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """A line of the index: a tar file, and what is in it."""

    name: str
    num_utterances: int
    seconds: float
    num_bytes: int


def write_shards(
    utterances: Iterable[Utterance],
    folder: Path,
    *,
    seconds: float | None = None,
    num_bytes: int | None = None,
) -> list[Shard]:
    """Write tar files of about so many seconds or bytes, and their index last of all.

    Files that are whole utterances are stored as they are, parts of files as 16-bit FLAC. The same
    utterances make the same bytes. All of them are moved to `folder` when the last is written; what
    a killed process left is cleared away, and nothing else.

    Args:
        utterances: with an id each of its own, which `ManifestTable.check` sees to in less memory
            than a set of all ids would take here.

    Raises:
        DataError: audio that cannot be read, or a folder with shards in it.
    """
    _clear_leftovers(folder)
    if (folder / INDEX).exists() or any(folder.glob("*.tar")):
        raise DataError(f"{folder}: there are shards in it; name another folder")
    with replace_folder(folder / _PART) as part:
        shards = _write_tars(utterances, part, seconds=seconds, num_bytes=num_bytes)
        if not shards:
            raise DataError(f"{folder}: there are no utterances")
        _write_index(shards, part / INDEX)
    for name in [*(shard.name for shard in shards), INDEX]:
        (folder / _PART / name).rename(folder / name)
    (folder / _PART / LIST).unlink()
    (folder / _PART).rmdir()
    return shards


def read_index(folder: Path) -> list[Shard]:
    """The shards of a folder, in order.

    Raises:
        DataError: no index, a malformed line, or a name that leads elsewhere.
    """
    path = folder / INDEX
    shards = []
    for number, row in read_rows(path):
        where = f"{path}:{number}"
        name = text_value(row, "shard", where) or ""
        if PurePosixPath(name).name != name or not name.endswith(".tar"):
            raise DataError(f"{where}: shard {name!r} is not the name of a .tar beside it")
        counts = [_count(row, key, where) for key in ("utterances", "bytes")]
        shards.append(
            Shard(
                name=name,
                num_utterances=counts[0],
                seconds=seconds_value(row, "seconds", where),
                num_bytes=counts[1],
            )
        )
    return shards


def list_shards(path: Path) -> tuple[list[str], int]:
    """The tar files that a list names, and how many utterances are in them as far as is known.

    Args:
        path: a tar file, an address of one, or a folder that `write_shards` wrote, a line.

    Raises:
        DataError: an empty list, or a folder without index.
    """
    locations = []
    count = 0
    for _, line in read_lines(path):
        name = line.strip()
        folder = path.parent / name
        if not is_address(name) and folder.is_dir():
            shards = read_index(folder)
            locations += [str(folder / shard.name) for shard in shards]
            count += sum(shard.num_utterances for shard in shards)
        else:
            locations.append(name if is_address(name) else str(folder))
    if not locations:
        raise DataError(f"{path}: no shards in it")
    return locations, count


def _write_tars(
    utterances: Iterable[Utterance],
    folder: Path,
    *,
    seconds: float | None,
    num_bytes: int | None,
) -> list[Shard]:
    stretches = iter(measure(utterances))
    shards: list[Shard] = []
    count = 0
    pending = next(stretches, None)
    while pending is not None:
        name = f"{len(shards):06d}.tar"
        first, length = count, 0.0
        with open_atomic(folder / name, "wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                while pending is not None and (
                    count == first
                    or (seconds is not None and length + pending.utterance.duration <= seconds)
                    or (num_bytes is not None and file.tell() < num_bytes)
                ):
                    count += 1
                    _add_utterance(tar, f"{count:09d}", pending)
                    length += pending.utterance.duration
                    pending = next(stretches, None)
            size = file.tell()
        shards.append(
            Shard(name=name, num_utterances=count - first, seconds=length, num_bytes=size)
        )
    return shards


def _write_index(shards: Iterable[Shard], path: Path) -> None:
    with open_atomic(path) as index:
        for shard in shards:
            row = {
                "shard": shard.name,
                "utterances": shard.num_utterances,
                "seconds": round(shard.seconds, 3),
                "bytes": shard.num_bytes,
            }
            write_row(index, row)


def _clear_leftovers(folder: Path) -> None:
    """Remove what a killed process left: its folder, and the files that it had moved from there."""
    part = folder / _PART
    if (part / INDEX).exists():
        for shard in read_index(part):
            moved = folder / shard.name
            if (
                not (part / shard.name).exists()
                and moved.is_file()
                and moved.stat().st_size == shard.num_bytes
            ):
                moved.unlink()
    shutil.rmtree(part, ignore_errors=True)


def _add_utterance(tar: tarfile.TarFile, key: str, stretch: Stretch) -> None:
    utterance = stretch.utterance
    suffix = utterance.audio_filepath.suffix.lower()
    if stretch.is_whole and suffix in AUDIO_MEMBERS:
        _add_member(tar, key + suffix, read_file(utterance.audio_filepath))
    else:
        _add_member(tar, f"{key}.flac", _as_flac(stretch))
    row = {
        "id": utterance.id,
        "duration": round(utterance.duration, 6),
        "text": utterance.text,
        "speaker": utterance.speaker,
    }
    content = {name: value for name, value in row.items() if value is not None}
    _add_member(tar, f"{key}.json", json.dumps(content, ensure_ascii=False).encode())


def _add_member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(content)
    tar.addfile(header, io.BytesIO(content))


def _as_flac(stretch: Stretch) -> bytes:
    utterance, rate = stretch.utterance, stretch.recording.sample_rate
    audio = read_audio(
        utterance.audio_filepath,
        sample_rate=rate,
        offset=utterance.offset,
        duration=utterance.duration,
    )
    buffer = io.BytesIO()
    soundfile.write(buffer, as_int16(audio.samples), rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def _count(row: Mapping[str, Any], key: str, where: str) -> int:
    value = row.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise DataError(f"{where}: {key} {value!r} is not a count")
    return value
