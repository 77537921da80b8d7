"""Which utterances are known already: what must not be learnt from, and what has a better text."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from asr import corpus
from asr.corpus import Utterance
from asr.recipe.stage import Work

_TOLERANCE = 0.01  # seconds by which stretches that follow one another may overlap


class Places:
    """Utterances, found again by their id, or by audio that they share."""

    def __init__(self, utterances: Iterable[Utterance] = ()):
        self._ids: set[str] = set()
        self._stretches: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
        for utterance in utterances:
            self.add(utterance)

    def add(self, utterance: Utterance) -> None:
        """Remember an utterance."""
        self._ids.add(utterance.id)
        file, start, end = _place(utterance)
        self._stretches[file].append((start, end, utterance.id))

    def find(self, utterance: Utterance) -> tuple[str, str] | None:
        """What an utterance shares (`id` or `audio`) with which one, if any."""
        if utterance.id in self._ids:
            return "id", utterance.id
        file, start, end = _place(utterance)
        for first, last, name in self._stretches.get(file, ()):
            if min(end, last) - max(start, first) > _TOLERANCE:
                return "audio", name
        return None


def held_out_sets(work: Work) -> Iterator[Path]:
    """Manifests that training must know nothing of: dev and test sets, and an old test set."""
    for path in sorted(work.path("manifests").rglob("*.jsonl*")):
        if path.name.startswith(("dev", "test")) and corpus.is_manifest(path):
            yield path
    init = work.config.training.init
    if init.model is not None and init.old_test is not None:
        yield init.old_test


def _place(utterance: Utterance) -> tuple[str, float, float]:
    """The file, and where in it the utterance begins and ends; 0 s long is to the end."""
    end = utterance.offset + (utterance.duration or float("inf"))
    return os.path.realpath(utterance.audio_filepath), utterance.offset, end
