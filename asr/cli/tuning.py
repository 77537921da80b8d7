"""`asr tune`."""

from pathlib import Path

import click

from asr import corpus, transcription
from asr.cli.terminal import put, report

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=_FILE)
@click.argument("manifest", type=_FILE)
@click.option("--lm", type=_FILE, help="Language model: ARPA, compressed or not.")
@click.option("--lexicon", type=_FILE, help="Only these words: `word token token ...` lines.")
@click.option("--neural", type=_FILE, help="What `asr lm train --lstm` wrote; ranks readings anew.")
@click.option("--confidence", is_flag=True, help="Fit confidences alone, for MODEL as it decodes.")
@click.option("--keywords", type=_FILE, help="Find thresholds for `asr spot` alone.")
@click.option(
    "--false-alarms",
    type=click.FloatRange(min=0),
    default=0.5,
    show_default=True,
    help="An hour, of all keywords together.",
)
@click.option("--table", type=_FILE, help="Write all trials into this file (.tsv).")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
def tune(
    model: Path,
    manifest: Path,
    lm: Path | None,
    lexicon: Path | None,
    neural: Path | None,
    confidence: bool,
    keywords: Path | None,
    false_alarms: float,
    table: Path | None,
    device: str,
) -> None:
    """Find the weights of MODEL's decoding on the dev set MANIFEST and store them in MODEL.

    The language model and lexicon are copied into the folder, `decoding.yaml` is written, and
    `asr transcribe` and `asr evaluate` use them from then on. Confidences of words are fitted, too:
    how often words are right of which the network says so much. With --keywords the thresholds of
    `asr spot` are found and stored, and nothing else.
    """
    if keywords is not None:
        if confidence or not lm is lexicon is neural is None:
            raise click.UsageError("--keywords finds thresholds: give it without what is decoded")
        spotting = transcription.keyword_tuning.tune_keywords(
            model,
            keywords,
            corpus.read_manifest(manifest),
            false_alarms=false_alarms,
            device=device,
        )
        if table is not None:
            transcription.keyword_tuning.write_det(spotting, false_alarms, table)
        put(*spotting.describe(false_alarms))
        return
    if confidence:
        if not lm is lexicon is neural is table is None:
            raise click.UsageError("--confidence fits a model as it decodes: give it alone")
        fit = transcription.calibration.calibrate(
            model, corpus.read_manifest(manifest), device=device
        )
        put(fit.summary)
        return
    if lm is lexicon is neural is None:
        raise click.UsageError(
            "nothing to tune: give --lm, --lexicon or --neural, or --confidence or --keywords alone"
        )
    tuning = transcription.tune(
        model,
        corpus.read_manifest(manifest),
        lm=lm,
        lexicon=lexicon,
        neural_lm=neural,
        device=device,
        report=report,
    )
    if table is not None:
        transcription.tuning.write_table(tuning, table)
    put(*tuning.summary().split("\n"))
