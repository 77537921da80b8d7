"""A model's error rates on a manifest to which recorded noise is added, level by level."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from asr.audio import Samples, read_audio
from asr.corpus import Utterance, is_feature_path, noises
from asr.errors import AsrError, DataError
from asr.files import open_atomic
from asr.progress import track
from asr.scoring import report as reports
from asr.transcription.evaluation import evaluate
from asr.transcription.recognizer import Recognizer


def evaluate_in_noise(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    noise: Path,
    levels_db: Sequence[float],
    *,
    name: str,
    test_set: str,
) -> list[reports.Condition]:
    """Transcribe and score at each signal-to-noise ratio.

    Which noise an utterance gets, and from where on, is drawn by its id: it is the same at each
    level and for each model. Ratios are of the mean powers over the whole utterance.

    Args:
        noise: an audio file, a folder of them, or a manifest.
        levels_db: the ratios.
        name: as `evaluate` has it.
        test_set: likewise.

    Raises:
        DataError: noise of no use, or with the utterances' audio in it; stored features; an
            utterance that cannot be read.
    """
    features = [u.id for u in utterances if is_feature_path(u.audio_filepath)]
    if features:
        raise DataError(f"{features[0]}: features are stored, and noise is added to audio alone")
    listed = noises.list_noises([noise], "noise")
    noises.check_apart(listed, utterances, test_set)
    rate = recognizer.config.features.sample_rate
    conditions = []
    for level in levels_db:
        with _in_noise(utterances, listed, level, rate) as noisy:
            evaluation = evaluate(recognizer, noisy, name=name, test_set=test_set)
        label = f"{noise.name} at {level:g} dB"
        conditions.append(reports.Condition(name=label, score=evaluation.report.score))
    return conditions


@contextmanager
def _in_noise(
    utterances: Sequence[Utterance], listed: Sequence[Utterance], level: float, rate: int
) -> Iterator[list[Utterance]]:
    """The utterances with noise, in files that are there for a while."""
    with tempfile.TemporaryDirectory(prefix="asr-noise-") as folder:
        noisy = []
        tracked = track(utterances, total=len(utterances), label="adding noise", unit="utterances")
        for number, utterance in enumerate(tracked):
            path = Path(folder) / f"{number}.wav"
            samples = add_recorded_noise(utterance, listed, level, rate)
            with open_atomic(path, "wb") as file:
                soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
            noisy.append(replace(utterance, audio_filepath=path, offset=0.0, duration=0.0))
        yield noisy


def add_recorded_noise(
    utterance: Utterance, listed: Sequence[Utterance], level_db: float, sample_rate: int
) -> Samples:
    """An utterance's samples with one of the noises, again and again where it ends.

    Both are turned down where their sum would clip.

    Raises:
        DataError: it or the noise cannot be read.
    """
    digest = hashlib.blake2b(utterance.id.encode(), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "little"))
    chosen = listed[int(rng.integers(len(listed)))]
    try:
        speech, noise = (_read(each, sample_rate) for each in (utterance, chosen))
    except AsrError as error:
        raise DataError(f"{utterance.id}: {error}") from error
    start = int(rng.integers(len(noise)))
    noise = np.take(noise, np.arange(start, start + len(speech)), mode="wrap")
    power = np.mean(np.square(noise, dtype=np.float64))
    if not power:
        raise DataError(
            f"{chosen.audio_filepath}: nothing but zeros from {start / sample_rate:.2f} s on, for "
            f"as long as {utterance.id}; leave it out"
        )
    ratio = np.mean(np.square(speech, dtype=np.float64)) / power / 10 ** (level_db / 10)
    noisy = speech + noise * np.float32(np.sqrt(ratio))
    loudest = float(np.abs(noisy).max())
    turned_down: Samples = noisy * np.float32(min(1.0, 0.99 / loudest if loudest else 1.0))
    return turned_down


def _read(utterance: Utterance, sample_rate: int) -> Samples:
    return read_audio(
        utterance.audio_filepath,
        sample_rate=sample_rate,
        offset=utterance.offset,
        duration=utterance.duration or None,
    ).samples
