"""A program that speaks with neural models, by sherpa-onnx: as `asr.corpus.voices` has it.

Its one argument is a JSON file, a list of models: `kind` of sherpa-onnx's, `files` by the names of
that kind's settings, and `phones`, how the text is written for it: "piper", "kokoro", "ipa", or
null where the model takes the text itself.

eSpeak NG reads texts aloud in phones; sherpa-onnx 2 has no such part any more.
"""

import json
import struct
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

_KINDS = {"vits": "Vits", "kokoro": "Kokoro", "kitten": "Kitten", "matcha": "Matcha"}

# How Kokoro 1.0's own front end writes what eSpeak NG calls otherwise.
_KOKORO = dict(
    # ruff: noqa: RUF001
    zip(
        ("eɪ", "aɪ", "oʊ", "aʊ", "ɔɪ", "əʊ", "dʒ", "tʃ", "ɜːɹ", "ɜː", "ɚ", "ɐ", "ɾ", "r", "ː"),
        ("A", "I", "O", "W", "Y", "Q", "ʤ", "ʧ", "ɜɹ", "ɜɹ", "əɹ", "ə", "T", "ɹ", ""),
        strict=True,
    )
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to say, and how."""

    text: str
    voice: str
    """Its name, for messages."""
    model: int
    """Place in the list."""
    speaker: int
    speed: float
    accent: str
    """Language whose rules the text is read by, as eSpeak NG calls it."""


class SpeakingModel:
    """A model of the list."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        import sherpa_onnx

        kind, files = description["kind"], description["files"]
        settings = getattr(sherpa_onnx, f"OfflineTts{_KINDS[kind]}ModelConfig")(**files)
        model = sherpa_onnx.OfflineTtsModelConfig(**{kind: settings}, num_threads=1)
        config = sherpa_onnx.OfflineTtsConfig(model=model)
        if not config.validate():
            raise SystemExit(f"{files['tokens']}: not a model that sherpa-onnx takes")
        self._generation = sherpa_onnx.GenerationConfig
        self._engine = sherpa_onnx.OfflineTts(config)
        self.phones: str | None = description["phones"]
        self.symbols = read_symbols(Path(files["tokens"]))

    def speak(self, request: Request, phones: str | None) -> tuple[bytes, int]:
        """The samples as native int16, and their rate in Hz."""
        settings = self._generation()
        settings.sid, settings.speed = request.speaker, request.speed
        if phones is not None:
            settings.phoneme_codepoints = [[ord(symbol) for symbol in phones]]
        spoken = self._engine.generate(request.text, settings)
        samples = np.clip(np.asarray(spoken.samples, np.float32), -1, 1)
        return np.round(samples * 32767).astype(np.int16).tobytes(), int(spoken.sample_rate)


class Speakers:
    """All models, each loaded when it first speaks."""

    def __init__(self, descriptions: list[Mapping[str, Any]]) -> None:
        self._descriptions = descriptions
        self._loaded: dict[int, SpeakingModel] = {}

    @cached_property
    def _reader(self) -> Any:
        # The folder with the package, where it is not installed: this is a program by its path.
        sys.path.append(str(Path(__file__).parents[2]))
        from asr.corpus.espeak import Synthesizer

        return Synthesizer(1)

    def speak(self, request: Request) -> tuple[bytes, int] | None:
        """Samples and their rate, or None if there is no such accent; no samples if no sound."""
        if request.model not in self._loaded:
            self._loaded[request.model] = SpeakingModel(self._descriptions[request.model])
        model = self._loaded[request.model]
        phones = None
        if model.phones is not None:
            if not self._reader.set_voice(request.accent):
                return None
            phones = write_phones(self._reader.phrases(request.text), model.phones, model.symbols)
            if not any(symbol.isalpha() for symbol in phones):
                return b"", 1
        return model.speak(request, phones)


def read_symbols(path: Path) -> frozenset[str]:
    """The symbols of a `tokens.txt`: one, a space and its number a line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return frozenset(line.rpartition(" ")[0] for line in lines if " " in line)


def write_phones(phones: str, style: str, symbols: frozenset[str]) -> str:
    """Phones of eSpeak NG in the symbols of a model; others are left out.

    Args:
        style: as in the list of models.
    """
    if style == "kokoro":
        for ours, theirs in _KOKORO.items():
            phones = phones.replace(ours, theirs)
    if style == "piper":
        phones = unicodedata.normalize("NFD", phones)
    written = []
    for phone in phones:
        parts = phone if phone in symbols else unicodedata.normalize("NFD", phone)
        written += [part for part in parts if part in symbols]
    return "".join(written).strip()


def serve(requests: IO[bytes], answers: IO[bytes], models: Speakers) -> None:
    """Answer requests until there are no more."""
    for line in requests:
        spoken = models.speak(Request(**json.loads(line)))
        samples, rate = (b"", 1) if spoken is None else spoken
        count = -1 if spoken is None else len(samples) // 2
        answers.write(struct.pack("<ii", count, rate))
        answers.write(samples)
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer, Speakers(json.loads(Path(sys.argv[1]).read_text())))
