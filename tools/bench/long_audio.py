"""Long audio: memory against that of a minute, and errors against those of single utterances.

    python tools/bench/long_audio.py memory MODEL MANIFEST
    python tools/bench/long_audio.py errors MODEL MANIFEST [--gap SECONDS]

`memory` says the utterances of the manifest over and over, for a minute and for two hours, and
prints the peak of resident memory of a process that transcribes each. `errors` joins the utterances
into recordings of ten minutes, with gaps of faint noise between them, and scores the words of each
recording as well as those of each utterance.
"""

import argparse
import itertools
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from asr.audio import read_audio
from asr.cli import main as main_of_asr
from asr.corpus import Utterance, read_manifest
from asr.scoring import count_errors, total
from asr.text import normalize
from asr.transcription import Recognizer, Transcript

RECORDING_SECONDS = 600.0
GAP_LEVEL = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["memory", "errors", "one"])
    parser.add_argument("model", type=Path)
    parser.add_argument("input", type=Path)
    parser.add_argument("--gap", type=float, default=0.5, help="seconds between utterances")
    arguments = parser.parse_args()
    if arguments.what == "one":
        transcribe_one(arguments.model, arguments.input)
    elif arguments.what == "memory":
        measure_memory(arguments.model, read_manifest(arguments.input), arguments.gap)
    else:
        measure_errors(arguments.model, read_manifest(arguments.input), arguments.gap)


def transcribe_one(model: Path, path: Path) -> None:
    """As `asr transcribe` does, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--device", "cpu", "--threads", "1", "--output-dir", folder]
        main_of_asr(["transcribe", str(model), str(path), *options])
        (text,) = Path(folder).glob("*.txt")
        count = len(text.read_text().split())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{path.stem} s: {count} words, peak {peak:.0f} MiB")


def measure_memory(model: Path, utterances: list[Utterance], gap: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for seconds in (60, 7200):
            path = Path(folder) / f"{seconds}.wav"
            write_speech(itertools.cycle(utterances), path, seconds, gap)
            command = [sys.executable, __file__, "one", str(model), str(path)]
            print(
                subprocess.run(command, capture_output=True, text=True, check=True).stdout, end=""
            )


def write_speech(utterances: Iterable[Utterance], path: Path, seconds: float, gap: float) -> None:
    with soundfile.SoundFile(path, "w", 16000, 1, "PCM_16") as file:
        for samples in spoken(utterances, 16000, gap):
            file.write(samples[: round(seconds * 16000) - file.frames])
            if file.frames >= seconds * 16000:
                return


def spoken(utterances: Iterable[Utterance], rate: int, gap: float) -> Iterator[np.ndarray]:
    random = np.random.default_rng(0)
    for utterance in utterances:
        yield read_audio(
            utterance.audio_filepath,
            sample_rate=rate,
            offset=utterance.offset,
            duration=utterance.duration or None,
        ).samples
        yield (GAP_LEVEL * random.standard_normal(round(gap * rate))).astype(np.float32)


def measure_errors(model: Path, utterances: list[Utterance], gap: float) -> None:
    recognizer = Recognizer.load(model, device="cpu", threads=1)
    rate = recognizer.config.features.sample_rate
    single = {
        utterance.id: count_errors(words(utterance.text), words(text_of(result)))
        for utterance, result in recognizer.transcribe_utterances(utterances)
    }
    joined = []
    for part in recordings(utterances):
        samples = np.concatenate(list(spoken(part, rate, gap)))
        reference = [word for utterance in part for word in words(utterance.text)]
        transcript = recognizer.transcribe(samples, sample_rate=rate)
        joined.append(count_errors(reference, words(transcript.text)))
    print(f"single utterances  {total(single.values())}")
    print(f"{len(joined)} recordings, gap {gap:g} s  {total(joined)}")
    print(f"WER {total(single.values()).rate:.2f} %, {total(joined).rate:.2f} % in recordings")


def words(text: str | None) -> list[str]:
    return normalize(text or "").split()


def text_of(result: object) -> str:
    return result.text if isinstance(result, Transcript) else ""


def recordings(utterances: list[Utterance]) -> Iterator[list[Utterance]]:
    part: list[Utterance] = []
    for utterance in utterances:
        part.append(utterance)
        if sum(u.duration for u in part) >= RECORDING_SECONDS:
            yield part
            part = []
    if part:
        yield part


if __name__ == "__main__":
    main()
