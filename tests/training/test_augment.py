import math

import pytest
import torch
from torch import Generator, Tensor

from asr.config import AugmentConfig, FeatureConfig
from asr.model.features import Frontend
from asr.training.augment import (
    add_noise,
    add_silence,
    augment_waveforms,
    change_channel,
    change_speed,
    choose_speeds,
    draw_factors,
    join_pairs,
    mask_features,
    reverberate,
    stretch_time,
    warp_frequencies,
)

RATE = 8000
LENGTHS = torch.tensor([8000, 5000, 100])


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def tones(frequency: float = 440.0) -> Tensor:
    wave = torch.sin(2 * math.pi * frequency * torch.arange(8000) / RATE) * 0.3
    return torch.stack([wave * (torch.arange(8000) < length) for length in LENGTHS])


def test_what_is_off_changes_nothing() -> None:
    waveforms, lengths = augment_waveforms(tones(), LENGTHS, AugmentConfig(), RATE, generator())
    assert torch.equal(waveforms, tones())
    assert torch.equal(lengths, LENGTHS)


def test_silence_comes_before_and_after_what_stays_as_it_was() -> None:
    waveforms = tones() + 0.1 * (torch.arange(8000) < LENGTHS[:, None])
    places = set()
    for seed in range(20):
        padded, lengths = add_silence(waveforms, LENGTHS, 400, generator(seed))
        for row, (length, own) in enumerate(zip(lengths.tolist(), LENGTHS.tolist(), strict=True)):
            before = int(padded[row].nonzero()[0])
            places.add(before)
            assert torch.equal(padded[row, before : before + own], waveforms[row, :own])
            assert not padded[row, :before].any()
            assert not padded[row, before + own :].any()
            assert own + before <= length <= own + before + 400
            assert before <= 400
        assert padded.shape[1] == lengths.max()
    assert len(places) > 30


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_pairs_are_joined_and_the_last_of_an_odd_number_stays_alone(count: int) -> None:
    lengths = torch.tensor([3, 1, 2, 4])[:count]
    values = torch.arange(1.0, 4 * 5 * 2 + 1).reshape(4, 5, 2)[:count]
    joined, sizes = join_pairs(values, lengths)
    rows = [value[:length] for value, length in zip(values, lengths.tolist(), strict=True)]
    expected = [torch.cat(rows[first : first + 2]) for first in range(0, count, 2)]
    assert sizes.tolist() == [len(row) for row in expected]
    assert joined.shape[1] == sizes.max()
    for row, wanted in zip(joined, expected, strict=True):
        assert torch.equal(row[: len(wanted)], wanted)
        assert not row[len(wanted) :].any()


ALL = AugmentConfig(
    speeds=(0.9, 1.1),
    gain_db=10,
    noise_probability=0.8,
    reverb_probability=0.8,
    silence_seconds=0.1,
)


def test_a_seed_decides_everything() -> None:
    first, _ = augment_waveforms(tones(), LENGTHS, ALL, RATE, generator(1))
    again, _ = augment_waveforms(tones(), LENGTHS, ALL, RATE, generator(1))
    other, _ = augment_waveforms(tones(), LENGTHS, ALL, RATE, generator(3))
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)


@pytest.mark.parametrize("seed", range(5))
def test_padding_stays_silent_and_levels_stay_legal(seed: int) -> None:
    waveforms, lengths = augment_waveforms(tones(), LENGTHS, ALL, RATE, generator(seed))
    assert waveforms.abs().max() <= 1
    for row, length in enumerate(lengths.tolist()):
        assert not waveforms[row, length:].any()
        assert waveforms[row, :length].any()


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_speed_changes_length_and_pitch(speed: float) -> None:
    changed, lengths = change_speed(tones(), LENGTHS, speed)
    assert lengths.tolist() == [math.ceil(n / speed) for n in LENGTHS.tolist()]
    spectrum = torch.fft.rfft(changed[0, : int(lengths[0])]).abs()
    peak = float(spectrum.argmax()) * RATE / int(lengths[0])
    assert peak == pytest.approx(440 * speed, abs=2)


def test_noise_has_the_ratio_asked_for() -> None:
    snr_db = torch.tensor([20.0, 5.0, 0.0])
    noisy = add_noise(tones(), LENGTHS, snr_db, generator())
    noise = noisy - tones()
    measured = 10 * torch.log10(tones().square().sum(1) / noise.square().sum(1))
    torch.testing.assert_close(measured, snr_db, atol=0.01, rtol=0)


def test_silence_stays_silent_under_noise() -> None:
    silence = torch.zeros(1, 100)
    assert not add_noise(silence, torch.tensor([100]), torch.tensor([10.0]), generator()).any()


def test_reverberation_decays_by_60_db_in_its_time() -> None:
    impulse = torch.zeros(200, 8000)
    impulse[:, 0] = 1
    wet = reverberate(impulse, torch.full((200,), 0.5), RATE, generator())
    torch.testing.assert_close(wet[:, 0], torch.ones(200), atol=1e-4, rtol=0)
    power = wet.square().mean(0)
    early, late = power[100:300].mean(), power[2100:2300].mean()
    assert 10 * math.log10(early / late) == pytest.approx(60 * 2000 / (0.5 * RATE), abs=1.5)
    tail = wet[:, 1:].square().sum(1)
    assert tail.max() <= 1.01


def test_stretching_at_speed_one_changes_nothing() -> None:
    frames = torch.randn(2, 7, 3, generator=generator())
    frames[1, 5:] = 0
    lengths = torch.tensor([7, 5])
    stretched, num_frames = stretch_time(frames, lengths, torch.ones(2))
    torch.testing.assert_close(stretched, frames)
    assert torch.equal(num_frames, lengths)


def test_stretching_reads_a_ramp_at_another_speed() -> None:
    ramp = torch.arange(20.0)[None, :, None]
    stretched, num_frames = stretch_time(ramp, torch.tensor([20]), torch.tensor([0.5]))
    assert num_frames.tolist() == [40]
    expected = (torch.arange(40) * 0.5).clamp(max=19)
    torch.testing.assert_close(stretched[0, :, 0], expected)


def test_stretching_never_reads_padding() -> None:
    frames = torch.full((1, 20, 1), 1e6)
    frames[0, :10] = 1
    stretched, num_frames = stretch_time(frames, torch.tensor([10]), torch.tensor([0.9]))
    assert num_frames.tolist() == [11]
    assert stretched[0, :11].max() == 1
    assert not stretched[0, 11:].any()


def test_a_speed_that_is_drawn_is_played() -> None:
    waveforms = 0.1 * torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    config = AugmentConfig(speeds=(2.0,))
    generator = torch.Generator().manual_seed(0)
    changed, lengths = augment_waveforms(
        waveforms, torch.tensor([8000, 4000]), config, 8000, generator
    )
    assert lengths.tolist() == [4000, 2000]
    assert changed[1, :2000].any()
    assert not changed[1, 2000:].any()


def test_speeds_are_those_given() -> None:
    speeds = choose_speeds(200, (0.9, 1.0, 1.1), generator())
    assert {round(s, 3) for s in speeds.tolist()} == {0.9, 1.0, 1.1}


MASKS = AugmentConfig(
    time_masks=2, time_mask_width=10, time_mask_share=0.2, freq_masks=2, freq_mask_width=4
)


def test_masks_are_rows_and_columns_of_zeros_within_their_widths() -> None:
    features = torch.ones(30, 400, 20)
    lengths = torch.full((30,), 400)
    masked = mask_features(features, lengths, MASKS, 100.0, generator()) == 0
    whole_frames = masked.all(dim=2)
    whole_bins = masked.all(dim=1)
    assert torch.equal(masked, whole_frames[:, :, None] | whole_bins[:, None, :])
    assert whole_frames.sum(1).max() <= 2 * 10
    assert whole_bins.sum(1).max() <= 2 * 4
    assert whole_frames.any()
    assert whole_bins.any()


def test_a_time_mask_covers_at_most_its_share_of_a_short_utterance() -> None:
    features = torch.ones(200, 400, 4)
    lengths = torch.full((200,), 20)
    config = MASKS.model_copy(update={"freq_masks": 0})
    masked = mask_features(features, lengths, config, 100.0, generator()) == 0
    assert masked[:, 20:].sum() == 0
    per_row = masked.all(dim=2).sum(1)
    assert 0 < per_row.max() <= 4


def test_long_utterances_get_more_masks() -> None:
    features = torch.ones(100, 4000, 2)
    lengths = torch.full((100,), 4000)
    config = MASKS.model_copy(update={"freq_masks": 0})
    masked = (mask_features(features, lengths, config, 100.0, generator()) == 0).all(dim=2)
    starts = (masked[:, 1:] & ~masked[:, :-1]).sum(1) + masked[:, 0]
    assert 5 < starts.float().mean() <= 8


FBANK = FeatureConfig(sample_rate=8000, num_mel_bins=40, normalization="none")
MFCC = FeatureConfig(
    kind="mfcc", convention="sphinx", sample_rate=8000, num_mel_bins=30, low_freq=130
)


@pytest.mark.parametrize("config", [FBANK, MFCC], ids=["fbank", "mfcc"])
def test_warping_by_one_changes_nothing(config: FeatureConfig) -> None:
    frontend = Frontend(config)
    base, _ = frontend.base(tones(), LENGTHS)
    warped = warp_frequencies(base, torch.ones(3), config, frontend.dct, frontend.inverse_dct)
    torch.testing.assert_close(warped, base, atol=1e-3, rtol=1e-4)


def test_warping_moves_a_tone_as_another_tone() -> None:
    frontend = Frontend(FBANK)
    lower, _ = frontend.base(tones(1000.0)[:1], LENGTHS[:1])
    higher, _ = frontend.base(tones(1200.0)[:1], LENGTHS[:1])
    warped = warp_frequencies(
        higher, torch.tensor([1.2]), FBANK, frontend.dct, frontend.inverse_dct
    )
    assert torch.equal(warped.argmax(dim=2), lower.argmax(dim=2))
    assert not torch.equal(higher.argmax(dim=2), lower.argmax(dim=2))


def test_warped_cepstra_are_those_of_warped_energies() -> None:
    frontend = Frontend(MFCC)
    energies = torch.randn(2, 5, 13, generator=generator()) @ frontend.inverse_dct
    factors = torch.tensor([0.9, 1.1])
    as_fbank = MFCC.model_copy(update={"kind": "fbank"})
    expected = (
        warp_frequencies(energies, factors, as_fbank, frontend.dct, frontend.inverse_dct)
        @ frontend.dct
    )
    warped = warp_frequencies(
        energies @ frontend.dct, factors, MFCC, frontend.dct, frontend.inverse_dct
    )
    torch.testing.assert_close(warped, expected, atol=1e-4, rtol=1e-3)


def test_factors_lie_around_one() -> None:
    factors = draw_factors(1000, 0.2, generator())
    assert 1 / 1.2 <= factors.min() < 0.85
    assert 1.15 < factors.max() <= 1.2


def test_a_channel_weights_frequencies_smoothly_and_within_its_decibels() -> None:
    config = FeatureConfig(num_mel_bins=40, sample_rate=RATE)
    dct = Frontend(config).dct
    base = torch.randn((64, 5, 40), generator=generator())
    change = change_channel(base, 12.0, config, dct, generator(1)) - base
    assert torch.allclose(change, change[:, :1], atol=1e-5), "it changes in time"
    decibels = change[:, 0] * 10 / math.log(10)
    assert 8 < decibels.abs().max() <= 12.001
    assert (decibels.diff(dim=1).abs() <= 12 * 4 * math.pi / 40).all(), "it is not smooth"
    assert decibels.std(dim=0).min() > 1, "all utterances have one channel"


def test_the_channel_of_cepstra_is_that_of_their_energies() -> None:
    fbank = FeatureConfig(num_mel_bins=20, sample_rate=RATE)
    mfcc = FeatureConfig(kind="mfcc", num_mel_bins=20, num_ceps=13, sample_rate=RATE)
    dct = Frontend(mfcc).dct
    energies = torch.randn((3, 4, 20), generator=generator())
    changed = change_channel(energies, 10.0, fbank, dct, generator(2))
    cepstra = change_channel(energies @ dct, 10.0, mfcc, dct, generator(2))
    assert torch.allclose(cepstra, changed @ dct, atol=1e-4)
