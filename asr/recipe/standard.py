"""The stages that recipes share: from a corpus to a model and a scored test set."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from asr.config import Settings, parse_settings
from asr.decoding import DecodingOptions
from asr.decoding import options as decoding_options
from asr.errors import ConfigError, DataError
from asr.files import open_atomic, replace_folder
from asr.recipe.run import Stage, Work
from asr.text import tokens

if TYPE_CHECKING:
    from asr.corpus import Utterance

if TYPE_CHECKING:
    from asr.corpus import PackReport

_PACKED = (
    "features.kind",
    "features.sample_rate",
    "features.frame_length_ms",
    "features.frame_shift_ms",
    "features.num_mel_bins",
    "features.num_ceps",
    "training.stream",
)  # the settings that packing reads


PRONUNCIATIONS = "manifests/pronunciations.txt"
"""Where a recipe's preparation may put a dictionary, for models of phones."""

_S = TypeVar("_S", bound=Settings)


def standard_stages(
    corpus: type[_S],
    fetch: Callable[[Path], None],
    write_manifests: Callable[[Path, Path, _S], None],
) -> tuple[Stage, ...]:
    """Download, prepare, pack, train, lm, tune, evaluate.

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
    for split in ("train", "dev"):
        packed, count = _pack_split(work, split)
        work.report(f"{split}: {count} utterances, {packed.seconds / 60:.1f} minutes")
        if packed.low_rate:
            work.report(
                f"warning: {split}: {len(packed.low_rate)} utterances have a lower rate than "
                f"features.sample_rate {work.config.features.sample_rate}, the first is "
                f"{packed.low_rate[0]}"
            )


def _pack_split(work: Work, split: str) -> "tuple[PackReport, int]":
    """From `<split>.shards`, a tar file or folder of them a line, or else from a manifest."""
    from asr.corpus import ManifestTable, manifest, shards, streamed
    from asr.corpus import pack as pack_corpus

    folder, features = work.path(f"packed/{split}"), work.config.features
    listed = work.path(f"manifests/{split}.shards")
    stream = split == "train" and work.config.training.stream
    if listed.exists():
        locations, count = shards.list_shards(listed)
        store = streamed.index_shards if stream else streamed.pack_shards
        return store(locations, count, folder, features), count
    if stream:
        raise ConfigError(
            "training.stream: the recipe's training set is no list of shards (manifests/"
            "train.shards); `asr data shard` writes shards"
        )
    utterances = ManifestTable(manifest.find_manifest(work.path("manifests"), split))
    utterances.check()
    return pack_corpus(utterances, folder, features), len(utterances)


def train(work: Work) -> None:
    """Train the model; the dev set chooses the epoch."""
    from asr.corpus import open_packed, streamed
    from asr.training import train as train_model

    packed, settings = work.path("packed/train"), work.config.training
    with ExitStack() as stack:
        if settings.stream:
            listed, window_bytes = work.path("manifests/train.shards"), settings.window_mb * 1e6
            sharded = streamed.open_sharded(packed, listed, work.config.features, int(window_bytes))
            train_set = stack.enter_context(sharded)
        else:
            train_set = open_packed(packed)
        train_model(
            train_set,
            open_packed(work.path("packed/dev")),
            work.config,
            work.folder,
            scratch=work.scratch(),
            device=work.device,
            report=work.report,
            pronunciations=work.path(PRONUNCIATIONS),
        )


def lm(work: Work) -> None:
    """Estimate the language model and lexicon that the configuration asks for, if any."""
    from asr.corpus import manifest
    from asr.decoding import lexicon as lexicons
    from asr.lm import estimate, read_sentences, write_arpa
    from asr.lm import neural as neural_lm
    from asr.text import read_tokens

    settings = work.config.lm
    text = settings.text or manifest.find_manifest(work.path("manifests"), "train")
    with replace_folder(work.path("lm")) as folder:
        if not (settings.order or settings.lexicon or settings.neural.epochs):
            work.report("no language model: lm.order is 0")
        if settings.order:
            estimated = estimate(read_sentences(text, settings.unit), order=settings.order)
            write_arpa(estimated.arpa, folder / "lm.arpa.gz")
            counts = ", ".join(f"{len(ngrams):,}" for ngrams in estimated.arpa.orders)
            work.report(f"{estimated.num_sentences:,} sentences; n-grams by order: {counts}")
        if settings.neural.epochs:
            sentences = read_sentences(text, settings.neural.unit)
            neural = neural_lm.train_neural_lm(sentences, settings.neural, work.report)
            neural_lm.save_neural_lm(neural, folder / "neural_lm")
        if settings.lexicon:
            words = {word for sentence in read_sentences(text, "word") for word in sentence}
            lexicon, unspelled = lexicons.spell_words(
                sorted(words), read_tokens(work.path("model"))
            )
            lexicons.write_lexicon(lexicon, read_tokens(work.path("model")), folder / "lexicon.txt")
            work.report(f"{len(lexicon.words):,} words in the lexicon")
            if unspelled:
                work.report(
                    f"warning: {len(unspelled)} words cannot be spelled with the model's tokens, "
                    f"the first is {unspelled[0]!r}"
                )


def tune(work: Work) -> None:
    """Find the weights of decoding on the dev set, and store them in the model folder."""
    from asr.corpus import manifest, read_manifest
    from asr.transcription import tune as tune_model
    from asr.transcription import tuning as transcription_tuning

    model = work.path("model")
    paths = [work.path(f"lm/{name}") for name in ("lm.arpa.gz", "lexicon.txt", "neural_lm")]
    arpa, lexicon, neural = (path if path.exists() else None for path in paths)
    with replace_folder(work.path("tuning")) as folder:
        if arpa is lexicon is neural is None and work.config.tokens.kind != "phones":
            decoding_options.remove_decoding(model)
            work.report("nothing to tune: decoding is the best path")
            return
        utterances = read_manifest(manifest.find_manifest(work.path("manifests"), "dev"))
        tuning = tune_model(
            model,
            utterances,
            lm=arpa,
            lexicon=lexicon,
            neural_lm=neural,
            device=work.device,
            report=work.report,
        )
        transcription_tuning.write_table(tuning, folder / "trials.tsv")
        work.report(tuning.summary())


def evaluate(work: Work) -> None:
    """Transcribe the test set, score it, and write the report."""
    from asr.corpus import manifest, read_manifest

    utterances = read_manifest(manifest.find_manifest(work.path("manifests"), "test"))
    best_path = DecodingOptions(beam=1)
    with replace_folder(work.path("test")) as folder:
        if decoding_options.has_decoding(work.path("model")):
            summary = _evaluate(work, utterances, DecodingOptions(), folder)
            summary += "\nThe best path, without help:\n"
            summary += _evaluate(work, utterances, best_path, folder / "best_path")
        else:
            summary = _evaluate(work, utterances, best_path, folder)
    with open_atomic(work.path("result.txt")) as file:
        file.write(summary)


def _evaluate(
    work: Work,
    utterances: "Sequence[Utterance]",
    decoding: DecodingOptions,
    folder: Path,
) -> str:
    from asr.transcription import Recognizer, write_evaluation
    from asr.transcription import evaluate as evaluate_model

    recognizer = Recognizer.load(work.path("model"), device=work.device, decoding=decoding)
    name = f"{work.folder.parent.name}/{work.folder.name}"
    evaluation = evaluate_model(recognizer, utterances, name=name, test_set="test")
    if evaluation.failures:
        failed_id, error = evaluation.failures[0]
        raise DataError(
            f"{len(evaluation.failures)} test utterances cannot be read, the first is "
            f"{failed_id}: {error}"
        )
    write_evaluation(evaluation, utterances, recognizer, folder)
    return evaluation.summary()


def model_stages(*sources: str) -> tuple[Stage, ...]:
    """Pack, train, lm, tune, evaluate.

    Args:
        sources: what earlier stages make that holds manifests and audio.
    """
    return (
        Stage(name="pack", run=pack, settings=_PACKED, needs=sources, makes=("packed",)),
        Stage(
            name="train",
            run=train,
            settings=("features", "tokens", "augment", "encoder", "training"),
            needs=("packed", PRONUNCIATIONS),
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
            name="lm",
            run=lm,
            settings=("lm",),
            needs=(*_manifests("train"), *(f"model/{name}" for name in tokens.TOKEN_FILES)),
            makes=("lm",),
        ),
        Stage(
            name="tune",
            run=tune,
            # Not the folder of manifests, which has the test set's.
            needs=("model", "lm", *_manifests("dev")),
            makes=("tuning",),
            may_make=tuple(f"model/{name}" for name in decoding_options.DECODING_FILES),
        ),
        Stage(
            name="evaluate",
            run=evaluate,
            needs=("model", *sources),
            makes=("test", "result.txt"),
        ),
    )


def _manifests(split: str) -> tuple[str, str]:
    """Where `find_manifest` looks for one."""
    return f"manifests/{split}.jsonl", f"manifests/{split}.jsonl.gz"
