"""What was recognized: words with times and confidence, from hypotheses and their alignment."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from asr.config import ConfidenceConfig
from asr.decoding import Hypothesis, TokenSpan, align, confidence, text_of
from asr.text import TokenTable


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A word of a transcript."""

    text: str
    start: float
    """Seconds from the start of the audio."""
    end: float
    confidence: float
    """Probability that it is right, where the model has a map for it (`asr tune`); otherwise the
    geometric mean of the probabilities of its tokens. 0 to 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alternative:
    """One of several readings of an utterance."""

    text: str
    log_prob: float
    """Of the network, in nats."""
    score: float
    """By which they are ordered, with language model, word bonus and hot words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcript:
    """What was recognized in one utterance."""

    text: str
    words: tuple[Word, ...]
    log_prob: float
    """Of the decoder's path, in nats."""
    duration: float
    """Seconds of audio."""
    warnings: tuple[str, ...] = ()
    nbest: tuple[Alternative, ...] = ()
    """Best first, this transcript among them, where several are asked for."""
    tokens: tuple[Word, ...] = ()
    """Characters, pieces of words or phones in time, where a known text was aligned."""


def make_transcript(
    hypotheses: Sequence[Hypothesis],
    log_probs: NDArray[np.float32],
    tokens: TokenTable,
    *,
    start: float,
    step_seconds: float,
    nbest: int,
    calibration: ConfidenceConfig | None = None,
) -> Transcript:
    """The transcript of a segment.

    Args:
        hypotheses: best first.
        log_probs: [step, token], from which they were decoded.
        start: of the segment, in seconds from the start of the audio.
        nbest: how many readings are asked for.
        calibration: what confidences are.
    """
    best = hypotheses[0]
    spans = align(log_probs, best.tokens)
    return Transcript(
        text=text_of(best, tokens),
        words=tuple(
            Word(
                text=text,
                start=start + of_word[0].start * step_seconds,
                end=start + of_word[-1].end * step_seconds,
                confidence=_confidence(of_word, log_probs, calibration),
            )
            for text, of_word in word_spans(best, spans, tokens)
        ),
        log_prob=best.log_prob,
        duration=len(log_probs) * step_seconds,
        nbest=tuple(_alternative(h, tokens) for h in hypotheses[:nbest] if nbest > 1),
    )


def join_transcripts(
    parts: Sequence[Transcript],
    tokens: TokenTable,
    *,
    duration: float,
    warnings: Sequence[str] = (),
    nbest: int = 1,
) -> Transcript:
    """The transcript of a whole input from those of its segments, in order.

    Args:
        duration: seconds of the whole; no word ends later.
    """
    space = tokens.separator
    return Transcript(
        text=space.join(part.text for part in parts if part.text),
        words=tuple(
            replace(word, start=min(word.start, duration), end=min(word.end, duration))
            for part in parts
            for word in part.words
        ),
        log_prob=sum(part.log_prob for part in parts),
        duration=duration,
        warnings=tuple(warnings),
        nbest=_joined_alternatives(parts, space, nbest),
    )


def _joined_alternatives(
    parts: Sequence[Transcript], space: str, nbest: int
) -> tuple[Alternative, ...]:
    """The best of all combinations."""
    best: Sequence[Alternative] = ()
    for part in parts:
        if not best or not part.nbest:
            best = best or part.nbest
            continue
        combined = [
            Alternative(
                text=space.join(text for text in (a.text, b.text) if text),
                log_prob=a.log_prob + b.log_prob,
                score=a.score + b.score,
            )
            for a, b in product(best, part.nbest)
        ]
        best = sorted(combined, key=lambda a: -a.score)[:nbest]
    return tuple(best)


def _alternative(hypothesis: Hypothesis, tokens: TokenTable) -> Alternative:
    score = hypothesis.log_prob if hypothesis.score is None else hypothesis.score
    return Alternative(text=text_of(hypothesis, tokens), log_prob=hypothesis.log_prob, score=score)


def word_spans(
    hypothesis: Hypothesis, spans: Sequence[TokenSpan], tokens: TokenTable
) -> Iterator[tuple[str, Sequence[TokenSpan]]]:
    """The words of a hypothesis, each with the spans of its tokens.

    Args:
        spans: of all its tokens, as `align` gives them.
    """
    if hypothesis.words is None:
        for first, last in tokens.word_bounds(hypothesis.tokens):
            yield tokens.decode(hypothesis.tokens[first:last]), spans[first:last]
    else:
        for word in hypothesis.words:
            yield word.text, spans[word.first : word.last]


def _confidence(
    spans: Sequence[TokenSpan],
    log_probs: NDArray[np.float32],
    calibration: ConfidenceConfig | None,
) -> float:
    if calibration is None:
        return confidence.mean_probability(spans)
    return confidence.fitted_confidence(confidence.word_evidence(spans, log_probs), calibration)
