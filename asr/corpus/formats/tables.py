"""Corpora as tables: SpeechBrain's and Coqui's CSV, LJSpeech's, Common Voice's TSV.

Every row has as many fields as the header; what an utterance has no field for is reported.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from asr.audio import inspect_audio
from asr.corpus.formats.nemo import report_unknown
from asr.corpus.manifest import Utterance, id_of_path, parse_object, seconds_value, text_value
from asr.corpus.recordings import audio_seconds, measure
from asr.errors import DataError
from asr.files import open_atomic, open_regular, read_file
from asr.progress import Report
from asr.text import UniqueIds, parse_seconds, quoted

_SPEECHBRAIN_TEXTS = ("wrd", "words", "transcript", "text", "transcription")
_SPEECHBRAIN_SPEAKERS = ("spk_id", "speaker", "spk")
_SPEECHBRAIN = ("ID", "duration", "wav", "spk_id", "wrd")
_COQUI = ("wav_filename", "wav_filesize", "transcript")
_MAX_LINE = 2**24  # bytes
_SLACK = 0.02  # seconds; durations are rounded
_DATA_ROOTS = ("$data_root", "{data_root}", "${data_root}")

Row = tuple[int, dict[str, str]]
"""Line, and fields by column."""


def read_speechbrain(path: Path, report: Report) -> Iterator[Utterance]:
    """SpeechBrain's CSV or JSON; `$data_root` is the folder that the file is in.

    `start` and `stop`, where they are columns, are samples.

    Raises:
        DataError: a missing column or bad field, or an id that occurs twice; with file and line.
    """
    rows = _json_rows(path) if path.suffix == ".json" else _table(path, ("ID", "wav"), ",")
    ids = UniqueIds(path)
    unknown: Counter[str] = Counter()
    for number, row in rows:
        where = f"{path}:{number}" if path.suffix != ".json" else f"{path}: {row['ID']}"
        text_key = _first_of(_SPEECHBRAIN_TEXTS, row)
        speaker_key = _first_of(_SPEECHBRAIN_SPEAKERS, row)
        unknown.update(row.keys() - {*_SPEECHBRAIN, text_key, speaker_key, "start", "stop"})
        audio = _below_root(_field(row, "wav", where), path.parent)
        ids.add(_field(row, "ID", where), number)
        offset, duration = _speechbrain_times(row, audio, where)
        yield Utterance(
            id=row["ID"],
            audio_filepath=audio,
            offset=offset,
            duration=duration,
            text=row[text_key] if text_key else None,
            speaker=(row[speaker_key] or None) if speaker_key else None,
        )
    report_unknown(unknown, path, report)


def write_speechbrain(utterances: Iterable[Utterance], path: Path, report: Report) -> None:
    """Write SpeechBrain's CSV; utterances are whole files."""
    del report

    def rows() -> Iterator[Sequence[str]]:
        for stretch in measure(utterances):
            utterance = stretch.utterance
            yield (
                utterance.id,
                f"{utterance.duration:.6f}".rstrip("0").rstrip("."),
                str(utterance.audio_filepath.absolute()),
                utterance.speaker or "",
                utterance.text or "",
            )

    _write_table(path, _SPEECHBRAIN, rows())


def read_coqui(path: Path, report: Report) -> Iterator[Utterance]:
    """The CSV of Coqui STT and DeepSpeech; the id is the path of the audio without suffix.

    Raises:
        DataError: a missing column or bad field, or a file that stands there twice or is not
            audio; with file and line.
    """
    ids = UniqueIds(path)
    unknown: Counter[str] = Counter()
    for number, row in _table(path, _COQUI, ","):
        where = f"{path}:{number}"
        name = _field(row, "wav_filename", where)
        unknown.update(row.keys() - {*_COQUI})
        audio = path.parent / name
        ids.add(id_of_path(name), number)
        yield Utterance(
            id=id_of_path(name),
            audio_filepath=audio,
            duration=audio_seconds(audio, where),
            text=row["transcript"],
        )
    report_unknown(unknown, path, report)


def write_coqui(utterances: Iterable[Utterance], path: Path, report: Report) -> None:
    """Write the CSV of Coqui STT and DeepSpeech; utterances are whole files."""
    del report

    def rows() -> Iterator[Sequence[str]]:
        for stretch in measure(utterances):
            audio = stretch.utterance.audio_filepath
            size = str(audio.stat().st_size)
            yield str(audio.absolute()), size, stretch.utterance.text or ""

    _write_table(path, _COQUI, rows())


def read_ljspeech(folder: Path, report: Report) -> Iterator[Utterance]:
    """LJSpeech's layout: `metadata.csv` (`id|text|normalized text`) and `wavs`.

    The normalized text is taken where there is one.

    Raises:
        DataError: a malformed line, or audio that cannot be read; with file and line.
    """
    del report
    path = folder / "metadata.csv"
    ids = UniqueIds(path)
    for number, fields in _rows(path, "|", quoting=False):
        where = f"{path}:{number}"
        if len(fields) not in (2, 3) or not fields[0]:
            raise DataError(f"{where}: `id|text|normalized text` is expected")
        ids.add(fields[0], number)
        audio = folder / "wavs" / f"{fields[0]}.wav"
        yield Utterance(
            id=fields[0],
            audio_filepath=audio,
            duration=audio_seconds(audio, where),
            text=fields[2] if len(fields) == 3 and fields[2] else fields[1],
        )


def read_common_voice(path: Path, report: Report) -> Iterator[Utterance]:
    """A table of Common Voice, as `validated.tsv`; its audio is in the folder `clips` beside it.

    Raises:
        DataError: a folder with several tables, a missing column or bad field, or audio that
            cannot be read; with file and line.
    """
    if path.is_dir():
        tables = [p for p in sorted(path.glob("*.tsv")) if _has_columns(p, ("path", "sentence"))]
        if len(tables) != 1:
            names = ", ".join(table.name for table in tables) or "no .tsv with path and sentence"
            raise DataError(f"{path}: name one of its tables: {names}")
        path = tables[0]
    durations = _clip_durations(path.parent / "clip_durations.tsv")
    ids = UniqueIds(path)
    unknown: Counter[str] = Counter()
    for number, row in _table(path, ("path", "sentence"), "\t", quoting=False):
        where = f"{path}:{number}"
        name = _field(row, "path", where)
        audio = path.parent / "clips" / name
        ids.add(id_of_path(name), number)
        others = row.keys() - {"path", "sentence", "client_id"}
        unknown.update(key for key in others if row[key])
        yield Utterance(
            id=id_of_path(name),
            audio_filepath=audio,
            duration=durations.get(name) or audio_seconds(audio, where),
            text=row["sentence"],
            speaker=row.get("client_id") or None,
        )
    report_unknown(unknown, path, report)


def read_table(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a comma-separated file that has `columns`, and perhaps others.

    Raises:
        DataError: a column is missing, or a row has not as many fields as the header.
    """
    return _table(path, columns, ",")


def table_header(path: Path, delimiter: str = ",") -> list[str]:
    """The names of the columns; none where it is no table."""
    try:
        return next(_rows(path, delimiter, quoting=delimiter == ","), (0, []))[1]
    except DataError:
        return []


def _speechbrain_times(row: Mapping[str, str], audio: Path, where: str) -> tuple[float, float]:
    """Offset and duration in seconds."""
    if row.get("start") or row.get("stop"):
        start, stop = (_samples(row, key, where) for key in ("start", "stop"))
        if start >= stop:
            raise DataError(f"{where}: stop {stop} is not after start {start}")
        try:
            rate = inspect_audio(audio).sample_rate
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        length = (stop - start) / rate
        if row.get("duration"):
            seconds = parse_seconds(row["duration"].strip(), where)
            if abs(length - seconds) > _SLACK:
                raise DataError(
                    f"{where}: start and stop are {length:g} s apart, but duration is {seconds:g}"
                )
        return start / rate, length
    duration = row.get("duration")
    return 0.0, parse_seconds(duration, where) if duration else audio_seconds(audio, where)


def _samples(row: Mapping[str, str], key: str, where: str) -> int:
    text = row.get(key) or ""
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise DataError(f"{where}: {key} {quoted(text)} is not a number of samples")
    return int(text)


def _json_rows(path: Path) -> Iterator[Row]:
    """SpeechBrain's JSON: an object of objects by utterance id."""
    try:
        text = read_file(path).decode("utf-8")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 (byte {error.start + 1})") from error
    rows = parse_object(text, str(path))
    for number, (utterance_id, row) in enumerate(rows.items(), start=1):
        where = f"{path}: {utterance_id}"
        if not isinstance(row, dict):
            raise DataError(f"{where}: an object is expected")
        if isinstance(row.get("duration"), str):  # as some recipes write it
            row["duration"] = parse_seconds(row["duration"].strip(), where)
        fields = {
            key: str(seconds_value(row, key, where)) if key == "duration" else value
            for key in row
            if (value := row[key]) is not None and (key == "duration" or isinstance(value, str))
        }
        for key in (*_SPEECHBRAIN_TEXTS, *_SPEECHBRAIN_SPEAKERS, "wav"):
            text_value(row, key, where)
        yield number, {**dict.fromkeys(row, ""), **fields, "ID": utterance_id}


def _clip_durations(path: Path) -> dict[str, float]:
    """Seconds by clip; none where there is no such table."""
    if not path.exists():
        return {}
    durations = {}
    for number, row in _table(path, ("clip", "duration[ms]"), "\t", quoting=False):
        seconds = parse_seconds(row["duration[ms]"], f"{path}:{number}") / 1000
        durations[row["clip"]] = seconds
    return durations


def _has_columns(path: Path, columns: Sequence[str]) -> bool:
    return set(columns) <= set(table_header(path, "\t"))


def _below_root(name: str, folder: Path) -> Path:
    for root in _DATA_ROOTS:
        name = name.replace(root, str(folder.absolute()))
    return folder / name


def _first_of(keys: Sequence[str], row: Mapping[str, str]) -> str | None:
    return next((key for key in keys if key in row), None)


def _field(row: Mapping[str, str], key: str, where: str) -> str:
    value = row.get(key)
    if not value:
        raise DataError(f"{where}: {key} is missing or empty")
    return value


def _table(
    path: Path, columns: Sequence[str], delimiter: str, quoting: bool = True
) -> Iterator[Row]:
    rows = _rows(path, delimiter, quoting)
    number, header = next(rows, (1, []))
    missing = [column for column in columns if column not in header]
    if missing:
        raise DataError(
            f"{path}:{number}: column {missing[0]} is missing; there are {', '.join(header)}"
        )
    if len(set(header)) < len(header):
        raise DataError(f"{path}:{number}: two columns have one name")
    for number, fields in rows:
        if len(fields) != len(header):
            raise DataError(
                f"{path}:{number}: {len(fields)} fields, but the header names {len(header)}"
            )
        yield number, dict(zip(header, fields, strict=True))


def _rows(path: Path, delimiter: str, quoting: bool) -> Iterator[tuple[int, list[str]]]:
    """Line and fields of each row that is not blank."""
    reader = csv.reader(
        _decoded(path),
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE,
        skipinitialspace=delimiter == ",",
        strict=True,
    )
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: not a table: {error}") from error
        if fields:
            yield reader.line_num, fields


def _decoded(path: Path) -> Iterator[str]:
    try:
        with open_regular(path) as file:
            lines = iter(lambda: file.readline(_MAX_LINE), b"")
            for number, line in enumerate(lines, start=1):
                if len(line) == _MAX_LINE:
                    raise DataError(f"{path}:{number}: a line of more than {_MAX_LINE:,} bytes")
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{path}:{number}: not UTF-8 (byte {error.start + 1})"
                    ) from error
                if "\0" in text:
                    raise DataError(f"{path}:{number}: not text, a zero byte")
                yield text
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def _write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with open_atomic(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
