"""What is written for an utterance: text, JSON, captions, NIST's formats, Praat's and ELAN's."""

import html
import json
import re
from collections.abc import Callable
from dataclasses import replace

from asr.corpus import Utterance, formats
from asr.transcription.captions import Caption, make_captions
from asr.transcription.transcript import Transcript, Word


def as_text(utterance: Utterance, transcript: Transcript) -> str:  # noqa: ARG001
    """The text, and a line's end."""
    return transcript.text + "\n"


def as_json(utterance: Utterance, transcript: Transcript) -> str:
    """Whisper's shape: text, and segments with words; `probability` is the word's confidence."""
    values: dict[str, object] = {
        "audio_filepath": _utf8(str(utterance.audio_filepath)),
        "text": transcript.text,
        "duration": round(transcript.duration, 3),
        "log_prob": round(transcript.log_prob, 4),
        "segments": [
            {
                "id": index,
                "start": round(caption.words[0].start, 3),
                "end": round(caption.words[-1].end, 3),
                "text": caption.text,
                "words": [_word_values(word) for word in caption.words],
            }
            for index, caption in enumerate(make_captions(transcript.words, transcript.duration))
        ],
    }
    if transcript.nbest:
        values["nbest"] = [
            {"text": a.text, "log_prob": round(a.log_prob, 4), "score": round(a.score, 4)}
            for a in transcript.nbest
        ]
    return json.dumps(values, ensure_ascii=False) + "\n"


def as_srt(utterance: Utterance, transcript: Transcript) -> str:  # noqa: ARG001
    """SubRip: number, times with a comma, lines."""
    captions = make_captions(transcript.words, transcript.duration)
    return "".join(
        f"{number}\n{_times(caption, ',')}\n" + "\n".join(caption.lines) + "\n\n"
        for number, caption in enumerate(captions, start=1)
    )


def as_vtt(utterance: Utterance, transcript: Transcript) -> str:  # noqa: ARG001
    """WebVTT; `&`, `<` and `>` are escaped."""
    cues = (
        f"{_times(caption, '.')}\n"
        + "\n".join(html.escape(line, quote=False) for line in caption.lines)
        + "\n\n"
        for caption in make_captions(transcript.words, transcript.duration)
    )
    return "WEBVTT\n\n" + "".join(cues)


def as_tsv(utterance: Utterance, transcript: Transcript) -> str:  # noqa: ARG001
    """Start and end in whole milliseconds, which no locale's decimal comma can spoil, and text."""
    rows = (
        f"{_milliseconds(caption.start)}\t{_milliseconds(caption.end)}\t{caption.text}\n"
        for caption in make_captions(transcript.words, transcript.duration)
    )
    return "start\tend\ttext\n" + "".join(rows)


def as_ctm(utterance: Utterance, transcript: Transcript) -> str:
    """NIST: `id 1 begin duration word confidence` for each word."""
    return "".join(
        f"{_nist_id(utterance)} 1 {word.start:.3f} {word.end - word.start:.3f} "
        f"{word.text.replace(' ', '_')} "
        f"{word.confidence:.4f}\n"
        for word in transcript.words
    )


def as_json_lines(utterance: Utterance, transcript: Transcript) -> str:
    """A JSON object a line for each word, as of keywords that were spotted."""
    rows = (
        {
            "id": _utf8(utterance.id),
            "keyword": word.text,
            "start": round(word.start, 3),
            "end": round(word.end, 3),
            "score": float(f"{word.confidence:.6g}"),
        }
        for word in transcript.words
    )
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def as_trn(utterance: Utterance, transcript: Transcript) -> str:
    """NIST: `word word ... (id)`."""
    return f"{transcript.text} ({_nist_id(utterance)})\n"


def as_textgrid(utterance: Utterance, transcript: Transcript) -> str:
    """Praat's TextGrid: a tier of words, and one of their tokens where a text was aligned."""
    return formats.textgrid_text(_tiers(utterance, transcript), transcript.duration)


def as_elan(utterance: Utterance, transcript: Transcript) -> str:
    """ELAN's annotation document, with the same tiers."""
    tiers = _tiers(utterance, transcript)
    return formats.elan_text(tiers, utterance.audio_filepath, are_speakers=False)


OUTPUT_FORMATS: dict[str, Callable[[Utterance, Transcript], str]] = {
    "txt": as_text,
    "json": as_json,
    "srt": as_srt,
    "vtt": as_vtt,
    "tsv": as_tsv,
    "ctm": as_ctm,
    "jsonl": as_json_lines,
    "trn": as_trn,
    "textgrid": as_textgrid,
    "elan": as_elan,
}
"""By the names that they have on the command line."""
SUFFIXES = {"textgrid": "TextGrid", "elan": "eaf"}
"""Of the files of formats that are not named by them."""


def _tiers(utterance: Utterance, transcript: Transcript) -> dict[str, list[Utterance]]:
    """Intervals by tier; one that would begin within the one before begins after it."""
    tiers: dict[str, list[Utterance]] = {}
    for name, words in {"words": transcript.words, "tokens": transcript.tokens}.items():
        position = 0.0
        for word in words:
            begin = max(position, word.start)
            if word.end > begin:
                interval = replace(
                    utterance, offset=begin, duration=word.end - begin, text=word.text
                )
                tiers.setdefault(name, []).append(interval)
                position = word.end
    return tiers


def _word_values(word: Word) -> dict[str, object]:
    return {
        "word": word.text,
        "start": round(word.start, 3),
        "end": round(word.end, 3),
        "probability": round(word.confidence, 4),
    }


def _nist_id(utterance: Utterance) -> str:
    """The id without what these formats use as marks: white space and parentheses."""
    return re.sub(r"[\s()]", "_", _utf8(utterance.id))


def _utf8(name: str) -> str:
    """A name that may come from bytes that are no UTF-8, as text that can be written."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _times(caption: Caption, point: str) -> str:
    return f"{_clock(caption.start, point)} --> {_clock(caption.end, point)}"


def _clock(seconds: float, point: str) -> str:
    total, milliseconds = divmod(_milliseconds(seconds), 1000)
    minutes = total // 60
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{total % 60:02d}{point}{milliseconds:03d}"


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)
