"""`asr data pick`."""

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from asr import corpus, recipe, transcription
from asr.cli.terminal import put, report
from asr.cli.transcription import complain, decoding_options, load_recognizer, stopped_by_sigterm
from asr.errors import DataError

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=_FILE)
@click.argument("inputs", metavar="AUDIO...", nargs=-1, required=True)
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), required=True)
@click.option("--output", type=_FILE, required=True, help="Manifest to write, for --review.")
@click.option(
    "--random", "is_random", is_flag=True, help="Draw, in place of what is most worth it."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Of --random.")
@click.option("--without", type=_FILE, multiple=True, help="Leave out what is in this MANIFEST.")
@click.option("--max-seconds", type=click.FloatRange(min=1), default=15.0, show_default=True)
@click.option("--recursive", is_flag=True, help="Look into the folders of folders.")
@decoding_options
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--threads", type=click.IntRange(min=1), help="Processor threads to use.")
def pick(
    model: Path,
    inputs: tuple[str, ...],
    hours: float,
    output: Path,
    is_random: bool,
    seed: int,
    without: tuple[Path, ...],
    max_seconds: float,
    recursive: bool,
    device: str,
    threads: int | None,
    **settings: Any,
) -> int:
    """Choose what of AUDIO is most worth correcting: where MODEL expects most errors.

    AUDIO is a file, folder, pattern or manifest, as for `asr transcribe`; what has a text already
    is left out. Recordings longer than --max-seconds are cut in pauses. `asr serve MODEL --review
    OUTPUT` shows them, the most valuable first.
    """
    reviewed = recipe.held_out.Places(u for path in without for u in corpus.read_manifest(path))
    recognizer = load_recognizer(model, device, threads, settings)
    sources, failures = transcription.find_sources(
        inputs, transcription.SourceOptions(recursive=recursive)
    )
    sources = [source for source in sources if source.utterance.text is None]
    job = transcription.Job(sources, failures=failures)
    for name, error in job.failures:
        complain(name, error)
    candidates: list[transcription.picking.Candidate] = []
    heard = 0.0
    with stopped_by_sigterm():
        teacher = transcription.job.in_this_process(recognizer)
        with closing(job.run(teacher)) as outcomes:
            for source, outcome in outcomes:
                if isinstance(outcome, Exception):
                    complain(source.id, outcome)
                    continue
                heard += outcome.duration
                candidates += [
                    candidate
                    for candidate in transcription.picking.find_candidates(
                        source, outcome, max_seconds
                    )
                    if not reviewed.find(candidate.utterance)
                ]
    if not candidates and not heard and job.failures:
        return 1  # and each was said
    if not candidates:
        raise DataError("there is nothing to pick from: no speech without a text that is new")
    if is_random:
        chosen = transcription.picking.pick_at_random(candidates, 3600 * hours, seed)
    else:
        chosen = transcription.picking.pick(candidates, 3600 * hours)
        if not recognizer.is_calibrated:
            report(
                f"note: the confidences of {model} were never compared with what is right "
                "(asr tune --confidence): expected errors are a rough guess"
            )
    transcription.picking.write_candidates(chosen, output)
    seconds = sum(candidate.utterance.duration for candidate in chosen)
    errors = sum(candidate.expected_errors for candidate in chosen)
    every = sum(candidate.expected_errors for candidate in candidates)
    put(
        f"{output}: {len(chosen):,} of {len(candidates):,} stretches, {seconds / 3600:.3g} of "
        f"{heard / 3600:.3g} hours, {errors:,.0f} of {every:,.0f} errors that are expected"
    )
    return 1 if job.failures else 0
