"""eSpeak NG's voices: accents and languages with variants, in three splits that share none.

The Python package `espeakng-loader` (the extra `synthesis`) brings eSpeak NG (GPL-3), which speaks
in a process of its own (`asr.corpus.espeak`). With one version of it and one seed the audio is the
same to the last bit.

* a voice is an accent or language and a variant; every variant belongs to one split;
* rates (words a minute) are those of `_RATES`.

Left out are variants that whisper, buzz or falter, and all but one or two of those that sound the
same (log-mel distance below 0.5 at equal text).
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from asr.audio import Samples
from asr.corpus import espeak
from asr.corpus.voices import Say, Split, Voice, converse
from asr.errors import DataError

ENGLISH = (
    "en",  # Great Britain
    "en-us",
    "en-us-nyc",
    "en-029",  # Caribbean
    "en-gb-scotland",
    "en-gb-x-gbclan",  # Lancaster
    "en-gb-x-gbcwmd",  # West Midlands
    "en-gb-x-rp",
)

VARIANTS: dict[Split, tuple[str, ...]] = {
    "train": (
        *("Alex", "Alicia", "Andrea", "Andy", "AnxiousAndy", "Denis", "Diogo", "Gene"),
        *("Henrique", "Jacky", "Marco", "Michael", "Mike", "Mr serious", "Reed", "RicishayMax"),
        *("RicishayMax2", "RicishayMax3", "Tweaky", "adam", "anika", "announcer", "antonio"),
        *("aunty", "ed", "edward", "f2", "f3", "f5", "fast", "grandma", "grandpa", "gustave"),
        *("ian", "iven2", "iven4", "john", "klatt3", "klatt4", "m1", "m3", "m6", "m7", "m8"),
        *("marcelo", "max", "miguel", "mike2", "paul", "pedro", "rob", "robert", "sandro"),
        *("shelby", "steph"),
    ),
    "dev": ("Nguyen", "Storm", "belinda", "f1", "m5", "quincy", "travis", "victor"),
    "test": (
        *("Annie", "Lee", "Mario", "boris", "david", "f4"),
        *("linda", "m2", "m4", "norbert", "pablo"),
    ),
}

_RATES: dict[Split, tuple[int, ...]] = {
    "train": (110, 130, 150, 170, 190, 210),
    "dev": (120, 160, 200),
    "test": (100, 140, 180, 220),
}


@dataclass(frozen=True, slots=True)
class EspeakVoices:
    """The engine."""

    accents: Sequence[str]
    """eSpeak NG's names of accents and languages; each is spoken by all variants."""

    def cast(self, split: Split, limit: int, rng: np.random.Generator) -> list[Voice]:
        """Every accent with every variant of the split, in random order."""
        pairs = [(accent, variant) for variant in VARIANTS[split] for accent in self.accents]
        chosen = [pairs[index] for index in rng.permutation(len(pairs))]
        if split == "train":
            chosen = chosen[:limit]
        return [self._voice(split, accent, variant, rng) for accent, variant in chosen]

    @contextmanager
    def speaking(self, seed: int) -> Iterator[Say]:
        """Start it, for a while.

        Raises:
            DataError: it is not installed, fails, or lacks an accent.
        """
        if find_spec("espeakng_loader") is None:
            raise DataError(
                "eSpeak NG, which is to speak, is not installed; "
                "pip install espeakng-loader (the extra asr-recipes[synthesis])"
            )
        # -P, as the modules beside the program have names of the standard library's.
        command = [sys.executable, "-P", str(Path(espeak.__file__)), str(seed)]
        with converse(command, "eSpeak NG") as ask:

            def say(voice: Voice, text: str, rng: np.random.Generator, rate: int) -> Samples:
                word_gap = int(rng.integers(0, 9))
                return ask({"text": text, **voice.settings, "word_gap": word_gap}, rate)

            yield say

    @staticmethod
    def _voice(split: Split, accent: str, variant: str, rng: np.random.Generator) -> Voice:
        name = f"{accent}+{variant}"
        settings = {
            "voice": name,
            "rate": int(rng.choice(_RATES[split])),
            "pitch": int(rng.integers(30, 71)),
            "pitch_range": int(rng.integers(20, 81)),
        }
        return Voice(name=name.replace(" ", "_"), accent=accent, settings=settings)
