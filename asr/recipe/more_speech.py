"""Further speech that training has besides the recipe's own (`training.more`).

As a rule a machine has written its texts. So what the recipe has reviewed, holds out or cannot
spell is left out of it, and what is less sure than asked for.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from asr import corpus
from asr.config import MoreSpeechConfig
from asr.corpus import PackedCorpus, Utterance, manifest
from asr.errors import DataError
from asr.recipe.held_out import Places, held_out_sets
from asr.recipe.stage import Work
from asr.text import tokens


def check_more(work: Work) -> None:
    """See that the manifests of further speech are there."""
    for key, settings in _named(work):
        if not settings.manifest.is_file():
            raise DataError(f"{key}: {settings.manifest}: no such file; a manifest is expected")


def pack_more(work: Work, folder: Path, train: Path, pronunciations: Path) -> None:
    """Decode the audio of further speech, each manifest's into a folder of its own in `folder`.

    Args:
        train: the packed training set.
        pronunciations: file of them, where tokens are phones.

    Raises:
        DataError: a manifest cannot be read, or all of it is left out.
    """
    for path in folder.glob("*"):
        corpus.packed.remove_packed(path)
    if not work.config.training.more:
        return
    check_more(work)
    choice = _Choice(work, corpus.open_packed(train), pronunciations)
    for number, (key, settings) in enumerate(_named(work)):
        chosen, objections = choice.choose(settings)
        reasons = ", ".join(f"{count} {reason}" for reason, count in objections.most_common())
        if not chosen:
            raise DataError(f"{key}: {settings.manifest}: nothing to learn from: {reasons}")
        packed = corpus.pack(chosen, folder / str(number), work.config.features)
        left_out = f"; left out: {reasons}" if reasons else ""
        work.report(
            f"{settings.manifest}: {len(chosen)} utterances, {packed.seconds / 60:.1f} minutes"
            f"{left_out}"
        )


def open_more(work: Work, folder: Path) -> list[PackedCorpus]:
    """What `pack_more` packed."""
    return [corpus.open_packed(folder / str(n)) for n, _ in enumerate(work.config.training.more)]


class _Choice:
    """What of further speech is learnt from; of two manifests with the same the first has it."""

    def __init__(self, work: Work, train: PackedCorpus, pronunciations: Path):
        held_out = [u for path in held_out_sets(work) for u in corpus.read_manifest(path)]
        self._held_out = Places(held_out)
        self._learnt = Places(train.utterances)
        # Of a recipe that keeps them apart; others have everybody in all sets.
        speakers = {utterance.speaker for utterance in held_out}
        self._speakers = speakers - set(train.column("speaker")) - {None}
        self._spells = _speller(train, pronunciations, work.config.tokens.kind == "phones")

    def choose(self, settings: MoreSpeechConfig) -> tuple[list[Utterance], Counter[str]]:
        """What of a manifest is learnt from, and why the rest is not."""
        chosen: list[Utterance] = []
        objections: Counter[str] = Counter()
        for utterance, confidence in manifest.read_confidences(settings.manifest):
            if objection := self._objection(utterance, confidence, settings.min_confidence):
                objections[objection] += 1
            else:
                chosen.append(utterance)
                self._learnt.add(utterance)
        return chosen, objections

    def _objection(self, utterance: Utterance, confidence: float, least: float) -> str:
        if self._held_out.find(utterance):
            return "are in a dev or test set"
        if utterance.speaker in self._speakers:
            return "are of a speaker of a dev or test set"
        if self._learnt.find(utterance):
            return "are in the training set already"
        if confidence < least:
            return f"are less sure than {least:g}"
        if not (utterance.text or "").strip():
            return "have no words"
        if not self._spells(utterance.text or ""):
            return "have letters or words that are not those of the training set"
        return ""


def _speller(train: PackedCorpus, pronunciations: Path, of_phones: bool) -> Callable[[str], bool]:
    """Whether a text can be written as the training set's texts are."""
    if of_phones:
        words = {word for _, word, _ in tokens.read_spellings(pronunciations)}
        return lambda text: words.issuperset(tokens.normalize(text).split())
    letters = {c for text in train.column("text") for c in tokens.normalize(text or "")} | {" "}
    return lambda text: letters.issuperset(tokens.normalize(text))


def _named(work: Work) -> Iterator[tuple[str, MoreSpeechConfig]]:
    for number, settings in enumerate(work.config.training.more):
        yield f"training.more.{number}.manifest", settings
