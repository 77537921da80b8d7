"""What libsndfile does not read, by PyAV (FFmpeg): m4a, mp4, webm, mkv, some MP3 files; and pipes.

Whatever is wrong with a file becomes one line.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from asr.audio.sound import AudioInfo, Samples, SoundSource, audio_error, check_rate
from asr.files import open_regular

_MP3_JUNK = 0.02  # share of an MP3 file's packets that may be none, as tags between joined files
_SLACK = 0.5  # seconds; a container's duration counts encoder delay and padding

# Runs of frames that say nothing of their number: FFmpeg estimates it from a bit rate. Musepack
# says it, but FFmpeg counts in packets of up to 1.7 s and leaves out the last.
_WITHOUT_LENGTH = ("mp3", "aac", "ac3", "eac3", "amr", "mpc8")

# Demuxers that FFmpeg may use: none that follows links to other files or hosts (hls, concat, sdp).
_FORMATS = (
    "mov,matroska,webm,asf,avi,flv,aac,ac3,eac3,amr,mpegts,mpeg,mp3,ape,wv,tta,wav,ogg,"
    "flac,mpc,mpc8,tak,dsf,iff"
)


class Pipe(Protocol):
    """What can be read from."""

    def read(self, count: int, /) -> bytes:
        """As many bytes as there are, at most `count`; none at the end."""


@contextmanager
def open_container(path: Path, content: bytes | None = None) -> Iterator[Any]:
    """The file as PyAV opens it, with sound in it that can be decoded.

    Args:
        path: its name.
        content: what is in it, if that is in memory.

    Raises:
        AudioError: it is no such file, or PyAV is not there.
    """
    av = _pyav(path)
    # A file object, so that a name that looks like an URL or protocol is only a name.
    with open_regular(path) if content is None else io.BytesIO(content) as file:
        with _explained(path):
            options = {"format_whitelist": _FORMATS}
            container = av.open(file, metadata_errors="ignore", options=options)
        with container:
            if not container.streams.audio:
                raise audio_error(path, f"no sound in it, only {_kinds(container)}")
            if container.streams.audio[0].codec_context is None:
                raise audio_error(path, "sound of a kind that cannot be decoded")
            yield container


def container_rate(container: Any, path: Path) -> int:
    """Hz.

    Raises:
        AudioError: a file cannot have it.
    """
    return check_rate(path, int(container.streams.audio[0].rate or 0))


def container_seconds(container: Any) -> float | None:
    """How long it is, as its header tells."""
    if container.format.name in _WITHOUT_LENGTH:
        return None
    stream = container.streams.audio[0]
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if container.duration and len(container.streams) == 1:
        return float(container.duration / 1_000_000)  # FFmpeg's AV_TIME_BASE, microseconds
    return None


def container_blocks(
    container: Any, path: Path, start: int = 0, stop: int | None = None
) -> Iterator[Samples]:
    """Samples from `start` up to `stop`, or to the end: [sample, channel].

    Decoded from the beginning, as seeking is inexact in these containers.

    Raises:
        AudioError: damaged, truncated, or nothing at `start`.
    """
    rate = container.streams.audio[0].rate
    position = 0
    for block in _resampled(_decoded(container, path), container, path):
        yield block[max(0, start - position) : None if stop is None else max(0, stop - position)]
        position += len(block)
        if stop is not None and position >= stop:
            return
    seconds = position / rate
    expected = container_seconds(container)
    if expected is not None and seconds + _SLACK < expected:
        raise audio_error(path, f"truncated: {expected:.2f} s expected, {seconds:.2f} s there")
    if start >= position:
        raise audio_error(path, f"nothing at {start / rate:g} s, it ends at {seconds:g} s")


def inspect_container(path: Path) -> AudioInfo:
    """Length, rate, channels and format.

    Raises:
        AudioError: as `open_container`, or there are no samples.
    """
    with open_container(path) as container:
        rate = container_rate(container, path)
        stream = container.streams.audio[0]
        seconds = container_seconds(container)
        is_right = seconds is not None and _holds(path, seconds)
        if seconds is not None and is_right:
            count = round(seconds * rate)
        else:
            count = sum(len(block) for block in container_blocks(container, path))
        if not count:
            raise audio_error(path, "no samples")
        return AudioInfo(
            duration=count / rate,
            sample_rate=rate,
            num_channels=stream.channels,
            num_samples=count,
            format=f"{container.format.name.partition(',')[0]} {stream.codec_context.name}",
            header_duration=None if is_right else seconds,
        )


def _holds(path: Path, seconds: float) -> bool:
    """Whether the packets of a file are as long as its header says; nothing is decoded."""
    with open_container(path) as container, _explained(path):
        stream = container.streams.audio[0]
        samples = stream.codec_context.frame_size
        count = sum(1 for packet in container.demux(stream) if packet.size)
        return bool(samples) and abs(count * samples / stream.rate - seconds) <= _SLACK


@contextmanager
def open_piped_container(pipe: Pipe, path: Path, read_bytes: int) -> Iterator[SoundSource]:
    """Sound that arrives in a container which needs no seeking.

    Args:
        path: what errors call the pipe.
        read_bytes: taken from the pipe at a time, at most.

    Raises:
        AudioError: it is not sound, or PyAV is not there; from the blocks: damaged.
    """
    av = _pyav(path)
    with _explained(path):
        container = av.open(
            pipe,
            metadata_errors="ignore",
            buffer_size=read_bytes,
            # Not 5 MB and 5 s to find out what comes.
            options={
                "format_whitelist": _FORMATS,
                "probesize": str(read_bytes),
                "analyzeduration": "0",
            },
        )
    with container:
        streams = container.streams.audio
        if not streams or streams[0].codec_context is None:
            raise audio_error(path, "no sound in it that can be decoded")
        yield SoundSource(
            sample_rate=container_rate(container, path),
            num_channels=streams[0].channels,
            num_samples=None,
            blocks=_resampled(container.decode(streams[0]), container, path),
        )


def _pyav(path: Path) -> Any:
    """PyAV's module, which installations that only transcribe may be without."""
    try:
        import av
    except ImportError as error:
        raise audio_error(path, "its format, if it is audio, needs PyAV: pip install av") from error
    av.logging.set_level(None)
    return av


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn FFmpeg's errors into AudioError while the block runs."""
    av = _pyav(path)
    try:
        yield
    except (av.error.FFmpegError, OSError, ValueError, RuntimeError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise audio_error(path, f"not audio that can be read, or damaged ({cause})") from error


def _kinds(container: Any) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"


def _resampled(frames: Iterator[Any], container: Any, path: Path) -> Iterator[Samples]:
    """Decoded frames as blocks of float samples at the stream's rate."""
    rate = container.streams.audio[0].rate
    resampler = _pyav(path).AudioResampler(format="fltp", rate=rate)
    with _explained(path):
        for decoded in frames:
            for frame in resampler.resample(decoded):
                yield frame.to_ndarray().T.astype(np.float32)


def _decoded(container: Any, path: Path) -> Iterator[Any]:
    """Frames of sound; of an MP3 file without what stands between joined files, as FFmpeg does."""
    stream = container.streams.audio[0]
    if container.format.name != "mp3":
        yield from container.decode(stream)
        return
    num_junk = 0
    for number, packet in enumerate(container.demux(stream)):
        try:
            frames = packet.decode()
        except _pyav(path).error.InvalidDataError:
            num_junk += 1
            if num_junk > 2 + _MP3_JUNK * number:
                raise
            continue
        yield from frames
