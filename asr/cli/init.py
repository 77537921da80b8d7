"""`asr init`: a recipe folder for a corpus of one's own."""

import re
from pathlib import Path

import click

from asr.cli.terminal import put, report
from asr.recipe import fitting, new, own_corpus

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("folder", type=_FILE)
@click.option("--audio", type=_FILE, help="Recordings with transcripts, in any importable format.")
@click.option("--text", type=_FILE, help="Sentences, a line each, for synthetic voices to speak.")
@click.option("--init", "model", type=_FILE, metavar="MODEL", help="To start training from.")
@click.option("--format", "format_name", default="auto", metavar="NAME", help="As in data import.")
@click.option("--tier", "tiers", multiple=True, help="As in data import.")
@click.option("--speaker-pattern", metavar="REGEX", help="As in data import.")
@click.option("--voices", type=click.IntRange(min=1), default=200, help="Synthetic voices.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=1.0, help="Spoken.")
@click.option("--language", default="en", help="eSpeak NG's name of the language, as de.")
def init(
    folder: Path,
    audio: Path | None,
    text: Path | None,
    model: Path | None,
    format_name: str,
    tiers: tuple[str, ...],
    speaker_pattern: str | None,
    voices: int,
    hours: float,
    language: str,
) -> None:
    """Write a recipe into FOLDER, from recordings with transcripts or from sentences.

    `asr run FOLDER` then trains a model and scores it on a part that it has not seen. With --init
    alone FOLDER is a recipe, which gets a configuration that fits MODEL.
    """
    if model is not None and audio is text is None:
        path = fitting.write_fitting_conf(folder, model)
        put(f"{path} fits {model}; train with: asr run {folder} --conf {fitting.CONF}")
        return
    if (audio is None) == (text is None):
        raise click.UsageError("either --audio or --text is needed")
    if text is not None:
        new.write_sentences_recipe(
            folder, text, voices=voices, hours=hours, language=language, model=model
        )
    else:
        assert audio is not None
        try:
            re.compile(speaker_pattern or "")
        except re.error as error:
            raise click.BadParameter(
                f"--speaker-pattern {speaker_pattern!r} is not a regular expression: {error}"
            ) from None
        source = own_corpus.CorpusSource(
            path=audio, format=format_name, tiers=tiers, speaker_pattern=speaker_pattern
        )
        new.write_recordings_recipe(folder, source, report, model)
    put(f"{folder} is a recipe; train with: asr run {folder}")
