"""How words are spoken, by eSpeak NG's rules and dictionaries: lexicons for networks of phones."""

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from asr.corpus import espeak
from asr.errors import DataError


def pronounce(words: Sequence[str], language: str) -> list[list[str]]:
    """The phones of each word in the International Phonetic Alphabet, without stress.

    Args:
        words: without white space. One of no sound, as a mark, has no phones.
        language: as eSpeak NG names it, as `en-us` or `de`.

    Raises:
        DataError: eSpeak NG is not installed, lacks the language, or fails.
    """
    if find_spec("espeakng_loader") is None:
        raise DataError(
            "eSpeak NG, which is to pronounce, is not installed; "
            "pip install espeakng-loader (the extra asr-recipes[synthesis])"
        )
    # A process of its own, and -P, as for speech in `asr.corpus.synthesis`.
    command = [sys.executable, "-P", str(Path(espeak.__file__)), "--phones", language]
    given = "".join(f"{word}\n" for word in words).encode()
    done = subprocess.run(command, input=given, capture_output=True, check=False)
    if done.returncode == espeak.NO_VOICE:
        raise DataError(
            f"language {language}: eSpeak NG has none of that name; names are as en-us, de or fr"
        )
    lines = done.stdout.decode().split("\n")[:-1]
    if done.returncode or len(lines) != len(words):
        *_, reason = ["no reason given", *done.stderr.decode().splitlines()]
        raise DataError(f"eSpeak NG stopped: {reason}")
    return [line.split() for line in lines]
