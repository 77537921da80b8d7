"""Seconds for the features of one hour of audio on one core, beside torchaudio's, in one run.

Run: python tools/bench/features.py [MINUTES]
"""

import sys
import time
from collections.abc import Callable

import torch
from torchaudio.compliance.kaldi import fbank

from asr.config import FeatureConfig
from asr.model import Frontend

RATE = 16_000  # Hz
PIECE = 12  # seconds of an utterance
BATCH = 5  # utterances
CONFIGS = {
    "kaldi fbank 80": FeatureConfig(),
    "sphinx mfcc 13": FeatureConfig(
        kind="mfcc",
        convention="sphinx",
        frame_length_ms=25.625,
        num_mel_bins=40,
        low_freq=130,
        high_freq=6800,
        normalization="none",
    ),
}


def seconds_for_an_hour(work: Callable[[], object], audio_seconds: float) -> float:
    work()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times) * 3600 / audio_seconds


def main() -> None:
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 5
    torch.set_num_threads(1)
    count = max(1, round(minutes * 60 / PIECE / BATCH))
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(BATCH, PIECE * RATE, generator=generator) * 0.1 for _ in range(count)]
    audio_seconds = count * BATCH * PIECE
    num_samples = torch.full((BATCH,), PIECE * RATE)

    def torchaudio_each() -> None:
        for batch in batches:
            for waveform in batch:
                fbank(waveform[None] * 32768, dither=0.0, num_mel_bins=80)

    peer = seconds_for_an_hour(torchaudio_each, audio_seconds)
    print(f"torchaudio fbank 80, one by one: {peer:.2f} s for an hour")
    for name, config in CONFIGS.items():
        frontend = Frontend(config)

        def ours(frontend: Frontend = frontend) -> None:
            for batch in batches:
                frontend(batch, num_samples)

        seconds = seconds_for_an_hour(ours, audio_seconds)
        frames = frontend.num_frames(PIECE * RATE) * 3600 / PIECE / seconds
        print(
            f"{name}: {seconds:.2f} s for an hour, {frames:,.0f} frames/s, "
            f"{peer / seconds:.2f} times torchaudio's speed"
        )


if __name__ == "__main__":
    main()
