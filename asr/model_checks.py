"""What a trained model says about a corpus: transcripts that it cannot spell, or does not hear.

Dimension names: step (model outputs in time), token.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from asr.audio import read_audio
from asr.audio_checks import Case
from asr.batches import plan_batches
from asr.doctor import Examination, sort_findings
from asr.errors import DataError
from asr.findings import Finding
from asr.progress import track
from asr.recognizer import Recognizer
from asr.stored_features import read_features
from asr.viterbi import best_path

MAX_SECONDS = 60.0
"""Longer utterances are not compared: a network takes them whole."""

_WINDOW = 128  # utterances in memory
_BATCH_SECONDS = 120.0
_READERS = 2
_MIN_DEFICIT = 1.0  # nats a token; a word among ten that was not said costs about as much
_DEVIATIONS = 5.0  # robust standard deviations above the median of the corpus
_MAD_TO_DEVIATION = 1.4826  # of a normal distribution
_SHOWN = 80  # characters of a text


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """How a transcript fits what the model hears."""

    case: Case
    steps: int
    needed: int
    """Steps that the transcript takes at least."""
    deficit: float | None
    """Nats a token by which the best path of the transcript is less probable than the best of all
    paths; none where it has no path."""
    heard: str


def add_model_findings(examination: Examination, recognizer: Recognizer) -> Examination:
    """The examination with what the model says of it; transcripts that fit worst come first."""
    cases = [case for case in examination.cases if case.error is None and case.utterance.text]
    findings = [*examination.findings, *_check_rates(cases, recognizer)]
    findings += check_fits(list(measure_fits(cases, recognizer)))
    return replace(examination, findings=sort_findings(findings))


def measure_fits(cases: Sequence[Case], recognizer: Recognizer) -> Iterator[Fit]:
    """Of the utterances that the model can read: its tokens spell them, they are not too long."""
    usable = [case for case in cases if 0 < case.seconds <= MAX_SECONDS]
    windows = [usable[start : start + _WINDOW] for start in range(0, len(usable), _WINDOW)]
    with ThreadPoolExecutor(max_workers=_READERS) as pool:
        for window in track(windows, total=len(windows), label="aligning", unit="batches"):
            inputs = list(pool.map(lambda case: _read(case, recognizer), window))
            read = [(c, i) for c, i in zip(window, inputs, strict=True) if i is not None]
            if read:
                yield from _fits_of(read, recognizer)


def check_fits(fits: Sequence[Fit]) -> Iterator[Finding]:
    """Transcripts without a path, then those that fit much worse than the rest, worst first."""
    for fit in fits:
        if fit.deficit is None:
            message = f"{fit.needed} steps needed, {fit.steps} there: {_cut(fit.case)}"
            yield fit.case.finding("infeasible", message, fit.needed)
    found = [(fit.deficit, fit) for fit in fits if fit.deficit is not None]
    if not found:
        return
    deficits = np.array([deficit for deficit, _ in found])
    median = float(np.median(deficits))
    deviation = _MAD_TO_DEVIATION * float(np.median(np.abs(deficits - median)))
    limit = max(_MIN_DEFICIT, median + _DEVIATIONS * deviation)
    for deficit, fit in sorted(found, key=lambda pair: -pair[0]):
        if deficit > limit:
            message = (
                f"{deficit:.1f} nats a token below what is heard ({median:.1f} is usual): "
                f"{_cut(fit.case)}, heard {fit.heard[:_SHOWN]!r}"
            )
            yield fit.case.finding("wrong-transcript", message, deficit)


def _check_rates(cases: Sequence[Case], recognizer: Recognizer) -> Iterator[Finding]:
    rate = recognizer.config.features.sample_rate
    for case in cases:
        if case.file is not None and case.file.sample_rate < rate:
            message = f"{case.file.sample_rate} Hz, the model's audio has {rate} Hz"
            yield case.finding("low-rate", message, case.file.sample_rate)


def _read(case: Case, recognizer: Recognizer) -> NDArray[np.float32] | None:
    """Samples or frames; none where the model cannot take them."""
    features, utterance = recognizer.config.features, case.utterance
    try:
        recognizer.tokens.encode(utterance.text or "")
        if case.features is not None:
            frames = read_features(utterance.audio_filepath)
            return frames if frames.shape[1] == features.num_base_bins else None
        audio = read_audio(
            utterance.audio_filepath,
            sample_rate=features.sample_rate,
            offset=utterance.offset,
            duration=utterance.duration or None,
        )
    except DataError:  # a finding of its own
        return None
    return audio.samples if len(audio.samples) >= features.frame_length else None


def _fits_of(
    read: Sequence[tuple[Case, NDArray[np.float32]]], recognizer: Recognizer
) -> Iterator[Fit]:
    features = recognizer.config.features
    for kind in (1, 2):  # samples and frames cannot share a batch
        chosen = [pair for pair in read if pair[1].ndim == kind]
        unit = 1 if kind == 1 else features.frame_shift
        lengths = np.array([len(values) * unit for _, values in chosen], np.int64)
        for rows in plan_batches(lengths, round(_BATCH_SECONDS * features.sample_rate)):
            batch = [chosen[row] for row in rows]
            outputs = recognizer.log_probs([values for _, values in batch])
            for (case, _), log_probs in zip(batch, outputs, strict=True):
                yield _fit(case, log_probs, recognizer)


def _fit(case: Case, log_probs: NDArray[np.float32], recognizer: Recognizer) -> Fit:
    tokens = np.array(recognizer.tokens.encode(case.utterance.text or ""), np.int64)
    needed = len(tokens) + int((tokens[1:] == tokens[:-1]).sum())
    greedy = log_probs.argmax(axis=1)
    starts = np.flatnonzero(np.diff(greedy, prepend=-1))
    heard = recognizer.tokens.decode([int(token) for token in greedy[starts] if token])
    deficit = None
    if len(log_probs) and needed <= len(log_probs):
        path = best_path(np.array(log_probs, np.float32, order="C"), tokens)
        behind = log_probs.max(axis=1) - log_probs[np.arange(len(path)), path]
        deficit = float(behind.sum(dtype=np.float64)) / max(1, len(tokens))
    return Fit(case=case, steps=len(log_probs), needed=needed, deficit=deficit, heard=heard)


def _cut(case: Case) -> str:
    return repr((case.utterance.text or "")[:_SHOWN])
