"""What training does to audio and features so that the network meets more than the corpus holds.

Everything works on a batch at once, on the batch's device, and takes its random numbers from a
generator, so that a step's augmentation is a function of its seed. Lengths are known on the host:
they are tensors in its memory, as is what changes them.

Dimension names: batch (utterances), sample (of audio), frame (of features), bin (of a frame).
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
import torchaudio
from jaxtyping import Float, Int, Shaped
from torch import Generator, Tensor

from asr import model
from asr.config import AugmentConfig, FeatureConfig
from asr.training.batch import send
from asr.training.draws import on_host
from asr.training.rooms import Rooms

_PERCENT = 100
_NUM_COSINES = 4
_NATS_PER_DB = math.log(10) / 10  # of energies


def augment_waveforms(
    waveforms: Float[Tensor, "batch sample"],
    num_samples: Int[Tensor, " batch"],
    config: AugmentConfig,
    sample_rate: int,
    generator: Generator,
    rooms: Rooms | None = None,
) -> tuple[Tensor, Tensor]:
    """Speed, silence, reverberation, noise and level, in this order, as the configuration says.

    Args:
        waveforms: in [-1, 1], with zeros after each utterance's own samples.
        rooms: recorded noise and rooms in place of artificial ones.

    Returns:
        Waveforms and their numbers of samples; after these there are zeros again.
    """
    speed = _choose(config.speeds, generator)
    if speed != 1:
        waveforms, num_samples = change_speed(waveforms, num_samples, speed)
    if config.silence_seconds:
        most = round(config.silence_seconds * sample_rate)
        waveforms, num_samples = add_silence(waveforms, num_samples, most, generator)
    if config.reverb_probability:
        chosen = _uniform(len(waveforms), 0.0, 1.0, generator) < config.reverb_probability
        if rooms is not None and rooms.responses is not None:
            wet = convolve(waveforms, rooms.draw_responses(len(waveforms), generator))
        else:
            rt60 = _uniform(len(waveforms), *config.reverb_rt60, on_host(generator, "decay"))
            wet = reverberate(waveforms, rt60, sample_rate, generator)
        waveforms = torch.where(chosen[:, None], wet, waveforms)
    if config.noise_probability:
        chosen = _uniform(len(waveforms), 0.0, 1.0, generator) < config.noise_probability
        snr_db = _uniform(len(waveforms), *config.noise_snr_db, generator)
        if rooms is not None and rooms.noise is not None:
            noise = rooms.draw_noise(len(waveforms), waveforms.shape[1], generator)
            noisy = mix_noise(waveforms, num_samples, noise, snr_db)
        else:
            noisy = add_noise(waveforms, num_samples, snr_db, generator)
        waveforms = torch.where(chosen[:, None], noisy, waveforms)
    if config.gain_db:
        gain_db = _uniform(len(waveforms), -config.gain_db, config.gain_db, generator)
        waveforms = (waveforms * (10 ** (gain_db / 20))[:, None]).clamp(-1, 1)
    return _zero_after(waveforms, num_samples), num_samples


def change_speed(
    waveforms: Float[Tensor, "batch sample"], num_samples: Int[Tensor, " batch"], speed: float
) -> tuple[Float[Tensor, "batch changed"], Int[Tensor, " batch"]]:
    """Played `speed` times as fast, the pitch rises with it (Ko et al. 2015); to one per cent."""
    factor = round(speed * _PERCENT)
    changed = _resampling(factor, waveforms.device)(waveforms)
    num_changed = (num_samples * _PERCENT + factor - 1) // factor
    return _zero_after(changed, num_changed), num_changed


def add_silence(
    waveforms: Float[Tensor, "batch sample"],
    num_samples: Int[Tensor, " batch"],
    longest: int,
    generator: Generator,
) -> tuple[Float[Tensor, "batch padded"], Int[Tensor, " batch"]]:
    """Zeros before and after each utterance, of up to `longest` samples each."""
    host, device = on_host(generator, "silence"), waveforms.device
    before, after = (_uniform(len(waveforms), 0.0, longest + 1.0, host).long() for _ in range(2))
    num_padded = before + num_samples + after
    room = torch.arange(int(num_padded.max()), device=device)
    source = room - send(before, device)[:, None]
    padded = waveforms.gather(1, source.clamp(0, waveforms.shape[1] - 1))
    inside = (source >= 0) & (source < send(num_samples, device)[:, None])
    return padded.masked_fill(~inside, 0.0), num_padded


def reverberate(
    waveforms: Float[Tensor, "batch sample"],
    rt60: Float[Tensor, " batch"],
    sample_rate: int,
    generator: Generator,
) -> Float[Tensor, "batch sample"]:
    """Speech in a room: the direct sound, then noise that falls by 60 dB in `rt60` seconds.

    The power of the tail is at most that of the direct sound, drawn for each utterance; it is cut
    off after the longest `rt60`.
    """
    num_taps = math.ceil(float(rt60.max()) * sample_rate)
    seconds = torch.arange(1, num_taps + 1, device=waveforms.device) / sample_rate
    decay = torch.exp(-math.log(1000) * seconds / send(rt60, waveforms.device)[:, None])
    tail = decay * _normal((len(waveforms), num_taps), generator)
    tail = tail / tail.square().sum(dim=1, keepdim=True).sqrt()
    tail = tail * _uniform(len(waveforms), 0.1, 1.0, generator)[:, None]
    response = torch.cat([torch.ones_like(tail[:, :1]), tail], dim=1)
    return convolve(waveforms, response)


def convolve(
    waveforms: Float[Tensor, "batch sample"], responses: Float[Tensor, "batch tap"]
) -> Float[Tensor, "batch sample"]:
    """What is heard of each utterance where an impulse is heard as its response; as long."""
    size = _fast_size(waveforms.shape[1] + responses.shape[1])
    spectrum = torch.fft.rfft(waveforms, size) * torch.fft.rfft(responses, size)
    wet: Tensor = torch.fft.irfft(spectrum, size)[:, : waveforms.shape[1]]
    return wet


def add_noise(
    waveforms: Float[Tensor, "batch sample"],
    num_samples: Int[Tensor, " batch"],
    snr_db: Float[Tensor, " batch"],
    generator: Generator,
) -> Float[Tensor, "batch sample"]:
    """Noise whose spectrum falls by 0 to 6 dB an octave, at a signal-to-noise ratio."""
    size = _fast_size(waveforms.shape[1])
    spectrum = torch.fft.rfft(_normal((len(waveforms), size), generator))
    bins = torch.arange(1, spectrum.shape[1] + 1, device=waveforms.device)
    slope = _uniform(len(waveforms), 0.0, 1.0, generator)[:, None]
    noise = torch.fft.irfft(spectrum * bins**-slope, size)[:, : waveforms.shape[1]]
    return mix_noise(waveforms, num_samples, noise, snr_db)


def mix_noise(
    waveforms: Float[Tensor, "batch sample"],
    num_samples: Int[Tensor, " batch"],
    noise: Float[Tensor, "batch sample"],
    snr_db: Float[Tensor, " batch"],
) -> Float[Tensor, "batch sample"]:
    """Each utterance with a noise at a signal-to-noise ratio, up to its last sample."""
    noise = _zero_after(noise, num_samples)
    speech_power = waveforms.square().sum(dim=1)
    noise_power = noise.square().sum(dim=1).clamp_min(1e-20)
    scale = (speech_power / noise_power / 10 ** (snr_db / 10)).sqrt()
    return waveforms + scale[:, None] * noise


def stretch_time(
    features: Float[Tensor, "batch frame bin"],
    num_frames: Int[Tensor, " batch"],
    speeds: Float[Tensor, " batch"],
) -> tuple[Float[Tensor, "batch stretched bin"], Int[Tensor, " batch"]]:
    """Frames read at another speed, by linear interpolation; for features without audio.

    Args:
        features: of any kind.
        num_frames: of each row.
        speeds: of each row.
    """
    num_stretched = (num_frames / speeds).round().long().clamp_min(1)
    room = torch.arange(int(num_stretched.max()), device=features.device)
    position = room * send(speeds, features.device)[:, None]
    last = send(num_frames - 1, features.device)[:, None]
    left = torch.minimum(position.long(), last)
    right = torch.minimum(left + 1, last)
    weight = (position - left).clamp(0, 1)[:, :, None]
    size = (-1, -1, features.shape[2])
    before = features.gather(1, left[:, :, None].expand(size))
    after = features.gather(1, right[:, :, None].expand(size))
    stretched = torch.lerp(before, after, weight)
    return _zero_after(stretched, num_stretched), num_stretched


def warp_frequencies(
    base: Float[Tensor, "batch frame bin"],
    factors: Float[Tensor, " batch"],
    config: FeatureConfig,
    dct: Float[Tensor, "filter cepstrum"],
    inverse: Float[Tensor, "cepstrum filter"],
) -> Float[Tensor, "batch frame bin"]:
    """Frequencies scaled as by another length of the vocal tract (Jaitly and Hinton 2013).

    Log-mel energies are interpolated along the mel axis. Cepstra are a linear map of such
    energies, so they are warped by one small matrix, through the energies that they stand for.

    Args:
        base: features before deltas and normalization.
        factors: 1.1 moves what is at 1100 Hz to 1000 Hz.
        dct: from log-mel energies to cepstra; for `mfcc`.
        inverse: of the DCT, as far as there is one; for `mfcc`.
    """
    bins = torch.arange(config.num_mel_bins, device=base.device)
    edges = np.array([config.low_freq, config.high_freq or config.sample_rate / 2])
    low, high = map(float, model.features.kaldi_mel(edges))
    width = (high - low) / (config.num_mel_bins + 1)
    # `kaldi_mel` and its inverse, on the batch's device.
    hertz = 700 * (torch.exp((low + (bins + 1) * width) / 1127) - 1)
    source = (1127 * torch.log1p(factors[:, None] * hertz / 700) - low) / width - 1
    source = source.clamp(0, config.num_mel_bins - 1)
    matrix = (1 - (bins[:, None] - source[:, None, :]).abs()).clamp_min(0)
    if config.kind == "mfcc":
        matrix = inverse @ matrix @ dct
    return base @ matrix


def change_channel(
    base: Float[Tensor, "batch frame bin"],
    channel_db: float,
    config: FeatureConfig,
    dct: Float[Tensor, "filter cepstrum"],
    generator: Generator,
) -> Float[Tensor, "batch frame bin"]:
    """Frequencies weighted by a smooth curve, as by another microphone, room or line.

    The curve is a sum of the four slowest cosines over the mel axis, with a largest gain that is
    drawn from 0 to `channel_db` decibels.

    Args:
        base: features before deltas and normalization.
        dct: from log-mel energies to cepstra; for `mfcc`.
    """
    bins = torch.arange(config.num_mel_bins, device=base.device) + 0.5
    orders = torch.arange(1, _NUM_COSINES + 1, device=base.device)
    cosines = torch.cos(math.pi * orders[:, None] * bins / config.num_mel_bins)
    curve = _normal((len(base), _NUM_COSINES), generator) @ cosines
    curve = curve / curve.abs().amax(dim=1, keepdim=True)
    largest = _uniform(len(base), 0.0, channel_db, generator) * _NATS_PER_DB
    curve = curve * largest[:, None]
    if config.kind == "mfcc":
        curve = curve @ dct
    return base + curve[:, None, :]


def join_pairs(
    values: Shaped[Tensor, "batch place ..."], lengths: Int[Tensor, " batch"]
) -> tuple[Shaped[Tensor, "pair both ..."], Int[Tensor, " pair"]]:
    """Rows 0 and 1 as one row, 2 and 3 as another, and so on; of an odd number the last is alone.

    Args:
        values: samples, frames or tokens of each row.
        lengths: of each row; what stands after them is dropped, 0 stands after those of a pair.
    """
    if len(values) % 2:
        values = torch.cat([values, values[-1:]])
        lengths = torch.cat([lengths, torch.zeros_like(lengths[-1:])])
    size = values.shape[1]
    both = torch.cat([values[::2], values[1::2]], dim=1)
    first, total = send(lengths[::2, None], values.device), lengths[::2] + lengths[1::2]
    place = torch.arange(2 * size, device=values.device).expand(len(both), -1)
    source = torch.where(place < first, place, (place - first + size).clamp_max(2 * size - 1))
    source = source.reshape(*source.shape, *[1] * (values.ndim - 2)).expand_as(both)
    return _zero_after(both.gather(1, source), total)[:, : int(total.max())], total


def choose_speeds(num_utterances: int, speeds: Sequence[float], generator: Generator) -> Tensor:
    """One of `speeds` for each utterance, [batch]."""
    host = on_host(generator, "speed")
    index = torch.randint(len(speeds), (num_utterances,), generator=host)
    return torch.tensor(speeds)[index]


def mask_features(
    features: Float[Tensor, "batch frame bin"],
    num_frames: Int[Tensor, " batch"],
    config: AugmentConfig,
    frames_per_second: float,
    generator: Generator,
    strength: float = 1.0,
) -> Float[Tensor, "batch frame bin"]:
    """SpecAugment without warping (Park et al. 2019): masked stretches become 0, the mean.

    Args:
        features: normalized, so that 0 is the mean.
        strength: share of the configured widths, 0 to 1.
    """
    batch, frames, bins = features.shape
    num_frames = send(num_frames, features.device)
    masked = torch.zeros(batch, frames, bins, dtype=torch.bool, device=features.device)
    if config.time_masks:
        per_utterance = config.time_masks * num_frames / (10 * frames_per_second)
        counts = per_utterance.ceil().clamp_min(1)
        longest = (config.time_mask_share * num_frames).clamp_max(config.time_mask_width) * strength
        most = math.ceil(config.time_masks * frames / (10 * frames_per_second))
        spans = _spans(max(1, most), frames, num_frames, longest, counts, generator)
        masked |= spans[:, :, None]
    if config.freq_masks:
        sizes = torch.full_like(num_frames, bins)
        widest = torch.full((batch,), config.freq_mask_width * strength, device=features.device)
        counts = torch.full_like(num_frames, config.freq_masks)
        masked |= _spans(config.freq_masks, bins, sizes, widest, counts, generator)[:, None, :]
    return features.masked_fill(masked, 0.0)


def _spans(
    num_spans: int,
    size: int,
    own_sizes: Tensor,
    longest: Tensor,
    counts: Tensor,
    generator: Generator,
) -> Tensor:
    """Union of random spans inside each row's own size, [batch, size] of booleans."""
    shape = (len(own_sizes), num_spans)
    random = torch.rand((2, *shape), generator=generator, device=generator.device)
    width = (random[0] * (longest[:, None] + 1)).long()
    start = (random[1] * (own_sizes[:, None] - width + 1).clamp_min(1)).long()
    used = torch.arange(num_spans, device=own_sizes.device) < counts[:, None]
    position = torch.arange(size, device=own_sizes.device)
    inside = (position >= start[:, :, None]) & (position < (start + width)[:, :, None])
    return (inside & used[:, :, None]).any(dim=1)


def draw_factors(num_utterances: int, share: float, generator: Generator) -> Tensor:
    """Factors from 1 / (1 + share) to 1 + share, [batch]."""
    return (1 + share) ** _uniform(num_utterances, -1.0, 1.0, generator)


def _choose(values: Sequence[float], generator: Generator) -> float:
    index = torch.randint(len(values), (), generator=on_host(generator, "speed"))
    return values[int(index)]


@functools.lru_cache
def _resampling(factor: int, device: torch.device) -> torchaudio.transforms.Resample:
    resampling = torchaudio.transforms.Resample(factor, _PERCENT, dtype=torch.float32)
    return resampling.to(device)


def _uniform(count: int, low: float, high: float, generator: Generator) -> Tensor:
    random = torch.rand(count, generator=generator, device=generator.device)
    return low + (high - low) * random


def _normal(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def _zero_after(values: Tensor, lengths: Tensor) -> Tensor:
    position = torch.arange(values.shape[1], device=values.device)
    beyond = position >= send(lengths, values.device)[:, None]
    return values.masked_fill(beyond.reshape(*beyond.shape, *[1] * (values.ndim - 2)), 0.0)


def _fast_size(size: int) -> int:
    """A size of at least `size` that the FFT is fast at: a power of two, or 1.5 times one."""
    power = 1 << (size - 1).bit_length()
    return power * 3 // 4 if power * 3 // 4 >= size else power
