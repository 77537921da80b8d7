"""Training, dev and test sets from a user's own recordings, or from sentences that voices speak.

What the recipes that `asr init` writes do to prepare their data.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from asr.config import RecordingsConfig, SentencesConfig
from asr.corpus import Utterance, espeak_voices, formats, synthesis, voices, write_manifest
from asr.corpus import split as corpus_split
from asr.errors import DataError
from asr.progress import Report
from asr.text import find_normalizer, normalize, read_lines

_NAMES = ("train", "dev", "test")
_MIN_SPEAKERS = 5  # fewer are too few to be kept apart
_NUM_SEEDS = 50  # divisions that are tried
_FEW_SENTENCES = 30  # so few are spoken in all splits


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusSource:
    """Where a corpus of one's own is, as `import_corpus` takes it."""

    path: Path
    format: str = "auto"
    tiers: tuple[str, ...] = ()
    speaker_pattern: str | None = None

    def utterances(self, report: Report) -> Iterator[Utterance]:
        """Its utterances; as `import_corpus`."""
        pattern = None if self.speaker_pattern is None else re.compile(self.speaker_pattern)
        return formats.import_corpus(
            self.path, self.format, report, tiers=self.tiers, speaker_pattern=pattern
        )


def prepare_recordings(
    source: CorpusSource, folder: Path, config: RecordingsConfig, report: Report
) -> None:
    """Write `train.jsonl`, `dev.jsonl` and `test.jsonl` of a corpus into `folder`.

    What a manifest says of how sure a machine is of its texts is kept.

    Raises:
        DataError: as `divide`, or the corpus cannot be read.
    """
    splits = divide(source.utterances(report), config, report)
    certainties = formats.import_certainties(source.path, source.format)
    for name, utterances in splits.items():
        write_manifest(utterances, folder / f"{name}.jsonl", certainties)


def divide(
    utterances: Iterable[Utterance], config: RecordingsConfig, report: Report
) -> dict[str, list[Utterance]]:
    """Train, dev and test, which share no speaker where five or more are known.

    With fewer speakers recordings are divided, and with fewer than three of these utterances. A
    division in which dev has characters that train lacks is drawn anew.

    Raises:
        DataError: fewer than three utterances with a transcript, or no such division.
    """
    clean = find_normalizer(config.normalizer)
    corpus = [
        replace(u, text=None if u.text is None else normalize(clean(u.text))) for u in utterances
    ]
    without = [u.id for u in corpus if not u.text]
    if without:
        report(f"{len(without)} utterances have no words: left out; the first is {without[0]}")
    corpus = [u for u in corpus if u.text]
    if len(corpus) < len(_NAMES):
        raise DataError(
            f"{len(corpus)} utterances with a transcript: too few for train, dev and test sets"
        )
    unit, counts = _choose_unit(corpus, report)
    shares = {"dev": config.dev, "test": config.test}
    for seed in range(config.seed, config.seed + _NUM_SEEDS):
        chosen = corpus_split.choose_splits(counts, shares, "train", seed, unit)
        splits: dict[str, list[Utterance]] = {name: [] for name in _NAMES}
        for utterance in corpus:
            splits[chosen[corpus_split.unit_of(utterance, unit)]].append(utterance)
        missing = _characters(splits["dev"]) - _characters(splits["train"])
        if not missing:
            break
    else:
        raise DataError(
            f"no division by {unit} has a training set with all characters of the dev set; "
            f"{', '.join(map(repr, sorted(missing)))}: too rare to be learnt"
        )
    if config.train_minutes is not None:
        splits["train"] = corpus_split.first_minutes(
            splits["train"], config.train_minutes, config.seed
        )
    for name, part in splits.items():
        hours = sum(utterance.duration for utterance in part) / 3600
        num_units = len({corpus_split.unit_of(utterance, unit) for utterance in part})
        report(f"{name}: {len(part)} utterances, {hours:.2f} hours, {num_units} {unit}s")
    return splits


def prepare_sentences(path: Path, folder: Path, config: SentencesConfig, language: str) -> None:
    """Let voices speak the sentences of a file, a line each, by `speak_corpus`.

    Voices differ from split to split, and so do sentences where there are enough.

    Raises:
        DataError: no sentences, or eSpeak NG is not installed or fails.
    """
    splits = divide_sentences(list_sentences(path), config)
    accents = espeak_voices.ENGLISH if language == "en" else (language,)

    def draw(
        split: voices.Split, voice: voices.Voice, rng: np.random.Generator
    ) -> synthesis.Sentence:
        del voice
        sentences = splits[split]
        return sentences[int(rng.integers(len(sentences)))]

    synthesis.speak_corpus(folder, config, accents, draw)


def list_sentences(path: Path) -> list[str]:
    """The lines of a file, without repetitions.

    Raises:
        DataError: unreadable, or there are none.
    """
    sentences = list(dict.fromkeys(line.strip() for _, line in read_lines(path)))
    if not sentences:
        raise DataError(f"{path}: no sentences in it")
    return sentences


def divide_sentences(
    sentences: Sequence[str], config: SentencesConfig
) -> dict[voices.Split, list[synthesis.Sentence]]:
    """The sentences of each split: by a hash, so that it holds when others are added.

    Of ten sentences about eight are in train, one in dev and one in test. Fewer than 30 are in all
    three, and one with a character that train would lack is in train.

    Raises:
        DataError: no sentence has a word in it.
    """
    clean = find_normalizer(config.normalizer)
    corpus = [
        synthesis.Sentence(text=normalize(clean(spoken)), spoken=spoken) for spoken in sentences
    ]
    corpus = [sentence for sentence in corpus if sentence.text]
    if not corpus:
        raise DataError("the sentences have no words")
    if len(corpus) < _FEW_SENTENCES:
        return {"train": corpus, "dev": corpus, "test": corpus}
    splits: dict[voices.Split, list[synthesis.Sentence]] = {"train": [], "dev": [], "test": []}
    held_out: list[tuple[voices.Split, synthesis.Sentence]] = []
    for sentence in corpus:
        bucket = hashlib.sha256(sentence.text.encode()).digest()[0] % 10
        if bucket > 1:
            splits["train"].append(sentence)
        else:
            held_out.append(("dev" if bucket else "test", sentence))
    characters = {character for sentence in splits["train"] for character in sentence.text}
    for name, sentence in held_out:
        splits[name if set(sentence.text) <= characters else "train"].append(sentence)
    return {name: part or corpus for name, part in splits.items()}


def _choose_unit(
    utterances: Sequence[Utterance], report: Report
) -> tuple[corpus_split.SplitUnit, Mapping[str, int]]:
    with_speaker = sum(utterance.speaker is not None for utterance in utterances)
    units: tuple[corpus_split.SplitUnit, ...] = ("recording", "utterance")
    if with_speaker == len(utterances):
        units = ("speaker", *units)
    elif with_speaker:
        report(f"{len(utterances) - with_speaker} utterances have no speaker")
    for unit in units:
        counts = corpus_split.count_units(utterances, unit)
        if len(counts) >= (_MIN_SPEAKERS if unit == "speaker" else len(_NAMES)):
            break
    if unit != "speaker":
        report(
            f"fewer than {_MIN_SPEAKERS} speakers are known: {unit}s are divided, and a speaker "
            "may be in several sets; the test set then says little about other people"
        )
    return unit, counts


def _characters(utterances: Iterable[Utterance]) -> set[str]:
    return {character for utterance in utterances for character in utterance.text or ""}
