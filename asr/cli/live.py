"""`asr transcribe MODEL - --live`."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import click

from asr import audio, transcription
from asr.cli.terminal import put_transcript, report
from asr.errors import visible

LIVE_FORMATS = ("txt", "json", "ctm")


def transcribe_live(
    recognizer: "transcription.Recognizer",
    name: str,
    kind: str,
    options: "transcription.SourceOptions",
) -> int:
    """Print a line, or an object, for each stretch of speech when it has ended.

    What is going on appears on stderr: on a terminal in one line that changes, elsewhere in a line
    for each change.
    """
    stream = recognizer.stream()
    show = _partial_shower()

    def put(result: "transcription.LiveResult") -> None:
        for transcript in result.finished:
            show("")
            put_transcript(
                transcription.output.OUTPUT_FORMATS[kind](source.utterance, transcript), kind
            )
        show(result.text)

    with ExitStack() as stack:
        source, sound = open_live(recognizer, name, options, stack)
        report(
            f"listening; text comes at most {stream.latency:.2f} s after its sound and is final "
            f"after a pause of {stream.endpoint_seconds:g} s"
        )
        for block in sound:
            put(stream.accept(block))
        put(stream.finish())
        for warning in sound.warnings():
            report(f"warning: {warning}")
    return 0


def open_live(
    recognizer: "transcription.Recognizer",
    name: str,
    options: "transcription.SourceOptions",
    stack: ExitStack,
) -> "tuple[transcription.Source, audio.AudioStream]":
    """The one source that a name means, and its sound as it arrives."""
    sources, failures = transcription.find_sources([name], options)
    for _, error in failures:
        raise error
    if len(sources) != 1:
        raise click.UsageError(f"--live takes one input, {name} means {len(sources)}")
    return sources[0], stack.enter_context(_open(recognizer, sources[0]))


def _open(
    recognizer: "transcription.Recognizer", source: "transcription.Source"
) -> "AbstractContextManager[audio.AudioStream]":
    rate = recognizer.config.features.sample_rate
    if not source.is_stdin:
        return source.open(rate)
    return audio.pipes.open_pipe(
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
