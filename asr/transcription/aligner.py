"""Where the words of a known text are said: what `asr align` does.

Dimension names: step, token, sample.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from asr.decoding import TokenSpan, align, confidence
from asr.errors import AsrError, DataError
from asr.text import TokenTable, quoted
from asr.transcription.anchors import cut_at_anchors
from asr.transcription.boundaries import (
    FRAMES_PER_SECOND,
    Recording,
    SpokenToken,
    cepstra_of,
    find_boundaries,
)
from asr.transcription.passage import Passage, Segment
from asr.transcription.pipeline import Watch
from asr.transcription.recognizer import Recognizer
from asr.transcription.sources import Source
from asr.transcription.spelling import Speller
from asr.transcription.transcript import Transcript, Word

_GROUP_SECONDS = 1800.0  # of recordings that help one another, which bounds memory
_MOST_STATES = 500_000_000  # bytes of a table of steps times twice the tokens
# Nats a token by which a text is less likely than what the network hears: of right texts up to 3.8,
# of texts of other recordings 5 to 7 (median) and seldom under 2.8, with a network of 46 % WER.
_DOUBTFUL_LOSS, _MOST_LOSS = 2.5, 4.5


class Aligner:
    """Aligns texts with recordings that hold them, by a recognizer's network."""

    def __init__(self, recognizer: Recognizer, normalizer: str = "basic"):
        """Begin.

        Args:
            normalizer: what a word is written like that cannot be spelled as it stands.

        Raises:
            ConfigError: no such normalizer.
        """
        self._recognizer = recognizer
        self._tokens: TokenTable = recognizer.tokens
        self._speller = Speller(recognizer.tokens, normalizer)

    def align_sources(
        self, sources: Iterable[Source], *, watch: Watch | None = None
    ) -> Generator[tuple[Source, Transcript | AsrError], None, None]:
        """Each source with the words of its utterance's text in time, or what it met; in order.

        Word boundaries are estimated from up to half an hour of recordings together.
        """
        group: list[_Aligned] = []
        seconds = 0.0
        for passage in self._recognizer.hear_sources(sources, watch=watch):
            item = self._align(passage)
            group.append(item)
            seconds += passage.duration
            if seconds >= _GROUP_SECONDS:
                yield from self._finish(group)
                group, seconds = [], 0.0
        yield from self._finish(group)

    def find_spans(self, passage: Passage[Segment]) -> list[list[tuple[TokenSpan, float]]]:
        """Each word's tokens where the network hears them: spans of steps, and middles in seconds.

        Raises:
            AsrError: what `align_sources` gives in place of a result.
        """
        words = [ids for _, ids in self._spell(passage.source)]
        return self._spans(passage.source, passage.parts, words)[0]

    def _align(self, passage: Passage[Segment]) -> "_Aligned":
        source = passage.source
        aligned = _Aligned(source=source, duration=passage.duration, warnings=passage.warnings)
        try:
            if passage.error is not None:
                raise passage.error
            words = self._spell(source)
            spans, loss = self._spans(source, passage.parts, [word for _, word in words])
            warnings = aligned.warnings
            if loss > _DOUBTFUL_LOSS:
                warnings += (f"{source.id}: its text fits badly: {_describe(loss)}",)
            return replace(
                aligned, words=tuple(text for text, _ in words), spans=spans, warnings=warnings
            )
        except AsrError as error:
            return replace(aligned, error=error)

    def _spell(self, source: Source) -> list[tuple[str, list[int]]]:
        """The words of its text with their tokens."""
        text = source.utterance.text
        if text is None:
            raise DataError(f"{source.id}: no text")
        words = self._speller.spell(text)
        unspelled = [word.written for word in words if not word.tokens]
        if unspelled:
            named = ", ".join(quoted(word) for word in dict.fromkeys(unspelled[:5]))
            raise DataError(
                f"{source.id}: {len(unspelled)} words cannot be spelled with the model's tokens: "
                f"{named}; write them as they are said, or give --normalizer"
            )
        if not words:
            raise DataError(f"{source.id}: its text has no words")
        return [(word.written, list(word.tokens)) for word in words]

    def _spans(
        self, source: Source, segments: Sequence[Segment], words: Sequence[Sequence[int]]
    ) -> tuple[list[list[tuple[TokenSpan, float]]], float]:
        """Each word's tokens with their spans and middles in seconds; nats lost a token."""
        log_probs = np.concatenate([segment.log_probs for segment in segments])
        step = self._recognizer.step_seconds
        times = np.concatenate([s.start + np.arange(len(s.log_probs)) * step for s in segments])
        ids, owners = self._speller.join(words)
        spans: list[TokenSpan] = []
        for part in cut_at_anchors(log_probs.argmax(axis=1), np.array(ids), log_probs.shape[1]):
            rows, tokens = log_probs[part.steps], ids[part.tokens]
            if len(rows) * 2 * len(tokens) > _MOST_STATES:
                raise DataError(
                    f"{source.id}: nothing of its text is heard from {times[part.steps][0]:.0f} to "
                    f"{times[part.steps][-1]:.0f} s; is it the text of this recording?"
                )
            first = part.steps.start
            spans += [
                replace(span, start=first + span.start, end=first + span.end)
                for span in align(rows, tokens)
            ]
        loss = _loss(log_probs, spans)
        if loss > _MOST_LOSS:
            raise DataError(f"{source.id}: its text does not fit: {_describe(loss)}")
        grouped: list[list[tuple[TokenSpan, float]]] = [[] for _ in words]
        for span, owner in zip(spans, owners, strict=True):
            if owner >= 0:
                middle = times[span.start] + step * (span.end - span.start) / 2
                grouped[owner].append((span, float(middle)))
        return grouped, loss

    def _finish(
        self, group: Sequence["_Aligned"]
    ) -> Iterator[tuple[Source, Transcript | AsrError]]:
        measured = [self._measure(item) for item in group]
        bounds = iter(find_boundaries([r for r in measured if isinstance(r, Recording)]))
        for item, recording in zip(group, measured, strict=True):
            if isinstance(recording, AsrError):
                yield item.source, recording
            else:
                times = next(bounds) / FRAMES_PER_SECOND
                yield item.source, _transcript(item, times, self._tokens)

    def _measure(self, item: "_Aligned") -> Recording | AsrError:
        """What boundaries are found in; or what the item has met, or meets now."""
        if item.error is not None:
            return item.error
        try:
            return self._recording(item)
        except AsrError as error:
            return error

    def _recording(self, item: "_Aligned") -> Recording:
        rate = self._recognizer.config.features.sample_rate
        with item.source.open(rate) as stream:
            cepstra, levels = cepstra_of(stream, rate)
        return Recording(cepstra=cepstra, levels=levels, words=[_spoken(w) for w in item.spans])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Aligned:
    source: Source
    duration: float
    warnings: tuple[str, ...]
    words: tuple[str, ...] = ()
    spans: Sequence[Sequence[tuple[TokenSpan, float]]] = ()
    error: AsrError | None = None


def _spoken(word: Sequence[tuple[TokenSpan, float]]) -> list[SpokenToken]:
    tokens = [span.token for span, _ in word]
    return [
        SpokenToken(token=token, previous=previous, place=middle * FRAMES_PER_SECOND)
        for token, previous, (_, middle) in zip(tokens, [-1, *tokens], word, strict=False)
    ]


def _loss(log_probs: NDArray[np.float32], spans: Sequence[TokenSpan]) -> float:
    """Nats a token by which an aligned text is less likely than the best path."""
    path = np.zeros(len(log_probs), np.int64)
    for span in spans:
        path[span.start : span.end] = span.token
    best = log_probs.max(axis=1).sum(dtype=np.float64)
    aligned = log_probs[np.arange(len(path)), path].sum(dtype=np.float64)
    return float(best - aligned) / len(spans)


def _describe(loss: float) -> str:
    return f"{loss:.1f} nats a token less likely than what is heard ({_MOST_LOSS:g} at most)"


def _transcript(item: _Aligned, bounds: NDArray[np.float64], tokens: TokenTable) -> Transcript:
    """The words in time, with their tokens.

    Args:
        bounds: [token, two], in seconds.
    """
    limits = iter(np.minimum(bounds, item.duration).tolist())
    words, parts = [], []
    for text, spans in zip(item.words, item.spans, strict=True):
        units = [
            Word(
                text=tokens.decode([span.token]), start=start, end=end, confidence=span.probability
            )
            for (span, _), (start, end) in zip(spans, limits, strict=False)
        ]
        parts += units
        score = confidence.mean_probability([span for span, _ in spans])
        words.append(Word(text=text, start=units[0].start, end=units[-1].end, confidence=score))
    return Transcript(
        text=tokens.separator.join(item.words),
        words=tuple(words),
        log_prob=float(np.log([max(w.confidence, 1e-10) for w in words]).sum()),
        duration=item.duration,
        warnings=item.warnings,
        tokens=tuple(parts),
    )
