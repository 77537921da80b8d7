"""Readers of transcript files, the references' and the hypotheses', of many systems' formats.

What a file is, its name says (`.jsonl`, `.json`, `.trn`, `.stm`, `.ctm`) or else its first line;
`docs/formats.md` describes each. Lines end in LF or CR LF, text is UTF-8, and a line that cannot
be read is an error that names file and line: nothing is dropped.
"""

import ast
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from asr.alternates import Alternates, parse_alternates
from asr.errors import DataError

Role = Literal["reference", "hypothesis"]
Line = tuple[int, str]
"""Number, from 1, and text without its end."""

_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_ICEFALL_LINE = re.compile(
    r"(?P<id>.*\S):\t(?P<kind>ref|hyp|timestamp_ref|timestamp_hyp)=(?P<words>.*)"
)
_SPEECHBRAIN_HEADER = re.compile(
    r"(?P<id>.*), %WER \S+ \[ \d+ / (?P<length>\d+), \d+ ins, (?P<deletions>\d+) del, \d+ sub \]"
)
_SPEECHBRAIN_RULE = "=" * 80


@dataclass(frozen=True, kw_only=True, slots=True)
class TranscriptFile:
    """The texts of a file by utterance id, in its order."""

    path: Path
    format: str
    texts: dict[str, str | Alternates]
    speakers: dict[str, str] = field(default_factory=dict)
    """By utterance id, where the file says."""
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    """A manifest's objects by utterance id."""


def read_transcripts(path: Path, role: Role) -> TranscriptFile:
    """Read a file of references or of hypotheses.

    A file with both, as a manifest with `text` and `pred_text`, gives those of `role`.

    Raises:
        DataError: unreadable, a malformed line, an id that occurs twice, or a `.ctm` as references.
    """
    lines = _read_lines(path)
    format_name = _format(path, lines)
    return _READERS[format_name](path, lines, role)


def plain_texts(transcripts: TranscriptFile) -> dict[str, str]:
    """The texts of hypotheses, which have no alternates."""
    return {
        utterance_id: text
        for utterance_id, text in transcripts.texts.items()
        if isinstance(text, str)
    }


def read_utt2spk(path: Path) -> dict[str, str]:
    """Speaker by utterance id.

    Raises:
        DataError: unreadable, a line without exactly two fields, or an id that occurs twice.
    """
    speakers: dict[str, str] = {}
    seen = _Seen(path)
    for number, line in _filled(_read_lines(path)):
        fields = line.split()
        if len(fields) != 2:
            raise DataError(
                f"{path}:{number}: `<utterance-id> <speaker>` is expected: {_cut(line)}"
            )
        seen.add(fields[0], number)
        speakers[fields[0]] = fields[1]
    return speakers


class _Seen:
    """Ids of a file, each allowed once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first_line: dict[str, int] = {}

    def add(self, utterance_id: str, number: int) -> None:
        earlier = self.first_line.setdefault(utterance_id, number)
        if earlier != number:
            raise DataError(
                f"{self.path}:{number}: id {utterance_id} stands in line {earlier} already"
            )


def _read_lines(path: Path) -> list[Line]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    encoding = _BOMS.get(content[:2])
    if encoding or b"\0" in content:
        encoding = encoding or "UTF-16LE"
        number = 1 if encoding == "UTF-16" else content[: content.index(b"\0")].count(b"\n") + 1
        raise DataError(f"{path}:{number}: not UTF-8; {_how_to_convert(path, encoding)}")
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [
        (number, _decode(line.removesuffix(b"\r"), path, number))
        for number, line in enumerate(lines, start=1)
    ]


def _decode(line: bytes, path: Path, number: int) -> str:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{number}: not UTF-8 (byte {error.start + 1} of the line); "
            f"{_how_to_convert(path, 'ISO-8859-1')}, with its own encoding's name"
        ) from error
    if "\r" in text:
        raise DataError(
            f"{path}:{number}: a carriage return inside a line; end lines in a line feed"
        )
    return text


def _how_to_convert(path: Path, encoding: str) -> str:
    return f"convert it: iconv -f {encoding} -t UTF-8 {path.name} > new-file"


def _filled(lines: Iterable[Line]) -> Iterator[Line]:
    return ((number, line) for number, line in lines if line.strip())


def _cut(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:57] + "...")


def _format(path: Path, lines: list[Line]) -> str:
    suffix = path.suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    first = next((line for _, line in _filled(lines)), "")
    if first.startswith("{") and first.rstrip().endswith("}"):
        return "manifest"
    if first.startswith("%WER"):
        return "speechbrain"
    if _ICEFALL_LINE.fullmatch(first):
        return "icefall"
    return "kaldi"


def _read_manifest(path: Path, lines: list[Line], role: Role) -> TranscriptFile:
    key = "text" if role == "reference" else "pred_text"
    texts: dict[str, str | Alternates] = {}
    speakers: dict[str, str] = {}
    rows = {}
    seen = _Seen(path)
    for number, line in _filled(lines):
        where = f"{path}:{number}"
        row = _json_object(line, where)
        utterance_id = _manifest_id(row, where)
        seen.add(utterance_id, number)
        rows[utterance_id] = row
        text = _string(row, key, where)
        if text is not None:
            texts[utterance_id] = text
        elif role == "reference":
            raise DataError(f"{where}: key text is missing")
        speaker = _string(row, "speaker", where)
        if speaker:
            speakers[utterance_id] = speaker
    if rows and not texts:
        raise DataError(f"{path}: no line has the key pred_text, the hypothesis")
    return TranscriptFile(path=path, format="manifest", texts=texts, speakers=speakers, rows=rows)


def _json_object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: a JSON object is expected")
    return row


def _manifest_id(row: dict[str, Any], where: str) -> str:
    utterance_id = _string(row, "id", where)
    if utterance_id:
        return utterance_id
    audio = _string(row, "audio_filepath", where)
    if not audio:
        raise DataError(f"{where}: neither id nor audio_filepath is there")
    return str(Path(audio).with_suffix("")) if Path(audio).name else audio


def _string(row: dict[str, Any], key: str, where: str) -> str | None:
    value = row.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise DataError(f"{where}: {key} is not text: {_cut(str(value))}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: {key} has half of a surrogate pair") from error
    return value


def _read_kaldi(path: Path, lines: list[Line], role: Role) -> TranscriptFile:  # noqa: ARG001
    texts: dict[str, str | Alternates] = {}
    seen = _Seen(path)
    for number, line in _filled(lines):
        utterance_id, *rest = re.split(r"[ \t]+", line.strip(" \t"), maxsplit=1)
        seen.add(utterance_id, number)
        texts[utterance_id] = rest[0] if rest else ""
    return TranscriptFile(path=path, format="kaldi", texts=texts)


def _read_trn(path: Path, lines: list[Line], role: Role) -> TranscriptFile:
    texts: dict[str, str | Alternates] = {}
    seen = _Seen(path)
    for number, line in _filled(lines):
        where = f"{path}:{number}"
        if line.startswith(";;"):
            continue
        text, parenthesis, rest = line.rstrip().rpartition("(")
        utterance_id = rest.removesuffix(")").strip()
        if not parenthesis or not rest.endswith(")") or not utterance_id:
            raise DataError(f"{where}: `words (utterance-id)` is expected: {_cut(line)}")
        if re.search(r"\s", utterance_id):
            raise DataError(f"{where}: the id {utterance_id!r} has white space in it")
        seen.add(utterance_id, number)
        texts[utterance_id] = _marked_text(text, role, where)
    return TranscriptFile(path=path, format="trn", texts=texts)


def _marked_text(text: str, role: Role, where: str) -> str | Alternates:
    marked = parse_alternates(text, where)
    if role == "hypothesis" and not isinstance(marked, str):
        raise DataError(f"{where}: alternates {{ a / b }} belong into references")
    return marked


def _read_icefall(path: Path, lines: list[Line], role: Role) -> TranscriptFile:
    wanted = "ref" if role == "reference" else "hyp"
    texts: dict[str, str | Alternates] = {}
    seen = _Seen(path)
    for number, line in _filled(lines):
        where = f"{path}:{number}"
        match = _ICEFALL_LINE.fullmatch(line)
        if not match:
            raise DataError(f"{where}: `id:<TAB>ref=[...]` or `hyp=` is expected: {_cut(line)}")
        if match["kind"] != wanted:
            continue
        utterance_id = match["id"].strip()
        seen.add(utterance_id, number)
        texts[utterance_id] = " ".join(_word_list(match["words"], where))
    return TranscriptFile(path=path, format="icefall", texts=texts)


def _word_list(literal: str, where: str) -> list[str]:
    """A Python list of words, or the words themselves, as recipes differ."""
    if not literal.startswith("["):
        return literal.split()
    try:
        words = ast.literal_eval(literal)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise DataError(f"{where}: not a list of words: {_cut(literal)}") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise DataError(f"{where}: not a list of words: {_cut(literal)}")
    return [_string({"word": word}, "word", where) or "" for word in words]


def _read_speechbrain(path: Path, lines: list[Line], role: Role) -> TranscriptFile:
    texts: dict[str, str | Alternates] = {}
    seen = _Seen(path)
    for index, (number, line) in enumerate(lines):
        match = _SPEECHBRAIN_HEADER.fullmatch(line)
        if not match:
            continue
        where = f"{path}:{number}"
        rows = [text for _, text in lines[index + 1 : index + 4]]
        if len(rows) < 3:
            raise DataError(f"{where}: the three lines of the alignment are missing")
        reference, hypothesis = (
            [word for word in (part.strip() for part in row.split(" ; ")) if word != "<eps>"]
            for row in (rows[0], rows[2])
        )
        reference, hypothesis = ([w for w in words if w] for words in (reference, hypothesis))
        if len(reference) != int(match["length"]):
            raise DataError(
                f"{where}: {match['length']} reference words are announced, "
                f"{len(reference)} are there"
            )
        seen.add(match["id"], number)
        texts[match["id"]] = " ".join(reference if role == "reference" else hypothesis)
    if not texts:
        raise DataError(f"{path}: no alignments are in it, only a summary")
    return TranscriptFile(path=path, format="speechbrain", texts=texts)


_READERS: dict[str, Callable[[Path, list[Line], Role], TranscriptFile]] = {
    "manifest": _read_manifest,
    "kaldi": _read_kaldi,
    "trn": _read_trn,
    "icefall": _read_icefall,
    "speechbrain": _read_speechbrain,
}
_SUFFIXES = {".jsonl": "manifest", ".json": "manifest", ".trn": "trn"}
