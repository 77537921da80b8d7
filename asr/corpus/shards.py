"""Corpora in tar files, in WebDataset's layout: written once, read from front to back.

An utterance is two or three members of one name: the audio, and `.json` (or `.txt`) with what was
said. Shards are local files, or addresses (`s3://`, `gs://`, `https://`). They are read as they
arrive, member by member: nothing is unpacked to disk, nothing runs, and memory is bounded.

Source:
    POSIX.1-2001 (ustar and pax headers); webdataset's naming, a name ends at its first dot.
"""

import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import soundfile

from asr.audio import Samples, as_int16, read_audio, to_mono
from asr.corpus.addresses import is_address, open_shard
from asr.corpus.manifest import Utterance, read_rows, seconds_value, text_value, write_row
from asr.corpus.recordings import Stretch, measure
from asr.errors import AudioError, DataError
from asr.files import LIST, open_atomic, replace_folder
from asr.text import UniqueIds, read_lines

INDEX = "shards.jsonl"
_PART = ".asr-shards"  # the folder in which shards are until all are written

_BLOCK = 512  # bytes of tar
_MAX_AUDIO = 2**30  # bytes of a member
_MAX_TEXT = 2**20
_MAX_PAX = 2**16
_SUFFIXES = frozenset((".wav", ".flac", ".ogg", ".opus", ".mp3"))
_PICKLES = frozenset((".pickle", ".pkl", ".pyd", ".pt", ".pth", ".joblib", ".npy", ".npz"))
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gz, bz2, xz, zst
_OCTAL = frozenset(b"01234567")
_REGULAR, _FOLDER, _PAX, _GLOBAL_PAX = (b"0", b"\0"), b"5", b"x", b"g"


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardedUtterance:
    """An utterance, and its audio file as bytes."""

    utterance: Utterance
    """With a path that is the shard's and the member's, in which there is no file."""
    audio: bytes


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

    Raises:
        DataError: audio that cannot be read, or a folder with shards in it.
    """
    _clear_leftovers(folder)
    if (folder / INDEX).exists() or any(folder.glob("*.tar")):
        raise DataError(f"{folder}: there are shards in it; name another folder")
    ids = UniqueIds(folder / INDEX)
    with replace_folder(folder / _PART) as part:
        shards = _write_tars(utterances, part, ids, seconds=seconds, num_bytes=num_bytes)
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


def read_shards(locations: Iterable[str]) -> Iterator[ShardedUtterance]:
    """The utterances of tar files, one after another.

    Args:
        locations: paths or addresses, as `open_shard` takes them.

    Raises:
        DataError: a shard that is missing, damaged or ends early, a member that is a link, a
            device, a pickle, too large or outside of its folder, an utterance without audio or
            with malformed text; with shard and member.
    """
    for location in locations:
        with open_shard(location) as stream:
            yield from _utterances(stream, location)


def decode(audio: bytes, name: str, sample_rate: int) -> tuple[Samples, int]:
    """Mono samples at a rate, and the rate that they had.

    Raises:
        AudioError: not audio that libsndfile reads, damaged or empty.
    """
    try:
        samples, rate = soundfile.read(io.BytesIO(audio), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"{name}: not audio that can be read: {error}") from error
    try:
        return to_mono(samples, rate, sample_rate), rate
    except AudioError as error:
        raise AudioError(f"{name}: {error}") from error


def _write_tars(
    utterances: Iterable[Utterance],
    folder: Path,
    ids: UniqueIds,
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
                    ids.add(pending.utterance.id, count)
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
    if stretch.is_whole and suffix in _SUFFIXES:
        _add_member(tar, key + suffix, utterance.audio_filepath.read_bytes())
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


def _utterances(stream: IO[bytes], location: str) -> Iterator[ShardedUtterance]:
    key = ""
    members: dict[str, bytes] = {}
    for name, content in _members(stream, location):
        folder, slash, file_name = name.rpartition("/")
        own_key = folder + slash + file_name.partition(".")[0]
        if members and own_key != key:
            yield _utterance(members, location)
            members = {}
        key = own_key
        if name in members:
            raise DataError(f"{location}: member {name!r} comes twice")
        members[name] = content
    if members:
        yield _utterance(members, location)


def _utterance(members: Mapping[str, bytes], location: str) -> ShardedUtterance:
    audio = [name for name in members if Path(name).suffix.lower() in _SUFFIXES]
    name = next(iter(members))
    if len(audio) != 1:
        raise DataError(f"{location}: {name}: {len(audio)} audio files of this name, one expected")
    row: dict[str, Any] = {}
    for other, content in members.items():
        where = f"{location}: {other}"
        if other.endswith(".json"):
            row = _json(content, where) | row
        elif other.endswith(".txt"):
            row["text"] = " ".join(_text(content, where).split())
    where = f"{location}: {name}"
    utterance = Utterance(
        id=text_value(row, "id", where) or audio[0].rpartition(".")[0],
        audio_filepath=Path(location) / audio[0],
        duration=seconds_value(row, "duration", where, default=0.0),
        text=text_value(row, "text", where),
        speaker=text_value(row, "speaker", where),
    )
    return ShardedUtterance(utterance=utterance, audio=members[audio[0]])


def _members(stream: IO[bytes], location: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of each regular file of a tar stream that is not compressed.

    Not by `tarfile`, which reads a header's extensions whatever their size, and is slow.
    """
    renamed: dict[str, str] = {}
    while True:
        header = stream.read(_BLOCK)
        if header == bytes(_BLOCK):
            return
        name, size, kind = _parse_header(header, location)
        if kind in (_PAX, _GLOBAL_PAX):
            if size > _MAX_PAX:
                raise DataError(f"{location}: a header of {size} bytes")
            extension = _pax(_read(stream, size, location), location)
            renamed = extension if kind == _PAX else renamed
            continue
        name = renamed.get("path", name)
        if "size" in renamed:
            size = _decimal(renamed["size"], f"{location}: {name}: size")
        renamed = {}
        _check_member(name, size, kind, location)
        if kind == _FOLDER:
            continue
        yield name, _read(stream, size, location)


def _check_member(name: str, size: int, kind: bytes, location: str) -> None:
    where = f"{location}: member {name!r}"
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise DataError(f"{where} would be outside of its folder")
    if kind not in _REGULAR and kind != _FOLDER:
        raise DataError(f"{where} is a link, a device or the like")
    if kind == _FOLDER:
        return
    suffix = path.suffix.lower()
    if suffix in _PICKLES:
        raise DataError(f"{where} may hold a pickle, which can run code: not read")
    if suffix not in _SUFFIXES and suffix not in (".json", ".txt"):
        raise DataError(f"{where}: only audio, .json and .txt are read")
    most = _MAX_AUDIO if suffix in _SUFFIXES else _MAX_TEXT
    if size > most:
        raise DataError(f"{where} has {size} bytes, more than {most}")


def _parse_header(header: bytes, location: str) -> tuple[str, int, bytes]:
    """Name, size and kind of a member."""
    if header.startswith(_COMPRESSED):
        raise DataError(f"{location}: compressed; only plain tar files are read")
    if len(header) < _BLOCK:
        raise DataError(f"{location}: ends early; it was not written to its end")
    stated = header[148:156].strip(b" \0")
    checksum = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if not stated or set(stated) - _OCTAL or int(stated, 8) != checksum:
        raise DataError(f"{location}: not a tar file, or damaged")
    name = header[:100].rstrip(b"\0")
    prefix = header[345:500].rstrip(b"\0") if header[257:262] == b"ustar" else b""
    size_field = header[124:136].strip(b" \0")
    if not size_field or set(size_field) - _OCTAL:
        raise DataError(f"{location}: a member's size is not a number")
    full = prefix + b"/" + name if prefix and header[257:265] == b"ustar\x0000" else name
    try:
        return full.decode(), int(size_field, 8), header[156:157]
    except UnicodeDecodeError as error:
        raise DataError(f"{location}: a member's name is not UTF-8") from error


def _pax(content: bytes, location: str) -> dict[str, str]:
    """The `key=value` records of an extended header."""
    values = {}
    while content:
        length_text, _, rest = content.partition(b" ")
        length = _decimal(length_text.decode("ascii", "replace"), f"{location}: an extended header")
        record, content = rest[: length - len(length_text) - 2], content[length:]
        key, equals, value = record.partition(b"=")
        if not equals or length <= len(length_text) + 2:
            raise DataError(f"{location}: a damaged extended header")
        values[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    return values


def _read(stream: IO[bytes], size: int, location: str) -> bytes:
    """A member's content; the stream moves on to the next header."""
    content = stream.read(size + -size % _BLOCK)
    if len(content) < size + -size % _BLOCK:
        raise DataError(f"{location}: ends early; it was not written to its end")
    return content[:size]


def _json(content: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(_text(content, where))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: a JSON object is expected")
    return row


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 (byte {error.start + 1})") from error


def _count(row: Mapping[str, Any], key: str, where: str) -> int:
    value = row.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise DataError(f"{where}: {key} {value!r} is not a count")
    return value


def _decimal(text: str, where: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise DataError(f"{where}: {text[:20]!r} is not a number")
    return int(text)
