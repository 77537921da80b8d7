"""Named text normalizers, applied to references and hypotheses alike before they are compared.

Each is idempotent: normalized text stays as it is.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping

from asr.english import normalize_english
from asr.errors import ConfigError

# Between digits these belong to the number; an apostrophe between letters, to the word.
_KEPT = re.compile(r"(?<=\d)[.,:](?=\d)|(?<=\w)'(?=\w)")
_APOSTROPHES = str.maketrans("’ʼ‘`´", "'''''")  # noqa: RUF001
_REMOVED_CATEGORIES = frozenset({"Cf"})  # zero-width joiners, soft hyphens, direction marks
_SPACING_CLASSES = "PSZC"  # punctuation, symbols, separators, controls


def normalize_none(text: str) -> str:
    """The text as it is."""
    return text


def normalize_basic(text: str) -> str:
    """Case folded, Unicode NFKC, no punctuation, single spaces; for any language."""
    text = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).casefold()
    text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES)
    text = "".join(c for c in text if unicodedata.category(c) not in _REMOVED_CATEGORIES)
    kept = {match.start() for match in _KEPT.finditer(text)}
    return " ".join(
        "".join(
            c if position in kept or unicodedata.category(c)[0] not in _SPACING_CLASSES else " "
            for position, c in enumerate(text)
        ).split()
    )


NORMALIZERS: Mapping[str, Callable[[str], str]] = {
    "none": normalize_none,
    "basic": normalize_basic,
    "english": lambda text: normalize_english(text, normalize_basic),
}


def find_normalizer(name: str) -> Callable[[str], str]:
    """The normalizer of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in NORMALIZERS:
        raise ConfigError(f"no normalizer {name!r}; there are {', '.join(NORMALIZERS)}")
    return NORMALIZERS[name]
