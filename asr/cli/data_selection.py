"""`asr data stats`, `split`, `subset` and `filter`: by manifest alone, without the audio."""

import json
from pathlib import Path

import click

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("manifests", metavar="MANIFEST...", type=_FILE, nargs=-1, required=True)
@click.option("--format", "kind", type=click.Choice(["text", "json"]), default="text")
def stats(manifests: tuple[Path, ...], kind: str) -> None:
    """Hours, speakers, words and characters of manifests, and what they have in common.

    Name the training manifest first: words that others have and it lacks are counted.
    """
    from asr import corpus_summary
    from asr.manifest import read_entries

    summaries = [
        corpus_summary.summarize((entry.utterance for entry in read_entries(path)), str(path))
        for path in manifests
    ]
    overlaps = corpus_summary.overlaps(summaries)
    if kind == "json":
        result = {
            "manifests": [corpus_summary.summary_row(summary) for summary in summaries],
            "overlaps": [corpus_summary.overlap_row(overlap) for overlap in overlaps],
        }
        print(json.dumps(result, ensure_ascii=False, indent=1))
        return
    blocks = [list(corpus_summary.summary_lines(summary)) for summary in summaries]
    blocks += [list(corpus_summary.overlap_lines(overlap)) for overlap in overlaps]
    print("\n\n".join("\n".join(block) for block in blocks))
