"""What a command's arguments mean: files, folders, patterns, manifests, lists, stdin."""

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from asr.audio import AudioStream, RawFormat, open_audio, pipes
from asr.audio import files as audio_files
from asr.corpus import Utterance, is_feature_path, is_manifest, read_manifest, recordings
from asr.errors import AudioError, DataError, printable
from asr.files import walk_once
from asr.transcription.reading import OpenAudio

STDIN = "-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """An utterance, and how its audio is got."""

    utterance: Utterance
    channel: int | None = None
    """Counted from 1; none is the mean of all."""
    command: str | None = None
    """Whose output is the audio, in place of the file."""

    @property
    def origin(self) -> dict[str, Any]:
        """What audio it is, as JSON values; `audio` is none where it came from stdin."""
        path = os.path.abspath(self.utterance.audio_filepath)  # noqa: PTH100
        return {
            "audio": None if self.is_stdin else self.command or path,
            "offset": self.utterance.offset,
            "duration": self.utterance.duration,
            "channel": self.channel,
        }

    @property
    def is_stdin(self) -> bool:
        """Whether the audio came from stdin, of which nobody knows what it was."""
        return self.command is None and str(self.utterance.audio_filepath) == STDIN


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceOptions:
    """How arguments are understood."""

    recursive: bool = False
    """Folders of folders are looked into."""
    channel: int | Literal["mix", "each"] = "mix"
    raw: RawFormat | None = None
    """What files and stdin are, if they have no headers."""
    allow_commands: bool = False
    """Commands of a `wav.scp` are run."""
    stdin: Path | None = None
    """The file that holds what came from stdin."""


Failure = tuple[str, DataError]
"""An argument or id, and what is wrong with it."""


def find_sources(
    names: Sequence[str], options: SourceOptions
) -> tuple[list[Source], list[Failure]]:
    """The sources that arguments mean, and the arguments and lines that mean nothing.

    An argument is a file, a folder (its audio files, sorted), a pattern, a manifest (by its name),
    a Kaldi `wav.scp` or `feats.scp`, or `-`. The id of an utterance from a file is its path. With
    `each` channel a source of its own, ids end with `-ch1`, `-ch2`... The same audio given twice is
    one source; of an id that stands for different audio the first is one, the others have failed.
    """
    found: dict[str, Source] = {}
    failed: list[Failure] = []
    for name in names:
        try:
            for source in _expand(name, options, failed):
                for own in _channels(source, options):
                    first = found.setdefault(own.utterance.id, own)
                    if first.origin != own.origin:
                        failed.append((own.utterance.id, _two_of_one_id(first, own)))
        except DataError as error:
            failed.append((name, error))
    return list(found.values()), failed


def _two_of_one_id(first: Source, other: Source) -> DataError:
    utterance = other.utterance
    return DataError(
        f"id {printable(utterance.id)}: {_stretch(other)} has the id of {_stretch(first)}; give "
        "each utterance an id of its own, or transcribe the manifests one by one"
    )


def _stretch(source: Source) -> str:
    utterance = source.utterance
    end = f"{utterance.offset + utterance.duration:g} s" if utterance.duration else "the end"
    whole = not (utterance.offset or utterance.duration)
    return printable(_name(source)) + ("" if whole else f" ({utterance.offset:g} s to {end})")


def source_opener(sources: Sequence[Source], sample_rate: int, options: SourceOptions) -> OpenAudio:
    """Opens the audio of the utterances of `sources`."""
    by_id: Mapping[str, Source] = {source.utterance.id: source for source in sources}

    def opener(utterance: Utterance) -> AbstractContextManager[AudioStream]:
        return _open(by_id[utterance.id], sample_rate, options)

    return opener


@contextmanager
def _open(source: Source, sample_rate: int, options: SourceOptions) -> Iterator[AudioStream]:
    utterance = source.utterance
    with _file_of(source, options) as path:
        try:
            with open_audio(
                path,
                sample_rate=sample_rate,
                offset=utterance.offset,
                duration=utterance.duration or None,
                channel=source.channel,
                raw=options.raw,
            ) as stream:
                if path != utterance.audio_filepath:
                    stream.name = utterance.id
                yield stream
        except AudioError as error:
            raise AudioError(str(error).replace(str(path), _name(source))) from error


def _file_of(source: Source, options: SourceOptions) -> AbstractContextManager[Path]:
    if source.command is not None:
        return pipes.command_output(source.command)
    if options.stdin is not None and source.is_stdin:
        return nullcontext(options.stdin)
    return nullcontext(source.utterance.audio_filepath)


def _name(source: Source) -> str:
    return source.command or str(source.utterance.audio_filepath)


def _channels(source: Source, options: SourceOptions) -> Iterator[Source]:
    if options.channel != "each" or is_feature_path(source.utterance.audio_filepath):
        channel = options.channel if isinstance(options.channel, int) else None
        yield replace(source, channel=channel)
        return
    try:
        with _file_of(source, options) as path:
            count = audio_files.count_channels(path, options.raw)
    except AudioError:
        count = 1  # what is wrong with it is said when it is read
    for channel in range(1, count + 1):
        utterance = source.utterance
        if count > 1:
            utterance = replace(utterance, id=f"{utterance.id}-ch{channel}")
        yield replace(source, utterance=utterance, channel=channel)


def _expand(name: str, options: SourceOptions, failed: list[Failure]) -> Iterator[Source]:
    path = Path(name)
    if name == STDIN:
        yield Source(utterance=Utterance(id="stdin", audio_filepath=path, duration=0.0))
    elif path.is_dir():
        for file in _files_below(path, options.recursive):
            yield _whole(file)
    elif is_manifest(path) and path.is_file():
        for utterance in read_manifest(path):
            yield Source(utterance=utterance)
    elif path.suffix == ".scp" and path.is_file():
        yield from _read_scp(path, options, failed)
    elif glob.has_magic(name) and not path.exists():
        files = _matches(path, options.recursive)
        if not files:
            raise AudioError(f"{name}: the pattern matches no file")
        for file in sorted(files):
            yield _whole(file)
    else:
        yield _whole(path)


def _matches(pattern: Path, recursive: bool) -> set[Path]:
    """What a pattern matches; where it is recursive, `**` is a folder and all those in it."""
    parts = pattern.parts
    if not recursive or "**" not in parts:
        return {Path(file) for file in glob.glob(str(pattern))}  # noqa: PTH207
    place = parts.index("**")
    starts = _matches(Path(*parts[:place]), recursive) if place else {Path()}
    tail = parts[place + 1 :] or ("*",)
    return {
        match
        for start in starts
        for folder, _ in walk_once(start)  # `glob` follows links for ever
        for match in _matches(Path(glob.escape(str(folder)), *tail), recursive)
    }


def _whole(path: Path) -> Source:
    return Source(utterance=Utterance(id=str(path), audio_filepath=path, duration=0.0))


def _files_below(folder: Path, recursive: bool) -> list[Path]:
    """Its audio files by suffix, sorted; links that lead nowhere too, so that they are reported."""
    files = sorted(
        file
        for file in folder.glob("**/*" if recursive else "*")
        if file.suffix.lower() in recordings.AUDIO_SUFFIXES and (not file.is_dir() or not recursive)
    )
    if not files:
        deeper = "" if recursive else "; --recursive looks into its folders"
        raise AudioError(f"{folder}: no audio files in this folder{deeper}")
    return files


def _read_scp(path: Path, options: SourceOptions, failed: list[Failure]) -> Iterator[Source]:
    """Kaldi's lists: `id path`, `id archive.ark:offset` or `id command |`.

    Relative paths are relative to the working directory, as Kaldi has it.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text") from error
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        utterance_id, *rest = line.split(maxsplit=1)
        entry = rest[0].strip() if rest else ""
        if not entry:
            raise DataError(f"{path}:{number}: ID PATH is expected, found {line!r}")
        if utterance_id in seen:
            raise DataError(f"{path}:{number}: id {utterance_id!r} occurs twice")
        seen.add(utterance_id)
        try:
            command = _command(entry, options)
        except DataError as error:
            failed.append((utterance_id, DataError(f"{path}:{number}: {error}")))
            continue
        file = Path(utterance_id if command else entry)
        utterance = Utterance(id=utterance_id, audio_filepath=file, duration=0.0)
        yield Source(utterance=utterance, command=command)


def _command(entry: str, options: SourceOptions) -> str | None:
    if not entry.endswith("|"):
        return None
    if not options.allow_commands:
        raise DataError(
            "a command, which is not run because it could do anything; --allow-commands runs it"
        )
    pipes.split_command(entry)
    return entry
