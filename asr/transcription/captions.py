"""Captions: the words of a transcript in portions that can be read while they are spoken."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from asr.transcription.transcript import Word

LINE_LENGTH = 42  # characters
NUM_LINES = 2
MIN_SECONDS = 1.0
MAX_SECONDS = 7.0
_PAUSE = 0.6  # seconds of silence that end a caption


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """What is shown at once."""

    start: float
    """Seconds."""
    end: float
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        """The words in one line."""
        return " ".join(word.text for word in self.words)

    @property
    def lines(self) -> list[str]:
        """At most two lines of at most 42 characters."""
        return _lines(self.text)


def make_captions(words: Sequence[Word], duration: float) -> list[Caption]:
    """Captions in order, none overlapping, each shown for at least a second, none after the audio.

    A caption ends before a pause, or when it is full or has lasted seven seconds. Where the next
    one would come before its second is over, the next one waits; at the end of the audio captions
    come earlier. Where there are more captions than seconds, each has its share of the audio.

    Args:
        duration: seconds of the audio.
    """
    groups = list(_groups([piece for word in words for piece in _pieces(word)]))
    least = min(MIN_SECONDS, duration / max(1, len(groups)))
    captions: list[Caption] = []
    for group in groups:
        start = max(group[0].start, captions[-1].end) if captions else group[0].start
        end = max(group[-1].end, start + least)
        captions.append(Caption(start=start, end=end, words=tuple(group)))
    latest = duration
    for place, caption in reversed(list(enumerate(captions))):
        if caption.end <= latest:
            break
        start = max(0.0, min(caption.start, latest - least))
        captions[place] = replace(caption, start=start, end=latest)
        latest = start
    return captions


def _groups(words: Sequence[Word]) -> Iterator[list[Word]]:
    group: list[Word] = []
    for word in words:
        if group and _ends_before(word, group):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _ends_before(word: Word, group: Sequence[Word]) -> bool:
    text = " ".join(w.text for w in [*group, word])
    full = len(_lines(text)) > NUM_LINES or word.end - group[0].start > MAX_SECONDS
    pause = word.start - group[-1].end >= _PAUSE
    return full or (pause and word.start - group[0].start >= MIN_SECONDS)


def _pieces(word: Word) -> Iterator[Word]:
    """A word that no line holds in parts, as in languages without spaces; times in proportion."""
    count = len(word.text)
    seconds = (word.end - word.start) / max(1, count)
    for first in range(0, count, LINE_LENGTH):
        last = min(count, first + LINE_LENGTH)
        yield replace(
            word,
            text=word.text[first:last],
            start=word.start + first * seconds,
            end=word.start + last * seconds,
        )


def _lines(text: str) -> list[str]:
    return textwrap.wrap(text, LINE_LENGTH, break_on_hyphens=False)
