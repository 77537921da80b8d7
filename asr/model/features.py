"""From waveforms to what the encoder sees.

Dimension names: batch (utterances), sample (of a waveform), frame (of features), tap (samples
in a frame), bin (values of a frame), filter (mel filters), frequency (bins of the FFT).

Two conventions. "kaldi": whole frames only; each without its mean, Povey window; filters on
Kaldi's mel scale; energies floored at float32's epsilon. "sphinx": zeros complete the last frame;
Hamming window; filters with edges on FFT bins and unit area; energies floored at 1e-10.
"""

import math
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from asr.config import FeatureConfig
from asr.errors import ConfigError

FULL_SCALE = 32768  # both conventions compute on int16 values
PREEMPHASIS = 0.97
_LIFTER = 22  # Kaldi's cepstral_lifter
FLOOR = {"kaldi": float(np.finfo(np.float32).eps), "sphinx": 1e-10}
_CHUNK = 1024  # frames at a time; 2 MB for each step of the arithmetic, which a cache holds
MIN_STD = 1e-3  # a bin that varies less is constant, up to rounding
DELTA_WINDOW = 2
BY_TRAINING_SET = ("global", "sliding", "running")
"""Normalizations that begin with the training set's mean and deviation."""
_WINDOW_SECONDS = 3.0
_PRIOR_SECONDS = 0.5

Array = npt.NDArray[Any]  # float64, before it becomes a buffer


class Frontend(nn.Module):
    """Features of a batch of waveforms, each row as if it were alone."""

    window: Tensor
    filters: Tensor
    dct: Tensor
    inverse_dct: Tensor
    noise: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, config: FeatureConfig):
        super().__init__()
        self.config = config
        self.num_fft = 1 << max(1, (config.frame_length - 1).bit_length())
        arrays = {
            "kaldi": (_povey_window, _kaldi_filters, _kaldi_dct),
            "sphinx": (_hamming_window, _sphinx_filters, _sphinx_dct),
        }
        window, filters, dct = arrays[config.convention]
        self._constant("window", window(config.frame_length))
        self._constant("filters", filters(config, self.num_fft))
        self._constant("dct", dct(config.num_mel_bins, config.num_ceps))
        self.register_buffer("inverse_dct", torch.linalg.pinv(self.dct), persistent=False)
        self._constant("noise", self._noise_energies())
        self.register_buffer("mean", torch.zeros(config.num_bins))
        self.register_buffer("std", torch.ones(config.num_bins))

    def set_statistics(self, mean: Float[Tensor, " bin"], std: Float[Tensor, " bin"]) -> None:
        """What `BY_TRAINING_SET` subtract and divide by."""
        self.mean.copy_(mean)
        self.std.copy_(std.clamp(min=MIN_STD))

    @overload
    def num_frames(self, num_samples: int) -> int: ...
    @overload
    def num_frames(self, num_samples: Tensor) -> Tensor: ...
    def num_frames(self, num_samples: int | Tensor) -> int | Tensor:
        """Frames of a waveform; 0 if it is shorter than a frame ("sphinx": if it is empty)."""
        length, shift = self.config.frame_length, self.config.frame_shift
        if self.config.convention == "kaldi":
            count = (num_samples - length) // shift + 1
            return count * (num_samples >= length)
        # -(-a // b) rounds up; a last frame is there as soon as it has a sample of its own.
        count = 1 - (length - num_samples) // shift
        if isinstance(count, Tensor):
            return count.clamp(min=1) * (num_samples > 0)
        return max(1, count) * (num_samples > 0)

    def forward(
        self,
        waveforms: Float[Tensor, "batch sample"],
        num_samples: Int[Tensor, " batch"],
        statistics: Float[Tensor, "batch two bin"] | None = None,
    ) -> tuple[Float[Tensor, "batch frame bin"], Int[Tensor, " batch"]]:
        """Normalized features with their deltas, and the frames of each row.

        Args:
            waveforms: see `base`.
            num_samples: of each row.
            statistics: see `finish`.
        """
        base, num_frames = self.base(waveforms, num_samples)
        return self.finish(base, num_frames, statistics), num_frames

    def base(
        self, waveforms: Float[Tensor, "batch sample"], num_samples: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch frame bin"], Int[Tensor, " batch"]]:
        """Log energies of mel filters (nats) or cepstra of them, without deltas.

        Args:
            waveforms: in [-1, 1], at `config.sample_rate`; what stands beyond `num_samples` is
                not looked at.

        Returns:
            As many frames as the waveforms' whole width gives, those beyond the row's own being
            0, and the frames of each row.

        Source:
            Kaldi, feat/feature-fbank.cc and feature-mfcc.cc, with snip_edges, without dither and
            energy; CMU Sphinx, sphinx_fe. Checked against torchaudio.compliance.kaldi and the
            .mfc files that are published with AN4.
        """
        config = self.config
        width = self.num_frames(waveforms.shape[1])
        features = waveforms.new_zeros(len(waveforms), width, config.num_base_bins)
        num_frames = self.num_frames(num_samples)
        if not features.numel():
            return features, num_frames
        missing = max(
            0, (width - 1) * config.frame_shift + config.frame_length - waveforms.shape[1]
        )
        is_sound = _within(num_samples, waveforms.shape[1])
        # One sample more in front of each frame, for the pre-emphasis of its first one.
        signal = pad(waveforms.masked_fill(~is_sound, 0.0), (1, missing))
        frames = signal.unfold(1, config.frame_length + 1, config.frame_shift)
        on_cpu = waveforms.device.type == "cpu"
        chunk = max(1, (_CHUNK if on_cpu else 64 * _CHUNK) // len(waveforms))
        with torch.autocast(waveforms.device.type, enabled=False):
            for start in range(0, width, chunk):
                part = slice(start, start + chunk)
                features[:, part] = self._frames(frames[:, part])
        inside = _within(num_frames, width)[..., None]
        return features.masked_fill_(~inside, 0.0), num_frames

    def with_noise(
        self, base: Float[Tensor, "batch frame base_bin"]
    ) -> Float[Tensor, "batch frame base_bin"]:
        """Stored log energies with the noise floor, which `base` adds by itself.

        Cepstra stay as they are: their energies cannot be had again.
        """
        if self.config.noise_floor_db is None or self.config.kind == "mfcc":
            return base
        return torch.logaddexp(base, self.noise.log())

    def finish(
        self,
        base: Float[Tensor, "batch frame base_bin"],
        num_frames: Int[Tensor, " batch"],
        statistics: Float[Tensor, "batch two bin"] | None = None,
    ) -> Float[Tensor, "batch frame bin"]:
        """Deltas, then normalization; frames beyond `num_frames` are 0.

        Beyond its ends an utterance goes on with its first and last frame. Normalized by
        "utterance", a bin that does not vary becomes 0.

        Args:
            base: features without deltas.
            num_frames: of each row.
            statistics: means and standard deviations of each row's speaker, for normalization by
                "speaker"; without them it is by "utterance".
        """
        features = self.with_deltas(base, num_frames)
        inside = _within(num_frames, base.shape[1])[..., None]
        kind = self.config.normalization
        if kind in BY_TRAINING_SET:
            features = (features - self.mean) / self.std
            if (around := Surroundings.of(self.config)) is not None:
                features = _standardized_by(features, num_frames, around)
        elif kind == "speaker" and statistics is not None:
            mean, std = statistics[:, :1], statistics[:, 1:]
            features = (features - mean) / std.clamp(min=MIN_STD)
        elif kind != "none":
            features = _standardized(features, num_frames, inside)
        return features.masked_fill(~inside, 0.0)

    def with_deltas(
        self, base: Float[Tensor, "batch frame base_bin"], num_frames: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch frame bin"]:
        """Features and their derivatives, not normalized; frames beyond `num_frames` are 0."""
        inside = _within(num_frames, base.shape[1])[..., None]
        orders = [base]
        for _ in range(self.config.deltas):
            orders.append(_deltas(orders[-1], num_frames, inside))
        return torch.cat(orders, dim=-1).masked_fill_(~inside, 0.0)

    def moments(
        self, base: Float[Tensor, "batch frame base_bin"], num_frames: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch three bin"]:
        """Count, sum and sum of squares of each row's features with deltas, in float64."""
        features = self.with_deltas(base, num_frames).double()
        total, squares = features.sum(dim=1), features.square().sum(dim=1)
        return torch.stack([num_frames[:, None].expand_as(total), total, squares], dim=1)

    def _frames(
        self, signal: Float[Tensor, "batch frame tap_and_one"]
    ) -> Float[Tensor, "batch frame bin"]:
        """Features of frames that are given with the sample before each."""
        taps = signal * FULL_SCALE
        if self.config.convention == "kaldi":
            # Kaldi's frame knows nothing of the sample before it; the window's first value is 0.
            taps -= taps[..., 1:].mean(dim=-1, keepdim=True)
        taps = torch.sub(taps[..., 1:], taps[..., :-1], alpha=PREEMPHASIS)
        spectrum = torch.fft.rfft(taps.mul_(self.window), n=self.num_fft)
        power = spectrum.real.square() + spectrum.imag.square()
        energies = torch.matmul(power, self.filters).add_(self.noise)
        energies.clamp_(min=FLOOR[self.config.convention])
        logs = energies.log_()
        if self.config.kind == "fbank":
            return logs
        # In float64: a product's last bits differ with its shape, and those of silence, where
        # cepstra are differences of equal energies, are all that normalization has there.
        return (logs.double() @ self.dct.double()).float()

    def _noise_energies(self) -> Array:
        """Mean energy in each filter of white noise at `noise_floor_db`, pre-emphasized."""
        if self.config.noise_floor_db is None:
            return np.zeros(self.config.num_mel_bins)
        window = self.window.double().numpy()
        bins = np.arange(self.filters.shape[0])
        square, lagged = np.sum(window**2), np.sum(window[1:] * window[:-1])
        cosines = np.cos(2 * np.pi * bins / self.num_fft)
        power = square * (1 + PREEMPHASIS**2) - 2 * PREEMPHASIS * lagged * cosines
        variance = FULL_SCALE**2 * 10 ** (self.config.noise_floor_db / 10)
        energies: Array = variance * power @ self.filters.double().numpy()
        return energies

    def _constant(self, name: str, values: Array) -> None:
        buffer = torch.from_numpy(values.astype(np.float32))
        self.register_buffer(name, buffer, persistent=False)


def _within(lengths: Int[Tensor, " batch"], width: int) -> Bool[Tensor, "batch width"]:
    """Which of `width` positions each row really has."""
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def _deltas(
    features: Float[Tensor, "batch frame bin"],
    num_frames: Int[Tensor, " batch"],
    inside: Bool[Tensor, "batch frame 1"],
) -> Float[Tensor, "batch frame bin"]:
    """Slope of the regression line over five frames, a frame; Kaldi's window of 2."""
    if not features.numel():
        return features
    last = (num_frames - 1).clamp(min=0)[:, None, None].expand(-1, 1, features.shape[-1])
    features = torch.where(inside, features, features.gather(1, last))
    n, width = DELTA_WINDOW, features.shape[1]
    first, final = features[:, :1], features[:, -1:]
    padded = torch.cat([first.expand(-1, n, -1), features, final.expand(-1, n, -1)], dim=1)
    total = torch.zeros_like(features)
    for step in range(1, n + 1):
        later, earlier = padded[:, n + step :][:, :width], padded[:, n - step :][:, :width]
        total += step * (later - earlier)
    return total / (2 * sum(step**2 for step in range(1, n + 1)))


def _standardized(
    features: Float[Tensor, "batch frame bin"],
    num_frames: Int[Tensor, " batch"],
    inside: Bool[Tensor, "batch frame 1"],
) -> Float[Tensor, "batch frame bin"]:
    """Zero mean and unit (population) variance over each row's own frames."""
    count = num_frames.clamp(min=1)[:, None, None]
    mean = features.masked_fill(~inside, 0.0).sum(dim=1, keepdim=True) / count
    centred = (features - mean).masked_fill(~inside, 0.0)
    std = (centred.square().sum(dim=1, keepdim=True) / count).sqrt()
    return centred / std.clamp(min=MIN_STD)


@dataclass(frozen=True, kw_only=True, slots=True)
class Surroundings:
    """The frames whose mean and variance a frame is normalized by."""

    before: int
    after: int
    prior: int
    """So many frames of the training set's mean and variance count too."""

    @classmethod
    def of(cls, config: FeatureConfig) -> "Surroundings | None":
        """Those of normalization "sliding" and "running"; others have none."""
        rate = config.sample_rate / config.frame_shift
        window, prior = round(_WINDOW_SECONDS * rate), round(_PRIOR_SECONDS * rate)
        if config.normalization == "sliding":
            return cls(before=window // 2, after=window // 2, prior=prior)
        if config.normalization == "running":
            return cls(before=window - 1, after=0, prior=prior)
        return None


def context(config: FeatureConfig) -> int:
    """Frames before its own that a frame's features look at."""
    around = Surroundings.of(config)
    return DELTA_WINDOW * config.deltas + (around.before if around is not None else 0)


def _standardized_by(
    features: Float[Tensor, "batch frame bin"],
    num_frames: Int[Tensor, " batch"],
    around: Surroundings,
) -> Float[Tensor, "batch frame bin"]:
    """Each frame by the mean and variance of those around it.

    Args:
        features: normalized by the training set; what is beyond `num_frames` is not looked at.

    Source:
        Kaldi, sliding-window and online cepstral mean and variance normalization
        (feat/feature-functions.cc, feat/online-feature.cc).
    """
    position = torch.arange(features.shape[1], device=features.device)
    end = torch.minimum(position + around.after + 1, num_frames[:, None])
    start = torch.minimum((position - around.before).clamp_min(0), end)
    count = (end - start + around.prior)[..., None]

    def sums(values: Tensor) -> Tensor:
        total = pad(values.cumsum(dim=1), (0, 0, 1, 0))
        size = (-1, -1, total.shape[2])
        ends, starts = end[..., None].expand(size), start[..., None].expand(size)
        return total.gather(1, ends) - total.gather(1, starts)

    exact = features.double()
    mean = sums(exact) / count
    variance = (sums(exact.square()) + around.prior) / count - mean.square()
    normal: Tensor = (exact - mean) / variance.clamp(min=MIN_STD**2).sqrt()
    return normal.to(features.dtype)


def _povey_window(length: int) -> Array:
    return (0.5 - 0.5 * _cosine_period(length)) ** 0.85


def _hamming_window(length: int) -> Array:
    return 0.54 - 0.46 * _cosine_period(length)


def _cosine_period(length: int) -> Array:
    period: Array = np.cos(2 * np.pi * np.arange(length) / max(1, length - 1))
    return period


def kaldi_mel(hertz: Array) -> Array:
    """Frequencies on the mel scale."""
    mel: Array = 1127 * np.log1p(hertz / 700)
    return mel


def _kaldi_filters(config: FeatureConfig, num_fft: int) -> Array:
    """Triangles on the mel scale, [frequency, filter]; the Nyquist bin belongs to none."""
    low, high = kaldi_mel(np.array([config.low_freq, config.high_freq or config.sample_rate / 2]))
    edges = np.linspace(low, high, config.num_mel_bins + 2)
    frequencies = kaldi_mel(np.arange(num_fft // 2) * config.sample_rate / num_fft)
    return np.pad(_triangles(frequencies, edges), ((0, 1), (0, 0)))


def _sphinx_filters(config: FeatureConfig, num_fft: int) -> Array:
    """Triangles of unit area in Hz, their edges on FFT bins, [frequency, filter]."""

    def mel(hertz: Array) -> Array:
        return 2595 * np.log10(1 + hertz / 700)

    width = config.sample_rate / num_fft
    low, high = mel(np.array([config.low_freq, config.high_freq or config.sample_rate / 2]))
    edges = 700 * (10 ** (np.linspace(low, high, config.num_mel_bins + 2) / 2595) - 1)
    edges = np.floor(edges / width + 0.5) * width
    if (np.diff(edges) <= 0).any():
        raise ConfigError(
            f"features: {config.num_mel_bins} filters from {config.low_freq:g} Hz are narrower "
            f"than the FFT's {width:g} Hz; lower num_mel_bins or raise low_freq"
        )
    frequencies = np.arange(num_fft // 2 + 1) * width
    return _triangles(frequencies, edges) * 2 / (edges[2:] - edges[:-2])


def _triangles(points: Array, edges: Array) -> Array:
    """Height at each point of the triangles of height 1 over each three neighbouring edges."""
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rise = (points[:, None] - left) / (centre - left)
    fall = (right - points[:, None]) / (right - centre)
    height: Array = np.maximum(0, np.minimum(rise, fall))
    return height


def _kaldi_dct(num_mel_bins: int, num_ceps: int) -> Array:
    """Orthonormal DCT-II, then the lifter; [filter, bin]."""
    matrix = math.sqrt(2 / num_mel_bins) * _cosines(num_mel_bins, num_ceps)
    matrix[:, 0] = math.sqrt(1 / num_mel_bins)
    return matrix * (1 + _LIFTER / 2 * np.sin(np.pi * np.arange(matrix.shape[1]) / _LIFTER))


def _sphinx_dct(num_mel_bins: int, num_ceps: int) -> Array:
    """Sphinx's "legacy" transform, which halves the first filter; [filter, bin]."""
    matrix = _cosines(num_mel_bins, num_ceps) / num_mel_bins
    matrix[0] /= 2
    return matrix


def _cosines(num_mel_bins: int, num_ceps: int) -> Array:
    centres = np.arange(num_mel_bins) + 0.5
    orders = np.arange(min(num_ceps, num_mel_bins))
    cosines: Array = np.cos(np.pi / num_mel_bins * centres[:, None] * orders)
    return cosines
