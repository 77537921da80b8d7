"""What telephones and lossy formats leave of speech.

A codec is drawn for each utterance by its id, so that it has the same one whenever it is packed.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import soxr

from asr.audio import Samples
from asr.config import Codec

_TELEPHONE_BAND = (300.0, 3400.0)  # Hz
_EDGE = 100.0  # Hz, over which the band begins and ends
_TELEPHONE_RATE = 8000
_MU = 255.0
_BIT_RATES = {"mp3": (16, 24, 32, 48), "opus": (6, 8, 12, 16, 24)}  # kbit/s, one drawn
_ENCODERS = {"mp3": ("libmp3lame", "mp3"), "opus": ("libopus", "ogg")}


def degrade(samples: Samples, sample_rate: int, codecs: Sequence[Codec], key: str) -> Samples:
    """The samples after one of the codecs; as many as before, and where they were.

    Args:
        samples: in [-1, 1].
        key: what the codec, and its bit rate, are drawn by.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "little"))
    codec = codecs[int(rng.integers(len(codecs)))]
    if codec in _BIT_RATES:
        kilobits = int(rng.choice(_BIT_RATES[codec]))
        return _encode(samples, sample_rate, codec, kilobits)
    return _PLAIN[codec](samples, sample_rate)


def limit_band(samples: Samples, sample_rate: int) -> Samples:
    """What a telephone line passes: 300 to 3400 Hz."""
    low, high = _TELEPHONE_BAND
    size = 2 * len(samples)  # so that the end does not run into the beginning
    frequencies = np.fft.rfftfreq(size, 1 / sample_rate)
    rise = np.clip((frequencies - low) / _EDGE + 0.5, 0, 1)
    fall = np.clip((high - frequencies) / _EDGE + 0.5, 0, 1)
    passed = np.fft.irfft(np.fft.rfft(samples, size) * rise * fall, size)[: len(samples)]
    return np.asarray(np.clip(passed, -1, 1), np.float32)


def compand(samples: Samples, sample_rate: int) -> Samples:
    """Through 8 bits of mu-law at 8 kHz, the code of telephony (ITU-T G.711, as a formula)."""
    narrow = _resample(samples, sample_rate, _TELEPHONE_RATE)
    compressed = np.sign(narrow) * np.log1p(_MU * np.abs(narrow)) / np.log1p(_MU)
    coded = np.round(compressed * 127) / 127
    expanded = np.sign(coded) * np.expm1(np.abs(coded) * np.log1p(_MU)) / _MU
    return _fit(_resample(expanded.astype(np.float32), _TELEPHONE_RATE, sample_rate), len(samples))


_PLAIN: dict[str, Callable[[Samples, int], Samples]] = {
    "none": lambda samples, _: samples,
    "telephone": limit_band,
    "mu-law": compand,
}


def _encode(samples: Samples, sample_rate: int, codec: str, kilobits: int) -> Samples:
    """Through an encoder and back; the containers say what it puts before, which is left out."""
    encoder, container = _ENCODERS[codec]
    rate = _coded_rate(encoder, sample_rate)
    decoded = _round_trip(_resample(samples, sample_rate, rate), rate, encoder, container, kilobits)
    return _fit(_resample(decoded, rate, sample_rate), len(samples))


def _coded_rate(encoder: str, sample_rate: int) -> int:
    """The lowest rate of the encoder's that loses nothing, or else its highest."""
    import av

    rates = sorted(av.codec.Codec(encoder, "w").audio_rates or [])
    return next((rate for rate in rates if rate >= sample_rate), rates[-1])


def _round_trip(
    samples: Samples, sample_rate: int, encoder: str, container: str, kilobits: int
) -> Samples:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream: Any = output.add_stream(encoder, rate=sample_rate, layout="mono")
        stream.bit_rate = 1000 * kilobits
        values = np.clip(samples, -1, 1)[None].astype(np.float32)
        frame = av.AudioFrame.from_ndarray(values, format="fltp", layout="mono")
        frame.sample_rate = sample_rate
        converter = av.AudioResampler(stream.format.name, "mono", sample_rate, stream.frame_size)
        for part in [*converter.resample(frame), *converter.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as source:
        converter = av.AudioResampler("fltp", "mono", sample_rate)
        frames = [part for whole in source.decode(audio=0) for part in converter.resample(whole)]
        frames += converter.resample(None)
    decoded: Samples = np.concatenate([part.to_ndarray()[0] for part in frames])
    return decoded


def _resample(samples: Samples, source_rate: int, sample_rate: int) -> Samples:
    resampled: Samples = soxr.resample(samples, source_rate, sample_rate)
    return resampled


def _fit(samples: Samples, size: int) -> Samples:
    """So many of the samples, with zeros where there are fewer."""
    fitted: Samples = np.clip(np.pad(samples[:size], (0, max(0, size - len(samples)))), -1, 1)
    return fitted
