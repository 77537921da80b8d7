"""The stages that recipes share: from a corpus to a model and a scored test set."""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from asr import corpus, decoding, lm, training, transcription
from asr.config import Settings, parse_settings
from asr.errors import ConfigError, DataError
from asr.files import open_atomic
from asr.folders import replace_folder
from asr.recipe import adaptation, more_speech, ngrams, rooms
from asr.recipe.stage import Stage, Work
from asr.text import tokens

_log = logging.getLogger(__name__)

_PACKED = (
    "features.kind",
    "features.sample_rate",
    "features.frame_length_ms",
    "features.frame_shift_ms",
    "features.num_mel_bins",
    "features.num_ceps",
    "training.stream",
    "training.init.replay",
    "training.more",
    "augment.noise_files",
    "augment.reverb_files",
    "augment.codecs",
)  # the settings that packing reads

_REPLAY = "packed/replay"
_MORE = "packed/more"

PRONUNCIATIONS = "manifests/pronunciations.txt"
"""Where a recipe's preparation may put a dictionary, for models of phones."""

_S = TypeVar("_S", bound=Settings)


def standard_stages(
    corpus_settings: type[_S],
    fetch: Callable[[Path], None],
    write_manifests: Callable[[Path, Path, _S], None],
) -> tuple[Stage, ...]:
    """Download, prepare, pack, train, lm, tune, evaluate.

    Args:
        corpus_settings: class of the configuration's `corpus` section.
        fetch: puts the published corpus into a folder.
        write_manifests: from a folder with the corpus, writes `train.jsonl`, `dev.jsonl` and
            `test.jsonl` into another.
    """

    def download(work: Work) -> None:
        """Download the corpus from where it is published; left out with --corpus."""
        fetch(work.path("download"))

    def prepare(work: Work) -> None:
        """Write the manifests of the training, dev and test sets."""
        settings = parse_settings(work.config.corpus, corpus_settings, "corpus")
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


def _manifest(work: Work, split: str) -> Path:
    return corpus.manifest.find_manifest(work.path("manifests"), split)


def _check_manifests(work: Work) -> None:
    """See that what the configuration names to be learnt from is there."""
    adaptation.check_replay(work)
    more_speech.check_more(work)
    rooms.check_files(work)


def _pack(work: Work) -> None:
    """Decode the audio of the training and dev sets once."""
    adaptation.pack_replay(work, work.path(_REPLAY))
    rooms.pack_rooms(work)
    for split in ("train", "dev"):
        packed, count = _pack_split(work, split)
        work.report(f"{split}: {count} utterances, {packed.seconds / 60:.1f} minutes")
        if packed.low_rate:
            _log.warning(
                "%s: %d utterances have a lower rate than features.sample_rate %d, the first is %s",
                split,
                len(packed.low_rate),
                work.config.features.sample_rate,
                packed.low_rate[0],
            )
    more_speech.pack_more(
        work, work.path(_MORE), work.path("packed/train"), work.path(PRONUNCIATIONS)
    )


def _pack_split(work: Work, split: str) -> "tuple[corpus.PackReport, int]":
    """From `<split>.shards`, a tar file or folder of them a line, or else from a manifest."""
    folder, features = work.path(f"packed/{split}"), work.config.features
    listed = work.path(f"manifests/{split}.shards")
    stream = split == "train" and work.config.training.stream
    change = rooms.codec_change(work) if split == "train" else None
    if listed.exists():
        locations, count = corpus.shards.list_shards(listed)
        if stream:
            return corpus.streamed.index_shards(locations, count, folder, features), count
        return corpus.streamed.pack_shards(locations, count, folder, features, change), count
    if stream:
        raise ConfigError(
            "training.stream: the recipe's training set is no list of shards (manifests/"
            "train.shards); `asr data shard` writes shards"
        )
    utterances = corpus.ManifestTable(_manifest(work, split))
    utterances.check()
    return corpus.pack(utterances, folder, features, change), len(utterances)


def _train(work: Work) -> None:
    """Train the model; the dev set chooses the epoch."""
    packed, settings = work.path("packed/train"), work.config.training
    with ExitStack() as stack:
        if settings.stream:
            listed, window_bytes = work.path("manifests/train.shards"), settings.window_mb * 1e6
            sharded = corpus.streamed.open_sharded(
                packed, listed, work.config.features, int(window_bytes)
            )
            train_set = stack.enter_context(sharded)
        else:
            train_set = corpus.open_packed(packed)
        training.train(
            train_set,
            corpus.open_packed(work.path("packed/dev")),
            work.config,
            work.folder,
            scratch=work.scratch(),
            device=work.device,
            report=work.report,
            pronunciations=work.path(PRONUNCIATIONS),
            replay_set=adaptation.open_replay(work, work.path(_REPLAY)),
            more_sets=more_speech.open_more(work, work.path(_MORE)),
            rooms=rooms.open_rooms(work),
        )


def _estimate_lm(work: Work) -> None:
    """Estimate the language model and lexicon that the configuration asks for, if any."""
    settings = work.config.lm
    text = settings.text or _manifest(work, "train")
    with replace_folder(work.path("lm")) as folder:
        if not (settings.order or settings.lexicon or settings.neural.epochs):
            work.report("no language model: lm.order is 0")
        if settings.order:
            dev = _manifest(work, "dev")
            ngrams.estimate_ngrams(work, text, dev, folder / "lm.arpa.gz")
        if settings.neural.epochs:
            sentences = lm.read_sentences(text, settings.neural.unit)
            neural = lm.neural.train_neural_lm(sentences, settings.neural, work.report)
            lm.neural.save_neural_lm(neural, folder / "neural_lm")
        if settings.lexicon:
            _spell_lexicon(work, text, folder / "lexicon.txt")


def _spell_lexicon(work: Work, text: Path, path: Path) -> None:
    words = {word for sentence in lm.read_sentences(text, "word") for word in sentence}
    table = tokens.read_tokens(work.path("model"))
    lexicon, unspelled = decoding.lexicon.spell_words(sorted(words), table)
    decoding.lexicon.write_lexicon(lexicon, table, path)
    work.report(f"{len(lexicon.words):,} words in the lexicon")
    if unspelled:
        _log.warning(
            "%d words cannot be spelled with the model's tokens, the first is %r",
            len(unspelled),
            unspelled[0],
        )


def _tune(work: Work) -> None:
    """Find weights of decoding and what confidences mean on the dev set; keep them in the model."""
    model = work.path("model")
    paths = [work.path(f"lm/{name}") for name in ("lm.arpa.gz", "lexicon.txt", "neural_lm")]
    arpa, lexicon, neural = (path if path.exists() else None for path in paths)
    utterances = corpus.read_manifest(_manifest(work, "dev"))
    with replace_folder(work.path("tuning")) as folder:
        if arpa is lexicon is neural is None and work.config.tokens.kind != "phones":
            decoding.options.remove_decoding(model)
            work.report("nothing to tune: decoding is the best path")
            fit = transcription.calibration.calibrate(model, utterances, device=work.device)
            work.report(fit.summary)
            return
        tuning = transcription.tune(
            model,
            utterances,
            lm=arpa,
            lexicon=lexicon,
            neural_lm=neural,
            device=work.device,
            report=work.report,
        )
        transcription.tuning.write_table(tuning, folder / "trials.tsv")
        work.report(tuning.summary())


def _evaluate(work: Work) -> None:
    """Transcribe the test set, score it, and write the report."""
    with replace_folder(work.path("test")) as folder:
        utterances = corpus.read_manifest(_manifest(work, "test"))
        summary, best_path = _score_all(work, "test", utterances, folder)
        summary += adaptation.compare_models(work, utterances, best_path, folder)
    with open_atomic(work.path("result.txt")) as file:
        file.write(summary)


def score_set(work: Work, name: str, folder: Path) -> str:
    """Transcribe and score the set of `manifests/<name>.jsonl`; its report goes into `folder`.

    Where decoding was tuned the best path is scored as well, into `folder/best_path`.

    Returns:
        What `result.txt` says of it.

    Raises:
        DataError: audio that cannot be read.
    """
    return _score_all(work, name, corpus.read_manifest(_manifest(work, name)), folder)[0]


def _score_all(
    work: Work, name: str, utterances: "Sequence[corpus.Utterance]", folder: Path
) -> "tuple[str, transcription.evaluation.Evaluation]":
    """What `score_set` returns, and the score of the best path."""
    stored = _score(work, name, utterances, decoding.DecodingOptions(), folder)
    if decoding.options.read_decoding(work.path("model")).is_best_path:
        return stored.summary(), stored
    best_path = decoding.DecodingOptions(beam=1)
    score = _score(work, name, utterances, best_path, folder / "best_path")
    return f"{stored.summary()}\nThe best path, without help:\n{score.summary()}", score


def _score(
    work: Work,
    test_set: str,
    utterances: "Sequence[corpus.Utterance]",
    options: decoding.DecodingOptions,
    folder: Path,
) -> "transcription.evaluation.Evaluation":
    recognizer = transcription.Recognizer.load(
        work.path("model"), device=work.device, decoding=options
    )
    name = f"{work.folder.parent.name}/{work.folder.name}"
    evaluation = transcription.evaluate(recognizer, utterances, name=name, test_set=test_set)
    if evaluation.failures:
        failed_id, error = evaluation.failures[0]
        raise DataError(
            f"{len(evaluation.failures)} utterances of {test_set} cannot be read, the first is "
            f"{failed_id}: {error}"
        )
    transcription.write_evaluation(evaluation, utterances, recognizer, folder)
    return evaluation


def model_stages(*sources: str) -> tuple[Stage, ...]:
    """Pack, train, lm, tune, evaluate.

    Args:
        sources: what earlier stages make that holds manifests and audio.
    """
    return (
        Stage(
            name="pack",
            run=_pack,
            check=_check_manifests,
            settings=_PACKED,
            needs=sources,
            makes=("packed",),
        ),
        Stage(
            name="train",
            run=_train,
            check=adaptation.check_model,
            settings=("features", "tokens", "augment", "encoder", "training"),
            ignores=("training.init.old_test",),
            needs=("packed", PRONUNCIATIONS),
            makes=(
                "model",
                "history.csv",
                "curves.png",
                "infeasible.tsv",
                "training.html",
                "tensorboard",
            ),
            may_make=(adaptation.MODEL_BEFORE, "init.tsv", "learnt.npy"),
            shared=True,
        ),
        Stage(
            name="lm",
            run=_estimate_lm,
            check=ngrams.check_base,
            settings=("lm",),
            needs=(
                *_manifests("train"),
                *_manifests("dev"),
                *(f"model/{name}" for name in tokens.TOKEN_FILES),
            ),
            makes=("lm",),
        ),
        Stage(
            name="tune",
            run=_tune,
            # Not the folder of manifests, which has the test set's.
            needs=("model", "lm", *_manifests("dev")),
            makes=("tuning",),
            may_make=tuple(f"model/{name}" for name in decoding.options.DECODING_FILES),
        ),
        Stage(
            name="evaluate",
            run=_evaluate,
            check=adaptation.check_old_test,
            settings=("training.init.old_test",),
            needs=("model", adaptation.MODEL_BEFORE, *sources),
            makes=("test", "result.txt"),
        ),
    )


def _manifests(split: str) -> tuple[str, str]:
    """Where `find_manifest` looks for one."""
    return f"manifests/{split}.jsonl", f"manifests/{split}.jsonl.gz"
