"""English from several free corpora, joined by weight: what a base model is trained on.

    LibriSpeech/              published subsets; train, dev and test as recipes/librispeech has them
    LibriSpeech-3-speakers/   train-clean-100 or some speakers of it, to train on
    librispeech-250/          further utterances of train-clean-100 with machine transcripts, in
                              `pseudo.jsonl`; to train on
    speechocean762/           train, dev and test as recipes/speechocean762 has them
    commonvoice/en/           `validated.tsv` and `clips` of Common Voice, to train on

Voices may speak sentences of a text beside them (`corpus.sentences`), to train on.

Each corpus with a dev and a test set is prepared by its own recipe's functions, speakers and all,
so that error rates compare. `train.jsonl` joins the training sets: a corpus of weight 2 stands in
it twice. `dev.jsonl` joins the dev sets, and chooses the epoch.

Texts are lower case, of the letters a to z and the apostrophe. A speaker's name begins with the
name of the corpus, since corpora number their speakers alike; nobody of a dev or test set is
trained on.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import Field

from asr.config import Settings, SynthesisConfig
from asr.corpus import (
    Utterance,
    manifest,
    read_manifest,
    synthesis,
    voices,
    write_manifest,
)
from asr.corpus.formats import import_corpus
from asr.errors import DataError
from asr.progress import Report, silent
from asr.text import find_normalizer, read_lines

# By their place: the folder of recipes is part of another package where the program is installed.
from ..librispeech import corpus as librispeech_corpus  # noqa: TID252
from ..speechocean762 import corpus as speechocean762_corpus  # noqa: TID252

PARTS = ("librispeech", "speechocean762")
"""The corpora that have a dev and a test set."""

FOLDERS = {
    "librispeech": "LibriSpeech",
    "librispeech_3_speakers": "LibriSpeech-3-speakers",
    "librispeech_250": "librispeech-250",
    "speechocean762": "speechocean762",
    "commonvoice": "commonvoice/en",
}
"""Where each corpus is, in the folder that holds them all."""
_LETTERS = re.compile(r"[a-z' ]*")
_SENTENCE_WORDS = (8, 30)  # that a voice speaks at once: 3 to 12 s
_ACCENTS = ("en-us", "en")  # of voices, as most readers of the corpora have them


class Weights(Settings):
    """How many times each corpus stands in the training set; 0 leaves it out."""

    librispeech: int = Field(2, ge=0, le=100)
    """The training set that `corpus.librispeech` describes."""
    librispeech_3_speakers: int = Field(2, ge=0, le=100)
    """Some speakers of train-clean-100."""
    librispeech_250: int = Field(2, ge=0, le=100)
    """Speech with machine transcripts."""
    speechocean762: int = Field(1, ge=0, le=100)
    """The training set that `corpus.speechocean762` describes."""
    commonvoice: int = Field(2, ge=0, le=100)
    """Clips of Common Voice."""
    synthetic: int = Field(0, ge=0, le=100)
    """Sentences of `corpus.sentences`, by voices."""


class Corpus(Settings):
    """What is trained on, and who is kept out of it."""

    weights: Weights = Weights()
    """Of each corpus in the training set."""
    librispeech: librispeech_corpus.Corpus = librispeech_corpus.Corpus(
        train=("dev-clean",), num_dev_speakers=2, num_test_speakers=3, all_speakers=False
    )
    """Subsets and speakers, as in recipes/librispeech."""
    speechocean762: speechocean762_corpus.Corpus = speechocean762_corpus.Corpus(
        num_test_speakers=15
    )
    """Speakers, as in recipes/speechocean762."""
    min_confidence: float = Field(0.75, ge=0, le=1)
    """Machine transcripts that say that they are less sure are left out."""
    sentences: Path | None = None
    """A text for voices to speak, a sentence a line; those of 8 to 30 words are drawn."""
    synthetic: SynthesisConfig = SynthesisConfig(sample_rate=16000)
    """Who speaks them, and how much."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sets:
    """What a corpus gives."""

    train: Sequence[Utterance]
    dev: Sequence[Utterance] = ()
    test: Sequence[Utterance] = ()


def download(target: Path, corpus: Corpus) -> None:
    """Fetch LibriSpeech's subsets and speechocean762 into `target`.

    Raises:
        DataError: no network, another archive than expected, or a corpus that is asked for and has
            no address to fetch it from.
    """
    missing = [name for name, weight in corpus.weights if weight and name in FOLDERS.keys() - PARTS]
    if missing:
        without = " ".join(f"corpus.weights.{name}=0" for name in missing)
        raise DataError(
            f"{', '.join(missing)}: cannot be downloaded; name a folder that holds "
            f"{', '.join(FOLDERS[name] for name in missing)} with --corpus DIR, or leave them out "
            f"with --conf published or --set {without}"
        )
    if corpus.weights.librispeech:
        librispeech_corpus.download(target / FOLDERS["librispeech"], corpus.librispeech.subsets)
    if corpus.weights.speechocean762:
        speechocean762_corpus.download(target / FOLDERS["speechocean762"])


def prepare(source: Path, folder: Path, corpus: Corpus, report: Report = silent) -> None:
    """Write `train.jsonl`, `dev.jsonl`, and `<corpus>/dev.jsonl` and `test.jsonl` into `folder`.

    Args:
        source: the folder that holds the corpora, or a download.
        folder: for the manifests.
        corpus: weights, and who is in which set.
        report: told how much each corpus gives.

    Raises:
        DataError: a corpus is missing, or is not as its own recipe expects it; a text with other
            characters than a to z and the apostrophe; a speaker of dev or test in train; no
            sentences for voices to speak, or no voices.
    """
    if corpus.weights.synthetic and corpus.sentences is None:
        raise DataError(
            "corpus.weights.synthetic is above 0: name a text for the voices to speak, a sentence "
            "a line, with --set corpus.sentences=FILE"
        )
    for name, weight in corpus.weights:
        if weight and name in FOLDERS and not (source / FOLDERS[name]).is_dir():
            raise DataError(
                f"{source}: no {FOLDERS[name]}; name the folder that holds it with --corpus DIR, "
                f"or leave it out with --set corpus.weights.{name}=0"
            )
    sets = {
        name: _name_speakers(name, _read(name, source, folder, corpus, report))
        for name, weight in corpus.weights
        if weight
    }
    if not any(sets[name].dev for name in sets):
        raise DataError(
            "no dev set: corpus.weights.librispeech or corpus.weights.speechocean762 must be above "
            "0"
        )
    weights = dict(corpus.weights)
    labelled = {
        u.id for name, given in sets.items() if name != "librispeech_250" for u in given.train
    }
    train: list[Utterance] = []
    for name, given in sets.items():
        utterances = given.train
        if name == "librispeech_250":
            utterances = [u for u in utterances if u.id not in labelled]
        train += _repeat(utterances, weights[name])
        report(_describe(name, utterances, given, weights[name]))
    dev = [utterance for given in sets.values() for utterance in given.dev]
    test = [utterance for given in sets.values() for utterance in given.test]
    _check(train, dev, test)
    write_manifest(train, folder / "train.jsonl")
    write_manifest(dev, folder / "dev.jsonl")


def _read(name: str, corpora: Path, folder: Path, corpus: Corpus, report: Report) -> _Sets:
    if name == "synthetic":
        return _Sets(train=_speak(folder / name, corpus))
    source = corpora / FOLDERS[name]
    if name == "librispeech":
        librispeech_corpus.prepare(source, folder / name, corpus.librispeech)
    elif name == "speechocean762":
        speechocean762_corpus.prepare(source, folder / name, corpus.speechocean762)
    elif name == "librispeech_3_speakers":
        return _Sets(
            train=librispeech_corpus.read_subset(source, "train-clean-100", all_speakers=False)
        )
    elif name == "librispeech_250":
        machine = manifest.read_confidences(source / "pseudo.jsonl")
        sure = [u for u, confidence in machine if confidence >= corpus.min_confidence]
        return _Sets(train=sure)
    else:
        return _Sets(train=list(_read_common_voice(source / "validated.tsv", report)))
    return _Sets(**{split: read_manifest(folder / name / f"{split}.jsonl") for split in _SPLITS})


_SPLITS = ("train", "dev", "test")


def _read_common_voice(path: Path, report: Report) -> Iterator[Utterance]:
    normalize = find_normalizer("basic")
    for utterance in import_corpus(path, "common-voice", report):
        yield replace(utterance, text=normalize(utterance.text or ""))


def _speak(folder: Path, corpus: Corpus) -> list[Utterance]:
    """Sentences of the text in an order by seed, each once before any comes again."""
    assert corpus.sentences is not None
    shortest, longest = _SENTENCE_WORDS
    sentences = [
        line.strip()
        for _, line in read_lines(corpus.sentences)
        if shortest <= len(line.split()) <= longest and _LETTERS.fullmatch(line.strip())
    ]
    if not sentences:
        raise DataError(
            f"{corpus.sentences}: no line of {shortest} to {longest} words of the letters a to z "
            "and the apostrophe"
        )
    order = np.random.default_rng(corpus.synthetic.seed).permutation(len(sentences)).tolist()
    places = itertools.cycle(order)

    def draw(
        split: voices.Split, voice: voices.Voice, rng: np.random.Generator
    ) -> synthesis.Sentence:
        del split, voice, rng
        sentence = sentences[next(places)]
        return synthesis.Sentence(text=sentence, spoken=sentence)

    return synthesis.speak_training_set(folder, corpus.synthetic, _ACCENTS, draw)


def _name_speakers(name: str, sets: _Sets) -> _Sets:
    """With the name of their corpus; all of LibriSpeech numbers its speakers together."""
    first = name.partition("_")[0]

    def named(utterances: Iterable[Utterance]) -> list[Utterance]:
        return [replace(u, speaker=f"{first}-{u.speaker}") for u in utterances]

    return _Sets(train=named(sets.train), dev=named(sets.dev), test=named(sets.test))


def _repeat(utterances: Sequence[Utterance], weight: int) -> list[Utterance]:
    """All of them `weight` times, from the second time on with a number at the id."""
    repeated = [replace(u, id=f"{u.id}-{n}") for n in range(2, weight + 1) for u in utterances]
    return [*utterances, *repeated]


def _describe(name: str, train: Sequence[Utterance], sets: _Sets, weight: int) -> str:
    parts = {"train": train, "dev": sets.dev, "test": sets.test}
    amounts = ", ".join(
        f"{split} {len(utterances)} utterances, "
        f"{sum(u.duration for u in utterances) / 3600:.2f} h, "
        f"{len({u.speaker for u in utterances})} speakers"
        for split, utterances in parts.items()
        if utterances
    )
    machine = " (machine transcripts)" if name == "librispeech_250" else ""
    return f"{name}{machine}, weight {weight}: {amounts}"


def _check(train: Sequence[Utterance], dev: Sequence[Utterance], test: Sequence[Utterance]) -> None:
    speakers: Mapping[str, set[str | None]] = {
        "dev": {u.speaker for u in dev},
        "test": {u.speaker for u in test},
    }
    for name, held_out in speakers.items():
        for utterance in train:
            if utterance.speaker in held_out:
                raise DataError(
                    f"{utterance.audio_filepath}: speaker {utterance.speaker} is in train and in "
                    f"{name}"
                )
    for utterance in (*train, *dev, *test):
        text = utterance.text or ""
        if not text.strip() or not _LETTERS.fullmatch(text):
            raise DataError(
                f"{utterance.audio_filepath}: {text!r} is not of the letters a to z and the "
                "apostrophe"
            )
