"""Named text normalizers, applied to references and hypotheses alike before they are compared.

Each but `whisper` is idempotent: normalized text stays as it is.
"""

import unicodedata
import warnings
from collections.abc import Callable, Mapping
from functools import cache

from asr.errors import ConfigError
from asr.text.english import normalize_english

_APOSTROPHES = str.maketrans("’ʼ‘`´", "'''''")  # noqa: RUF001
_REMOVED_CATEGORY = "Cf"  # zero-width joiners, soft hyphens, direction marks
_WORD_CLASSES = "LMN"  # letters, marks, numbers


def normalize_none(text: str) -> str:
    """The text as it is."""
    return text


def normalize_basic(text: str) -> str:
    """Case folded, Unicode NFKC, no punctuation, single spaces; for any language."""
    text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).casefold()
    text = "".join(c for c in text if unicodedata.category(c) != _REMOVED_CATEGORY)
    text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES)
    return " ".join(
        "".join(
            c if unicodedata.category(c)[0] in _WORD_CLASSES or _is_inside(text, position) else " "
            for position, c in enumerate(text)
        ).split()
    )


def _is_inside(text: str, position: int) -> bool:
    """Whether an apostrophe is inside a word, or a point, comma or colon inside a number."""
    around = text[position - 1 : position] + text[position + 1 : position + 2]
    classes = [unicodedata.category(c) for c in around]
    if len(classes) < 2:
        return False
    if text[position] == "'":
        return all(name[0] in _WORD_CLASSES for name in classes)
    return text[position] in ".,:" and all(name == "Nd" for name in classes)


def normalize_whisper(text: str) -> str:
    """English as OpenAI's Whisper and the Open ASR Leaderboard normalize it."""
    return " ".join(_whisper_normalizer()(text).split())


@cache
def _whisper_normalizer() -> Callable[[str], str]:
    """The package `whisper-normalizer`'s.

    Raises:
        ConfigError: it is not there.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of its spelling, which Python says at the first import
            from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise ConfigError(
            "normalizer whisper needs a package: pip install 'asr-recipes[normalizer]'"
        ) from error
    normalizer: Callable[[str], str] = EnglishTextNormalizer()
    return normalizer


NORMALIZERS: Mapping[str, Callable[[str], str]] = {
    "none": normalize_none,
    "basic": normalize_basic,
    "english": lambda text: normalize_english(text, normalize_basic),
    "whisper": normalize_whisper,
}


def find_normalizer(name: str) -> Callable[[str], str]:
    """The normalizer of a name.

    Raises:
        ConfigError: there is none, or its package is not there.
    """
    if name not in NORMALIZERS:
        raise ConfigError(f"no normalizer {name!r}; there are {', '.join(NORMALIZERS)}")
    if name == "whisper":
        _whisper_normalizer()
    return NORMALIZERS[name]
