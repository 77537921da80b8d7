"""What speaks: the interface of engines of speech, and how a program of theirs is talked to.

`asr.corpus.espeak_voices` and `asr.corpus.neural_voices` are the engines. Each speaks in a process
of its own, which gets requests and gives samples: a request is a line of JSON; the answer is two
little-endian int32, the number of samples (-1: no such voice) and their rate in Hz, and as many
little-endian int16 samples.
"""

import json
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import IO, Any, Literal, Protocol

import numpy as np
import soxr

from asr.audio import Samples
from asr.errors import DataError

Split = Literal["train", "dev", "test"]

SPLITS: tuple[Split, ...] = ("train", "dev", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class Voice:
    """Somebody who speaks, and how."""

    name: str
    """What the speaker of its utterances is called."""
    accent: str
    """Language whose rules the text is read by, as eSpeak NG calls it."""
    settings: Mapping[str, Any]
    """Of the engine's requests."""


Say = Callable[[Voice, str, np.random.Generator, int], Samples]
"""A voice says a text: samples in [-1, 1] at a rate in Hz. What varies from one time to the next is
drawn from the generator."""


class Engine(Protocol):
    """A cast of voices, and a way to hear them."""

    def cast(self, split: Split, limit: int, rng: np.random.Generator) -> list[Voice]:
        """The voices of a split, in random order; of train at most `limit`."""

    def speaking(self, seed: int) -> AbstractContextManager[Say]:
        """Start it, for a while; `seed` is of what it draws itself.

        Raises:
            DataError: it is not installed or fails, lacks a voice, or cannot say a text.
        """


@contextmanager
def converse(
    command: Sequence[str], engine: str
) -> Iterator[Callable[[Mapping[str, Any], int], Samples]]:
    """A function from a request and a sample rate to samples in [-1, 1].

    Args:
        command: the program.
        engine: what it is, for messages.

    Raises:
        DataError: it stops (with its last words), has no such voice, or says nothing.
    """
    # Errors go to a file: nobody reads a pipe of them until it is full.
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        ) as program,
    ):
        assert program.stdin
        assert program.stdout
        requests, answers = program.stdin, program.stdout

        def read(num_bytes: int) -> bytes:
            answer = answers.read(num_bytes)
            if len(answer) < num_bytes:
                program.wait()
                raise DataError(f"{engine} stopped: {_last_words(errors)}")
            return answer

        def say(request: Mapping[str, Any], sample_rate: int) -> Samples:
            try:
                requests.write(json.dumps(request).encode() + b"\n")
                requests.flush()
            except BrokenPipeError:
                read(1)
            num_samples, spoken_rate = struct.unpack("<ii", read(8))
            if num_samples < 0:
                raise DataError(f"this {engine} has no voice {request.get('voice')!r}")
            samples = np.frombuffer(read(2 * num_samples), np.int16).astype(np.float32) / 32768
            if not samples.any():
                voice = request.get("voice")
                raise DataError(f"{engine}'s voice {voice} says nothing: {request['text']!r}")
            resampled: Samples = soxr.resample(samples, spoken_rate, sample_rate)
            return resampled

        try:
            yield say
        finally:
            program.kill()


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = [line for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
