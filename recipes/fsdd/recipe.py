"""Free Spoken Digit Dataset: single digits, six speakers, 8 kHz."""

from asr.stages import standard_stages

from . import corpus
from .corpus import Corpus

__all__ = ["STAGES", "Corpus"]

STAGES = standard_stages(corpus)
