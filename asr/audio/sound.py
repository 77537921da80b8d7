"""What sound is on its way out of a file or pipe: samples, their source, and its errors."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from asr.errors import AudioError, printable

Samples = npt.NDArray[np.float32]

_MIN_RATE, _MAX_RATE = 1000, 768_000  # Hz; what lies outside is a damaged header
ENCODINGS = {"s16": "PCM_16", "s24": "PCM_24", "s32": "PCM_32", "f32": "FLOAT", "u8": "PCM_U8"}
"""Of samples without a header, with libsndfile's names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RawFormat:
    """What samples without a header are, as `16000:s16:1`; little-endian."""

    sample_rate: int
    """Hz."""
    encoding: str = "s16"
    """`s16`, `s24`, `s32`, `f32` or `u8`."""
    num_channels: int = 1

    @classmethod
    def parse(cls, text: str) -> "RawFormat":
        """The format that `RATE[:ENCODING[:CHANNELS]]` names.

        Raises:
            ValueError: it is not that.
        """
        match = re.fullmatch(r"(\d{1,6})(?::(\w+))?(?::(\d{1,4}))?", text)
        rate, encoding, channels = match.groups() if match else ("0", None, None)
        raw = cls(
            sample_rate=int(rate), encoding=encoding or "s16", num_channels=int(channels or 1)
        )
        is_possible = raw.encoding in ENCODINGS and _MIN_RATE <= raw.sample_rate <= _MAX_RATE
        if not is_possible or not 1 <= raw.num_channels <= 1024:
            raise ValueError(
                f"{text}: RATE[:ENCODING[:CHANNELS]] is expected, as 16000:s16:1; encodings are "
                + ", ".join(ENCODINGS)
            )
        return raw


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundSource:
    """A stretch of sound while its file is open."""

    sample_rate: int
    """Hz."""
    num_channels: int
    num_samples: int | None
    """In one channel, as far as the header tells."""
    blocks: Iterator[Samples]
    """[sample, channel], in [-1, 1]; to be taken once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioInfo:
    """What a file says of itself."""

    duration: float
    """Seconds."""
    sample_rate: int
    """Hz."""
    num_channels: int
    num_samples: int
    """In one channel, at `sample_rate`."""
    format: str
    """Container and encoding, as `WAV PCM_16`."""
    header_duration: float | None = None
    """Seconds by a container's header, where the file does not bear them out."""


def audio_error(path: Path, cause: str) -> AudioError:
    """An error in one line, whatever the name of the file and the text of a library hold."""
    return AudioError(f"{printable(path)}: {' '.join(cause.split())}")


def check_rate(path: Path, rate: int) -> int:
    """The rate, if a file can have it.

    Raises:
        AudioError: it cannot.
    """
    if not _MIN_RATE <= rate <= _MAX_RATE:
        raise audio_error(
            path, f"a sample rate of {rate} Hz; {_MIN_RATE} to {_MAX_RATE} Hz can be read"
        )
    return rate
