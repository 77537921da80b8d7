"""A folder of sound files that are wrong in every way that has been thought of.

`python -m tests.bad_audio FOLDER` makes one to look at.
"""

import gzip
import io
import os
import socket
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import soundfile

RATE = 8000
NAME_BYTES = 255  # that a file's name may have


def speech(seconds: float = 1.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 440 * time) * (np.sin(2 * np.pi * 2 * time) > 0)
    return (tone + 0.003 * np.random.default_rng(0).standard_normal(len(time))).astype("f4")


def encoded(container: str = "WAV", samples: np.ndarray | None = None, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    container, _, subtype = container.partition(":")
    samples = speech() if samples is None else samples
    soundfile.write(file, samples, rate, format=container, subtype=subtype or None)
    return file.getvalue()


def muxed(container: str, codec: str, samples: np.ndarray | None) -> bytes:
    """What FFmpeg alone can read; without samples a picture without sound."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        if samples is None:
            video = output.add_stream(codec, rate=25)
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), "u1"), format="rgb24")
            output.mux(video.encode(picture))
            output.mux(video.encode(None))
        else:
            audio = output.add_stream(codec, rate=RATE, layout="mono")
            frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            frame.sample_rate = RATE
            output.mux(audio.encode(frame))
            output.mux(audio.encode(None))
    return file.getvalue()


def wav(**fields: int) -> bytes:
    """A 16-bit WAV file whose header says something else."""
    samples = (speech() * 32767).astype("<i2").tobytes()
    header = {
        "riff_size": 36 + len(samples),
        "format": 1,
        "channels": 1,
        "rate": RATE,
        "byte_rate": 2 * RATE,
        "block": 2,
        "bits": 16,
        "data_size": len(samples),
    }
    header |= fields
    values = [header[key] for key in ("format", "channels", "rate", "byte_rate", "block", "bits")]
    chunk = struct.pack("<HHIIHH", *values)
    return (
        b"RIFF"
        + struct.pack("<I", header["riff_size"])
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + chunk
        + b"data"
        + struct.pack("<I", header["data_size"])
        + samples
    )


def cut(content: bytes, share: float = 0.6) -> bytes:
    return content[: int(len(content) * share)]


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.wav", encoded())
    return file.getvalue()


def terabytes() -> bytes:
    """A Wave64 file whose data chunk has 2**62 bytes, it says."""
    content = encoded("W64:PCM_16")
    start = content.index(b"data") + 16
    return content[:start] + struct.pack("<Q", 1 << 62) + content[start + 8 :]


def with_nan(value: float) -> bytes:
    samples = speech()
    samples[4000] = value
    return encoded("WAV:FLOAT", samples)


FAILURES: dict[str, tuple[bytes, str]] = {
    "empty.wav": (b"", "is empty (0 bytes)"),
    "empty.mp3": (b"", "is empty (0 bytes)"),
    "without-samples.wav": (encoded(samples=np.zeros(0, "f4")), "no samples"),
    "without-samples.flac": (encoded("FLAC", np.zeros(0, "f4")), ""),
    "one-sample.wav": (encoded(samples=speech()[:1]), "1 samples at 8000 Hz"),
    "one-sample.flac": (encoded("FLAC", speech()[:1]), "1 samples at 8000 Hz"),
    "shorter-than-a-frame.wav": (encoded(samples=speech()[:150]), "150 samples at 8000 Hz"),
    "truncated.wav": (cut(encoded()), "truncated"),
    "truncated.flac": (cut(encoded("FLAC")), "truncated"),
    "truncated.ogg": (cut(encoded("OGG", speech(5))), "truncated"),
    "truncated.opus": (cut(encoded("OGG:OPUS", speech(5))), "truncated"),
    "truncated.mp3": (cut(encoded("MP3", speech(5))), "truncated"),
    "truncated.aiff": (cut(encoded("AIFF")), "truncated"),
    "truncated.caf": (cut(encoded("CAF")), "truncated"),
    "truncated.sph": (cut(encoded("NIST")), "truncated"),
    "truncated.w64": (cut(encoded("W64")), "truncated"),
    "truncated.mkv": (cut(muxed("matroska", "pcm_s16le", speech(3))), "truncated"),
    "without-index.m4a": (cut(muxed("ipod", "aac", speech(3))), "not audio"),
    "header-cut.wav": (encoded()[:30], ""),
    "four-bytes.wav": (b"RIFF", "not audio"),
    "text.wav": (b"this is no audio\n" * 100, "not audio"),
    "text.mp3": (b"this is no audio\n" * 100, "not audio"),
    "page.flac": (b"<!doctype html><title>404</title>", "not audio"),
    "noise.wav": (np.random.default_rng(0).bytes(5000), "not audio"),
    "zeros.wav": (bytes(5000), "not audio"),
    "zipped.wav": (zipped(), "not audio"),
    "gzipped.wav": (gzip.compress(encoded()), "not audio"),
    "tag-only.mp3": (b"ID3\x04\x00\x00\x00\x00\x0f\x76" + bytes(2038), ""),
    "playlist.m4a": (b"ffconcat version 1.0\nfile fine.wav\n", "not audio"),
    "picture.mkv": (muxed("matroska", "mpeg4", None), "no sound in it"),
    "nan.wav": (with_nan(np.nan), "NaN or infinite"),
    "infinite.wav": (with_nan(np.inf), "NaN or infinite"),
    "0-hz.wav": (wav(rate=0), "0 Hz"),
    "2-mhz.wav": (wav(rate=2_000_000), "2000000 Hz"),
    "no-channels.wav": (wav(channels=0), ""),
    "65535-channels.wav": (wav(channels=65535), ""),
    "no-bits.wav": (wav(bits=0), ""),
    "unknown-codec.wav": (wav(format=0xFFF0), ""),
    "says-too-much.wav": (wav(data_size=1_000_000, riff_size=1_000_036), "truncated"),
}
"""Files that cannot be transcribed, and what is said of them."""

WARNINGS: dict[str, tuple[bytes, str]] = {
    "silent.wav": (encoded(samples=np.zeros(8000, "f4")), "silent"),
    "clipped.wav": (encoded(samples=np.clip(20 * speech(), -1, 1)), "clipped"),
    "huge-values.wav": (encoded("WAV:FLOAT", 1e30 * speech()), "clipped"),
    "antiphase.wav": (encoded(samples=np.stack([speech(), -speech()], 1)), "antiphase"),
    "1000-hz.wav": (encoded(samples=speech(), rate=1000), "below the model's"),
}
"""Files that are transcribed with a warning."""

FINE: dict[str, bytes] = {
    "fine.wav": encoded(),
    "flac-named.wav": encoded("FLAC"),
    "wav-named.mp3": encoded(),
    "m4a-named.wav": muxed("ipod", "aac", speech()),
    "from-a-pipe.wav": wav(data_size=0xFFFFFFFF, riff_size=0xFFFFFFFF),
    "terabytes.w64": terabytes(),
    "says-too-little.wav": wav(data_size=8000),
    "768-khz.wav": encoded(samples=np.repeat(speech(), 96), rate=768_000),
    "100-channels.wav": encoded(samples=np.repeat(speech()[:, None], 100, axis=1)),
    "-dash.wav": encoded(),
    "two\nlines.wav": encoded(),
    "tab\t.wav": encoded(),
    "[a-z]*?.wav": encoded(),
    "%s {} $HOME `id`.wav": encoded(),
    " spaces .wav": encoded(),
    "dots...wav": encoded(),
    "é\u0301\u202e.wav": encoded(),
    os.fsdecode(b"latin-\xe9.wav"): encoded(),
    "long-" + "x" * (NAME_BYTES - 10) + ".wav": encoded(),
}
"""Files that look odd, and are not."""


def _directory(path: Path) -> None:
    path.mkdir()


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _socket(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(before)


def _unreadable(path: Path) -> None:
    path.write_bytes(encoded())
    path.chmod(0)


SPECIAL: dict[str, tuple[Callable[[Path], None], str]] = {
    "directory.wav": (_directory, "is a directory"),
    "dangling.wav": (_dangling, "No such file"),
    "loop.wav": (_loop, "symbolic links"),
    "pipe.wav": (os.mkfifo, "is not a regular file"),
    "socket.wav": (_socket, "is not a regular file"),
    "unreadable.wav": (_unreadable, "Permission denied"),
}
"""What is no file, or none that may be read."""


def write_bad_audio(folder: Path) -> None:
    for name, (content, _) in (FAILURES | WARNINGS).items():
        (folder / name).write_bytes(content)
    for name, content in FINE.items():
        (folder / name).write_bytes(content)
    for name, (make, _) in SPECIAL.items():
        make(folder / name)


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True)
    write_bad_audio(Path(sys.argv[1]))
