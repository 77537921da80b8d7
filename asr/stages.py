"""The stages that recipes share: from a corpus to a model and a scored test set."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from asr.config import Settings, parse_settings
from asr.errors import DataError
from asr.files import open_atomic, replace_folder
from asr.recipe import Stage, Work

_PACKED = tuple(
    f"features.{key}"
    for key in (
        "kind",
        "sample_rate",
        "frame_length_ms",
        "frame_shift_ms",
        "num_mel_bins",
        "num_ceps",
    )
)  # the settings that packing reads


_S = TypeVar("_S", bound=Settings)


def standard_stages(
    corpus: type[_S],
    fetch: Callable[[Path], None],
    write_manifests: Callable[[Path, Path, _S], None],
) -> tuple[Stage, ...]:
    """Download, prepare, pack, train, evaluate.

    Args:
        corpus: class of the configuration's `corpus` section.
        fetch: puts the published corpus into a folder.
        write_manifests: from a folder with the corpus, writes `train.jsonl`, `dev.jsonl` and
            `test.jsonl` into another.
    """

    def download(work: Work) -> None:
        """Download the corpus from where it is published; left out with --corpus."""
        fetch(work.path("download"))

    def prepare(work: Work) -> None:
        """Write the manifests of the training, dev and test sets."""
        settings = parse_settings(work.config.corpus, corpus, "corpus")
        write_manifests(work.corpus or work.path("download"), work.path("manifests"), settings)

    return (
        Stage(name="download", run=download, makes=("download",), fetches_corpus=True),
        Stage(
            name="prepare",
            run=prepare,
            settings=("corpus",),
            needs=("download",),
            makes=("manifests",),
        ),
        *model_stages("manifests", "download"),
    )


def pack(work: Work) -> None:
    """Decode the audio of the training and dev sets once."""
    from asr.data import pack as pack_corpus
    from asr.manifest import read_manifest

    for split in ("train", "dev"):
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
    """Transcribe the test set, score it, and write the report."""
    from asr.evaluation import evaluate as evaluate_model
    from asr.evaluation import write_evaluation
    from asr.manifest import read_manifest
    from asr.recognizer import Recognizer

    recognizer = Recognizer.load(work.path("model"), device=work.device)
    utterances = read_manifest(work.path("manifests/test.jsonl"))
    name = f"{work.folder.parent.name}/{work.folder.name}"
    evaluation = evaluate_model(recognizer, utterances, name=name, test_set="test")
    if evaluation.failures:
        failed_id, error = evaluation.failures[0]
        raise DataError(
            f"{len(evaluation.failures)} test utterances cannot be read, the first is "
            f"{failed_id}: {error}"
        )
    with replace_folder(work.path("test")) as folder:
        write_evaluation(evaluation, utterances, recognizer, folder)
    with open_atomic(work.path("result.txt")) as file:
        file.write(evaluation.summary())


def model_stages(*sources: str) -> tuple[Stage, ...]:
    """Pack, train, evaluate.

    Args:
        sources: what earlier stages make that holds manifests and audio.
    """
    return (
        Stage(name="pack", run=pack, settings=_PACKED, needs=sources, makes=("packed",)),
        Stage(
            name="train",
            run=train,
            settings=("features", "tokens", "augment", "encoder", "training"),
            needs=("packed",),
            makes=(
                "model",
                "history.csv",
                "curves.png",
                "infeasible.tsv",
                "training.html",
                "tensorboard",
            ),
            shared=True,
        ),
        Stage(
            name="evaluate",
            run=evaluate,
            needs=("model", *sources),
            makes=("test", "result.txt"),
        ),
    )
