"""Folders of audio: transcripts beside it, LibriSpeech's and Hugging Face's layouts."""

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from asr.corpus.formats.nemo import report_unknown
from asr.corpus.formats.tables import read_table
from asr.corpus.manifest import Utterance, id_of_path, read_rows, text_value, write_row
from asr.corpus.recordings import AUDIO_SUFFIXES, audio_seconds, cut, file_stem, find_audio, measure
from asr.errors import DataError
from asr.files import open_atomic, open_regular
from asr.folders import claim_names, claiming
from asr.progress import Report
from asr.text import UniqueIds, read_lines

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_TEXTS = ("transcription", "transcript", "sentence", "text")
_SPEAKERS = ("speaker_id", "speaker")


def read_text_folder(folder: Path, report: Report) -> Iterator[Utterance]:
    """Audio files, also in folders of the folder, each with its transcript in a `.txt` beside it.

    The id is the path below the folder, without suffix.

    Raises:
        DataError: no audio, audio or text that cannot be read, or two audio files of one name.
    """
    paths = find_audio(folder)
    ids = UniqueIds(folder)
    without = 0
    first = ""
    for number, path in enumerate(paths, start=1):
        name = id_of_path(str(path.relative_to(folder)))
        ids.add(name, number)
        text_path = path.with_suffix(".txt")
        text = read_text(text_path) if text_path.exists() else None
        if text is None:
            without += 1
            first = first or str(path)
        yield Utterance(id=name, audio_filepath=path, duration=audio_seconds(path, name), text=text)
    if without:
        report(f"{without} of {len(paths)} audio files have no .txt beside them: {first} first")
    stems = {path.with_suffix("") for path in paths}
    orphans = [p for p in sorted(folder.rglob("*.txt")) if p.with_suffix("") not in stems]
    if orphans:
        report(f"{len(orphans)} .txt files have no audio beside them: {orphans[0]} first")


def write_text_folder(utterances: Iterable[Utterance], folder: Path, report: Report) -> None:
    """Write each utterance as an audio file with a `.txt` beside it; named by its id.

    Whole files are copied, others cut to WAV. An utterance without text has no `.txt`.

    Raises:
        DataError: audio that cannot be read, or an id that is no name.
    """
    num_renamed = 0
    folder.mkdir(parents=True, exist_ok=True)
    with claiming(folder) as claim:
        for utterance in _put_audio(utterances, folder, report, claim):
            num_renamed += str(file_stem(utterance.id)) != utterance.id
            if utterance.text is not None:
                path = utterance.audio_filepath.with_suffix(".txt")
                claim(path)
                with open_atomic(path) as file:
                    file.write(f"{utterance.text}\n")
    if num_renamed:
        report(f"{num_renamed} ids are no names of files: they are written with %")


def put_audio(utterances: Iterable[Utterance], folder: Path, report: Report) -> Iterator[Utterance]:
    """The utterances as files of their own in a folder: whole files copied, others cut to WAV.

    Raises:
        AsrError: a file of somebody else would be overwritten.
        DataError: audio that cannot be read, or an id that is no name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with claiming(folder) as claim:
        yield from _put_audio(utterances, folder, report, claim)


def _put_audio(
    utterances: Iterable[Utterance],
    folder: Path,
    report: Report,
    claim: Callable[[Path], None],
) -> Iterator[Utterance]:
    num_cut = 0
    for stretch in measure(utterances):
        utterance = stretch.utterance
        stem = folder / file_stem(utterance.id)
        if not stretch.is_whole:
            num_cut += 1
            claim(stem.with_name(f"{stem.name}.wav"))
            yield cut(stretch, stem)
            continue
        source = utterance.audio_filepath
        target = stem.with_name(stem.name + source.suffix)
        if not (target.exists() and target.samefile(source)):
            claim(target)
            with open_regular(source) as audio, open_atomic(target, "wb") as file:
                shutil.copyfileobj(audio, file)
        yield Utterance(
            id=utterance.id,
            audio_filepath=target,
            duration=utterance.duration,
            text=utterance.text,
            speaker=utterance.speaker,
        )
    if num_cut:
        report(f"{num_cut} utterances are parts of files: each was cut to a WAV file of its own")


def read_text(path: Path) -> str:
    """A transcript file: its lines, joined by spaces.

    Raises:
        DataError: unreadable or not UTF-8.
    """
    return " ".join(line.strip() for _, line in read_lines(path))


def read_librispeech(folder: Path, report: Report) -> Iterator[Utterance]:
    """LibriSpeech's layout: `speaker/chapter/speaker-chapter.trans.txt` with audio beside it.

    The audio may have any suffix. Text is as it stands, in capitals.

    Raises:
        DataError: no transcripts, a malformed line, or audio that is missing, or cannot be read;
            with file and line.
    """
    transcripts = sorted(folder.rglob("*.trans.txt"))
    if not transcripts:
        raise DataError(f"{folder}: no *.trans.txt in it or in its folders")
    num_orphans = 0
    for transcript in transcripts:
        ids = UniqueIds(transcript)
        audio = {
            path.stem: path
            for path in sorted(transcript.parent.iterdir())
            if path.suffix.lower() in AUDIO_SUFFIXES
        }
        for number, line in read_lines(transcript):
            where = f"{transcript}:{number}"
            utterance_id, *rest = re.split(r"[ \t]+", line.strip(" \t"), maxsplit=1)
            ids.add(utterance_id, number)
            path = audio.pop(utterance_id, None)
            if path is None:
                raise DataError(f"{where}: no audio file {utterance_id}.flac or the like beside it")
            yield Utterance(
                id=utterance_id,
                audio_filepath=path,
                duration=audio_seconds(path, where),
                text=rest[0] if rest else "",
                speaker=utterance_id.partition("-")[0],
            )
        num_orphans += len(audio)
    if num_orphans:
        report(f"{num_orphans} audio files stand in no *.trans.txt")


def read_audiofolder(folder: Path, report: Report) -> Iterator[Utterance]:
    """Hugging Face's `audiofolder`: metadata.csv, .jsonl or .parquet, here or in its folders.

    Raises:
        DataError: no metadata, no column of file names or texts, a row that is malformed or names
            no audio file below the folder; with file and line.
    """
    tables = [path for name in _METADATA for path in sorted(folder.rglob(name))]
    if not tables:
        raise DataError(f"{folder}: no {', '.join(_METADATA)} in it or in its folders")
    ids = UniqueIds(folder)
    number = 0
    for table in tables:
        unknown: Counter[str] = Counter()
        for where, row in _metadata(table):
            number += 1
            name = text_value(row, "file_name", where)
            if not name:
                raise DataError(f"{where}: file_name is missing or empty")
            text_key = next((key for key in _TEXTS if key in row), None)
            speaker_key = next((key for key in _SPEAKERS if key in row), None)
            unknown.update(row.keys() - {"file_name", "id", text_key, speaker_key})
            if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
                raise DataError(f"{where}: file_name {name!r} is outside of the folder")
            path = table.parent / name
            default = id_of_path(str(path.relative_to(folder)))
            utterance_id = text_value(row, "id", where) or default
            ids.add(utterance_id, number)
            speaker = row.get(speaker_key) if speaker_key else None
            yield Utterance(
                id=utterance_id,
                audio_filepath=path,
                duration=audio_seconds(path, where),
                text=text_value(row, text_key, where) if text_key else None,
                # Numbers, in many a corpus.
                speaker=None if speaker is None or speaker == "" else str(speaker),
            )
        report_unknown(unknown, table, report)


def write_audiofolder(utterances: Iterable[Utterance], folder: Path, report: Report) -> None:
    """Write `metadata.jsonl` and the audio, which Hugging Face wants in the folder.

    Raises:
        DataError: audio that cannot be read, or an id that is no name.
    """
    claim_names(folder, ["metadata.jsonl"])
    with open_atomic(folder / "metadata.jsonl") as file:
        for utterance in put_audio(utterances, folder / "audio", report):
            row = {
                "file_name": str(utterance.audio_filepath.relative_to(folder)),
                "transcription": utterance.text,
                "speaker_id": utterance.speaker,
                "id": utterance.id,
            }
            write_row(file, row)


def _metadata(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Place, and values by column, of each row."""
    if path.suffix == ".csv":
        for number, row in read_table(path, ("file_name",)):
            yield f"{path}:{number}", row
    elif path.suffix == ".jsonl":
        for number, row in read_rows(path):
            yield f"{path}:{number}", row
    else:
        yield from _parquet_rows(path)


def _parquet_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if find_spec("pyarrow") is None:
        raise DataError(f"{path}: reading parquet takes the package pyarrow: pip install pyarrow")
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as table:
            number = 0
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
    except Exception as error:  # pyarrow's and, where names are damaged, Python's own
        raise DataError(f"{path}: {' '.join(str(error).split())}") from error
