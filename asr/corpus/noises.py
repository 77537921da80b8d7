"""Recorded noise, and rooms by their impulse responses: listed, checked, kept apart from tests.

Both are given as audio files, folders of them, or manifests; what a manifest says of texts and
speakers does not matter.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from asr.audio import Samples
from asr.corpus.checks.measures import AudioMeasures, measure_file
from asr.corpus.checks.sound import is_clipped, is_silent
from asr.corpus.manifest import Utterance, is_manifest, read_manifest
from asr.corpus.recordings import find_audio
from asr.errors import AudioError, DataError
from asr.progress import track

Kind = Literal["noise", "room"]

_SHORTEST: dict[Kind, float] = {"noise": 0.5, "room": 0.025}  # seconds
_LONGEST_ROOM = 2.0  # seconds of an impulse response; what follows is left out
_SLACK = 0.01  # seconds; durations are rounded
_PEAK = 0.99


def list_noises(paths: Iterable[Path], kind: Kind) -> list[Utterance]:
    """All of them, measured: none is silent, too short or, where it is noise, clipped.

    Raises:
        DataError: nothing there, an unreadable file, or one of no use (named).
    """
    listed = [noise for path in paths for noise in _listed(path)]
    measured = []
    for number, noise in enumerate(track(listed, total=len(listed), label=kind, unit="files")):
        audio = _measure(noise)
        _check(noise.audio_filepath, audio, kind)
        measured.append(replace(noise, id=f"{kind}-{number}", duration=audio.seconds))
    return measured


def check_apart(noises: Sequence[Utterance], held_out: Iterable[Utterance], where: str) -> None:
    """Refuse noise that has audio of a dev or test set in it: the same stretch, or a copy.

    Args:
        noises: as `list_noises` gives them.
        where: what the other utterances are, for the message.

    Raises:
        DataError: one has.
    """
    by_file: dict[str, list[Utterance]] = {}
    by_length: dict[int, list[Utterance]] = {}
    for utterance in held_out:
        by_file.setdefault(os.path.realpath(utterance.audio_filepath), []).append(utterance)
        by_length.setdefault(round(utterance.duration / _SLACK), []).append(utterance)
    for noise in noises:
        for utterance in by_file.get(os.path.realpath(noise.audio_filepath), []):
            if _overlap(noise, utterance):
                raise DataError(_overlap_message(noise, utterance, where))
        length = round(noise.duration / _SLACK)
        alike = [u for near in (-1, 0, 1) for u in by_length.get(length + near, [])]
        if not alike:
            continue
        digest = _measure(noise).digest
        for utterance in alike:
            if utterance.audio_filepath.exists() and _measure(utterance).digest == digest:
                raise DataError(_overlap_message(noise, utterance, where))


def trim_room(samples: Samples, sample_rate: int) -> Samples:
    """An impulse response from its direct sound on, which is the loudest sample, at full scale."""
    start = int(np.abs(samples).argmax())
    direct = samples[start : start + round(_LONGEST_ROOM * sample_rate)]
    trimmed: Samples = direct * (_PEAK / np.abs(direct).max())
    return trimmed


def _listed(path: Path) -> Iterator[Utterance]:
    if path.is_dir():
        files = find_audio(path)
    elif is_manifest(path):
        yield from read_manifest(path)
        return
    elif path.is_file():
        files = [path]
    else:
        raise DataError(f"{path}: no such file or folder; audio or a manifest is expected")
    for file in files:
        yield Utterance(id=str(file), audio_filepath=file, duration=0.0)


def _measure(utterance: Utterance) -> AudioMeasures:
    try:
        file = measure_file(utterance.audio_filepath, [(utterance.offset, utterance.duration)])
    except AudioError as error:
        raise DataError(str(error)) from error
    return file.stretches[0]


def _check(path: Path, audio: AudioMeasures, kind: Kind) -> None:
    if audio.seconds < _SHORTEST[kind]:
        raise DataError(
            f"{path}: {audio.seconds:.3f} s: too short for a {kind}; "
            f"{_SHORTEST[kind]:g} s are the least"
        )
    if not audio.peak or (kind == "noise" and is_silent(audio)):
        raise DataError(f"{path}: silent, no {kind} is in it; leave it out")
    if kind == "noise" and is_clipped(audio):
        raise DataError(
            f"{path}: clipped, {100 * audio.clipped:.2f} % of the samples are flat tops; "
            "leave it out"
        )


def _overlap(noise: Utterance, utterance: Utterance) -> bool:
    end = utterance.offset + utterance.duration if utterance.duration else np.inf
    return bool(
        noise.offset + _SLACK < end and utterance.offset + _SLACK < noise.offset + noise.duration
    )


def _overlap_message(noise: Utterance, utterance: Utterance, where: str) -> str:
    return (
        f"{noise.audio_filepath}: has the audio of {utterance.id} of {where}, which is scored; "
        "leave it out"
    )
