"""Stretches of speech that people correct, one by one, nobody the same as another."""

import asyncio
import io
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import soundfile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from asr import corpus
from asr.audio import as_int16, inspect_audio, read_audio
from asr.corpus import Utterance, manifest
from asr.errors import AsrError, DataError
from asr.server import messages
from asr.server.journal import Journal, JournalRow
from asr.server.replies import Refusal
from asr.text import TokenTable

DECISIONS = ("text", "skipped", "unclear")
_MARGIN = 1.0  # seconds around a stretch that are heard too, in case a word was cut
_HELD_SECONDS = 120.0  # that a stretch is kept for a page that does not tell that it is there
_MOST_SECONDS = 600.0  # of a stretch
_MOST_PARTS = 50
_ROUNDING = 0.01  # seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewItem:
    """What is to be reviewed."""

    utterance: Utterance
    text: str | None
    """What a machine hears in it."""
    words: Sequence[Mapping[str, Any]] = ()


def read_stretches(path: Path) -> list[ReviewItem]:
    """The stretches of a manifest, with `pred_text` or `text` as what a machine hears.

    Raises:
        DataError: it is no manifest, or there is nothing in it.
    """
    stretches = []
    for entry in manifest.read_entries(path):
        text, words = entry.row.get("pred_text"), entry.row.get("words")
        stretches.append(
            ReviewItem(
                utterance=entry.utterance,
                text=text if isinstance(text, str) else entry.utterance.text,
                words=[word for word in words if _is_word(word)] if isinstance(words, list) else (),
            )
        )
    if not stretches:
        raise DataError(f"{path}: there is nothing to review in it")
    return stretches


class ReviewDesk:
    """Hands out stretches and takes decisions."""

    page = "review"

    def __init__(self, stretches: Sequence[ReviewItem], journal: Journal, tokens: TokenTable):
        """Begin, or go on with what is open.

        Args:
            tokens: of the model that is to learn from it; what they cannot write is shown.
        """
        self._stretches, self._journal = stretches, journal
        self._alphabet = alphabet_of(tokens)
        self._held: dict[int, tuple[str, float]] = {}
        self._lock = threading.Lock()

    @property
    def routes(self) -> list[Route]:
        """What it answers."""
        return [
            Route("/review/next", self._next, methods=["POST"]),
            Route("/review/open", self._open, methods=["POST"]),
            Route("/review/hold", self._hold, methods=["POST"]),
            Route("/review/decide", self._decide, methods=["POST"]),
            Route("/review/audio/{number:int}", self._audio),
        ]

    async def _next(self, request: Request) -> Response:
        client = messages.client_of(await messages.read_message(request))
        number = self._take(client)
        item = None if number is None else await asyncio.to_thread(self._describe, number)
        return messages.answer({"item": item, **self._progress(client)})

    async def _open(self, request: Request) -> Response:
        """A stretch again that was decided."""
        values = await messages.read_message(request)
        client, number = messages.client_of(values), self._number(values)
        self._check_free(number, client)
        self._keep(number, client)
        item = await asyncio.to_thread(self._describe, number)
        return messages.answer({"item": item, **self._progress(client)})

    async def _hold(self, request: Request) -> Response:
        values = await messages.read_message(request)
        client, number = messages.client_of(values), self._number(values)
        self._check_free(number, client)
        self._keep(number, client)
        return messages.answer(self._progress(client))

    async def _decide(self, request: Request) -> Response:
        values = await messages.read_message(request)
        client, number = messages.client_of(values), self._number(values)
        rows = self._rows(number, values)
        await asyncio.to_thread(self._put, number, client, rows, bool(values.get("again")))
        return messages.answer(self._progress(client))

    async def _audio(self, request: Request) -> Response:
        number = self._number(request.path_params)
        content = await asyncio.to_thread(self._read, self._stretches[number].utterance)
        return Response(content, media_type="audio/wav")

    def _number(self, values: Mapping[str, Any]) -> int:
        return messages.number_of(values, len(self._stretches), "stretch")

    def _take(self, client: str) -> int | None:
        """The stretch that a page has, or the first that nobody has."""
        with self._lock:
            now = time.monotonic()
            free = None
            for number, stretch in enumerate(self._stretches):
                if self._journal.rows_of(stretch.utterance.id):
                    continue
                holder, until = self._held.get(number, ("", 0.0))
                if holder == client:
                    free = number
                    break
                if free is None and until < now:
                    free = number
            if free is not None:
                self._held[free] = (client, now + _HELD_SECONDS)
            return free

    def _keep(self, number: int, client: str) -> None:
        self._held[number] = (client, time.monotonic() + _HELD_SECONDS)

    def _check_free(self, number: int, client: str) -> None:
        holder, until = self._held.get(number, ("", 0.0))
        if holder != client and until >= time.monotonic():
            raise Refusal(409, "somebody else has this stretch", code="taken")

    def _put(self, number: int, client: str, rows: Sequence[JournalRow], again: bool) -> None:
        name = self._stretches[number].utterance.id
        with self._lock:
            self._check_free(number, client)
            before = self._journal.rows_of(name)
            if before and not again:
                # A page that heard no answer asks again.
                if [_essence(row) for row in before] != [_essence(row) for row in rows]:
                    who = before[0].get("reviewer", "somebody else")
                    raise Refusal(409, f"{who} has decided it meanwhile", code="decided")
                return
            self._journal.put(name, rows)
            self._held.pop(number, None)

    def _rows(self, number: int, values: Mapping[str, Any]) -> list[JournalRow]:
        """The rows of a decision."""
        stretch = self._stretches[number]
        decision = values.get("decision")
        if decision not in DECISIONS:
            text = f"decision: {', '.join(DECISIONS)} are expected"
            raise Refusal(400, text, param="decision")
        facts = {
            "before": stretch.text,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "reviewer": messages.text_of_message(values, "name") or None,
        }
        whole = stretch.utterance
        if decision != "text":
            return [self._row(whole, None, {"decision": decision, **facts})]
        parts = values.get("parts")
        if not isinstance(parts, list) or not 0 < len(parts) <= _MOST_PARTS:
            raise Refusal(400, f"parts: 1 to {_MOST_PARTS} are expected", param="parts")
        rows = []
        taken = self._journal.names() if len(parts) > 1 else set()
        for part in parts:
            if not isinstance(part, dict):
                raise Refusal(400, "parts: objects are expected", param="parts")
            text = messages.text_of_message(part, "text", messages.LONGEST_TEXT)
            start, end = _check_bounds(whole, part)
            moved = abs(start - whole.offset) + abs(end - start - whole.duration) > _ROUNDING
            name = whole.id
            if len(parts) > 1:
                name = f"{name}-{round(1000 * start):07d}-{round(1000 * end):07d}"
                while name in taken and not self._is_own(name, whole.id):
                    name += "+"
                taken.add(name)
            utterance = Utterance(
                id=name,
                audio_filepath=whole.audio_filepath,
                offset=start if moved else whole.offset,
                duration=end - start if moved else whole.duration,
                speaker=whole.speaker,
            )
            changed = len(parts) > 1 or text != (stretch.text or "")
            kind = "corrected" if changed else "confirmed"
            stretched = {"before_offset": whole.offset, "before_duration": whole.duration}
            more = stretched if moved else {}
            rows.append(self._row(utterance, text, {"decision": kind, **facts, **more}))
        return rows

    def _is_own(self, name: str, subject: str) -> bool:
        return any(row["id"] == name for row in self._journal.rows_of(subject))

    def _row(self, utterance: Utterance, text: str | None, facts: Mapping[str, Any]) -> JournalRow:
        row = manifest.row_of(utterance, self._journal.folder)
        kept = {key: value for key, value in facts.items() if value is not None}
        return {**row, **({} if text is None else {"text": text}), **kept}

    def _progress(self, client: str) -> Mapping[str, Any]:
        ids = {stretch.utterance.id for stretch in self._stretches}
        kinds = Counter(
            rows[0]["decision"] for name, rows in self._journal.subjects().items() if name in ids
        )
        now = time.monotonic()
        others = sum(
            holder != client and until >= now for holder, until in list(self._held.values())
        )
        return {
            "total": len(self._stretches),
            "decided": kinds.total(),
            "skipped": kinds["skipped"],
            "unclear": kinds["unclear"],
            "others": others,
        }

    def _describe(self, number: int) -> Mapping[str, Any]:
        """A stretch as the page shows it."""
        stretch = self._stretches[number]
        utterance = stretch.utterance
        problem = None
        start, end = utterance.offset, utterance.offset + utterance.duration
        try:
            start, end = _audible(utterance)
        except AsrError as error:
            problem = messages.one_line(error)
        decided = self._journal.rows_of(utterance.id)
        return {
            "number": number,
            "id": utterance.id,
            "speaker": utterance.speaker,
            "start": utterance.offset,
            "end": min(utterance.offset + (utterance.duration or end), end),
            "audio": {"start": start, "end": end},
            "text": stretch.text,
            "words": list(stretch.words),
            "alphabet": self._alphabet,
            "decided": [
                {
                    "text": row.get("text", ""),
                    "start": row.get("offset", 0.0),
                    "end": row.get("offset", 0.0) + row["duration"],
                }
                for row in decided
                if "text" in row
            ],
            "problem": problem,
        }

    def _read(self, utterance: Utterance) -> bytes:
        """What is heard of a stretch, as a WAV file."""
        try:
            start, end = _audible(utterance)
            path = utterance.audio_filepath
            rate = inspect_audio(path).sample_rate
            audio = read_audio(path, sample_rate=rate, offset=start, duration=end - start)
        except AsrError as error:
            raise Refusal(404, messages.one_line(error), code="no_audio") from error
        file = io.BytesIO()
        soundfile.write(file, as_int16(audio.samples), rate, format="WAV", subtype="PCM_16")
        return file.getvalue()


def alphabet_of(tokens: TokenTable) -> str | None:
    """The characters that tokens can write; none where they are phones, which write words."""
    if tokens.pronunciations is not None:
        return None
    characters = sorted({character for symbol in tokens.symbols[1:] for character in symbol})
    return "".join(c for c in characters if c == " " or not tokens.count_unknown([c]))


def _audible(utterance: Utterance) -> tuple[float, float]:
    """Where what is heard of a stretch begins and ends in its file, in seconds.

    Raises:
        DataError: it cannot be heard.
    """
    if corpus.is_feature_path(utterance.audio_filepath):
        raise DataError(f"{utterance.id}: stored features cannot be heard")
    length = inspect_audio(utterance.audio_filepath).duration
    end = utterance.offset + utterance.duration if utterance.duration else length
    if utterance.offset >= length:
        raise DataError(f"{utterance.id}: begins after the end of its file")
    if end - utterance.offset > _MOST_SECONDS:
        raise DataError(
            f"{utterance.id}: longer than {_MOST_SECONDS:g} s; asr data pick cuts recordings"
        )
    return max(0.0, utterance.offset - _MARGIN), min(length, end + _MARGIN)


def _check_bounds(whole: Utterance, part: Mapping[str, Any]) -> tuple[float, float]:
    start, end = messages.seconds_of(part, "start"), messages.seconds_of(part, "end")
    least = max(0.0, whole.offset - _MARGIN) - _ROUNDING
    most = whole.offset + whole.duration + _MARGIN + _ROUNDING if whole.duration else float("inf")
    if not (least <= start < end - _ROUNDING and end <= most):
        raise Refusal(400, "parts: each ends after it begins, within what is heard", param="parts")
    return max(0.0, round(start, 3)), round(end, 3)


def _is_word(word: object) -> bool:
    return (
        isinstance(word, dict)
        and isinstance(word.get("word"), str)
        and all(isinstance(word.get(key), int | float) for key in ("start", "end", "confidence"))
    )


def _essence(row: JournalRow) -> tuple[Any, ...]:
    """What two decisions must share to be the same."""
    return tuple(row.get(key) for key in ("id", "text", "offset", "duration")), row["decision"]
