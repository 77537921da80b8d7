"""How much of a long recording comes out of `asr align --segment`, and how much of it is wrong?

    python tools/bench/segmentation.py MODEL --corpora ../shared/corpora --minutes 60

Sentences of LibriSpeech and Kathleen are joined to one recording. In their text a tenth of the
sentences is left out, as many others are put in between, and of the words one in twenty is
another. Whose words an utterance has is known; which words it sounds is known by aligning each
true sentence by itself.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.audio import read_audio
from asr.text.normalizers import normalize_basic
from asr.transcription import Recognizer, Source
from asr.transcription.aligner import Aligner

RATE = 16000
SPEAKERS = ("1673", "174", "2078", "1462", "2902")  # not in the training of recipes/english
DELETED, INSERTED, CHANGED = 0.1, 0.1, 0.05
GAP = 0.2  # seconds after each sentence, of faint noise
EDGE = 0.15  # seconds
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


def librispeech(
    folder: Path, speakers: Sequence[str], *, unlike: bool = False
) -> Iterator[list[Sentence]]:
    """The sentences of some speakers, or of all others, by chapter."""
    for transcript in sorted((folder / "dev-clean").glob("*/*/*.trans.txt")):
        if (transcript.parents[1].name in speakers) != unlike:
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
    chapters = list(librispeech(corpora / "LibriSpeech", SPEAKERS))
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


def word_times(model: Path, sentences: Sequence[Sentence]) -> list[NDArray[np.float64]]:
    """Middles of the words of each true sentence in seconds from its start."""
    sources = []
    for number, sentence in enumerate(sentences):
        source = Source.of_file(sentence.path)
        utterance = replace(source.utterance, id=str(number), text=sentence.text)
        sources.append(replace(source, utterance=utterance))
    aligner = Aligner(Recognizer.load(model, threads=1))
    times = []
    for _, result in aligner.align_sources(sources):
        if isinstance(result, Exception):
            raise result
        times.append(np.array([(word.start + word.end) / 2 for word in result.words]))
    return times


def places_in_text(rows: Sequence[dict[str, Any]], words: Sequence[str]) -> Iterator[slice]:
    """Which words of the text each utterance has; utterances are in its order."""
    first = 0
    for row in rows:
        said = row["text"].split()
        while words[first : first + len(said)] != said:
            first += 1
        yield slice(first, first + len(said))
        first += len(said)


def judge(
    utterances: Sequence[tuple[dict[str, Any], slice]],
    book: Book,
    times: Sequence[NDArray[np.float64]],
) -> tuple[float, int]:
    """Share of the recoverable speech that comes out, and the number of wrong utterances.

    Args:
        utterances: rows of the manifest, each with its place in the text.
        book: what was read and written.
        times: middles of the words of each sentence, in seconds.

    An utterance is right if the words of its text are those that sound in it, one by one; a word
    that was changed in the text counts as the one that was said. A word whose middle is less than
    0.15 s from a cut may be on either side: there is a pause at the cut, and its time is wrong.
    """
    sounding = sorted(
        (book.bounds[number][0] + time, (number, place))
        for number, middles in enumerate(times)
        for place, time in enumerate(middles)
    )
    moments = [moment for moment, _ in sounding]
    num_wrong, seconds = 0, 0.0
    for row, place in utterances:
        start, end = row.get("offset", 0.0), row.get("offset", 0.0) + row["duration"]
        written = book.origins[place]
        choices = [
            [key for _, key in sounding[bisect_left(moments, a) : bisect_right(moments, b)]]
            for a in (start - EDGE, start, start + EDGE)
            for b in (end - EDGE, end, end + EDGE)
        ]
        if written in choices:
            seconds += end - start
        else:
            num_wrong += 1
            print(f"wrong: {row['id']} ({row['score']})")
            print(f"  text: {row['text']}")
            said = [book.sentences[n].text.split()[k] for n, k in choices[4]]
            print(f"  said: {' '.join(said)}")
    written = sum(book.bounds[n][1] - book.bounds[n][0] for n in book.written)
    return seconds / written, num_wrong


def main() -> None:
    """Print what comes out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    sentences = choose(arguments.corpora, arguments.minutes, draw)
    chapters = librispeech(arguments.corpora / "LibriSpeech", SPEAKERS, unlike=True)
    foreign = [sentence.text for chapter in chapters for sentence in chapter]
    draw.shuffle(foreign)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        book = Book(sentences=sentences, bounds=record(sentences, folder / "book.wav"))
        spoil(book, foreign, draw)
        (folder / "book.txt").write_text(" ".join(book.words), encoding="utf-8")
        command = [sys.executable, "-m", "asr", "align", str(arguments.model), "book.wav"]
        command += ["book.txt", "--segment", "new.jsonl", "--threads", "1"]
        begin = time.monotonic()
        subprocess.run(command, cwd=folder, check=True)
        seconds = time.monotonic() - begin
        lines = (folder / "new.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    times = word_times(arguments.model, sentences)
    placed = list(zip(rows, places_in_text(rows, book.words), strict=True))
    for least in (0.0, 0.2, 0.3):
        kept = [(row, place) for row, place in placed if row["score"] >= least]
        share, num_wrong = judge(kept, book, times)
        print(
            f"score from {least:g}: {len(kept)} utterances, {share:.1%} of the speech that the "
            f"text has, {num_wrong} wrong ({num_wrong / len(kept):.1%})"
        )
    length = book.bounds[-1][1]
    print(f"{length / 60:.0f} min in {seconds:.0f} s, peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
