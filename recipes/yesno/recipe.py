"""YesNo: sixty recordings of one man saying the Hebrew words for yes and no."""

from asr.stages import standard_stages

from . import corpus
from .corpus import Corpus

__all__ = ["STAGES", "Corpus"]

STAGES = standard_stages(corpus)
