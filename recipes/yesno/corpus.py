"""YesNo: one man says "yes" or "no" eight times in a recording, in Hebrew (ken, lo).

Published at openslr.org/1, made for the Kaldi project to try its scripts with. The archive names no
licence ("for free"): use it, do not ship it. 60 recordings, 8 kHz, 6 minutes in all; the name is
the transcript, 1 for yes and 0 for no: `0_1_1_0_1_1_0_0.wav`.

Split: as in Kaldi's egs/yesno, of the sorted names the first 31 train, the other 29 test. Kaldi has
no dev set; here four of the 31, evenly spaced (the 4th, 12th, 20th and 28th), are dev.

Oddities: the README in the archive says English, which it is not. Since the names are sorted, every
training recording begins with "no" and every test recording with "yes". One speaker, one session:
a low error rate says that the pipeline works, and no more.
"""

from pathlib import Path

import soundfile

from asr import archive
from asr.config import Settings
from asr.errors import DataError
from asr.manifest import Utterance, write_manifest

URL = "https://www.openslr.org/resources/1/waves_yesno.tar.gz"
SHA256 = "c3f49e0cca421f96b75b41640749167b52118f232498667ca7a5f9416aef8e73"
# Of the recordings, however they were packed.
CONTENT_SHA256 = "169bfe3c6c5e7c3eabbd6ad391d76f10cbdca1100b56e8085d35ee6ba81c5f77"

NUM_RECORDINGS = 60
_NUM_TRAIN_AND_DEV = 31
_DEV = slice(3, _NUM_TRAIN_AND_DEV, 8)
_SECONDS = 367.7
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
    write_manifest(train, folder / "train.jsonl")
    write_manifest(dev, folder / "dev.jsonl")
    write_manifest(utterances[_NUM_TRAIN_AND_DEV:], folder / "test.jsonl")


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
