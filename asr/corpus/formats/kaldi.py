"""Kaldi's data folders: wav.scp, segments, text, utt2spk, spk2utt, utt2dur, reco2dur.

Commands in wav.scp are not run. Paths there that are relative are looked for from the current
folder, as Kaldi does, then from the data folder and the two above it.
"""

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from asr.audio import inspect_audio
from asr.corpus.manifest import Utterance
from asr.corpus.recordings import Stretch, audio_seconds, check_channel, is_there, measure
from asr.errors import DataError
from asr.files import open_atomic
from asr.folders import claim_names
from asr.progress import Report
from asr.text import UniqueIds, parse_seconds, quoted, read_lines

_log = logging.getLogger(__name__)

_READ = frozenset(
    ("wav.scp", "segments", "text", "utt2spk", "spk2utt", "utt2dur", "reco2dur", "utt2num_frames")
)
_TO_THE_END = "-1"  # in segments


def read_kaldi(folder: Path, report: Report) -> Iterator[Utterance]:
    """The utterances of a data folder, in the order of segments or wav.scp.

    Raises:
        DataError: a missing file, a malformed line, a command in place of a file, an id that
            occurs twice or that other files do not have; with file and line.
    """
    _report_unread(folder, report)
    recordings = _read_recordings(folder / "wav.scp")
    segments_path = folder / "segments"
    has_segments = segments_path.exists()
    ids = _segment_ids(segments_path) if has_segments else recordings
    texts = _read_table(folder / "text", ids)
    speakers = _read_table(folder / "utt2spk", ids)
    durations = _read_seconds(folder / ("reco2dur" if has_segments else "utt2dur"), recordings)
    _check_channels(folder / "reco2file_and_channel", recordings)

    def finish(utterance_id: str, recording: str, begin: float, end: float | None) -> Utterance:
        path, where = recordings[recording]
        if end is None:
            end = durations.get(recording) or audio_seconds(path, where)
        speaker = speakers.get(utterance_id)
        return Utterance(
            id=utterance_id,
            audio_filepath=path,
            offset=begin,
            duration=round(end - begin, 6),
            text=texts.get(utterance_id),
            # Kaldi's way to say that the speaker is not known.
            speaker=None if speaker == utterance_id else speaker,
        )

    if not has_segments:
        for recording in recordings:
            yield finish(recording, recording, 0.0, None)
        return
    for number, line in read_lines(segments_path):
        where = f"{segments_path}:{number}"
        utterance_id, recording, begin_text, end_text = _fields(line, 4, where)
        if recording not in recordings:
            raise DataError(f"{where}: recording {recording} is not in wav.scp")
        begin = parse_seconds(begin_text, where)
        end = None if end_text == _TO_THE_END else parse_seconds(end_text, where)
        utterance = finish(utterance_id, recording, begin, end)
        if utterance.duration <= 0:
            raise DataError(f"{where}: the segment ends at {end_text}, before it begins")
        yield utterance


def write_kaldi(utterances: Iterable[Utterance], folder: Path, report: Report) -> None:
    """Write a data folder, sorted as in the C locale.

    Utterances that are not whole files get `segments`. An utterance without speaker is its own, as
    Kaldi has it. Where speakers would not sort as their utterances do, ids get the speaker before.

    Raises:
        DataError: an id, speaker or path that the files cannot hold, or audio that cannot be read.
    """
    stretches = list(measure(utterances))
    for stretch in stretches:
        _check_words(stretch.utterance)
    if not _sorts_by_speaker(stretches):
        stretches = [replace(s, utterance=_with_speaker_first(s.utterance)) for s in stretches]
        report("ids begin with their speakers, as Kaldi sorts both alike")
        if not _sorts_by_speaker(stretches):
            _log.warning("utterances and speakers do not sort alike; Kaldi will complain")
    stretches.sort(key=lambda stretch: stretch.utterance.id.encode())
    utterance_ids = UniqueIds(folder / "text")
    for number, stretch in enumerate(stretches, start=1):
        utterance_ids.add(stretch.utterance.id, number)
    whole = all(s.is_whole for s in stretches)
    names = {} if whole else _recording_names(stretches)
    tables: dict[str, list[str]] = {"text": [], "utt2spk": []}
    speakers: dict[str, list[str]] = {}
    recordings: dict[str, Stretch] = {}
    for stretch in stretches:
        utterance = stretch.utterance
        speaker = utterance.speaker or utterance.id
        speakers.setdefault(speaker, []).append(utterance.id)
        tables["utt2spk"].append(f"{utterance.id} {speaker}")
        if utterance.text is not None:
            tables["text"].append(f"{utterance.id} {utterance.text}".rstrip())
        if whole:
            recordings[utterance.id] = stretch
        else:
            name = names[utterance.audio_filepath]
            recordings[name] = stretch
            end = utterance.offset + utterance.duration
            tables.setdefault("segments", []).append(
                f"{utterance.id} {name} {_number(utterance.offset)} {_number(end)}"
            )
    by_recording = sorted(recordings.items(), key=lambda item: item[0].encode())
    tables["wav.scp"] = [f"{n} {s.utterance.audio_filepath.absolute()}" for n, s in by_recording]
    tables["utt2dur" if whole else "reco2dur"] = [
        f"{n} {_number(s.utterance.duration if whole else s.recording.duration)}"
        for n, s in by_recording
    ]
    by_speaker = sorted(speakers.items(), key=lambda item: item[0].encode())
    tables["spk2utt"] = [f"{speaker} {' '.join(spoken)}" for speaker, spoken in by_speaker]
    claim_names(folder, tables.keys())
    for name, lines in tables.items():
        with open_atomic(folder / name) as file:
            file.writelines(f"{line}\n" for line in lines)


def _report_unread(folder: Path, report: Report) -> None:
    if not folder.is_dir():
        raise DataError(f"{folder}: a folder with Kaldi's wav.scp is expected")
    others = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name not in _READ)
    if others:
        report(f"{folder}: {', '.join(others)}: not read")


def _read_recordings(path: Path) -> dict[str, tuple[Path, str]]:
    """Audio file, and the place that names it, by recording."""
    recordings = {}
    ids = UniqueIds(path)
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        recording, *rest = re.split(r"[ \t]+", line.strip(" \t"), maxsplit=1)
        if not rest:
            raise DataError(f"{where}: `<id> <audio file>` is expected: {quoted(line)}")
        ids.add(recording, number)
        recordings[recording] = (_audio_path(rest[0], path.parent, where), where)
    return recordings


def _audio_path(name: str, folder: Path, where: str) -> Path:
    if name.endswith("|") or name.startswith("|") or name == "-":
        raise DataError(
            f"{where}: a command in place of an audio file: {quoted(name)}; commands are not run "
            "here: write what it puts out to a file"
        )
    path = Path(name)
    if re.fullmatch(r".*:[0-9]+", name) and not is_there(path):
        raise DataError(
            f"{where}: an entry of an archive in place of an audio file: {quoted(name)}; "
            "`wav-copy` writes files"
        )
    if path.is_absolute() or is_there(path):
        return path
    bases = (folder, folder.parent, folder.parent.parent)
    return next((base / path for base in bases if is_there(base / path)), folder / path)


def _segment_ids(path: Path) -> dict[str, int]:
    """Line by utterance id."""
    lines = {}
    ids = UniqueIds(path)
    for number, line in read_lines(path):
        utterance_id = _fields(line, 4, f"{path}:{number}")[0]
        ids.add(utterance_id, number)
        lines[utterance_id] = number
    return lines


def _read_table(path: Path, names: Iterable[str]) -> dict[str, str]:
    """`<id> <text>` lines; none where there is no such file."""
    permitted = set(names)
    table: dict[str, str] = {}
    if not path.exists():
        return table
    ids = UniqueIds(path)
    for number, line in read_lines(path):
        utterance_id, *rest = re.split(r"[ \t]+", line.strip(" \t"), maxsplit=1)
        ids.add(utterance_id, number)
        if utterance_id not in permitted:
            raise DataError(
                f"{path}:{number}: utterance {utterance_id} is not in wav.scp or segments; "
                "Kaldi's fix_data_dir.sh takes out what is not in all files"
            )
        table[utterance_id] = rest[0] if rest else ""
    if path.name == "utt2spk":
        for utterance_id, speaker in table.items():
            if not speaker or re.search(r"\s", speaker):
                raise DataError(f"{path}: utterance {utterance_id}: {quoted(speaker)} no speaker")
    return table


def _read_seconds(path: Path, names: Iterable[str]) -> dict[str, float]:
    return {
        name: parse_seconds(value, f"{path}: {name}")
        for name, value in _read_table(path, names).items()
    }


def _check_channels(path: Path, recordings: dict[str, tuple[Path, str]]) -> None:
    """Refuse sides of telephone calls that are one file."""
    for name, value in _read_table(path, recordings).items():
        audio, where = recordings[name]
        fields = value.split()
        if len(fields) != 2:
            raise DataError(f"{path}: {name}: `<recording> <file> <channel>` is expected")
        if is_there(audio):
            channel = {"A": 1, "B": 2}.get(fields[1], 0)
            check_channel(channel, audio, inspect_audio(audio), where)


def _fields(line: str, count: int, where: str) -> list[str]:
    fields = re.split(r"[ \t]+", line.strip(" \t"))
    if len(fields) != count:
        raise DataError(
            f"{where}: `<utterance> <recording> <begin> <end>` is expected: {quoted(line)}"
        )
    return fields


def _check_words(utterance: Utterance) -> None:
    names = {"id": utterance.id, "speaker": utterance.speaker}
    for key, value in names.items():
        if value is not None and (not value or re.search(r"\s", value)):
            raise DataError(
                f"utterance {utterance.id!r}: Kaldi's files cannot hold the {key} {value!r}: it is "
                "empty or has white space in it"
            )
    path = str(utterance.audio_filepath)
    if path != path.strip() or "\n" in path or "\r" in path or path.endswith("|"):
        raise DataError(f"utterance {utterance.id}: wav.scp cannot hold the path {path!r}")


def _sorts_by_speaker(stretches: Iterable[Stretch]) -> bool:
    pairs = [
        (s.utterance.id.encode(), (s.utterance.speaker or s.utterance.id).encode())
        for s in stretches
    ]
    by_id = [speaker for _, speaker in sorted(pairs)]
    return by_id == sorted(by_id)


def _with_speaker_first(utterance: Utterance) -> Utterance:
    speaker = utterance.speaker
    if speaker is None or utterance.id.startswith(speaker):
        return utterance
    return replace(utterance, id=f"{speaker}-{utterance.id}")


def _recording_names(stretches: Iterable[Stretch]) -> dict[Path, str]:
    """A name for each audio file: its own without suffix, numbered where two share it."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for stretch in stretches:
        path = stretch.utterance.audio_filepath
        if path in names:
            continue
        stem = re.sub(r"\s+", "_", path.stem)
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name)
        names[path] = name
    return names


def _number(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
