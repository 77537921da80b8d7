"""The units that the network writes, and the way between them and text."""

import io
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from asr.config import TokenConfig
from asr.errors import DataError, ModelError
from asr.files import open_atomic, read_file
from asr.text.lines import quoted, read_lines

BLANK = "<blank>"
_MAX_BYTES = 2**26  # of a table; a quarter of a million units have 5 MB
_SPACE_LINE = "<space>"
_PRONUNCIATIONS = "pronunciations.txt"
TOKEN_FILES = ("tokens.txt", "tokens.model", _PRONUNCIATIONS)
"""What `write_tokens` may write into a model folder."""
WORD_START = "\u2581"
"""SentencePiece's mark of a word's beginning; other programs write it for a space."""


@dataclass(frozen=True)
class TokenTable:
    """Symbols by token id. Id 0 is the blank; text never contains it."""

    symbols: tuple[str, ...]
    pieces: Any = None
    """The SentencePieceProcessor of byte-pair units; its ids lie one below ours."""
    pronunciations: Mapping[str, list[tuple[int, ...]]] | None = None
    """Of every word, if the symbols are phones; the first of a word is its transcript's."""

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def separator(self) -> str:
        """What stands between words: a space, or nothing in languages that are written so."""
        spaced = any(s == " " or s.startswith(WORD_START) for s in self.symbols)
        return " " if spaced or self.pronunciations is not None else ""

    @cached_property
    def separator_id(self) -> int | None:
        """The token between words, where there is one that is nothing else."""
        return self._ids.get(" ")

    def encode(self, text: str) -> list[int]:
        """Token ids of a transcript.

        Raises:
            DataError: a character has no token, or a word no pronunciation.
        """
        text = normalize(text)
        if self.pronunciations is not None:
            self.check([text], "text")
            return [token for word in text.split() for token in self.pronunciations[word][0]]
        if self.pieces is not None:
            ids = [piece + 1 for piece in self.pieces.encode(text)]
            if self.pieces.unk_id() + 1 in ids:
                raise DataError(_unknown_message(self.count_unknown([text])))
            return ids
        try:
            return [self._ids[character] for character in text]
        except KeyError:
            raise DataError(_unknown_message(self.count_unknown([text]))) from None

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids; blanks are left out, runs of spaces become one.

        Phones are told apart by spaces, since nothing says where their words end.
        """
        if self.pronunciations is not None:
            return " ".join(self.symbols[token] for token in ids if token != 0)
        text = "".join(self.symbols[token] for token in ids if token != 0)
        return " ".join(text.replace(WORD_START, " ").split())

    def word_bounds(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """First and last-plus-one index of each word's tokens, spaces left out; of each phone."""
        if self.pronunciations is not None:
            return [(index, index + 1) for index in range(len(ids))]
        bounds: list[tuple[int, int]] = []
        first = 0
        for index, token in enumerate([*ids, -1]):
            symbol = " " if token < 0 else self.symbols[token]
            if symbol == " " or (symbol.startswith(WORD_START) and index > first):
                if index > first:
                    bounds.append((first, index))
                first = index + 1 if symbol == " " else index
            if symbol == WORD_START:
                first = index + 1
        return bounds

    def count_unknown(self, texts: Iterable[str]) -> Counter[str]:
        """How often each character without a token, or word without pronunciation, occurs."""
        if self.pronunciations is not None:
            words = Counter(word for text in texts for word in normalize(text).split())
            return Counter({w: n for w, n in words.items() if w not in self.pronunciations})
        counts = Counter(character for text in texts for character in normalize(text))
        if self.pieces is None:
            return Counter({c: n for c, n in counts.items() if c not in self._ids})
        unknown = self.pieces.unk_id()
        return Counter(
            {c: n for c, n in counts.items() if c != " " and unknown in self.pieces.encode(c)}
        )

    def check(self, texts: Iterable[str], where: str) -> None:
        """Raise DataError with counts if characters or words of `texts` cannot be spelled."""
        unknown = self.count_unknown(texts)
        if unknown and self.pronunciations is None:
            remedy = "clean the transcripts or train on them"
            raise DataError(f"{where}: {_unknown_message(unknown)}; {remedy}")
        if unknown:
            named = ", ".join(f"{w!r} ({n} times)" for w, n in unknown.most_common(10))
            more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
            raise DataError(f"{where}: words without a pronunciation: {named}{more}")

    def spellings(self, word: str) -> list[tuple[int, ...]]:
        """All ways of writing a word; several only where the symbols are phones.

        Raises:
            DataError: there is none.
        """
        spellings = (self.pronunciations or {}).get(normalize(word))
        return list(spellings) if spellings else [tuple(self.encode(word))]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: token for token, symbol in enumerate(self.symbols)}


def normalize(text: str) -> str:
    """Text as tokens see it: Unicode NFC, single spaces, none at the ends."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def build_tokens(
    texts: Iterable[str], config: TokenConfig, pronunciations: Path | None = None
) -> TokenTable:
    """Learn the table from the training text; for characters, read as a stream.

    Args:
        pronunciations: file with `word phone phone ...` lines; for `phones`.

    Raises:
        DataError: there is no text, too little for the vocabulary asked for, or a word without a
            pronunciation.
    """
    if config.kind == "phones":
        if pronunciations is None or not pronunciations.exists():
            raise DataError(
                f"tokens.kind phones: {pronunciations} with `word phone ...` lines is "
                "missing; the recipe's preparation has to write it"
            )
        table = _phone_table(pronunciations)
        table.check(texts, str(pronunciations))
        return table
    sentences: Iterable[str] = (normalize(text) for text in texts)
    if config.kind != "characters":
        sentences = list(sentences)
    characters = sorted({character for text in sentences for character in text})
    if not characters:
        raise DataError("no text to make tokens from: every transcript is empty")
    if config.kind == "characters":
        return TokenTable((BLANK, *characters))
    import sentencepiece

    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            model_type="bpe",
            vocab_size=config.vocabulary_size,
            character_coverage=1.0,
            bos_id=-1,
            eos_id=-1,
            normalization_rule_name="identity",
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2].strip()
        raise DataError(f"tokens.vocabulary_size {config.vocabulary_size}: {reason}") from error
    return _bpe_table(model.getvalue())


def read_spellings(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Line number, word and symbols of a file with `word symbol symbol ...` lines.

    Raises:
        DataError: with file and line: unreadable, no word, a word without a spelling.
    """
    number = 0
    for number, line in read_lines(path):
        word, *symbols = line.split()
        if not symbols:
            raise DataError(f"{path}:{number}: {quoted(word)} has no spelling after it")
        yield number, normalize(word), symbols
    if not number:
        raise DataError(f"{path}: there is no word in this lexicon")


def write_tokens(table: TokenTable, folder: Path) -> None:
    """Write `tokens.txt`, a symbol a line by id.

    And `tokens.model` for byte-pair units, `pronunciations.txt` for phones.
    """
    with open_atomic(folder / "tokens.txt") as file:
        file.writelines(f"{_SPACE_LINE if s == ' ' else s}\n" for s in table.symbols)
    if table.pieces is not None:
        with open_atomic(folder / "tokens.model", "wb") as file:
            file.write(table.pieces.serialized_model_proto())
    if table.pronunciations is not None:
        with open_atomic(folder / _PRONUNCIATIONS) as file:
            for word, spellings in table.pronunciations.items():
                for spelling in spellings:
                    file.write(f"{word} {' '.join(table.symbols[token] for token in spelling)}\n")


def read_tokens(folder: Path) -> TokenTable:
    """Read the token table in a folder, as `write_tokens` wrote it.

    Raises:
        ModelError: the files are missing or are not a token table.
    """
    model_path = folder / "tokens.model"
    path = folder / "tokens.txt"
    try:
        if model_path.exists():
            return _bpe_table(read_file(model_path, _MAX_BYTES))
        if (folder / _PRONUNCIATIONS).exists():
            return _phone_table(folder / _PRONUNCIATIONS)
        lines = read_file(path, _MAX_BYTES).decode().splitlines()
    except (OSError, UnicodeDecodeError, RuntimeError, DataError) as error:
        raise ModelError(f"{folder}: the token table cannot be read: {error}") from error
    symbols = tuple(" " if line == _SPACE_LINE else line for line in lines)
    if not symbols or symbols[0] != BLANK:
        raise ModelError(f"{path}:1: {BLANK} is expected")
    if len(set(symbols)) != len(symbols):
        raise ModelError(f"{path}: a symbol occurs twice")
    return TokenTable(symbols)


def _phone_table(path: Path) -> TokenTable:
    """All phones of the pronunciations, in the order of their names."""
    rows = [(word, phones) for _, word, phones in read_spellings(path)]
    symbols = (BLANK, *sorted({phone for _, phones in rows for phone in phones}))
    ids = {symbol: token for token, symbol in enumerate(symbols)}
    pronunciations: dict[str, list[tuple[int, ...]]] = {}
    for word, phones in rows:
        spellings = pronunciations.setdefault(word, [])
        spelling = tuple(ids[phone] for phone in phones)
        if spelling not in spellings:
            spellings.append(spelling)
    return TokenTable(symbols, pronunciations=pronunciations)


def _bpe_table(model: bytes) -> TokenTable:
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    symbols = tuple(pieces.id_to_piece(piece) for piece in range(pieces.get_piece_size()))
    return TokenTable((BLANK, *symbols), pieces)


def _unknown_message(unknown: Counter[str]) -> str:
    shown = ", ".join(
        f"{character!r} (U+{ord(character):04X}, {count} times)"
        for character, count in unknown.most_common(10)
    )
    more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
    return f"characters without a token: {shown}{more}"
