"""YesNo: sixty recordings of one man saying the Hebrew words for yes and no."""

from asr.recipe import standard_stages

from .corpus import Corpus, download, prepare

__all__ = ["STAGES", "Corpus"]

STAGES = standard_stages(Corpus, download, prepare)
