"""Digits: connected digit strings, spoken by eSpeak NG when the data are prepared.

Nothing is downloaded: the Python package `espeakng-loader` (the extra `synthesis`) brings eSpeak NG
(GPL-3) and its voices. With one version of it and one seed the audio is the same to the last bit.

Train, dev and test share no voice variant, no speaking rate and no digit string:

* a voice is an accent of English and a variant; every variant belongs to one split;
* rates (words a minute) are those of `_RATES`;
* the split of a string is decided by a hash of it (`split_of`), so that it holds for every seed;
  all ten strings of a single digit fall to train.

Train is clean and at one level: noise, reverberation and gain are drawn afresh in training. Dev and
test carry mild ones in the audio (`_distort`).

Oddities: the voices are formant synthesis, cleaner and more alike than people; four of five are
male, since most of eSpeak NG's variants are. Left out are variants that whisper, buzz or falter,
and all but one or two of those that sound the same (log-mel distance below 0.5 at equal text).
"""

import hashlib
import itertools
import json
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from pydantic import Field, model_validator

from asr.config import Settings
from asr.errors import DataError
from asr.files import open_atomic
from asr.manifest import Utterance, write_manifest

from . import speech
from .speech import Request

Split = Literal["train", "dev", "test"]
Samples = NDArray[np.float32]

_SPLITS: tuple[Split, ...] = ("train", "dev", "test")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

ACCENTS = (
    "en",  # Great Britain
    "en-us",
    "en-us-nyc",
    "en-029",  # Caribbean
    "en-gb-scotland",
    "en-gb-x-gbclan",  # Lancaster
    "en-gb-x-gbcwmd",  # West Midlands
    "en-gb-x-rp",
)

VARIANTS: dict[Split, tuple[str, ...]] = {
    "train": (
        *("Alex", "Alicia", "Andrea", "Andy", "AnxiousAndy", "Denis", "Diogo", "Gene"),
        *("Henrique", "Jacky", "Marco", "Michael", "Mike", "Mr serious", "Reed", "RicishayMax"),
        *("RicishayMax2", "RicishayMax3", "Tweaky", "adam", "anika", "announcer", "antonio"),
        *("aunty", "ed", "edward", "f2", "f3", "f5", "fast", "grandma", "grandpa", "gustave"),
        *("ian", "iven2", "iven4", "john", "klatt3", "klatt4", "m1", "m3", "m6", "m7", "m8"),
        *("marcelo", "max", "miguel", "mike2", "paul", "pedro", "rob", "robert", "sandro"),
        *("shelby", "steph"),
    ),
    "dev": ("Nguyen", "Storm", "belinda", "f1", "m5", "quincy", "travis", "victor"),
    "test": (
        *("Annie", "Lee", "Mario", "boris", "david", "f4"),
        *("linda", "m2", "m4", "norbert", "pablo"),
    ),
}

_RATES: dict[Split, tuple[int, ...]] = {
    "train": (110, 130, 150, 170, 190, 210),
    "dev": (120, 160, 200),
    "test": (100, 140, 180, 220),
}

_UTTERANCES_A_FILE = 200
_COMMA_SHARE = 0.1  # of the places between words, where the voice makes a phrase
_SILENCE = (0.05, 0.4)  # seconds, before and after
_LEVEL_DB = -26.0  # RMS of train, relative to full scale
_LEVEL_RANGE_DB = (-38.0, -18.0)  # of dev and test
_DISTORTED_SHARE = 0.5  # of dev and test, for noise and for reverberation each
_SNR_DB = (15.0, 30.0)
_REVERBERATION_TIME = (0.1, 0.4)  # seconds to -60 dB
_REVERBERANT_DB = (-15.0, -6.0)  # energy of the tail, relative to the direct sound


class Corpus(Settings):
    """How much is spoken, and how varied."""

    hours: float = Field(1.0, gt=0)
    """Hours of training speech."""
    num_dev: int = Field(300, ge=1)
    """Dev utterances."""
    num_test: int = Field(500, ge=1)
    """Test utterances."""
    num_voices: int = Field(300, ge=1, le=len(ACCENTS) * len(VARIANTS["train"]))
    """Training voices: pairs of accent and variant, each with a rate and pitch of its own."""
    min_words: int = Field(1, ge=1)
    """Fewest words of an utterance."""
    max_words: int = Field(7, ge=2, le=50)
    """Most words of an utterance; at least two, as one digit is no string to hold out."""
    sample_rate: int = Field(8000, ge=8000, le=48000)
    """Hz."""
    seed: int = Field(1, ge=0)
    """Of everything drawn."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} exceeds max_words {self.max_words}")
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Voice:
    """An accent and variant, and how it speaks."""

    accent: str
    variant: str
    rate: int
    pitch: int
    pitch_range: int

    @property
    def name(self) -> str:
        """What eSpeak NG calls it."""
        return f"{self.accent}+{self.variant}"


def download(target: Path) -> None:
    """Nothing: the speech is made by `prepare`."""
    target.mkdir(parents=True, exist_ok=True)


def prepare(source: Path | None, folder: Path, corpus: Corpus) -> None:  # noqa: ARG001
    """Speak train, dev and test into `folder`, with their manifests and an example.

    Args:
        source: not used; here because every recipe's `prepare` has it.
        folder: receives `<split>/<number>.wav`, `<split>.jsonl`, `example.wav`, `example.txt`.
        corpus: how much, and how varied.

    Raises:
        DataError: eSpeak NG is not installed, or fails.
    """
    if find_spec("espeakng_loader") is None:
        raise DataError(
            "digits: eSpeak NG, which speaks this corpus, is not installed; "
            "pip install espeakng-loader (the extra asr[synthesis])"
        )
    for split in _SPLITS:
        utterances = _speak_split(split, folder, corpus)
        write_manifest(utterances, folder / f"{split}.jsonl")
    _write_example(utterances, folder)


def split_of(text: str) -> Split:
    """Where a digit string belongs: of ten, about seven to train, one to dev, two to test."""
    bucket = hashlib.sha256(text.encode()).digest()[0] % 10
    if bucket == 0:
        return "dev"
    return "test" if bucket < 3 else "train"


def voices(split: Split, corpus: Corpus, rng: np.random.Generator) -> list[Voice]:
    """Every accent with every variant of the split, in random order; of train `num_voices`."""
    pairs = [(accent, variant) for variant in VARIANTS[split] for accent in ACCENTS]
    chosen = [pairs[index] for index in rng.permutation(len(pairs))]
    if split == "train":
        chosen = chosen[: corpus.num_voices]
    return [
        Voice(
            accent=accent,
            variant=variant,
            rate=int(rng.choice(_RATES[split])),
            pitch=int(rng.integers(30, 71)),
            pitch_range=int(rng.integers(20, 81)),
        )
        for accent, variant in chosen
    ]


def _speak_split(split: Split, folder: Path, corpus: Corpus) -> list[Utterance]:
    utterances: list[Utterance] = []
    spoken = _speech(split, corpus)
    while batch := list(itertools.islice(spoken, _UTTERANCES_A_FILE)):
        path = folder / split / f"{len(utterances) // _UTTERANCES_A_FILE:03d}.wav"
        num_before = 0
        for text, voice, samples in batch:
            utterances.append(
                Utterance(
                    id=f"{split}-{len(utterances):05d}",
                    audio_filepath=path,
                    offset=num_before / corpus.sample_rate,
                    duration=len(samples) / corpus.sample_rate,
                    text=text,
                    speaker=voice.name.replace(" ", "_"),
                )
            )
            num_before += len(samples)
        _write_wav(np.concatenate([samples for *_, samples in batch]), path, corpus.sample_rate)
    return utterances


def _speech(split: Split, corpus: Corpus) -> Iterator[tuple[str, Voice, NDArray[np.int16]]]:
    """Text, voice and samples, until there is enough of the split."""
    rng = np.random.default_rng([corpus.seed, _SPLITS.index(split)])
    cast = voices(split, corpus, rng)
    num_wanted = {"dev": corpus.num_dev, "test": corpus.num_test}.get(split)
    samples_wanted = corpus.hours * 3600 * corpus.sample_rate
    count = num_samples = 0
    with _speaker(int(rng.integers(2**31))) as say:
        while num_samples < samples_wanted if num_wanted is None else count < num_wanted:
            voice = cast[count % len(cast)]
            text = _draw_text(split, corpus, rng)
            spoken = say(_request(text, voice, rng), corpus.sample_rate)
            samples = _finish(spoken, split, corpus.sample_rate, rng)
            yield text, voice, samples
            count += 1
            num_samples += len(samples)


def _draw_text(split: Split, corpus: Corpus, rng: np.random.Generator) -> str:
    while True:
        num_words = rng.integers(corpus.min_words, corpus.max_words + 1)
        text = " ".join(WORDS[digit] for digit in rng.integers(10, size=num_words))
        if split_of(text) == split:
            return text


def _request(text: str, voice: Voice, rng: np.random.Generator) -> Request:
    words = text.split()
    commas = rng.random(len(words)) < _COMMA_SHARE
    commas[-1] = False
    return Request(
        text=" ".join(word + "," * int(comma) for word, comma in zip(words, commas, strict=True)),
        voice=voice.name,
        rate=voice.rate,
        pitch=voice.pitch,
        pitch_range=voice.pitch_range,
        word_gap=int(rng.integers(0, 9)),
    )


@contextmanager
def _speaker(seed: int) -> Iterator[Callable[[Request, int], Samples]]:
    """A function from a request and a sample rate to samples in [-1, 1]."""
    command = [sys.executable, str(Path(speech.__file__)), str(seed)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as program:
        assert program.stdin
        assert program.stdout
        assert program.stderr
        requests, answers, errors = program.stdin, program.stdout, program.stderr

        def read(num_bytes: int) -> bytes:
            answer = answers.read(num_bytes)
            if len(answer) < num_bytes:
                *_, reason = ["no reason given", *errors.read().decode().splitlines()]
                raise DataError(f"digits: eSpeak NG stopped: {reason}")
            return answer

        def say(request: Request, sample_rate: int) -> Samples:
            requests.write(json.dumps(asdict(request)).encode() + b"\n")
            requests.flush()
            (num_samples,) = struct.unpack("<i", read(4))
            if num_samples <= 0:
                raise DataError(f"digits: this eSpeak NG has no voice {request.voice!r}")
            samples = np.frombuffer(read(2 * num_samples), np.int16).astype(np.float32) / 32768
            resampled: Samples = soxr.resample(samples, spoken_rate, sample_rate)
            return resampled

        try:
            (spoken_rate,) = struct.unpack("<i", read(4))
            yield say
        finally:
            program.kill()


def _finish(
    spoken: Samples, split: Split, sample_rate: int, rng: np.random.Generator
) -> NDArray[np.int16]:
    before, after = (int(rng.uniform(*_SILENCE) * sample_rate) for _ in range(2))
    samples = np.pad(spoken, (before, after))
    level_db = _LEVEL_DB
    if split != "train":
        samples = _distort(samples, sample_rate, rng)
        level_db = rng.uniform(*_LEVEL_RANGE_DB)
    samples *= 10 ** (level_db / 20) / np.sqrt(np.mean(spoken**2))
    # A peak that would clip lowers the utterance instead.
    samples *= min(1.0, 0.99 / np.abs(samples).max())
    return np.round(samples * 32767).astype(np.int16)


def _distort(samples: Samples, sample_rate: int, rng: np.random.Generator) -> Samples:
    """Reverberation, then noise, each on a share of the utterances.

    The room is a direct path and a Gaussian tail with exponential decay; the noise is Gaussian,
    with a spectrum that falls by 0 to 6 dB an octave.
    """
    power = np.mean(samples**2)
    if rng.random() < _DISTORTED_SHARE:
        decay_time = rng.uniform(*_REVERBERATION_TIME)
        time = np.arange(int(decay_time * sample_rate)) / sample_rate
        tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / decay_time)
        tail *= np.sqrt(10 ** (rng.uniform(*_REVERBERANT_DB) / 10) / np.sum(tail**2))
        tail[0] = 1.0
        samples = _filter(samples, np.fft.rfft(tail, 2 * len(samples)))
    if rng.random() < _DISTORTED_SHARE:
        bins = np.arange(1, len(samples) + 2)
        noise = _filter(rng.standard_normal(len(samples)), bins ** -rng.uniform(0, 1))
        noise *= np.sqrt(power / 10 ** (rng.uniform(*_SNR_DB) / 10) / np.mean(noise**2))
        samples = samples + noise
    return samples


def _filter(samples: NDArray[Any], response: NDArray[Any]) -> NDArray[Any]:
    """Samples times a response at the `len(samples) + 1` frequencies of twice their length."""
    spectrum = np.fft.rfft(samples, 2 * len(samples)) * response
    filtered: NDArray[Any] = np.fft.irfft(spectrum, 2 * len(samples))[: len(samples)]
    return filtered


def _write_wav(samples: NDArray[np.int16], path: Path, sample_rate: int) -> None:
    with open_atomic(path, "wb") as file:
        soundfile.write(file, samples, sample_rate, format="WAV", subtype="PCM_16")


def _write_example(utterances: Sequence[Utterance], folder: Path) -> None:
    """One test utterance with at least four words, or else the longest, by itself."""
    longest = max(utterances, key=lambda utterance: utterance.duration)
    example = next((u for u in utterances if len(str(u.text).split()) >= 4), longest)
    sample_rate = soundfile.info(example.audio_filepath).samplerate
    start, length = round(example.offset * sample_rate), round(example.duration * sample_rate)
    samples, _ = soundfile.read(example.audio_filepath, length, start, dtype="int16")
    _write_wav(samples, folder / "example.wav", sample_rate)
    with open_atomic(folder / "example.txt") as file:
        file.write(f"{example.text}\n")
