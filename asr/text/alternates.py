"""References that allow several wordings, as `{ a / b / @ }` in NIST's files.

White space around the marks may be missing, `@` is the empty wording, also outside of braces, and
wordings may hold further alternates. A word ends before its tag, as in `word;tag`. All as NIST's
sclite reads it. Of all wordings the one that is scored has the fewest errors,
then the most correct words, then stands first. A hypothesis may have alternates too.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError
from asr.text.lines import quoted

_ERROR = 1 << 32  # cost of an error; a correct word saves 1, so errors decide first
_MAX_CELLS = 25_000_000  # of the search's table: 200 MB
_MAX_PAIRS = 2_000_000  # of states, where both sides have alternates: some seconds


_TAG = re.compile(r"(?<!\\);.*")
_GLUED = re.compile(r"(?<![^\s{}/])[^\s{}/]+\{\S*")  # which sclite cannot read either


class Delimiter(Enum):
    """Where alternates begin, change and end."""

    OPEN = "{"
    OR = "/"
    CLOSE = "}"


@dataclass(frozen=True, slots=True)
class Alternates:
    """Runs of words, and the marks between them."""

    parts: tuple[str | Delimiter, ...]

    def normalized(self, normalizer: Callable[[str], str]) -> "Alternates":
        """Each run of words normalized by itself."""
        return Alternates(
            tuple(part if isinstance(part, Delimiter) else normalizer(part) for part in self.parts)
        )


def join_runs(runs: Iterable[str | Alternates]) -> str | Alternates:
    """One text of several, with alternates if one of them has some."""
    parts: list[str | Delimiter] = [""]
    for run in runs:
        first, *rest = run.parts if isinstance(run, Alternates) else (run,)
        parts[-1] = f"{parts[-1]} {first}".strip()
        parts += rest
    return Alternates(tuple(parts)) if len(parts) > 1 else str(parts[0])


def parse_alternates(text: str, where: str) -> str | Alternates:
    """Find the alternates in a text; it is returned as it is where it has none.

    Raises:
        DataError: braces that do not match; `where` names the place.
    """
    glued = _GLUED.search(text)
    if glued:
        raise DataError(
            f"{where}: a brace inside of the word {quoted(glued[0])}; alternates are written "
            "{ a / b }"
        )
    parts: list[str | Delimiter] = []
    run: list[str] = []
    depth = 0
    for word in _words_and_marks(text):
        is_mark = word in "{}" or (word == "/" and depth)
        if not is_mark:
            if word != "@":
                # NIST's tags of words, as `word;tag`, are not compared.
                run.append(_TAG.sub("", word).replace("\\;", ";") or word)
            continue
        depth += {"{": 1, "/": 0, "}": -1}[word]
        if depth < 0:
            raise DataError(f"{where}: a }} without its {{; alternates are written {{ a / b }}")
        parts += [" ".join(run), Delimiter(word)]
        run = []
    if depth:
        raise DataError(f"{where}: a {{ without its }}; alternates are written {{ a / b }}")
    if not parts:
        return " ".join(run)
    return Alternates((*parts, " ".join(run)))


def _words_and_marks(text: str) -> Iterator[str]:
    """Words, braces, and the slashes between braces; others are parts of words."""
    depth = 0
    for part in re.findall(r"[{}]|[^\s{}]+", text):
        depth += {"{": 1, "}": -1}.get(part, 0)
        if depth and part not in "{}":
            yield from (piece for piece in re.split("(/)", part) if piece)
        else:
            yield part


def choose_wording(
    reference: Alternates, hypothesis: Sequence[str], utterance_id: str
) -> list[str]:
    """The words of the wording that is nearest to the hypothesis.

    Raises:
        DataError: reference and hypothesis are too long for the exact search.
    """
    lattice = _lattice(reference)
    if len(lattice) * (len(hypothesis) + 1) > _MAX_CELLS:
        raise DataError(
            f"utterance {utterance_id}: {len(lattice)} words with alternates against "
            f"{len(hypothesis)} of the hypothesis are too many to choose exactly; split it"
        )
    numbers: dict[str, int] = {}
    codes = np.array(
        [numbers.setdefault(word, len(numbers)) for word in hypothesis], dtype=np.int64
    )
    insertions = np.arange(len(hypothesis) + 1, dtype=np.int64) * _ERROR
    rows: list[NDArray[np.int64]] = []
    for node in lattice:
        if not node.before:
            rows.append(insertions.copy())
        elif node.word is None:
            rows.append(np.min([rows[before] for before in node.before], axis=0))
        else:
            code = numbers.get(node.word, -1)
            rows.append(_next_row(rows[node.before[0]], codes == code, insertions))
    return _trace(lattice, rows, hypothesis)


def choose_wordings(
    reference: str | Alternates, hypothesis: Alternates, utterance_id: str
) -> tuple[list[str], list[str]]:
    """The words of two wordings, of the reference and the hypothesis, that are nearest.

    Raises:
        DataError: as `choose_wording`.
    """
    if isinstance(reference, str):
        reference = Alternates((reference,))
    expected, said = _lattice(reference), _lattice(hypothesis)
    if len(expected) * len(said) > _MAX_PAIRS:
        raise DataError(
            f"utterance {utterance_id}: {len(expected)} words against {len(said)}, both with "
            "alternates, are too many to choose exactly; split it"
        )
    best: dict[tuple[int, int], tuple[int, tuple[int, int]]] = {(0, 0): (0, (0, 0))}
    for i, node in enumerate(expected):
        for j, other in enumerate(said):
            if i or j:
                steps = _steps(i, node, j, other)
                best[i, j] = min(
                    ((best[before][0] + cost, before) for cost, before in steps),
                    key=lambda option: option[0],
                )
    place = (len(expected) - 1, len(said) - 1)
    words: tuple[list[str], list[str]] = ([], [])
    while place != (0, 0):
        before = best[place][1]
        for chosen, lattice, here, there in zip(
            words, (expected, said), place, before, strict=True
        ):
            word = lattice[here].word
            if here != there and word is not None:
                chosen.append(word)
        place = before
    return words[0][::-1], words[1][::-1]


def _steps(i: int, node: "_Node", j: int, other: "_Node") -> Iterator[tuple[int, tuple[int, int]]]:
    """What leads to a pair of states: its cost, and from where."""
    if node.word is None and node.before:
        yield from ((0, (before, j)) for before in node.before)
    elif other.word is None and other.before:
        yield from ((0, (i, before)) for before in other.before)
    else:
        if node.word is not None and other.word is not None:
            cost = -1 if node.word == other.word else _ERROR
            yield cost, (node.before[0], other.before[0])
        if node.word is not None:
            yield _ERROR, (node.before[0], j)
        if other.word is not None:
            yield _ERROR, (i, other.before[0])


@dataclass(frozen=True, slots=True)
class _Node:
    """A state after `word`, or where wordings meet; every `before` has a smaller number."""

    before: tuple[int, ...]
    word: str | None = None


def _lattice(reference: Alternates) -> list[_Node]:
    nodes = [_Node(())]
    here = 0
    open_groups: list[tuple[int, list[int]]] = []
    for part in reference.parts:
        if part is Delimiter.OPEN:
            open_groups.append((here, []))
        elif part is Delimiter.OR:
            start, ends = open_groups[-1]
            ends.append(here)
            here = start
        elif part is Delimiter.CLOSE:
            start, ends = open_groups.pop()
            nodes.append(_Node((*ends, here)))
            here = len(nodes) - 1
        else:
            assert isinstance(part, str)
            for word in part.split():
                nodes.append(_Node((here,), word))
                here = len(nodes) - 1
    nodes.append(_Node((here,)))
    return nodes


def _next_row(
    row: NDArray[np.int64], equal: NDArray[np.bool_], insertions: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Least cost after one more reference word, for every number of hypothesis words."""
    row_after = row + _ERROR
    matched = row[:-1] + np.where(equal, -1, _ERROR)
    row_after[1:] = np.minimum(row_after[1:], matched)
    return np.minimum.accumulate(row_after - insertions) + insertions


def _trace(
    lattice: Sequence[_Node], rows: Sequence[NDArray[np.int64]], hypothesis: Sequence[str]
) -> list[str]:
    words: list[str] = []
    number, column = len(lattice) - 1, len(hypothesis)
    while lattice[number].before:
        node, cost = lattice[number], rows[number][column]
        before = rows[node.before[0]]
        if node.word is None:
            number = next(other for other in node.before if rows[other][column] == cost)
            continue
        step = -1 if column and hypothesis[column - 1] == node.word else _ERROR
        if column and cost == before[column - 1] + step:
            words.append(node.word)
            number, column = node.before[0], column - 1
        elif cost == before[column] + _ERROR:
            words.append(node.word)
            number = node.before[0]
        else:
            column -= 1
    return words[::-1]
