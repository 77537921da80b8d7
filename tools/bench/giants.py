"""A model of one's own beside pretrained ones, on the same files: errors and speed.

    python tools/bench/giants.py test.jsonl work/fsdd/default/model \\
        --whisper FOLDER_WITH_CONVERTED_MODEL --pocketsphinx

Whisper runs by faster-whisper (`pip install faster-whisper`, a converted model in a folder) in
int8, the language set to English, all else as it comes (a beam of 5); pocketsphinx (`pip install
pocketsphinx`) with the model and the language model that it brings. All use one thread, whose
processor time is what counts, and see a file at a time. Texts of both sides are normalized alike,
numbers to digits (`english`). Because giants write spelled words and codes together ("GME 39"),
errors are counted in words and in characters without spaces.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before anything that computes is imported

import librosa
import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.corpus import Utterance, read_manifest
from asr.scoring import score, word_error_interval
from asr.scoring.statistics import Interval
from asr.text import find_normalizer
from asr.transcription import Recognizer, Source

RATE = 16000  # Hz, of both giants

Reader = Callable[[NDArray[np.float32]], str]
"""Takes samples of `RATE`, gives text."""


def read_own(model: Path, utterances: Sequence[Utterance], group: bool) -> Iterator[str]:
    """A model folder's texts, one utterance at a time or in batches."""
    recognizer = Recognizer.load(model, threads=1)
    groups = [utterances] if group else [[utterance] for utterance in utterances]
    for part in groups:
        for source, result in recognizer.transcribe_sources(Source(utterance=u) for u in part):
            if isinstance(result, Exception):
                raise SystemExit(f"{source.id}: {result}")
            yield result.text


def open_whisper(folder: Path) -> Reader:
    """Whisper by faster-whisper."""
    from faster_whisper import WhisperModel

    model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)

    def read(samples: NDArray[np.float32]) -> str:
        segments, _ = model.transcribe(samples, language="en")
        return " ".join(segment.text for segment in segments)

    return read


def open_pocketsphinx() -> Reader:
    """Pocketsphinx with what it brings."""
    from pocketsphinx import Decoder

    decoder = Decoder(samprate=RATE, loglevel="FATAL")

    def read(samples: NDArray[np.float32]) -> str:
        decoder.start_utt()
        pcm = np.clip(32768 * samples, -32768, 32767).astype(np.int16)
        decoder.process_raw(pcm.tobytes(), full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        return hypothesis.hypstr if hypothesis is not None else ""

    return read


def samples_of(utterance: Utterance) -> NDArray[np.float32]:
    """Of an utterance, at `RATE`."""
    samples, rate = soundfile.read(utterance.audio_filepath, dtype="float32", always_2d=True)
    first = round(utterance.offset * rate)
    last = first + round(utterance.duration * rate) if utterance.duration else len(samples)
    mono = samples[first:last].mean(axis=1)
    return librosa.resample(mono, orig_sr=rate, target_sr=RATE) if rate != RATE else mono


def report(
    name: str, utterances: Sequence[Utterance], texts: Sequence[str], seconds: float
) -> None:
    """A row: word errors with their interval, character errors, speed."""
    normalize = find_normalizer("english")
    references = {u.id: normalize(u.text or "") for u in utterances}
    hypotheses = {u.id: normalize(t) for u, t in zip(utterances, texts, strict=True)}
    words = score(references, hypotheses)
    joined = [
        {key: " ".join(text.replace(" ", "")) for key, text in side.items()}
        for side in (references, hypotheses)
    ]
    characters = score(*joined)
    interval = word_error_interval(words)
    audio = sum(u.duration for u in utterances)
    print(
        f"| {name} | {words.words.rate:.2f} {_range(interval)} | "
        f"{characters.words.rate:.2f} | {audio / seconds:.1f} |"
    )


def _range(interval: Interval | None) -> str:
    return "" if interval is None else f"[{interval.low:.2f}, {interval.high:.2f}]"


def main() -> None:
    """Print a row for each reader."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("models", type=Path, nargs="*")
    parser.add_argument("--whisper", type=Path)
    parser.add_argument("--pocketsphinx", action="store_true")
    parser.add_argument("--limit", type=int, help="Every n-th utterance, so many in all.")
    arguments = parser.parse_args()
    utterances = [
        replace(u, duration=u.duration or soundfile.info(u.audio_filepath).duration)
        for u in read_manifest(arguments.manifest)
    ]
    if arguments.limit and len(utterances) > arguments.limit:
        utterances = utterances[:: -(-len(utterances) // arguments.limit)]
    hours = sum(u.duration for u in utterances) / 3600
    print(f"{arguments.manifest}: {len(utterances)} utterances, {60 * hours:.1f} minutes")
    print("| reader | WER | CER without spaces | times real time, processor time of one thread |")
    print("|---|---|---|---|")
    for model in arguments.models:
        for label, group in (("a file at a time", False), ("in batches", True)):
            begin = time.process_time()
            texts = list(read_own(model, utterances, group))
            report(f"{model}, {label}", utterances, texts, time.process_time() - begin)
    giants: dict[str, Callable[[], Reader]] = {}
    if arguments.whisper is not None:
        giants[f"Whisper ({arguments.whisper.name})"] = lambda: open_whisper(arguments.whisper)
    if arguments.pocketsphinx:
        giants["pocketsphinx"] = open_pocketsphinx
    for name, opened in giants.items():
        read = opened()
        begin = time.process_time()
        texts = [read(samples_of(utterance)) for utterance in utterances]
        report(name, utterances, texts, time.process_time() - begin)


if __name__ == "__main__":
    main()
