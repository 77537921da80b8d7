"""What a recipe does besides when its model starts from another one (`training.init`)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from asr import corpus, decoding, training, transcription
from asr.corpus import Utterance
from asr.errors import DataError
from asr.model import read_model
from asr.recipe.held_out import Places, held_out_sets
from asr.recipe.stage import Work
from asr.scoring import total

MODEL_BEFORE = "init"
"""In the work folder: the model that training started from."""


def check_replay(work: Work) -> None:
    """See that the manifest of the old domain, if any, is there."""
    _check_file(work, "replay")


def check_model(work: Work) -> None:
    """See that the model to start from, if any, is one that can be started from."""
    if work.config.training.init.model is not None:
        training.source.check_source(work.config, work.folder)


def check_old_test(work: Work) -> None:
    """See that the old test set, if any, can be read."""
    if (path := _check_file(work, "old_test")) is not None:
        corpus.read_manifest(path)


def pack_replay(work: Work, folder: Path) -> None:
    """Decode the audio of the old domain; without one, remove what is left of another.

    Raises:
        DataError: an utterance of it is in a dev or test set, by id or by audio.
    """
    path = _check_file(work, "replay")
    if path is None:
        corpus.packed.remove_packed(folder)
        return
    utterances = corpus.ManifestTable(path)
    utterances.check()
    for held_out in held_out_sets(work):
        _check_apart(path, utterances, held_out)
    packed = corpus.pack(utterances, folder, work.config.features)
    work.report(f"replay: {len(utterances)} utterances, {packed.seconds / 60:.1f} minutes")


def open_replay(work: Work, folder: Path) -> "corpus.PackedCorpus | None":
    """What `pack_replay` packed."""
    return None if _setting(work, "replay") is None else corpus.open_packed(folder)


def compare_models(
    work: Work,
    utterances: Sequence[Utterance],
    after: "transcription.evaluation.Evaluation",
    folder: Path,
) -> str:
    """What fine-tuning has changed, on the test set and on the old one: lines of `result.txt`.

    By the best path, since language models may be others than those of the model before. Reports
    go into folders of `folder`. Empty where training started from nothing.

    Args:
        after: of the new model on the utterances.
    """
    source = work.path(MODEL_BEFORE)
    if work.config.training.init.model is None or not source.is_dir():
        return ""
    before = _rate(work, source, utterances, "test", folder / "before")
    lines = [f"test: {before} before, {_percent(after)} after", *_learnt_before(source, after)]
    old_test = _setting(work, "old_test")
    if old_test is not None:
        old = corpus.read_manifest(old_test)
        before = _rate(work, source, old, old_test.name, folder / "old_before")
        now = _rate(work, work.path("model"), old, old_test.name, folder / "old_after")
        lines.append(f"{old_test.name}: {before} before, {now} after")
    name = work.config.training.init.model
    return "\n".join(["", f"WER of the best path; the model before is {name}:", *lines, ""])


def _rate(
    work: Work, model: Path, utterances: Sequence[Utterance], test_set: str, folder: Path
) -> str:
    """A model's word error rate, or why there is none."""
    unknown = read_model(model).tokens.count_unknown(u.text or "" for u in utterances)
    if unknown:
        named = ", ".join(repr(each) for each, _ in unknown.most_common(5))
        more = ", ..." if len(unknown) > 5 else ""
        return f"none ({named}{more} cannot be written)"
    recognizer = transcription.Recognizer.load(
        model, device=work.device, decoding=decoding.DecodingOptions(beam=1)
    )
    evaluation = transcription.evaluate(recognizer, utterances, name=model.name, test_set=test_set)
    if evaluation.failures:
        failed_id, error = evaluation.failures[0]
        raise DataError(f"{test_set}: {failed_id} cannot be read: {error}")
    transcription.write_evaluation(evaluation, utterances, recognizer, folder)
    return _percent(evaluation)


def _learnt_before(source: Path, after: "transcription.evaluation.Evaluation") -> Iterator[str]:
    """What to know of a test set if the model before has learnt some of it."""
    scored = after.report.score.utterances
    digests = training.source.id_digests(utterance.id for utterance in scored)
    learnt = np.isin(digests, training.source.read_learnt(source))
    if not learnt.any():
        return
    counts = [
        u.words for u, is_learnt in zip(scored, learnt.tolist(), strict=True) if not is_learnt
    ]
    rate = total(counts).rate if counts else None
    rest = "" if rate is None else f"; without them {rate:.2f} % after"
    yield (
        f"warning: the model before has learnt {learnt.sum()} of the {len(scored)} utterances of "
        f"the test set, by their ids: these rates are too good{rest}"
    )


def _percent(evaluation: "transcription.evaluation.Evaluation") -> str:
    rate = evaluation.report.score.words.rate
    return "no words" if rate is None else f"{rate:.2f} %"


def _setting(work: Work, key: str) -> Path | None:
    """A file that `training.init` names; none where training starts from nothing."""
    init = work.config.training.init
    path: Path | None = getattr(init, key)
    return path if init.model is not None else None


def _check_file(work: Work, key: str) -> Path | None:
    path = _setting(work, key)
    if path is not None and not path.is_file():
        raise DataError(f"training.init.{key}: {path}: no such file; a manifest is expected")
    return path


def _check_apart(path: Path, utterances: Sequence[Utterance], held_out: Path) -> None:
    others = Places(corpus.read_manifest(held_out))
    for utterance in utterances:
        if shared := others.find(utterance):
            same, twin = shared
            raise DataError(
                f"training.init.replay: {path}: {utterance.id} has the {same} of {twin} in "
                f"{held_out}, which is not to be learnt from; leave it out"
            )
