"""What language models make of trained models: tuned on dev, scored on test, a row for each.

    python tools/decoding_rows.py MANIFESTS MODEL [MODEL ...] [--no-test]

MANIFESTS is a folder with train.jsonl, dev.jsonl and test.jsonl, as recipes prepare it; language
models learn from the texts of the first. Each MODEL, one a seed, stays as it is; copies of it are
tuned. The last lines give the mean of each row over the models and half the width of its 95 %
interval (Student's t).
"""

import argparse
import math
import shutil
import tempfile
from pathlib import Path

from asr.config import NeuralLmConfig
from asr.corpus import Utterance, read_manifest
from asr.decoding import DecodingOptions
from asr.decoding.lexicon import spell_words, write_lexicon
from asr.lm import estimate, read_sentences, write_arpa
from asr.lm.neural import save_neural_lm, train_neural_lm
from asr.text import read_tokens
from asr.transcription import Recognizer, evaluate, tune

# 0.975 quantile of Student's distribution by degrees of freedom.
_STUDENT = {
    1: 12.706,
    2: 4.303,
    3: 3.182,
    4: 2.776,
    5: 2.571,
    6: 2.447,
    7: 2.365,
    8: 2.306,
    9: 2.262,
}


def learn(text: Path, folder: Path) -> dict[str, Path]:
    found = {"word": folder / "word.arpa.gz", "character": folder / "character.arpa.gz"}
    write_arpa(estimate(read_sentences(text, "word"), order=3).arpa, found["word"])
    write_arpa(estimate(read_sentences(text, "character"), order=6).arpa, found["character"])
    config = NeuralLmConfig(epochs=20, hidden_size=256, dropout=0.5, learning_rate=0.01)
    neural = train_neural_lm(read_sentences(text, "word"), config, lambda _: None)
    save_neural_lm(neural, folder / "neural")
    return {**found, "neural": folder / "neural"}


def score(folder: Path, test: list[Utterance], decoding: DecodingOptions) -> tuple[float, str]:
    recognizer = Recognizer.load(folder, decoding=decoding)
    evaluation = evaluate(recognizer, test, name=folder.name, test_set="test")
    scored = evaluation.report.score
    line = "; ".join(evaluation.summary().splitlines()[:3])
    return scored.words.rate or 0.0, f"{line}; CER {scored.characters.rate or 0.0:.2f} %"


def rows(
    model: Path, text: Path, dev: list[Utterance], test: list[Utterance], lms: dict[str, Path]
) -> dict[str, float]:
    """Error rate on test, or on dev if test is empty, by row."""
    rates: dict[str, float] = {}
    if test:
        rates["best path"], line = score(model, test, DecodingOptions(beam=1))
        print(f"{model}\tbest path\t{line}", flush=True)
    words = sorted({word for sentence in read_sentences(text, "word") for word in sentence})
    with tempfile.TemporaryDirectory() as temporary:
        lexicon = Path(temporary) / "lexicon.txt"
        tokens = read_tokens(model)
        write_lexicon(spell_words(words, tokens)[0], tokens, lexicon)
        for name, helps in {
            "character 6-gram": {"lm": lms["character"], "lexicon": None},
            "word trigram": {"lm": lms["word"], "lexicon": None},
            "word trigram, lexicon": {"lm": lms["word"], "lexicon": lexicon},
            "word trigram, LSTM": {"lm": lms["word"], "lexicon": None, "neural_lm": lms["neural"]},
        }.items():
            copy = Path(temporary) / "model"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(model, copy)
            tuning = tune(copy, dev, device="auto", report=lambda _: None, **helps)
            print(f"{model}\t{name}\t{tuning.summary()}", flush=True)
            rates[name] = tuning.best.errors.rate or 0.0
            if test:
                rates[name], line = score(copy, test, DecodingOptions())
                print(f"{model}\t{name}\ttest: {line}", flush=True)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("manifests", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--no-test", action="store_true", help="Leave the test set alone.")
    arguments = parser.parse_args()
    text = arguments.manifests / "train.jsonl"
    dev = read_manifest(arguments.manifests / "dev.jsonl")
    test = [] if arguments.no_test else read_manifest(arguments.manifests / "test.jsonl")
    with tempfile.TemporaryDirectory() as temporary:
        lms = learn(text, Path(temporary))
        found = [rows(model, text, dev, test, lms) for model in arguments.models]
    count = len(found)
    for name in found[0]:
        rates = [own[name] for own in found]
        mean = sum(rates) / count
        spread = math.nan
        if count > 1:
            deviation = math.sqrt(sum((rate - mean) ** 2 for rate in rates) / (count - 1))
            spread = _STUDENT[count - 1] * deviation / math.sqrt(count)
        print(f"mean of {count}\t{name}\t{mean:.2f} +- {spread:.2f}")


if __name__ == "__main__":
    main()
