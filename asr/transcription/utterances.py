"""Utterances that end in pauses, of a recording whose text was matched with it.

Where the text and the recording part, there is a break: words that are not heard, or speech that
is not written. Between two breaks lies a run of words. Of its pauses those are chosen to cut at
that are longest and leave the least behind.

Dimension names: word, step.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from asr.transcription.heard import Heard
from asr.transcription.matching import HEARD_COST, UNSPOKEN_COST, Match
from asr.transcription.pauses import Quiet

SHORTEST, LONGEST = 2.0, 15.0
"""Seconds of an utterance."""
_PAUSE_SECONDS = 0.15
_MARGIN_SECONDS = 0.3  # of a pause that an utterance keeps, at most
_SLACK_SECONDS = 0.06  # by which a pause may reach into what the network takes for a word
_LEAST_EVIDENCE = 40.0  # nats, of a run of words against the chance that it is none
_DOUBTFUL_WORDS = 2  # in a row, between words that are heard, are taken to be misheard or misread
_DOUBTFUL_SECONDS = 1.3
_BREAK_SOUNDS = 4  # tokens between two words
_BREAK_SECONDS = 0.6  # of sound between two words
# Next to a break, sound between an utterance's edge and its first and last token: more is a word.
_EDGE_SECONDS = 0.15, 0.18
_EDGE_LOSS = 2.0  # nats a token, of a word next to a break
_WINDOW_TOKENS = 30
_MOST_LOSS = 2.3  # nats a token in a window
_PAUSE_SCALE = 0.15  # seconds
_CUT_COST = 0.3  # seconds of speech that a cut is worth


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """An utterance."""

    words: slice
    start: float
    """Seconds."""
    end: float
    score: float
    """0 to 1: how probable its worst words are, against what the network would rather hear."""
    doubtful: tuple[int, ...]
    """Words that the network does not hear, or hears otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rest:
    """What is in no utterance."""

    words: slice
    start: float | None
    """Seconds; none of words that are not heard."""
    end: float | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Edge:
    """Where an utterance may begin or end: in the pause before a word."""

    end: float
    """Of the utterance before it."""
    start: float
    """Of the one after it."""
    cost: float


class Cutter:
    """Cuts one recording."""

    def __init__(self, match: Match, num_tokens: NDArray[np.int64], heard: Heard, quiet: Quiet):
        """Look at all words.

        Args:
            num_tokens: of each word, [word]; 0 of those that cannot be spelled.
        """
        self._heard, self._quiet = heard, quiet
        self._sizes = num_tokens + 1.0  # with the separator
        self._spelled = num_tokens > 0
        self._unwritten = match.unwritten
        self._losses = np.append(0.0, np.cumsum(match.losses, dtype=np.float64))
        times = np.append(heard.times, math.nan)
        is_heard = match.firsts >= 0
        lasts = np.where(is_heard, match.lasts - 1, -1)
        self._starts: NDArray[np.float64] = times[match.firsts]
        self._ends: NDArray[np.float64] = times[lasts] + heard.step_seconds
        self._doubtful = np.zeros(len(num_tokens), bool)

    def cut(self) -> tuple[list[Cut], list[Rest]]:
        """The utterances, and what is left out; both in order."""
        self._take_doubtful()
        for run in self._runs():
            if self._evidence(run) < _LEAST_EVIDENCE:
                self._starts[run] = self._ends[run] = math.nan
                self._doubtful[run] = False
        self._take_doubtful()
        cuts: list[Cut] = []
        rests: list[Rest] = []
        end = 0
        for run in self._runs():
            rests += self._between(slice(end, int(run[0])))
            end = int(run[-1]) + 1
            of_run, left = self._cut_run(run)
            cuts += of_run
            rests += left
        rests += self._between(slice(end, len(self._starts)))
        return cuts, rests

    @property
    def num_heard(self) -> int:
        """Words that are heard."""
        return int(np.count_nonzero(~np.isnan(self._starts)))

    def _take_doubtful(self) -> None:
        """One or two words between heard ones that are not heard: take what is heard for them."""
        words = np.flatnonzero(~np.isnan(self._starts))
        for before, after in pairwise(words.tolist()):
            skipped = slice(before + 1, after)
            count = after - before - 1
            if not 1 <= count <= _DOUBTFUL_WORDS or not self._spelled[skipped].all():
                continue
            start, end = self._ends[before], self._starts[after]
            num_tokens = self._sizes[skipped].sum() - count
            num_sounds = self._heard.num_sounds(start, end)
            if num_sounds <= 1.7 * num_tokens + 3 and end - start <= _DOUBTFUL_SECONDS:
                bounds = np.linspace(start, end, count + 1)
                self._starts[skipped], self._ends[skipped] = bounds[:-1], bounds[1:]
                self._doubtful[skipped] = True

    def _runs(self) -> Iterator[NDArray[np.int64]]:
        """Words in a row, between breaks."""
        words = np.flatnonzero(~np.isnan(self._starts))
        breaks = [i + 1 for i, (p, q) in enumerate(pairwise(words.tolist())) if self._parts(p, q)]
        yield from (run for run in np.split(words, breaks) if len(run))

    def _parts(self, before: int, after: int) -> bool:
        """Whether there is a break between two words that are heard."""
        if after != before + 1:
            return True
        if self._doubtful[before] or self._doubtful[after]:
            return False
        start, end = self._ends[before], self._starts[after]
        if self._quiet.loud_seconds(start, end) > _BREAK_SECONDS:
            return True
        num_sounds = self._heard.num_sounds(start, end)
        steps = slice(self._heard.step_at(start), self._heard.step_at(end))
        least = _BREAK_SOUNDS - bool(self._unwritten[steps].any())
        return num_sounds >= least

    def _loss(self, start: float, end: float) -> float:
        """Nats lost between two times."""
        first, last = self._heard.step_at(start), self._heard.step_at(end)
        return float(self._losses[last] - self._losses[first])

    def _evidence(self, run: NDArray[np.int64]) -> float:
        """Nats by which words are more probable than that others are said in their place."""
        start, end = self._starts[run[0]], self._ends[run[-1]]
        sure = self._sizes[run][~self._doubtful[run]].sum()
        sounds = self._heard.num_sounds(start, end)
        return float(UNSPOKEN_COST * sure + HEARD_COST * sounds - self._loss(start, end))

    def _word_loss(self, word: int) -> float:
        return self._loss(self._starts[word], self._ends[word]) / float(self._sizes[word])

    def _worst_loss(self, words: NDArray[np.int64], doubtful: float = 0.0) -> float:
        """Nats a token in the worst words of some in a row.

        Args:
            doubtful: nats that a token of a doubtful word costs.
        """
        sizes = np.append(0.0, np.cumsum(self._sizes[words]))
        bounds = [self._heard.step_at(self._starts[word]) for word in words]
        bounds.append(self._heard.step_at(self._ends[words[-1]]))
        losses = self._losses[bounds]
        losses[1:] += np.cumsum(doubtful * self._sizes[words] * self._doubtful[words])
        lasts = np.searchsorted(sizes, sizes[:-1] + _WINDOW_TOKENS)
        whole = np.flatnonzero(lasts < len(sizes))
        if not len(whole):
            return float((losses[-1] - losses[0]) / sizes[-1])
        windows = losses[lasts[whole]] - losses[whole]
        return float((windows / (sizes[lasts[whole]] - sizes[whole])).max())

    def _cut_run(self, run: NDArray[np.int64]) -> tuple[list[Cut], list[Rest]]:
        """The best utterances of a run."""
        edges = {i: e for i in range(len(run) + 1) if (e := self._edge(run, i)) is not None}
        places = list(edges)
        best, back = [0.0] * len(places), [-1] * len(places)
        for j in range(1, len(places)):
            gap = edges[places[j]].end - edges[places[j - 1]].start
            best[j] = best[j - 1] - gap
            for i in range(j - 1, -1, -1):
                before, after = edges[places[i]], edges[places[j]]
                length = after.end - before.start
                if length > LONGEST:
                    break
                cost = before.cost + after.cost + _CUT_COST
                if best[i] - cost <= best[j] or length < SHORTEST:
                    continue
                if self._fits(run, places[i], places[j]):
                    best[j], back[j] = best[i] - cost, i
        cuts: list[Cut] = []
        rests: list[Rest] = []
        last = len(run)
        j = len(places) - 1
        while j > 0:
            i = back[j]
            if i >= 0:
                rests += self._left(run, places[j], last)
                cuts.append(
                    self._utterance(
                        run[places[i] : places[j]], edges[places[i]].start, edges[places[j]].end
                    )
                )
                last, j = places[i], i
            else:
                j -= 1
        rests += self._left(run, 0, last)
        return cuts[::-1], rests[::-1]

    def _edge(self, run: NDArray[np.int64], place: int) -> _Edge | None:
        """The pause before a word of a run, or after its last, if one may cut there."""
        inner = 0 < place < len(run)
        before = int(run[place - 1]) if place else self._heard_before(int(run[0]))
        after = int(run[place]) if place < len(run) else self._heard_after(int(run[-1]))
        if inner and (self._doubtful[before] or self._doubtful[after]):
            return None
        start = self._ends[before] if before >= 0 else 0.0
        end = self._starts[after] if after >= 0 else math.inf
        last = self._heard.times[-1] + self._heard.step_seconds
        pauses = self._quiet.pauses(
            start - _SLACK_SECONDS, min(end, last) + _SLACK_SECONDS, _PAUSE_SECONDS
        )
        # A recording that begins or ends with speech was cut in a pause, if anybody cut it well.
        pauses = [(0.0, 0.0)] * (before < 0) + pauses + [(last, last)] * (after < 0)
        if not pauses:
            return None
        if not inner:
            pause = pauses[-1] if place == 0 else pauses[0]
            sound = (end - pause[1]) if place == 0 else pause[0] - start
            if sound > _EDGE_SECONDS[place > 0]:
                return None
        else:
            pause = max(pauses, key=lambda pause: pause[1] - pause[0])
        middle = (pause[0] + pause[1]) / 2
        if (place and self._heard.num_sounds(start + 0.03, middle if inner else pause[0])) or (
            place < len(run) and self._heard.num_sounds(middle if inner else pause[1], end)
        ):
            return None
        return _Edge(
            end=min(middle, pause[0] + _MARGIN_SECONDS),
            start=max(middle, pause[1] - _MARGIN_SECONDS),
            cost=math.exp((pause[0] - pause[1]) / _PAUSE_SCALE) if inner else 0.0,
        )

    def _heard_before(self, word: int) -> int:
        words = np.flatnonzero(~np.isnan(self._starts[:word]))
        return int(words[-1]) if len(words) else -1

    def _heard_after(self, word: int) -> int:
        words = np.flatnonzero(~np.isnan(self._starts[word + 1 :]))
        return word + 1 + int(words[0]) if len(words) else -1

    def _fits(self, run: NDArray[np.int64], first: int, last: int) -> bool:
        """Whether some words of a run sound like their text, above all next to a break."""
        at_breaks = [int(run[0])] * (first == 0) + [int(run[-1])] * (last == len(run))
        if any(self._doubtful[w] or self._word_loss(w) > _EDGE_LOSS for w in at_breaks):
            return False
        return self._worst_loss(run[first:last]) <= _MOST_LOSS

    def _utterance(self, words: NDArray[np.int64], start: float, end: float) -> Cut:
        return Cut(
            words=slice(int(words[0]), int(words[-1]) + 1),
            start=start,
            end=end,
            score=math.exp(-self._worst_loss(words, UNSPOKEN_COST)),
            doubtful=tuple(words[self._doubtful[words]].tolist()),
        )

    def _left(self, run: NDArray[np.int64], first: int, last: int) -> Sequence[Rest]:
        """Words of a run that are in no utterance."""
        if first == last:
            return ()
        words = run[first:last]
        start, end = float(self._starts[words[0]]), float(self._ends[words[-1]])
        if self._worst_loss(words) > _MOST_LOSS:
            reason = "sounds unlike its text"
        elif end - start > LONGEST:
            reason = f"no pause that cuts it to {LONGEST:g} s"
        elif end - start < SHORTEST:
            reason = f"shorter than {SHORTEST:g} s, or no pause where the text begins to differ"
        else:
            reason = "no pause where the text begins to differ"
        return [
            Rest(
                words=slice(int(words[0]), int(words[-1]) + 1), start=start, end=end, reason=reason
            )
        ]

    def _between(self, words: slice) -> Iterator[Rest]:
        """What lies between two runs: words that are not heard, speech that is not written."""
        if words.start < words.stop:
            yield Rest(words=words, start=None, end=None, reason="not heard")
        start = self._ends[words.start - 1] if words.start else 0.0
        last = len(self._starts)
        times = self._heard.times
        end = (
            self._starts[words.stop] if words.stop < last else times[-1] + self._heard.step_seconds
        )
        if self._heard.num_sounds(start, end) >= _BREAK_SOUNDS:
            yield Rest(
                words=slice(words.start, words.start),
                start=float(start),
                end=float(end),
                reason="not in the text",
            )
