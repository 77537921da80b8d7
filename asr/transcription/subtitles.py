"""Subtitles as texts with times: SubRip and WebVTT."""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from asr.errors import DataError
from asr.text import quoted

SUFFIXES = (".srt", ".vtt")
_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{1,3})"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
_TAG = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")
_SOUNDS = re.compile(r"\[[^\[\]]*\]|[♪♫]")
_OVERLAP_SECONDS = 0.25


@dataclass(frozen=True, kw_only=True, slots=True)
class Subtitle:
    """What is shown at once."""

    start: float
    """Seconds."""
    end: float
    text: str
    line: int
    """Of the file, from 1."""


def has_subtitles(content: str) -> bool:
    """Whether a text is that of a file with subtitles."""
    return any(_TIMES.fullmatch(line) for line in content.splitlines() if "-->" in line)


def parse_subtitles(content: str, name: str) -> list[Subtitle]:
    """Subtitles in the order of their times; tags, and sounds in brackets, are left out.

    Args:
        name: of the recording, for errors.

    Raises:
        DataError: one ends before it begins.
    """
    return sorted(_blocks(content, name), key=lambda subtitle: subtitle.start)


def overlapping(subtitles: Sequence[Subtitle]) -> set[int]:
    """Which of the subtitles, in order, are shown together with another one for a while."""
    places: set[int] = set()
    latest, end = -1, -1.0
    for place, subtitle in enumerate(subtitles):
        if latest >= 0 and subtitle.start < end - _OVERLAP_SECONDS:
            places |= {latest, place}
        if subtitle.end > end:
            latest, end = place, subtitle.end
    return places


def _blocks(content: str, name: str) -> Iterator[Subtitle]:
    lines = content.splitlines()
    heads = [(n, match) for n, line in enumerate(lines) if (match := _TIMES.fullmatch(line))]
    for number, (first, match) in enumerate(heads):
        start, end = _seconds(match.groups()[:4]), _seconds(match.groups()[4:])
        if end < start:
            raise DataError(
                f"{name}: line {first + 1} of its subtitles ends before it begins: "
                f"{quoted(lines[first].strip())}"
            )
        following = heads[number + 1][0] if number + 1 < len(heads) else len(lines)
        rows = []
        for line in lines[first + 1 : following]:
            if not line.strip():
                break
            rows.append(line)
        text = _SOUNDS.sub(" ", html.unescape(_TAG.sub(" ", " ".join(rows))))
        yield Subtitle(start=start, end=end, text=" ".join(text.split()), line=first + 1)


def _seconds(parts: Sequence[str | None]) -> float:
    hours, minutes, seconds, fraction = (part or "0" for part in parts)
    return 3600 * int(hours) + 60 * int(minutes) + int(seconds) + float(f"0.{fraction}")
