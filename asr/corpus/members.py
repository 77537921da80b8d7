"""Utterances out of tar files in WebDataset's layout, read as they arrive, member by member.

Nothing is unpacked to disk, nothing runs, and memory is bounded: a tar file may come from anyone.

Source:
    POSIX.1-2001 (ustar and pax headers); webdataset's naming, a name ends at its first dot.
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import soundfile

from asr.audio import Samples, containers, mp3, to_mono
from asr.audio import sound as sounds
from asr.corpus.addresses import open_shard
from asr.corpus.manifest import Utterance, parse_object, seconds_value, text_value
from asr.errors import AudioError, DataError

AUDIO_MEMBERS = frozenset((".wav", ".flac", ".ogg", ".opus", ".mp3"))
"""Suffixes of audio in a tar file: what libsndfile decodes from memory."""

_BLOCK = 512  # bytes of tar
_MAX_AUDIO = 2**30  # bytes of a member
_MAX_SAMPLES = 2**28  # of all channels: 1 GiB, or more than four hours at 16 kHz
_MAX_TEXT = 2**20
_MAX_PAX = 2**16
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
        AudioError: not audio that libsndfile reads, damaged, empty, or longer than an utterance is.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(audio)) as sound:
            rate = sounds.check_rate(Path(name), sound.samplerate)
            # libsndfile reads no further than its estimate of an MP3 file's length.
            is_mp3 = sound.format == "MP3"
            is_known = not is_mp3 or mp3.is_length(mp3.frames_in(audio), sound.frames)
            samples = _all_samples(sound, name) if is_known else _mp3_samples(audio, name)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"{name}: not audio that can be read: {error}") from error
    try:
        return to_mono(samples, rate, sample_rate), rate
    except AudioError as error:
        raise AudioError(f"{name}: {error}") from error


def _all_samples(sound: Any, name: str) -> Samples:
    """[sample, channel]; a few bytes of FLAC may be hours of silence, or promise years."""
    most = _MAX_SAMPLES // sound.channels
    samples: Samples = sound.read(min(sound.frames, most + 1), dtype="float32", always_2d=True)
    if len(samples) > most:
        raise _too_long(name)
    return samples


def _mp3_samples(audio: bytes, name: str) -> Samples:
    blocks, most = [], _MAX_SAMPLES
    with containers.open_container(Path(name), audio) as container:
        for block in containers.container_blocks(container, Path(name)):
            blocks.append(block)
            most -= block.size
            if most < 0:
                raise _too_long(name)
    return np.concatenate(blocks)


def _too_long(name: str) -> AudioError:
    return AudioError(f"{name}: more than {_MAX_SAMPLES:,} samples, which is no utterance")


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
    audio = [name for name in members if Path(name).suffix.lower() in AUDIO_MEMBERS]
    name = next(iter(members))
    if len(audio) != 1:
        raise DataError(f"{location}: {name}: {len(audio)} audio files of this name, one expected")
    row: dict[str, Any] = {}
    for other, content in members.items():
        where = f"{location}: {other}"
        if other.endswith(".json"):
            row = parse_object(_text(content, where), where) | row
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
    if suffix not in AUDIO_MEMBERS and suffix not in (".json", ".txt"):
        raise DataError(f"{where}: only audio, .json and .txt are read")
    most = _MAX_AUDIO if suffix in AUDIO_MEMBERS else _MAX_TEXT
    if size > most:
        raise DataError(f"{where} has {size} bytes, more than {most}")


def _parse_header(header: bytes, location: str) -> tuple[str, int, bytes]:
    """Name, size and kind of a member."""
    if header.startswith(_COMPRESSED):
        raise DataError(f"{location}: compressed; only plain tar files are read")
    if len(header) < _BLOCK:
        raise DataError(f"{location}: ends early; it was not written to its end")
    sum_field = header[148:156].strip(b" \0")
    checksum = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if not sum_field or set(sum_field) - _OCTAL or int(sum_field, 8) != checksum:
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


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 (byte {error.start + 1})") from error


def _decimal(text: str, where: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise DataError(f"{where}: {text[:20]!r} is not a number")
    return int(text)
