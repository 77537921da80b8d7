"""Speech from text: corpora for trying out, and for lack of recordings.

Voices of eSpeak NG (`asr.corpus.espeak_voices`) or of neural models (`asr.corpus.neural_voices`)
speak it. Train, dev and test share no voice, as far as there are enough.

Train is clean and at one level: noise, reverberation and gain are drawn afresh in training. Dev and
test carry mild ones in the audio (`_distort`).
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.audio import Samples
from asr.config import SynthesisConfig
from asr.corpus.espeak_voices import EspeakVoices
from asr.corpus.manifest import Utterance, write_manifest
from asr.corpus.neural_voices import NeuralVoices
from asr.corpus.voices import SPLITS, Engine, Split, Voice
from asr.files import check_regular, open_atomic

_UTTERANCES_A_FILE = 200
_LEVEL_DB = -26.0  # RMS of train, relative to full scale
_LEVEL_RANGE_DB = (-38.0, -18.0)  # of dev and test
_DISTORTED_SHARE = 0.5  # of dev and test, for noise and for reverberation each
_SNR_DB = (15.0, 30.0)
_REVERBERATION_TIME = (0.1, 0.4)  # seconds to -60 dB
_REVERBERANT_DB = (-15.0, -6.0)  # energy of the tail, relative to the direct sound


@dataclass(frozen=True, kw_only=True, slots=True)
class Sentence:
    """What a voice is to say."""

    text: str
    """The transcript."""
    spoken: str
    """What the voice is given: the text, with its punctuation, or spelled for its accent."""


Draw = Callable[[Split, Voice, np.random.Generator], Sentence]
"""Draws what a voice is to say next."""


def speak_corpus(folder: Path, config: SynthesisConfig, accents: Sequence[str], draw: Draw) -> None:
    """Speak train, dev and test into `folder`, with their manifests and an example.

    Args:
        folder: receives `<split>/<number>.wav`, `<split>.jsonl`, `example.wav`, `example.txt`.
        accents: eSpeak NG's names of accents and languages; each is spoken by all voices.
        draw: the sentences; what makes those of a split its own.

    Raises:
        DataError: what is to speak is not installed, fails, has no such accent or speaker, or
            cannot say a text.
    """
    engines = choose_engines(config, accents)
    for split in SPLITS:
        utterances = _speak_split(split, folder, config, engines, draw)
        write_manifest(utterances, folder / f"{split}.jsonl")
    _write_example(utterances, folder)


def speak_training_set(
    folder: Path, config: SynthesisConfig, accents: Sequence[str], draw: Draw
) -> list[Utterance]:
    """Speak train alone, for which no voice is kept apart; as `speak_corpus`."""
    engines = choose_engines(config, accents, is_divided=False)
    return _speak_split("train", folder, config, engines, draw)


def _speak_split(
    split: Split, folder: Path, config: SynthesisConfig, engines: Sequence[Engine], draw: Draw
) -> list[Utterance]:
    """Speak one split into `<split>/<number>.wav` below `folder`."""
    utterances: list[Utterance] = []
    spoken = _speech(split, config, engines, draw)
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
                    speaker=voice.name,
                )
            )
            num_before += len(samples)
        _write_wav(np.concatenate([samples for *_, samples in batch]), path, config.sample_rate)
    return utterances


def choose_engines(
    config: SynthesisConfig, accents: Sequence[str], *, is_divided: bool = True
) -> list[Engine]:
    """What is to speak: eSpeak NG, neural voices, or both, in this order.

    Args:
        is_divided: whether some of the neural voices are kept for dev and test.

    Raises:
        DataError: a folder of `voice_models` has no model, or lacks a speaker.
    """
    espeak = EspeakVoices(accents)
    if not config.voice_models:
        return [espeak]
    neural = NeuralVoices.of(config, accents, is_divided=is_divided)
    return [espeak, neural] if config.espeak_share else [neural]


def _speech(
    split: Split, config: SynthesisConfig, engines: Sequence[Engine], draw: Draw
) -> Iterator[tuple[str, Voice, NDArray[np.int16]]]:
    """Text, voice and samples, until there is enough of the split."""
    rng = np.random.default_rng([config.seed, SPLITS.index(split)])
    casts = [itertools.cycle(engine.cast(split, config.num_voices, rng)) for engine in engines]
    num_wanted = {"dev": config.num_dev, "test": config.num_test}.get(split)
    samples_wanted = config.hours * 3600 * config.sample_rate
    count = num_samples = 0
    with ExitStack() as stack:
        says = [stack.enter_context(e.speaking(int(rng.integers(2**31)))) for e in engines]
        while num_samples < samples_wanted if num_wanted is None else count < num_wanted:
            turn = int(rng.random() >= config.espeak_share) if len(engines) > 1 else 0
            voice = next(casts[turn])
            sentence = draw(split, voice, rng)
            spoken = says[turn](voice, sentence.spoken, rng, config.sample_rate)
            samples = _finish(spoken, split, config, rng)
            yield sentence.text, voice, samples
            count += 1
            num_samples += len(samples)


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
    sample_rate = soundfile.info(check_regular(example.audio_filepath)).samplerate
    start, length = round(example.offset * sample_rate), round(example.duration * sample_rate)
    samples, _ = soundfile.read(check_regular(example.audio_filepath), length, start, dtype="int16")
    _write_wav(samples, folder / "example.wav", sample_rate)
    with open_atomic(folder / "example.txt") as file:
        file.write(f"{example.text}\n")
