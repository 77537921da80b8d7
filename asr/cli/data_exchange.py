"""`asr data import`, `export` and `shard`: corpora in other forms, and back."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from asr import corpus
from asr.cli.terminal import put, report
from asr.progress import track

_FILE = click.Path(path_type=Path)


def _pattern(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> re.Pattern[str] | None:
    try:
        return None if value is None else re.compile(value)
    except re.error as error:
        raise click.BadParameter(f"{value!r} is not a regular expression: {error}") from None


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
    count = 0
    seconds = 0.0

    def counted() -> Iterator[corpus.Utterance]:
        nonlocal count, seconds
        for utterance in corpus.formats.import_corpus(
            source, format_name, report, tiers=tiers, speaker_pattern=speaker_pattern
        ):
            count += 1
            seconds += utterance.duration
            yield utterance

    certainties = corpus.formats.import_certainties(source, format_name)
    corpus.write_manifest(counted(), output, certainties)
    put(f"{count} utterances, {seconds / 3600:.2f} hours")


@click.command("export")
@click.argument("manifest", type=_FILE)
@click.option("--format", "format_name", required=True, metavar="NAME")
@click.option("--output", type=_FILE, required=True, help="File or folder to write.")
def export(manifest: Path, format_name: str, output: Path) -> None:
    """Write the utterances of MANIFEST in another system's format.

    Folders: kaldi, lhotse, audiofolder, folder, textgrid, elan, audacity. Files: nemo, lhotse-cuts,
    speechbrain, coqui, stm. What the format has no place for is said.
    """
    utterances = (entry.utterance for entry in corpus.manifest.read_entries(manifest))
    corpus.formats.export_corpus(utterances, format_name, output, report)


@click.command()
@click.argument("manifest", type=_FILE)
@click.option("--output", type=_FILE, required=True, help="Folder for the tar files.")
@click.option("--shard-seconds", type=click.FloatRange(min=0, min_open=True), help="Of each.")
@click.option("--shard-size", type=click.IntRange(min=1), help="Of each, in megabytes; 200.")
def shard(
    manifest: Path, output: Path, shard_seconds: float | None, shard_size: int | None
) -> None:
    """Write the utterances of MANIFEST into tar files, in WebDataset's layout."""
    if shard_seconds is not None and shard_size is not None:
        raise click.UsageError("--shard-seconds and --shard-size: one decides where a file ends")
    table = corpus.ManifestTable(manifest)
    table.check()
    utterances = track(table, total=len(table), label="writing", unit="utterances")
    num_bytes = None if shard_seconds is not None else (shard_size or 200) * 1_000_000
    shards = corpus.shards.write_shards(
        utterances, output, seconds=shard_seconds, num_bytes=num_bytes
    )
    hours = sum(shard.seconds for shard in shards) / 3600
    put(f"{len(table)} utterances, {hours:.2f} hours in {len(shards)} tar files")
