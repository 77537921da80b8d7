"""NIST's files with times: `.stm` references, `.ctm` hypotheses, and the words put into segments.

A word belongs to the segment of its file and channel that its middle lies in; between segments, to
the one that follows, as in sclite, or to the nearest one. So a word spoken where no reference is
counts as an insertion. Of segments that overlap, as where two people speak on a channel, it belongs
to the first that has not ended. Words inside IGNORE_TIME_SEGMENT_IN_SCORING are not scored.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from ctypes import c_float
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from asr.errors import DataError
from asr.text.alternates import Alternates, Delimiter, join_runs, parse_alternates
from asr.text.lines import Line, UniqueIds, parse_seconds, quoted

Gaps = Literal["following", "nearest"]
"""Where a word between segments belongs."""

IGNORED = "ignoretimesegmentinscoring"
"""With underscores or without."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StmSegment:
    """A line of a `.stm`."""

    recording: str
    channel: str
    speaker: str
    begin: float
    """Seconds."""
    end: float
    """Seconds."""
    labels: str | None
    """What stands between `<` and `>`."""
    text: str | Alternates
    line: int

    @property
    def id(self) -> str:
        """The utterance's id: recording, channel, and begin and end in milliseconds."""
        begin, end = round(1000 * self.begin), round(1000 * self.end)
        return f"{self.recording}-{self.channel}-{begin:07d}-{end:07d}"

    @property
    def ignored(self) -> bool:
        """Whether what is said in it is not scored."""
        return isinstance(self.text, str) and self.text.lower().replace("_", "") == IGNORED


@dataclass(frozen=True, kw_only=True, slots=True)
class TimedWord:
    """A line of a `.ctm`."""

    recording: str
    channel: str
    begin: float
    """Seconds."""
    duration: float
    """Seconds."""
    word: str | Alternates
    """One, or what stands from `<ALT_BEGIN>` to `<ALT_END>`, whose time is its last middle's."""
    line: int
    type: str | None = None
    """In the files of Rich Transcription: `lex` is a word; a laugh or a hesitation is not."""

    @property
    def middle(self) -> float:
        """The time of its middle, in seconds."""
        return self.begin + self.duration / 2


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentedWords:
    """The words of a `.ctm`, by segment."""

    texts: dict[str, str | Alternates]
    num_ignored: int
    """Words in segments that are not scored."""
    elsewhere: tuple[TimedWord, ...]
    """Words of files or channels that the references do not have."""


def parse_stm(lines: Sequence[Line], path: Path, *, alternates: bool) -> list[StmSegment]:
    """The segments of a `.stm`, the ignored ones among them, in the file's order.

    Raises:
        DataError: a malformed line, or a segment that occurs twice.
    """
    segments = []
    ids = UniqueIds(path)
    for number, line in lines:
        if line.startswith(";;"):
            continue
        segment = _segment(line, number, f"{path}:{number}", alternates)
        ids.add(segment.id, number)
        segments.append(segment)
    return segments


def overlapping_segments(segments: Sequence[StmSegment]) -> list[StmSegment]:
    """Those that begin before another one of their channel, which began no later, has ended."""
    ends: dict[tuple[str, str], float] = {}
    late = []
    for segment in sorted(segments, key=lambda segment: segment.begin):
        end = ends.get(_track(segment), 0.0)
        if segment.begin < end:
            late.append(segment)
        ends[_track(segment)] = max(end, segment.end)
    return late


def parse_ctm(lines: Sequence[Line], path: Path) -> list[TimedWord]:
    """The words of a `.ctm`, by recording, channel and time; what is no word left out.

    Raises:
        DataError: a malformed line, or marks of alternates that do not match.
    """
    words: list[TimedWord] = []
    group: list[TimedWord] | None = None
    for number, line in lines:
        if line.startswith(";;"):
            continue
        word = _timed_word(line, number, f"{path}:{number}")
        mark = word.word.upper() if isinstance(word.word, str) else ""
        if mark not in _MARKS:
            (words if group is None else group).append(word)
            continue
        if (mark == _BEGIN) is (group is not None):
            raise DataError(
                f"{path}:{number}: {mark} without its {_END if mark == _BEGIN else _BEGIN}"
            )
        group = [*(group or ()), word]
        if mark == _END:
            words.append(_alternate(group, f"{path}:{number}"))
            group = None
    if group is not None:
        raise DataError(f"{path}:{group[0].line}: {_BEGIN} without its {_END}")
    return sorted(words, key=lambda word: (word.recording, word.channel, word.begin))


_BEGIN, _ALT, _END = _MARKS = ("<ALT_BEGIN>", "<ALT>", "<ALT_END>")


def _timed_word(line: str, number: int, where: str) -> TimedWord:
    fields = line.split()
    if len(fields) not in (5, 6, 7, 8):
        raise DataError(
            f"{where}: `file channel begin duration word [confidence [type [speaker]]]` is "
            f"expected: {quoted(line)}"
        )
    recording, channel, begin, duration, word = fields[:5]
    is_mark = word.upper() in _MARKS  # has stars in the place of times
    return TimedWord(
        recording=recording,
        channel=channel,
        begin=0.0 if is_mark else parse_seconds(begin, where),
        duration=0.0 if is_mark else parse_seconds(duration, where),
        word=word,
        line=number,
        type=fields[6].lower() if len(fields) > 6 and not is_mark else None,
    )


def _alternate(group: Sequence[TimedWord], where: str) -> TimedWord:
    """What stands from a mark of beginning to one of end, as one word."""
    spoken = [word for word in group if str(word.word).upper() not in _MARKS]
    if not spoken:
        raise DataError(f"{where}: alternates without a word, and so without a time")
    last = max(spoken, key=lambda word: word.middle)
    tracks = {_track(word) for word in group}
    if len(tracks) > 1:
        raise DataError(f"{where}: alternates of two files or channels")
    marks = {_BEGIN: Delimiter.OPEN, _ALT: Delimiter.OR, _END: Delimiter.CLOSE}
    parts: list[str | Delimiter] = [""]
    for word in group:
        text = str(word.word)
        if text.upper() in marks:
            parts += [marks[text.upper()], ""]
        else:
            parts[-1] = f"{parts[-1]} {text}".strip()
    return replace(last, word=Alternates(tuple(parts)), type=None)


def words_by_recording(words: Sequence[TimedWord], path: Path) -> dict[str, str | Alternates]:
    """Each recording's words as one text.

    Raises:
        DataError: a recording with two channels.
    """
    channels: dict[str, str] = {}
    texts: dict[str, list[str | Alternates]] = {}
    for word in words:
        if channels.setdefault(word.recording, word.channel) != word.channel:
            raise DataError(
                f"{path}:{word.line}: {word.recording} has channel {word.channel} beside "
                f"{channels[word.recording]}; channels need a .stm as reference"
            )
        texts.setdefault(word.recording, []).append(word.word)
    return {recording: join_runs(spoken) for recording, spoken in texts.items()}


def put_into_segments(
    words: Sequence[TimedWord], segments: Sequence[StmSegment], gaps: Gaps = "following"
) -> SegmentedWords:
    """Give every word the segment that it was said in; a segment may stay without words.

    Args:
        words: in order of time.
        segments: in any order; of two that begin at once, the first of them comes first.
        gaps: where a word between segments belongs.
    """
    tracks: dict[tuple[str, str], _Channel] = {}
    for segment in sorted(segments, key=lambda segment: segment.begin):
        tracks.setdefault(_track(segment), _Channel()).add(segment)
    texts: dict[str, list[str | Alternates]] = {
        segment.id: [] for segment in segments if not segment.ignored
    }
    num_ignored = 0
    elsewhere = []
    for word in words:
        track = tracks.get(_track(word))
        if track is None:
            elsewhere.append(word)
            continue
        segment = track.take(word.middle, gaps)
        if segment.ignored:
            num_ignored += 1
        else:
            texts[segment.id].append(word.word)
    return SegmentedWords(
        texts={segment_id: join_runs(spoken) for segment_id, spoken in texts.items()},
        num_ignored=num_ignored,
        elsewhere=tuple(elsewhere),
    )


class _Channel:
    """A channel's segments, in order of time, which take its words one after the other."""

    def __init__(self) -> None:
        self.segments: list[StmSegment] = []
        self.ends: list[float] = []
        """Until when any of those so far lasts."""
        self.at = 0

    def add(self, segment: StmSegment) -> None:
        self.segments.append(segment)
        # In 32 bits, as sclite holds it: that decides where the middle of a word is an end.
        self.ends.append(max([c_float(segment.end).value, *self.ends[-1:]]))

    def take(self, time: float, gaps: Gaps) -> StmSegment:
        """The segment of a word: the first that has not ended; none goes back behind a word."""
        last = len(self.segments) - 1
        self.at = min(max(self.at, bisect_right(self.ends, time)), last)
        begin = self.segments[self.at].begin
        if gaps == "nearest" and self.at and begin > time:
            before = self.at - 1
            if time - self.ends[before] <= begin - time:
                return self.segments[bisect_left(self.ends, self.ends[before])]
        return self.segments[self.at]


def _track(part: StmSegment | TimedWord) -> tuple[str, str]:
    """Recording and channel, in whatever case each file writes them."""
    return part.recording.casefold(), part.channel.casefold()


def _segment(line: str, number: int, where: str, alternates: bool) -> StmSegment:
    fields = line.split(maxsplit=5)
    if len(fields) < 5:
        raise DataError(
            f"{where}: `file channel speaker begin end [<labels>] text` is expected: {quoted(line)}"
        )
    recording, channel, speaker, begin, end = fields[:5]
    text = fields[5].strip() if len(fields) > 5 else ""
    labels = None
    first, _, rest = text.partition(" ")
    if first.startswith("<") and first.endswith(">"):
        labels, text = first[1:-1], rest
    begin_seconds, end_seconds = parse_seconds(begin, where), parse_seconds(end, where)
    if end_seconds <= begin_seconds:
        raise DataError(f"{where}: the segment ends at {end}, before it begins at {begin}")
    return StmSegment(
        recording=recording,
        channel=channel,
        speaker=speaker,
        begin=begin_seconds,
        end=end_seconds,
        labels=labels,
        text=parse_alternates(text, where) if alternates else " ".join(text.split()),
        line=number,
    )
