"""How much of a long recording comes out of `asr align --segment`, and how much of it is wrong?

    python tools/bench/segmentation.py MODEL --corpora ../shared/corpora --minutes 60

Sentences of LibriSpeech and Kathleen are joined to one recording. In their text a tenth of the
sentences is left out, as many others are put in between, and of the words one in twenty is
another. Whose words an utterance has is known; which words it sounds is known by aligning each
true sentence by itself.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from asr.audio import read_audio
from asr.text.normalizers import normalize_basic

RATE = 16000
SPEAKERS = ("1673", "174", "2078", "1462", "2902")  # not in the training of recipes/english
DELETED, INSERTED, CHANGED = 0.1, 0.1, 0.05
GAP = 0.2  # seconds after each sentence, of faint noise
BLOCK = 40  # sentences of a reader in a row


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A recording of a corpus, of which the words are known."""

    path: Path
    text: str


@dataclass(kw_only=True)
class Book:
    """A recording, and a text that is not quite its own."""

    sentences: list[Sentence]
    bounds: list[tuple[float, float]]
    """Seconds of each sentence in the recording."""
    words: list[str] = field(default_factory=list)
    """As the text has them."""
    origins: list[tuple[int, int]] = field(default_factory=list)
    """Of each word of the text: which sentence and word was said; -1 where none was."""
    written: set[int] = field(default_factory=set)
    """Sentences that the text has."""


def librispeech(folder: Path) -> Iterator[list[Sentence]]:
    """The sentences of some speakers, by chapter."""
    for speaker in SPEAKERS:
        for transcript in sorted((folder / "dev-clean" / speaker).glob("*/*.trans.txt")):
            lines = transcript.read_text(encoding="utf-8").splitlines()
            pairs = [line.split(" ", 1) for line in lines]
            yield [
                Sentence(path=transcript.parent / f"{name}.mp3", text=text.lower())
                for name, text in pairs
            ]


def kathleen(folder: Path) -> Iterator[Sentence]:
    """One take of each prompt."""
    takes = {path.stem.rsplit("_", 1)[0]: path for path in sorted(folder.glob("data/*.txt"))}
    for path in takes.values():
        text = normalize_basic(path.read_text(encoding="utf-8").replace("-", " "))
        yield Sentence(path=path.with_suffix(".opus"), text=text)


def choose(corpora: Path, minutes: float, draw: random.Random) -> list[Sentence]:
    """Readers in turns, until there is enough."""
    chapters = list(librispeech(corpora / "LibriSpeech"))
    prompts = list(kathleen(corpora / "kathleen"))
    draw.shuffle(prompts)
    blocks = [s[i : i + BLOCK] for s in [*chapters, prompts] for i in range(0, len(s), BLOCK)]
    draw.shuffle(blocks)
    chosen, seconds = [], 0.0
    for sentence in (s for block in blocks for s in block):
        if seconds > 60 * minutes:
            break
        chosen.append(sentence)
        seconds += len(read_audio(sentence.path, sample_rate=RATE).samples) / RATE
    return chosen


def record(sentences: Sequence[Sentence], path: Path) -> list[tuple[float, float]]:
    """Write all sentences to one file; where each of them lies."""
    bounds, position = [], 0
    noise = np.random.default_rng(len(sentences))
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for sentence in sentences:
            samples = read_audio(sentence.path, sample_rate=RATE).samples
            gap = 1e-4 * noise.standard_normal(round(GAP * RATE))
            file.write(np.concatenate([samples, gap]))
            bounds.append((position / RATE, (position + len(samples)) / RATE))
            position += len(samples) + len(gap)
    return bounds


def spoil(book: Book, foreign: Sequence[str], draw: random.Random) -> None:
    """Write the text of a book with mistakes."""
    vocabulary = sorted({w for text in foreign for w in text.split()})
    strangers = iter(foreign)
    for number, sentence in enumerate(book.sentences):
        if draw.random() < INSERTED:
            words = next(strangers).split()
            book.words += words
            book.origins += [(-1, -1)] * len(words)
        if draw.random() < DELETED:
            continue
        book.written.add(number)
        for place, word in enumerate(sentence.text.split()):
            book.words.append(draw.choice(vocabulary) if draw.random() < CHANGED else word)
            book.origins.append((number, place))
