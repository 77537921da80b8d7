"""Which configuration suits a corpus of one's own, and which model its training starts from.

Sizes are those that the recipes of this project found for corpora of such lengths. What is learnt
is counted in updates, since the same number of epochs is too few for a small corpus and too many
for a large one.
"""

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asr import decoding
from asr.config import TokenConfig
from asr.errors import ConfigError, DataError, ModelError
from asr.model import LoadedModel, folder, locate_model, read_model
from asr.progress import Report
from asr.recipe.fitting import fit_settings
from asr.text import build_tokens, normalize

NOTHING = "none"
"""In place of a model's name: train from random weights."""

_FEW_WORDS = 60  # so few different ones are units themselves
_SHORT_SECONDS = 1.0  # an utterance whose mean says which word it is
_UPDATES_OF_WORDS = 2500
_UPDATES_OF_SENTENCES = 8000  # fewer end on or near the plateau of blanks
_UPDATES_FROM_MODEL = 2000
_MIN_EPOCHS = 20  # of much speech
_MIN_EPOCHS_FROM_MODEL = 5
_NUM_SCORED = 50  # epochs after which dev is scored, about
_ORDER = 3  # of n-grams of the transcripts
_SHOWN = 10  # characters that are named


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusShape:
    """What of a corpus decides the sizes of its model."""

    hours: float
    """Of training speech."""
    median_seconds: float
    """Of an utterance."""
    sample_rate: int
    """Hz."""
    texts: Sequence[str]
    """Of the training set."""
    is_spoken: bool = False
    """By synthetic voices, which real speech differs from."""

    @property
    def is_of_words(self) -> bool:
        """Whether there are so few words that each can be a unit."""
        return len({word for text in self.texts for word in text.split()}) <= _FEW_WORDS

    @property
    def is_short(self) -> bool:
        """Whether an utterance says little but one word."""
        return self.median_seconds < _SHORT_SECONDS


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What a user asks of the model to be trained."""

    init: str | None = None
    """A model folder, a starter or `NOTHING`; none takes a starter that suits."""
    language: str | None = None
    """eSpeak NG's name of it, if known."""
    live: bool = False
    """Text is wanted while somebody speaks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A model that training starts from."""

    name: str
    """As the user gave it: a folder, or a starter's name."""
    model: LoadedModel
    has_ngrams: bool
    """Whether n-grams of words come with it, for those of the transcripts to be mixed with."""


def choose_start(wishes: Wishes, shape: CorpusShape, report: Report) -> Start | None:
    """The model that is asked for, or else a starter that suits; none is random weights.

    Args:
        report: told what is started from and, of a starter that does not suit, why not.

    Raises:
        ModelError: there is no such model, or it cannot be trained.
        ConfigError: it does not go with what else is asked for.
    """
    if wishes.init == NOTHING:
        return None
    if wishes.init is not None:
        start = open_start(wishes)
        assert start is not None
        start = _with_ngrams_that_suit(start, shape, wishes)
        report(f"training starts from {start.name}{_news(start, shape)}")
        return start
    for name in folder.starters():
        start = _open(name)
        if obstacle := _obstacle(start, shape, wishes):
            remedy = "" if wishes.live else f"; --init {name} starts from it all the same"
            report(f"training starts from nothing, and not from {name}: {obstacle}{remedy}")
            continue
        report(
            f"training starts from {name}{_news(start, shape)}; --init {NOTHING} starts from "
            "nothing"
        )
        return start
    return None


def open_start(wishes: Wishes) -> Start | None:
    """The model that is asked for by name or folder, if any; as `choose_start`, without a corpus.

    Raises:
        ModelError: there is no such model, or it cannot be trained.
        ConfigError: it does not go with what else is asked for.
    """
    if wishes.init in (None, NOTHING):
        return None
    assert wishes.init is not None
    start = _open(wishes.init)
    if start.model.tokens.pronunciations is not None:
        raise ConfigError(
            f"--init {wishes.init}: writes phones, whose pronunciations a recipe of one's own has "
            "not; give a model of characters or byte-pair units"
        )
    if wishes.live and not _is_live(start.model):
        raise ConfigError(
            f"--init {wishes.init}: {_NOT_LIVE}, and --live wants text before its end; give a "
            "model that was trained with --live, or leave one of the two out"
        )
    return start


def _with_ngrams_that_suit(start: Start, shape: CorpusShape, wishes: Wishes) -> Start:
    """Without n-grams of another language, which `wishes` or unknown letters tell."""
    if not (_is_of_another_language(start, wishes) or _lacking_letters(start, shape)):
        return start
    return replace(start, has_ngrams=False)


_NOT_LIVE = "it hears whole utterances"


def choose_settings(
    shape: CorpusShape, start: Start | None = None, *, live: bool = False
) -> dict[str, Any]:
    """The configuration that suits a corpus: what differs from the defaults."""
    settings = _settings_from_nothing(shape) if start is None else _settings_of(start, shape)
    if live:
        # As in conf/digits/live.yaml.
        settings["augment"] = {
            **{key: value for key, value in settings["augment"].items() if key != "time_masks"},
            "join_probability": 0.5,
        }
    if live and start is None:
        encoder = settings["encoder"]
        units = max(256, encoder["hidden_size"])
        settings["encoder"] = {**encoder, "bidirectional": False, "hidden_size": units}
        if not shape.is_short:
            settings["features"]["normalization"] = "running"
    return settings


def describe_budget(shape: CorpusShape, settings: dict[str, Any]) -> str:
    """What the number of epochs comes from, in a line."""
    training = settings["training"]
    batch = training["batch_seconds"]
    updates = training["epochs"] * 3600 * shape.hours / batch
    return (
        f"{training['epochs']} epochs are about {round(updates, -2):,.0f} updates: "
        f"{shape.hours:.2f} hours in batches of {batch:g} seconds"
    )


def _settings_from_nothing(shape: CorpusShape) -> dict[str, Any]:
    hours = shape.hours
    units, layers = (128, 2) if hours < 0.75 else (192, 3) if hours < 5 else (384, 4)
    narrow = shape.sample_rate <= 8000
    is_quick = shape.is_of_words or shape.is_short
    updates = _UPDATES_OF_WORDS if is_quick else _UPDATES_OF_SENTENCES
    augment = {**_augment(shape), "freq_masks": 2, "freq_mask_width": 6 if narrow else 12}
    if not shape.is_short:
        augment["time_masks"] = 2
    return {
        "features": {
            "sample_rate": shape.sample_rate,
            "num_mel_bins": 40 if narrow else 80,
            "noise_floor_db": -70,
            "normalization": "global" if shape.is_short else "sliding",
        },
        "augment": augment,
        "tokens": _tokens(shape),
        "encoder": {
            "hidden_size": units,
            "num_layers": layers,
            "conv_channels": 128,
            "subsampling": 2 if hours < 5 else 3,
        },
        "training": {
            **_budget(shape, updates),
            "learning_rate": 0.003 if hours < 5 else 0.002,
        },
    }


def _settings_of(start: Start, shape: CorpusShape) -> dict[str, Any]:
    """Those of the model, but what may differ."""
    # Fewer updates than from nothing, so that as much as there would keep it from learning.
    augment = {**_augment(shape), "freq_masks": 1, "freq_mask_width": 8, "time_masks": 3}
    if not shape.is_spoken:
        augment["noise_probability"] = 0.1
    budget = _budget(shape, _UPDATES_FROM_MODEL, _MIN_EPOCHS_FROM_MODEL)
    # In the order in which a configuration has them; the empty ones are the model's.
    own = {"features": {}, "augment": augment, "tokens": {}, "encoder": {}, "training": budget}
    settings = fit_settings(own, Path(start.name))
    if start.has_ngrams and not shape.is_of_words:
        settings["lm"] = {"order": _ORDER, "base": settings["training"]["init"]["model"]}
    return settings


def _augment(shape: CorpusShape) -> dict[str, Any]:
    """Without masks."""
    augment: dict[str, Any] = {
        "speeds": [0.9, 1.0, 1.1],
        "vocal_tract": 0.1,
        "gain_db": 6,
        "noise_probability": 0.3,
        "noise_snr_db": [10, 30],
    }
    if shape.is_spoken:
        augment |= {"vocal_tract": 0.2, "gain_db": 15, "noise_probability": 0.7}
        augment |= {"noise_snr_db": [5, 30], "reverb_probability": 0.4, "channel_db": 12}
    return augment


def _budget(shape: CorpusShape, updates: int, min_epochs: int = _MIN_EPOCHS) -> dict[str, Any]:
    """Batches and epochs for so many updates."""
    hours = shape.hours
    batch = 12.0 if hours < 0.75 else 20.0 if hours < 2 else 40.0 if hours < 5 else 120.0
    batch = max(batch, round(4 * shape.median_seconds))
    epochs = max(min_epochs, math.ceil(updates * batch / (3600 * hours)))
    return {
        "epochs": epochs,
        "batch_seconds": batch,
        "dev_interval": max(1, round(epochs / _NUM_SCORED)),
    }


def _tokens(shape: CorpusShape) -> dict[str, Any]:
    """Words as units where there are few of them; else characters."""
    if not shape.is_of_words:
        return {"kind": "characters"}
    words = {word for text in shape.texts for word in text.split()}
    characters = {character for word in words for character in word}
    # A merge for each character of each word is the most that there can be.
    most = len(characters) + sum(len(word) for word in words) + 2
    for size in range(most, len(characters) + 2, -1):
        try:
            build_tokens(shape.texts, TokenConfig(kind="bpe", vocabulary_size=max(8, size)))
        except DataError:
            continue
        return {"kind": "bpe", "vocabulary_size": max(8, size)}
    return {"kind": "characters"}


def _open(name: str) -> Start:
    place = locate_model(Path(name))
    if folder.is_exported(place):
        raise ModelError(
            f"--init {name}: is exported and cannot be trained; give the model folder that it was "
            "exported from"
        )
    return Start(
        name=name,
        model=read_model(place),
        has_ngrams=decoding.options.read_decoding(place).lm is not None,
    )


def _is_live(model: LoadedModel) -> bool:
    normalizes_live = model.config.features.normalization in ("none", "global", "running")
    return normalizes_live and not model.config.encoder.bidirectional


def _obstacle(start: Start, shape: CorpusShape, wishes: Wishes) -> str:
    """Why a starter is not started from unasked; empty where it is."""
    rate = start.model.config.features.sample_rate
    if wishes.live and not _is_live(start.model):
        return f"{_NOT_LIVE}, and --live wants text before its end"
    if _is_of_another_language(start, wishes):
        return f"its language is {start.model.training['language']}"
    if shape.sample_rate < rate:
        return f"it was trained on audio of {rate} Hz, and this has {shape.sample_rate}"
    if shape.is_of_words:
        return f"for at most {_FEW_WORDS} words a small model of them does"
    if letters := _lacking_letters(start, shape):
        return f"it lacks the letters {_listed(letters)}"
    return ""


def _is_of_another_language(start: Start, wishes: Wishes) -> bool:
    language = start.model.training.get("language")
    if not language or not wishes.language:
        return False
    return bool(wishes.language.partition("-")[0] != language)


def _lacking_letters(start: Start, shape: CorpusShape) -> list[str]:
    return [c for c in _unknown(start, shape) if unicodedata.category(c)[0] == "L"]


def _news(start: Start, shape: CorpusShape) -> str:
    """What the model has to learn from nothing, to be added to a line."""
    parts = []
    unknown = list(_unknown(start, shape))
    if unknown:
        parts.append(f"it lacks {_listed(unknown)}, which it learns from nothing")
    if any(character.isdecimal() for character in unknown):
        parts.append("corpus.normalizer english writes numbers as English words")
    rate = start.model.config.features.sample_rate
    if shape.sample_rate < rate:
        parts.append(f"audio is resampled to its {rate} Hz")
    return "".join(f"; {part}" for part in parts)


def _unknown(start: Start, shape: CorpusShape) -> Iterator[str]:
    """Characters of the texts that the model has no token for, by code."""
    counts = start.model.tokens.count_unknown(map(normalize, shape.texts))
    yield from sorted(character for character in counts if not character.isspace())


def _listed(characters: Sequence[str]) -> str:
    more = ", ..." if len(characters) > _SHOWN else ""
    return f"{', '.join(characters[:_SHOWN])}{more}"
