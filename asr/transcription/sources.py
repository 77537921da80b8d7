"""What arguments mean (files, folders, patterns, manifests, lists, stdin), and how it is opened."""

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from asr.audio import AudioStream, RawFormat, Samples, open_audio, pipes, stream_samples
from asr.audio import files as audio_files
from asr.corpus import Utterance, is_feature_path, is_manifest, read_manifest, recordings
from asr.errors import AudioError, DataError, printable
from asr.files import read_file, walk_once

STDIN = "-"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """An utterance, and how its audio is got."""

    utterance: Utterance
    channel: int | None = None
    """Counted from 1; none is the mean of all."""
    command: str | None = None
    """Whose output is the audio, in place of the file."""
    raw: RawFormat | None = None
    """What the audio is, if it has no headers."""
    spool: Path | None = None
    """The file that holds what came from stdin."""
    samples: Samples | None = field(default=None, compare=False, repr=False)
    """[sample] or [sample, channel] in [-1, 1], in place of the file."""
    sample_rate: int = 0
    """Hz, of `samples`."""

    @classmethod
    def of_file(cls, path: Path | str) -> "Source":
        """The whole of a file."""
        return cls(utterance=Utterance(id=str(path), audio_filepath=Path(path), duration=0.0))

    @classmethod
    def of_samples(cls, samples: ArrayLike, sample_rate: int) -> "Source":
        """What is in memory, [sample] or [sample, channel] in [-1, 1]."""
        utterance = Utterance(id="samples", audio_filepath=Path("samples"), duration=0.0)
        values = np.asarray(samples, np.float32)
        return cls(utterance=utterance, samples=values, sample_rate=sample_rate)

    @property
    def id(self) -> str:
        """Of the utterance."""
        return self.utterance.id

    @property
    def has_features(self) -> bool:
        """Whether it is stored features, which are read and not opened."""
        return is_feature_path(self.utterance.audio_filepath)

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

    @property
    def place(self) -> str:
        """Where the audio comes from: a path or a command."""
        return self.command or str(self.utterance.audio_filepath)

    @contextmanager
    def open(self, sample_rate: int) -> Iterator[AudioStream]:
        """The audio, in blocks at a rate in Hz.

        Raises:
            AudioError: it cannot be had, or is none.
        """
        if self.samples is not None:
            yield stream_samples(self.samples, self.sample_rate, sample_rate)
            return
        utterance = self.utterance
        with self.file() as path:
            try:
                with open_audio(
                    path,
                    sample_rate=sample_rate,
                    offset=utterance.offset,
                    duration=utterance.duration or None,
                    channel=self.channel,
                    raw=self.raw,
                ) as stream:
                    if path != utterance.audio_filepath:
                        stream.name = utterance.id
                    yield stream
            except AudioError as error:
                raise AudioError(str(error).replace(str(path), self.place)) from error

    def file(self) -> AbstractContextManager[Path]:
        """A file that holds the audio; a command's output is there as long as the context."""
        if self.command is not None:
            return pipes.command_output(self.command)
        if self.spool is not None and self.is_stdin:
            return nullcontext(self.spool)
        return nullcontext(self.utterance.audio_filepath)


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


Failure = tuple[str, Exception]
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
    sources: dict[str, Source] = {}
    failures: list[Failure] = []
    for name in names:
        try:
            for whole in _expand(name, options, failures):
                for source in _channels(whole, options):
                    first = sources.setdefault(source.id, source)
                    if first.origin != source.origin:
                        failures.append((source.id, _two_of_one_id(first, source)))
        except DataError as error:
            failures.append((name, error))
    return list(sources.values()), failures


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
    return printable(source.place) + ("" if whole else f" ({utterance.offset:g} s to {end})")


def _channels(whole: Source, options: SourceOptions) -> Iterator[Source]:
    source = replace(whole, raw=options.raw, spool=options.stdin)
    if options.channel != "each" or source.has_features:
        channel = options.channel if isinstance(options.channel, int) else None
        yield replace(source, channel=channel)
        return
    try:
        with source.file() as path:
            count = audio_files.count_channels(path, options.raw)
    except AudioError:
        count = 1  # what is wrong with it is said when it is read
    for channel in range(1, count + 1):
        utterance = source.utterance
        if count > 1:
            utterance = replace(utterance, id=f"{utterance.id}-ch{channel}")
        yield replace(source, utterance=utterance, channel=channel)


def _expand(name: str, options: SourceOptions, failures: list[Failure]) -> Iterator[Source]:
    path = Path(name)
    if name == STDIN:
        yield Source(utterance=Utterance(id="stdin", audio_filepath=path, duration=0.0))
    elif path.is_dir():
        for file in _files_below(path, options.recursive):
            yield Source.of_file(file)
    elif is_manifest(path) and path.is_file():
        for utterance in read_manifest(path):
            yield Source(utterance=utterance)
    elif path.suffix == ".scp" and path.is_file():
        yield from _read_scp(path, options, failures)
    elif glob.has_magic(name) and not path.exists():
        files = _matches(path, options.recursive)
        if not files:
            raise AudioError(f"{name}: the pattern matches no file")
        for file in sorted(files):
            yield Source.of_file(file)
    else:
        yield Source.of_file(path)


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


def _read_scp(path: Path, options: SourceOptions, failures: list[Failure]) -> Iterator[Source]:
    """Kaldi's lists: `id path`, `id archive.ark:offset` or `id command |`.

    Relative paths are relative to the working directory, as Kaldi has it.
    """
    try:
        lines = read_file(path).decode().splitlines()
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
            failures.append((utterance_id, DataError(f"{path}:{number}: {error}")))
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
