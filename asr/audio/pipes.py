"""Audio from pipes: the output of a command of a `wav.scp`, and stdin.

Most formats need seeking and lengths, and a pipe has neither: what may wait goes to a temporary
file, so that memory stays bounded. What is to be heard as it arrives is decoded block by block.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from asr.audio.containers import open_piped_container
from asr.audio.sound import RawFormat, Samples, SoundSource, audio_error
from asr.audio.stream import AudioStream
from asr.errors import AudioError, DataError

_STDIN = Path("stdin")  # what errors call a descriptor
_READ_BYTES = 4096  # at a time, at most
_RAW_TYPES = {"s16": "<i2", "s32": "<i4", "f32": "<f4", "u8": "u1"}

_running: set[subprocess.Popen[bytes]] = set()


@contextmanager
def spooled(stream: BinaryIO) -> Iterator[Path]:
    """A file that holds all of a stream while the block runs."""
    with tempfile.NamedTemporaryFile(prefix="asr-") as file:
        shutil.copyfileobj(stream, file)
        file.flush()
        yield Path(file.name)


def split_command(command: str) -> list[list[str]]:
    """The programs of `program argument ... | program argument ... |`, with their arguments.

    Raises:
        DataError: it is empty or needs a shell, for anything but the pipes between programs.
    """
    lexer = shlex.shlex(command.rstrip().removesuffix("|"), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    programs: list[list[str]] = [[]]
    try:
        for word in lexer:
            if word == "|":
                programs.append([])
            elif re.fullmatch(r"[();<>|&]+", word) or "$" in word or "`" in word:
                raise DataError(f"{command}: {word} needs a shell, and none is used")
            else:
                programs[-1].append(word)
    except ValueError as error:
        raise DataError(f"{command}: {error}") from error
    if not all(programs):
        raise DataError(f"{command}: a program is missing")
    return programs


@contextmanager
def command_output(command: str) -> Iterator[Path]:
    """A file with the output of the programs of `split_command`; no shell is involved.

    Raises:
        AudioError: a program cannot be run or fails.
        DataError: as `split_command`.
    """
    with (
        tempfile.NamedTemporaryFile(prefix="asr-") as output,
        tempfile.TemporaryFile() as complaints,
    ):
        _run(split_command(command), command, output, complaints)
        yield Path(output.name)


def kill_commands() -> None:
    """End the commands that are running."""
    for process in tuple(_running):
        process.kill()


@contextmanager
def open_pipe(
    descriptor: int, *, sample_rate: int, channel: int | None = None, raw: RawFormat | None = None
) -> Iterator[AudioStream]:
    """Sound from an open file descriptor, in a container that needs no seeking, as WAV, or raw.

    Raises:
        AudioError: it is not sound, or damaged.
    """
    with ExitStack() as stack:
        if raw is None:
            source = stack.enter_context(
                open_piped_container(_Pipe(descriptor), _STDIN, _READ_BYTES)
            )
        elif raw.encoding not in _RAW_TYPES:
            raise audio_error(_STDIN, f"--live with --raw takes {', '.join(_RAW_TYPES)}")
        else:
            source = SoundSource(
                sample_rate=raw.sample_rate,
                num_channels=raw.num_channels,
                num_samples=None,
                blocks=_raw_blocks(descriptor, raw),
            )
        yield AudioStream(source, _STDIN, sample_rate=sample_rate, channel=channel)


def _run(
    programs: Sequence[Sequence[str]], command: str, output: IO[bytes], complaints: IO[bytes]
) -> None:
    with ExitStack() as started:
        processes: list[subprocess.Popen[bytes]] = []
        for index, arguments in enumerate(programs):
            source = processes[-1].stdout if processes else subprocess.DEVNULL
            is_last = index == len(programs) - 1
            try:
                process = subprocess.Popen(
                    arguments,
                    stdin=source,
                    stdout=output if is_last else subprocess.PIPE,
                    stderr=complaints,
                )
            except (OSError, ValueError) as error:
                for earlier in processes:
                    earlier.kill()
                cause = getattr(error, "strerror", None) or error
                raise AudioError(f"{command}: {arguments[0]}: {cause}") from error
            started.enter_context(process)
            _running.add(process)
            started.callback(_running.discard, process)
            if processes and processes[-1].stdout is not None:
                # Or the earlier program would not notice that the later one has ended.
                processes[-1].stdout.close()
            processes.append(process)
        codes = [process.wait() for process in processes]
    # A program whose reader has all that it needs ends by SIGPIPE.
    failed = [code for code in codes[:-1] if code not in (0, -signal.SIGPIPE)] + [
        *filter(None, codes[-1:])
    ]
    if failed:
        complaints.seek(0)
        complaint = complaints.read(400).decode("utf-8", "replace").strip().partition("\n")[0]
        raise AudioError(f"{command}: exit code {failed[-1]}{': ' if complaint else ''}{complaint}")


class _Pipe:
    """What FFmpeg reads from: as many bytes as there are, without waiting for more."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor

    def read(self, count: int) -> bytes:
        return os.read(self._descriptor, count)


def _raw_blocks(descriptor: int, raw: RawFormat) -> Iterator[Samples]:
    dtype = np.dtype(_RAW_TYPES[raw.encoding])
    width = dtype.itemsize * raw.num_channels
    rest = b""
    while content := os.read(descriptor, _READ_BYTES):
        content = rest + content
        whole = len(content) // width * width
        values = np.frombuffer(content[:whole], dtype).reshape(-1, raw.num_channels)
        rest = content[whole:]
        if dtype.kind == "f":
            yield values.astype(np.float32)
        else:
            full_scale = 1 << (8 * dtype.itemsize - 1)
            offset = full_scale if dtype.kind == "u" else 0
            yield ((values.astype(np.float64) - offset) / full_scale).astype(np.float32)
