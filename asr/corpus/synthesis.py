"""Speech from text, by eSpeak NG's voices: corpora for trying out, and for lack of recordings.

The Python package `espeakng-loader` (the extra `synthesis`) brings eSpeak NG (GPL-3) and its
voices, which speak in a process of their own (`asr.corpus.espeak`). With one version of it and one
seed the audio is the same to the last bit.

Train, dev and test share no voice variant and no speaking rate:

* a voice is an accent or language and a variant; every variant belongs to one split;
* rates (words a minute) are those of `_RATES`.

Train is clean and at one level: noise, reverberation and gain are drawn afresh in training. Dev and
test carry mild ones in the audio (`_distort`).

Left out are variants that whisper, buzz or falter, and all but one or two of those that sound the
same (log-mel distance below 0.5 at equal text).
"""

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
from typing import Any, Literal

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from asr.audio import Samples
from asr.config import SynthesisConfig
from asr.corpus import espeak
from asr.corpus.espeak import Request
from asr.corpus.manifest import Utterance, write_manifest
from asr.errors import DataError
from asr.files import open_atomic

Split = Literal["train", "dev", "test"]

SPLITS: tuple[Split, ...] = ("train", "dev", "test")

ENGLISH = (
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
_LEVEL_DB = -26.0  # RMS of train, relative to full scale
_LEVEL_RANGE_DB = (-38.0, -18.0)  # of dev and test
_DISTORTED_SHARE = 0.5  # of dev and test, for noise and for reverberation each
_SNR_DB = (15.0, 30.0)
_REVERBERATION_TIME = (0.1, 0.4)  # seconds to -60 dB
_REVERBERANT_DB = (-15.0, -6.0)  # energy of the tail, relative to the direct sound


@dataclass(frozen=True, kw_only=True, slots=True)
class Voice:
    """An accent or language and a variant, and how it speaks."""

    accent: str
    variant: str
    rate: int
    pitch: int
    pitch_range: int

    @property
    def name(self) -> str:
        """What eSpeak NG calls the voice."""
        return f"{self.accent}+{self.variant}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sentence:
    """What a voice is to say."""

    text: str
    """The transcript."""
    spoken: str
    """What eSpeak NG is given: the text, with its punctuation, or spelled for a voice."""


Draw = Callable[[Split, Voice, np.random.Generator], Sentence]
"""Draws what a voice is to say next."""


def speak_corpus(folder: Path, config: SynthesisConfig, accents: Sequence[str], draw: Draw) -> None:
    """Speak train, dev and test into `folder`, with their manifests and an example.

    Args:
        folder: receives `<split>/<number>.wav`, `<split>.jsonl`, `example.wav`, `example.txt`.
        accents: eSpeak NG's names of accents and languages; each is spoken by all variants.
        draw: the sentences; what makes those of a split its own.

    Raises:
        DataError: eSpeak NG is not installed, fails, or has no such accent.
    """
    for split in SPLITS:
        utterances = speak_split(split, folder, config, accents, draw)
        write_manifest(utterances, folder / f"{split}.jsonl")
    _write_example(utterances, folder)


def speak_split(
    split: Split, folder: Path, config: SynthesisConfig, accents: Sequence[str], draw: Draw
) -> list[Utterance]:
    """Speak one split into `<split>/<number>.wav` below `folder`; as `speak_corpus`."""
    if find_spec("espeakng_loader") is None:
        raise DataError(
            f"{folder.name}: eSpeak NG, which is to speak, is not installed; "
            "pip install espeakng-loader (the extra asr-recipes[synthesis])"
        )
    utterances: list[Utterance] = []
    spoken = _speech(split, config, accents, draw)
    while batch := list(itertools.islice(spoken, _UTTERANCES_A_FILE)):
        path = folder / split / f"{len(utterances) // _UTTERANCES_A_FILE:03d}.wav"
        num_before = 0
        for text, voice, samples in batch:
            utterances.append(
                Utterance(
                    id=f"{split}-{len(utterances):05d}",
                    audio_filepath=path,
                    offset=num_before / config.sample_rate,
                    duration=len(samples) / config.sample_rate,
                    text=text,
                    speaker=voice.name.replace(" ", "_"),
                )
            )
            num_before += len(samples)
        _write_wav(np.concatenate([samples for *_, samples in batch]), path, config.sample_rate)
    return utterances


def draw_voices(
    split: Split, accents: Sequence[str], limit: int, rng: np.random.Generator
) -> list[Voice]:
    """Every accent with every variant of the split, in random order; of train at most `limit`."""
    pairs = [(accent, variant) for variant in VARIANTS[split] for accent in accents]
    chosen = [pairs[index] for index in rng.permutation(len(pairs))]
    if split == "train":
        chosen = chosen[:limit]
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


def _speech(
    split: Split, config: SynthesisConfig, accents: Sequence[str], draw: Draw
) -> Iterator[tuple[str, Voice, NDArray[np.int16]]]:
    """Text, voice and samples, until there is enough of the split."""
    rng = np.random.default_rng([config.seed, SPLITS.index(split)])
    cast = draw_voices(split, accents, config.num_voices, rng)
    num_wanted = {"dev": config.num_dev, "test": config.num_test}.get(split)
    samples_wanted = config.hours * 3600 * config.sample_rate
    count = num_samples = 0
    with _speaker(int(rng.integers(2**31))) as say:
        while num_samples < samples_wanted if num_wanted is None else count < num_wanted:
            voice = cast[count % len(cast)]
            sentence = draw(split, voice, rng)
            spoken = say(_request(sentence, voice, rng), config.sample_rate)
            samples = _finish(spoken, split, config, rng)
            yield sentence.text, voice, samples
            count += 1
            num_samples += len(samples)


def _request(sentence: Sentence, voice: Voice, rng: np.random.Generator) -> Request:
    return Request(
        text=sentence.spoken,
        voice=voice.name,
        rate=voice.rate,
        pitch=voice.pitch,
        pitch_range=voice.pitch_range,
        word_gap=int(rng.integers(0, 9)),
    )


@contextmanager
def _speaker(seed: int) -> Iterator[Callable[[Request, int], Samples]]:
    """A function from a request and a sample rate to samples in [-1, 1]."""
    # -P, as the modules beside the program have names of the standard library's.
    command = [sys.executable, "-P", str(Path(espeak.__file__)), str(seed)]
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
                raise DataError(f"eSpeak NG stopped: {reason}")
            return answer

        def say(request: Request, sample_rate: int) -> Samples:
            requests.write(json.dumps(asdict(request)).encode() + b"\n")
            requests.flush()
            (num_samples,) = struct.unpack("<i", read(4))
            if num_samples < 0:
                raise DataError(f"this eSpeak NG has no voice {request.voice!r}")
            samples = np.frombuffer(read(2 * num_samples), np.int16).astype(np.float32) / 32768
            if not samples.any():
                raise DataError(f"eSpeak NG's voice {request.voice} says nothing: {request.text!r}")
            resampled: Samples = soxr.resample(samples, spoken_rate, sample_rate)
            return resampled

        try:
            (spoken_rate,) = struct.unpack("<i", read(4))
            yield say
        finally:
            program.kill()


def _finish(
    spoken: Samples, split: Split, config: SynthesisConfig, rng: np.random.Generator
) -> NDArray[np.int16]:
    if config.trim_db and split == "train":
        spoken = trim(spoken, config.sample_rate, rng.uniform(60 - config.trim_db, 60))
    before, after = (int(rng.uniform(*config.silence) * config.sample_rate) for _ in range(2))
    samples = np.pad(spoken, (before, after))
    level_db = _LEVEL_DB
    if split != "train":
        samples = _distort(samples, config.sample_rate, rng)
        level_db = rng.uniform(*_LEVEL_RANGE_DB)
    samples *= 10 ** (level_db / 20) / np.sqrt(np.mean(spoken**2))
    # A peak that would clip lowers the utterance instead.
    samples *= min(1.0, 0.99 / np.abs(samples).max())
    return np.round(samples * 32767).astype(np.int16)


def trim(samples: Samples, sample_rate: int, below_db: float) -> Samples:
    """Samples without the edges that stay `below_db` decibels under the loudest 10 ms.

    What comes first in a word is often weak: of "four" a trimmer may leave no more than "or".
    """
    size = sample_rate // 100
    energies = [
        np.mean(samples[start : start + size] ** 2) for start in range(0, len(samples), size)
    ]
    loud = np.flatnonzero(np.array(energies) >= max(energies) * 10 ** (-below_db / 10))
    return samples[loud[0] * size : (loud[-1] + 1) * size]


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
