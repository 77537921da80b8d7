"""CMU AN4: spelled names, addresses, numbers and commands; 84 speakers."""

from asr.stages import standard_stages

from . import corpus
from .corpus import Corpus

__all__ = ["STAGES", "Corpus"]

STAGES = standard_stages(corpus)
