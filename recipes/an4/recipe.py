"""CMU AN4: spelled names, addresses, numbers and commands; 84 speakers."""

from asr.recipe import standard_stages

from .corpus import Corpus, download, prepare

__all__ = ["STAGES", "Corpus"]

STAGES = standard_stages(Corpus, download, prepare)
