"""Running a recipe: its stages in order, which of them are done, and the rest run.

A stage is done when its mark, written last, says that it ran on what it would run on today and that
its files are as it left them.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from asr.errors import ConfigError
from asr.folders import check_listed_folders, claim
from asr.launch import find_launch
from asr.progress import Report, format_seconds, silent
from asr.recipe import processes, work_folder
from asr.recipe.definition import Recipe, nearest
from asr.recipe.ledger import Ledger, StagePlan
from asr.recipe.stage import Stage, Work, is_within
from asr.values import fingerprint


def plan(
    recipe: Recipe,
    work: Work,
    *,
    first: str | None = None,
    last: str | None = None,
    force: bool = False,
) -> list[StagePlan]:
    """Where each stage from `first` to `last` stands; nothing is written.

    Raises:
        ConfigError: an unknown stage, `first` after `last`, or a stage before `first` not done.
        DataError: the corpus folder is not there.
        AsrError: what a stage's `check` refuses.
    """
    selected = _select(recipe, first, last)
    for stage in selected:
        if stage.check is not None:
            stage.check(work)
    pending: list[Stage] = []
    plans = []
    with work_folder.system_errors(str(work.folder)):
        ledger = Ledger(recipe.stages, work)
        _check_earlier(recipe, ledger, selected[0])
        for stage in selected:
            standing = ledger.plan(stage)
            makers = [other.name for other in pending if _feeds(other, stage)]
            if standing.state == "done" and force:
                standing = StagePlan(stage=stage, state="to do", reason="forced")
            elif standing.state == "done" and makers:
                reason = f"needs what {' and '.join(makers)} makes"
                standing = StagePlan(stage=stage, state="waits", reason=reason)
            if standing.state in ("to do", "changed", "waits"):
                pending.append(stage)
            plans.append(standing)
    return plans


def run_recipe(
    recipe: Recipe,
    work: Work,
    *,
    first: str | None = None,
    last: str | None = None,
    force: bool = False,
    command: str = "",
    report: Report = silent,
) -> None:
    """Run the stages from `first` to `last` (names, or numbers from 1) that are not done.

    Of several processes, the first runs them and calls the others to those that they share.

    Args:
        force: run those that are done, too.
        command: what the user typed; kept in the work folder.
        report: is given a line for each stage, and is `work.report` in the stages.

    Raises:
        ConfigError: an unknown stage, `first` after `last`, or a stage before `first` not done.
        AsrError: another run works in the folder, there are files of other origin where this one
            would write, a stage's `check` refuses something, or a stage met a full disk or the
            like.
    """
    selected = _select(recipe, first, last)
    work = replace(work, report=report)
    if find_launch().rank:
        processes.follow(selected, work)
        return
    with work_folder.system_errors(str(work.folder)):
        work_folder.check_places(recipe.stages, work)
        work.folder.mkdir(parents=True, exist_ok=True)
        with work_folder.lock(work.folder):
            ledger = Ledger(recipe.stages, work)
            for planned in plan(recipe, work, first=first, last=last, force=force):
                if planned.state not in ("done", "left out"):
                    for path in planned.stage.outputs:
                        check_listed_folders(work.path(path))
            work_folder.record_run(work, command)
            for stage in selected:
                number = f"{recipe.stages.index(stage) + 1}/{len(recipe.stages)}"
                _run_stage(stage, ledger, force, f"[{number}] {stage.name}")


def _run_stage(stage: Stage, ledger: Ledger, force: bool, title: str) -> None:
    work = ledger.work
    scratch = work.folder / ".scratch" / stage.name
    standing = ledger.plan(stage)
    if standing.state == "left out" or (standing.state == "done" and not force):
        work.report(f"{title}: {standing.state}")
        work_folder.discard(scratch)
        processes.announce(stage, "", work)
        return
    if stage.reads_corpus and work.corpus is None:
        raise ConfigError(f"stage {stage.name} reads the corpus: give its folder with --corpus")
    inputs = ledger.inputs(stage)
    key = fingerprint(inputs)
    work.report(f"{title}: {standing.reason or 'forced'}")
    start = time.monotonic()
    with work_folder.system_errors(f"stage {stage.name}"):
        work_folder.clear_leftovers(ledger.open(stage))
        for old in scratch.glob("*"):
            if force or old.name != key:
                work_folder.discard(old)
        for path in stage.outputs:
            work_folder.clear_leftovers(work.path(path))
            claim(work.path(path), work.folder)
        work = replace(work, stage_key=f"{stage.name}/{key}")
        processes.announce(stage, work.stage_key, work)
        stage.run(work)
        ledger.close(stage, inputs)
        work_folder.discard(scratch)
    work.report(f"{title}: done in {format_seconds(time.monotonic() - start)}")


def _check_earlier(recipe: Recipe, ledger: Ledger, first: Stage) -> None:
    for stage in recipe.stages[: recipe.stages.index(first)]:
        standing = ledger.plan(stage)
        if standing.state not in ("done", "left out"):
            raise ConfigError(
                f"--from {first.name}: stage {stage.name} before it is not done "
                f"({standing.reason}); run --from {stage.name}"
            )


def _select(recipe: Recipe, first: str | None, last: str | None) -> tuple[Stage, ...]:
    names = [stage.name for stage in recipe.stages]
    begin = _position(names, first, "--from") if first is not None else 0
    end = _position(names, last, "--to") if last is not None else len(names) - 1
    if begin > end:
        raise ConfigError(f"--from {names[begin]} comes after --to {names[end]}")
    return recipe.stages[begin : end + 1]


def _position(names: Sequence[str], given: str, option: str) -> int:
    if given in names:
        return names.index(given)
    if given.isdecimal() and 1 <= int(given) <= len(names):
        return int(given) - 1
    raise ConfigError(f"{option} {given}: no such stage; {nearest(given, names)}")


def _feeds(maker: Stage, user: Stage) -> bool:
    return any(is_within(n, [m]) or is_within(m, [n]) for m in maker.outputs for n in user.needs)
