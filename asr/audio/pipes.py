"""Audio from a pipe, which is a command of a `wav.scp` or stdin, in a temporary file.

Formats need seeking and lengths, and a pipe has neither; on disk, memory stays bounded.
"""

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

from asr.errors import AudioError, DataError

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
        said = complaints.read(400).decode("utf-8", "replace").strip().partition("\n")[0]
        raise AudioError(f"{command}: exit code {failed[-1]}{': ' if said else ''}{said}")
