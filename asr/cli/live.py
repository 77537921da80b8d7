"""`asr transcribe MODEL - --live`."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

import click

from asr.cli.terminal import put_transcript, tell
from asr.errors import visible

if TYPE_CHECKING:
    from asr.audio import AudioStream
    from asr.transcription import LiveResult, Recognizer, Source, SourceOptions

LIVE_FORMATS = ("txt", "json", "ctm")


def transcribe_live(
    recognizer: "Recognizer", name: str, kind: str, options: "SourceOptions"
) -> int:
    """Print a line, or an object, for each stretch of speech when it has ended.

    What is going on appears on stderr: on a terminal in one line that changes, elsewhere in a line
    for each change.
    """
    from asr.transcription import find_sources, output

    sources, failures = find_sources([name], options)
    for _, error in failures:
        raise error
    if len(sources) != 1:
        raise click.UsageError(f"--live takes one input, {name} means {len(sources)}")
    stream = recognizer.stream()
    tell(
        f"listening; text comes at most {stream.latency:.2f} s after its sound and is final after "
        f"a pause of {stream.endpoint_seconds:g} s"
    )
    show = _partial_shower()

    def put(result: "LiveResult") -> None:
        for transcript in result.finished:
            show("")
            put_transcript(output.OUTPUT_FORMATS[kind](sources[0].utterance, transcript), kind)
        show(result.text)

    with ExitStack() as stack:
        audio = stack.enter_context(_open(recognizer, sources[0]))
        for block in audio:
            put(stream.accept(block))
        put(stream.finish())
        for warning in audio.warnings():
            tell(f"warning: {warning}")
    return 0


def _open(recognizer: "Recognizer", source: "Source") -> "AbstractContextManager[AudioStream]":
    from asr.audio import pipes

    rate = recognizer.config.features.sample_rate
    if not source.is_stdin:
        return source.open(rate)
    return pipes.open_pipe(
        sys.stdin.fileno(), sample_rate=rate, channel=source.channel, raw=source.raw
    )


def _partial_shower() -> Callable[[str], None]:
    """Shows a text in place of the one before."""
    shown = ""

    def show(text: str) -> None:
        nonlocal shown
        if text == shown:
            return
        shown = text
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{visible(text)}\x1b[K")
        elif text:
            sys.stderr.write(f"... {visible(text)}\n")
        sys.stderr.flush()

    return show
