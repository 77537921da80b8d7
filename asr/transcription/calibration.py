"""What confidences mean, fitted on a dev set: from evidence to how often a word is right."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.config import ConfidenceConfig
from asr.corpus import Utterance
from asr.decoding import DecodingOptions, align, confidence, options, read_decoder
from asr.errors import DataError
from asr.model import folder as model_folder
from asr.model import locate_model
from asr.scoring import calibration, score
from asr.transcription.dev_set import DevSet, score_dev_set
from asr.transcription.recognizer import Recognizer
from asr.transcription.transcript import word_spans

MIN_WORDS = 200
"""Fewer say too little; nothing is fitted to them."""
_MIN_FOR_A_CURVE = 1000  # words
_MIN_OF_A_KIND = 5  # right words, and wrong ones
_RIDGE = 1.0  # weight of the squares of weights, where evidence has a deviation of 1
_NUM_ROUNDS = 50
_TOLERANCE = 1e-10


@dataclass(frozen=True, kw_only=True)
class Words:
    """The words that a decoder makes of a dev set."""

    evidence: NDArray[np.float64]
    """[word, kind], as `decoding.confidence.word_evidence` gives it."""
    means: NDArray[np.float64]
    """[word], the mean probabilities that are confidences where nothing is fitted."""
    right: NDArray[np.bool_]
    """[word]"""

    def take(self, chosen: NDArray[np.bool_]) -> "Words":
        """Some of them."""
        return Words(
            evidence=self.evidence[chosen], means=self.means[chosen], right=self.right[chosen]
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Fit:
    """A map from evidence to confidence, or why there is none."""

    config: ConfidenceConfig | None
    summary: str
    """In a line."""


def calibrate(folder: Path, utterances: Sequence[Utterance], *, device: str) -> Fit:
    """Fit what a model's confidences mean, for the decoding that it has, and store it with that.

    Raises:
        ModelError: it is no model, or a starter.
        DataError: an utterance cannot be read or has no text.
    """
    folder = locate_model(folder)
    model_folder.check_is_own(folder)
    recognizer = Recognizer.load(folder, device=device)
    dev = score_dev_set(recognizer, utterances)
    return store_fit(
        folder, replace(dev, texts=tuple(recognizer.reference(text) for text in dev.texts))
    )


def store_fit(folder: Path, dev: DevSet) -> Fit:
    """The same for what the network makes of a dev set.

    Args:
        dev: its texts are written as the decoder writes.
    """
    config = options.read_decoding(folder)
    fit = fit_confidence(dev_words(folder, dev))
    if fit.config != config.confidence:
        options.write_settings(folder, config.model_copy(update={"confidence": fit.config}))
    return fit


def dev_words(folder: Path, dev: DevSet) -> Words:
    """What a folder's decoder makes of a dev set, word by word."""
    decoder = read_decoder(folder, dev.tokens, DecodingOptions())
    texts: list[list[str]] = [[] for _ in dev.texts]
    evidence: list[list[list[float]]] = [[] for _ in dev.texts]
    means: list[list[float]] = [[] for _ in dev.texts]
    for owner, log_probs, hypotheses in zip(
        dev.owners, dev.segments, dev.decode(decoder), strict=True
    ):
        spans = align(log_probs, hypotheses[0].tokens)
        for text, of_word in word_spans(hypotheses[0], spans, dev.tokens):
            texts[owner].append(text)
            evidence[owner].append(confidence.word_evidence(of_word, log_probs))
            means[owner].append(confidence.mean_probability(of_word))
    scored = score(
        {str(number): text for number, text in enumerate(dev.texts)},
        {str(number): " ".join(words) for number, words in enumerate(texts)},
    )
    right = [flag for utterance in scored.utterances for flag in utterance.right_words()]
    if len(right) != sum(map(len, texts)):
        raise DataError("words with spaces in them: confidences cannot be fitted")
    kinds = [row for rows in evidence for row in rows]
    return Words(
        evidence=np.array(kinds, float).reshape(len(kinds), 4),
        means=np.array([mean for row in means for mean in row], float),
        right=np.array(right, bool),
    )


def fit_confidence(words: Words) -> Fit:
    """Fit the map; what it brings is told of each half by the map of the other."""
    num_right, num_words = int(words.right.sum()), len(words.right)
    if num_words < MIN_WORDS:
        return Fit(
            config=None,
            summary=f"confidences are not fitted: {num_words} words, and {MIN_WORDS} are needed",
        )
    if min(num_right, num_words - num_right) < _MIN_OF_A_KIND:
        return Fit(
            config=None,
            summary=f"confidences are not fitted: {num_words - num_right} of {num_words} words "
            f"are wrong, and {_MIN_OF_A_KIND} right and wrong ones are needed",
        )
    before = _measure(words.means, words)
    after, fit, kind = _measure(_crossed(words, _regress), words), _regress, ""
    if num_words >= _MIN_FOR_A_CURVE:
        curved = _measure(_crossed(words, _regress_and_bend), words)
        if curved[1] > after[1]:
            after, fit, kind = curved, _regress_and_bend, ", by an isotonic curve"
    return Fit(
        config=fit(words),
        summary=f"confidences fitted on {num_words} words{kind}: expected calibration error "
        f"{after[0]:.3f} (before {before[0]:.3f}), normalized cross "
        f"entropy {after[1]:.2f} (before {before[1]:.2f}); each half by the "
        "map of the other",
    )


def predict(words: Words, config: ConfidenceConfig) -> NDArray[np.float64]:
    """Confidences by a map, [word]."""
    rows = words.evidence.tolist()
    return np.array([confidence.fitted_confidence(row, config) for row in rows])


def _crossed(words: Words, fit: Callable[[Words], ConfidenceConfig]) -> NDArray[np.float64]:
    """Confidences of each half by the map of the other, [word]."""
    halves = np.arange(len(words.right)) % 2 == 0
    fitted = np.empty(len(words.right))
    for half in (halves, ~halves):
        fitted[half] = predict(words.take(half), fit(words.take(~half)))
    return fitted


def _measure(confidences: NDArray[np.float64], words: Words) -> tuple[float, float]:
    """Expected calibration error and normalized cross entropy."""
    measured = calibration.measure_calibration(confidences.tolist(), words.right.tolist())
    # Words of both kinds have one.
    assert measured is not None
    assert measured.cross_entropy is not None
    return measured.expected_error, measured.cross_entropy


def _regress_and_bend(words: Words) -> ConfidenceConfig:
    """The regression, and the curve that rises with it and is nearest to the truth.

    Truth is nowhere quite sure, as in `_regress`.
    """
    config = _regress(words)
    chances = predict(words, config)
    order = np.argsort(chances, kind="stable")
    sure = 1 / (len(order) + 2)
    curve = []
    for first, last, share in pool_violators(words.right[order]):
        height = float(np.clip(share, sure, 1 - sure))
        curve += [(float(chances[order[place]]), height) for place in (first, last - 1)]
    return config.model_copy(update={"curve": tuple(dict.fromkeys(curve))})


def pool_violators(values: NDArray[Any]) -> list[tuple[int, int, float]]:
    """The rising sequence that is nearest to one in least squares: from, to and mean of each level.

    Source:
        Barlow, Bartholomew, Bremner and Brunk, Statistical inference under order restrictions,
        1972 (pool adjacent violators).
    """
    levels: list[tuple[int, int, float]] = []
    for place, value in enumerate(values.tolist()):
        first, last, mean = place, place + 1, float(value)
        while levels and levels[-1][2] >= mean:
            start, middle, other = levels.pop()
            mean = (other * (middle - start) + mean * (last - first)) / (last - start)
            first = start
        levels.append((first, last, mean))
    return levels


def _regress(words: Words) -> ConfidenceConfig:
    """The logistic regression with the most probable truth, by Newton's method.

    Weights are drawn to 0; evidence has deviations of 1 there, so that all kinds are drawn alike.
    Truth is nowhere quite sure, or the bias would have no bound where all words are right.

    Source:
        Platt, Probabilistic outputs for support vector machines, 1999, section 2.2 (targets).
    """
    num_right = int(words.right.sum())
    num_wrong = len(words.right) - num_right
    truth = np.where(words.right, (num_right + 1) / (num_right + 2), 1 / (num_wrong + 2))
    mean, deviation = words.evidence.mean(axis=0), words.evidence.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    inputs = np.column_stack([np.ones(len(words.right)), (words.evidence - mean) / deviation])
    ridge = np.diag([0.0, *[_RIDGE] * len(mean)])
    weights = np.zeros(inputs.shape[1])
    for _ in range(_NUM_ROUNDS):
        chance = 1 / (1 + np.exp(-np.clip(inputs @ weights, -60, 60)))
        slope = inputs.T @ (truth - chance) - ridge @ weights
        curvature = (inputs * (chance * (1 - chance))[:, None]).T @ inputs + ridge
        change = np.linalg.solve(curvature, slope)
        weights = weights + change
        if float(np.abs(change).max()) < _TOLERANCE:
            break
    scaled = weights[1:] / deviation
    return ConfidenceConfig(bias=float(weights[0] - scaled @ mean), weights=tuple(scaled.tolist()))
