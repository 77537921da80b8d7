"""Readings of a beam search, ranked anew by a neural language model.

The n-gram's log-probability of a reading gives way, by a share, to the neural model's: a linear
interpolation of logarithms. Everything else of the score stays.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from asr.decoding.hypothesis import Hypothesis
from asr.lm import LanguageModel, sentence_log_prob, sentences

if TYPE_CHECKING:
    from asr.lm import NeuralLm


@dataclass(frozen=True, kw_only=True)
class Rescorer:
    """Two language models and how they share the weight of one."""

    neural: "NeuralLm"
    ngram: LanguageModel | None
    """That the beam search had, of words or characters; none counts as 0."""
    lm_weight: float
    """On the two together."""
    share: float
    """Of the neural one, 0 to 1."""

    def rank(self, hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
        """Best first, with the scores by which they are ranked now."""
        return self.ranked(hypotheses, self.differences([h.text for h in hypotheses]))

    def ranked(self, hypotheses: Sequence[Hypothesis], added: Sequence[float]) -> list[Hypothesis]:
        """The same with `differences` known."""
        weight = self.lm_weight * self.share
        scored = [
            replace(hypothesis, score=(hypothesis.score or 0.0) + weight * value)
            for hypothesis, value in zip(hypotheses, added, strict=True)
        ]
        # Equals stay in their order.
        return sorted(scored, key=lambda hypothesis: -(hypothesis.score or 0.0))

    def differences(self, texts: Sequence[str]) -> list[float]:
        """By how much the neural model finds each text more probable than the n-gram, in nats."""
        unit = self.neural.config.unit
        log_probs = self.neural.sentence_log_probs(
            [sentences.split_sentence(text, unit) for text in texts]
        )
        if self.ngram is None:
            return log_probs
        return [
            value
            - math.log(10)
            * sentence_log_prob(self.ngram, sentences.split_sentence(text, self.ngram.unit))
            for text, value in zip(texts, log_probs, strict=True)
        ]
