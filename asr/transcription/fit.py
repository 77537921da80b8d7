"""What a trained model says about a corpus: transcripts that it cannot spell, or does not hear.

Dimension names: step (model outputs in time), token.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from asr.corpus import checks
from asr.decoding import best_path, greedy, required_steps
from asr.errors import AsrError, DataError
from asr.progress import track
from asr.transcription.recognizer import Recognizer

MAX_SECONDS = 120.0
"""Longer utterances are not compared: the memory grows with the square."""

# Nats a token. With texts of test utterances exchanged, AN4's wrong ones lie at 7 to 53 and yesno's
# (where half of the words stay right) at 1.8 to 3.6; right ones that a model mishears at up to 1.8.
_MIN_DEFICIT = 1.5
_DEVIATIONS = 5.0  # robust standard deviations above the median of the corpus
_MAD_TO_DEVIATION = 1.4826  # of a normal distribution
_SHOWN = 80  # characters of a text


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """How a transcript fits what the model hears."""

    case: checks.Case
    steps: int
    needed: int
    """Steps that the transcript takes at least."""
    deficit: float | None
    """Nats a token by which the best path of the transcript is less probable than the best of all
    paths; none where it has no path."""
    heard: str


def add_model_findings(
    examination: checks.Examination, recognizer: Recognizer
) -> checks.Examination:
    """The examination with what the model says of it; transcripts that fit worst come first."""
    cases = [case for case in examination.cases if case.error is None and case.utterance.text]
    findings = [*examination.findings, *_check_rates(cases, recognizer)]
    findings += check_fits(list(measure_fits(cases, recognizer)))
    return replace(examination, findings=checks.sort_findings(findings))


def measure_fits(cases: Sequence[checks.Case], recognizer: Recognizer) -> Iterator[Fit]:
    """Of the utterances that the model can read: its tokens spell them, they are not too long."""
    usable = []
    for case in cases:
        with suppress(DataError):  # characters without a token are a finding of their own
            tokens = np.array(recognizer.tokens.encode(case.utterance.text or ""), np.int64)
            if 0 < case.seconds <= MAX_SECONDS and len(tokens):
                usable.append((case, tokens))
    scored = track(
        recognizer.score_utterances(case.utterance for case, _ in usable),
        total=len(usable),
        label="aligning",
        unit="utterances",
    )
    for (case, tokens), (_, segments) in zip(usable, scored, strict=True):
        if not isinstance(segments, AsrError):
            yield _fit(case, tokens, np.concatenate(segments), recognizer)


def check_fits(fits: Sequence[Fit]) -> Iterator[checks.Finding]:
    """Transcripts without a path, then those that fit much worse than the rest, worst first."""
    for fit in fits:
        if fit.deficit is None:
            message = f"{fit.needed} steps needed, {fit.steps} there: {_cut(fit.case)}"
            yield fit.case.finding("infeasible", message, fit.needed)
    gaps = [(fit.deficit, fit) for fit in fits if fit.deficit is not None]
    if not gaps:
        return
    deficits = np.array([deficit for deficit, _ in gaps])
    median = float(np.median(deficits))
    deviation = _MAD_TO_DEVIATION * float(np.median(np.abs(deficits - median)))
    limit = max(_MIN_DEFICIT, median + _DEVIATIONS * deviation)
    for deficit, fit in sorted(gaps, key=lambda pair: -pair[0]):
        if deficit > limit:
            message = (
                f"{deficit:.1f} nats a token below what is heard ({median:.1f} is usual): "
                f"{_cut(fit.case)}, heard {fit.heard[:_SHOWN]!r}"
            )
            yield fit.case.finding("wrong-transcript", message, deficit)


def _check_rates(cases: Sequence[checks.Case], recognizer: Recognizer) -> Iterator[checks.Finding]:
    rate = recognizer.config.features.sample_rate
    for case in cases:
        if case.file is not None and case.file.sample_rate < rate:
            message = f"{case.file.sample_rate} Hz, the model's audio has {rate} Hz"
            yield case.finding("low-rate", message, case.file.sample_rate)


def _fit(
    case: checks.Case,
    tokens: NDArray[np.int64],
    log_probs: NDArray[np.float32],
    recognizer: Recognizer,
) -> Fit:
    needed = int(required_steps(tokens, np.array(len(tokens))))
    heard = recognizer.tokens.decode(greedy(log_probs).tokens)
    deficit = None
    if needed <= len(log_probs):
        path = best_path(np.array(log_probs, np.float32, order="C"), tokens)
        behind = log_probs.max(axis=1) - log_probs[np.arange(len(path)), path]
        deficit = float(behind.sum(dtype=np.float64)) / len(tokens)
    return Fit(case=case, steps=len(log_probs), needed=needed, deficit=deficit, heard=heard)


def _cut(case: checks.Case) -> str:
    return repr((case.utterance.text or "")[:_SHOWN])
