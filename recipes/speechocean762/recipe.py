"""speechocean762: English read by speakers of Mandarin, half of them children; 6 hours."""

from asr.recipe import standard_stages

from .corpus import Corpus, download, prepare

__all__ = ["STAGES", "Corpus"]

STAGES = standard_stages(Corpus, download, prepare)
