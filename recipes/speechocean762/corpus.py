"""speechocean762: English sentences read by 250 speakers of Mandarin, half of them children.

J. Zhang et al.: "speechocean762: An Open-Source Non-native English Speech Corpus For Pronunciation
Assessment", Interspeech 2021. Published at openslr.org/101, free for commercial and non-commercial
use. 5,000 sentences, 20 by each speaker, 16 kHz; Kaldi data folders:

    train/, test/    wav.scp, text, utt2spk (and others); 2,500 sentences by 125 speakers each
    WAVE/            the audio; paths in wav.scp are relative to the corpus folder

Split: train and test as published. Dev is all utterances of a few training speakers, drawn with a
seed. A copy without `test/` has another few training speakers as its test set, if the configuration
says so.

Transcripts are upper case without punctuation, apostrophes kept; they are lowercased. They are what
was to be read: what was said may deviate, most of all with children.
"""

import random
from collections.abc import Sequence
from pathlib import Path

import soundfile
from pydantic import Field

from asr.config import Settings
from asr.corpus import Utterance, write_manifest
from asr.corpus import download as archive
from asr.errors import DataError

# No checksum is published: `prepare` checks the content.
URL = "https://www.openslr.org/resources/101/speechocean762.tar.gz"

NUM_UTTERANCES = 2500  # of either split
NUM_SPEAKERS = 125
_TRAIN_MINUTES = 172.6  # those of the copy that this was written with, as long as the original


class Corpus(Settings):
    """Which speakers are the dev set, and the test set of a copy that has none."""

    num_dev_speakers: int = Field(12, ge=1)
    """Training speakers whose utterances are the dev set."""
    num_test_speakers: int = Field(0, ge=0)
    """Training speakers whose utterances are the test set; 0 means the official one."""
    seed: int = Field(1, ge=0)
    """Of the draw of speakers."""


def download(target: Path) -> None:
    """Fetch and unpack the archive into `target`.

    Raises:
        DataError: no network, or not an archive.
    """
    path = target / "speechocean762.tar.gz"
    archive.download(URL, path)
    archive.extract(path, target / "speechocean762")


def prepare(source: Path, folder: Path, corpus: Corpus) -> None:
    """Write `train.jsonl`, `dev.jsonl` and `test.jsonl` into `folder`.

    Args:
        source: the folder with `train`, or one that holds it as `speechocean762`, or a download.
        folder: for the manifests.
        corpus: which speakers are dev, and whether the test set is the official one.

    Raises:
        DataError: no corpus there, files of a split that do not fit together, other counts or
            minutes than published, or a speaker in train and test.
    """
    root = _find_root(source)
    train = _read_split(root, "train")
    minutes = sum(utterance.duration for utterance in train) / 60
    if abs(minutes - _TRAIN_MINUTES) > 0.01 * _TRAIN_MINUTES:
        raise DataError(f"{root}: {minutes:.1f} min of train, expected {_TRAIN_MINUTES} min")
    speakers = _speakers(train)
    rng = random.Random(corpus.seed)
    num_drawn = corpus.num_dev_speakers + corpus.num_test_speakers
    if num_drawn >= len(speakers):
        raise DataError(
            f"{num_drawn} of {len(speakers)} speakers cannot be taken out of train and leave one; "
            "lower corpus.num_dev_speakers or corpus.num_test_speakers"
        )
    drawn = rng.sample(speakers, num_drawn)
    dev_speakers = drawn[: corpus.num_dev_speakers]
    test_speakers = drawn[corpus.num_dev_speakers :]
    if corpus.num_test_speakers:
        test = [utterance for utterance in train if utterance.speaker in test_speakers]
    else:
        test = _read_official_test(root, speakers)
    write_manifest([u for u in train if u.speaker not in drawn], folder / "train.jsonl")
    write_manifest([u for u in train if u.speaker in dev_speakers], folder / "dev.jsonl")
    write_manifest(test, folder / "test.jsonl")


def _find_root(source: Path) -> Path:
    inner = "speechocean762"
    for folder in (source, source / inner, source / inner / inner):
        if (folder / "train" / "wav.scp").is_file():
            return folder
    raise DataError(
        f"{source}: no speechocean762 (train/wav.scp is missing); get it from {URL} and name the "
        "folder with --corpus DIR"
    )


def _read_official_test(root: Path, train_speakers: Sequence[str]) -> list[Utterance]:
    if not (root / "test").is_dir():
        raise DataError(
            f"{root}: the official test set (test/wav.scp and so on) is not there; with "
            "corpus.num_test_speakers=12 as many training speakers are the test set"
        )
    test = _read_split(root, "test")
    for speaker in _speakers(test):
        if speaker in train_speakers:
            raise DataError(f"{root / 'test' / 'utt2spk'}: speaker {speaker} is in train as well")
    return test


def _read_split(root: Path, split: str) -> list[Utterance]:
    """The utterances of a Kaldi data folder, in the order of its wav.scp."""
    folder = root / split
    paths = _read_table(folder / "wav.scp")
    others = {name: _read_table(folder / name) for name in ("text", "utt2spk")}
    for name, table in others.items():
        for utterance_id in paths.keys() ^ table.keys():
            where, there = ("wav.scp", name) if utterance_id in table else (name, "wav.scp")
            raise DataError(f"{folder / where}: no utterance {utterance_id}, which {there} has")
    utterances = [
        _utterance(
            utterance_id,
            _audio_path(root, path, folder / "wav.scp"),
            others["text"][utterance_id],
            others["utt2spk"][utterance_id],
        )
        for utterance_id, path in paths.items()
    ]
    num_speakers = len(_speakers(utterances))
    if (len(utterances), num_speakers) != (NUM_UTTERANCES, NUM_SPEAKERS):
        raise DataError(
            f"{folder}: {len(utterances)} utterances by {num_speakers} speakers, expected "
            f"{NUM_UTTERANCES} by {NUM_SPEAKERS}"
        )
    return utterances


def _read_table(path: Path) -> dict[str, str]:
    """The rest of each line by its first word."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: missing or unreadable") from error
    table: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split(maxsplit=1)
        if len(fields) != 2:
            raise DataError(f"{path}:{number}: an utterance id and a value are expected")
        if fields[0] in table:
            raise DataError(f"{path}:{number}: a second line of utterance {fields[0]}")
        table[fields[0]] = fields[1].strip()
    return table


def _audio_path(root: Path, value: str, where: Path) -> Path:
    if value.endswith("|"):
        raise DataError(f"{where}: {value!r} is a command; only paths are read, nothing is run")
    return root / value


def _utterance(utterance_id: str, path: Path, text: str, speaker: str) -> Utterance:
    try:
        audio = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path}: missing or not readable as audio") from error
    return Utterance(
        id=utterance_id,
        audio_filepath=path,
        duration=audio.frames / audio.samplerate,
        text=text.lower(),
        speaker=speaker,
    )


def _speakers(utterances: Sequence[Utterance]) -> list[str]:
    return sorted({str(utterance.speaker) for utterance in utterances})
