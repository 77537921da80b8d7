"""LibriSpeech: read English, from 2 to 960 hours, and Mini LibriSpeech."""

from asr.config import parse_settings
from asr.recipe import Stage, Work, model_stages

from . import corpus
from .corpus import Corpus

__all__ = ["STAGES", "Corpus"]


def download(work: Work) -> None:
    """Download the subsets that the configuration names; left out with --corpus."""
    settings = parse_settings(work.config.corpus, Corpus, "corpus")
    corpus.download(work.path("download"), settings.subsets)


def prepare(work: Work) -> None:
    """Write the manifests of the training, dev and test sets."""
    settings = parse_settings(work.config.corpus, Corpus, "corpus")
    corpus.prepare(work.corpus or work.path("download"), work.path("manifests"), settings)


STAGES = (
    Stage(
        name="download",
        run=download,
        settings=("corpus.train", "corpus.dev", "corpus.test"),
        makes=("download",),
        fetches_corpus=True,
    ),
    Stage(
        name="prepare",
        run=prepare,
        settings=("corpus",),
        needs=("download",),
        makes=("manifests",),
    ),
    *model_stages("manifests", "download"),
)
