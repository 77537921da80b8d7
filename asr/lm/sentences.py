"""Sentences that language models learn from: a line of text, or a manifest's transcript."""

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from asr.corpus import is_manifest, read_rows
from asr.errors import DataError
from asr.text import lines, normalize

Unit = Literal["word", "character"]

UNKNOWN, START, END = "<unk>", "<s>", "</s>"
SPACE = "<space>"
"""The space where the units are characters."""


def split_sentence(text: str, unit: Unit) -> list[str]:
    """The units of a text, in Unicode NFC; runs of white space are one space.

    Raises:
        DataError: a mark of a sentence's bounds among the words.
    """
    words = unicodedata.normalize("NFC", text).split()
    if unit == "character":
        return [SPACE if character == " " else character for character in " ".join(words)]
    for mark in (START, END):
        if mark in words:
            raise DataError(f"{mark} is no word: sentences get their bounds by themselves")
    return words


def read_sentences(path: Path, unit: Unit) -> Iterator[list[str]]:
    """The sentences of a text file, one a line, or of a manifest, told by its name.

    Either may be packed: by gzip, a text by xz, too. Sentences without a word are left out.

    Raises:
        DataError: unreadable, no sentence, a manifest's line without `text`, or `<s>` among the
            words.
    """
    any_there = False
    rows = _manifest_texts(path) if is_manifest(path) else lines.stream_lines(path)
    for number, text in rows:
        try:
            units = split_sentence(text, unit)
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from error
        if units:
            any_there = True
            yield units
    if not any_there:
        raise DataError(f"{path}: there is no sentence in it")


def read_words(path: Path) -> list[str]:
    """The words of a vocabulary or lexicon: of each line the first, each once.

    Raises:
        DataError: unreadable, or there is none.
    """
    words = dict.fromkeys(normalize(line.split()[0]) for _, line in lines.stream_lines(path))
    if not words:
        raise DataError(f"{path}: there is no word in it")
    return [word for word in words if word not in (UNKNOWN, START, END)]


def _manifest_texts(path: Path) -> Iterator[tuple[int, str]]:
    for number, row in read_rows(path):
        text = row.get("text")
        if not isinstance(text, str):
            raise DataError(f"{path}:{number}: key text is missing or is not text")
        yield number, text
