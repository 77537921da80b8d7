"""How many keywords are missed in running speech, joined from recordings of single words?

    python tools/bench/spotting.py MODEL DEV.jsonl TEST.jsonl [--false-alarms 0.5]

The recordings of each speaker are joined ten at a time by 0.4 s of faint noise, each heard ten
times beside others. Every word of them is a keyword, said among the others. Thresholds are found on
DEV; with them, what is missed in TEST, the false alarms there, and what thresholds of its own miss.
"""

import argparse
import random
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import soundfile

from asr.audio import read_audio
from asr.config import SpottingConfig
from asr.corpus import Utterance, read_manifest
from asr.decoding.spotting import LEAST_SCORE
from asr.transcription import Recognizer
from asr.transcription.keyword_tuning import SpottingTuning, try_keywords
from asr.transcription.spotting import open_spotter

WORDS, TIMES, GAP, GAP_LEVEL = 10, 10, 0.4, 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--false-alarms", type=float, default=0.5, help="an hour")
    arguments = parser.parse_args()
    dev, test = (listen(arguments.model, path) for path in (arguments.dev, arguments.test))
    thresholds = dev.thresholds(arguments.false_alarms)
    for name, part in (("dev", dev), ("test", test)):
        missed, false = part.missed(thresholds)
        print(f"{name}: {part.hours:.2f} hours, {missed:.1f} % missed, {false} false alarms")
    print(f"\nTEST with thresholds of its own:\n{test.table()}")


def listen(model: Path, manifest: Path) -> SpottingTuning:
    """What is heard of its words in the joined recordings of a manifest."""
    utterances = read_manifest(manifest)
    with tempfile.TemporaryDirectory() as folder:
        keywords = Path(folder) / "keywords.txt"
        keywords.write_text("\n".join(sorted({each.text or "" for each in utterances})) + "\n")
        recognizer = Recognizer.load(model, device="cpu", threads=1)
        spotter = open_spotter(recognizer, keywords, SpottingConfig(), LEAST_SCORE)
        return try_keywords(
            recognizer,
            spotter,
            join(utterances, recognizer.config.features.sample_rate, Path(folder)),
        )


def join(utterances: list[Utterance], rate: int, folder: Path) -> list[Utterance]:
    """Recordings of ten words of one speaker each, written to a folder at a rate in Hz."""
    draw, noise = random.Random(1), np.random.default_rng(1)
    speakers: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        speakers[utterance.speaker or ""].append(utterance)
    joined = []
    for speaker, said in sorted(speakers.items()):
        order = [each for _ in range(TIMES) for each in draw.sample(said, len(said))]
        for start in range(0, len(order), WORDS):
            chosen, parts = order[start : start + WORDS], []
            for utterance in chosen:
                gap = GAP_LEVEL * noise.standard_normal(round(GAP * rate))
                parts += [gap, read_audio(utterance.audio_filepath, sample_rate=rate).samples]
            path = folder / f"{speaker}-{start:05}.wav"
            samples = np.concatenate([*parts, gap])
            soundfile.write(path, samples, rate)
            joined.append(
                Utterance(
                    id=path.stem,
                    audio_filepath=path,
                    duration=len(samples) / rate,
                    text=" ".join(each.text or "" for each in chosen),
                    speaker=speaker,
                )
            )
    return joined


if __name__ == "__main__":
    main()
