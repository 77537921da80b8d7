"""A language of two words, each a tone: a corpus that a small network learns in seconds."""

from pathlib import Path

import numpy as np
import soundfile

from asr.config import Config
from asr.corpus.manifest import Utterance

RATE = 8000
TONES = {"la": 440.0, "mi": 1200.0}

CONFIG = Config.model_validate(
    {
        "features": {"sample_rate": RATE, "num_mel_bins": 20},
        "encoder": {
            "hidden_size": 24,
            "num_layers": 1,
            "conv_channels": 24,
            "subsampling": 2,
            "dropout": 0.1,
        },
        "augment": {"speeds": [0.95, 1.0], "noise_probability": 0.5, "time_masks": 1},
        "training": {"epochs": 20, "batch_seconds": 5, "learning_rate": 0.02},
    }
)


def write_corpus(folder: Path, num_utterances: int, seed: int) -> list[Utterance]:
    """Utterances of one to four words, with a little noise."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    utterances = []
    for index in range(num_utterances):
        words = random.choice(list(TONES), random.integers(1, 5))
        silence = np.zeros(800)
        parts = [silence]
        for word in words:
            time = np.arange(random.integers(1200, 2000)) / RATE
            parts += [0.3 * np.sin(2 * np.pi * TONES[word] * time), silence]
        samples = np.concatenate(parts)
        samples += 0.003 * random.standard_normal(len(samples))
        path = folder / f"{index}.wav"
        soundfile.write(path, samples, RATE)
        utterances.append(
            Utterance(
                id=f"{folder.name}-{index}",
                audio_filepath=path,
                duration=len(samples) / RATE,
                text=" ".join(words),
                speaker=f"speaker{index % 3}",
            )
        )
    return utterances
