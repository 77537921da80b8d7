"""What can be measured of a sound file without knowing what was said: one pass, bounded memory.

Dimension names: sample, channel, frame (of 20 ms), frequency (bins of the FFT).
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.audio import inspect_audio, open_sound
from asr.corpus.stored_features import read_features
from asr.errors import AudioError

VERSION = 1
"""Raised when measures change their meaning; what was stored under another one is not used."""
FLOOR_DB = -100
"""Levels below are called this; 16-bit samples cannot tell them from zero."""

_FRAME_SECONDS = 0.02
_SPEECH_RANGE_DB = 30  # below the loud frames; speech and its pauses differ by 20 to 60 dB
_ABOVE_NOISE_DB = 6
_ALWAYS_SPEECH_DB = 10  # below the loud frames, whatever the noise
_DIGITAL_SILENCE_DB = -90  # below the noise of any microphone at a usable level
_NUM_FFT = 1024
_RUN = 3  # equal samples at the extreme of the signal that make a flat top
_FULL_SCALE = 1 - 2**-15
_BAND = 0.06  # of the Nyquist frequency: width over which a spectrum is averaged
# Cuts of a codec are 48 dB deep and more in LibriSpeech's MP3 copies; where there is none, in 800
# utterances of four corpora, spectra fall by 21 dB at most over as narrow a band.
_MIN_CLIFF_DB = 28


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioMeasures:
    """What was measured of a stretch of audio."""

    seconds: float
    peak: float
    """Highest absolute sample, 1 is full scale; over all channels."""
    level: float
    """Of the speech: mean power of its frames, in dB of full scale."""
    loud: float
    """Level that 5 % of the frames exceed, in dB of full scale."""
    noise: float
    """Level that 90 % of the frames exceed, in dB of full scale."""
    offset: float
    """Mean of the samples, 1 is full scale."""
    flat_tops: int
    """Runs of three and more equal samples at the highest or lowest value of a channel."""
    clipped: float
    """Share of samples in them."""
    not_finite: int
    """Samples that are NaN or infinite."""
    leading: float
    """Seconds of digital silence at the start."""
    trailing: float
    """Seconds of digital silence at the end."""
    speech_seconds: float
    """Of the frames that are speech: within 30 dB of the loud ones, and above the noise."""
    bandwidth: float | None
    """Hz above which a cut has left nothing; None where the spectrum goes on or fades slowly."""
    correlation: float | None
    """Of the two channels least alike; None of a single channel."""
    channel_difference: float
    """Level between the loudest and the softest channel, in dB."""
    digest: str
    """Of the samples; equal for equal sound in any lossless container."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileMeasures:
    """What was measured of a file, and of the stretches of it that were asked for."""

    sample_rate: int
    num_channels: int
    format: str
    header_seconds: float
    """As the file says."""
    seconds: float
    """As decoded."""
    stretches: tuple[AudioMeasures, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureMeasures:
    """What was measured of stored features."""

    num_frames: int
    num_bins: int
    digest: str
    """Of the values."""


StretchBounds = tuple[float, float]
"""Offset and duration in seconds; a duration of 0 is to the end."""


def measure_file(path: Path, stretches: Sequence[StretchBounds]) -> FileMeasures:
    """Decode a file once and measure stretches of it.

    A stretch that begins after the end of the file has no samples, and a length of 0.

    Raises:
        AudioError: the file cannot be decoded to its end.
    """
    info = inspect_audio(path)
    with open_sound(path) as sound:
        rate = sound.sample_rate
        meters = [_Meter(rate, sound.num_channels) for _ in stretches]
        bounds = [
            (round(offset * rate), round((offset + duration) * rate) if duration else None)
            for offset, duration in stretches
        ]
        position = 0
        for block in sound.blocks:
            for meter, (start, stop) in zip(meters, bounds, strict=True):
                last = len(block) if stop is None else stop - position
                part = block[max(0, start - position) : max(0, last)]
                if len(part):
                    meter.add(part)
            position += len(block)
    if not position:
        raise AudioError(f"{path}: no samples")
    return FileMeasures(
        sample_rate=rate,
        num_channels=info.num_channels,
        format=info.format,
        header_seconds=info.duration if info.header_duration is None else info.header_duration,
        seconds=position / rate,
        stretches=tuple(meter.result() for meter in meters),
    )


def measure_features(path: Path) -> FeatureMeasures:
    """Read stored features, and count frames and bins.

    Raises:
        DataError: unreadable, truncated, empty, of another format, or holding NaN.
    """
    features = read_features(path)
    digest = hashlib.blake2b(np.ascontiguousarray(features).tobytes(), digest_size=16)
    return FeatureMeasures(
        num_frames=features.shape[0], num_bins=features.shape[1], digest=digest.hexdigest()
    )


class _Meter:
    """Sums over the blocks of a stretch."""

    def __init__(self, sample_rate: int, num_channels: int):
        self.sample_rate = sample_rate
        self.frame = max(1, round(_FRAME_SECONDS * sample_rate))
        self.num_samples = self.not_finite = 0
        self.sums = np.zeros(num_channels)
        self.products = np.zeros((num_channels, num_channels))
        self.tops = [_FlatTops() for _ in range(num_channels)]
        self.spectrum = np.zeros(_NUM_FFT // 2 + 1)
        self.levels = bytearray()  # dB below full scale of each frame
        self.digest = hashlib.blake2b(digest_size=16)
        self.rest = np.zeros(0, np.float32)

    def add(self, block: NDArray[np.float32]) -> None:
        """Samples that follow those before, [sample, channel]."""
        finite = np.isfinite(block)
        if not finite.all():
            self.not_finite += int(block.size - np.count_nonzero(finite))
            block = np.where(finite, block, np.float32(0))
        self.num_samples += len(block)
        wide = block.astype(np.float64)
        self.sums += wide.sum(axis=0)
        self.products += wide.T @ wide
        clipped = np.clip(block, -_FULL_SCALE, _FULL_SCALE)
        for channel, tops in enumerate(self.tops):
            tops.add(clipped[:, channel])
        # Rounded to 16 bits, so that the same sound in another container is the same.
        self.digest.update(np.rint(clipped * 32768).astype("<i2").tobytes())
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        mono = np.concatenate([self.rest, mono])
        whole = len(mono) // _NUM_FFT * _NUM_FFT
        # Frames and FFT windows are cut from a common run, whose end waits for the next block.
        whole = whole // self.frame * self.frame if whole >= self.frame else 0
        self._add_frames(mono[:whole])
        self.rest = mono[whole:]

    def _add_frames(self, mono: NDArray[np.float32]) -> None:
        if not len(mono):
            return
        frames = mono[: len(mono) // self.frame * self.frame].reshape(-1, self.frame)
        if len(frames):
            # Without the mean: a constant is no sound.
            power = frames.astype(np.float64).var(axis=1)
            decibels = 10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10)))
            self.levels += np.clip(np.rint(-decibels), 0, -FLOOR_DB).astype(np.uint8).tobytes()
        windows = mono[: len(mono) // _NUM_FFT * _NUM_FFT].reshape(-1, _NUM_FFT)
        if len(windows):
            tapered = (windows - windows.mean(axis=1, keepdims=True)) * np.hanning(_NUM_FFT)
            self.spectrum += (np.abs(np.fft.rfft(tapered)) ** 2).sum(axis=0)

    def result(self) -> AudioMeasures:
        """What was measured; to be called once."""
        if len(self.rest) < _NUM_FFT:
            self.rest = np.pad(self.rest, (0, _NUM_FFT - len(self.rest)))
        self._add_frames(self.rest)
        seconds = self.num_samples / self.sample_rate
        num_frames = math.ceil(self.num_samples / self.frame)
        levels = -np.frombuffer(self.levels, np.uint8).astype(np.float64)[: max(1, num_frames)]
        loud = float(np.percentile(levels, 95))
        noise = float(np.percentile(levels, 10))
        threshold = min(
            max(loud - _SPEECH_RANGE_DB, noise + _ABOVE_NOISE_DB), loud - _ALWAYS_SPEECH_DB
        )
        active = np.flatnonzero((levels > threshold) & (levels > FLOOR_DB))
        sounding = np.flatnonzero(levels > _DIGITAL_SILENCE_DB)
        first, last = (sounding[0], sounding[-1] + 1) if len(sounding) else (len(levels), 0)
        count = max(1, self.num_samples)
        means = self.sums / count
        covariance = self.products / count - np.outer(means, means)
        return AudioMeasures(
            seconds=seconds,
            peak=max(tops.peak for tops in self.tops),
            level=_mean_level(levels[active]),
            loud=loud,
            noise=noise,
            offset=float(means[np.argmax(np.abs(means))]),
            flat_tops=sum(tops.num_runs for tops in self.tops),
            clipped=sum(tops.num_samples for tops in self.tops) / (count * len(self.tops)),
            not_finite=self.not_finite,
            leading=min(seconds, float(first) * _FRAME_SECONDS),
            trailing=min(seconds, float(len(levels) - last) * _FRAME_SECONDS),
            speech_seconds=min(seconds, len(active) * _FRAME_SECONDS),
            bandwidth=_bandwidth(self.spectrum, self.sample_rate),
            correlation=_least_correlation(covariance),
            channel_difference=_level_difference(covariance),
            digest=self.digest.hexdigest(),
        )


class _FlatTops:
    """Runs of equal samples at the highest and at the lowest value of a channel."""

    def __init__(self) -> None:
        self._extremes = [-math.inf, -math.inf]  # the lowest one with its sign turned
        self._runs = [0, 0]
        self._samples = [0, 0]

    @property
    def peak(self) -> float:
        """Highest absolute value."""
        return max(0.0, *self._extremes)

    @property
    def num_runs(self) -> int:
        """How many runs there are; a signal of nothing but one value has none."""
        return 0 if self._is_constant else sum(self._runs)

    @property
    def num_samples(self) -> int:
        """How many samples the runs have."""
        return 0 if self._is_constant else sum(self._samples)

    @property
    def _is_constant(self) -> bool:
        return self._extremes[0] == -self._extremes[1]

    def add(self, samples: NDArray[np.float32]) -> None:
        for side, signed in enumerate((samples, -samples)):
            top = float(signed.max())
            if top > self._extremes[side]:
                self._extremes[side], self._runs[side], self._samples[side] = top, 0, 0
            if top == self._extremes[side]:
                lengths = _run_lengths(signed == top)
                flat = lengths[lengths >= _RUN]
                self._runs[side] += len(flat)
                self._samples[side] += int(flat.sum())


def _run_lengths(marks: NDArray[np.bool_]) -> NDArray[np.int64]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marks, [False]])))
    return edges[1::2] - edges[::2]


def _mean_level(levels: NDArray[np.float64]) -> float:
    if not len(levels):
        return float(FLOOR_DB)
    return float(10 * np.log10(np.mean(10 ** (levels / 10))))


def _bandwidth(spectrum: NDArray[np.float64], sample_rate: int) -> float | None:
    """Where the spectrum ends in a cliff, and stays down from there on."""
    if not spectrum.any():
        return None
    decibels = 10 * np.log10(np.maximum(spectrum, spectrum.max() * 1e-12))
    width = max(4, round(_BAND * len(decibels)))
    smooth = np.convolve(decibels, np.ones(5) / 5, mode="same")[2:-2]
    # Highest level from a place on, seen against the mean of the band before it.
    above = np.maximum.accumulate(smooth[::-1])[::-1]
    before = np.convolve(smooth, np.ones(width) / width, mode="valid")
    places = np.arange(len(before))
    ahead = np.minimum(places + width + width // 2, len(smooth) - 1)
    drops = before - above[ahead]
    drops[places + width + width // 2 >= len(smooth)] = 0
    best = int(np.argmax(drops))
    if drops[best] < _MIN_CLIFF_DB:
        return None
    return float((best + width + 2) * sample_rate / _NUM_FFT)


def _pairs(covariance: NDArray[np.float64]) -> Iterator[tuple[int, int]]:
    for first in range(len(covariance)):
        for second in range(first + 1, len(covariance)):
            yield first, second


def _least_correlation(covariance: NDArray[np.float64]) -> float | None:
    values = []
    for first, second in _pairs(covariance):
        scale = math.sqrt(max(0.0, covariance[first, first] * covariance[second, second]))
        values.append(float(covariance[first, second] / scale) if scale > 0 else 0.0)
    return min(values, default=None)


def _level_difference(covariance: NDArray[np.float64]) -> float:
    powers = np.maximum(np.diag(covariance), 10 ** (FLOOR_DB / 10))
    return float(10 * np.log10(powers.max() / powers.min()))
