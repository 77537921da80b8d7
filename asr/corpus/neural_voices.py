"""Neural voices: speakers of models in folders, each with a speed and an accent.

They speak in a process of their own (`asr.corpus.neural`), by sherpa-onnx. With one version of it,
one kind of processor and one seed the audio is the same to the last bit.

Of five speakers or more a tenth each, at least one, are kept for dev and test; fewer speak in all
three splits. Accents are those that eSpeak NG reads by, and differ from speaker to speaker.
"""

import json
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from asr.audio import Samples
from asr.config import SynthesisConfig
from asr.corpus import neural
from asr.corpus.voice_models import Blend, VoiceModel, copy_voice_model, open_voice_model
from asr.corpus.voices import Say, Split, Voice, converse
from asr.errors import DataError

_log = logging.getLogger(__name__)

_MIN_SPEAKERS = 5  # fewer are in all splits
_BLEND_SHARE = (0.3, 0.7)


@dataclass(frozen=True, kw_only=True, slots=True)
class Speaker:
    """One of a model's."""

    model: int
    """Place of the model in the list."""
    number: int
    """Behind those of the model are those that are mixed."""


@dataclass(frozen=True, kw_only=True)
class NeuralVoices:
    """The engine."""

    models: Sequence[VoiceModel]
    accents: Sequence[str]
    """eSpeak NG's names of the accents and languages that texts are read by."""
    speakers: Sequence[int]
    """Of each model; none are all."""
    num_blends: int
    speeds: tuple[float, float]
    is_divided: bool = True
    """Whether some are kept for dev and test."""

    @classmethod
    def of(
        cls, config: SynthesisConfig, accents: Sequence[str], *, is_divided: bool = True
    ) -> "NeuralVoices":
        """Those of a configuration.

        Raises:
            DataError: a folder has no model, or a model lacks a speaker; eSpeak NG is missing.
        """
        if find_spec("espeakng_loader") is None:
            raise DataError(
                "eSpeak NG, by whose rules neural voices read, is not installed; "
                "pip install espeakng-loader (the extra asr-recipes[voices])"
            )
        models = [open_voice_model(folder) for folder in config.voice_models]
        for model in models:
            lacking = [n for n in config.speakers if not 0 <= n < model.num_speakers]
            if lacking:
                raise DataError(
                    f"{model.folder}: no speaker {lacking[0]}; it has {model.num_speakers}, "
                    f"0 to {model.num_speakers - 1}"
                )
        if config.blends and not any(model.has_styles for model in models):
            raise DataError(
                f"{models[0].folder}: blends {config.blends}: its speakers are no vectors that "
                "could be mixed, as those of Kokoro and Kitten are"
            )
        return cls(
            models=models,
            accents=accents,
            speakers=config.speakers,
            num_blends=config.blends,
            speeds=config.speeds,
            is_divided=is_divided,
        )

    @cached_property
    def splits(self) -> dict[Split, list[Speaker]]:
        """Who speaks in which, without those that are mixed; the same for every seed."""
        everybody = [
            Speaker(model=place, number=number)
            for place, model in enumerate(self.models)
            for number in dict.fromkeys(self.speakers or range(model.num_speakers))
        ]
        if self.is_divided and len(everybody) < _MIN_SPEAKERS:
            _log.warning(
                "%d neural speakers, fewer than %d, speak in the training, dev and test sets",
                len(everybody),
                _MIN_SPEAKERS,
            )
        if not self.is_divided or len(everybody) < _MIN_SPEAKERS:
            return {"train": everybody, "dev": everybody, "test": everybody}
        order = np.random.default_rng(0).permutation(len(everybody)).tolist()
        count = max(1, len(everybody) // 10)
        chosen = [everybody[index] for index in order]
        return {
            "dev": chosen[:count],
            "test": chosen[count : 2 * count],
            "train": chosen[2 * count :],
        }

    @cached_property
    def blends(self) -> list[list[Blend]]:
        """Of each model, of its speakers in the training set; the same for every seed."""
        rng = np.random.default_rng(0)
        blends = []
        for place, model in enumerate(self.models):
            numbers = [s.number for s in self.splits["train"] if s.model == place]
            count = self.num_blends if model.has_styles and len(numbers) > 1 else 0
            mixed = []
            for _ in range(count):
                first, second = rng.choice(numbers, 2, replace=False).tolist()
                mixed.append(Blend(first, second, float(rng.uniform(*_BLEND_SHARE))))
            blends.append(mixed)
        return blends

    def cast(self, split: Split, limit: int, rng: np.random.Generator) -> list[Voice]:
        """Every speaker of the split in every accent, in random order."""
        speakers = list(self.splits[split])
        if split == "train":
            speakers += [
                Speaker(model=place, number=model.num_speakers + number)
                for place, model in enumerate(self.models)
                for number in range(len(self.blends[place]))
            ]
        pairs = [(speaker, accent) for speaker in speakers for accent in self.accents]
        chosen = [pairs[index] for index in rng.permutation(len(pairs))]
        if split == "train":
            chosen = chosen[:limit]
        return [
            self._voice(speaker, accent, float(rng.uniform(*self.speeds)))
            for speaker, accent in chosen
        ]

    @contextmanager
    def speaking(self, seed: int) -> Iterator[Say]:
        """Start it, for a while.

        Raises:
            DataError: it fails, or eSpeak NG lacks an accent.
        """
        with tempfile.TemporaryDirectory(prefix="asr-voices-") as name:
            folder = Path(name)
            listed = [
                copy_voice_model(model, folder / str(place), self.blends[place], seed + place)
                for place, model in enumerate(self.models)
            ]
            (folder / "models.json").write_text(json.dumps(listed))
            program = [sys.executable, "-P", str(Path(neural.__file__))]
            with converse([*program, str(folder / "models.json")], "sherpa-onnx") as ask:

                def say(voice: Voice, text: str, rng: np.random.Generator, rate: int) -> Samples:
                    del rng
                    return ask({"text": text, **voice.settings}, rate)

                yield say

    def _voice(self, speaker: Speaker, accent: str, speed: float) -> Voice:
        name = f"{self.models[speaker.model].folder.resolve().name}-{speaker.number}"
        settings = {
            "voice": f"{accent}+{name}",
            "model": speaker.model,
            "speaker": speaker.number,
            "speed": speed,
            "accent": accent,
        }
        return Voice(name="_".join(name.split()), accent=accent, settings=settings)
