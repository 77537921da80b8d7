"""How a transcript looks in OpenAI's transcription interface, and how its errors do."""

import json
import math
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from asr.corpus import Utterance
from asr.transcription import Transcript, Word, captions
from asr.transcription import output as transcript_output

_TYPES = {400: "invalid_request_error", 401: "authentication_error", 403: "permission_error"}
_KINDS_OF_TEXT = {"text": "txt", "srt": "srt", "vtt": "vtt"}
REPLY_FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
GRANULARITIES = ("word", "segment")

Reply = tuple[str, str]
"""Content and media type."""


class Refusal(Exception):  # noqa: N818
    """A request that is not answered with what it asks for, and why."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str = ""):
        """Say why.

        Args:
            status: of HTTP.
            param: the field that is wrong.
            code: a word for programs.
        """
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    @property
    def content(self) -> str:
        """As OpenAI's error object."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else _TYPES[400])
        error = {"message": self.message, "type": kind, "param": self.param}
        return json_text({"error": error | {"code": self.code or None}})


def json_text(value: object) -> str:
    """JSON that any parser takes: no lone surrogates, no NaN."""
    return json.dumps(value, allow_nan=False)


def format_reply(
    transcript: Transcript, kind: str, granularities: Collection[str], language: str
) -> Reply:
    """A transcript in one of `REPLY_FORMATS`.

    Args:
        granularities: of `GRANULARITIES`, for `verbose_json`.
        language: as the request named it.
    """
    if kind in _KINDS_OF_TEXT:
        name = _KINDS_OF_TEXT[kind]
        write: Callable[[Utterance, Transcript], str] = transcript_output.OUTPUT_FORMATS[name]
        return write(_NOBODY, transcript), f"text/{'vtt' if kind == 'vtt' else 'plain'}"
    usage = {"type": "duration", "seconds": math.ceil(transcript.duration)}
    if kind == "json":
        return json_text({"text": transcript.text, "usage": usage}), "application/json"
    values: dict[str, Any] = {
        "task": "transcribe",
        "language": language or "unknown",
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
        "usage": usage,
    }
    if "segment" in granularities or not granularities:
        values["segments"] = _segments(transcript)
    if "word" in granularities:
        values["words"] = [word_values(word) for word in transcript.words]
    if transcript.warnings:
        values["warnings"] = list(transcript.warnings)
    return json_text(values), "application/json"


def word_values(word: Word) -> Mapping[str, Any]:
    """A word with its times in seconds; `probability` is more than the interface asks for."""
    return {
        "word": word.text,
        "start": round(word.start, 3),
        "end": round(word.end, 3),
        "probability": round(word.confidence, 4),
    }


def _segments(transcript: Transcript) -> list[Mapping[str, Any]]:
    """The captions, with the fields that Whisper's segments have.

    `avg_logprob` is the mean of the logarithms of the words' confidences. `tokens` is empty, and
    what this program does not have (seek, temperature, no_speech_prob) is 0.
    """
    portions = captions.make_captions(transcript.words, transcript.duration)
    return [
        {
            "id": index,
            "seek": 0,
            "start": round(caption.words[0].start, 3),
            "end": round(caption.words[-1].end, 3),
            "text": caption.text,
            "tokens": [],
            "temperature": 0.0,
            "avg_logprob": round(_mean_log(caption.words), 4),
            "compression_ratio": round(_compression(caption.text), 4),
            "no_speech_prob": 0.0,
        }
        for index, caption in enumerate(portions)
    ]


def _mean_log(words: Sequence[Word]) -> float:
    return sum(math.log(max(word.confidence, 1e-10)) for word in words) / len(words)


def _compression(text: str) -> float:
    """How much smaller zlib makes a text, by which Whisper's users know repetitions."""
    content = text.encode("utf-8", "replace")
    return len(content) / len(zlib.compress(content))


_NOBODY = Utterance(id="", audio_filepath="", duration=0.0)  # type: ignore[arg-type]
