"""Praat's TextGrid files: intervals of recordings, in tiers.

Source:
    Praat's manual, "TextGrid file formats": the long and the short text form are one stream of
    values; whatever else stands between them is a comment. The chronological form has the tiers
    first, and then what begins in any of them, in order of time.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from asr.corpus.formats.marks import (
    MarkedStretch,
    annotation_files,
    choose_tiers,
    group_by_recording,
    group_by_speaker,
    utterances_of,
)
from asr.corpus.manifest import Utterance
from asr.corpus.recordings import audio_beside
from asr.errors import DataError
from asr.files import open_atomic, read_file
from asr.folders import claim_names
from asr.progress import Report
from asr.text import quoted

_TEXTGRID_TOKEN = re.compile(
    r'"(?P<text>(?:[^"]|"")*)"(?=\s|$)'
    r"|(?<!\S)(?P<number>-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]{1,3})?)(?=\s|$)"
    r"|(?<!\S)(?P<flag><exists>|<absent>)(?=\s|$)"
    r"|(?P<open>\")"
    r"|(?<!\S)![^\n]*"
)

_CHRONOLOGICAL = "Praat chronological TextGrid text file"
_NO_LATIN = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f-\x9f]")


def read_textgrid(path: Path, report: Report, tiers: Sequence[str] = ()) -> Iterator[Utterance]:
    """The labelled intervals of a TextGrid, or of all those in a folder and its folders.

    A tier is a speaker, as Montreal Forced Aligner has it, unless `tiers` names those to read.

    Raises:
        DataError: not a TextGrid, no such tier, tiers of an aligner's words and phones without
            `tiers`, or no audio beside it; with file and tier.
    """
    for file in annotation_files(path, ".textgrid"):
        yield from utterances_of(
            file, _textgrid(file, tiers, report), audio_beside(file, str(file))
        )


def write_textgrid(utterances: Iterable[Utterance], folder: Path, report: Report) -> None:
    """Write `<recording>.TextGrid` for each recording, with a tier for each speaker.

    Raises:
        DataError: a text that is empty, speech of one speaker that overlaps, or two recordings of
            one name.
    """
    del report
    recordings = group_by_recording(utterances)
    claim_names(folder, [f"{stem}.TextGrid" for stem in recordings])
    for stem, stretches in recordings.items():
        text = textgrid_text(group_by_speaker(stretches), stretches[0].recording.duration)
        with open_atomic(folder / f"{stem}.TextGrid") as file:
            file.write(text)


def textgrid_text(tiers: Mapping[str, Sequence[Utterance]], duration: float) -> str:
    """A TextGrid in the long text form.

    Args:
        tiers: by name, of each the labelled intervals in order.
        duration: seconds of the recording.

    Raises:
        DataError: an interval begins before the one before it has ended.
    """
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += [f"xmin = 0\nxmax = {duration:.6f}\ntiers? <exists>"]
    lines += [f"size = {len(tiers)}", "item []:"]
    for number, (name, spoken) in enumerate(tiers.items(), start=1):
        intervals = list(_with_gaps(spoken, duration))
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f"        name = {_textgrid_text(name)}",
            f"        xmin = 0\n        xmax = {duration:.6f}",
            f"        intervals: size = {len(intervals)}",
        ]
        for place, (begin, end, text) in enumerate(intervals, start=1):
            lines += [
                f"        intervals [{place}]:",
                f"            xmin = {begin:.6f}\n            xmax = {end:.6f}",
                f"            text = {_textgrid_text(text)}",
            ]
    return "\n".join(lines) + "\n"


def _read_encoded(path: Path, report: Report) -> str:
    """A text in UTF-8, in UTF-16 with a byte order mark, or in ISO 8859-1, as Praat writes it.

    Raises:
        DataError: unreadable, or none of these.
    """
    try:
        content = read_file(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-16" or _NO_LATIN.search(content):
            raise DataError(f"{path}: neither UTF-8 nor UTF-16 (byte {error.start})") from error
        report(f"{path}: not UTF-8, and read as ISO 8859-1")
        return content.decode("iso-8859-1")


def _textgrid(path: Path, tiers: Sequence[str], report: Report) -> list[MarkedStretch]:
    """The labelled intervals of the tiers; both of Praat's text forms read alike."""
    reader = _TextGridReader(path, report)
    first = reader.text()
    if first == _CHRONOLOGICAL:
        return _chronological(reader, tiers, report)
    if (first, reader.text()) != ("ooTextFile", "TextGrid"):
        raise DataError(f"{path}:1: not a TextGrid in text form")
    reader.number()
    reader.number()
    if reader.flag() == "<absent>":
        return []
    marks: list[MarkedStretch] = []
    names = []
    for _ in range(reader.count()):
        kind, name = reader.text(), reader.text()
        reader.number()
        reader.number()
        count = reader.count()
        if kind == "TextTier":
            for _ in range(count):
                reader.number()
                reader.text()
            report(f"{path}: tier {name!r} holds points, not intervals: left out")
            continue
        if kind != "IntervalTier":
            raise DataError(f"{reader.where}: {kind!r} is no kind of tier")
        names.append(name)
        for _ in range(count):
            marks += _interval(reader, name, tiers)
    choose_tiers(names, tiers, path)
    return marks


def _chronological(
    reader: "_TextGridReader", tiers: Sequence[str], report: Report
) -> list[MarkedStretch]:
    reader.number()
    reader.number()
    kinds = []
    for _ in range(reader.count()):
        kinds.append((reader.text(), reader.text()))
        reader.number()
        reader.number()
        if kinds[-1][0] == "TextTier":
            report(f"{reader.path}: tier {kinds[-1][1]!r} holds points, not intervals: left out")
        elif kinds[-1][0] != "IntervalTier":
            raise DataError(f"{reader.where}: {kinds[-1][0]!r} is no kind of tier")
    marks: list[MarkedStretch] = []
    while not reader.is_at_end:
        number = reader.count()
        if not 1 <= number <= len(kinds):
            raise DataError(f"{reader.where}: there is no tier {number}")
        kind, name = kinds[number - 1]
        if kind == "TextTier":
            reader.number()
            reader.text()
        else:
            marks += _interval(reader, name, tiers)
    choose_tiers([name for kind, name in kinds if kind == "IntervalTier"], tiers, reader.path)
    return marks


def _interval(
    reader: "_TextGridReader", name: str, tiers: Sequence[str]
) -> Iterator[MarkedStretch]:
    """The next interval of a tier, if it has a label and the tier is wanted."""
    begin, end = reader.number(), reader.number()
    text = " ".join(reader.text().split())
    if not text or (tiers and name not in tiers):
        return
    if not 0 <= begin < end:
        raise DataError(f"{reader.where}: the interval is from {begin:g} to {end:g} s")
    yield MarkedStretch(tier=name, begin=begin, end=end, text=text, line=reader.line)


class _TextGridReader:
    """The values of a TextGrid one by one; the words around them mean nothing, as in Praat."""

    def __init__(self, path: Path, report: Report) -> None:
        self.path = path
        self._content = _read_encoded(path, report)
        self._tokens = _TEXTGRID_TOKEN.finditer(self._content)
        self._start = 0
        self._waiting: re.Match[str] | None = None
        self.line = 1
        """Of the value that was read last."""

    @property
    def where(self) -> str:
        """File and line of the value that was read last."""
        return f"{self.path}:{self.line}"

    def text(self) -> str:
        """The next value, which is to be text."""
        return self._next("text").replace('""', '"')

    def number(self) -> float:
        """The next value, which is to be a number."""
        value = float(self._next("number"))
        if not abs(value) < 1e9:
            raise DataError(f"{self.where}: {value:g} is not a time in seconds")
        return value

    def count(self) -> int:
        """The next value, which is to be a number of things."""
        value = self._next("number")
        if not value.isdecimal() or len(value) > 9:
            raise DataError(f"{self.where}: {value} is not a number of tiers or intervals")
        return int(value)

    def flag(self) -> str:
        """The next value, which is to be a flag."""
        return self._next("flag")

    @property
    def is_at_end(self) -> bool:
        """Whether no value follows."""
        self._waiting = self._waiting or next((m for m in self._tokens if m.lastgroup), None)
        return self._waiting is None

    def _next(self, kind: str) -> str:
        for match in self._values():
            self.line += self._content.count("\n", self._start, match.start())
            self._start = match.start()
            if match.lastgroup != kind:
                value = quoted(match[0])
                raise DataError(f"{self.where}: a {kind} is expected, found {value}")
            return match[kind]
        raise DataError(f"{self.path}: ends where a {kind} is expected")

    def _values(self) -> "Iterator[re.Match[str]]":
        if self._waiting is not None:
            match, self._waiting = self._waiting, None
            yield match
        yield from (match for match in self._tokens if match.lastgroup)


def _textgrid_text(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _with_gaps(
    utterances: Sequence[Utterance], duration: float
) -> Iterator[tuple[float, float, str]]:
    """Intervals that cover all of a tier, the gaps without label."""
    position = 0.0
    for utterance in utterances:
        begin, end = utterance.offset, min(duration, utterance.offset + utterance.duration)
        if begin < position - 1e-6:
            raise DataError(f"utterance {utterance.id} begins before the one before it has ended")
        if begin > position + 1e-6:
            yield position, begin, ""
        yield max(begin, position), end, str(utterance.text)
        position = end
    if position < duration - 1e-6:
        yield position, duration, ""
