"""Sentences that people read aloud, and their recordings: speech of one's own to learn from."""

import asyncio
import io
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from asr.corpus import Utterance, manifest
from asr.errors import DataError
from asr.files import open_atomic
from asr.server import messages
from asr.server.journal import Journal
from asr.server.replies import Refusal
from asr.server.review import alphabet_of
from asr.text import TokenTable, normalize, read_lines

_FOLDER = "recordings"
_SHORTEST, _LONGEST = 0.2, 60.0  # seconds
_RATES = range(8000, 192_001)  # Hz
_HELD_SECONDS = 120.0  # that somebody is expected to read a sentence


class PromptDesk:
    """Hands out sentences, each to the person who lacks it and that fewest have read."""

    page = "record"

    def __init__(self, sentences: Sequence[str], journal: Journal, tokens: TokenTable):
        """Begin, or go on with what nobody has read.

        Args:
            tokens: of the model that is to learn from it; what they cannot write is shown.
        """
        self._sentences, self._journal = sentences, journal
        self._alphabet = alphabet_of(tokens)
        self._skipped: set[tuple[str, int]] = set()
        self._held: dict[tuple[str, int], float] = {}
        self._lock = threading.Lock()

    @property
    def routes(self) -> list[Route]:
        """What it answers."""
        return [
            Route("/record/next", self._next, methods=["POST"]),
            Route("/record/skip", self._skip, methods=["POST"]),
            Route("/record/keep", self._keep, methods=["POST"]),
        ]

    async def _next(self, request: Request) -> Response:
        values = await messages.read_message(request)
        return messages.answer(self._sentence(_person(values), messages.client_of(values)))

    async def _skip(self, request: Request) -> Response:
        values = await messages.read_message(request)
        person, number = _person(values), self._number(values)
        self._skipped.add((person, number))
        return messages.answer(self._sentence(person, messages.client_of(values)))

    async def _keep(self, request: Request) -> Response:
        """Take a recording: a WAV file as the body, and the rest in the query."""
        query = request.query_params
        text = query.get("number", "")
        values = {**query, "number": int(text) if text.isdecimal() else None}
        client, take = messages.client_of(values), query.get("take", "")
        number, person = self._number(values), _person(values)
        if not re.fullmatch(r"[0-9a-f]{8,32}", take):
            raise Refusal(400, "take: 8 to 32 hexadecimal digits are expected", param="take")
        samples, rate = await asyncio.to_thread(_samples_of, await request.body())
        await asyncio.to_thread(self._put, number, person, take, samples, rate)
        return messages.answer(self._sentence(person, client))

    def _number(self, values: Mapping[str, Any]) -> int:
        return messages.number_of(values, len(self._sentences), "sentence")

    def _sentence(self, person: str, client: str) -> Mapping[str, Any]:
        """The next sentence of a person."""
        with self._lock:
            readings = self._readings()
            mine = {text for text, who in readings if who == person}
            now = time.monotonic()
            times = Counter(text for text, _ in readings)
            # What others have before them counts as read.
            times.update(
                self._sentences[place]
                for (holder, place), until in self._held.items()
                if holder != client and until >= now
            )
            open_ones = [
                number
                for number, text in enumerate(self._sentences)
                if text not in mine and (person, number) not in self._skipped
            ]
            number = min(open_ones, key=lambda n: (times[self._sentences[n]], n), default=None)
            self._held = {key: until for key, until in self._held.items() if key[0] != client}
            if number is not None:
                self._held[client, number] = now + _HELD_SECONDS
        text = None if number is None else self._sentences[number]
        return {
            "item": None if text is None else {"number": number, "text": text},
            "alphabet": self._alphabet,
            "total": len(self._sentences),
            "read": len(mine & set(self._sentences)),
            "recordings": len(readings),
        }

    def _readings(self) -> list[tuple[str, str]]:
        """Sentence and person of each recording."""
        return [
            (rows[0]["before"], rows[0].get("speaker", ""))
            for rows in self._journal.subjects().values()
            if rows[0]["decision"] == "recorded"
        ]

    def _put(self, number: int, person: str, take: str, samples: Any, rate: int) -> None:
        name = f"{_FOLDER}/{number:05d}-{take}"
        if self._journal.rows_of(name):
            return  # a page that heard no answer asks again
        path = self._journal.folder / f"{name}.wav"
        content = io.BytesIO()
        soundfile.write(content, samples, rate, format="WAV", subtype="PCM_16")
        try:
            with open_atomic(path, "wb") as file:
                file.write(content.getvalue())
        except OSError as error:
            text = f"the recording was not written: {error.strerror or error}"
            raise Refusal(503, text, code="no_room") from error
        sentence = self._sentences[number]
        utterance = Utterance(
            id=name,
            audio_filepath=path,
            duration=len(samples) / rate,
            text=sentence,
            speaker=person or None,
        )
        row = {
            **manifest.row_of(utterance, self._journal.folder),
            "decision": "recorded",
            "before": sentence,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            self._journal.put(name, [row])
        except Refusal:
            path.unlink(missing_ok=True)
            raise


def read_prompts(path: Path) -> list[str]:
    """The sentences of a file, a line each.

    Raises:
        DataError: unreadable, or there are none.
    """
    lines = (normalize(line) for _, line in read_lines(path))
    sentences = list(dict.fromkeys(line for line in lines if line))
    if not sentences:
        raise DataError(f"{path}: no sentences in it")
    return sentences


def _person(values: Mapping[str, Any]) -> str:
    return messages.text_of_message(values, "name")


def _samples_of(content: bytes) -> tuple[Any, int]:
    """Samples in 16 bits and their rate in Hz.

    Raises:
        Refusal: it is no WAV file of a length that a sentence has.
    """
    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="int16", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise Refusal(400, "a WAV file is expected", code="invalid_audio") from error
    if rate not in _RATES or not _SHORTEST <= len(samples) / rate <= _LONGEST:
        text = f"a recording has {_SHORTEST:g} to {_LONGEST:g} s and {_RATES.start} Hz or more"
        raise Refusal(400, text, code="invalid_audio")
    if not np.any(samples):
        raise Refusal(400, "the recording is silent: is the microphone on?", code="silent")
    return samples[:, 0], rate
