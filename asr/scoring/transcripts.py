"""Readers of transcript files, the references' and the hypotheses', of many systems' formats.

What a file is, its name says (a manifest's, `.trn`, `.stm`, `.ctm`) or else its first line;
`docs/formats.md` describes each. Lines end in LF or CR LF, text is UTF-8, and a line that cannot
be read is an error that names file and line: nothing is dropped.
"""

import ast
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from asr.corpus import manifest, read_rows
from asr.errors import DataError
from asr.text import Alternates, Line, UniqueIds, alternates, nist, quoted, read_lines
from asr.text import lines as text_lines

Role = Literal["reference", "hypothesis"]

_ICEFALL_LINE = re.compile(
    r"(?P<id>.*\S):\t(?P<kind>ref|hyp|timestamp_ref|timestamp_hyp)=(?P<words>.*)"
)
_SPEECHBRAIN_HEADER = re.compile(
    r"(?P<id>.*), %WER \S+ \[ \d+ / (?P<length>\d+), "
    r"(?P<insertions>\d+) ins, (?P<deletions>\d+) del, \d+ sub \]"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TranscriptFile:
    """The texts of a file by utterance id, in its order."""

    path: Path
    format: str
    texts: dict[str, str | Alternates]
    speakers: dict[str, str] = field(default_factory=dict)
    """By utterance id, where the file says."""
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What else a manifest's line, or a segment, says, by utterance id."""
    segments: tuple[nist.StmSegment, ...] = ()
    """Of a `.stm`."""
    words: tuple[nist.TimedWord, ...] = ()
    """Of a `.ctm`; one with several channels has no texts without a `.stm` that cuts it up."""
    notes: tuple[str, ...] = ()
    """What was left out by the file's own rules."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TranscriptPair:
    """References, and the hypotheses that are to be compared with them."""

    references: TranscriptFile
    hypotheses: dict[str, str | Alternates]
    notes: tuple[str, ...]
    """What was left out by the files' own rules or by permission."""


def read_transcripts(path: Path, role: Role) -> TranscriptFile:
    """Read a file of references or of hypotheses.

    A file with both, as a manifest with `text` and `pred_text`, gives those of `role`.

    Raises:
        DataError: unreadable, a malformed line, an id that occurs twice, or a `.ctm` as references.
    """
    if manifest.is_manifest(path):
        return _read_manifest(path, read_rows(path), role)
    lines = read_lines(path)
    format_name = _format(path, lines)
    if format_name == "manifest":
        rows = ((number, manifest.parse_row(line.encode(), path, number)) for number, line in lines)
        return _read_manifest(path, rows, role)
    return _READERS[format_name](path, lines, role)


def read_pair(
    reference: Path,
    hypothesis: Path,
    *,
    allow_extra: bool = False,
    gaps: nist.Gaps = "following",
) -> TranscriptPair:
    """Read a file of references and one of hypotheses; a `.ctm` is cut up by its `.stm`.

    Args:
        reference: texts by id, or segments.
        hypothesis: texts by id, or words with their times.
        allow_extra: leave out words of recordings that have no references.
        gaps: where words of a `.ctm` belong that are said between segments.

    Raises:
        DataError: as `read_transcripts`; words of a `.ctm` in recordings without references, unless
            `allow_extra` leaves them out.
    """
    references = read_transcripts(reference, "reference")
    said = read_transcripts(hypothesis, "hypothesis")
    if references.format != "stm" or said.format != "ctm":
        if said.format == "ctm":
            nist.words_by_recording(said.words, hypothesis)
        return TranscriptPair(references=references, hypotheses=said.texts, notes=said.notes)
    segmented = nist.put_into_segments(said.words, references.segments, gaps)
    notes = [*said.notes]
    late = nist.overlapping_segments(references.segments)
    if late:
        notes.append(
            f"{len(late)} segments begin before another one of their channel ends (first: "
            f"{reference}:{late[0].line}): words are those of the one that began first"
        )
    if segmented.num_ignored:
        notes.append(f"{segmented.num_ignored} words in segments that are not to be scored")
    if segmented.elsewhere:
        first = segmented.elsewhere[0]
        what = (
            f"{len(segmented.elsewhere)} words are in recordings or channels that {reference} "
            f"does not have (first: {first.recording} {first.channel})"
        )
        if not allow_extra:
            raise DataError(
                f"{hypothesis}:{first.line}: {what}; with --allow-extra they are left out"
            )
        notes.append(f"{what}; left out")
    return TranscriptPair(references=references, hypotheses=segmented.texts, notes=tuple(notes))


def read_utt2spk(path: Path) -> dict[str, str]:
    """Speaker by utterance id.

    Raises:
        DataError: unreadable, a line without exactly two fields, or an id that occurs twice.
    """
    speakers: dict[str, str] = {}
    ids = UniqueIds(path)
    for number, line in read_lines(path):
        fields = line.split()
        if len(fields) != 2:
            raise DataError(
                f"{path}:{number}: `<utterance-id> <speaker>` is expected: {quoted(line)}"
            )
        ids.add(fields[0], number)
        speakers[fields[0]] = fields[1]
    return speakers


def _format(path: Path, lines: list[Line]) -> str:
    suffix = path.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    first = lines[0][1] if lines else ""
    if first.startswith("{") and first.rstrip().endswith("}"):
        return "manifest"
    if first.startswith("%WER"):
        return "speechbrain"
    if _ICEFALL_LINE.fullmatch(first):
        return "icefall"
    return "kaldi"


def _read_manifest(
    path: Path, rows: Iterable[tuple[int, dict[str, Any]]], role: Role
) -> TranscriptFile:
    key = "text" if role == "reference" else "pred_text"
    texts: dict[str, str | Alternates] = {}
    speakers: dict[str, str] = {}
    columns = {}
    ids = UniqueIds(path)
    for number, row in rows:
        where = f"{path}:{number}"
        utterance_id = _manifest_id(row, where)
        ids.add(utterance_id, number)
        columns[utterance_id] = row
        text = manifest.text_value(row, key, where)
        if text is not None:
            texts[utterance_id] = text
        elif role == "reference":
            raise DataError(f"{where}: key text is missing")
        speaker = manifest.text_value(row, "speaker", where)
        if speaker:
            speakers[utterance_id] = speaker
    if columns and not texts:
        raise DataError(f"{path}: no line has the key pred_text, the hypothesis")
    return TranscriptFile(
        path=path, format="manifest", texts=texts, speakers=speakers, columns=columns
    )


def _manifest_id(row: dict[str, Any], where: str) -> str:
    utterance_id = manifest.text_value(row, "id", where)
    if utterance_id:
        return utterance_id
    audio = manifest.text_value(row, "audio_filepath", where)
    if not audio:
        raise DataError(f"{where}: neither id nor audio_filepath is there")
    return manifest.id_of_path(audio)


def _read_kaldi(path: Path, lines: list[Line], role: Role) -> TranscriptFile:  # noqa: ARG001
    texts: dict[str, str | Alternates] = {}
    ids = UniqueIds(path)
    for number, line in lines:
        utterance_id, *rest = re.split(r"[ \t]+", line.strip(" \t"), maxsplit=1)
        ids.add(utterance_id, number)
        texts[utterance_id] = rest[0] if rest else ""
    return TranscriptFile(path=path, format="kaldi", texts=texts)


def _read_trn(path: Path, lines: list[Line], role: Role) -> TranscriptFile:  # noqa: ARG001
    texts: dict[str, str | Alternates] = {}
    ids = UniqueIds(path)
    for number, line in lines:
        where = f"{path}:{number}"
        if line.startswith(";;"):
            continue
        text, parenthesis, rest = line.rstrip().rpartition("(")
        utterance_id = rest.removesuffix(")").strip()
        if not parenthesis or not rest.endswith(")") or not utterance_id:
            raise DataError(f"{where}: `words (utterance-id)` is expected: {quoted(line)}")
        if re.search(r"\s", utterance_id):
            raise DataError(f"{where}: the id {utterance_id!r} has white space in it")
        ids.add(utterance_id, number)
        texts[utterance_id] = alternates.parse_alternates(text, where)
    return TranscriptFile(path=path, format="trn", texts=texts)


def _read_icefall(path: Path, lines: list[Line], role: Role) -> TranscriptFile:
    wanted = "ref" if role == "reference" else "hyp"
    texts: dict[str, str | Alternates] = {}
    ids = UniqueIds(path)
    for number, line in lines:
        where = f"{path}:{number}"
        match = _ICEFALL_LINE.fullmatch(line)
        if not match:
            raise DataError(f"{where}: `id:<TAB>ref=[...]` or `hyp=` is expected: {quoted(line)}")
        if match["kind"] != wanted:
            continue
        utterance_id = match["id"].strip()
        ids.add(utterance_id, number)
        texts[utterance_id] = " ".join(_word_list(match["words"], where))
    return TranscriptFile(path=path, format="icefall", texts=texts)


def _word_list(literal: str, where: str) -> list[str]:
    """A Python list of words, or the words themselves, as recipes differ."""
    if not literal.startswith("["):
        return literal.split()
    try:
        words = ast.literal_eval(literal)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise DataError(f"{where}: not a list of words: {quoted(literal)}") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise DataError(f"{where}: not a list of words: {quoted(literal)}")
    text_lines.refuse_surrogates("".join(words), where)
    return words


def _read_speechbrain(path: Path, lines: list[Line], role: Role) -> TranscriptFile:
    texts: dict[str, str | Alternates] = {}
    ids = UniqueIds(path)
    by_number = dict(lines)  # blank lines, of which an utterance may have three, are not among them
    for number, line in lines:
        header = _SPEECHBRAIN_HEADER.fullmatch(line)
        if not header:
            continue
        rows = [by_number.get(number + place, "") for place in (1, 3)]
        length = int(header["length"])
        expected = (length, length - int(header["deletions"]) + int(header["insertions"]))
        said = [_speechbrain_words(row, count) for row, count in zip(rows, expected, strict=True)]
        if tuple(map(len, said)) != expected:
            raise DataError(
                f"{path}:{number}: an alignment of {expected[0]} reference words and "
                f"{expected[1]} of the hypothesis does not follow"
            )
        ids.add(header["id"], number)
        texts[header["id"]] = " ".join(filter(None, said[0 if role == "reference" else 1]))
    if not texts:
        raise DataError(f"{path}: a summary without alignments; the texts are not in it")
    return TranscriptFile(path=path, format="speechbrain", texts=texts)


def _speechbrain_words(row: str, count: int) -> list[str]:
    """The words of a row; an empty hypothesis may be one word without letters there."""
    if not count and not row.strip():
        return []
    words = (word.strip() for word in f" {row} ".split(" ; "))
    return [word for word in words if word != "<eps>"]


def _read_stm(path: Path, lines: list[Line], role: Role) -> TranscriptFile:
    segments = nist.parse_stm(lines, path, alternates=role == "reference")
    scored = [segment for segment in segments if not segment.ignored]
    return TranscriptFile(
        path=path,
        format="stm",
        texts={segment.id: segment.text for segment in scored},
        speakers={segment.id: segment.speaker for segment in scored},
        columns={
            segment.id: {
                "duration": segment.end - segment.begin,
                **({"labels": segment.labels} if segment.labels else {}),
            }
            for segment in scored
        },
        segments=tuple(segments),
    )


def _read_ctm(path: Path, lines: list[Line], role: Role) -> TranscriptFile:
    if role == "reference":
        raise DataError(f"{path}: a .ctm has no utterances to score; references are a .stm")
    all_words = nist.parse_ctm(lines, path)
    words = tuple(word for word in all_words if word.type in (None, "lex"))
    others = len(all_words) - len(words)
    texts: dict[str, str | Alternates] = {}
    if len({(word.recording, word.channel) for word in words}) == len({w.recording for w in words}):
        texts |= nist.words_by_recording(words, path)
    notes = (f"{others} tokens of another type than lex left out",) if others else ()
    return TranscriptFile(path=path, format="ctm", texts=texts, words=words, notes=notes)


_READERS: dict[str, Callable[[Path, list[Line], Role], TranscriptFile]] = {
    "kaldi": _read_kaldi,
    "trn": _read_trn,
    "stm": _read_stm,
    "ctm": _read_ctm,
    "icefall": _read_icefall,
    "speechbrain": _read_speechbrain,
}
_SUFFIXES = {
    ".trn": "trn",
    ".stm": "stm",
    ".ctm": "ctm",
}
