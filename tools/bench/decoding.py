"""Beam search beside flashlight-text and pyctcdecode: same log-probabilities, trigram, one thread.

    python tools/bench/decoding.py MODEL MANIFEST words.arpa [--peers PYTHON] [--word-bonus B]
    python tools/bench/decoding.py MODEL MANIFEST FOLDER [--lexicon FILE]

The language model is an ARPA file, or a folder by `asr lm map`, which peers cannot read; a lexicon
allows no other words, and is ours alone, too. The time to the first result is that of reading
lexicon and language model, building the search, loading its compiled code, and one utterance.

PYTHON is an interpreter that has flashlight-text, pyctcdecode and kenlm (they install on 3.11).
flashlight needs a lexicon: the language model's words, each spelled with the space that ends it, as
torchaudio's documentation has it. A step in which the space is certain is added to the end of every
utterance, whose last word it would not see an end of otherwise.
All drop prefixes 10 nats below the best; ours and pyctcdecode's drop tokens below a log-probability
of -5 (ours: 5 nats below the step's best), which are pyctcdecode's defaults.
"""

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

Decode = Callable[[Any], str]


def pyctcdecode(symbols: list[str], arpa: str, words: list[str], options: dict[str, Any]) -> Decode:
    from pyctcdecode import build_ctcdecoder

    decoder = build_ctcdecoder(
        ["", *symbols[1:]],
        arpa,
        words,
        alpha=options["lm_weight"],
        beta=options["word_bonus"],
    )
    return lambda log_probs: decoder.decode(log_probs, beam_width=options["beam"])


def flashlight(symbols: list[str], arpa: str, words: list[str], options: dict[str, Any]) -> Decode:
    from flashlight.lib.text.decoder import (
        CriterionType,
        LexiconDecoder,
        LexiconDecoderOptions,
        SmearingMode,
        Trie,
    )
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    ids = {symbol: index for index, symbol in enumerate(symbols)}
    names = Dictionary()
    for word in [*words, "<unk>"]:
        names.add_entry(word)
    model = KenLM(arpa, names)
    trie = Trie(len(symbols), ids[" "])
    start = model.start(False)
    for word in words:
        if all(character in ids for character in word):
            index = names.get_index(word)
            _, score = model.score(start, index)
            trie.insert([ids[character] for character in f"{word} "], index, score)
    trie.smear(SmearingMode.MAX)
    settings = LexiconDecoderOptions(
        beam_size=options["beam"],
        beam_size_token=len(symbols),
        beam_threshold=10.0,
        lm_weight=options["lm_weight"] * math.log(10),
        word_score=options["word_bonus"],
        unk_score=-math.inf,
        sil_score=0.0,
        log_add=True,
        criterion_type=CriterionType.CTC,
    )
    unknown = names.get_index("<unk>")
    decoder = LexiconDecoder(settings, trie, model, ids[" "], 0, unknown, [], False)

    def decode(log_probs: Any) -> str:
        end = np.full((1, len(symbols)), -1e4, np.float32)
        end[0, ids[" "]] = 0.0
        values = np.concatenate([log_probs, end]).astype(np.float32)
        best = decoder.decode(values.ctypes.data, *values.shape)[0]
        return " ".join(names.get_entry(word) for word in best.words if word >= 0)

    return decode


PEERS = {"pyctcdecode": pyctcdecode, "flashlight": flashlight}


def measure(decode: Decode, scores: list[Any]) -> tuple[float, list[str]]:
    """Seconds of processor time for all utterances, the best of three passes, and the texts."""
    seconds = math.inf
    for _ in range(3):
        start = time.process_time()
        texts = [decode(values) for values in scores]
        seconds = min(seconds, time.process_time() - start)
    return seconds, texts


def resident() -> float:
    """Memory of this process in MB; of Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def run_peer(name: str, folder: Path) -> None:
    task = json.loads((folder / "task.json").read_text())
    with np.load(folder / "scores.npz") as file:
        scores = [file[f"arr_{index}"] for index in range(len(file.files))]
    decode = PEERS[name](task["symbols"], task["arpa"], task["words"], task["options"])
    seconds, texts = measure(decode, scores)
    (folder / f"{name}.json").write_text(json.dumps({"seconds": seconds, "texts": texts}))


def time_first(arguments: argparse.Namespace, tokens: Any, config: Any, scores: Any) -> Any:
    """A decoder; says how many seconds of processor time there are to the first result."""
    from asr.decoding.decoder import make_decoder
    from asr.decoding.lexicon import read_lexicon
    from asr.lm import read_language_model

    laps = [time.process_time()]
    model = read_language_model(arguments.lm)
    laps.append(time.process_time())
    lexicon = read_lexicon(arguments.lexicon, tokens) if arguments.lexicon else None
    laps.append(time.process_time())
    decoder = make_decoder(tokens, config, language_model=model, lexicon=lexicon)
    laps.append(time.process_time())
    decoder.decode(scores)
    laps.append(time.process_time())
    steps = [after - before for before, after in itertools.pairwise(laps)]
    names = ("language model", "lexicon", "search", "first utterance with its compiled code")
    shown = ", ".join(f"{name} {step:.2f}" for name, step in zip(names, steps, strict=True))
    print(f"first result after {laps[-1] - laps[0]:.2f} s: {shown}")
    return decoder


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("lm", type=Path)
    parser.add_argument("--lexicon", type=Path)
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--lm-weight", type=float, default=1.0)
    parser.add_argument("--word-bonus", type=float, default=0.0)
    arguments = parser.parse_args()

    from asr.config import DecodingConfig
    from asr.corpus import read_manifest
    from asr.decoding.lexicon import read_lexicon
    from asr.lm import read_language_model
    from asr.scoring import ErrorCounts, count_errors
    from asr.transcription import Recognizer
    from asr.transcription.dev_set import score_dev_set

    recognizer = Recognizer.load(arguments.model, device="cpu")
    utterances = read_manifest(arguments.manifest)
    scores = list(score_dev_set(recognizer, utterances).segments)
    assert len(scores) == len(utterances), "utterances of more than 40 s are cut"
    audio = recognizer.step_seconds * sum(map(len, scores))
    words = list(read_language_model(arguments.lm).words[3:])
    if arguments.lexicon:
        words = list(read_lexicon(arguments.lexicon, recognizer.tokens).words)
    peers = () if arguments.lexicon or arguments.lm.is_dir() else tuple(PEERS)
    print(f"{len(utterances)} utterances, {audio:.0f} s of audio, {len(words)} words; one thread")
    print(f"{'decoder':14}{'beam':>6}{'seconds':>10}{'x real time':>13}{'WER %':>8}")
    for beam in (16, 100):
        options = {
            "beam": beam,
            "lm_weight": arguments.lm_weight,
            "word_bonus": arguments.word_bonus,
        }
        config = DecodingConfig(**options, beam_threshold=10.0, token_threshold=5.0)
        decoder = time_first(arguments, recognizer.tokens, config, scores[0])
        results = {"asr": measure(lambda values, d=decoder: d.decode(values)[0].text, scores)}
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            np.savez(folder / "scores.npz", *scores)
            task = {
                "symbols": list(recognizer.tokens.symbols),
                "arpa": str(arguments.lm.resolve()),
                "words": words,
                "options": options,
            }
            (folder / "task.json").write_text(json.dumps(task))
            for name in peers:
                command = [arguments.peers, __file__, "--peer", name, temporary]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                    print(f"{name}: did not run: {reason}")
                    continue
                answer = json.loads((folder / f"{name}.json").read_text())
                results[name] = (answer["seconds"], answer["texts"])
        if beam == 16:
            before = resident()
            for number in range(10_000):
                decoder.decode(scores[number % len(scores)])
            memory = f"{before:.0f} MB before 10,000 more utterances, {resident():.0f} MB after"
        for name, (seconds, texts) in results.items():
            errors = ErrorCounts()
            for utterance, text in zip(utterances, texts, strict=True):
                errors += count_errors((utterance.text or "").split(), text.split())
            print(f"{name:14}{beam:6}{seconds:10.2f}{audio / seconds:13.0f}{errors.rate:8.2f}")
    print(f"memory of asr: {memory}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        run_peer(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
