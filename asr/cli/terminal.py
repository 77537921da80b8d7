r"""What the verbs print, the only place that does: what data holds cannot steer a terminal.

Ids, texts, speakers and names of files come from others, and may hold control characters. In lines
for people these are written as `\x1b`; a transcript keeps them on its way to a file or program.
"""

import io
import json
import logging
import os
import re
import sys

from asr.errors import visible

_log = logging.getLogger(__name__)
_OF_THE_WORK = (__name__, "asr.progress")


def prepare_streams() -> None:
    r"""Have all three standard streams open, and output that can write any text.

    What the locale's encoding lacks is written as `\xfc`. A stream that the caller closed reads
    and writes nothing; or the next file to be opened would take its place.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def put(*lines: str) -> None:
    """Results in lines, on stdout."""
    for line in lines:
        print(visible(line))
    sys.stdout.flush()


def tell(*lines: str) -> None:
    """All else, on stderr; what is several lines in one is written as several."""
    for line in lines:
        print(visible(line), file=sys.stderr, flush=True)


def report(message: str) -> None:
    """Takes what a part of the program reports, in a line or several; nothing is shown with -q."""
    _log.info(message)


class _LogLines(logging.Handler):
    """Lines of the log, on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, or several."""
        mark = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        tell(*f"{mark}{record.getMessage()}".split("\n"))


def show_log(level: int = logging.WARNING) -> None:
    """What the parts of the program log from a level on is written to stderr, each line once.

    What a verb reports of its work, and how far it is, is shown from warnings on, too.
    """
    log = logging.getLogger("asr")
    log.setLevel(level)
    for name in _OF_THE_WORK:
        logging.getLogger(name).setLevel(level if level > logging.WARNING else logging.INFO)
    if not any(isinstance(handler, _LogLines) for handler in log.handlers):
        log.addHandler(_LogLines())


def put_json(text: str) -> None:
    """A JSON text, with line ends of its own, on stdout; the values stay what they are."""
    print(re.sub(r"[^\n\t]+", lambda part: _json_escaped(part[0]), text.removesuffix("\n")))
    sys.stdout.flush()


def put_transcript(text: str, kind: str) -> None:
    """A transcript in one of the output formats, with its line ends, on stdout."""
    if kind in ("json", "jsonl"):
        if text:
            put_json(text)
        return
    if sys.stdout.isatty():
        text = "\n".join(map(visible, text.split("\n")))
    print(text, end="", flush=True)


def _json_escaped(text: str) -> str:
    """With JSON's escapes, since it stands in strings only, for what `visible` would change.

    And for what the locale's encoding lacks.
    """
    return "".join(c if visible(c) == c and _is_written(c) else json.dumps(c)[1:-1] for c in text)


def _is_written(character: str) -> bool:
    """Whether stdout can write it as it is."""
    try:
        character.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
