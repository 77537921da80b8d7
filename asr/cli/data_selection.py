"""`asr data stats`, `split`, `subset` and `filter`: by manifest alone, without the audio."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import click

from asr import corpus
from asr.cli.inputs import refuse_input
from asr.cli.terminal import put, put_json, report
from asr.errors import DataError

_FILE = click.Path(path_type=Path)
UNITS = ("speaker", "recording", "text", "utterance")
"""Of `SplitUnit`, whose module takes numpy: `--help` would take twice as long."""
_SHARE = click.FloatRange(min=0, max=1, max_open=True)
_CERTAINTY = click.FloatRange(min=0, max=1)
_SEED = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)


def _pattern(
    _context: click.Context, _option: click.Parameter, value: str | None
) -> re.Pattern[str] | None:
    try:
        return None if value is None else re.compile(value)
    except re.error as error:
        raise click.BadParameter(f"{value!r} is not a regular expression: {error}") from None


@click.command()
@click.argument("manifests", metavar="MANIFEST...", type=_FILE, nargs=-1, required=True)
@click.option("--format", "kind", type=click.Choice(["text", "json"]), default="text")
def stats(manifests: tuple[Path, ...], kind: str) -> None:
    """Hours, speakers, words and characters of manifests, and what they have in common.

    Name the training manifest first: words that others have and it lacks are counted.
    """
    summaries = [
        corpus.summary.summarize(
            (entry.utterance for entry in corpus.manifest.read_entries(path)), str(path)
        )
        for path in manifests
    ]
    overlaps = corpus.summary.overlaps(summaries)
    if kind == "json":
        result = {
            "manifests": [corpus.summary.summary_row(summary) for summary in summaries],
            "overlaps": [corpus.summary.overlap_row(overlap) for overlap in overlaps],
        }
        put_json(json.dumps(result, ensure_ascii=False, indent=1))
        return
    blocks = [list(corpus.summary.summary_lines(summary)) for summary in summaries]
    blocks += [list(corpus.summary.overlap_lines(overlap)) for overlap in overlaps]
    for number, block in enumerate(blocks):
        put(*[""] * bool(number), *block)


@click.command()
@click.argument("manifest", type=_FILE)
@click.option("--output-dir", type=_FILE, required=True, help="Folder for the manifests.")
@click.option("--dev", type=_SHARE, default=0.1, show_default=True, help="Share of dev; 0: none.")
@click.option("--test", type=_SHARE, default=0.1, show_default=True, help="Share of test; 0: none.")
@click.option("--by", "unit", type=click.Choice(UNITS), help="What is never divided.")
@_SEED
def split(
    manifest: Path,
    output_dir: Path,
    dev: float,
    test: float,
    unit: "corpus.split.SplitUnit | None",
    seed: int,
) -> None:
    """Divide MANIFEST into train.jsonl, dev.jsonl and test.jsonl that share no speaker.

    Shares are of utterances. In a manifest without any speaker the recordings are divided, and a
    note says so. --by text keeps what was said apart.
    """
    shares = {name: share for name, share in (("dev", dev), ("test", test)) if share}
    if not shares or sum(shares.values()) >= 1:
        raise click.UsageError("--dev and --test: shares that sum to more than 0 and less than 1")

    def utterances() -> Iterator[corpus.Utterance]:
        return (entry.utterance for entry in corpus.manifest.read_entries(manifest))

    unit_name = unit or "speaker"
    counts = corpus.split.count_units(utterances(), unit_name)
    if not counts and unit_name == "speaker":
        if unit is not None:
            raise DataError(f"{manifest}: no utterance has a speaker")
        unit_name = "recording"
        counts = corpus.split.count_units(utterances(), unit_name)
        report(
            f"note: {manifest} has no speakers: recordings are divided, and one speaker may "
            "be in several splits"
        )
    chosen = corpus.split.choose_splits(counts, shares, "train", seed, unit_name)
    names = ("train", *shares)
    for name in names:
        refuse_input(output_dir / f"{name}.jsonl", (manifest,), "--output-dir")
    numbers = dict.fromkeys(names, 0)
    with ExitStack() as stack:
        files = {name: _manifest_file(output_dir / f"{name}.jsonl", stack) for name in names}
        for entry in corpus.manifest.read_entries(manifest):
            name = chosen[corpus.split.unit_of(entry.utterance, unit_name)]
            files[name](entry)
            numbers[name] += 1
    for name in names:
        num_units = sum(split_name == name for split_name in chosen.values())
        put(f"{name:<8} {numbers[name]:,} utterances, {num_units:,} {unit_name}s")


@click.command()
@click.argument("manifest", type=_FILE)
@click.option("--output", type=_FILE, required=True, help="Manifest to write.")
@click.option("--utterances", type=click.IntRange(min=1), help="So many.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="At most so long.")
@_SEED
def subset(
    manifest: Path, output: Path, utterances: int | None, hours: float | None, seed: int
) -> None:
    """Choose utterances of MANIFEST at random; they keep their order.

    With one seed, a smaller subset is part of a larger one.
    """
    if (utterances is None) == (hours is None):
        raise click.UsageError("either --utterances or --hours is needed")

    durations = corpus.split.read_durations(
        (entry.utterance for entry in corpus.manifest.read_entries(manifest)),
        all_known=hours is not None,
    )
    if utterances is not None and utterances > len(durations):
        raise DataError(f"{manifest}: holds {len(durations)} utterances, not {utterances}")
    seconds = math.inf if hours is None else 3600 * hours
    positions = corpus.split.choose_subset(durations, seed, utterances=utterances, seconds=seconds)
    if not positions:
        raise DataError(f"{manifest}: the utterance drawn first is longer than {hours:g} hours")
    with ExitStack() as stack:
        write = _manifest_file(output, stack)
        for entry in corpus.split.chosen_entries(corpus.manifest.read_entries(manifest), positions):
            write(entry)
    total = sum(durations[position] for position in positions)
    put(f"{len(positions):,} of {len(durations):,} utterances, {total / 3600:.3f} hours")


@click.command("filter")
@click.argument("manifest", type=_FILE)
@click.option("--output", type=_FILE, required=True, help="Manifest to write.")
@click.option("--min-duration", type=click.FloatRange(min=0), help="Seconds.")
@click.option("--max-duration", type=click.FloatRange(min=0), help="Seconds.")
@click.option("--match", metavar="REGEX", callback=_pattern, help="To be found in the text.")
@click.option("--speaker", "speakers", multiple=True, help="Of this one; may be repeated.")
@click.option("--min-score", type=_CERTAINTY, help="Of asr align --segment; without one: kept.")
@click.option("--min-confidence", type=_CERTAINTY, help="Of asr data label; without one: kept.")
def filter_(
    manifest: Path,
    output: Path,
    min_duration: float | None,
    max_duration: float | None,
    match: re.Pattern[str] | None,
    speakers: tuple[str, ...],
    min_score: float | None,
    min_confidence: float | None,
) -> None:
    """Keep the utterances of MANIFEST that fulfil all conditions, and count why others do not."""
    conditions = corpus.split.Filter(
        min_duration=min_duration,
        max_duration=max_duration,
        match=match,
        speakers=frozenset(speakers),
        min_score=min_score,
        min_confidence=min_confidence,
    )
    if conditions == corpus.split.Filter():
        raise click.UsageError("no condition: see asr data filter --help")
    num_kept = 0
    objections: Counter[str] = Counter()
    with ExitStack() as stack:
        write = _manifest_file(output, stack)
        for entry in corpus.manifest.read_entries(manifest):
            objection = conditions.objection(entry, manifest)
            if objection is None:
                write(entry)
                num_kept += 1
            else:
                objections[objection] += 1
    put(f"{num_kept:,} of {num_kept + objections.total():,} utterances kept")
    for objection, count in objections.most_common():
        put(f"{count:,} left out: {objection}")


def _manifest_file(path: Path, stack: ExitStack) -> Callable[[corpus.manifest.Entry], None]:
    """Takes entries, and is a manifest once the stack closes without an error."""
    file = stack.enter_context(corpus.manifest.open_rows(path))
    return lambda entry: corpus.manifest.write_row(
        file, corpus.manifest.moved_row(entry, path.parent)
    )
