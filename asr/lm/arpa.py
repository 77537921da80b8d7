r"""N-gram models as ARPA files list them: `\data\`, a section for each order, `\end\`.

Probabilities and back-off weights are logarithms to the base 10. Format: the manual page
ngram-format(5) of SRILM.
"""

import gzip
import itertools
import math
import re
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError
from asr.files import open_atomic
from asr.lm.sentences import END, START, UNKNOWN
from asr.text import quoted
from asr.unpacking import DAMAGES, open_unpacked

LOG_ZERO = -99.0
"""How ARPA files write the logarithm of 0."""

_OTHER_UNKNOWN = b"<UNK>"  # as some tools write it
_COUNT_LINE = re.compile(rb"ngram\s+([0-9]{1,9})\s*=\s*([0-9]{1,18})")
_MAX_ORDER = 20
_MAX_LINE = 2**16  # bytes; words are a few hundred at most
_MAX_IDLE = 10_000  # lines that say nothing: before \\data\\, or blank
_CHUNK_BYTES = 2**20
_NUM_WRITTEN = 100_000  # n-grams that are turned into text at once
_NUM_READ = 1000  # lines that are looked at together


@dataclass(frozen=True, kw_only=True, slots=True)
class NGrams:
    """The n-grams of one order."""

    words: NDArray[np.int32]
    """[n-gram, position] word ids."""
    log_probs: NDArray[np.float64]
    """[n-gram] of the last word after those before it."""
    backoffs: NDArray[np.float64]
    """[n-gram] weight of the shorter history where this one has been seen, but not with a word."""

    def __len__(self) -> int:
        return len(self.words)


@dataclass(frozen=True, kw_only=True, slots=True)
class Arpa:
    """An n-gram model, order by order."""

    words: tuple[str, ...]
    """By id: `<unk>`, `<s>`, `</s>`, then all others. The first three may lack a unigram."""
    orders: tuple[NGrams, ...]


def write_arpa(arpa: Arpa, path: Path) -> None:
    """Write atomically; compressed where the name ends in `.gz`."""
    with open_atomic(path, "wb") as plain, _compressed(plain, path) as file:
        file.write(b"\\data\\\n")
        for order, ngrams in enumerate(arpa.orders, start=1):
            file.write(f"ngram {order}={len(ngrams)}\n".encode())
        for order, ngrams in enumerate(arpa.orders, start=1):
            file.write(f"\n\\{order}-grams:\n".encode())
            for first in range(0, len(ngrams), _NUM_WRITTEN):
                rows = slice(first, first + _NUM_WRITTEN)
                file.write(_format(arpa.words, ngrams, rows, order == len(arpa.orders)).encode())
        file.write(b"\n\\end\\\n")


def read_arpa(path: Path) -> Arpa:
    """Read any tool's file, compressed by gzip or not.

    An n-gram's history or its shorter forms may be missing, as pruning leaves them.

    Raises:
        DataError: with file and line: unreadable, truncated, counts that disagree, not a number, a
            positive log-probability, a word that is not among the unigrams or is there twice.
    """
    reader = _Reader(path)
    try:
        with open_unpacked(path) as file:
            arpa = reader.read(file)
            while file.read(_CHUNK_BYTES):  # gzip's checksum comes last
                pass
            return arpa
    except DAMAGES as error:
        raise DataError(f"{path}:{reader.number + 1}: gzip: truncated or damaged") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


@contextmanager
def _compressed(plain: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    if path.suffix != ".gz":
        yield plain
        return
    # Without name and time the same model gives the same bytes.
    with gzip.GzipFile("", "wb", 6, plain, mtime=0) as file:
        yield cast(IO[bytes], file)


def _format(words: tuple[str, ...], ngrams: NGrams, rows: slice, highest: bool) -> str:
    texts = [" ".join([words[word] for word in row]) for row in ngrams.words[rows].tolist()]
    log_probs = ngrams.log_probs[rows].tolist()
    if highest:
        return "".join(f"{p:.7g}\t{text}\n" for p, text in zip(log_probs, texts, strict=True))
    backoffs = ngrams.backoffs[rows].tolist()
    return "".join(
        f"{p:.7g}\t{text}\t{backoff:.7g}\n"
        for p, text, backoff in zip(log_probs, texts, backoffs, strict=True)
    )


class _Section:
    """The n-grams of an order, as they are read."""

    def __init__(self, order: int) -> None:
        self.order = order
        self.words, self.log_probs, self.backoffs = array("i"), array("d"), array("d")
        self.listed: set[bytes] = set()

    def ngrams(self, is_history: bool) -> NGrams:
        backoffs = np.array(self.backoffs)
        return NGrams(
            words=np.array(self.words, np.int32).reshape(-1, self.order),
            log_probs=np.array(self.log_probs),
            backoffs=backoffs if is_history else np.zeros_like(backoffs),
        )


class _Reader:
    """One pass over the lines of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self._words = [UNKNOWN, START, END]
        self._ids = {word.encode(): index for index, word in enumerate(self._words)}
        self._file: Iterator[bytes] = iter(())
        self._lines = self._file
        """Those of the file, after up to _NUM_READ that were read ahead."""

    def read(self, file: IO[bytes]) -> Arpa:
        self._file = self._lines = iter(lambda: file.readline(_MAX_LINE), b"")
        nothing = "\\data\\ is expected; this is no ARPA file"
        while self._next(nothing) != b"\\data\\":
            if self.number > _MAX_IDLE:
                raise self._error(nothing)
        counts, line = self._read_counts()
        orders = []
        for order, count in enumerate(counts, start=1):
            if line != f"\\{order}-grams:".encode():
                raise self._error(f"\\{order}-grams: is expected: {_shown(line)}")
            ngrams, line = self._read_section(order, len(counts))
            if len(ngrams) != count:
                raise self._error(
                    f"{len(ngrams)} n-grams of order {order} end here, but \\data\\ counts {count}"
                )
            orders.append(ngrams)
        if line != b"\\end\\":
            raise self._error(f"\\end\\ is expected: {_shown(line)}")
        return Arpa(words=tuple(self._words), orders=tuple(orders))

    def _next(self, otherwise: str = "truncated: the file ends without \\end\\") -> bytes:
        """The next line that is not blank."""
        last = self.number + _MAX_IDLE
        for line in self._lines:
            self.number += 1
            if len(line) == _MAX_LINE:
                raise self._error(f"a line of more than {_MAX_LINE} bytes")
            if stripped := line.strip():
                return stripped
            if self.number > last:
                raise self._error(f"more than {_MAX_IDLE} blank lines")
        raise self._error(otherwise)

    def _read_counts(self) -> tuple[list[int], bytes]:
        counts: list[int] = []
        while not (line := self._next()).startswith(b"\\"):
            match = _COUNT_LINE.fullmatch(line)
            if not match or int(match[1]) != len(counts) + 1:
                raise self._error(f"`ngram {len(counts) + 1}=<count>` is expected: {_shown(line)}")
            counts.append(int(match[2]))
            if len(counts) > _MAX_ORDER:
                raise self._error(f"n-grams of more than {_MAX_ORDER} words")
        if not counts:
            raise self._error("\\data\\ counts no n-grams")
        return counts, line

    def _read_section(self, order: int, highest: int) -> tuple[NGrams, bytes]:
        """An order's n-grams, and the line that follows them."""
        section = _Section(order)
        while True:
            while order > 1 and self._read_many(section):
                pass
            for _ in range(_NUM_READ):
                if (line := self._next()).startswith(b"\\"):
                    return section.ngrams(order < highest), line
                self._read_one(line, section)

    def _read_many(self, section: "_Section") -> bool:
        """Read lines together, which is fast, if not one of them wants a look; or leave them."""
        order, lines = section.order, self._read_ahead()
        rows = [line.split(None, order + 2) for line in lines]  # no more fields than tell
        try:
            if not {*map(len, rows)} <= {order + 1, order + 2} or max(map(len, lines)) == _MAX_LINE:
                raise ValueError
            columns = list(zip(*rows, strict=False))  # as many as the shortest row has
            weights = [row[-1] if len(row) == order + 2 else b"0" for row in rows]
            numbers = np.array([[float(text) for text in texts] for texts in (columns[0], weights)])
            if b"_" in b"".join((*columns[0], *weights)):
                raise ValueError
            if not ((numbers[0] <= 0) & (numbers[1] < math.inf)).all():  # NaN is neither
                raise ValueError
            words = [[self._ids[word] for word in column] for column in columns[1 : order + 1]]
        except (ValueError, KeyError):
            self._lines = itertools.chain(lines, self._file)
            return False
        section.words.frombytes(np.array(words, np.int32).T.tobytes())
        section.log_probs.frombytes(numbers[0].tobytes())
        section.backoffs.frombytes(numbers[1].tobytes())
        self.number += len(lines)
        return True

    def _read_ahead(self) -> list[bytes]:
        """Up to _NUM_READ lines; what then keeps the file from giving more is raised after them."""
        lines: list[bytes] = []
        try:
            lines.extend(itertools.islice(self._lines, _NUM_READ))
        except (OSError, *DAMAGES) as error:
            self._file = _failing(error)
        return lines

    def _read_one(self, line: bytes, section: "_Section") -> None:
        order, fields = section.order, line.split()  # bytes: at ASCII white space only
        if not order < len(fields) <= order + 2:
            raise self._error(
                f"`log-probability {' '.join(['word'] * order)} [back-off]` is expected: "
                f"{_shown(line)}"
            )
        log_prob = self._number(fields[0])
        if log_prob > 0:
            raise self._error(f"{_shown(fields[0])} is no log-probability: it is positive")
        if order == 1:
            self._add_word(fields[1], section.listed)
        try:
            section.words.extend([self._ids[word] for word in fields[1 : order + 1]])
        except KeyError as error:
            message = f"{_shown(error.args[0])} is not among the unigrams"
            raise self._error(message) from None
        section.log_probs.append(log_prob)
        section.backoffs.append(self._number(fields[order + 1]) if len(fields) > order + 1 else 0.0)

    def _number(self, text: bytes) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if math.isnan(number) or number == math.inf or b"_" in text:
            raise self._error(f"{_shown(text)} is not a number")
        return number

    def _add_word(self, word: bytes, listed: set[bytes]) -> None:
        try:
            text = word.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._error(f"not UTF-8: {_shown(word)}") from error
        if word in listed:
            raise self._error(f"{_shown(word)} is listed twice")
        listed.add(word)
        if word == _OTHER_UNKNOWN:
            self._ids[word] = self._words.index(UNKNOWN)
        elif word not in self._ids:
            self._ids[word] = len(self._words)
            self._words.append(text)

    def _error(self, message: str) -> DataError:
        return DataError(f"{self.path}:{self.number}: {message}")


def _failing(error: Exception) -> Iterator[bytes]:
    raise error
    yield b""


def _shown(line: bytes) -> str:
    return quoted(line.decode("utf-8", "backslashreplace"))
