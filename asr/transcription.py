"""Files in, transcripts out: which files are meant, and what is written for each."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from asr.errors import AudioError, DataError
from asr.manifest import Utterance, read_manifest
from asr.stored_features import read_feats_scp

AUDIO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("aac", "aif", "aiff", "amr", "au", "caf", "flac", "m4a", "mka", "mkv", "mov", "mp3"),
        *("mp4", "oga", "ogg", "opus", "sph", "voc", "w64", "wav", "weba", "webm", "wma"),
    )
)


def find_inputs(
    names: Sequence[str], *, recursive: bool
) -> tuple[list[Utterance], list[tuple[str, DataError]]]:
    """The utterances that the arguments of a command mean, and the arguments that mean nothing.

    An argument is a file, a folder (its audio files, sorted), a pattern, a `.jsonl` manifest or a
    Kaldi `feats.scp`.
    The id of an utterance from a file is its path.
    """
    found: list[Utterance] = []
    failed: list[tuple[str, DataError]] = []
    for name in names:
        try:
            found += _expand(name, recursive)
        except DataError as error:
            failed.append((name, error))
    return list({utterance.id: utterance for utterance in found}.values()), failed


def _expand(name: str, recursive: bool) -> list[Utterance]:
    path = Path(name)
    if path.is_dir():
        files = sorted(
            file
            for file in path.glob("**/*" if recursive else "*")
            if file.suffix.lower() in AUDIO_SUFFIXES and file.is_file()
        )
        if not files:
            deeper = "" if recursive else "; --recursive looks into its folders"
            raise AudioError(f"{name}: no audio files in this folder{deeper}")
        return [_whole(file) for file in files]
    if path.suffix == ".jsonl" and path.is_file():
        return read_manifest(path)
    if path.suffix == ".scp" and path.is_file():
        entries = read_feats_scp(path)
        return [Utterance(id=i, audio_filepath=e, duration=0.0) for i, e in entries.items()]
    if not path.exists() and glob.has_magic(name):
        files = sorted(Path(match) for match in glob.glob(name, recursive=recursive))  # noqa: PTH207
        if not files:
            raise AudioError(f"{name}: the pattern matches no file")
        return [_whole(file) for file in files]
    return [_whole(path)]


def _whole(path: Path) -> Utterance:
    return Utterance(id=str(path), audio_filepath=path, duration=0.0)


def output_stems(utterances: Sequence[Utterance]) -> dict[str, Path]:
    """Where below the output folder each utterance's files go, without suffix; none collide.

    Paths lose the folders that all of them share. Two that differ in their suffix only keep it.
    """
    # abspath, so that no `..` in an id leads out of the output folder.
    paths = [Path(os.path.abspath(utterance.id)) for utterance in utterances]  # noqa: PTH100
    root = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    relative = [path.relative_to(root) for path in paths]
    stems = Counter(_without_suffix(path) for path in relative)
    return {
        utterance.id: path if stems[_without_suffix(path)] > 1 else _without_suffix(path)
        for utterance, path in zip(utterances, relative, strict=True)
    }


def _without_suffix(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in AUDIO_SUFFIXES else path


def failure_lines(failures: Iterable[tuple[str, Exception]]) -> Iterator[str]:
    """Lines of `failures.tsv`: the input and what went wrong."""
    yield "input\terror\n"
    for name, error in failures:
        yield f"{_one_line(name)}\t{_one_line(str(error))}\n"


def _one_line(text: str) -> str:
    return text.replace("\t", " ").replace("\r", " ").replace("\n", " ")
