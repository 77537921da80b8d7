"""How far from the truth are the edges of words, where they are known exactly?

    python tools/bench/alignment.py work/digits/default/model --corpora ../shared/corpora
    python tools/bench/alignment.py english --corpora ../shared/corpora --sentences 100

Two sets of digit sequences: recordings of the Free Spoken Digit Dataset joined by 0.2 s of faint
noise, where a word is a whole file, as it was cut by hand; and eSpeak NG's sentences, where it
says itself at which sample a word begins. Printed are medians over words of signed and absolute
errors in milliseconds, of the network's own spans, of `asr align` and, where they are installed,
of other programs.

With `--sentences`, also real sentences of LibriSpeech's speakers whom the starter has not learnt
from, and of Kathleen. Their edges are not known: there, pocketsphinx's are what the others are
compared with.

Source:
    espeak-ng/speak_lib.h of eSpeak NG 1.52: the layout and types of events.
"""

import argparse
import ctypes
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from aligners import (
    SPHINX_RATE,
    Edges,
    Sphinx,
    ctc_segmentation_edges,
    missing,
    torchaudio_edges,
)
from numpy.typing import NDArray
from segmentation import SPEAKERS, Sentence, kathleen, librispeech

from asr.audio import read_audio
from asr.transcription import Recognizer, Source
from asr.transcription.aligner import Aligner
from asr.transcription.spelling import Speller

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


def real_sentences(sentences: Sequence[Sentence], sphinx: Sphinx) -> Iterator[Example]:
    """Sentences with the edges that pocketsphinx finds; those with words it lacks are left out."""
    for sentence in sentences:
        samples = read_audio(sentence.path, sample_rate=SPHINX_RATE).samples
        words = tuple(sentence.text.split())
        edges = sphinx.edges(samples, words)
        if edges is not None:
            yield Example(samples=samples, rate=SPHINX_RATE, words=words, edges=edges)


def sphinx_errors(examples: Sequence[Example], sphinx: Sphinx) -> NDArray[np.float64]:
    """Seconds of pocketsphinx's edges from the true ones, [word, two]."""
    values = []
    for example in examples:
        with Source.of_samples(example.samples, example.rate).open(SPHINX_RATE) as stream:
            edges = sphinx.edges(np.concatenate(list(stream)), example.words)
        if edges is None:
            print("left out: pocketsphinx finds no path")
        else:
            values.append(edges - example.edges)
    return np.concatenate(values)


def errors(recognizer: Recognizer, examples: Sequence[Example]) -> dict[str, NDArray[np.float64]]:
    """Seconds from the true edges [word, two], of all that use the recognizer's network.

    Prints how fast each was: seconds of audio for one of the processor.
    """
    sources = []
    for number, example in enumerate(examples):
        source = Source.of_samples(example.samples, example.rate)
        text = " ".join(example.words)
        utterance = replace(source.utterance, id=str(number), text=text)
        sources.append(replace(source, utterance=utterance))
    aligner = Aligner(recognizer)
    seconds = sum(len(example.samples) / example.rate for example in examples)
    spikes, aligned = [], []
    begin = time.process_time()
    for (_, result), example in zip(aligner.align_sources(sources), examples, strict=True):
        if isinstance(result, Exception):
            print(f"left out: {result}")
            continue
        aligned.append(np.array([(w.start, w.end) for w in result.words]) - example.edges)
    spent = {"asr align, with the network": time.process_time() - begin}
    step = recognizer.step_seconds
    speller = Speller(recognizer.tokens, "basic")
    others: dict[str, list[NDArray[np.float64]]] = {}
    begin = time.process_time()
    passages = list(recognizer.hear_sources(sources))
    spent["the network"] = time.process_time() - begin
    for passage, example in zip(passages, examples, strict=True):
        spans = aligner.find_spans(passage)
        heard = [(word[0][0].start * step, word[-1][0].end * step) for word in spans]
        spikes.append(np.array(heard) - example.edges)
        log_probs = np.concatenate([segment.log_probs for segment in passage.parts])
        words = [word.tokens for word in speller.spell(" ".join(example.words))]
        for name, find in _PEERS.items():
            begin = time.process_time()
            edges = find(recognizer, speller, log_probs, words)
            spent[name] = spent.get(name, 0.0) + time.process_time() - begin
            others.setdefault(name, []).append(edges - example.edges)
    print("times real time:", ", ".join(f"{n} {seconds / s:.0f}" for n, s in spent.items()))
    return {
        "network": np.concatenate(spikes),
        "asr align": np.concatenate(aligned),
        **{name: np.concatenate(values) for name, values in others.items()},
    }


def _by_torchaudio(
    recognizer: Recognizer,
    speller: Speller,
    log_probs: NDArray[np.float32],
    words: Sequence[Sequence[int]],
) -> Edges:
    return torchaudio_edges(log_probs, *speller.join(words), recognizer.step_seconds)


def _by_ctc_segmentation(
    recognizer: Recognizer,
    speller: Speller,
    log_probs: NDArray[np.float32],
    words: Sequence[Sequence[int]],
) -> Edges:
    del speller
    symbols = recognizer.tokens.symbols
    return ctc_segmentation_edges(log_probs, symbols, words, recognizer.step_seconds)


_PEERS = {"torchaudio": _by_torchaudio}
if "ctc_segmentation" not in missing():
    _PEERS["ctc-segmentation"] = _by_ctc_segmentation


def main() -> None:
    """Print a line for each set and method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--sentences", type=int, default=0, help="of each corpus")
    arguments = parser.parse_args()
    for name in missing():
        print(f"not installed: {name}")
    sphinx = None if "pocketsphinx" in missing() else Sphinx()
    recognizer = Recognizer.load(arguments.model, threads=1)
    folder = arguments.corpora / "fsdd" / "recordings"
    sets = {
        "FSDD, joined": list(joined_digits(folder, arguments.count, arguments.seed)),
        "eSpeak NG": list(spoken_digits(arguments.count, arguments.seed)),
    }
    if sphinx is not None and arguments.sentences:
        draw = random.Random(arguments.seed)
        chapters = librispeech(arguments.corpora / "LibriSpeech", SPEAKERS)
        corpora = {
            "LibriSpeech": [sentence for chapter in chapters for sentence in chapter],
            "Kathleen": list(kathleen(arguments.corpora / "kathleen")),
        }
        for name, sentences in corpora.items():
            chosen = draw.sample(sentences, arguments.sentences)
            begin = time.process_time()
            examples = list(real_sentences(chosen, sphinx))
            sets[f"{name}, from pocketsphinx's"] = examples
            length = sum(len(example.samples) for example in examples) / SPHINX_RATE
            speed = length / (time.process_time() - begin)
            print(f"{name}: {len(examples)} sentences, pocketsphinx {speed:.0f} times real time")
    print("set | edges by | start | start, absolute | end | end, absolute | 90 % of ends | words")
    for name, examples in sets.items():
        results = errors(recognizer, examples)
        if sphinx is not None and "pocketsphinx" not in name:
            results["pocketsphinx"] = sphinx_errors(examples, sphinx)
        for method, values in results.items():
            middle, absolute = np.median(values, axis=0), np.median(np.abs(values), axis=0)
            worst = np.percentile(np.abs(values[:, 1]), 90)
            numbers = [middle[0], absolute[0], middle[1], absolute[1], worst]
            cells = [name, method, *(f"{1000 * n:.0f}" for n in numbers), str(len(values))]
            print(" | ".join(cells), flush=True)


if __name__ == "__main__":
    main()
