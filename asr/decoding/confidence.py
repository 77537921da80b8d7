"""How sure a word is: from the probabilities of its tokens, and from a map fitted on a dev set.

A network's probabilities say little about how often it is right: trained to the end it is too sure,
and a language model knows words that it finds improbable. The map is a logistic regression from
what the network says where the word is to whether the word is right, and, of many words, a curve
from that to how often it is.

Source:
    Platt, Probabilistic outputs for support vector machines, 1999 (a fitted sigmoid). Zadrozny and
    Elkan, Transforming classifier scores into accurate multiclass probability estimates, 2002 (an
    isotonic curve).

Dimension names: step (model outputs in time), token (the token table), kind (of evidence).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from asr.config import ConfidenceConfig
from asr.decoding.alignment import TokenSpan

_LEAST = 1e-10  # of a probability


def mean_probability(spans: Sequence[TokenSpan]) -> float:
    """Geometric mean of the probabilities of a word's tokens."""
    return math.exp(_logs(spans).mean())


def word_evidence(spans: Sequence[TokenSpan], log_probs: NDArray[np.float32]) -> list[float]:
    """What the network says of a word, [kind], in the order of `ConfidenceConfig.weights`.

    Args:
        spans: of the word's tokens.
        log_probs: [step, token] of the utterance.
    """
    logs = _logs(spans)
    steps = log_probs[spans[0].start : spans[-1].end].astype(float)
    entropy = float(-(np.exp(steps) * np.maximum(steps, math.log(_LEAST))).sum(axis=1).mean())
    return [float(logs.mean()), float(logs.min()), entropy, math.log(len(spans))]


def fitted_confidence(evidence: Sequence[float], config: ConfidenceConfig) -> float:
    """Probability that a word is right."""
    value = config.bias + sum(w * e for w, e in zip(config.weights, evidence, strict=True))
    chance = 1 / (1 + math.exp(-max(-60.0, min(60.0, value))))
    if not config.curve:
        return chance
    places, heights = np.array(config.curve).T
    return float(np.interp(chance, places, heights))


def _logs(spans: Sequence[TokenSpan]) -> NDArray[np.float64]:
    return np.log([max(span.probability, _LEAST) for span in spans])
