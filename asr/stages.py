"""The stages that recipes share: from a corpus to a model and a scored test set."""

from pathlib import Path
from typing import Any, Protocol

from asr.config import Settings, parse_settings
from asr.recipe import Stage, Work

_TEXT_SPLITS = ("train", "dev")


class Corpus(Protocol):
    """What a recipe's `corpus.py` offers."""

    Corpus: type[Settings]

    def download(self, target: Path) -> None:
        """Fetch the published corpus into a folder."""

    def prepare(self, source: Path, folder: Path, corpus: Any) -> None:
        """Write `train.jsonl`, `dev.jsonl` and `test.jsonl`; `corpus` is of the class `Corpus`."""


def standard_stages(corpus: Corpus) -> tuple[Stage, ...]:
    """Download, prepare, pack, train, evaluate."""

    def download(work: Work) -> None:
        """Download the corpus from where it is published; left out with --corpus."""
        corpus.download(work.path("download"))

    def prepare(work: Work) -> None:
        """Write the manifests of the training, dev and test sets."""
        settings = parse_settings(work.config.corpus, corpus.Corpus, "corpus")
        corpus.prepare(work.corpus or work.path("download"), work.path("manifests"), settings)

    return (
        Stage(name="download", run=download, makes=("download",), fetches_corpus=True),
        Stage(
            name="prepare",
            run=prepare,
            settings=("corpus",),
            needs=("download",),
            makes=("manifests",),
        ),
        *MODEL_STAGES,
    )


def pack(work: Work) -> None:
    """Decode the audio of the training and dev sets once."""
    from asr.data import pack as pack_corpus
    from asr.manifest import read_manifest

    for split in _TEXT_SPLITS:
        utterances = read_manifest(work.path(f"manifests/{split}.jsonl"))
        packed = pack_corpus(utterances, work.path(f"packed/{split}"), work.config.features)
        work.report(f"{split}: {len(utterances)} utterances, {packed.seconds / 60:.1f} minutes")
        if packed.low_rate:
            work.report(
                f"warning: {split}: {len(packed.low_rate)} utterances have a lower rate than "
                f"features.sample_rate {work.config.features.sample_rate}, the first is "
                f"{packed.low_rate[0]}"
            )


def train(work: Work) -> None:
    """Train the model; the dev set chooses the epoch."""
    from asr.data import open_packed
    from asr.training import train as train_model

    train_model(
        open_packed(work.path("packed/train")),
        open_packed(work.path("packed/dev")),
        work.config,
        work.folder,
        scratch=work.scratch(),
        device=work.device,
        report=work.report,
    )


def evaluate(work: Work) -> None:
    """Transcribe the test set and score it."""
    from asr.evaluation import evaluate as evaluate_model

    result = evaluate_model(
        work.path("model"),
        work.path("manifests/test.jsonl"),
        work.path("test"),
        device=work.device,
    )
    work.path("result.txt").write_text(result, encoding="utf-8")


MODEL_STAGES = (
    Stage(
        name="pack",
        run=pack,
        settings=(
            "features.sample_rate",
            "features.frame_length_ms",
            "features.kind",
            "features.num_mel_bins",
            "features.num_ceps",
        ),
        needs=("manifests/train.jsonl", "manifests/dev.jsonl"),
        makes=("packed",),
    ),
    Stage(
        name="train",
        run=train,
        settings=("features", "tokens", "augment", "encoder", "training"),
        needs=("packed",),
        makes=("model", "history.csv", "curves.png", "infeasible.tsv"),
    ),
    Stage(
        name="evaluate",
        run=evaluate,
        needs=("model", "manifests/test.jsonl"),
        makes=("test", "result.txt"),
    ),
)
