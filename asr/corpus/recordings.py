"""Audio files as corpora name them: found, measured, cut."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import soundfile

from asr.audio import AudioInfo, inspect_audio, read_audio
from asr.corpus.manifest import Utterance
from asr.errors import AudioError, DataError
from asr.files import open_atomic

AUDIO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("aac", "ac3", "aif", "aiff", "amr", "ape", "au", "caf", "dsf", "flac", "m4a", "mka"),
        *("mkv", "mov", "mp2", "mp3", "mp4", "mpc", "oga", "ogg", "opus", "sph", "spx", "tak"),
        *("tta", "voc", "w64", "wav", "weba", "webm", "wma", "wv"),
    )
)

_SLACK = 0.01  # seconds; formats round durations
_MAX_NAME = 200  # bytes of a file's name


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """An utterance beside its file."""

    utterance: Utterance
    """With a duration, also where it was to the end of the file."""
    recording: AudioInfo
    is_whole: bool
    """Whether the utterance is all of the file."""


def audio_seconds(path: Path, where: str) -> float:
    """How long a file is, in seconds; `where` names the line that names the file.

    Raises:
        DataError: missing or not audio.
    """
    return _inspect(path, where).duration


def is_there(path: Path) -> bool:
    """Whether a path that a file names exists; a name that cannot be one does not."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a zero byte
        return False


def find_audio(folder: Path) -> list[Path]:
    """The audio files in a folder and its folders, sorted, without hidden ones.

    Raises:
        DataError: there are none.
    """
    paths = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not paths:
        raise DataError(f"{folder}: no audio files in it")
    return sorted(paths)


def audio_beside(path: Path, where: str) -> Path:
    """The audio file with the name of `path` but for its suffix.

    Raises:
        DataError: none or several.
    """
    files = [
        other
        for other in sorted(path.parent.iterdir())
        if other.suffix.lower() in AUDIO_SUFFIXES and other.stem == path.stem
    ]
    if len(files) != 1:
        names = ", ".join(other.name for other in files)
        raise DataError(
            f"{where}: {names} lie beside it, which is meant?"
            if files
            else f"{where}: no audio file {path.stem}.wav, .flac or the like beside it"
        )
    return files[0]


def check_channel(channel: int, path: Path, recording: AudioInfo, where: str) -> None:
    """Refuse one channel of several: an utterance is of all channels, averaged.

    Raises:
        DataError: the recording has more than one channel.
    """
    if recording.num_channels > 1:
        raise DataError(
            f"{where}: channel {channel} of {path}, which has {recording.num_channels}: channels "
            "are averaged here; split them into files of their own first"
        )


def measure(utterances: Iterable[Utterance]) -> Iterator[Stretch]:
    """Each utterance with what its file's header says.

    Raises:
        DataError: a file that cannot be read, or that ends before the utterance does.
    """
    path, recording = None, None
    for utterance in utterances:
        where = f"utterance {utterance.id}"
        if recording is None or utterance.audio_filepath != path:
            path = utterance.audio_filepath
            recording = _inspect(path, where)
        left = recording.duration - utterance.offset
        if left <= 0 or utterance.duration > left + _SLACK:
            end = utterance.offset + utterance.duration
            raise DataError(
                f"{where}: {path} is {recording.duration:g} s long, the utterance ends at {end:g} s"
            )
        yield Stretch(
            utterance=utterance if utterance.duration else replace(utterance, duration=left),
            recording=recording,
            is_whole=not utterance.offset and utterance.duration >= left - _SLACK
            if utterance.duration
            else not utterance.offset,
        )


def cut(stretch: Stretch, stem: Path) -> Utterance:
    """The utterance as a WAV file of its own, at the rate of its recording; channels are averaged.

    Args:
        stem: where the file goes, without suffix.

    Raises:
        AudioError: the recording cannot be decoded.
    """
    utterance, rate = stretch.utterance, stretch.recording.sample_rate
    audio = read_audio(
        utterance.audio_filepath,
        sample_rate=rate,
        offset=utterance.offset,
        duration=utterance.duration,
    )
    path = stem.with_name(f"{stem.name}.wav")
    with open_atomic(path, "wb") as file:
        soundfile.write(file, audio.samples, rate, format="WAV", subtype="PCM_16")
    seconds = len(audio.samples) / rate
    return replace(utterance, audio_filepath=path, offset=0.0, duration=seconds)


def file_stem(utterance_id: str) -> Path:
    """An id as a relative path; different ids have different ones, and most stay as they are.

    Raises:
        DataError: too long for a name.
    """
    path = PurePosixPath(utterance_id)
    is_plain = (
        str(path) == utterance_id != "."
        and utterance_id.isprintable()
        and not path.is_absolute()
        and not any(part.startswith(".") for part in path.parts)
        and not set(utterance_id) & set("%\\:")
    )
    name = utterance_id if is_plain else quote(utterance_id, safe="").replace(".", "%2E") or "%"
    if any(len(part.encode()) > _MAX_NAME for part in name.split("/")):
        raise DataError(f"utterance {utterance_id[:60]!r}...: the id is too long for a file's name")
    return Path(name)


def _inspect(path: Path, where: str) -> AudioInfo:
    try:
        return inspect_audio(path)
    except AudioError as error:
        raise DataError(f"{where}: {error}") from error
