"""Giants that label speech in place of one's own model: other programs' models, as transcribers.

A teacher is what `job.Transcriber` says: it takes sources and a watch, and gives each source with
its transcript, in order.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from asr.errors import AsrError, DataError, ModelError, printable
from asr.transcription.job import Results, Transcriber
from asr.transcription.pieces import PieceLengths, pause_finder, split_into_pieces
from asr.transcription.pipeline import Watch
from asr.transcription.sources import Source
from asr.transcription.transcript import Transcript, Word

_log = logging.getLogger(__name__)

_RATE = 16000  # Hz, of Whisper
_WHISPER_FILES = ("config.json", "model.bin", "tokenizer.json")
_LENGTHS = PieceLengths(
    longest=28 * _RATE, usual=20 * _RATE, shortest=5 * _RATE, overlap=0, step=_RATE // 100
)  # within the 30 s that it hears at once


def open_teacher(
    name: str, *, device: str = "auto", threads: int | None = None, language: str | None = None
) -> Transcriber:
    """The teacher of a name, `faster-whisper:FOLDER`.

    Args:
        language: of the speech, as Whisper names it; none lets it guess, by source.

    Raises:
        AsrError: no such kind, its library is not installed, or it cannot do what is asked for.
        ModelError: the folder has no such model.
    """
    kind, _, folder = name.partition(":")
    if kind != "faster-whisper" or not folder:
        raise AsrError(f"--with {name}: faster-whisper:FOLDER is expected")
    return FasterWhisper(Path(folder), device=device, threads=threads, language=language)


class FasterWhisper:
    """A converted Whisper model, by the library faster-whisper; nothing is downloaded."""

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "auto",
        threads: int | None = None,
        language: str | None = None,
    ):
        """Load it; see `open_teacher`."""
        missing = [name for name in _WHISPER_FILES if not (folder / name).is_file()]
        if missing:
            raise ModelError(
                f"{folder}: not a model of faster-whisper (it has no {', '.join(missing)}); "
                "ct2-transformers-converter makes one of a Whisper model"
            )
        try:
            import faster_whisper
        except ImportError as error:
            raise AsrError(
                "--with faster-whisper needs its library: pip install 'asr-recipes[whisper]'"
            ) from error
        try:
            self._model: Any = faster_whisper.WhisperModel(
                str(folder), device=device, cpu_threads=threads or 0, local_files_only=True
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelError(f"{folder}: {printable(error)}") from error
        languages = self._model.supported_languages
        if language is not None and language not in languages:
            raise AsrError(f"--language {language}: the model knows {', '.join(languages)}")
        self._language = language

    def __call__(self, sources: Sequence[Source], watch: Watch) -> Results:
        """Transcripts of sources, or the errors that they met, in order."""
        for source in sources:
            try:
                if source.has_features:
                    raise DataError(f"{source.id}: stored features; faster-whisper hears audio")
                result: Transcript | AsrError = self._transcribe(source, watch)
            except AsrError as error:
                result = error
            yield source, result

    def _transcribe(self, source: Source, watch: Watch) -> Transcript:
        words: list[Word] = []
        heard: list[str] = []
        log_prob = duration = 0.0
        with source.open(_RATE) as stream:
            for piece in split_into_pieces(stream, _LENGTHS, pause_finder(_RATE)):
                start = piece.start / _RATE
                duration = start + len(piece.values) / _RATE
                for segment in self._hear(piece.values):
                    heard.append(segment.text)
                    log_prob += segment.avg_logprob * len(segment.tokens)
                    words += _words(segment, start, duration)
                watch(source, duration, stream.duration)
            warnings = stream.warnings()
        return Transcript(
            text=" ".join("".join(heard).split()),
            words=tuple(words),
            log_prob=log_prob,
            duration=duration,
            warnings=warnings,
        )

    def _hear(self, samples: Any) -> Iterator[Any]:
        """Segments of a piece; without what makes results depend on chance or the piece before."""
        segments, _ = self._model.transcribe(
            samples,
            language=self._language,
            temperature=0.0,
            condition_on_previous_text=False,
            word_timestamps=True,
        )
        yield from segments


def _words(segment: Any, start: float, limit: float) -> Iterator[Word]:
    for word in segment.words or ():
        if text := word.word.strip():
            yield Word(
                text=text,
                start=min(start + float(word.start), limit),
                end=min(start + float(word.end), limit),
                confidence=float(word.probability),
            )
