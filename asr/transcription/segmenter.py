"""Utterances for a corpus, out of long recordings and texts that are nearly theirs.

What `asr align --segment` does. Log-probabilities lie on the disk, so that memory hardly grows with
the length of a recording.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.corpus import Utterance, manifest
from asr.errors import AsrError, DataError, printable
from asr.files import open_atomic
from asr.text import quoted
from asr.transcription import results
from asr.transcription.anchors import Part, cut_at_anchors
from asr.transcription.heard import Heard, LogProbFile
from asr.transcription.matching import match
from asr.transcription.pauses import Quiet
from asr.transcription.pipeline import Watch
from asr.transcription.recognizer import Recognizer
from asr.transcription.sources import Source
from asr.transcription.spelling import Speller, TextWord
from asr.transcription.subtitles import (
    Subtitle,
    has_subtitles,
    overlapping,
    parse_subtitles,
)
from asr.transcription.utterances import Cut, Cutter, Rest

_USUAL_SHARE = 0.5  # of the words of a text that are heard
_LEAST_SHARE = 0.05  # with less it is another recording's
_LEFT_OUT_HEADER = "input\tbegin\tend\treason\ttext\n"
_PART_TOKENS = 400  # between two cuts by the times of subtitles
_GAP_SECONDS = 0.3  # between two subtitles that are cut


@dataclass(frozen=True, kw_only=True, slots=True)
class NewUtterance:
    """An utterance that was found."""

    utterance: Utterance
    """With the id of the recording's."""
    begin: int
    """Milliseconds from the start of the recording."""
    end: int
    score: float
    """0 to 1: how probable its worst words are, against what the network would rather hear."""
    doubtful: tuple[str, ...]
    """Words that are not heard, or heard otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """What is in no utterance."""

    start: float | None
    """Seconds from the start of the recording; none of words that are not heard."""
    end: float | None
    reason: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Segmentation:
    """What comes of a recording."""

    utterances: Sequence[NewUtterance]
    left_out: Sequence[LeftOut]
    duration: float
    """Seconds of the recording."""
    warnings: tuple[str, ...]


class NoUtteranceError(DataError):
    """There is nothing to write into a manifest."""


class NewManifest:
    """A manifest of new utterances and a list of what is left out, both whole or not there."""

    def __init__(self, path: Path, stems: Mapping[str, Path]):
        """Say where the manifest will be; the list is beside it.

        Args:
            stems: of each recording by its id, as `output_stems` gives them. An utterance's id is
                this, its begin and its end in milliseconds.
        """
        self.path, self._stems = path, stems
        self.left_out_path = results.path_of_list(path.parent, "left_out", _LEFT_OUT_HEADER)

    def write(self, outcomes: Iterable[tuple[Source, Segmentation]]) -> tuple[int, float]:
        """Write all that comes of some recordings; the number of utterances, and their seconds.

        Raises:
            NoUtteranceError: there is none.
        """
        folder = self.path.parent.absolute()
        count, seconds = 0, 0.0
        with manifest.open_rows(self.path) as rows, open_atomic(self.left_out_path) as lines:
            lines.write(_LEFT_OUT_HEADER)
            for source, outcome in outcomes:
                stem = self._stems[source.id].as_posix().replace("/", "-")
                for new in outcome.utterances:
                    name = f"{stem}-{new.begin:07d}-{new.end:07d}"
                    row = manifest.row_of(replace(new.utterance, id=name), folder)
                    row["score"] = round(new.score, 4)
                    if new.doubtful:
                        row["doubtful"] = list(new.doubtful)
                    manifest.write_row(rows, row)
                    count, seconds = count + 1, seconds + new.utterance.duration
                for left in outcome.left_out:
                    times = ["" if t is None else f"{t:.2f}" for t in (left.start, left.end)]
                    cells = [source.id, *times, left.reason, left.text]
                    lines.write("\t".join(map(printable, cells)) + "\n")
            if not count:
                raise NoUtteranceError(f"{self.path}: not written: there is no utterance in it")
        return count, seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class _Words:
    """The words of a text, all of them, and those that can be looked for as tokens."""

    words: Sequence[TextWord]
    tokens: NDArray[np.int64]
    """Of the words that can be spelled, with separators between, [token]."""
    owners: NDArray[np.int64]
    """The word of each token, [token]; -1 for separators."""
    subtitles: Sequence[tuple[Subtitle, int, int]]
    """With the first word of each and the one after its last."""
    num_together: int
    """Subtitles that overlap others, whose words are not looked for."""


class Segmenter:
    """Cuts long recordings into utterances, by a recognizer's network."""

    def __init__(self, recognizer: Recognizer, normalizer: str = "basic"):
        """Begin.

        Args:
            normalizer: what a word is written like that cannot be spelled as it stands.

        Raises:
            ConfigError: no such normalizer.
        """
        self._recognizer = recognizer
        self._speller = Speller(recognizer.tokens, normalizer)

    def segment(
        self, sources: Iterable[Source], *, watch: Watch | None = None
    ) -> Generator[tuple[Source, Segmentation | AsrError], None, None]:
        """What comes of each recording, or what it met; in order.

        A recording's text is its utterance's, as it was written, or the content of a file of
        subtitles.
        """
        for source in sources:
            try:
                yield source, self._segment(source, watch)
            except AsrError as error:
                yield source, error

    def _segment(self, source: Source, watch: Watch | None) -> Segmentation:
        if source.has_features:
            raise DataError(f"{source.id}: stored features have no pauses; give the audio")
        words = self._read(source)
        store = LogProbFile()
        try:
            (passage,) = self._recognizer.make_passages([source], store.put, watch)
            if passage.error is not None:
                raise passage.error
            separator = self._recognizer.tokens.separator_id
            heard = Heard(store, passage.parts, self._recognizer.step_seconds, separator)
            parts = self._parts(source, words, heard, passage.duration)
            matched = match(heard, words.tokens, words.owners, parts, len(words.words))
        finally:
            store.close()
        rate = self._recognizer.config.features.sample_rate
        with source.open(rate) as stream:
            quiet = Quiet(stream, rate)
        sizes = np.array([len(word.tokens) for word in words.words], np.int64)
        cutter = Cutter(matched, sizes, heard, quiet)
        cuts, rests = cutter.cut()
        spelled = max(1, int(np.count_nonzero(sizes)))
        if cutter.num_heard < _LEAST_SHARE * spelled or not cutter.num_heard:
            raise DataError(
                f"{source.id}: its text does not fit: of {spelled} words {cutter.num_heard} are "
                "heard; is it the text of this recording?"
            )
        return Segmentation(
            utterances=[_utterance(source, cut, words.words) for cut in cuts],
            left_out=[_left_out(rest, words.words) for rest in rests],
            duration=passage.duration,
            warnings=(*passage.warnings, *_warnings(source, words, cutter.num_heard / spelled)),
        )

    def _read(self, source: Source) -> _Words:
        """The words of a text."""
        text = source.utterance.text
        if text is None:
            raise DataError(f"{source.id}: no text")
        subtitles: list[tuple[Subtitle, int, int]] = []
        words: list[TextWord] = []
        if not has_subtitles(text):
            words = self._speller.spell(text)
        else:
            for subtitle in parse_subtitles(text, source.id):
                of_subtitle = self._speller.spell(subtitle.text)
                subtitles.append((subtitle, len(words), len(words) + len(of_subtitle)))
                words += of_subtitle
        if not words:
            raise DataError(f"{source.id}: its text has no words")
        if not any(word.tokens for word in words):
            named = ", ".join(quoted(word.written) for word in words[:5])
            raise DataError(
                f"{source.id}: no word of its text can be spelled with the model's tokens: {named}"
            )
        together = overlapping([subtitle for subtitle, _, _ in subtitles])
        for place in together:
            _, first, last = subtitles[place]
            words[first:last] = [replace(word, tokens=()) for word in words[first:last]]
        tokens, owners = self._speller.join([word.tokens for word in words])
        return _Words(
            words=words,
            tokens=np.array(tokens),
            owners=np.array(owners),
            subtitles=subtitles,
            num_together=len(together),
        )

    def _parts(
        self, source: Source, words: _Words, heard: Heard, duration: float
    ) -> Iterable[Part]:
        """Tokens, and the steps in which they are looked for."""
        starts = (np.diff(words.owners, prepend=-2) != 0) & (words.owners >= 0)
        if not words.subtitles:
            num_symbols = len(self._recognizer.tokens)
            return cut_at_anchors(heard.path, words.tokens, num_symbols, starts)
        last = words.subtitles[-1][0]
        if last.start > duration:
            raise DataError(
                f"{source.id}: a subtitle is shown at {last.start:.1f} s (line {last.line}), but "
                f"the recording has {duration:.1f} s; are these its subtitles?"
            )
        return _cut_at_times(words, heard, np.flatnonzero(starts))


def _cut_at_times(words: _Words, heard: Heard, starts: NDArray[np.int64]) -> Iterator[Part]:
    """Parts that begin between two subtitles.

    Args:
        starts: the first token of each word that can be spelled.
    """
    first_token = first_step = 0
    end = 0.0
    for subtitle, word, _ in words.subtitles:
        place = np.searchsorted(words.owners[starts], word)
        token = int(starts[place]) if place < len(starts) else len(words.tokens)
        size, gap = token - first_token, subtitle.start - end
        if size >= _PART_TOKENS and gap >= (_GAP_SECONDS if size < 3 * _PART_TOKENS else 0):
            step = heard.step_at((end + subtitle.start) / 2)
            yield Part(tokens=slice(first_token, token), steps=slice(first_step, step))
            first_token, first_step = token, step
        end = max(end, subtitle.end)
    yield Part(
        tokens=slice(first_token, len(words.tokens)), steps=slice(first_step, len(heard.path))
    )


def _warnings(source: Source, words: _Words, share: float) -> Iterator[str]:
    unspelled = [word.written for word in words.words if not word.tokens]
    if words.num_together:
        yield (
            f"{source.id}: {words.num_together} subtitles are shown together with others; they "
            "are left out"
        )
    elif unspelled:
        named = ", ".join(quoted(word) for word in dict.fromkeys(unspelled[:5]))
        yield (
            f"{source.id}: {len(unspelled)} words cannot be spelled with the model's tokens, and "
            f"what is around them is left out: {named}; write them as they are said, or give "
            "--normalizer"
        )
    if share < _USUAL_SHARE:
        yield (
            f"{source.id}: only {share:.0%} of its words are heard where the text has them; is it "
            "this recording's, and in this order?"
        )


def _utterance(source: Source, cut: Cut, words: Sequence[TextWord]) -> NewUtterance:
    begin, end = round(1000 * cut.start), round(1000 * cut.end)
    utterance = replace(
        source.utterance,
        offset=source.utterance.offset + begin / 1000,
        duration=(end - begin) / 1000,
        text=" ".join(word.form for word in words[cut.words]),
    )
    doubtful = tuple(words[number].written for number in cut.doubtful)
    return NewUtterance(
        utterance=utterance, begin=begin, end=end, score=cut.score, doubtful=doubtful
    )


def _left_out(rest: Rest, words: Sequence[TextWord]) -> LeftOut:
    text = " ".join(word.written for word in words[rest.words])
    return LeftOut(start=rest.start, end=rest.end, reason=rest.reason, text=text)
