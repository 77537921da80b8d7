"""What correcting the speech that `asr data pick` chooses is worth, beside as much at random.

    asr tune MODEL DEV.jsonl --confidence
    python tools/bench/picking.py MODEL POOL.jsonl TEST.jsonl --work DIR [--rest 0.9]

POOL has texts, which a perfect labeller writes. In each draw a random half of it is the archive.
Of that, so many minutes are picked, and as many drawn at random; from both, MODEL is trained on, as
`asr init --init MODEL` proposes but for the epochs, and scored on TEST. With --rest half of each
epoch is of what MODEL hears in the rest of the archive and is so sure of.
"""

import argparse
import json
import math
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np

from asr.cli import main as asr
from asr.corpus import Utterance, read_manifest, write_manifest
from asr.errors import AsrError
from asr.transcription import Recognizer, Source
from asr.transcription.picking import Candidate, find_candidates, pick, pick_at_random

STUDENT = {4: 2.776, 9: 2.262}  # 97.5 % quantiles, by degrees of freedom
MAX_SECONDS = 15.0


def hear(model: Path, pool: list[Utterance]) -> list[Candidate]:
    recognizer = Recognizer.load(model, device="cpu", threads=1)
    sources = [Source(utterance=replace(each, text=None)) for each in pool]
    candidates: list[Candidate] = []
    for source, result in recognizer.transcribe_sources(sources):
        if isinstance(result, AsrError):
            raise result
        candidates += find_candidates(source, result, MAX_SECONDS)
    return candidates


def learn(
    model: Path,
    reviewed: list[Utterance],
    labelled: list[Utterance],
    test: Path,
    folder: Path,
    epochs: int,
    seed: int,
) -> float:
    """The word error rate on TEST of a model that has learnt from what was reviewed."""
    result = folder / "score" / "report.json"
    if not result.exists():
        manifest, recipe = folder / "reviewed.jsonl", folder / "recipe"
        write_manifest(reviewed, manifest)
        work = ["--work", str(folder / "work"), "--to", "train", "--device", "cpu"]
        settings = [f"training.epochs={epochs}", f"training.seed={seed}"]
        if labelled:
            write_manifest(labelled, folder / "labelled.jsonl")
            more = f"[{{manifest: {folder / 'labelled.jsonl'}, share: 0.5}}]"
            settings.append(f"training.more={more}")
        sets = [part for setting in settings for part in ("--set", setting)]
        init = ["init", str(recipe), "--audio", str(manifest), "--init", str(model)]
        if not recipe.exists():
            assert asr(init) == 0
        assert asr(["run", str(recipe), *work, *sets]) == 0
        score = ["--output-dir", str(result.parent)]
        (trained,) = (folder / "work").rglob("model/weights.safetensors")
        assert asr(["evaluate", str(trained.parent), str(test), "--device", "cpu", *score]) == 0
    return float(json.loads(result.read_text())["wer"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("pool", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=1.5)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--rest", type=float)
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    pool = read_manifest(arguments.pool)
    texts = {utterance.id: utterance.text for utterance in pool}
    candidates = hear(arguments.model, pool)
    differences, rows = [], []
    for draw in range(1, arguments.draws + 1):
        drawn = np.random.default_rng(draw).permutation(len(candidates))
        archive = [candidates[row] for row in drawn[: len(candidates) // 2].tolist()]
        choices = {
            "picked": pick(archive, 60 * arguments.minutes),
            "random": pick_at_random(archive, 60 * arguments.minutes, draw),
        }
        rates = {}
        for name, chosen in choices.items():
            reviewed = [replace(c.utterance, text=texts[c.utterance.id]) for c in chosen]
            wrong = sum(c.text != texts[c.utterance.id] for c in chosen) / len(chosen)
            labelled = [
                replace(each.utterance, text=each.text)
                for each in archive
                if arguments.rest is not None
                and each.confidence >= arguments.rest
                and not any(each is other for other in chosen)
            ]
            folder = arguments.work / f"{name}-{draw}"
            folder.mkdir(parents=True, exist_ok=True)
            rates[name] = learn(
                arguments.model,
                reviewed,
                labelled,
                arguments.test,
                folder,
                arguments.epochs,
                draw,
            )
            print(
                f"draw {draw}, {name}: {len(chosen)} utterances, {wrong:.1%} of them wrong, "
                f"{len(labelled)} labelled; WER after them {rates[name]:.2f} %",
                flush=True,
            )
        rows.append(rates)
        differences.append(rates["picked"] - rates["random"])
    for name in ("picked", "random"):
        values = [rates[name] for rates in rows]
        print(f"{name}: mean {statistics.mean(values):.2f} %")
    half = math.nan
    if len(differences) > 1:
        quantile = STUDENT.get(len(differences) - 1, 1.96)
        half = quantile * statistics.stdev(differences) / math.sqrt(len(differences))
    print(f"picked less random: {statistics.mean(differences):+.2f} +- {half:.2f} points")


if __name__ == "__main__":
    main()
