"""Which words of an imperfect text are said, and where.

Dimension names: step, token, word.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.decoding import viterbi
from asr.transcription.anchors import Part
from asr.transcription.heard import Heard
from asr.transcription.spelling import bounds_of_words

HEARD_COST, UNSPOKEN_COST = 0.5, 3.0
"""Nats of a token that is heard and not written, and of one that is written and not heard."""
OPENING = 12.0
"""Nats of leaving the text."""
_LONGEST_SILENCE = 40  # steps of it that are looked at
_MOST_STATES = 200_000_000  # bytes of a table


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """A text and a recording, word by word."""

    firsts: NDArray[np.int64]
    """Step of each word's first token, [word]; -1 where it is not heard."""
    lasts: NDArray[np.int64]
    """The step after its last, [word]."""
    losses: NDArray[np.float32]
    """Nats by which the text is less likely than what is heard, [step]; 0 outside of the text."""
    unwritten: NDArray[np.bool_]
    """Steps outside of the text, [step]."""


def match(
    heard: Heard,
    tokens: NDArray[np.int64],
    owners: NDArray[np.int64],
    parts: Iterable[Part],
    num_words: int,
) -> Match:
    """The most probable way to read a text with words left out and speech between them.

    Args:
        tokens: of all words with separators between, [token].
        owners: the word of each token, [token]; -1 for separators.
        parts: which tokens are looked for in which steps; each begins with a word.
    """
    result = Match(
        firsts=np.full(num_words, -1),
        lasts=np.full(num_words, -1),
        losses=np.zeros(len(heard.path), np.float32),
        unwritten=np.ones(len(heard.path), bool),
    )
    for part in parts:
        spoken = np.flatnonzero(owners[part.tokens] >= 0)
        steps = _without_silence(heard.path, part.steps)
        if not len(spoken) or not len(steps) or 3 * len(steps) * len(spoken) > _MOST_STATES:
            continue
        inside = slice(part.tokens.start, part.tokens.start + int(spoken[-1]) + 1)
        _match_part(heard, steps, tokens[inside], owners[inside], result)
        skipped = np.diff(steps, append=steps[-1] + 1) > 1
        for step in np.flatnonzero(skipped):
            between = slice(steps[step] + 1, steps[step + 1])
            result.unwritten[between] = result.unwritten[steps[step]]
    return result


def _match_part(
    heard: Heard,
    steps: NDArray[np.int64],
    tokens: NDArray[np.int64],
    owners: NDArray[np.int64],
    result: Match,
) -> None:
    log_probs = heard.log_probs(steps)
    bounds = bounds_of_words(owners)
    path = viterbi.path_with_gaps(
        log_probs,
        heard.best[steps] - np.float32(HEARD_COST) * heard.begins[steps],
        tokens,
        bounds,
        UNSPOKEN_COST * (bounds[:, 1] - bounds[:, 0] + 2.0),
        OPENING,
    )
    inside = path != viterbi.UNWRITTEN
    symbols = np.where(path >= 0, tokens[np.maximum(path, 0)], 0)
    losses = heard.best[steps] - log_probs[np.arange(len(steps)), symbols]
    result.unwritten[steps] = ~inside
    result.losses[steps] = np.where(inside, losses, 0)
    words = np.where(path >= 0, owners[np.maximum(path, 0)], -1)
    spoken = np.flatnonzero(words >= 0)
    found, firsts = np.unique(words[spoken], return_index=True)
    result.firsts[found] = steps[spoken[firsts]]
    _, backwards = np.unique(words[spoken][::-1], return_index=True)
    result.lasts[found] = steps[spoken[::-1][backwards]] + 1


def _without_silence(path: NDArray[np.int32], part: slice) -> NDArray[np.int64]:
    """Steps of a part, of long silences only the beginning and the end."""
    silent = path[part] == 0
    place = np.arange(len(silent))
    since = place - np.maximum.accumulate(np.where(silent, -1, place))
    until = (np.minimum.accumulate(np.where(silent, len(silent), place)[::-1])[::-1]) - place
    kept = ~silent | (np.minimum(since, until) <= _LONGEST_SILENCE // 2)
    steps: NDArray[np.int64] = part.start + np.flatnonzero(kept)
    return steps
