import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from asr.audio import files as audio_files
from asr.corpus.checks.measures import AudioMeasures, measure_file
from tests import planted

RATE = 16000


def measured(path: Path, samples: np.ndarray, rate: int = RATE, **options: str) -> AudioMeasures:
    soundfile.write(path, samples, rate, **options)
    (stretch,) = measure_file(path, [(0.0, 0.0)]).stretches
    return stretch


def sine(amplitude: float, frequency: float = 441.0, seconds: float = 2.0) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)


@pytest.mark.parametrize("amplitude", [0.9, 0.03])
def test_level_and_offset_of_a_tone_are_those_of_the_formula(amplitude, tmp_path):
    found = measured(tmp_path / "a.wav", sine(amplitude) + 0.01, subtype="FLOAT")
    assert found.level == pytest.approx(20 * math.log10(amplitude / math.sqrt(2)), abs=0.6)
    assert found.offset == pytest.approx(0.01, abs=1e-4)
    assert found.peak == pytest.approx(amplitude + 0.01, abs=1e-3)
    assert found.seconds == 2
    assert found.speech_seconds == pytest.approx(2)
    assert (found.leading, found.trailing, found.not_finite) == (0, 0, 0)


def test_silence_at_the_ends_and_speech_between_are_measured(tmp_path):
    samples = np.concatenate([np.zeros(RATE), sine(0.2), np.zeros(RATE // 2)])
    found = measured(tmp_path / "a.wav", samples)
    assert found.leading == pytest.approx(1.0, abs=0.03)
    assert found.trailing == pytest.approx(0.5, abs=0.03)
    assert found.speech_seconds == pytest.approx(2.0, abs=0.05)


def test_flat_tops_are_counted_as_a_loop_counts_them(tmp_path):
    samples = np.clip(planted.speech(2, np.random.default_rng(3)) * 4, -0.5, 0.5)
    found = measured(tmp_path / "a.wav", samples)
    stored = soundfile.read(tmp_path / "a.wav")[0]
    runs, length = [], 1
    for before, sample in zip(stored, [*stored[1:], None], strict=True):
        if sample == before:
            length += 1
            continue
        if length >= 3 and before in (stored.max(), stored.min()):
            runs.append(length)
        length = 1
    assert len(runs) > 10
    assert found.flat_tops == len(runs)
    assert found.clipped == pytest.approx(sum(runs) / len(samples))


def test_a_full_scale_tone_is_not_clipped(tmp_path):
    found = measured(tmp_path / "a.wav", sine(0.99997, 100.0))
    assert found.flat_tops <= 2


@pytest.mark.parametrize(("rate", "container"), [(8000, "wav"), (11025, "flac")])
def test_an_upsampled_file_shows_its_first_rate(rate, container, tmp_path):
    speech = planted.speech(3, np.random.default_rng(5))
    assert measured(tmp_path / "a.wav", speech).bandwidth is None
    upsampled = soxr.resample(soxr.resample(speech, RATE, rate), rate, RATE)
    found = measured(tmp_path / f"b.{container}", upsampled)
    assert found.bandwidth == pytest.approx(rate / 2, rel=0.1)


def test_a_strong_hiss_or_a_dull_room_is_no_cut(tmp_path):
    random = np.random.default_rng(6)
    hiss = sine(0.1) + 0.01 * random.standard_normal(2 * RATE)
    assert measured(tmp_path / "a.wav", hiss).bandwidth is None
    spectrum = np.fft.rfft(random.standard_normal(2 * RATE))
    spectrum /= 1 + (np.arange(len(spectrum)) / 1000) ** 3  # 18 dB an octave from 500 Hz on
    dull = np.fft.irfft(spectrum)
    assert measured(tmp_path / "b.wav", 0.1 * dull / dull.std()).bandwidth is None


def test_measures_do_not_depend_on_the_size_of_blocks_but_for_rounding(tmp_path, monkeypatch):
    speech = np.clip(2 * planted.speech(3, np.random.default_rng(9)), -0.6, 0.6)
    whole = measured(tmp_path / "a.wav", speech)
    monkeypatch.setattr(audio_files, "_BLOCK", 3001)
    (parts,) = measure_file(tmp_path / "a.wav", [(0.0, 0.0)]).stretches
    assert parts.digest == whole.digest
    for name in ("seconds", "peak", "level", "loud", "noise", "offset", "speech_seconds"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), abs=0.5)


def test_the_same_sound_has_the_same_digest_in_any_lossless_container(tmp_path):
    speech = planted.speech(1, np.random.default_rng(2))
    wav = measured(tmp_path / "a.wav", speech, subtype="PCM_16")
    stored = soundfile.read(tmp_path / "a.wav")[0]
    assert measured(tmp_path / "a.flac", stored).digest == wav.digest
    assert measured(tmp_path / "b.wav", stored, subtype="FLOAT").digest == wav.digest
    stored[100] += 2**-14
    assert measured(tmp_path / "c.wav", stored).digest != wav.digest


def test_stretches_are_measured_as_if_they_were_files(tmp_path):
    speech = planted.speech(3, np.random.default_rng(4))
    soundfile.write(tmp_path / "long.wav", speech, RATE, "FLOAT")
    stretches = measure_file(tmp_path / "long.wav", [(0.0, 1.0), (1.0, 0.5), (2.5, 0.0)]).stretches
    for stretch, (start, stop) in zip(stretches, [(0, 1), (1, 1.5), (2.5, 3)], strict=True):
        alone = speech[round(start * RATE) : round(stop * RATE)]
        assert stretch == measured(tmp_path / "a.wav", alone, subtype="FLOAT")


def test_channels_are_compared_with_numpys_correlation(tmp_path):
    random = np.random.default_rng(8)
    left = planted.speech(1, random)
    right = 0.1 * left + 0.02 * planted.speech(1, random)
    found = measured(tmp_path / "a.wav", np.stack([left, right], axis=1), subtype="FLOAT")
    assert found.correlation == pytest.approx(np.corrcoef(left, right)[0, 1], abs=1e-4)
    wanted = 20 * math.log10(left.std() / right.std())
    assert found.channel_difference == pytest.approx(wanted, abs=0.01)
