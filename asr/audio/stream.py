"""From a sound file of any kind to mono samples at the model's rate, whole or as a stream."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.audio.files import open_sound
from asr.audio.sound import RawFormat, Samples, SoundSource, audio_error, check_rate
from asr.errors import printable

_SAMPLES = Path("samples")  # what errors call audio that is in memory
_BLOCK = 65_536  # samples
_FULL_SCALE = 0.999
_CLIPPED_SHARE = 0.01  # of the samples at full scale; loud speech has a few
_SILENCE = 1e-4  # peak, -80 dB
_CANCELLED = 1e-2  # energy of the mix against that of the channels; unrelated ones leave a half


@dataclass(frozen=True, kw_only=True, slots=True)
class Audio:
    """Mono audio."""

    samples: Samples
    """[sample], in [-1, 1]."""
    sample_rate: int
    """Hz, of `samples`."""
    source_rate: int
    """Hz, of the file."""


class Resampler:
    """Samples of one rate, block by block, at another; what overshoots full scale is clipped."""

    def __init__(self, source_rate: int, sample_rate: int):
        import soxr

        self._stream = None
        if source_rate != sample_rate:
            self._stream = soxr.ResampleStream(
                source_rate, sample_rate, 1, dtype="float32", quality="HQ"
            )

    def resample(self, samples: Samples) -> Samples:
        """The samples that become known with some more, [sample]."""
        if self._stream is not None:
            samples = self._stream.resample_chunk(samples)
        return np.clip(samples, -1, 1)

    def finish(self) -> Samples:
        """The samples that are left after the last ones."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        rest: Samples = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        return np.clip(rest, -1, 1)


class AudioStream:
    """Mono samples at one rate, block by block, and what was noticed on the way.

    The blocks together are bit for bit what one piece would give.
    """

    def __init__(
        self, source: SoundSource, path: Path, *, sample_rate: int, channel: int | None = None
    ):
        """Take over a source.

        Args:
            path: what errors and warnings name.
            channel: counted from 1; none is the mean of all.

        Raises:
            AudioError: there is no such channel.
        """
        if channel is not None and not 1 <= channel <= source.num_channels:
            raise audio_error(path, f"channel {channel}, but it has {source.num_channels}")
        self.name = printable(path)
        self.sample_rate = sample_rate
        self.source_rate = source.sample_rate
        self.duration = source.num_samples and source.num_samples / source.sample_rate
        """Seconds that are expected; none where the file does not tell."""
        self._source = source
        self._path = path
        self._channel = channel
        self._count = self._num_full = 0
        self._peak = self._mixed_energy = self._channel_energy = 0.0

    def __iter__(self) -> Iterator[Samples]:
        """Blocks [sample], in [-1, 1]; what overshoots full scale is clipped. Once only.

        Raises:
            AudioError: as `read_audio`.
        """
        resampler = Resampler(self.source_rate, self.sample_rate)
        num_given = 0
        for block in self._source.blocks:
            mono = resampler.resample(self._mono(block))
            num_given += len(mono)
            yield mono
        mono = resampler.finish() if self._count else np.zeros(0, np.float32)
        num_given += len(mono)
        yield mono
        if not self._count:
            raise audio_error(self._path, "no samples")
        if not num_given:
            raise audio_error(self._path, f"too short to be resampled to {self.sample_rate} Hz")

    def warnings(self) -> tuple[str, ...]:
        """What may cost accuracy, a line each; complete after the last block."""
        return tuple(f"{self.name}: {text}" for text in self._findings())

    def _findings(self) -> Iterator[str]:
        if self.source_rate < self.sample_rate:
            yield (
                f"its rate of {self.source_rate} Hz is below the model's {self.sample_rate} Hz; "
                "expect more errors"
            )
        if self._mixed_energy < _CANCELLED * self._channel_energy:
            yield "its channels cancel each other when mixed (antiphase); take one, --channel 1"
        elif self._count and self._peak < _SILENCE:
            yield "silent: no sample is above -80 dB"
        share = self._num_full / max(1, self._count)
        if share > _CLIPPED_SHARE:
            yield f"clipped: {share:.0%} of the samples are at full scale; expect more errors"

    def _mono(self, block: Samples) -> Samples:
        """[sample] of [sample, channel]."""
        if not np.isfinite(block).all():
            raise audio_error(self._path, "holds samples that are NaN or infinite")
        if self._channel is not None:
            mono = np.ascontiguousarray(block[:, self._channel - 1])
        elif block.shape[1] == 1:
            mono = block[:, 0]
        else:
            mono = block.mean(axis=1, dtype=np.float32)
            self._mixed_energy += float(np.square(mono, dtype=np.float64).sum())
            self._channel_energy += float(np.square(block, dtype=np.float64).mean(axis=1).sum())
        size = np.abs(mono)
        self._count += len(mono)
        self._peak = max(self._peak, float(size.max(initial=0.0)))
        self._num_full += int((size > _FULL_SCALE).sum())
        return mono


@contextmanager
def open_audio(
    path: Path,
    *,
    sample_rate: int,
    offset: float = 0.0,
    duration: float | None = None,
    channel: int | None = None,
    raw: RawFormat | None = None,
) -> Iterator[AudioStream]:
    """`read_audio` as a stream, of which a block is held at a time."""
    with open_sound(path, offset=offset, duration=duration, raw=raw) as source:
        yield AudioStream(source, path, sample_rate=sample_rate, channel=channel)


def read_audio(
    path: Path,
    *,
    sample_rate: int,
    offset: float = 0.0,
    duration: float | None = None,
    channel: int | None = None,
) -> Audio:
    """Decode a file or a stretch of it, average its channels or take one, and resample it.

    Args:
        offset: seconds from the start of the file.
        duration: seconds, or as many as there are; none means up to the end.
        channel: counted from 1; none is the mean of all.

    Raises:
        AudioError: missing, empty, not audio, truncated, damaged, NaN or infinite samples, a
            sample rate that cannot be, no such channel, or nothing at `offset`.
    """
    with open_audio(
        path, sample_rate=sample_rate, offset=offset, duration=duration, channel=channel
    ) as stream:
        samples = np.concatenate(list(stream))
    return Audio(samples=samples, sample_rate=sample_rate, source_rate=stream.source_rate)


def stream_samples(samples: Samples, source_rate: int, sample_rate: int) -> AudioStream:
    """Samples that are in memory, as `open_audio` gives those of a file.

    Args:
        samples: in [-1, 1], [sample] or [sample, channel].

    Raises:
        AudioError: another shape, no samples, a rate that cannot be.
    """
    check_rate(_SAMPLES, source_rate)
    if samples.ndim not in (1, 2):
        raise audio_error(
            _SAMPLES, f"[sample] or [sample, channel] is expected, found {samples.shape}"
        )
    if not samples.size:
        raise audio_error(_SAMPLES, "no samples")
    rows = samples.reshape(len(samples), -1)
    source = SoundSource(
        sample_rate=source_rate,
        num_channels=rows.shape[1],
        num_samples=len(rows),
        blocks=(rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)),
    )
    return AudioStream(source, _SAMPLES, sample_rate=sample_rate)


def to_mono(samples: Samples, source_rate: int, sample_rate: int) -> Samples:
    """Samples that are in memory, as `read_audio` gives those of a file.

    Raises:
        AudioError: as `stream_samples`; NaN or infinite samples.
    """
    return np.concatenate(list(stream_samples(samples, source_rate, sample_rate)))


def as_int16(samples: Samples) -> NDArray[np.int16]:
    """Samples in [-1, 1] rounded to 16 bits; what lies beyond is clipped."""
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
