"""Grammars: which sentences may be recognized, as voice commands want it.

A file is a list of sentences, one a line, or a grammar in JSGF, the Java Speech Grammar Format
(W3C note of 5 June 2000), which begins with `#JSGF`. Of JSGF there are rules, alternatives,
groups, optional parts, `*` and `+`; weights `/2/` and tags `{...}` are read and not used; imports
and recursion are refused. What it describes becomes a deterministic automaton over words.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.decoding.automaton import Automaton, make_automaton
from asr.decoding.lexicon import Lexicon, spell
from asr.errors import DataError
from asr.lm import ngram
from asr.text import TokenTable, normalize, quoted, read_lines

_MARK = "#JSGF"
_MOST_STATES = 100_000
_MOST_STEPS = 20_000_000  # states that are looked at while it is made: some seconds
_DEEPEST = 100  # groups, or rules, within one another
_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<rule><[^<>\s]+>)
    |(?P<weight>/\s*[0-9.]+(?:[eE][-+]?[0-9]+)?\s*/)
    |(?P<tag>\{(?:\\.|[^}\\])*\})
    |(?P<quoted>"(?:\\.|[^"\\])*")
    |(?P<mark>[=|;()\[\]*+])
    |(?P<word>[^\s=|;()\[\]*+<>/{}"]+)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Grammar:
    """A deterministic automaton; state 0 is its beginning."""

    words: tuple[str, ...]
    places: tuple[str, ...]
    """[word] file and line where it first stands, for errors."""
    arcs: tuple[Mapping[int, int], ...]
    """[state] word to the state after it."""
    finals: frozenset[int]
    """States in which a sentence may end."""


def read_grammar(path: Path) -> Grammar:
    """Read a list of sentences or a JSGF file.

    Raises:
        DataError: with file and line: unreadable, not JSGF, an unknown rule, recursion, an import;
            no sentence; too many states.
    """
    lines = read_lines(path)
    builder = _Builder(path)
    if lines and lines[0][1].lstrip().startswith(_MARK):
        texts = dict(lines)
        builder.add_rules("\n".join(texts.get(n, "") for n in range(1, lines[-1][0] + 1)))
    else:
        builder.add_sentences(lines)
    return builder.finish()


def grammar_lexicon(
    grammar: Grammar, tokens: TokenTable, spelled: Mapping[str, list[tuple[int, ...]]] | None
) -> Lexicon:
    """The words of a grammar, no others allowed.

    Args:
        spelled: spellings of a lexicon; without it the tokens spell.

    Raises:
        DataError: with file and line, a word that cannot be spelled.
    """
    spellings = [
        (number, spelling)
        for number, (word, place) in enumerate(zip(grammar.words, grammar.places, strict=True))
        for spelling in spell(word, place, tokens, spelled)
    ]
    return Lexicon(words=grammar.words, spellings=tuple(spellings), is_open=False)


def grammar_automaton(grammar: Grammar) -> Automaton:
    """0 for what the grammar allows, -inf for all else; labels as in a language model of words.

    State 0 is a dead end, because an automaton's state 0 takes every label.
    """
    first = ngram.END_ID + 1
    arcs: list[dict[int, tuple[float, int]]] = [{}]
    for state, following in enumerate(grammar.arcs):
        arcs.append({first + word: (0.0, target + 1) for word, target in following.items()})
        if state in grammar.finals:
            arcs[-1][ngram.END_ID] = (0.0, 0)
    fallbacks = [(-math.inf, 0)] * len(arcs)
    return make_automaton(first + len(grammar.words), 1, arcs, fallbacks, -math.inf)


@dataclass(frozen=True, slots=True)
class _Word:
    text: str
    line: int


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    line: int


@dataclass(frozen=True, slots=True)
class _Sequence:
    items: tuple["_Node", ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    items: tuple["_Node", ...]


@dataclass(frozen=True, slots=True)
class _Repeat:
    item: "_Node"


_Node = _Word | _Rule | _Sequence | _Choice | _Repeat
_EMPTY = _Sequence(())
_NOTHING = _Choice(())


class _Builder:
    """An automaton with arcs that read nothing (Thompson 1968), then one without choice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._numbers: dict[str, int] = {}
        self._places: list[str] = []
        self._silent: list[list[int]] = [[]]
        self._spoken: list[list[tuple[int, int]]] = [[]]
        self._rules: dict[str, _Node] = {}
        self._finals: set[int] = set()
        self._num_steps = 0

    def add_sentences(self, lines: Sequence[tuple[int, str]]) -> None:
        for number, text in lines:
            words = tuple(_Word(word, number) for word in normalize(text).split())
            if words:
                self._finals.add(self._grow(_Sequence(words), 0, ()))

    def add_rules(self, text: str) -> None:
        self._rules, public = _Parser(text, self._path).read()
        if not public:
            raise DataError(f"{self._path}: no rule is public, so that nothing can be said")
        for rule in public:
            self._finals.add(self._grow(rule, 0, ()))

    def finish(self) -> Grammar:
        """Each set of states that the same words lead to becomes one state."""
        numbers = {self._closure({0}): 0}
        queue = list(numbers)
        arcs: list[dict[int, int]] = []
        for states in queue:  # grows
            following: dict[int, set[int]] = {}
            for state in states:
                for word, target in self._spoken[state]:
                    following.setdefault(word, set()).add(target)
            targets = {}
            for word in sorted(following):
                closed = self._closure(following[word])
                if closed not in numbers:
                    self._check_size(len(numbers))
                    numbers[closed] = len(numbers)
                    queue.append(closed)
                targets[word] = numbers[closed]
            arcs.append(targets)
        finals = {number for states, number in numbers.items() if states & self._finals}
        if not any(target in finals for row in arcs for target in row.values()):
            raise DataError(f"{self._path}: the grammar allows no sentence")
        return Grammar(
            words=tuple(self._numbers),
            places=tuple(self._places),
            arcs=tuple(arcs),
            finals=frozenset(finals),
        )

    def _grow(self, node: _Node, start: int, within: tuple[str, ...]) -> int:
        """Add what a node reads from a state on; the state after it."""
        self._count_steps(1)
        match node:
            case _Word(text, line):
                end = self._state()
                if text not in self._numbers:
                    self._numbers[text] = len(self._numbers)
                    self._places.append(f"{self._path}:{line}")
                self._spoken[start].append((self._numbers[text], end))
                return end
            case _Rule(name, line):
                return self._grow(self._rule(name, line, within), start, (*within, name))
            case _Sequence(items):
                for item in items:
                    start = self._grow(item, start, within)
                return start
            case _Choice(items):
                end = self._state()
                for item in items:
                    # A state of its own, so that a repetition leads back to this item alone.
                    begin = self._state()
                    self._silent[start].append(begin)
                    self._silent[self._grow(item, begin, within)].append(end)
                return end
            case _Repeat(item):
                begin = self._state()
                self._silent[start].append(begin)
                last = self._grow(item, begin, within)
                end = self._state()
                self._silent[last] += [begin, end]
                return end

    def _rule(self, name: str, line: int, within: tuple[str, ...]) -> _Node:
        if len(within) > _DEEPEST:
            raise DataError(f"{self._path}:{line}: rules more than {_DEEPEST} deep in one another")
        if name in within:
            loop = " in ".join(f"<{rule}>" for rule in reversed(within[within.index(name) :]))
            raise DataError(
                f"{self._path}:{line}: <{name}> contains itself ({loop}); say it with * or +"
            )
        if name not in self._rules:
            names = ", ".join(f"<{rule}>" for rule in self._rules)
            raise DataError(f"{self._path}:{line}: there is no rule <{name}>; there are {names}")
        return self._rules[name]

    def _state(self) -> int:
        self._check_size(len(self._silent))
        self._silent.append([])
        self._spoken.append([])
        return len(self._silent) - 1

    def _check_size(self, number: int) -> None:
        if number >= _MOST_STATES:
            raise DataError(f"{self._path}: the grammar has more than {_MOST_STATES:,} states")

    def _count_steps(self, number: int) -> None:
        self._num_steps += number
        if self._num_steps > _MOST_STEPS:
            raise DataError(f"{self._path}: the grammar is too ambiguous or repeats too much")

    def _closure(self, states: set[int]) -> frozenset[int]:
        reached, queue = set(states), list(states)
        for state in queue:  # grows
            fresh = [target for target in self._silent[state] if target not in reached]
            reached.update(fresh)
            queue += fresh
        self._count_steps(len(queue))
        return frozenset(reached)


class _Parser:
    """JSGF's text as a tree for each rule."""

    def __init__(self, text: str, path: Path) -> None:
        self._path = path
        self._tokens = list(self._split(text))
        self._place = 0
        self._depth = 0

    def read(self) -> tuple[dict[str, _Node], list[_Rule]]:
        """The rules by name, and those that are public."""
        rules: dict[str, _Node] = {"NULL": _EMPTY, "VOID": _NOTHING}
        public: list[_Rule] = []
        self._read_header()
        while self._place < len(self._tokens):
            kind, text, line = self._take()
            is_public = (kind, text) == ("word", "public")
            if is_public:
                kind, text, line = self._take()
            if text == "import":
                raise self._error(line, "imports are not read: put the rules into this file")
            if kind != "rule":
                raise self._error(line, f"`<rule> = ...;` is expected, not {quoted(text)}")
            name = text[1:-1]
            if name in rules:
                raise self._error(line, f"<{name}> is there twice")
            self._expect("=")
            rules[name] = self._choice()
            self._expect(";")
            if is_public:
                public.append(_Rule(name, line))
        return rules, public

    def _read_header(self) -> None:
        """`#JSGF V1.0 UTF-8 en;` and `grammar name;`."""
        for keyword in (_MARK, "grammar"):
            if self._place < len(self._tokens) and self._peek()[1] == keyword:
                while self._take()[1] != ";":
                    pass

    def _choice(self) -> _Node:
        items = [self._sequence()]
        while self._peek()[1] == "|":
            self._take()
            items.append(self._sequence())
        return items[0] if len(items) == 1 else _Choice(tuple(items))

    def _sequence(self) -> _Node:
        if self._peek()[0] == "weight":
            self._take()
        items: list[_Node] = []
        while self._peek()[1] not in ("|", ";", ")", "]"):
            items.append(self._item())
        if not items:
            _, text, line = self._peek()
            raise self._error(line, f"a word or <rule> is expected before {quoted(text)}")
        return items[0] if len(items) == 1 else _Sequence(tuple(items))

    def _item(self) -> _Node:
        kind, text, line = self._take()
        node: _Node
        if kind == "word":
            node = _Word(normalize(text), line)
        elif kind == "quoted":
            words = normalize(re.sub(r"\\(.)", r"\1", text[1:-1])).split()
            node = _Sequence(tuple(_Word(word, line) for word in words))
        elif kind == "rule":
            node = _Rule(text[1:-1], line)
        elif text in ("(", "["):
            self._depth += 1
            if self._depth > _DEEPEST:
                raise self._error(line, f"groups are nested more than {_DEEPEST} deep")
            node = self._choice()
            self._depth -= 1
            self._expect(")" if text == "(" else "]")
            if text == "[":
                node = _Choice((node, _EMPTY))
        else:
            raise self._error(line, f"{quoted(text)} is not expected here")
        while self._peek()[1] in ("*", "+") or self._peek()[0] == "tag":
            _, mark, _ = self._take()
            if mark in ("*", "+"):
                node = _Repeat(node)
                if mark == "*":
                    node = _Choice((node, _EMPTY))
        return node

    def _split(self, text: str) -> Iterator[tuple[str, str, int]]:
        place, line = 0, 1
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise self._error(line, f"{quoted(text[place : place + 10])} cannot be read")
            if match.lastgroup != "skip":
                yield match.lastgroup or "", match[0], line
            line += match[0].count("\n")
            place = match.end()

    def _peek(self) -> tuple[str, str, int]:
        if self._place == len(self._tokens):
            last = self._tokens[-1][2] if self._tokens else 1
            raise self._error(last, "the file ends within a rule; is a `;` missing?")
        return self._tokens[self._place]

    def _take(self) -> tuple[str, str, int]:
        token = self._peek()
        self._place += 1
        return token

    def _expect(self, mark: str) -> None:
        _, text, line = self._take()
        if text != mark:
            raise self._error(line, f"`{mark}` is expected, not {quoted(text)}")

    def _error(self, line: int, message: str) -> DataError:
        return DataError(f"{self._path}:{line}: {message}")
