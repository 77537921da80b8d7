"""Digits: connected digit strings, spoken by eSpeak NG when the data are prepared.

Nothing is downloaded; `asr.corpus.synthesis` has the voices, which train, dev and test do not
share. The split of a string is decided by a hash of it (`split_of`), so that it holds for every
seed; all ten strings of a single digit fall to train.

Oddities: the voices are formant synthesis, cleaner and more alike than people; four of five are
male, since most of eSpeak NG's variants are.
"""

import hashlib
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from asr.config import SynthesisConfig
from asr.corpus import espeak_voices, synthesis, voices

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_COMMA_SHARE = 0.1  # of the places between words, where the voice makes a phrase


class Corpus(SynthesisConfig):
    """How much is spoken, how varied, and how long the strings are."""

    num_voices: int = Field(
        300, ge=1, le=len(espeak_voices.ENGLISH) * len(espeak_voices.VARIANTS["train"])
    )
    """Training voices: pairs of accent and variant, each with a rate and pitch of its own."""
    min_words: int = Field(1, ge=1)
    """Fewest words of an utterance."""
    max_words: int = Field(7, ge=2, le=50)
    """Most words of an utterance; at least two, as one digit is no string to hold out."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} exceeds max_words {self.max_words}")
        return self


def prepare(source: Path | None, folder: Path, corpus: Corpus) -> None:  # noqa: ARG001
    """Speak train, dev and test into `folder`, with their manifests and an example.

    Args:
        source: not used; here because every recipe's `prepare` has it.
        folder: receives `<split>/<number>.wav`, `<split>.jsonl`, `example.wav`, `example.txt`.
        corpus: how much, and how varied.

    Raises:
        DataError: eSpeak NG is not installed, or fails.
    """

    def draw(
        split: voices.Split,
        voice: voices.Voice,  # noqa: ARG001
        rng: np.random.Generator,
    ) -> synthesis.Sentence:
        text = _draw_text(split, corpus, rng)
        return synthesis.Sentence(text=text, spoken=_with_commas(text, rng))

    synthesis.speak_corpus(folder, corpus, espeak_voices.ENGLISH, draw)


def split_of(text: str) -> voices.Split:
    """Where a digit string belongs: of ten, about seven to train, one to dev, two to test."""
    bucket = hashlib.sha256(text.encode()).digest()[0] % 10
    if bucket == 0:
        return "dev"
    return "test" if bucket < 3 else "train"


def _draw_text(split: voices.Split, corpus: Corpus, rng: np.random.Generator) -> str:
    while True:
        num_words = rng.integers(corpus.min_words, corpus.max_words + 1)
        text = " ".join(WORDS[digit] for digit in rng.integers(10, size=num_words))
        if split_of(text) == split:
            return text


def _with_commas(text: str, rng: np.random.Generator) -> str:
    words = text.split()
    commas = rng.random(len(words)) < _COMMA_SHARE
    commas[-1] = False
    return " ".join(word + "," * int(comma) for word, comma in zip(words, commas, strict=True))
