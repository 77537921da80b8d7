"""ELAN's annotation files (.eaf): XML, in which a tier has annotations between time slots.

A document type is refused, so that no entity is ever expanded and nothing else is read.

Source:
    the EAF 3.0 schema, mpi.nl/tools/elan/EAFv3.0.xsd.
"""

import xml.parsers.expat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape, quoteattr

from asr.corpus.formats.marks import (
    MarkedStretch,
    annotation_files,
    choose_tiers,
    group_by_recording,
    group_by_speaker,
    utterances_of,
)
from asr.corpus.manifest import Utterance
from asr.corpus.recordings import AUDIO_SUFFIXES, audio_beside, is_there
from asr.errors import DataError
from asr.files import open_atomic, read_file
from asr.folders import claim_names
from asr.progress import Report

_NOBODY = "default"  # ELAN's name for a first tier
_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="1970-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0" \
xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
"""
_TAIL = """    <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" \
TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
"""


@dataclass(kw_only=True, slots=True)
class _Annotation:
    tier: str
    speaker: str
    slots: tuple[str, str]
    line: int
    text: str = ""


class _Document:
    """What is read of a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.media: list[str] = []
        self.slots: dict[str, float | None] = {}
        """Seconds by time slot; none where it has no time."""
        self.tiers: list[str] = []
        self.annotations: list[_Annotation] = []
        self.num_dependent = 0
        self._speaker = ""
        self._open: _Annotation | None = None  # whose value is being read
        self._in_value = False
        self._parser = xml.parsers.expat.ParserCreate()
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        try:
            self._parser.Parse(read_file(path), True)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from error
        except xml.parsers.expat.ExpatError as error:
            raise DataError(f"{path}:{error.lineno}: not XML: {error}") from error
        except LookupError as error:  # the encoding that it states
            raise DataError(f"{path}:1: not XML: {error}") from error

    def fill_slots(self) -> None:
        """Give slots without a time one: those of a tier divide the time between others evenly.

        ELAN leaves them out where a tier only divides the annotations of another.
        """
        chain: list[str] = []
        tier = ""
        for annotation in self.annotations:
            first, last = annotation.slots
            if annotation.tier != tier or not chain or chain[-1] != first:
                tier, chain = annotation.tier, [first]
            chain.append(last)
            begin, end = self.slots.get(chain[0]), self.slots.get(last)
            if begin is not None and end is not None:
                for place, slot in enumerate(chain[1:-1], start=1):
                    self.slots[slot] = begin + (end - begin) * place / (len(chain) - 1)
                chain = []

    @property
    def _where(self) -> str:
        return f"{self.path}:{self._parser.CurrentLineNumber}"

    def _refuse(self, *_: object) -> None:
        raise DataError(f"{self._where}: a document type; ELAN's files have none")

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "MEDIA_DESCRIPTOR":
            urls = (attributes.get(key) for key in ("MEDIA_URL", "RELATIVE_MEDIA_URL"))
            self.media += [url for url in urls if url]
        elif name == "TIME_SLOT":
            slot = self._attribute(attributes, "TIME_SLOT_ID")
            self.slots[slot] = self._seconds(attributes.get("TIME_VALUE"))
        elif name == "TIER":
            tier = self._attribute(attributes, "TIER_ID")
            self.tiers.append(tier)
            self._speaker = attributes.get("PARTICIPANT") or ("" if tier == _NOBODY else tier)
        elif name == "ALIGNABLE_ANNOTATION":
            if not self.tiers:
                raise DataError(f"{self._where}: an annotation outside of a tier")
            first, last = (self._attribute(attributes, f"TIME_SLOT_REF{n}") for n in (1, 2))
            self._open = _Annotation(
                tier=self.tiers[-1],
                speaker=self._speaker,
                slots=(first, last),
                line=self._parser.CurrentLineNumber,
            )
            self.annotations.append(self._open)
        elif name == "REF_ANNOTATION":
            self.num_dependent += 1
        elif name == "ANNOTATION_VALUE":
            self._in_value = True

    def _end(self, name: str) -> None:
        if name == "ALIGNABLE_ANNOTATION":
            self._open = None
        elif name == "ANNOTATION_VALUE":
            self._in_value = False

    def _characters(self, text: str) -> None:
        if self._open is not None and self._in_value:
            self._open.text += text

    def _attribute(self, attributes: Mapping[str, str], key: str) -> str:
        if not attributes.get(key):
            raise DataError(f"{self._where}: {key} is missing")
        return attributes[key]

    def _seconds(self, text: str | None) -> float | None:
        if text is None:
            return None
        if not (text.isascii() and text.isdecimal() and len(text) < 12):
            raise DataError(f"{self._where}: TIME_VALUE {text[:40]!r} is not milliseconds")
        return int(text) / 1000


def read_elan(path: Path, report: Report, tiers: Sequence[str] = ()) -> Iterator[Utterance]:
    """The annotations of an `.eaf`, or of all those in a folder and its folders.

    A tier's participant, or else its name, is the speaker. The audio is the file that the document
    names, where it is there, or the one beside it.

    Raises:
        DataError: not XML, a document type in it, a time slot that is missing or has no time, no
            such tier, or no audio; with file and line.
    """
    for file in annotation_files(path, ".eaf"):
        document = _Document(file)
        if document.num_dependent:
            report(f"{file}: {document.num_dependent} annotations that refer to others: left out")
        document.fill_slots()
        choose_tiers(document.tiers, tiers, file)
        marks = [
            mark
            for annotation in document.annotations
            if not tiers or annotation.tier in tiers
            if (mark := _mark(annotation, document, file)).text
        ]
        yield from utterances_of(file, marks, _audio(document, file))


def write_elan(utterances: Iterable[Utterance], folder: Path, report: Report) -> None:
    """Write `<recording>.eaf` for each recording, with a tier for each speaker.

    Raises:
        DataError: a text that is empty or no XML can hold, or two recordings of one name.
    """
    del report
    recordings = group_by_recording(utterances)
    claim_names(folder, [f"{stem}.eaf" for stem in recordings])
    for stem, stretches in recordings.items():
        text = elan_text(group_by_speaker(stretches), stretches[0].utterance.audio_filepath)
        with open_atomic(folder / f"{stem}.eaf") as file:
            file.write(text)


def elan_text(
    tiers: Mapping[str, Sequence[Utterance]], audio: Path, *, are_speakers: bool = True
) -> str:
    """An annotation document.

    Args:
        tiers: by name, of each the annotations in order.
        audio: that the document is of.
        are_speakers: whether tiers are named by who speaks.

    Raises:
        DataError: a text that is empty or no XML can hold.
    """
    times: list[int] = []
    written = []
    for number, (tier, spoken) in enumerate(tiers.items()):
        name = quoteattr(tier or _NOBODY)
        participant = f" PARTICIPANT={quoteattr(tier)}" if tier and are_speakers else ""
        written.append(f'    <TIER LINGUISTIC_TYPE_REF="default-lt"{participant} TIER_ID={name}>\n')
        for place, utterance in enumerate(spoken):
            end = utterance.offset + utterance.duration
            times += [round(1000 * utterance.offset), round(1000 * end)]
            slots = f"ts{len(times) - 1}", f"ts{len(times)}"
            written.append(
                "        <ANNOTATION>\n"
                f'            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number}-{place}" '
                f'TIME_SLOT_REF1="{slots[0]}" TIME_SLOT_REF2="{slots[1]}">\n'
                f"                <ANNOTATION_VALUE>{escape(str(utterance.text))}"
                "</ANNOTATION_VALUE>\n"
                "            </ALIGNABLE_ANNOTATION>\n"
                "        </ANNOTATION>\n"
            )
        written.append("    </TIER>\n")
    order = "".join(
        f'        <TIME_SLOT TIME_SLOT_ID="ts{number}" TIME_VALUE="{time}"/>\n'
        for number, time in enumerate(times, start=1)
    )
    header = (
        '    <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">\n'
        f"        <MEDIA_DESCRIPTOR MEDIA_URL={quoteattr(audio.absolute().as_uri())} "
        'MIME_TYPE="audio/x-wav"/>\n    </HEADER>\n'
    )
    return "".join(
        [_HEAD, header, f"    <TIME_ORDER>\n{order}    </TIME_ORDER>\n", *written, _TAIL]
    )


def _mark(annotation: _Annotation, document: _Document, path: Path) -> MarkedStretch:
    times = []
    for slot in annotation.slots:
        seconds = document.slots.get(slot)
        if seconds is None:
            raise DataError(f"{path}:{annotation.line}: time slot {slot} has no time")
        times.append(seconds)
    begin, end = times
    if not begin < end:
        raise DataError(f"{path}:{annotation.line}: the annotation is from {begin} to {end} s")
    return MarkedStretch(
        tier=annotation.speaker,
        begin=begin,
        end=end,
        text=" ".join(annotation.text.split()),
        line=annotation.line,
    )


def _audio(document: _Document, path: Path) -> Path:
    for url in document.media:
        try:
            name = unquote(urlsplit(url).path)
        except ValueError:
            continue
        audio = path.parent / name
        if audio.suffix.lower() in AUDIO_SUFFIXES and is_there(audio):
            return audio
    return audio_beside(path, str(path))
