"""Samples out of sound files of any rate, width and container, a block at a time.

libsndfile reads WAV, FLAC, MP3, Ogg, SPHERE, AIFF and more; PyAV (FFmpeg) reads what it does not:
m4a, mp4, webm, mkv, but also FLAC of 32 bits or Speex in Ogg. Whatever is wrong with a file becomes
one line. Never more than a block is held, whatever a header says.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import soundfile

from asr.audio import containers
from asr.audio.mp3 import count_frames, is_length
from asr.audio.sound import (
    ENCODINGS,
    AudioInfo,
    RawFormat,
    Samples,
    SoundSource,
    audio_error,
    check_rate,
)
from asr.errors import AudioError
from asr.files import check_regular, open_regular

_BLOCK = 65_536  # samples decoded at a time, of all channels together
_TAIL = 65_536  # bytes; more than the longest Ogg page (RFC 3533: 65,307)
_STREAMED = 0x7FFF_0000  # bytes; a size from here on says "unknown", written to a pipe
_UNKNOWN_LENGTH = 1 << 48  # samples; libsndfile's answer for a FLAC stream without a length
_MOST_PER_BYTE = 256  # samples; a header that promises more is not believed


@contextmanager
def open_sound(
    path: Path, *, offset: float = 0.0, duration: float | None = None, raw: RawFormat | None = None
) -> Iterator[SoundSource]:
    """A file or a stretch of it, to be read in blocks.

    Args:
        offset: seconds from the start of the file.
        duration: seconds, or as many as there are; none means up to the end.
        raw: what the samples are, if the file has no header.

    Raises:
        AudioError: missing, empty, not audio, truncated, damaged, a sample rate that cannot be, or
            nothing at `offset`; the last ones only when the blocks are read.
    """
    if not (0 <= offset < float("inf")) or (duration is not None and not duration > 0):
        raise audio_error(path, f"offset {offset:g} s and duration {duration} s name no stretch")
    _check_file(path)
    with _sound_file(path, raw) as sound:
        if sound is not None:
            rate = sound.samplerate
            start, stop = _stretch(rate, offset, duration)
            has_length = 0 < sound.frames < _UNKNOWN_LENGTH
            yield SoundSource(
                sample_rate=rate,
                num_channels=sound.channels,
                num_samples=_length(sound.frames, start, stop) if has_length else None,
                blocks=_sound_blocks(sound, path, start, stop),
            )
            return
    with containers.open_container(path) as container:
        rate = containers.container_rate(container, path)
        start, stop = _stretch(rate, offset, duration)
        seconds = containers.container_seconds(container)
        yield SoundSource(
            sample_rate=rate,
            num_channels=container.streams.audio[0].channels,
            num_samples=None if seconds is None else _length(round(seconds * rate), start, stop),
            blocks=containers.container_blocks(container, path, start, stop),
        )


def inspect_audio(path: Path) -> AudioInfo:
    """Length, rate, channels and format.

    The length is the header's where the file is as large as such a one is, and of FLAC where its
    last sample is there; else it is counted.

    Raises:
        AudioError: as `open_sound`, as far as the header shows it.
    """
    _check_file(path)
    with _sound_file(path) as sound:
        if sound is None:
            return containers.inspect_container(path)
        num_samples = sound.frames
        if not 0 < num_samples < min(_UNKNOWN_LENGTH, _MOST_PER_BYTE * path.stat().st_size):
            num_samples = sum(len(block) for block in _sound_blocks(sound, path, 0, None))
        elif sound.format == "FLAC":
            _check_last(sound, path)
        if not num_samples:
            raise audio_error(path, "no samples")
        return AudioInfo(
            duration=num_samples / sound.samplerate,
            sample_rate=sound.samplerate,
            num_channels=sound.channels,
            num_samples=num_samples,
            format=f"{sound.format} {sound.subtype}",
        )


def _check_last(sound: Any, path: Path) -> None:
    """Refuse a FLAC file that has not the last sample that its header promises: a quick seek."""
    try:
        sound.seek(sound.frames - 1)
        sound.read(1, dtype="float32")
    except soundfile.LibsndfileError:
        with open_sound(path) as source:  # which says how many there are
            for _ in source.blocks:
                pass


def count_channels(path: Path, raw: RawFormat | None = None) -> int:
    """How many channels a file has, by its header.

    Raises:
        AudioError: as `open_sound`.
    """
    with open_sound(path, raw=raw) as source:
        return source.num_channels


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            check_regular(path)
    except (OSError, ValueError) as error:
        raise audio_error(path, getattr(error, "strerror", None) or str(error)) from error
    if stat.S_ISDIR(status.st_mode):
        raise audio_error(path, "is a directory, not an audio file")
    if not stat.S_ISREG(status.st_mode):
        raise audio_error(path, "is not a regular file")
    if not status.st_size:
        raise audio_error(path, "is empty (0 bytes)")


def _stretch(rate: int, offset: float, duration: float | None) -> tuple[int, int | None]:
    """First sample, and the one after the last."""
    start = round(offset * rate)
    return start, None if duration is None else start + max(1, round(duration * rate))


def _length(num_samples: int, start: int, stop: int | None) -> int:
    return max(0, min(num_samples, stop or num_samples) - start)


class _ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """Read on without the seek that soundfile adds to each read: MP3 complains of it on stderr."""

    def seekable(self) -> bool:
        return False


@contextmanager
def _sound_file(path: Path, raw: RawFormat | None = None) -> Iterator[Any]:
    """The file opened by libsndfile, or none if libsndfile does not know its format."""
    layout: dict[str, Any] = {}
    if raw is not None:
        layout = {
            "format": "RAW",
            "subtype": ENCODINGS[raw.encoding],
            "endian": "LITTLE",
            "samplerate": raw.sample_rate,
            "channels": raw.num_channels,
        }
    try:
        # By descriptor: from a name, soundfile would take the suffix .raw for a format.
        with open_regular(path) as file:
            sound = _ForwardFile(os.dup(file.fileno()), closefd=True, **layout)
    except OSError as error:
        raise audio_error(path, error.strerror or str(error)) from error
    except soundfile.LibsndfileError as error:
        _check_refused(path, error)
        sound = None
    if sound is None:
        yield None
        return
    with sound:
        check_rate(path, sound.samplerate)
        _check_promise(path, sound)
        # libsndfile reads no further than its estimate of an MP3 file's length, and in WAV takes
        # what the header says for it, without the encoder's delay.
        is_mpeg = sound.subtype.startswith("MPEG_LAYER")
        yield None if is_mpeg and not is_length(count_frames(path), sound.frames) else sound


def _check_refused(path: Path, error: soundfile.LibsndfileError) -> None:
    """Say what is wrong with a file that libsndfile refuses although it knows its format.

    But for one that FFmpeg reads.
    """
    with open_regular(path) as file:
        head = file.read(28)
    if head[:4] == b"RIFF" and head[12:16] == b"fmt " and len(head) == 28:
        check_rate(path, int.from_bytes(head[24:28], "little"))
    if head[:4] == b"OggS":
        num_promised, num_held = _ogg_page(path)
        if num_held < num_promised:
            raise audio_error(path, f"truncated: {num_promised} bytes expected, {num_held} there")
    if head[:4] in (b"caff", b"FORM"):  # truncated, which FFmpeg does not notice
        raise _damaged(path, error) from error
    if head[:4] in (b"fLaC", b"OggS"):
        try:
            with containers.open_container(path):
                return
        except AudioError:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: soundfile.LibsndfileError) -> AudioError:
    cause = error.error_string.removeprefix("Error : ").rstrip(".")
    return audio_error(path, f"truncated or damaged ({cause})")


def _check_promise(path: Path, sound: Any) -> None:
    """Refuse a file whose header promises more than the file holds."""
    log = sound.extra_info
    num_promised = num_held = 0
    if sound.format == "NIST":
        with open_regular(path) as file:
            counts = re.search(rb"sample_count -i (\d+)", file.read(1024))
        num_promised, num_held = int(counts[1]) if counts else 0, sound.frames
    elif sound.format == "MP3":
        run = count_frames(path)
        if run is not None and run.promised_bytes:
            num_promised, num_held = run.promised_bytes, run.num_bytes
    elif sound.format == "OGG":
        num_promised, num_held = _ogg_page(path)
    else:
        sizes = re.search(
            r"(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", log
        )
        if sizes:
            num_promised, num_held = int(sizes[1]), int(sizes[2])
    if num_held + 1 < num_promised < _STREAMED:
        unit = "samples" if sound.format == "NIST" else "bytes"
        raise audio_error(path, f"truncated: {num_promised} {unit} expected, {num_held} there")


def _ogg_page(path: Path) -> tuple[int, int]:
    """Bytes that the last page of an Ogg file should have, and has; RFC 3533, section 6."""
    with open_regular(path) as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    num_segments = page[26] if len(page) > 26 else 255
    header = 27 + num_segments
    return header + sum(page[27:header]), len(page)


def _sound_blocks(sound: Any, path: Path, start: int, stop: int | None) -> Iterator[Samples]:
    has_length = 0 < sound.frames < _UNKNOWN_LENGTH
    if has_length and start >= sound.frames:
        end = sound.frames / sound.samplerate
        raise audio_error(path, f"nothing at {start / sound.samplerate:g} s, it ends at {end:g} s")
    block_size = max(1, _BLOCK // sound.channels)
    position = start
    last = min(sound.frames if has_length else _UNKNOWN_LENGTH, stop or _UNKNOWN_LENGTH)
    try:
        if sound.format == "MP3":
            # Its frames refer to bits of earlier ones, so that a seek gives other samples.
            for _ in range(0, start - block_size + 1, block_size):
                sound.read(block_size, dtype="float32")
            sound.read(start % block_size, dtype="float32")
        elif start:
            sound.seek(start)
        while position < last:
            count = min(block_size, last - position)
            block = sound.read(count, dtype="float32", always_2d=True)
            position += len(block)
            yield block
            if len(block) < count:
                break
    except soundfile.LibsndfileError as error:
        raise _damaged(path, error) from error
    if has_length and position < last:
        raise audio_error(path, f"truncated: {sound.frames} samples expected, {position} there")
