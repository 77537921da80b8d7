"""Keywords in what a network says: how probable it is that each was said, and when.

CTC gives every sequence of tokens a probability. Summed over all sequences that hold a keyword at a
place, whatever stands before and after it, that is the probability that it was said there: what
stands around it is a filler of all tokens, which sum to one in every step. One pass forward gives
it for all keywords and places, and with it the mean steps at which the keyword begins and ends.

A keyword stands between bounds: where words are told apart by spaces, a space, a pause or an end of
the audio on both sides; where their first pieces have a mark, a marked piece, a pause or the end
after it. Where nothing tells words apart it may stand anywhere.

Dimension names: step (model outputs in time), token (the token table), column (of the tokens in
use), keyword, spelling, cell (a state of a spelling).
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.config import SpottingConfig
from asr.config_files import load_config, write_config
from asr.decoding.compilation import compiled
from asr.decoding.lexicon import Bounds, word_bounds
from asr.errors import AsrError, DataError, ModelError
from asr.files import check_inside
from asr.text import TokenTable, find_normalizer, normalize, quoted, read_lines
from asr.text import tokens as token_tables

THRESHOLDS_FILE = "spotting.yaml"
"""In a model folder: what `asr tune --keywords` found."""
LEAST_SCORE = 1e-8
"""Of what is a hit at all, however low a threshold is."""
_SPREAD = 4.0  # steps over which the network may be unsure where a keyword ends
_MASS, _START, _LAST = 0, 1, 2  # of a cell: its probability, and times that, sums of steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Keyword:
    """A word or phrase to listen for."""

    text: str
    """As it is written in the file."""
    spellings: tuple[tuple[int, ...], ...]
    """Token ids; several only where tokens are phones."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """A place where a keyword was said."""

    keyword: int
    """Its number."""
    start: float
    """Step at which its first token begins."""
    end: float
    """Step after its last token."""
    score: float
    """Probability that it was said there, by the network, 0 to 1."""


def read_keywords(path: Path, tokens: TokenTable) -> tuple[Keyword, ...]:
    """Read a file of keywords, a word or phrase a line.

    Raises:
        DataError: with file and line: unreadable, no keyword, or one that the tokens cannot spell.
    """
    keywords: dict[str, Keyword] = {}
    for number, line in read_lines(path):
        text = normalize(line)
        if text:
            where = f"{path}:{number}"
            keywords.setdefault(text, Keyword(text=text, spellings=_spell(text, tokens, where)))
    if not keywords:
        raise DataError(f"{path}: there is no keyword in it")
    return tuple(keywords.values())


def _spell(text: str, tokens: TokenTable, where: str) -> tuple[tuple[int, ...], ...]:
    """All ways of writing a phrase: as it stands, else in small letters, else in capitals."""
    small = find_normalizer("basic")(text)
    error = DataError("it has no letters")
    for form in dict.fromkeys((text, small, small.upper())):
        try:
            if tokens.pronunciations is None:
                spellings = [tuple(tokens.encode(form))]
            else:
                tokens.check([form], "words")
                ways = [tokens.spellings(word) for word in form.split()]
                spellings = [tuple(itertools.chain(*way)) for way in itertools.product(*ways)]
        except DataError as failure:
            error = failure if form == text else error
            continue
        if spellings := [spelling for spelling in spellings if spelling]:
            return tuple(dict.fromkeys(spellings))
    raise DataError(f"{where}: {quoted(text)} cannot be spelled with the model's tokens: {error}")


def read_thresholds(folder: Path) -> SpottingConfig:
    """The thresholds that a model folder states; without a file the defaults.

    Raises:
        ModelError: the file cannot be used, or leads out of the folder.
    """
    if not (folder / THRESHOLDS_FILE).exists():
        return SpottingConfig()
    check_inside(folder, THRESHOLDS_FILE)
    try:
        return load_config(folder / THRESHOLDS_FILE, SpottingConfig)
    except AsrError as error:
        raise ModelError(str(error)) from error


def write_thresholds(config: SpottingConfig, folder: Path) -> None:
    """Put thresholds into a model folder."""
    write_config(config, folder / THRESHOLDS_FILE)


def copy_thresholds(folder: Path, output: Path) -> None:
    """Put those of a model folder, if it has some, into another."""
    if (folder / THRESHOLDS_FILE).exists():
        write_thresholds(read_thresholds(folder), output)


class Spotter:
    """Keywords as tables, to listen for in any number of recordings."""

    def __init__(
        self,
        keywords: Sequence[Keyword],
        tokens: TokenTable,
        thresholds: Sequence[float],
        pause_steps: int,
    ):
        """Make the tables.

        Args:
            thresholds: least scores of hits, [keyword].
            pause_steps: so many blanks in a row are a pause; 1 or more.
        """
        self.keywords, self.thresholds = tuple(keywords), tuple(thresholds)
        self.pause_steps = pause_steps
        self.delay_steps = pause_steps + _SPREAD + 1
        """From a keyword's last token to its hit, at most."""
        bounds = word_bounds(tokens)
        self._is_bounded_left = bounds is Bounds.SPACE
        self._is_bounded_right = bounds is not Bounds.NONE
        self._bounds = np.array(
            [
                token
                for token, symbol in enumerate(tokens.symbols)
                if (bounds is Bounds.SPACE and symbol == " ")
                or (bounds is Bounds.MARK and symbol.startswith(token_tables.WORD_START))
            ],
            np.int64,
        )
        spellings = [(n, s) for n, word in enumerate(keywords) for s in word.spellings]
        self._owners = np.array([owner for owner, _ in spellings], np.int64)
        lengths = np.array([len(spelling) for _, spelling in spellings], np.int64)
        self._firsts = np.cumsum(lengths) - lengths
        ids = np.array([token for _, spelling in spellings for token in spelling], np.int64)
        # The blank is the first column.
        self._used, self._columns = np.unique(np.append(ids, 0), return_inverse=True)
        self._columns = self._columns[:-1].astype(np.int64)
        self._ends = np.cumsum(lengths)
        self._marked = np.isin(ids[self._ends - 1], self._bounds)

    def listen(self) -> "Listening":
        """Begin with a recording, or with a part of one that a pause begins."""
        return Listening(self)

    def spot(self, log_probs: NDArray[np.float32]) -> list[Hit]:
        """All hits in log-probabilities [step, token], by their beginnings."""
        listening = self.listen()
        hits = [*listening.accept(log_probs), *listening.finish()]
        return sorted(hits, key=lambda hit: (hit.start, hit.keyword))

    def probabilities(
        self, log_probs: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Those of the tokens in use, [step, column], and of any bound, [step]."""
        used = np.exp(log_probs[:, self._used], dtype=np.float64)
        bound = np.exp(log_probs[:, self._bounds], dtype=np.float64).sum(axis=1)
        return used, bound

    @property
    def num_cells(self) -> int:
        """Of all spellings: tokens and blanks between them, then blanks of a pause after them."""
        return 2 * len(self._columns) + len(self._owners) * self.pause_steps

    def advance(
        self,
        log_probs: NDArray[np.float32],
        cells: NDArray[np.float64],
        left: NDArray[np.float64],
        before: NDArray[np.float64],
        clock: int,
    ) -> NDArray[np.float64]:
        """What is over in each step, [step, keyword, three]; the other arrays are changed."""
        used, bound = self.probabilities(log_probs)
        over = np.zeros((len(log_probs), len(self.keywords), 3))
        _advance(
            used,
            bound,
            self._columns,
            self._firsts,
            self._ends,
            self._owners,
            self._marked,
            (self._is_bounded_left, self._is_bounded_right),
            self.pause_steps,
            cells,
            left,
            before,
            clock,
            over,
        )
        return over

    def rest(self, cells: NDArray[np.float64]) -> NDArray[np.float64]:
        """What is over when the audio is, [keyword, three]."""
        over = np.zeros((len(self.keywords), 3))
        if self._is_bounded_right:
            for number, (first, end) in enumerate(zip(self._firsts, self._ends, strict=True)):
                start = 2 * first + number * self.pause_steps
                last = start + 2 * (end - first) - 2
                pause = last + 2
                over[self._owners[number]] += cells[last]
                over[self._owners[number]] += cells[pause : pause + self.pause_steps - 1].sum(
                    axis=0
                )
        return over


class Listening:
    """A recording that is listened to, in portions of any size, which change nothing."""

    def __init__(self, spotter: Spotter):
        self._spotter = spotter
        self._cells = np.zeros((spotter.num_cells, 3))
        self._left = np.zeros(spotter.pause_steps + 1)
        self._left[0] = 1.0
        self._before = np.zeros(len(spotter._owners))
        self._clock = 0
        self._open: dict[int, NDArray[np.float64]] = {}

    def accept(self, log_probs: NDArray[np.float32]) -> list[Hit]:
        """Hits that are over after some more steps, [step, token]."""
        over = self._spotter.advance(log_probs, self._cells, self._left, self._before, self._clock)
        hits: list[Hit] = []
        for step, keyword in np.argwhere(over[:, :, _MASS] >= LEAST_SCORE).tolist():
            hits += self._note(keyword, over[step, keyword], self._clock + step)
        self._clock += len(log_probs)
        for keyword, sums in list(self._open.items()):
            if self._clock > self._latest(sums):
                hits += self._close(keyword)
        return hits

    def finish(self) -> list[Hit]:
        """Those that are over since no audio follows."""
        rest = self._spotter.rest(self._cells)
        hits: list[Hit] = []
        for keyword in np.flatnonzero(rest[:, _MASS] >= LEAST_SCORE).tolist():
            hits += self._note(keyword, rest[keyword], self._clock)
        for keyword in list(self._open):
            hits += self._close(keyword)
        return hits

    def _note(self, keyword: int, sums: NDArray[np.float64], step: int) -> Iterator[Hit]:
        """Add to the hit that it is part of, or begin another."""
        held = self._open.get(keyword)
        if held is not None:
            start, end = sums[_START] / sums[_MASS], held[_LAST] / held[_MASS] + 1
            if start < end and step <= self._latest(held):
                held += sums
                return
            yield from self._close(keyword)
        self._open[keyword] = sums.copy()

    def _latest(self, sums: NDArray[np.float64]) -> float:
        """The last step in which more of the same hit may be over."""
        return float(sums[_LAST] / sums[_MASS]) + self._spotter.pause_steps + _SPREAD

    def _close(self, keyword: int) -> Iterator[Hit]:
        mass, start, last = self._open.pop(keyword).tolist()
        if mass >= self._spotter.thresholds[keyword]:
            yield Hit(
                keyword=keyword, start=start / mass, end=last / mass + 1, score=min(1.0, mass)
            )


@compiled(error_model="numpy")
def _advance(
    used: NDArray[np.float64],
    bound: NDArray[np.float64],
    columns: NDArray[np.int64],
    firsts: NDArray[np.int64],
    ends: NDArray[np.int64],
    owners: NDArray[np.int64],
    marked: NDArray[np.bool_],
    is_bounded: tuple[bool, bool],
    pause: int,
    cells: NDArray[np.float64],
    left: NDArray[np.float64],
    before: NDArray[np.float64],
    clock: int,
    over: NDArray[np.float64],
) -> None:
    """See `Spotter.advance`.

    Args:
        used: [step, column], the blank first.
        bound: [step], probability of the tokens that end a word.
        columns: of all spellings' tokens.
        firsts: of the spellings in it, and `ends`.
        owners: [spelling], keywords.
        marked: [spelling], whether its last token is one that ends a word before.
        is_bounded: left and right.
        pause: blanks that are one.
        cells: [cell, three]
        left: [1 + pause]: that a word may begin, then that a token of a word was said i steps ago
            and nothing since.
        before: [spelling], probability of its first token in the step before.
        clock: number of the first step.
        over: [step, keyword, three], is added to.
    """
    for step in range(len(used)):
        blank, now = used[step, 0], clock + step
        for spelling in range(len(owners)):
            first, length = firsts[spelling], ends[spelling] - firsts[spelling]
            cell = 2 * first + spelling * pause
            last, tail = cell + 2 * length - 2, cell + 2 * length
            ended = over[step, owners[spelling]]
            if is_bounded[1]:
                own = used[step, columns[ends[spelling] - 1]] if marked[spelling] else 0.0
                longest = tail + pause - 2 if pause > 1 else last
                for kind in range(3):
                    ended[kind] += cells[last, kind] * max(0.0, bound[step] - own)
                    ended[kind] += cells[longest, kind] * blank
                    for place in range(tail + pause - 2, tail - 1, -1):
                        ended[kind] += cells[place, kind] * bound[step]
                        before_it = place - 1 if place > tail else last
                        cells[place, kind] = cells[before_it, kind] * blank
            # From the last token down, so that those before are still of the step before.
            for index in range(length - 1, -1, -1):
                place, column = cell + 2 * index, columns[first + index]
                mass = start = 0.0  # what comes to this token from others
                if index > 0:
                    mass, start = cells[place - 1, 0], cells[place - 1, 1]
                    if column != columns[first + index - 1]:
                        mass += cells[place - 2, 0]
                        start += cells[place - 2, 1]
                else:
                    mass = left[0] if is_bounded[0] else 1.0 - before[spelling]
                    start = mass * now
                if index < length - 1:
                    cells[place + 1, 0] = (cells[place + 1, 0] + cells[place, 0]) * blank
                    cells[place + 1, 1] = (cells[place + 1, 1] + cells[place, 1]) * blank
                probability = used[step, column]
                cells[place, 0] = (cells[place, 0] + mass) * probability
                cells[place, 1] = (cells[place, 1] + start) * probability
                if index == length - 1:
                    cells[place, 2] = cells[place, 0] * now
                    if not is_bounded[1]:
                        ended[0] += mass * probability
                        ended[1] += start * probability
                        ended[2] += mass * probability * now
            before[spelling] = used[step, columns[first]]
        if is_bounded[0]:
            begins = (left[0] + left[pause]) * blank + bound[step]
            for place in range(pause, 1, -1):
                left[place] = left[place - 1] * blank
            left[1] = max(0.0, 1.0 - blank - bound[step])
            left[0] = begins
