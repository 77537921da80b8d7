"""Audio that arrives through a pipe, block by block as it comes."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from asr.audio.files import (
    AV_FORMATS,
    RawFormat,
    Samples,
    SoundSource,
    audio_error,
    check_rate,
    explained,
)
from asr.audio.stream import AudioStream

_NAME = Path("stdin")  # what errors call it
_BYTES = 4096  # read at a time, at most
_RAW_TYPES = {"s16": "<i2", "s32": "<i4", "f32": "<f4", "u8": "u1"}


@contextmanager
def open_pipe(
    descriptor: int, *, sample_rate: int, channel: int | None = None, raw: RawFormat | None = None
) -> Iterator[AudioStream]:
    """Sound from an open file descriptor, in a container that needs no seeking, as WAV, or raw.

    Raises:
        AudioError: it is not sound, or damaged.
    """
    with ExitStack() as stack:
        if raw is None:
            source = stack.enter_context(_container(descriptor))
        elif raw.encoding not in _RAW_TYPES:
            raise audio_error(_NAME, f"--live with --raw takes {', '.join(_RAW_TYPES)}")
        else:
            source = SoundSource(
                sample_rate=raw.sample_rate,
                num_channels=raw.num_channels,
                num_samples=None,
                blocks=_raw_blocks(descriptor, raw),
            )
        yield AudioStream(source, _NAME, sample_rate=sample_rate, channel=channel)


@contextmanager
def _container(descriptor: int) -> Iterator[SoundSource]:
    import av

    av.logging.set_level(None)
    with explained(_NAME):
        container = av.open(
            _Pipe(descriptor),
            metadata_errors="ignore",
            buffer_size=_BYTES,
            # Not 5 MB and 5 s to find out what comes.
            options={
                "format_whitelist": AV_FORMATS,
                "probesize": str(_BYTES),
                "analyzeduration": "0",
            },
        )
    with container:
        streams = container.streams.audio
        if not streams or streams[0].codec_context is None:
            raise audio_error(_NAME, "no sound in it that can be decoded")
        yield SoundSource(
            sample_rate=check_rate(_NAME, int(streams[0].rate or 0)),
            num_channels=streams[0].channels,
            num_samples=None,
            blocks=_container_blocks(container),
        )


class _Pipe:
    """What FFmpeg reads from: as many bytes as there are, without waiting for more."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def read(self, count: int) -> bytes:
        return os.read(self._descriptor, count)


def _raw_blocks(descriptor: int, raw: RawFormat) -> Iterator[Samples]:
    dtype = np.dtype(_RAW_TYPES[raw.encoding])
    width = dtype.itemsize * raw.num_channels
    held = b""
    while content := os.read(descriptor, _BYTES):
        held += content
        whole = len(held) // width * width
        values = np.frombuffer(held[:whole], dtype).reshape(-1, raw.num_channels)
        held = held[whole:]
        if dtype.kind == "f":
            yield values.astype(np.float32)
        else:
            full_scale = 1 << (8 * dtype.itemsize - 1)
            offset = full_scale if dtype.kind == "u" else 0
            yield ((values.astype(np.float64) - offset) / full_scale).astype(np.float32)


def _container_blocks(container: Any) -> Iterator[Samples]:
    import av

    stream = container.streams.audio[0]
    resampler = av.AudioResampler(format="fltp", rate=stream.rate)
    with explained(_NAME):
        for decoded in container.decode(stream):
            for frame in resampler.resample(decoded):
                yield frame.to_ndarray().T.astype(np.float32)
