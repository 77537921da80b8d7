"""The models of a server, by name, each in memory once."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr.decoding import DecodingOptions
from asr.errors import ConfigError, printable
from asr.server.sharing import SharedNetwork
from asr.text import normalize
from asr.transcription import Recognizer

_NO_NAMES = ("model", "default")  # of folders in a work folder, which say nothing
_LONGEST_NAME = 100
_MOST_WORDS = 200  # of a prompt
_PUNCTUATION = ".,;:!?()[]{}\"'\u201c\u201d\u00bf\u00a1"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedModel:
    """A model under the name that requests call it by."""

    name: str
    recognizer: Recognizer
    """Whose network is shared."""
    loaded: int
    """When, in seconds since 1970."""

    def heeding(self, prompt: str, weight: float) -> Recognizer:
        """The recognizer that prefers a prompt's words, as they are, in lower case and bare."""
        words: dict[str, None] = {}
        for word in normalize(prompt).split()[:_MOST_WORDS]:
            bare = word.strip(_PUNCTUATION)
            words |= dict.fromkeys(each for each in (bare, bare.lower()) if each)
        return (
            self.recognizer.with_hot_words(words, weight) if words and weight else self.recognizer
        )

    @property
    def facts(self) -> Mapping[str, Any]:
        """As OpenAI's interface lists a model, and what a page wants to know of it."""
        features = self.recognizer.config.features
        return {
            "id": self.name,
            "object": "model",
            "created": self.loaded,
            "owned_by": "asr",
            "sample_rate": features.sample_rate,
        }


def load_models(
    names: Sequence[str],
    *,
    device: str = "auto",
    threads: int | None = None,
    decoding: DecodingOptions | None = None,
    count_batch: Callable[[int], None] = lambda _: None,
) -> list[ServedModel]:
    """Read models that are named as `FOLDER`, as a starter, or as `NAME=FOLDER`.

    Without a name, a model is called as the last part of its path that says something:
    `work/calls/default/model` is `calls`.

    Raises:
        ConfigError: two of one name, or a name that is none.
        ModelError: one cannot be used.
    """
    places = [_name_and_place(name) for name in names]
    taken: dict[str, str] = {}
    for name, place in places:
        if name in taken:
            raise ConfigError(
                f"{taken[name]} and {place} would both be called {name}; name one of them, as in "
                f"`asr serve {taken[name]} OTHER={place}`"
            )
        taken[name] = place
    return [
        serve_model(
            name,
            Recognizer.load(place, device=device, threads=threads, decoding=decoding),
            count_batch,
        )
        for name, place in places
    ]


def serve_model(
    name: str, recognizer: Recognizer, count_batch: Callable[[int], None] = lambda _: None
) -> ServedModel:
    """A model that is in memory, ready for many users.

    Raises:
        ModelError: it is exported, and what it hears live with is damaged.
    """
    rate = recognizer.config.features.sample_rate
    # What a first utterance brings along (Numba compiles the search) is not for the first user.
    noise = np.random.default_rng(0).normal(0.0, 0.01, rate)
    recognizer.transcribe(noise, sample_rate=rate)
    recognizer.listen()
    shared = recognizer.with_network(lambda network: SharedNetwork(network, rate, count_batch))
    return ServedModel(name=name, recognizer=shared, loaded=int(time.time()))


def _name_and_place(argument: str) -> tuple[str, str]:
    name, mark, place = argument.partition("=")
    if mark and not Path(argument).exists():
        if not name or not place or len(name) > _LONGEST_NAME or not name.isprintable():
            raise ConfigError(f"{printable(argument)}: NAME=FOLDER is expected")
        return name, place
    parts = [part for part in Path(argument).resolve().parts if part not in _NO_NAMES]
    return printable(parts[-1]), argument
