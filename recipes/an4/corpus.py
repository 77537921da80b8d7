"""AN4, the CMU census database: spelled names, addresses, numbers and dates, and commands.

Recorded at Carnegie Mellon University around 1991, published at www.speech.cs.cmu.edu/databases/an4
under a permissive licence of its own (free for any purpose, with the notice). 1,078 utterances,
48 minutes, 16 kHz, close-talking microphone: 948 to train by 74 speakers, 130 to test by 10 others.

Split: train and test as published. Dev is all utterances of a few training speakers, drawn with a
seed, women and men in the proportion of the training set.

Oddities:

* A training transcription is `<s> WORDS </s> (id)`, a test transcription is `WORDS (id)`.
* The speaker is the folder; its first letter is f or m. `mdcs` and `mdcs2` may be one man: neither
  is drawn for dev.
* There are archives with audio as NIST SPHERE, and headerless, of either byte order (`.raw`); and
  copies with features (`.mfc`, of CMU Sphinx) that have audio for some utterances or none.
  `inputs` says which to use; one split never mixes the two.
* An `.mfc` file of n frames stands for 160 (n + 1) samples, as far as the audio can be compared.
"""

import random
import re
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
from numpy.typing import NDArray
from pydantic import Field

from asr.config import Settings
from asr.corpus import Utterance, write_manifest
from asr.corpus import download as archive
from asr.corpus import split as corpus_split
from asr.errors import DataError
from asr.files import open_atomic
from asr.folders import replace_folder

# CMU publishes no checksum, and none is known here for this address: `prepare` checks the content.
URL = "http://www.speech.cs.cmu.edu/databases/an4/an4_sphere.tar.gz"

SAMPLE_RATE = 16000  # Hz, of `.raw` and of what `.mfc` was computed from
NUM_UTTERANCES = {"train": 948, "test": 130}
_MINUTES = {"train": 42.44, "test": 5.95}
_AUDIO_SUFFIXES = (".sph", ".wav", ".raw")
_NUM_CEPS = 13
_FRAME_SHIFT = 160  # samples


class Corpus(Settings):
    """What is read, and which speakers are the dev set."""

    inputs: Literal["auto", "audio", "features"] = "auto"
    """Audio, or Sphinx features; `auto` is audio if every utterance has it, or else features."""
    num_dev_speakers: int = Field(7, ge=1, le=40)
    """Training speakers whose utterances are the dev set."""
    seed: int = Field(1, ge=0)
    """Of the draw of dev speakers, and of the minutes."""
    train_minutes: float | None = Field(None, gt=0)
    """So much of the training set is kept, any utterances of it: what a tenth of the transcripts is
    worth."""


def download(target: Path) -> None:
    """Fetch and unpack the archive of SPHERE files into `target`.

    Raises:
        DataError: no network, or not an archive.
    """
    path = target / "an4_sphere.tar.gz"
    archive.download(URL, path)
    archive.extract(path, target / "an4")


def prepare(source: Path, folder: Path, corpus: Corpus) -> None:
    """Write `train.jsonl`, `dev.jsonl`, `test.jsonl` and `pronunciations.txt` into `folder`.

    Headerless audio is copied into `folder/audio` as WAV.

    Args:
        source: the folder with `etc` and `wav` or `feat`, or a folder that holds it.
        folder: for the manifests.
        corpus: what is read, and which speakers are dev.

    Raises:
        DataError: no corpus there, or counts, transcripts or minutes that are not as published.
    """
    root = _find_root(source)
    listed = {split: _read_transcripts(root, split) for split in NUM_UTTERANCES}
    file_ids = [file_id for transcripts in listed.values() for file_id in transcripts]
    paths = _find_inputs(root, file_ids, corpus.inputs)
    if any(path.suffix == ".raw" for path in paths.values()):
        paths = _convert_raw(paths, folder / "audio")
    utterances = {
        split: [_utterance(paths[file_id], text) for file_id, text in texts.items()]
        for split, texts in listed.items()
    }
    for split, minutes in _MINUTES.items():
        found = sum(utterance.duration for utterance in utterances[split]) / 60
        if abs(found - minutes) > 0.02 * minutes:
            raise DataError(f"{root}: {found:.1f} min of {split}, expected {minutes:.1f} min")
    dev_speakers = _draw_speakers(utterances["train"], corpus)
    train = [u for u in utterances["train"] if u.speaker not in dev_speakers]
    dev = [u for u in utterances["train"] if u.speaker in dev_speakers]
    if corpus.train_minutes is not None:
        train = corpus_split.first_minutes(train, corpus.train_minutes, corpus.seed)
    write_manifest(train, folder / "train.jsonl")
    write_manifest(dev, folder / "dev.jsonl")
    write_manifest(utterances["test"], folder / "test.jsonl")
    if (dictionary := root / "etc" / "an4.dic").is_file():
        _write_pronunciations(dictionary, folder / "pronunciations.txt")


def _write_pronunciations(dictionary: Path, path: Path) -> None:
    """The published dictionary in lower case; a word's second and further lines are `word(2)`."""
    rows: dict[str, list[str]] = {}
    for line in _read_lines(dictionary):
        word, *phones = line.split()
        rows.setdefault(re.sub(r"\([0-9]+\)$", "", word).lower(), []).append(" ".join(phones))
    # Nearly every "a" of the corpus is the letter, whose name comes second.
    rows["a"].reverse()
    with open_atomic(path) as file:
        for word, pronunciations in rows.items():
            file.writelines(f"{word} {phones}\n" for phones in pronunciations)


def _find_root(source: Path) -> Path:
    for folder in (source, source / "an4", *sorted(source.glob("*/an4"))):
        if (folder / "etc" / "an4_train.fileids").is_file():
            return folder
    raise DataError(
        f"{source}: no AN4 (etc/an4_train.fileids is missing); get it from {URL} and name the "
        "folder with --corpus DIR"
    )


def _read_transcripts(root: Path, split: str) -> dict[str, str]:
    """Text by file id (`an4_clstk/fash/an251-fash-b`), in the published order."""
    ids_path = root / "etc" / f"an4_{split}.fileids"
    text_path = root / "etc" / f"an4_{split}.transcription"
    file_ids = _read_lines(ids_path)
    lines = _read_lines(text_path)
    if len(file_ids) != NUM_UTTERANCES[split] or len(lines) != NUM_UTTERANCES[split]:
        raise DataError(
            f"{root}: {len(file_ids)} file ids and {len(lines)} transcriptions of {split}, "
            f"expected {NUM_UTTERANCES[split]} of each"
        )
    texts = {}
    for number, line in enumerate(lines, start=1):
        match = re.fullmatch(r"(?:<s> )?(.+?)(?: </s>)? \((\S+)\)", line)
        if match is None:
            raise DataError(f"{text_path}:{number}: WORDS (id) is expected")
        texts[match[2]] = match[1].lower()
    missing = [file_id for file_id in file_ids if Path(file_id).name not in texts]
    if missing:
        raise DataError(f"{text_path}: no transcription of {missing[0]}")
    return {file_id: texts[Path(file_id).name] for file_id in file_ids}


def _read_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read") from error
    return [line.strip() for line in lines if line.strip()]


def _find_inputs(root: Path, file_ids: Sequence[str], inputs: str) -> dict[str, Path]:
    """The file of every utterance, all of them audio or all of them features."""
    audio: dict[str, Path] = {}
    features: dict[str, Path] = {}
    for file_id in file_ids:
        for suffix in _AUDIO_SUFFIXES:
            if (path := root / "wav" / f"{file_id}{suffix}").is_file():
                audio.setdefault(file_id, path)
        if (path := root / "feat" / f"{file_id}.mfc").is_file():
            features[file_id] = path
    if inputs == "auto":
        inputs = "audio" if len(audio) == len(file_ids) else "features"
        if len(audio) < len(file_ids) > len(features):
            raise DataError(
                f"{root}: of {len(file_ids)} utterances {len(audio)} have audio below wav and "
                f"{len(features)} have features below feat; one of the two must be complete"
            )
    chosen = audio if inputs == "audio" else features
    missing = [file_id for file_id in file_ids if file_id not in chosen]
    if missing:
        raise DataError(
            f"{root}: {len(missing)} of {len(file_ids)} utterances have no {inputs} "
            f"(the first is {missing[0]})"
        )
    return chosen


def _utterance(path: Path, text: str) -> Utterance:
    return Utterance(
        id=path.stem,
        audio_filepath=path,
        duration=_mfc_duration(path) if path.suffix == ".mfc" else _audio_duration(path),
        text=text,
        speaker=path.parent.name,
    )


def _audio_duration(path: Path) -> float:
    try:
        audio = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path}: not readable as audio") from error
    return float(audio.frames / audio.samplerate)


def _mfc_duration(path: Path) -> float:
    with path.open("rb") as file:
        header = file.read(4)
    num_values = struct.unpack(">i", header)[0] if len(header) == 4 else -1
    if path.stat().st_size != 4 + 4 * num_values or num_values % _NUM_CEPS:
        raise DataError(f"{path}: not a Sphinx feature file of {_NUM_CEPS} values a frame")
    return _FRAME_SHIFT * (num_values // _NUM_CEPS + 1) / SAMPLE_RATE


def _convert_raw(paths: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Write headerless audio as WAV; the paths with those files in its place."""
    wav = {
        file_id: folder / f"{file_id}.wav"
        for file_id, path in paths.items()
        if path.suffix == ".raw"
    }
    with replace_folder(folder) as fresh:
        for file_id, path in wav.items():
            target = fresh / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            samples = _read_raw(paths[file_id])
            soundfile.write(target, samples, SAMPLE_RATE, subtype="PCM_16")
    return {**paths, **wav}


def _read_raw(path: Path) -> NDArray[np.int16]:
    """Samples in the byte order in which they change less from one to the next."""
    data = path.read_bytes()
    if len(data) < 4 or len(data) % 2:
        raise DataError(f"{path}: not 16-bit samples")
    readings = [np.frombuffer(data, order).astype(np.int16) for order in ("<i2", ">i2")]
    return min(readings, key=lambda reading: np.abs(np.diff(reading.astype(np.int32))).sum())


def _draw_speakers(utterances: Sequence[Utterance], corpus: Corpus) -> set[str]:
    speakers = sorted({str(utterance.speaker) for utterance in utterances})
    people = Counter(speaker.rstrip("0123456789") for speaker in speakers)
    certain = [speaker for speaker in speakers if people[speaker.rstrip("0123456789")] == 1]
    women = [speaker for speaker in certain if speaker.startswith("f")]
    men = [speaker for speaker in certain if speaker.startswith("m")]
    num_women = round(corpus.num_dev_speakers * len(women) / len(certain))
    rng = random.Random(corpus.seed)
    return {
        *rng.sample(women, num_women),
        *rng.sample(men, corpus.num_dev_speakers - num_women),
    }
