"""Sentences that language models learn from: a line of text, or a manifest's transcript."""

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from asr.corpus import is_manifest, read_rows
from asr.errors import DataError
from asr.text import read_lines

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

    Sentences without a word are left out.

    Raises:
        DataError: unreadable, no sentence, a manifest's line without `text`, or `<s>` among the
            words.
    """
    any_there = False
    rows = _manifest_texts(path) if is_manifest(path) else read_lines(path)
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


def _manifest_texts(path: Path) -> Iterator[tuple[int, str]]:
    for number, row in read_rows(path):
        text = row.get("text")
        if not isinstance(text, str):
            raise DataError(f"{path}:{number}: key text is missing or is not text")
        yield number, text
