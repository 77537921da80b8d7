"""LibriSpeech: read English, 982 hours of audio books by 2,484 speakers, in named subsets.

V. Panayotov, G. Chen, D. Povey, S. Khudanpur: "Librispeech: an ASR corpus based on public domain
audio books", ICASSP 2015. Published at openslr.org/12 under CC BY 4.0, 16 kHz FLAC. Mini
LibriSpeech (openslr.org/31) is a small part of it in the same layout: train-clean-5, dev-clean-2.

    <subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac
    <subset>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt     lines of id and WORDS
    SPEAKERS.TXT                     lines of id | sex | subset | minutes | name

Split: the subsets that the configuration names. Where it names none for dev or test, all utterances
of a few training speakers are the set, drawn with a seed, women and men in proportion.

Transcripts are upper case without punctuation, apostrophes kept; they are lowercased.

Oddities: the subsets hold different speakers, except that Mini LibriSpeech's are of train-clean-100
and dev-clean. `SPEAKERS.TXT` states the minutes of each speaker, not of its part in Mini
LibriSpeech. A name in it may hold a `|`.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import soundfile
from pydantic import Field, model_validator

from asr.config import Settings
from asr.corpus import Utterance, write_manifest
from asr.corpus import download as archive
from asr.errors import DataError
from asr.progress import track

URL = "https://www.openslr.org/12"

Subset = Literal[
    "train-clean-5",
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
    "dev-clean-2",
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
]


@dataclass(frozen=True, slots=True)
class Published:
    """What is known of a subset's archive and of what is in it."""

    resource: int
    """Of openslr.org."""
    checksum: str
    """SHA-256 as torchaudio 2.11 has it; MD5, as openslr.org lists it, for Mini LibriSpeech."""
    num_utterances: int
    part_of: str = ""
    """The subset whose speakers, in part, these are."""


PUBLISHED: dict[str, Published] = {
    "train-clean-5": Published(31, "5df7d4e78065366204ca6845bb08f490", 1519, "train-clean-100"),
    "train-clean-100": Published(
        12, "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2", 28539
    ),
    "train-clean-360": Published(
        12, "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf", 104014
    ),
    "train-other-500": Published(
        12, "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2", 148688
    ),
    "dev-clean-2": Published(31, "6d7ab67ac6a1d2c993d050e16d61080d", 1089, "dev-clean"),
    "dev-clean": Published(
        12, "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3", 2703
    ),
    "dev-other": Published(
        12, "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365", 2864
    ),
    "test-clean": Published(
        12, "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23", 2620
    ),
    "test-other": Published(
        12, "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29", 2939
    ),
}
_AUDIO_SUFFIXES = (".flac", ".wav", ".mp3", ".ogg", ".opus")
_TOLERANCE = 0.01  # share of the minutes


class Corpus(Settings):
    """Which subsets are read, and what they are for."""

    train: tuple[Subset, ...] = Field(min_length=1)
    """Subsets to train on."""
    dev: tuple[Subset, ...] = ()
    """Subsets that choose the epoch; none means `num_dev_speakers` of the training speakers."""
    test: tuple[Subset, ...] = ()
    """Test sets: the first is `test.jsonl`, which is scored; each other one is written as
    `<subset>.jsonl`. None means `num_test_speakers` of the training speakers."""
    num_dev_speakers: int = Field(0, ge=0)
    """Training speakers whose utterances are the dev set; for no `dev`."""
    num_test_speakers: int = Field(0, ge=0)
    """Training speakers whose utterances are the test set; for no `test`."""
    seed: int = Field(1, ge=0)
    """Of the draw of speakers."""
    all_speakers: bool = True
    """Whether a subset must hold every speaker that was published, or those that are there do."""

    @property
    def subsets(self) -> tuple[str, ...]:
        """All that are read, each once."""
        return tuple(dict.fromkeys((*self.train, *self.dev, *self.test)))

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, subsets, num_speakers in (
            ("dev", self.dev, self.num_dev_speakers),
            ("test", self.test, self.num_test_speakers),
        ):
            if bool(subsets) == bool(num_speakers):
                raise ValueError(
                    f"{name} or num_{name}_speakers is needed, and not both: subsets, or how many "
                    "training speakers are taken out"
                )
        return self


@dataclass(frozen=True, slots=True)
class Reader:
    """A line of SPEAKERS.TXT."""

    sex: str
    subset: str
    minutes: float


def download(target: Path, subsets: Iterable[str]) -> None:
    """Fetch and unpack each subset's archive into `target/<subset>`; one that is there stays.

    Raises:
        DataError: no network, or another archive than expected.
    """
    for subset in subsets:
        if (target / subset).is_dir():
            continue
        published = PUBLISHED[subset]
        path = target / f"{subset}.tar.gz"
        url = f"https://www.openslr.org/resources/{published.resource}/{path.name}"
        archive.download(url, path, published.checksum)
        archive.extract(path, target / subset)


def prepare(source: Path, folder: Path, corpus: Corpus) -> None:
    """Write `train.jsonl`, `dev.jsonl`, `test.jsonl` and further test sets into `folder`.

    Args:
        source: the folder with the subsets, one that holds it as `LibriSpeech`, or a download.
        folder: for the manifests.
        corpus: which subsets.

    Raises:
        DataError: a subset is missing or incomplete, an audio file has no transcript or the other
            way round, minutes are not as published, or a speaker would be in two sets.
    """
    readers: dict[str, Reader] = {}
    subsets = {}
    for name in corpus.subsets:
        subsets[name] = read_subset(source, name, all_speakers=corpus.all_speakers)
        readers |= _read_speakers(_find_root(source, name) / "SPEAKERS.TXT", name)
    sets = {
        "train": [u for name in corpus.train for u in subsets[name]],
        "dev": [u for name in corpus.dev for u in subsets[name]],
        **{"test" if place == 0 else name: subsets[name] for place, name in enumerate(corpus.test)},
    }
    rng = random.Random(corpus.seed)
    for name, num_speakers in (
        ("test", corpus.num_test_speakers),
        ("dev", corpus.num_dev_speakers),
    ):
        if num_speakers:
            drawn = _draw_speakers(sets["train"], readers, num_speakers, rng)
            sets[name] = [u for u in sets["train"] if u.speaker in drawn]
            sets["train"] = [u for u in sets["train"] if u.speaker not in drawn]
    _check_disjoint(sets, source)
    for name, utterances in sets.items():
        write_manifest(utterances, folder / f"{name}.jsonl")


def read_subset(source: Path, subset: str, *, all_speakers: bool) -> list[Utterance]:
    """The utterances of a subset, by speaker and chapter.

    Args:
        source: as for `prepare`.
        subset: one of `PUBLISHED`.
        all_speakers: whether every speaker that was published must be there.

    Raises:
        DataError: as `prepare`.
    """
    root = _find_root(source, subset)
    readers = _read_speakers(root / "SPEAKERS.TXT", subset)
    return _read_utterances(root, subset, readers, all_speakers)


def _find_root(source: Path, subset: str) -> Path:
    # A download is unpacked to <subset>/LibriSpeech/<subset>.
    for folder in (source / subset / "LibriSpeech", source, source / "LibriSpeech"):
        if (folder / subset).is_dir():
            return folder
    raise DataError(
        f"{source}: no {subset} of LibriSpeech ({subset}/<speaker>/<chapter>); get {subset}.tar.gz "
        f"from {URL.replace('12', str(PUBLISHED[subset].resource))} and name the folder with "
        "--corpus DIR, or name other subsets in the section corpus of the configuration"
    )


def _read_speakers(path: Path, subset: str) -> dict[str, Reader]:
    """The readers of a subset (or of the one that it is a part of) by id."""
    own = {subset, PUBLISHED[subset].part_of}
    readers = {}
    for number, line in enumerate(_read_lines(path), start=1):
        if not line.strip() or line.startswith(";"):
            continue
        fields = [field.strip() for field in line.split("|", maxsplit=4)]
        try:
            reader = Reader(sex=fields[1], subset=fields[2], minutes=float(fields[3]))
        except (IndexError, ValueError) as error:
            raise DataError(f"{path}:{number}: id | sex | subset | minutes is expected") from error
        if reader.subset in own:
            readers[fields[0]] = reader
    return readers


def _read_utterances(
    root: Path, subset: str, readers: dict[str, Reader], all_speakers: bool
) -> list[Utterance]:
    folder = root / subset
    texts: dict[Path, str] = {}
    for chapter in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        if chapter.parent.name not in readers:
            raise DataError(
                f"{chapter.parent}: SPEAKERS.TXT has no speaker {chapter.parent.name} of {subset}"
            )
        texts |= _read_chapter(chapter)
    published = PUBLISHED[subset]
    if all_speakers and len(texts) != published.num_utterances:
        raise DataError(
            f"{folder}: {len(texts)} utterances, expected {published.num_utterances}; with "
            "corpus.all_speakers=false those speakers that are there are taken"
        )
    if not texts:
        raise DataError(f"{folder}: no utterances")
    utterances = [
        _utterance(path, text)
        for path, text in track(texts.items(), total=len(texts), label=subset, unit="utterances")
    ]
    if not published.part_of:
        speakers = {str(utterance.speaker) for utterance in utterances}
        expected = sum(readers[speaker].minutes for speaker in speakers)
        found = sum(utterance.duration for utterance in utterances) / 60
        if abs(found - expected) > _TOLERANCE * expected:
            raise DataError(
                f"{folder}: {found:.1f} min by {len(speakers)} speakers, expected {expected:.1f} "
                "min (SPEAKERS.TXT)"
            )
    return utterances


def _read_chapter(folder: Path) -> dict[Path, str]:
    """Text by audio file."""
    path = folder / f"{folder.parent.name}-{folder.name}.trans.txt"
    audio = {file.stem: file for file in folder.iterdir() if file.suffix in _AUDIO_SUFFIXES}
    texts = {}
    for number, line in enumerate(_read_lines(path), start=1):
        utterance_id, _, text = line.partition(" ")
        if utterance_id not in audio:
            raise DataError(f"{path}:{number}: {utterance_id} has no audio file in its folder")
        if not text.strip():
            raise DataError(f"{path}:{number}: {utterance_id} has no words")
        texts[audio.pop(utterance_id)] = text.strip().lower()
    for file in sorted(audio.values()):
        raise DataError(f"{file}: has no transcript in {path.name}")
    return texts


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: missing or unreadable") from error


def _utterance(path: Path, text: str) -> Utterance:
    try:
        audio = soundfile.info(path)
    except soundfile.LibsndfileError as error:
        raise DataError(f"{path}: not readable as audio") from error
    return Utterance(
        id=path.stem,
        audio_filepath=path,
        duration=audio.frames / audio.samplerate,
        text=text,
        speaker=path.parent.parent.name,
    )


def _draw_speakers(
    utterances: Sequence[Utterance], readers: dict[str, Reader], number: int, rng: random.Random
) -> set[str]:
    speakers = sorted({str(utterance.speaker) for utterance in utterances})
    if number >= len(speakers):
        raise DataError(
            f"{number} of {len(speakers)} speakers cannot be taken out of train and leave one; "
            "lower corpus.num_dev_speakers or corpus.num_test_speakers"
        )
    women = [speaker for speaker in speakers if readers[speaker].sex == "F"]
    men = [speaker for speaker in speakers if readers[speaker].sex != "F"]
    num_women = round(number * len(women) / len(speakers))
    return {*rng.sample(women, num_women), *rng.sample(men, number - num_women)}


def _check_disjoint(sets: dict[str, list[Utterance]], source: Path) -> None:
    """No utterance is in a set twice, and no speaker in two sets."""
    set_of: dict[str, str] = {}
    for name, utterances in sets.items():
        for utterance_id, count in Counter(u.id for u in utterances).items():
            if count > 1:
                raise DataError(f"{source}: utterance {utterance_id} is in {name} twice")
        for speaker in sorted({str(utterance.speaker) for utterance in utterances}):
            other = set_of.setdefault(speaker, name)
            if other != name:
                raise DataError(f"{source}: speaker {speaker} is in {other} and in {name}")
