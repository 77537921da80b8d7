"""How far from the truth are the edges of words, where they are known exactly?

    python tools/bench/alignment.py work/digits/default/model --corpora ../shared/corpora

Two sets of digit sequences: recordings of the Free Spoken Digit Dataset joined by 0.2 s of faint
noise, where a word is a whole file, as it was cut by hand; and eSpeak NG's sentences, where it
says itself at which sample a word begins. Printed are medians over words of signed and absolute
errors in milliseconds, of the network's own spans and of `asr align`.

Source:
    espeak-ng/speak_lib.h of eSpeak NG 1.52: the layout and types of events.
"""

import argparse
import ctypes
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.transcription import Recognizer, Source
from asr.transcription.aligner import Aligner

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
LENGTH = 6  # words
GAP = 0.2  # seconds
VOICES = ("en-us", "en-gb", "en-us+f3", "en-gb+m3", "en-us+m7", "en-gb+f2", "en-us+f5")


@dataclass(frozen=True, kw_only=True)
class Example:
    """A recording with the edges of its words."""

    samples: NDArray[np.float32]
    rate: int
    words: tuple[str, ...]
    edges: NDArray[np.float64]
    """[word, two], in seconds."""


def joined_digits(folder: Path, count: int, seed: int) -> Iterator[Example]:
    """Recorded digits of one speaker each, with faint noise between."""
    draw = random.Random(seed)
    noise = np.random.default_rng(seed)
    speakers = sorted({path.stem.split("_")[1] for path in folder.glob("*.wav")})
    for _ in range(count):
        speaker = draw.choice(speakers)
        words = [draw.randrange(10) for _ in range(LENGTH)]
        parts: list[NDArray[Any]] = []
        edges, position = [], 0
        for digit in words:
            path = folder / f"{digit}_{speaker}_{draw.randrange(50)}.wav"
            samples, rate = soundfile.read(path, dtype="float32")
            silence = 1e-4 * noise.standard_normal(round(GAP * rate))
            position += len(silence)
            edges.append((position / rate, (position + len(samples)) / rate))
            position += len(samples)
            parts += [silence, samples]
        parts.append(1e-4 * noise.standard_normal(round(GAP * rate)))
        yield Example(
            samples=np.concatenate(parts).astype(np.float32),
            rate=rate,
            words=tuple(WORDS[digit] for digit in words),
            edges=np.array(edges),
        )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_int),
        ("padding", ctypes.c_int),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)
_LIST_TERMINATED, _WORD, _PHONEME = 0, 1, 7


def spoken_digits(count: int, seed: int) -> Iterator[Example]:
    """eSpeak NG's sentences; a word ends where the next one begins."""
    import espeakng_loader

    library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
    data = os.fsencode(espeakng_loader.get_data_path())
    rate = library.espeak_Initialize(1, 0, data, 0x8001)  # synchronous; phoneme events, no exit
    audio, events = bytearray(), []

    def receive(samples: Any, num_samples: int, first: Any) -> int:
        if samples and num_samples > 0:
            audio.extend(ctypes.string_at(samples, 2 * num_samples))
        place = 0
        while first[place].type != _LIST_TERMINATED:
            events.append((first[place].type, first[place].sample))
            place += 1
        return 0

    callback = _CALLBACK(receive)
    library.espeak_SetSynthCallback(callback)
    draw = random.Random(seed)
    for _ in range(count):
        words = [WORDS[draw.randrange(10)] for _ in range(LENGTH)]
        library.espeak_SetVoiceByName(draw.choice(VOICES).encode())
        library.espeak_SetParameter(1, draw.randrange(130, 190), 0)
        audio.clear()
        events.clear()
        text = " ".join(words).encode()
        size = ctypes.c_size_t(len(text) + 1)
        library.espeak_Synth(text, size, 0, 1, 0, 1, None, None)
        library.espeak_Synchronize()
        starts = [sample for kind, sample in events if kind == _WORD]
        end = [sample for kind, sample in events if kind == _PHONEME][-2]  # then comes a pause
        bounds = np.array([*starts, end]) / rate
        yield Example(
            samples=np.frombuffer(bytes(audio), np.int16).astype(np.float32) / 32768,
            rate=rate,
            words=tuple(words),
            edges=np.stack([bounds[:-1], bounds[1:]], axis=1),
        )


def errors(recognizer: Recognizer, examples: Sequence[Example]) -> dict[str, NDArray[np.float64]]:
    """Seconds from the true edges [word, two], of the network's spans and of the aligner's."""
    sources = []
    for number, example in enumerate(examples):
        source = Source.of_samples(example.samples, example.rate)
        text = " ".join(example.words)
        utterance = replace(source.utterance, id=str(number), text=text)
        sources.append(replace(source, utterance=utterance))
    aligner = Aligner(recognizer)
    spikes, aligned = [], []
    for (_, result), example in zip(aligner.align_sources(sources), examples, strict=True):
        if isinstance(result, Exception):
            print(f"left out: {result}")
            continue
        aligned.append(np.array([(w.start, w.end) for w in result.words]) - example.edges)
    step = recognizer.step_seconds
    for passage, example in zip(recognizer.hear_sources(sources), examples, strict=True):
        words = aligner.find_spans(passage)
        spans = [(word[0][0].start * step, word[-1][0].end * step) for word in words]
        spikes.append(np.array(spans) - example.edges)
    return {"network": np.concatenate(spikes), "asr align": np.concatenate(aligned)}


def main() -> None:
    """Print a line for each set and method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=11)
    arguments = parser.parse_args()
    recognizer = Recognizer.load(arguments.model, threads=1)
    folder = arguments.corpora / "fsdd" / "recordings"
    sets = {
        "FSDD, joined": list(joined_digits(folder, arguments.count, arguments.seed)),
        "eSpeak NG": list(spoken_digits(arguments.count, arguments.seed)),
    }
    print("set | edges by | start | start, absolute | end | end, absolute | 90 % of ends")
    for name, examples in sets.items():
        for method, values in errors(recognizer, examples).items():
            middle, absolute = np.median(values, axis=0), np.median(np.abs(values), axis=0)
            worst = np.percentile(np.abs(values[:, 1]), 90)
            numbers = [middle[0], absolute[0], middle[1], absolute[1], worst]
            print(" | ".join([name, method, *(f"{1000 * n:.0f}" for n in numbers)]))


if __name__ == "__main__":
    main()
