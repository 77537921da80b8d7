"""Speech without transcripts becomes speech to train on: what `asr data label` does.

What a teacher hears is cut into utterances, each with the share of its words that is expected to be
right. A teacher is a `job.Transcriber`: it takes sources and gives transcripts.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from asr.corpus import Utterance
from asr.errors import DataError
from asr.scoring import count_errors
from asr.text import normalize
from asr.transcription.sources import Source
from asr.transcription.transcript import Transcript, Word

_LONG_PAUSE = 1.0  # seconds between words, at which an utterance always ends
_LEAST_PAUSE = 0.1  # shorter ones are within words, too
_MARGIN = 0.3  # seconds of a pause that are left at a word, whose sound goes on after its tokens
_CLIP = 1e-4  # of a confidence, which has no logit at 0 and 1
_PRIOR = 1.0  # weight of the belief that confidences are right as they are; as of one word
_NUM_ROUNDS = 25
_SMALLEST_STEP = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """An utterance whose text is a machine's, or why it is none."""

    utterance: Utterance
    confidence: float
    """Share of its words that are expected to be right, 0 to 1."""
    objection: str = ""
    """Why it is not to be learnt from, in a word; empty if nothing speaks against it."""
    message: str = ""
    """More of that."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelCalibration:
    """From what a teacher says of its words to the share of them that is right."""

    slope: float = 1.0
    offset: float = 0.0

    def apply(self, confidence: float) -> float:
        """The expected share of right words."""
        return _sigmoid(self.slope * _logit(confidence) + self.offset)


def fit_calibration(
    confidences: Sequence[float], shares: Sequence[float], weights: Sequence[float]
) -> LabelCalibration:
    """The calibration under which the shares that were found are most probable.

    Args:
        confidences: of utterances, as the teacher has them.
        shares: of their words that are right.
        weights: how many words each has.

    Source:
        Platt 1999, "Probabilistic outputs for support vector machines"; by Newton's method.
    """
    inputs = np.stack([[_logit(value) for value in confidences], np.ones(len(confidences))], axis=1)
    targets, counts = np.asarray(shares, np.float64), np.asarray(weights, np.float64)
    identity = np.array([1.0, 0.0])

    def loss(values: NDArray[np.float64]) -> float:
        logits = inputs @ values
        losses = counts @ (np.logaddexp(0, logits) - targets * logits)
        return float(losses + _PRIOR / 2 * ((values - identity) ** 2).sum())

    values = identity.copy()
    for _ in range(_NUM_ROUNDS):
        expected = np.exp(-np.logaddexp(0, -inputs @ values))
        gradient = inputs.T @ (counts * (expected - targets)) + _PRIOR * (values - identity)
        curvature = counts * expected * (1 - expected)
        step = np.linalg.solve((inputs.T * curvature) @ inputs + _PRIOR * np.eye(2), gradient)
        size = 1.0
        while size > _SMALLEST_STEP and loss(values - size * step) > loss(values):
            size /= 2
        values = values - size * step
    return LabelCalibration(slope=float(values[0]), offset=float(values[1]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What a teacher made of a reviewed utterance."""

    confidence: float
    """As the teacher has it."""
    share: float
    """Of its words that are right; words that were not heard count as wrong ones."""
    num_words: int


def try_teacher(
    results: Iterable[tuple[Source, Transcript | Exception]], clean: Callable[[str], str]
) -> list[Trial]:
    """How right a teacher is on reviewed utterances.

    Words are what spaces part; where no text has one, as in languages that are written so,
    characters are taken for them.

    Args:
        results: what it hears in them.
        clean: is done to the texts of both before they are compared.

    Raises:
        DataError: an utterance has no text or cannot be read, or there is none.
    """
    pairs = []
    confidences = []
    for source, transcript in results:
        if isinstance(transcript, Exception):
            raise DataError(f"{source.id}: {transcript}") from transcript
        if source.utterance.text is None:
            raise DataError(f"{source.id}: no text to compare with")
        texts = (source.utterance.text, transcript.text)
        pairs.append([normalize(clean(text)) for text in texts])
        confidences.append(mean_confidence(transcript.words))
    # Of all texts together: a single word has no space in any language.
    is_spaced = any(" " in text for pair in pairs for text in pair)
    trials = []
    for pair, confidence in zip(pairs, confidences, strict=True):
        reference, heard = (text.split() if is_spaced else list(text) for text in pair)
        counts = count_errors(reference, heard)
        total = len(reference) + counts.insertions
        if total and heard:
            share = counts.correct / total
            trials.append(Trial(confidence=confidence, share=share, num_words=total))
    if not trials:
        raise DataError("no utterance in which a word is heard, to compare with")
    return trials


def calibrate_labels(trials: Sequence[Trial]) -> LabelCalibration:
    """The calibration that suits trials."""
    return fit_calibration(
        [trial.confidence for trial in trials],
        [trial.share for trial in trials],
        [trial.num_words for trial in trials],
    )


def describe_trials(
    trials: Sequence[Trial], calibration: LabelCalibration, min_confidence: float
) -> Iterator[str]:
    """What the reviewed utterances say of the labels to come, in lines."""
    before = _gap(trials, LabelCalibration())
    after = _gap(trials, calibration)
    yield (
        f"{len(trials)} reviewed utterances: {100 * _share(trials):.1f} % of the words right; "
        f"confidence was off by {100 * before:.1f} points on average, and when calibrated by "
        f"{100 * after:.1f}"
    )
    kept = [t for t in trials if calibration.apply(t.confidence) >= min_confidence]
    rest = [t for t in trials if calibration.apply(t.confidence) < min_confidence]
    parts = [f"{len(kept)} would be kept at {min_confidence:g}"]
    parts += [f"{100 * _share(kept):.1f} % of their words right"] if kept else []
    parts += [f"of the {len(rest)} others {100 * _share(rest):.1f} %"] if rest else []
    yield ", ".join(parts)


def make_labels(
    source: Source,
    transcript: Transcript,
    *,
    clean: Callable[[str], str],
    calibration: LabelCalibration,
    max_seconds: float,
    min_confidence: float,
) -> Iterator[Label]:
    """The utterances of a source, cut as by `cut_transcript`, and what of it is none.

    Args:
        clean: is done to texts.
        min_confidence: those below it are objected to.
    """
    space = " " if " " in transcript.text else ""
    for stretch, words in cut_transcript(source.utterance, transcript, max_seconds):
        text = normalize(clean(space.join(word.text for word in words)))
        utterance = replace(stretch, text=text)
        confidence = calibration.apply(mean_confidence(words)) if words else 0.0
        objection = message = ""
        if not text:
            objection, message = "silent", "no words were heard"
        elif stretch.id != source.id and has_no_pause(stretch, max_seconds):
            objection, message = "long", f"{stretch.duration:.1f} s without a pause"
        elif confidence < min_confidence:
            objection, message = "unsure", f"confidence {confidence:.4f}: {text}"
        yield Label(
            utterance=utterance, confidence=confidence, objection=objection, message=message
        )


def cut_transcript(
    whole: Utterance, transcript: Transcript, max_seconds: float
) -> Iterator[tuple[Utterance, Sequence[Word]]]:
    """The stretches of an utterance, with the words that are in each.

    What is not longer than `max_seconds` stays whole, and so does what has no words. The rest is
    cut in pauses: in all long ones, and otherwise in the longest one that comes in time.
    """
    if not whole.duration:
        whole = replace(whole, duration=transcript.duration)
    if not transcript.words or transcript.duration <= max_seconds:
        yield whole, transcript.words
        return
    groups = list(cut_words(transcript.words, max_seconds))
    yield from zip(_stretches(whole, groups), groups, strict=True)


def has_no_pause(stretch: Utterance, max_seconds: float) -> bool:
    """Whether a stretch is longer than it may be, since no pause came in time."""
    return stretch.duration > max_seconds + 2 * _MARGIN


def cut_words(words: Sequence[Word], max_seconds: float) -> Iterator[Sequence[Word]]:
    """Words in groups that end in pauses, each of at most so many seconds, where pauses allow it.

    Pauses of a second end a group. Otherwise the longest pause does that leaves a group of a third
    of `max_seconds` or more.
    """
    first = 0
    while first < len(words):
        last = _end_of_group(words, first, max_seconds)
        yield words[first:last]
        first = last


def _end_of_group(words: Sequence[Word], first: int, max_seconds: float) -> int:
    best, longest = len(words), 0.0
    for place in range(first + 1, len(words)):
        seconds = words[place - 1].end - words[first].start
        if longest and seconds > max_seconds:
            return best
        pause = words[place].start - words[place - 1].end
        if pause >= _LONG_PAUSE:
            return place
        if pause >= max(_LEAST_PAUSE, longest) and seconds >= max_seconds / 3:
            best, longest = place, pause
    return len(words) if words[-1].end - words[first].start <= max_seconds else best


def mean_confidence(words: Sequence[Word]) -> float:
    """Of the words' own, each the probability that a word is right; 0 of none."""
    return sum(word.confidence for word in words) / max(1, len(words))


def _stretches(whole: Utterance, groups: Sequence[Sequence[Word]]) -> Iterator[Utterance]:
    """Of the groups of words, with up to half of the pauses around them."""
    last = 0.0  # end of the words before
    for number, group in enumerate(groups):
        first, end = group[0].start, group[-1].end
        start = max(first - _MARGIN, (last + first) / 2 if number else 0.0)
        after = groups[number + 1][0].start if number + 1 < len(groups) else None
        stop = min(end + _MARGIN, whole.duration if after is None else (end + after) / 2)
        name = f"{whole.id}-{round(1000 * start):07d}-{round(1000 * stop):07d}"
        yield replace(whole, id=name, offset=whole.offset + start, duration=stop - start)
        last = end


def _share(trials: Sequence[Trial]) -> float:
    total = sum(trial.num_words for trial in trials)
    return sum(trial.share * trial.num_words for trial in trials) / total


def _gap(trials: Sequence[Trial], calibration: LabelCalibration) -> float:
    """By how much confidence and share differ, in tenths of the utterances by confidence."""
    ordered = sorted(trials, key=lambda trial: trial.confidence)
    size = max(1, math.ceil(len(ordered) / 10))
    bins = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    total = sum(trial.num_words for trial in ordered)
    gap = 0.0
    for part in bins:
        words = sum(trial.num_words for trial in part)
        said = sum(calibration.apply(t.confidence) * t.num_words for t in part) / words
        gap += abs(said - _share(part)) * words / total
    return gap


def _logit(share: float) -> float:
    clipped = min(max(share, _CLIP), 1 - _CLIP)
    return math.log(clipped / (1 - clipped))


def _sigmoid(value: float) -> float:
    return float(np.exp(-np.logaddexp(0, -value)))
