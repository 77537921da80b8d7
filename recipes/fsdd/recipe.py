"""Free Spoken Digit Dataset: single digits, six speakers, 8 kHz."""

from asr.recipe import standard_stages

from .corpus import Corpus, download, prepare

__all__ = ["STAGES", "Corpus"]

STAGES = standard_stages(Corpus, download, prepare)
