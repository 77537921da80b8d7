"""A base model of English from several free corpora, to start from, to align and to label with."""

from asr.config import parse_settings
from asr.files import open_atomic
from asr.folders import replace_folder
from asr.recipe import Stage, Work, model_stages, standard

from . import corpus
from .corpus import Corpus

__all__ = ["STAGES", "Corpus"]


def download(work: Work) -> None:
    """Download the corpora that are published; left out with --corpus."""
    settings = parse_settings(work.config.corpus, Corpus, "corpus")
    corpus.download(work.path("download"), settings)


def prepare(work: Work) -> None:
    """Write the manifests: training and dev sets joined, and each part's dev and test set."""
    settings = parse_settings(work.config.corpus, Corpus, "corpus")
    source = work.corpus or work.path("download")
    corpus.prepare(source, work.path("manifests"), settings, work.report)


def evaluate(work: Work) -> None:
    """Transcribe the dev and test set of each part by itself, and score them."""
    results = []
    with replace_folder(work.path("test")) as folder:
        for part in corpus.PARTS:
            for split in ("dev", "test"):
                name = f"{part}/{split}"
                if work.path(f"manifests/{name}.jsonl").exists():
                    results.append(f"{name}\n{standard.score_set(work, name, folder / name)}")
    with open_atomic(work.path("result.txt")) as file:
        file.write("\n".join(results))


STAGES = (
    Stage(
        name="download",
        run=download,
        settings=("corpus",),
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
    *(stage for stage in model_stages("manifests", "download") if stage.name != "evaluate"),
    Stage(
        name="evaluate",
        run=evaluate,
        needs=("model", "manifests", "download"),
        makes=("test", "result.txt"),
    ),
)
