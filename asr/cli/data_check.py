"""`asr data check`: reads all of a corpus and says what is wrong with it."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import click

from asr import text, transcription
from asr.cli.inputs import refuse_input
from asr.cli.terminal import put, put_json, tell
from asr.corpus import checks
from asr.files import open_atomic
from asr.folders import claim_names
from asr.model import locate_model

_FILE = click.Path(path_type=Path)
_FORMATS = ("text", "json", "html")
_SUFFIXES = {"text": "txt", "json": "json", "html": "html"}
_MAX_JOBS = 8


def _formats(_context: click.Context, _option: click.Parameter, value: str) -> list[str]:
    names = [name.strip() for name in value.split(",")]
    for name in names:
        if name not in _FORMATS:
            raise click.BadParameter(f"{name!r} is not one of {', '.join(_FORMATS)}")
    return names


@click.command()
@click.argument("manifests", metavar="MANIFEST...", type=_FILE, nargs=-1, required=True)
@click.option("--model", type=_FILE, help="Model folder: whether texts fit what it hears.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
@click.option("--tokens", type=_FILE, help="Token table that texts must fit: tokens.txt or folder.")
@click.option(
    "--fix",
    type=_FILE,
    help="FILE.jsonl for the first manifest without what has errors, or a folder for all of them.",
)
@click.option(
    "--format", "formats", default="text", callback=_formats, help="text, json, html, with commas."
)
@click.option("--output-dir", type=_FILE, help="Folder for reports; a stopped run goes on there.")
@click.option("--jobs", type=click.IntRange(min=1), help="Files read at once; one for each core.")
def check(
    manifests: tuple[Path, ...],
    model: Path | None,
    device: str,
    tokens: Path | None,
    fix: Path | None,
    formats: list[str],
    output_dir: Path | None,
    jobs: int | None,
) -> int:
    """Decode every file of the MANIFESTs and report what is wrong with audio and texts.

    A folder of shards, a .tar or a list of them (.shards) may stand for a manifest.

    Name the training manifest first: what two share is said of the earlier one. Exits with 1 if
    there are errors.
    """
    if output_dir is None and (len(formats) > 1 or "html" in formats):
        raise click.UsageError(f"--format {','.join(formats)} needs --output-dir")
    if len(set(manifests)) < len(manifests):
        raise click.UsageError("a manifest is named twice")
    fixed = {} if fix is None else _fixed_paths(fix, manifests)
    # A wrong path is said before all files are read.
    model = None if model is None else locate_model(model)
    if model is not None and tokens is not None:
        raise click.UsageError("--tokens: --model has a token table of its own")
    tokens = tokens or model

    asked = "--fix" if fix is not None else "--model" if model is not None else None
    if asked is not None and (sharded := [path for path in manifests if checks.is_sharded(path)]):
        raise click.UsageError(f"{asked}: {sharded[0]} is no manifest; shards are only checked")
    table = None
    if tokens is not None:
        table = text.read_tokens(tokens if tokens.is_dir() else tokens.parent)
    examination = checks.examine(
        manifests,
        jobs=jobs or min(_MAX_JOBS, os.cpu_count() or 1),
        store_path=None if output_dir is None else output_dir / ".measures.jsonl",
        count_unknown=table.count_unknown if table is not None else None,
    )
    if model is not None:
        recognizer = transcription.Recognizer.load(model, device=device)
        examination = transcription.fit.add_model_findings(examination, recognizer)
    if output_dir is None and formats == ["json"]:
        put_json(_rendered(examination, "json", Path(), table))
    else:
        put(*checks.report.text_lines(examination))
    if output_dir is not None:
        claim_names(output_dir, [f"check.{_SUFFIXES[name]}" for name in formats])
        for name in formats:
            with open_atomic(output_dir / f"check.{_SUFFIXES[name]}") as file:
                file.write(_rendered(examination, name, output_dir, table))
    for manifest, path in fixed.items():
        cure = checks.write_cure(examination, manifest, path)
        say = tell if formats == ["json"] else put
        say(*checks.report.cure_lines(cure, str(path)))
    return 1 if examination.num_errors else 0


def _fixed_paths(fix: Path, manifests: Sequence[Path]) -> dict[Path, Path]:
    """Where manifests go when cleaned: the first to a file, or each to its name in a folder."""
    if fix.suffix and not fix.is_dir():
        paths = {manifests[0]: fix}
    else:
        paths = {manifest: fix / manifest.name.removesuffix(".gz") for manifest in manifests}
    if len(set(paths.values())) < len(paths):
        raise click.UsageError(f"--fix {fix}: two manifests have one name; check them one by one")
    for path in paths.values():
        refuse_input(path, manifests, f"--fix {fix}")
    return paths


def _rendered(
    examination: "checks.Examination", name: str, folder: Path, table: "text.TokenTable | None"
) -> str:
    if name == "json":
        return (
            json.dumps(checks.report.report_row(examination), ensure_ascii=False, indent=1) + "\n"
        )
    if name == "text":
        lines = checks.report.text_lines(examination, num_shown=len(examination.findings))
        return "\n".join(lines) + "\n"
    return checks.page.render_page(examination, folder, table)
