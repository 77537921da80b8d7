"""The starter `english`: from a finished run of its recipe to the folder that the package brings.

    python tools/starter.py WORK [--lm NAME.arpa.gz] [--output asr/assets/english]

WORK is the work folder of `asr run recipes/english`. Its model is stored in 8 bits; with a language
model its decoding is tuned on 150 utterances of the dev set. The card, README.md, is
recipes/english/card.md filled in: what the run's result.txt and training.json say, and what
the stored model makes of the same test sets. Which utterances it has heard is kept as hashes of
their ids, for warnings when it is adapted. The folder appears at the end, if it is small enough.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np

from asr.config import InitConfig
from asr.corpus import read_manifest
from asr.decoding import DecodingOptions, options
from asr.errors import AsrError
from asr.files import open_atomic
from asr.model import read_model, write_model
from asr.model.export import copy_model
from asr.model.folder import CARD
from asr.training import source
from asr.transcription import Recognizer, evaluate, tune
from recipes.english.card import last_rate, read_rates, write_card
from recipes.english.corpus import PARTS

ROOT = Path(__file__).parents[1]
MOST_BYTES = 12e6
NUM_TUNED = 150
LANGUAGE = "en"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--lm", type=Path, help="Language model: .arpa.gz.")
    parser.add_argument("--output", type=Path, default=ROOT / "asr/assets/english")
    arguments = parser.parse_args()
    if arguments.output.exists():
        raise SystemExit(f"{arguments.output}: is there already; remove it first")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, "english")
            build(arguments.work, arguments.lm, folder)
            num_bytes = sum(path.stat().st_size for path in folder.iterdir())
            print(f"{num_bytes / 1e6:.1f} MB in all, {MOST_BYTES / 1e6:g} are the most")
            if num_bytes > MOST_BYTES:
                raise SystemExit("too large: prune the language model further")
            shutil.copytree(folder, arguments.output)
    except AsrError as error:
        raise SystemExit(str(error)) from error
    print(arguments.output)


def build(work: Path, lm: Path | None, folder: Path) -> None:
    """Write the starter into `folder`."""
    model = read_model(work / "model")
    report = copy_model(work / "model", folder, int8=True)
    print(f"stored in 8 bits: {report.num_bytes / 1e6:.1f} MB, {report.difference:.2g} nats off")
    written = read_model(folder)
    training, config = {**written.training, "language": LANGUAGE}, written.config
    if "init" in training:
        # In place of a path of the machine that it was trained on.
        training["init"] = {**training["init"], "name": "an earlier run of the recipe"}
        alone = config.training.model_copy(update={"init": InitConfig()})
        config = config.model_copy(update={"training": alone})
    write_model(folder, config, written.tokens, training)
    options.remove_decoding(folder)
    if lm is not None:
        dev = read_manifest(work / "manifests/dev.jsonl")
        step = -(-len(dev) // NUM_TUNED)
        tuning = tune(folder, dev[::step], lm=lm, lexicon=None, device="cpu", report=print)
        print(tuning.summary())
    heard = source.id_digests(u.id for u in read_manifest(work / "manifests/train.jsonl"))
    with open_atomic(folder / source.LEARNT, "wb") as file:
        np.save(file, np.unique(heard))
    rates = {"trained": read_rates((work / "result.txt").read_text(encoding="utf-8"))}
    rates["in 8 bits"] = score_sets(work, folder, DecodingOptions(beam=1))
    if lm is not None:
        rates["with its trigram"] = score_sets(work, folder, DecodingOptions())
    card = write_card(work, model, rates, has_lm=lm is not None)
    with open_atomic(folder / CARD) as file:
        file.write(card)


def score_sets(work: Path, folder: Path, decoding: DecodingOptions) -> dict[str, str]:
    """The error rate of each test set."""
    recognizer = Recognizer.load(folder, device="cpu", decoding=decoding)
    rates = {}
    for part in PARTS:
        path = work / f"manifests/{part}/test.jsonl"
        summary = evaluate(recognizer, read_manifest(path), name="english", test_set=part).summary()
        rates[f"{part}/test"] = last_rate(summary)
        print(f"{part}/test", rates[f"{part}/test"])
    return rates


if __name__ == "__main__":
    main()
