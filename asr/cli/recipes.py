"""`asr recipes` and `asr run`."""

import json
import shlex
import sys
from pathlib import Path

import click

from asr.cli.terminal import put, report
from asr.files import read_file
from asr.launch import find_launch
from asr.recipe import Work, catalogue, definition
from asr.recipe import run as recipe_run


@click.command()
def recipes() -> None:
    """The recipes in the folder `recipes` here and those that come with asr, one line each."""
    for argument, recipe in catalogue.available_recipes().items():
        put(f"{argument}\t{recipe.description}")


@click.command()
@click.argument("recipe_folder", metavar="RECIPE", type=click.Path(path_type=Path))
@click.option("--conf", metavar="NAME|FILE", help="Configuration; the default is `default`.")
@click.option("--work", type=click.Path(path_type=Path), help="Work folder; work/RECIPE/NAME.")
@click.option("--corpus", type=click.Path(path_type=Path), help="Local copy of the corpus.")
@click.option("--init", "model", metavar="MODEL", help="Model folder that training starts from.")
@click.option("--from", "first", metavar="STAGE", help="First stage, by name or number.")
@click.option("--to", "last", metavar="STAGE", help="Last stage, by name or number.")
@click.option("--stage", type=int, metavar="N", help="The same as --from, by number.")
@click.option("--stop-stage", type=int, metavar="N", help="The same as --to, by number.")
@click.option("--list", "list_stages", is_flag=True, help="List the stages and where they stand.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and why.")
@click.option("--force", is_flag=True, help="Run stages that are done, too.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto")
def run(
    recipe_folder: Path,
    conf: str | None,
    work: Path | None,
    corpus: Path | None,
    model: str | None,
    first: str | None,
    last: str | None,
    stage: int | None,
    stop_stage: int | None,
    list_stages: bool,
    dry_run: bool,
    force: bool,
    overrides: tuple[str, ...],
    device: str,
) -> None:
    """Run the stages of RECIPE, a folder or a name; those that are done are skipped.

    A name is that of a recipe that comes with asr, where no folder is called so.
    """
    first = _one_of("--from", first, "--stage", stage)
    last = _one_of("--to", last, "--stop-stage", stop_stage)
    if model is not None:
        overrides += (f"training.init.model={json.dumps(model)}",)  # as YAML has a string, too
    recipe = definition.load_recipe(recipe_folder)
    config = definition.load_recipe_config(recipe, conf, overrides)
    folder = work or definition.default_work_folder(recipe, conf)
    job = Work(folder=folder, config=config, corpus=corpus, device=device)  # type: ignore[arg-type]
    if list_stages:
        numbers = {stage.name: n for n, stage in enumerate(recipe.stages, start=1)}
        for plan in recipe_run.plan(recipe, job, force=force):
            put(f"{numbers[plan.stage.name]}\t{plan.stage.name}\t{plan.state}\t{plan.stage.help}")
        return
    if dry_run:
        for plan in recipe_run.plan(recipe, job, first=first, last=last, force=force):
            reason = f" ({plan.reason})" if plan.reason else ""
            put(f"{plan.stage.name}: {plan.state}{reason}")
        return
    recipe_run.run_recipe(
        recipe,
        job,
        first=first,
        last=last,
        force=force,
        command=shlex.join(sys.argv),
        report=report,
    )
    result = folder / "result.txt"
    if last is None and result.exists() and not find_launch().rank:
        put(*read_file(result).decode().removesuffix("\n").split("\n"))


def _one_of(name: str, value: str | None, number_name: str, number: int | None) -> str | None:
    if value is not None and number is not None:
        raise click.UsageError(f"{name} and {number_name} say the same thing; give one")
    return str(number) if number is not None else value
