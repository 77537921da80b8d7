from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.config import Codec, FeatureConfig
from asr.corpus import Utterance, open_packed, pack
from asr.corpus.codecs import compand, degrade, limit_band
from asr.errors import DataError

CODECS: tuple[Codec, ...] = ("telephone", "mu-law", "mp3", "opus")


def speech_like(rate: int, seconds: float = 1.5) -> Any:
    """Noise of falling spectrum in bursts, so that a shift in time would be noticed."""
    rng = np.random.default_rng(1)
    spectrum = np.fft.rfft(rng.standard_normal(int(rate * seconds)))
    hertz = np.fft.rfftfreq(int(rate * seconds), 1 / rate)
    spectrum *= (hertz > 300) * (hertz < 2500) / (hertz + 300)
    wave = np.fft.irfft(spectrum, int(rate * seconds))
    bursts = np.repeat(rng.random(int(seconds * 10)) > 0.5, rate // 10)
    wave = wave[: len(bursts)] * bursts
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16000, 22050])
@pytest.mark.parametrize("codec", CODECS)
def test_speech_stays_where_and_as_long_as_it_was_but_not_what_it_was(
    codec: Codec, rate: int
) -> None:
    samples = speech_like(rate)
    after = degrade(samples, rate, [codec], "u1")
    assert (len(after), after.dtype) == (len(samples), np.float32)
    assert not np.array_equal(after, samples)
    alike = [
        np.corrcoef(samples[200:-200], np.roll(after, -shift)[200:-200])[0, 1]
        for shift in range(-3, 4)
    ]
    assert max(alike) > 0.85
    assert int(np.argmax(alike)) - 3 in (-1, 0, 1)


@pytest.mark.parametrize("codec", CODECS)
def test_very_short_and_silent_audio_passes(codec: Codec) -> None:
    for samples in (np.zeros(400, np.float32), np.full(1, 0.1, np.float32)):
        assert len(degrade(samples, 8000, [codec], "u1")) == len(samples)


def test_a_telephone_passes_its_band_alone() -> None:
    time = np.arange(16000) / 16000
    for hertz, gain in ((150, 0.0), (1000, 1.0), (3000, 1.0), (5000, 0.0)):
        tone = (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)
        passed = limit_band(tone, 16000)[4000:12000]
        assert np.sqrt(np.mean(passed**2)) == pytest.approx(0.5**0.5 * 0.5 * gain, abs=0.01)


def test_mu_law_is_as_coarse_as_eight_bits_and_finer_for_soft_sound() -> None:
    time = np.arange(8000) / 8000
    for level in (0.5, 0.005):
        tone = (level * np.sin(2 * np.pi * 440.7 * time)).astype(np.float32)
        error = compand(tone, 8000) - tone
        ratio = 10 * np.log10(np.mean(tone**2) / np.mean(error**2))
        # 8 linear bits leave 44 and 4 dB.
        assert 25 < ratio < 42


def test_the_codec_is_drawn_by_the_id() -> None:
    samples = speech_like(8000, 0.4)
    codecs: tuple[Codec, ...] = ("none", "none", "telephone", "mu-law")
    results = [degrade(samples, 8000, codecs, f"u{n}").tobytes() for n in range(60)]
    assert results == [degrade(samples, 8000, codecs, f"u{n}").tobytes() for n in range(60)]
    counts = sorted(results.count(each) for each in set(results))
    assert len(counts) == 3
    assert counts[-1] == results.count(samples.tobytes()) >= 20
    assert min(counts) >= 7


def test_what_is_packed_went_through_it_and_features_cannot(tmp_path: Path) -> None:
    samples = speech_like(8000)
    soundfile.write(tmp_path / "a.wav", samples, 8000)
    utterance = Utterance(id="a", audio_filepath=tmp_path / "a.wav", duration=0.0, text="x")
    features = FeatureConfig(sample_rate=8000)
    pack([utterance], tmp_path / "packed", features, lambda given, u: given * (u.id == "a") / 2)
    values = np.asarray(open_packed(tmp_path / "packed").values, np.float32) / 32768
    assert values == pytest.approx(samples / 2, abs=1e-4)
    stored = Utterance(id="a", audio_filepath=tmp_path / "a.mfc", duration=0.0, text="x")
    with pytest.raises(DataError, match=r"no codec; drop augment\.codecs"):
        pack([stored], tmp_path / "packed", features, lambda given, _: given)
