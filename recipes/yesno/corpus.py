"""YesNo: one man says "yes" or "no" eight times in a recording, in Hebrew (ken, lo).

Published at openslr.org/1, made for the Kaldi project to try its scripts with. The archive names no
licence ("for free"): use it, do not ship it. 60 recordings, 8 kHz, 6 minutes in all; the name is
the transcript, 1 for yes and 0 for no: `0_1_1_0_1_1_0_0.wav`.

Split: as in Kaldi's egs/yesno, of the sorted names the first 31 train, the other 29 test. Kaldi has
no dev set; here four of the 31, evenly spaced (the 4th, 12th, 20th and 28th), are dev.

Oddities: the README in the archive says English, which it is not. Since the names are sorted, every
training recording begins with "no" and every test recording with "yes", and a network learns the
few orders of words that it sees: so the training recordings are cut at their pauses into pieces of
one, two and four words that leave out the first. A few recordings begin with digital silence, far
below the noise of the others. One speaker, one session: a low error rate says that the pipeline
works, and no more.
"""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.config import Settings
from asr.corpus import Utterance, write_manifest
from asr.corpus import download as archive
from asr.errors import DataError

URL = "https://www.openslr.org/resources/1/waves_yesno.tar.gz"
SHA256 = "c3f49e0cca421f96b75b41640749167b52118f232498667ca7a5f9416aef8e73"
# Of the recordings, however they were packed.
CONTENT_SHA256 = "169bfe3c6c5e7c3eabbd6ad391d76f10cbdca1100b56e8085d35ee6ba81c5f77"

NUM_RECORDINGS = 60
_NUM_TRAIN_AND_DEV = 31
_DEV = slice(3, _NUM_TRAIN_AND_DEV, 8)
_SECONDS = 367.7
_NUM_WORDS = 8
_LENGTHS = (1, 2, 4)  # words of a piece
_LOUD = 0.2  # of the level of the loudest frames: above it there is a word
_PAUSE = 0.15  # seconds, the shortest
_WORD = 0.08  # seconds, the shortest
_PATTERN = "_".join(["[01]"] * 8) + ".wav"


class Corpus(Settings):
    """There is nothing to choose."""


def download(target: Path) -> None:
    """Fetch and unpack the archive into `target`.

    Raises:
        DataError: no network, or another archive than expected.
    """
    path = target / "waves_yesno.tar.gz"
    archive.download(URL, path, SHA256)
    archive.extract(path, target / "yesno")
    if archive.content_sha256(_find_recordings(target)) != CONTENT_SHA256:
        raise DataError(f"{path}: other recordings than the published ones; remove it")


def prepare(source: Path, folder: Path, corpus: Corpus) -> None:  # noqa: ARG001
    """Write `train.jsonl`, `dev.jsonl` and `test.jsonl` into `folder`.

    Args:
        source: `waves_yesno`, or a folder that holds it.
        folder: for the manifests.
        corpus: not used; here because every recipe's `prepare` has it.

    Raises:
        DataError: no corpus there, or other counts or hours than published.
    """
    paths = _find_recordings(source)
    if len(paths) != NUM_RECORDINGS:
        raise DataError(
            f"{paths[0].parent}: {len(paths)} recordings of YesNo, expected {NUM_RECORDINGS}"
        )
    utterances = [_utterance(path) for path in paths]
    seconds = sum(utterance.duration for utterance in utterances)
    if abs(seconds - _SECONDS) > 1:
        raise DataError(f"{paths[0].parent}: {seconds:.0f} s of speech, expected {_SECONDS:.0f} s")
    train_and_dev = utterances[:_NUM_TRAIN_AND_DEV]
    dev = train_and_dev[_DEV]
    train = [utterance for utterance in train_and_dev if utterance not in dev]
    pieces = {utterance.id: _pieces(utterance) for utterance in train_and_dev}
    write_manifest([piece for u in train for piece in pieces[u.id] or [u]], folder / "train.jsonl")
    write_manifest([p for u in dev for p in (u, *pieces[u.id])], folder / "dev.jsonl")
    write_manifest(utterances[_NUM_TRAIN_AND_DEV:], folder / "test.jsonl")


def find_words(samples: NDArray[np.floating], sample_rate: int) -> list[tuple[float, float]]:
    """Start and end in seconds of stretches that are loud, with pauses between them."""
    size = sample_rate // 100
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    level = np.convolve(np.sqrt(np.square(frames).mean(axis=1)), np.ones(5) / 5, "same")
    loud = level > _LOUD * np.quantile(level, 0.98)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]]))) / 100
    words: list[tuple[float, float]] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if words and start - words[-1][1] < _PAUSE:
            words[-1] = (words[-1][0], end)
        else:
            words.append((start, end))
    return [(start, end) for start, end in words if end - start >= _WORD]


def _pieces(recording: Utterance) -> list[Utterance]:
    """Some of its words that follow each other; none if its eight words cannot be told apart."""
    samples, sample_rate = soundfile.read(recording.audio_filepath)
    words = find_words(samples, sample_rate)
    if len(words) != _NUM_WORDS:
        return []
    pauses = [(end + start) / 2 for (_, end), (start, _) in itertools.pairwise(words)]
    bounds = [0.0, *pauses, recording.duration]
    text = (recording.text or "").split()
    return [
        replace(
            recording,
            id=f"{recording.id}-{first + 1}-{first + length}",
            offset=round(bounds[first], 3),
            duration=round(bounds[first + length] - bounds[first], 3),
            text=" ".join(text[first : first + length]),
        )
        for length in _LENGTHS
        for first in range(1, _NUM_WORDS - length + 1)
    ]


def _find_recordings(source: Path) -> list[Path]:
    for folder in (source, source / "waves_yesno", *sorted(source.glob("*/waves_yesno"))):
        if paths := sorted(folder.glob(_PATTERN)):
            return paths
    raise DataError(
        f"{source}: no recordings of YesNo (waves_yesno/0_0_0_0_1_1_1_1.wav and so on); "
        f"get them from {URL} and name the folder with --corpus DIR"
    )


def _utterance(path: Path) -> Utterance:
    try:
        audio = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path}: unreadable") from error
    return Utterance(
        id=path.stem,
        audio_filepath=path,
        duration=audio.frames / audio.samplerate,
        text=" ".join({"0": "no", "1": "yes"}[digit] for digit in path.stem.split("_")),
        speaker="man",
    )
