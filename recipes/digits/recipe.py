"""Digit strings spoken by synthetic voices: learns in minutes, downloads nothing."""

from asr.config import parse_settings
from asr.recipe import Stage, Work, model_stages

from . import corpus
from .corpus import Corpus

__all__ = ["STAGES", "Corpus"]


def prepare(work: Work) -> None:
    """Let eSpeak NG speak the training, dev and test sets."""
    settings = parse_settings(work.config.corpus, Corpus, "corpus")
    corpus.prepare(None, work.path("manifests"), settings)


STAGES = (
    Stage(name="prepare", run=prepare, settings=("corpus",), makes=("manifests",)),
    *model_stages("manifests"),
)
