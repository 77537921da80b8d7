"""Recorded noise and rooms that a recipe's training set is heard in (`augment.*_files`), packed."""

import functools

from asr import corpus, training
from asr.audio import Samples
from asr.config import Codec
from asr.corpus import Utterance, noises
from asr.errors import DataError
from asr.recipe.held_out import held_out_sets
from asr.recipe.stage import Work

_NOISE, _ROOMS = "packed/noise", "packed/rooms"


def check_files(work: Work) -> None:
    """See that what the settings name is there."""
    augment = work.config.augment
    for key in ("noise_files", "reverb_files"):
        for path in getattr(augment, key):
            if not path.exists():
                raise DataError(f"augment.{key}: {path}: no such file or folder")


def pack_rooms(work: Work) -> None:
    """Decode recorded noise and impulse responses; without any, remove what is left of others.

    Raises:
        DataError: one is unreadable or of no use, or has audio of a dev or test set in it.
    """
    augment, features = work.config.augment, work.config.features
    rate = features.sample_rate
    for name, paths, kind, change in (
        (_NOISE, augment.noise_files, "noise", None),
        (_ROOMS, augment.reverb_files, "room", _trimmed(rate)),
    ):
        folder = work.path(name)
        if not paths:
            corpus.packed.remove_packed(folder)
            continue
        listed = noises.list_noises(paths, "noise" if kind == "noise" else "room")
        if kind == "noise":
            for manifest in held_out_sets(work):
                noises.check_apart(listed, corpus.read_manifest(manifest), str(manifest))
        packed = corpus.pack(listed, folder, features, change)
        work.report(f"{kind}: {len(listed)} recordings, {packed.seconds / 60:.1f} minutes")


def open_rooms(work: Work) -> "training.Rooms":
    """What `pack_rooms` packed."""
    augment = work.config.augment
    return training.Rooms(
        noise=corpus.open_packed(work.path(_NOISE)) if augment.noise_files else None,
        responses=corpus.open_packed(work.path(_ROOMS)) if augment.reverb_files else None,
    )


def codec_change(work: Work) -> corpus.packed.Change | None:
    """What the configuration's codecs do to an utterance; None where there are none."""
    codecs = work.config.augment.codecs
    if not codecs:
        return None
    return functools.partial(_degraded, work.config.features.sample_rate, codecs)


def _degraded(
    rate: int, codecs: tuple[Codec, ...], samples: Samples, utterance: Utterance
) -> Samples:
    return corpus.codecs.degrade(samples, rate, codecs, utterance.id)


def _trimmed(rate: int) -> corpus.packed.Change:
    return lambda samples, _: noises.trim_room(samples, rate)
