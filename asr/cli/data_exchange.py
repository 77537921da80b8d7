"""`asr data import` and `export`: other systems' corpora to manifests, and back."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from asr.manifest import Utterance

_FILE = click.Path(path_type=Path)


def _pattern(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> re.Pattern[str] | None:
    try:
        return None if value is None else re.compile(value)
    except re.error as error:
        raise click.BadParameter(f"{value!r} is not a regular expression: {error}") from None


def _say(line: str) -> None:
    print(line, file=sys.stderr)


@click.command("import")
@click.argument("source", type=_FILE)
@click.option("--format", "format_name", default="auto", show_default=True, metavar="NAME")
@click.option("--output", type=_FILE, required=True, help="Manifest to write.")
@click.option("--tier", "tiers", multiple=True, help="Of a TextGrid or ELAN file; else all.")
@click.option(
    "--speaker-pattern",
    callback=_pattern,
    metavar="REGEX",
    help="Finds the speaker in an id, where the corpus names none: its group, or all of it.",
)
def import_(
    source: Path,
    format_name: str,
    output: Path,
    tiers: tuple[str, ...],
    speaker_pattern: re.Pattern[str] | None,
) -> None:
    """Write a manifest of the corpus SOURCE, a file or folder in another system's format.

    Formats: nemo, kaldi, lhotse, lhotse-cuts, speechbrain, coqui, audiofolder, folder (audio with
    .txt beside it), stm, textgrid, elan, audacity, librispeech, ljspeech, common-voice. Audio stays
    where it is; what has no place in a manifest is said.
    """
    from asr.corpus_formats import import_corpus
    from asr.manifest import write_manifest

    count = 0
    seconds = 0.0

    def counted() -> "Iterator[Utterance]":
        nonlocal count, seconds
        for utterance in import_corpus(
            source, format_name, _say, tiers=tiers, speaker_pattern=speaker_pattern
        ):
            count += 1
            seconds += utterance.duration
            yield utterance

    write_manifest(counted(), output)
    print(f"{count} utterances, {seconds / 3600:.2f} hours")


@click.command("export")
@click.argument("manifest", type=_FILE)
@click.option("--format", "format_name", required=True, metavar="NAME")
@click.option("--output", type=_FILE, required=True, help="File or folder to write.")
def export(manifest: Path, format_name: str, output: Path) -> None:
    """Write the utterances of MANIFEST in another system's format.

    Folders: kaldi, lhotse, audiofolder, folder, textgrid, elan, audacity. Files: nemo, lhotse-cuts,
    speechbrain, coqui, stm. What the format has no place for is said.
    """
    from asr.corpus_formats import export_corpus
    from asr.manifest import read_entries

    utterances = (entry.utterance for entry in read_entries(manifest))
    export_corpus(utterances, format_name, output, _say)
