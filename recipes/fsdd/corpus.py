"""Free Spoken Digit Dataset (FSDD): single digits, read by six men.

Published at github.com/Jakobovski/free-spoken-digit-dataset by Zohar Jackson and contributors,
under CC BY-SA 4.0; it has grown over time, and this recipe takes commit 26eb9aaf: 3,000 recordings,
50 of each digit and speaker, 8 kHz, trimmed, named `{digit}_{speaker}_{index}.wav`.

Split: the official test set is index 0 to 4 (300). Of the official training set (5 to 49) the
indices 5 to 7 are dev (180), the rest is train (2,520); so every speaker and digit is in all three.
With `held_out_speaker` all 500 recordings of one speaker are the test set, and the others' are
divided into dev (index 5 to 7, 150) and train (2,350).

Oddities: in the official split every test speaker is known from training. The recordings are
trimmed, with next to no silence around the word. Accents, by the dataset's metadata: US (jackson,
theo), Greek (george), German (lucas, yweweler) and Belgian French (nicolas).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from pydantic import Field

from asr.config import Settings, SynthesisConfig
from asr.corpus import Utterance, espeak_voices, synthesis, voices, write_manifest
from asr.corpus import download as archive
from asr.errors import DataError

from .accents import SPELLINGS

COMMIT = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
URL = f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/{COMMIT}.tar.gz"
# GitHub makes its archives anew and their checksums may change; this is of the recordings.
CONTENT_SHA256 = "1801eae019c063377d98f831d3f93574f259475df7332bb0e3d1b080fb5e6959"

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
Speaker = Literal["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
SPEAKERS: tuple[Speaker, ...] = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
NUM_INDICES = 50
_TEST_INDICES = range(5)
_DEV_INDICES = range(5, 8)
_SECONDS = 1312.3  # of the 3,000 recordings


class Corpus(Settings):
    """Which recordings are the test set, and what the training set is."""

    held_out_speaker: Speaker | None = None
    """This speaker's recordings are the test set; none means the official split."""
    real_a_digit: int | None = Field(None, ge=0)
    """Training recordings of each digit, spread over the speakers; none means all of them."""
    real_copies: int = Field(1, ge=1)
    """How often each of them is in the training set."""
    speak: bool = False
    """Whether synthetic voices speak digits, too, for the training set."""
    synthetic: SynthesisConfig = SynthesisConfig()
    """What they speak; its dev and test sets are not made."""


def download(target: Path) -> None:
    """Fetch and unpack the repository into `target`.

    Raises:
        DataError: no network, or other recordings than expected.
    """
    path = target / "fsdd.tar.gz"
    archive.download(URL, path)
    archive.extract(path, target / "fsdd")
    if archive.content_sha256(_find_recordings(target).glob("*.wav")) != CONTENT_SHA256:
        raise DataError(f"{path}: the recordings are not those of commit {COMMIT}; remove it")


def prepare(source: Path, folder: Path, corpus: Corpus) -> None:
    """Write `train.jsonl`, `dev.jsonl` and `test.jsonl` into `folder`.

    Args:
        source: the repository, a folder that holds it, or its `recordings`.
        folder: for the manifests.
        corpus: which split.

    Raises:
        DataError: no corpus there, or a recording is missing, or the hours are not as published;
            no training set is left, or eSpeak NG is to speak and is not there.
    """
    recordings = _find_recordings(source)
    splits: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    for digit, word in enumerate(WORDS):
        for speaker in SPEAKERS:
            for index in range(NUM_INDICES):
                path = recordings / f"{digit}_{speaker}_{index}.wav"
                split = _split_of(speaker, index, corpus.held_out_speaker)
                splits[split].append(
                    Utterance(
                        id=path.stem,
                        audio_filepath=path,
                        duration=_duration(path),
                        text=word,
                        speaker=speaker,
                    )
                )
    seconds = sum(utterance.duration for split in splits.values() for utterance in split)
    if abs(seconds - _SECONDS) > 1:
        raise DataError(f"{recordings}: {seconds:.0f} s of speech, expected {_SECONDS:.0f} s")
    splits["train"] = _training_set(splits["train"], folder, corpus)
    for split, utterances in splits.items():
        write_manifest(utterances, folder / f"{split}.jsonl")


def _training_set(real: Sequence[Utterance], folder: Path, corpus: Corpus) -> list[Utterance]:
    """So many real recordings so many times, and what is spoken."""
    chosen = {u.id for digit in range(10) for u in _spread(real, digit)[: corpus.real_a_digit]}
    train = [utterance for utterance in real if utterance.id in chosen]
    originals = tuple(train)
    for copy in range(1, corpus.real_copies):
        train += [replace(utterance, id=f"{utterance.id}-{copy}") for utterance in originals]
    if corpus.speak:
        accents = (*espeak_voices.ENGLISH, *(accent for accent in SPELLINGS if accent != "en"))
        train += synthesis.speak_training_set(
            folder / "synthetic", corpus.synthetic, accents, _draw
        )
    if not train:
        raise DataError("corpus.real_a_digit 0 leaves no training set, unless corpus.speak is true")
    return train


def _spread(real: Sequence[Utterance], digit: int) -> list[Utterance]:
    """A digit's recordings in an order whose beginning has all speakers about equally often.

    Each digit begins with another speaker, so that none is behind in all of them.
    """
    speakers = sorted({str(utterance.speaker) for utterance in real})

    def place(utterance: Utterance) -> tuple[int, int]:
        turn = (speakers.index(str(utterance.speaker)) - digit) % len(speakers)
        return int(utterance.id.rpartition("_")[2]), turn

    return sorted((u for u in real if u.text == WORDS[digit]), key=place)


def _draw(
    split: voices.Split,  # noqa: ARG001
    voice: voices.Voice,
    rng: np.random.Generator,
) -> synthesis.Sentence:
    digit = int(rng.integers(10))
    spellings = SPELLINGS.get(voice.accent, SPELLINGS["en"])[digit]
    return synthesis.Sentence(
        text=WORDS[digit], spoken=spellings[int(rng.integers(len(spellings)))]
    )


def _find_recordings(source: Path) -> Path:
    # A download unpacks to fsdd/free-spoken-digit-dataset-<commit>/recordings.
    patterns = ("recordings", "*/recordings", "*/*/recordings")
    below = [folder for pattern in patterns for folder in sorted(source.glob(pattern))]
    for folder in (source, *below):
        if next(folder.glob("[0-9]_*_*.wav"), None):
            return folder
    raise DataError(
        f"{source}: no recordings of FSDD (recordings/0_george_0.wav and so on); "
        f"get them from {URL} and name the folder with --corpus DIR"
    )


def _split_of(speaker: Speaker, index: int, held_out: Speaker | None) -> str:
    if speaker == held_out or (held_out is None and index in _TEST_INDICES):
        return "test"
    return "dev" if index in _DEV_INDICES else "train"


def _duration(path: Path) -> float:
    try:
        audio = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        num_expected = len(WORDS) * len(SPEAKERS) * NUM_INDICES
        num_found = len(list(path.parent.glob("[0-9]_*_*.wav")))
        raise DataError(
            f"{path}: missing or unreadable; {num_found} of {num_expected} recordings are there"
        ) from error
    return float(audio.frames / audio.samplerate)
