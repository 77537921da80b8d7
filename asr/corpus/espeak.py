"""A program that speaks: requests on standard input, samples on standard output.

eSpeak NG keeps state from one sentence to the next (random numbers, filters), so the same request
gives other samples later. A process of its own, seeded at its start, makes a list of requests
repeatable to the last bit, and keeps a GPL-3 library out of the caller's process.

A request is a line of JSON with the fields of `Request`; the answer is as `asr.corpus.voices` has
it.

With `--phones VOICE` it says instead how words are spoken: a word a line, and for each a line of
phones in the International Phonetic Alphabet with spaces between them. It exits with NO_VOICE
where there is no such voice.

Source:
    espeak-ng/speak_lib.h of eSpeak NG 1.52 (names and values of the library's functions).
"""

import ctypes
import json
import os
import re
import struct
import sys
from dataclasses import dataclass
from typing import IO, Any

# speak_lib.h: AUDIO_OUTPUT_SYNCHRONOUS, espeakINITIALIZE_DONT_EXIT, espeakCHARS_UTF8, POS_CHARACTER
_SYNCHRONOUS, _DONT_EXIT, _UTF8, _POS_CHARACTER = 2, 0x8000, 1, 1
# speak_lib.h, espeak_PARAMETER
_PARAMETERS = {"rate": 1, "volume": 2, "pitch": 3, "pitch_range": 4, "word_gap": 7}

# phonememode: IPA, and what stands between phones
_IPA, _BETWEEN = 2, ord("_") << 8
_PAUSE = re.compile(r"([,.;:!?])(?=\s|$)")
_STRESS = str.maketrans("_", " ", "\u02c8\u02cc")  # whose marks are no phones of their own
_OTHER_LANGUAGE = re.compile(r"\([a-z-]+\)")
NO_VOICE = 3

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to say, and how."""

    text: str
    voice: str
    """Accent and variant, as `en-us+f3`."""
    rate: int
    """Words a minute."""
    pitch: int
    """0 to 100, 50 is the voice's own."""
    pitch_range: int
    """0 to 100, 0 is monotone, 50 the voice's own."""
    word_gap: int
    """Pause between words in units of 10 ms at the default rate."""
    volume: int = 60
    """0 to 200. At 100 the loudest variants clip."""


class Synthesizer:
    """eSpeak NG; one in a process."""

    def __init__(self, seed: int) -> None:
        import espeakng_loader

        self._library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        folder = os.fsencode(espeakng_loader.get_data_path())
        self.sample_rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, folder, _DONT_EXIT)
        if self.sample_rate <= 0:
            raise RuntimeError("eSpeak NG does not start")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        self._samples = bytearray()
        # Kept here, because the library does not keep the callback alive.
        self._callback = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, request: Request) -> bytes | None:
        """The samples as native int16, or None if there is no such voice."""
        if not self.set_voice(request.voice):
            return None
        for name, parameter in _PARAMETERS.items():
            self._library.espeak_SetParameter(parameter, getattr(request, name), 0)
        self._samples.clear()
        text = request.text.encode()
        size = ctypes.c_size_t(len(text) + 1)
        self._library.espeak_Synth(text, size, 0, _POS_CHARACTER, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        return bytes(self._samples)

    def set_voice(self, voice: str) -> bool:
        """Whether there is such a voice, which then speaks."""
        return bool(self._library.espeak_SetVoiceByName(voice.encode()) == 0)

    def phones(self, text: str) -> list[str]:
        """How the voice speaks a text, without stress."""
        return self._phonemes(text, _BETWEEN | _IPA).translate(_STRESS).split()

    def phrases(self, text: str) -> str:
        """The same in a line, with stress and with the punctuation of the text."""
        parts = _PAUSE.split(text)  # what is spoken and a mark in turn
        parts[::2] = (f" {self._phonemes(part, _IPA).strip()}" for part in parts[::2])
        return "".join(parts).strip()

    def _phonemes(self, text: str, mode: int) -> str:
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        rest = ctypes.c_char_p(text.encode())
        parts = []
        while rest.value is not None:
            part = self._library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, mode)
            parts.append(part.decode("utf-8", "replace"))
        return _OTHER_LANGUAGE.sub(" ", " ".join(parts))

    def _receive(self, samples: Any, num_samples: int, _events: Any) -> int:
        if samples and num_samples > 0:
            self._samples += ctypes.string_at(samples, 2 * num_samples)
        return 0


def serve(requests: IO[bytes], answers: IO[bytes], seed: int) -> None:
    """Answer requests until there are no more."""
    synthesizer = Synthesizer(seed)
    for line in requests:
        samples = synthesizer.speak(Request(**json.loads(line)))
        count = -1 if samples is None else len(samples) // 2
        answers.write(struct.pack("<ii", count, synthesizer.sample_rate))
        answers.write(samples or b"")
        answers.flush()


def serve_phones(words: IO[bytes], answers: IO[bytes], voice: str) -> int:
    """Answer with the phones of each word; the exit status."""
    synthesizer = Synthesizer(1)
    if not synthesizer.set_voice(voice):
        return NO_VOICE
    for line in words:
        phones = synthesizer.phones(line.decode().strip())
        answers.write((" ".join(phones) + "\n").encode())
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "--phones":
        sys.exit(serve_phones(sys.stdin.buffer, sys.stdout.buffer, sys.argv[2]))
    serve(sys.stdin.buffer, sys.stdout.buffer, int(sys.argv[1]))
