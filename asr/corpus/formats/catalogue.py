"""Other systems' corpora in and out: which formats there are, and what each of them cannot hold.

An importer gives utterances and never drops one without a word; an exporter says what the format
has no place for. `docs/formats.md` describes each format.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from asr.corpus.formats.elan import read_elan, write_elan
from asr.corpus.formats.folders import (
    read_audiofolder,
    read_librispeech,
    read_text_folder,
    write_audiofolder,
    write_text_folder,
)
from asr.corpus.formats.kaldi import read_kaldi, write_kaldi
from asr.corpus.formats.lhotse import read_cuts, read_lhotse, write_cuts, write_lhotse
from asr.corpus.formats.marks import (
    is_label_track,
    read_audacity,
    read_stm,
    write_audacity,
    write_stm,
)
from asr.corpus.formats.nemo import read_certainties, read_nemo, write_nemo
from asr.corpus.formats.tables import (
    read_common_voice,
    read_coqui,
    read_ljspeech,
    read_speechbrain,
    table_header,
    write_coqui,
    write_speechbrain,
)
from asr.corpus.formats.textgrid import read_textgrid, write_textgrid
from asr.corpus.manifest import Utterance, read_rows
from asr.corpus.recordings import AUDIO_SUFFIXES, cut, file_stem, measure
from asr.errors import DataError
from asr.files import open_regular
from asr.folders import claiming
from asr.progress import Report

Reader = Callable[[Path, Report], Iterator[Utterance]]
Writer = Callable[[Iterable[Utterance], Path, Report], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A reader, a writer if there is one, and what the format has no place for."""

    read: Reader
    write: Writer | None = None
    lacks: tuple[str, ...] = ()
    """Fields of an utterance that are lost."""
    plain_text: bool = False
    """White space in texts becomes single spaces, and control characters are refused."""
    whole_files: bool = False
    """An utterance is a whole file; others are cut to files of their own first."""


FORMATS: dict[str, Format] = {
    "nemo": Format(read=read_nemo, write=write_nemo),
    "kaldi": Format(read=read_kaldi, write=write_kaldi, plain_text=True),
    "lhotse": Format(read=read_lhotse, write=write_lhotse),
    "lhotse-cuts": Format(read=read_cuts, write=write_cuts),
    "speechbrain": Format(read=read_speechbrain, write=write_speechbrain, whole_files=True),
    "coqui": Format(read=read_coqui, write=write_coqui, lacks=("id", "speaker"), whole_files=True),
    "audiofolder": Format(read=read_audiofolder, write=write_audiofolder),
    "folder": Format(
        read=read_text_folder, write=write_text_folder, lacks=("speaker",), plain_text=True
    ),
    "stm": Format(read=read_stm, write=write_stm, lacks=("id", "audio_filepath"), plain_text=True),
    "textgrid": Format(
        read=read_textgrid, write=write_textgrid, lacks=("id", "audio_filepath"), plain_text=True
    ),
    "elan": Format(read=read_elan, write=write_elan, lacks=("id",), plain_text=True),
    "audacity": Format(
        read=read_audacity,
        write=write_audacity,
        lacks=("id", "audio_filepath", "speaker"),
        plain_text=True,
    ),
    "librispeech": Format(read=read_librispeech),
    "ljspeech": Format(read=read_ljspeech),
    "common-voice": Format(read=read_common_voice),
}

_TIERED: dict[str, Callable[[Path, Report, Sequence[str]], Iterator[Utterance]]] = {
    "textgrid": read_textgrid,
    "elan": read_elan,
}
_SUFFIXES = {".stm": "stm", ".textgrid": "textgrid", ".eaf": "elan"}


def import_corpus(
    source: Path,
    format_name: str,
    report: Report,
    *,
    tiers: Sequence[str] = (),
    speaker_pattern: re.Pattern[str] | None = None,
) -> Iterator[Utterance]:
    """The utterances of a corpus in another format, each checked to have an id of its own.

    Args:
        format_name: of `FORMATS`, or `auto`.
        report: is given what was left out or has no place in an utterance.
        tiers: of TextGrid and ELAN files; none means all.
        speaker_pattern: finds the speaker in the id of an utterance that has none: its first
            group, or all that it matches.

    Raises:
        DataError: an unknown or unclear format, or as its reader.
    """
    name = detect_format(source) if format_name == "auto" else format_name
    if name not in FORMATS:
        raise DataError(f"{name}: no such format; there are {', '.join(FORMATS)}")
    read = FORMATS[name].read
    if tiers:
        if name not in _TIERED:
            raise DataError(f"{source}: {name} has no tiers; --tier is for {', '.join(_TIERED)}")
        read = partial(_read_tiers, name, tiers)
    seen: set[str] = set()
    for utterance in read(source, report):
        if utterance.id in seen:
            raise DataError(
                f"{source}: the id {utterance.id!r} comes twice; give each utterance its own"
            )
        seen.add(utterance.id)
        _check_encoding(utterance)
        if speaker_pattern and utterance.speaker is None:
            utterance = replace(utterance, speaker=_speaker(utterance.id, speaker_pattern))
        yield utterance
    if not seen:
        raise DataError(f"{source}: no utterances in it")


def import_certainties(source: Path, format_name: str) -> dict[str, dict[str, Any]]:
    """Further keys of a manifest's lines, by id, that say how sure a machine is of their texts.

    Raises:
        DataError: as `import_corpus`.
    """
    name = detect_format(source) if format_name == "auto" else format_name
    return read_certainties(source) if name == "nemo" else {}


def export_corpus(
    utterances: Iterable[Utterance], format_name: str, path: Path, report: Report
) -> None:
    """Write utterances in another format; what it has no place for is reported.

    Raises:
        DataError: a format that is only read, or as its writer.
    """
    if format_name not in FORMATS:
        raise DataError(f"{format_name}: no such format; there are {', '.join(FORMATS)}")
    target = FORMATS[format_name]
    if target.write is None:
        raise DataError(f"{format_name}: a corpus's own layout, which is only read")
    losses: Counter[str] = Counter()
    prepared: Iterator[Utterance] = (_prepared(u, target, losses) for u in utterances)
    if target.whole_files:
        prepared = _whole_files(prepared, path, report)
    target.write(prepared, path, report)
    for field, count in losses.items():
        if field == "white space":
            report(f"white space in the texts of {count} utterances became single spaces")
        else:
            report(f"{field} is not held by {format_name}: dropped for {count} utterances")


def detect_format(source: Path) -> str:
    """The name of the format of a file or folder.

    Raises:
        DataError: nothing there, or nothing that is known.
    """
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    name = _folder_format(source) if source.is_dir() else _file_format(source)
    if name is None:
        raise DataError(
            f"{source}: cannot tell its format; name it with --format: {', '.join(FORMATS)}"
        )
    return name


def _read_tiers(
    name: str, tiers: Sequence[str], source: Path, report: Report
) -> Iterator[Utterance]:
    return _TIERED[name](source, report, tiers)


def _folder_format(folder: Path) -> str | None:
    names = {path.name for path in folder.iterdir()}
    if "wav.scp" in names:
        return "kaldi"
    if "wavs" in names and "metadata.csv" in names:
        return "ljspeech"
    if "clips" in names and any(name.endswith(".tsv") for name in names):
        return "common-voice"
    if any("supervisions" in name and ".json" in name for name in names):
        return "lhotse"
    recordings: set[Path] = set()  # without suffix
    texts: list[Path] = []
    for path in sorted(folder.rglob("*")):
        if path.name == "wav.scp":
            raise DataError(f"{folder}: name the Kaldi data folder in it, as {path.parent}")
        if path.name.endswith(".trans.txt"):
            return "librispeech"
        if path.name in ("metadata.csv", "metadata.jsonl", "metadata.parquet"):
            return "audiofolder"
        suffix = path.suffix.lower()
        if suffix in (".textgrid", ".eaf"):
            return _SUFFIXES[suffix]
        if suffix in AUDIO_SUFFIXES:
            recordings.add(path.with_suffix(""))
        elif suffix == ".txt":
            texts.append(path)
    beside = [path for path in texts if path.with_suffix("") in recordings]
    labels = [path for path in beside if is_label_track(path)]
    if labels and len(labels) < len(texts):
        other = next(path for path in texts if path not in labels)
        raise DataError(
            f"{folder}: {labels[0].name} is a label track, {other.name} is not: name the format "
            "with --format, or import the label tracks alone"
        )
    return "audacity" if labels else "folder" if recordings else None


def _file_format(path: Path) -> str | None:
    name = path.name.lower()
    if path.suffix.lower() in _SUFFIXES:
        return _SUFFIXES[path.suffix.lower()]
    if name.endswith((".jsonl", ".jsonl.gz")):
        row = next(read_rows(path), (0, {}))[1]
        if "recording" in row or str(row.get("type", "")).endswith("Cut"):
            return "lhotse-cuts"
        return "nemo"
    if name.endswith(".txt"):
        return "audacity" if is_label_track(path) else None
    if name.endswith(".tsv"):
        return "common-voice"
    if name.endswith(".csv"):
        header = table_header(path)
        return "coqui" if "wav_filename" in header else "speechbrain" if "wav" in header else None
    if name.endswith(".json"):
        try:
            with open_regular(path) as file:
                start = file.read(2**16)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from error
        if start.lstrip().startswith(b"["):
            return "lhotse-cuts"
        return "nemo" if b'"audio_filepath"' in start.partition(b"\n")[0] else "speechbrain"
    return None


def _speaker(utterance_id: str, pattern: re.Pattern[str]) -> str:
    match = pattern.search(utterance_id)
    speaker = match and (match[1] if pattern.groups else match[0])
    if not speaker:
        raise DataError(f"utterance {utterance_id}: {pattern.pattern!r} finds no speaker in its id")
    return speaker


def _prepared(utterance: Utterance, target: Format, losses: Counter[str]) -> Utterance:
    """As the format can hold it; what it cannot is counted."""
    _check_encoding(utterance)
    losses.update(field for field in target.lacks if getattr(utterance, field) is not None)
    if not target.plain_text:
        return utterance
    for value in (utterance.id, utterance.speaker, utterance.text):
        _check_controls(value or "", utterance.id)
    text = None if utterance.text is None else " ".join(utterance.text.split())
    if text != utterance.text:
        losses["white space"] += 1
    return replace(utterance, text=text)


def _check_controls(value: str, utterance_id: str) -> None:
    for character in value:
        control = unicodedata.category(character) == "Cc" and not character.isspace()
        if control or ord(character) & 0xFFFE == 0xFFFE:  # the latter are no characters
            raise DataError(
                f"utterance {utterance_id!r}: U+{ord(character):04X} is a control character, "
                "which a text file cannot hold"
            )


def _whole_files(
    utterances: Iterable[Utterance], path: Path, report: Report
) -> Iterator[Utterance]:
    """Utterances that are parts of files as files of their own, in a folder beside the table."""
    folder = path.with_name(f"{path.stem}-audio")
    num_cut = 0
    with ExitStack() as stack:
        for stretch in measure(utterances):
            if stretch.is_whole:
                yield stretch.utterance
                continue
            if not num_cut:
                folder.mkdir(parents=True, exist_ok=True)
                claim = stack.enter_context(claiming(folder))
            num_cut += 1
            stem = folder / file_stem(stretch.utterance.id)
            claim(stem.with_name(f"{stem.name}.wav"))
            yield cut(stretch, stem)
    if num_cut:
        report(f"{num_cut} utterances are parts of files: each was cut to a WAV file in {folder}")


def _check_encoding(utterance: Utterance) -> None:
    fields = (utterance.id, str(utterance.audio_filepath), utterance.text, utterance.speaker)
    for field in fields:
        try:
            (field or "").encode()
        except UnicodeEncodeError as error:
            raise DataError(f"utterance {utterance.id!a}: {field!a} is not Unicode") from error
