"""`asr init`: a recipe folder for a corpus of one's own."""

import re
from pathlib import Path

import click

from asr.cli.terminal import put, report
from asr.recipe import fitting, new, own_corpus, suggestion

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("folder", type=_FILE)
@click.option("--audio", type=_FILE, help="Recordings with transcripts, in any importable format.")
@click.option("--text", type=_FILE, help="Sentences, a line each, for synthetic voices to speak.")
@click.option("--format", "format_name", default="auto", metavar="NAME", help="As in data import.")
@click.option("--tier", "tiers", multiple=True, help="As in data import.")
@click.option("--speaker-pattern", metavar="REGEX", help="As in data import.")
@click.option("--voices", type=click.IntRange(min=1), default=200, help="Synthetic voices.")
@click.option(
    "--voice-model",
    "voice_models",
    type=_FILE,
    multiple=True,
    help="Folder with neural voices that speak in place of eSpeak NG's.",
)
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=1.0, help="Spoken.")
@click.option("--language", help="eSpeak NG's name of it, as de; for --text, en by default.")
@click.option("--init", "model", metavar="MODEL|none", help="Model that training starts from.")
@click.option("--live", is_flag=True, help="A model that writes while somebody speaks.")
def init(
    folder: Path,
    audio: Path | None,
    text: Path | None,
    format_name: str,
    tiers: tuple[str, ...],
    speaker_pattern: str | None,
    voices: int,
    voice_models: tuple[Path, ...],
    hours: float,
    language: str | None,
    model: str | None,
    live: bool,
) -> None:
    """Write a recipe into FOLDER, from recordings with transcripts or from sentences.

    `asr run FOLDER` then trains a model and scores it on a part that it has not seen. It starts
    from a model that comes with asr, where one suits, or from --init: a model folder or a name.
    With --init alone FOLDER is a recipe, which gets a configuration that fits MODEL.
    """
    if model not in (None, suggestion.NOTHING) and audio is text is None:
        path = fitting.write_fitting_conf(folder, Path(str(model)))
        put(f"{path} fits {model}; train with: asr run {folder} --conf {fitting.CONF}")
        return
    if (audio is None) == (text is None):
        raise click.UsageError("either --audio or --text is needed")
    if voice_models and text is None:
        raise click.UsageError("--voice-model needs --text, which the voices are to speak")
    wishes = suggestion.Wishes(init=model, language=language, live=live)
    if text is not None:
        spoken = new.Speech(voices=voices, hours=hours, voice_models=voice_models)
        new.write_sentences_recipe(folder, text, spoken, report, wishes)
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
        new.write_recordings_recipe(folder, source, report, wishes)
    put(f"{folder} is a recipe; train with: asr run {folder}")
