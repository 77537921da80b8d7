"""Speed of `asr score`: a million words with 10,000 resamples, beside jiwer alone and sclite.

    python tools/bench/scoring.py [--utterances 20000] [--words 50]

Each program runs in a process of its own, one after the other, and its seconds and peak memory
are printed with the ratio to this project's.
"""

import argparse
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

JIWER = """
import sys, jiwer
ref, hyp = ([line.split(" ", 1)[1] for line in open(path)] for path in sys.argv[1:])
print(jiwer.process_words(ref, hyp).wer, jiwer.process_characters(ref, hyp).cer)
"""


def write_test_set(folder: Path, num_utterances: int, num_words: int) -> None:
    generator = random.Random(1)
    vocabulary = [f"{chr(97 + number % 26)}word{number}" for number in range(10_000)]
    with (
        (folder / "ref").open("w") as ref,
        (folder / "hyp").open("w") as hyp,
        (folder / "utt2spk").open("w") as utt2spk,
        (folder / "ref.trn").open("w") as ref_trn,
        (folder / "hyp.trn").open("w") as hyp_trn,
    ):
        for number in range(num_utterances):
            utterance_id = f"spk{number % 100:03d}-{number:06d}"
            words = generator.choices(vocabulary, k=num_words)
            said = []
            for word in words:
                draw = generator.random()
                if draw > 0.02:
                    said.append(word if draw > 0.08 else generator.choice(vocabulary))
                if draw > 0.98:
                    said.append(generator.choice(vocabulary))
            ref.write(f"{utterance_id} {' '.join(words)}\n")
            hyp.write(f"{utterance_id} {' '.join(said)}\n")
            utt2spk.write(f"{utterance_id} spk{number % 100:03d}\n")
            ref_trn.write(f"{' '.join(words)} ({utterance_id})\n")
            hyp_trn.write(f"{' '.join(said)} ({utterance_id})\n")


def measure(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds, and peak memory in MB of the largest child so far."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--utterances", type=int, default=20_000)
    parser.add_argument("--words", type=int, default=50, help="in an utterance")
    arguments = parser.parse_args()
    asr = [sys.executable, "-m", "asr", "score", "ref", "hyp"]
    programs = {
        "asr score": asr,
        "asr score, by speaker": [*asr, "--utt2spk", "utt2spk"],
        "asr score, all files": [*asr, "--format", "text,html", "--output-dir", "out"],
        "jiwer alone": [sys.executable, "-c", JIWER, "ref", "hyp"],
    }
    if shutil.which("sctk"):
        files = ["-r", "ref.trn", "trn", "-h", "hyp.trn", "trn", "-i", "rm"]
        programs["sclite"] = ["sctk", "sclite", *files, "-s", "-o", "sum", "stdout"]
    print(f"{arguments.utterances * arguments.words} words in {arguments.utterances} utterances")
    print(f"{'program':24} {'seconds':>8} {'ratio':>6} {'peak MB so far':>15}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_test_set(folder, arguments.utterances, arguments.words)
        first = None
        for program, command in programs.items():
            seconds, megabytes = measure(command, folder)
            first = first or seconds
            print(f"{program:24} {seconds:8.2f} {seconds / first:6.2f} {megabytes:15.0f}")


if __name__ == "__main__":
    main()
