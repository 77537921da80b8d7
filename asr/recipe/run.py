"""Recipes: stages in order, which of them are done, and the running of the rest.

A recipe is a folder with a `recipe.py` that defines `STAGES` (a tuple of `Stage`) and `Corpus` (the
settings class of the configuration's `corpus` section). A stage is done when its mark, written
last, says that it ran on what it would run on today and that its files are as it left them.
"""

import ast
import difflib
import errno
import importlib
import importlib.util
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from asr.config import (
    Config,
    Settings,
    fingerprint,
    load_conf,
    parse_settings,
    plain_values,
    write_config,
)
from asr.errors import AsrError, ConfigError
from asr.files import check_listed_folders, claim, open_atomic, remove_leftovers
from asr.launch import find_launch
from asr.progress import Report, format_seconds, silent
from asr.recipe.ledger import Ledger, StagePlan
from asr.recipe.stage import Stage, Work, first_line, is_within

if sys.platform != "win32":
    import fcntl

__all__ = [
    "Recipe",
    "RecipeSummary",
    "Stage",
    "StagePlan",
    "Work",
    "default_work_folder",
    "find_conf",
    "find_recipes",
    "load_recipe",
    "load_recipe_config",
    "plan",
    "run_recipe",
]

_LOCK = Path(".stages", "lock")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A loaded recipe."""

    name: str
    folder: Path
    description: str
    stages: tuple[Stage, ...]
    corpus_settings: type[Settings]


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeSummary:
    """A recipe's name and line, read without importing it."""

    name: str
    folder: Path
    description: str


def find_recipes(root: Path) -> list[RecipeSummary]:
    """The recipes in the folders directly below `root`, by name; nothing is imported."""
    found = []
    for path in sorted(root.glob("*/recipe.py")):
        try:
            description = first_line(ast.get_docstring(ast.parse(path.read_bytes())))
        except (SyntaxError, ValueError) as error:
            description = f"(not Python: {error})"
        summary = RecipeSummary(name=path.parent.name, folder=path.parent, description=description)
        found.append(summary)
    return found


def load_recipe(folder: Path) -> Recipe:
    """Import `recipe.py` of a folder, as part of a package that holds the folder's modules.

    So `from .corpus import Corpus` works wherever the folder is.

    Raises:
        ConfigError: no recipe there, it fails to import, or its stages do not fit together.
    """
    path = folder / "recipe.py"
    if not path.is_file():
        raise ConfigError(f"{folder}: not a recipe: it has no recipe.py{_recipe_hint(folder)}")
    module = _import_recipe(folder)
    stages = getattr(module, "STAGES", ())
    if not stages or not all(isinstance(stage, Stage) for stage in stages):
        raise ConfigError(f"{path}: STAGES, a tuple of Stage, is missing")
    recipe = Recipe(
        name=folder.resolve().name,
        folder=folder,
        description=first_line(module.__doc__),
        stages=tuple(stages),
        corpus_settings=getattr(module, "Corpus", Settings),
    )
    for problem in _problems(recipe):
        raise ConfigError(f"{path}: {problem}")
    return recipe


def find_conf(recipe: Recipe, conf: str | None = None) -> Path:
    """The file of a configuration, which is given by name or as a path.

    A name is looked for in the recipe folder's `conf` and in `../../conf/<recipe>`.

    Raises:
        ConfigError: no such configuration; the message lists those that exist.
    """
    name = conf or "default"
    top = recipe.folder.resolve()
    folders = (top / "conf", top.parent.parent / "conf" / recipe.name)
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    if Path(name).is_file():
        return Path(name)
    names = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    hint = _hint(name, names) if names else f"{folders[1]} has no .yaml file"
    raise ConfigError(f"--conf {name}: no such configuration of recipe {recipe.name}; {hint}")


def load_recipe_config(
    recipe: Recipe, conf: str | None = None, overrides: Sequence[str] = ()
) -> Config:
    """The configuration `conf`, with every value of the recipe's `corpus` section filled in.

    Raises:
        ConfigError: no such configuration, an unknown key or a bad value.
    """
    path = find_conf(recipe, conf)
    config = load_conf(path, overrides)
    where = f"{path}, section corpus"
    corpus = parse_settings(config.corpus, recipe.corpus_settings, where)
    return config.model_copy(update={"corpus": plain_values(corpus)})


def default_work_folder(recipe: Recipe, conf: str | None = None) -> Path:
    """`work/<recipe>/<configuration>`, below the current folder."""
    return Path("work") / recipe.name / Path(conf or "default").stem


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
    """
    selected = _select(recipe, first, last)
    pending: list[Stage] = []
    plans = []
    with _misfortune(str(work.folder)):
        ledger = Ledger(recipe.stages, work)
        _check_earlier(recipe, ledger, selected[0])
        for stage in selected:
            found = ledger.plan(stage)
            makers = [other.name for other in pending if _feeds(other, stage)]
            if found.state == "done" and force:
                found = StagePlan(stage=stage, state="to do", reason="forced")
            elif found.state == "done" and makers:
                reason = f"needs what {' and '.join(makers)} makes"
                found = StagePlan(stage=stage, state="waits", reason=reason)
            if found.state in ("to do", "changed", "waits"):
                pending.append(stage)
            plans.append(found)
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
            would write, or a stage met a full disk or the like.
    """
    selected = _select(recipe, first, last)
    work = replace(work, report=report)
    if find_launch().rank:
        _follow(selected, work)
        return
    with _misfortune(str(work.folder)):
        _check_places(recipe, work)
        work.folder.mkdir(parents=True, exist_ok=True)
        with _lock(work.folder):
            ledger = Ledger(recipe.stages, work)
            for planned in plan(recipe, work, first=first, last=last, force=force):
                if planned.state not in ("done", "left out"):
                    for path in planned.stage.outputs:
                        check_listed_folders(work.path(path))
            _record_run(work, command)
            for stage in selected:
                number = f"{recipe.stages.index(stage) + 1}/{len(recipe.stages)}"
                _run_stage(stage, ledger, force, f"[{number}] {stage.name}")


def _run_stage(stage: Stage, ledger: Ledger, force: bool, title: str) -> None:
    work = ledger.work
    scratch = work.folder / ".scratch" / stage.name
    found = ledger.plan(stage)
    if found.state == "left out" or (found.state == "done" and not force):
        work.report(f"{title}: {found.state}")
        _discard(scratch)
        _call(stage, "", work)
        return
    if stage.reads_corpus and work.corpus is None:
        raise ConfigError(f"stage {stage.name} reads the corpus: give its folder with --corpus")
    inputs = ledger.inputs(stage)
    key = fingerprint(inputs)
    work.report(f"{title}: {found.reason or 'forced'}")
    start = time.monotonic()
    with _misfortune(f"stage {stage.name}"):
        _remove_leftovers(ledger.open(stage))
        for old in scratch.glob("*"):
            if force or old.name != key:
                _discard(old)
        for path in stage.outputs:
            _remove_leftovers(work.path(path))
            claim(work.path(path), work.folder)
        work = replace(work, stage_key=f"{stage.name}/{key}")
        _call(stage, work.stage_key, work)
        stage.run(work)
        ledger.close(stage, inputs)
        _discard(scratch)
    work.report(f"{title}: done in {format_seconds(time.monotonic() - start)}")


def _call(stage: Stage, key: str, work: Work) -> str:
    """Have all processes know under which key a shared stage runs; empty when it does not."""
    if not stage.shared or find_launch().world_size == 1:
        return key
    from asr.training import agree

    return agree(key, work.device, work.folder)


def _follow(stages: Sequence[Stage], work: Work) -> None:
    """Wait for the first process, and take part in the stages that are shared."""
    name = f"process {find_launch().rank}"
    report = work.report
    work = replace(work, report=lambda line: report(f"{name}: {line}"))
    for stage in stages:
        if stage.shared and (key := _call(stage, "", work)):
            with _misfortune(f"stage {stage.name}"):
                stage.run(replace(work, stage_key=key))


def _discard(folder: Path) -> None:
    """Remove a folder that is to be there whole or not at all."""
    gone = folder.with_name(f"{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    if folder.exists():
        folder.rename(gone)
        shutil.rmtree(gone)


def _remove_leftovers(path: Path) -> None:
    """Remove what a killed process left of writing `path`, or files in it, atomically."""
    remove_leftovers(path.parent, path.name)
    for folder, _, _ in os.walk(path):
        remove_leftovers(Path(folder))


def _record_run(work: Work, command: str) -> None:
    """Write configuration and command beside what they make."""
    for name in ("config.yaml", "command.txt"):
        _remove_leftovers(work.path(name))
    write_config(work.config, work.path("config.yaml"))
    with open_atomic(work.path("command.txt")) as file:
        file.write(f"{command}\n")


def _check_places(recipe: Recipe, work: Work) -> None:
    """See that a folder in which no run was yet has nothing where this one writes."""
    if (work.folder / _LOCK).is_file():
        return
    # What is downloaded may be there, and is checked; nothing that is there gets another's name.
    outputs = [path for s in recipe.stages if not s.fetches_corpus for path in s.outputs]
    for name in ("config.yaml", "command.txt", ".stages", ".scratch", *outputs):
        path = work.path(name)
        if path.is_file() or path.is_symlink() or any(p.is_file() for p in path.rglob("*")):
            raise AsrError(
                f"{path}: was not made by asr run, which would write there; move it away, or give "
                "another folder with --work"
            )


def _check_earlier(recipe: Recipe, ledger: Ledger, first: Stage) -> None:
    for stage in recipe.stages[: recipe.stages.index(first)]:
        found = ledger.plan(stage)
        if found.state not in ("done", "left out"):
            raise ConfigError(
                f"--from {first.name}: stage {stage.name} before it is not done "
                f"({found.reason}); run --from {stage.name}"
            )


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Keep other runs out of a work folder; a killed process holds nothing."""
    path = folder / _LOCK
    path.parent.mkdir(exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        if sys.platform != "win32":
            try:
                # Not flock, which worker processes would inherit and keep when this one is killed.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
                file.seek(0)
                raise AsrError(
                    f"{folder}: another run (process {file.read().strip()}) is at work there; "
                    "wait for it, or give another folder with --work"
                ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def _misfortune(where: str) -> Iterator[None]:
    """Turn what the operating system refuses into a line that says where it happened."""
    try:
        yield
    except OSError as error:
        cause = " ".join(str(error.strerror or error).split())
        path = f": {error.filename}" if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "; make room and give the same command again" if full else ""
        raise AsrError(f"{where}{path}: {cause}{remedy}") from error


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
    raise ConfigError(f"{option} {given}: no such stage; {_hint(given, names)}")


def _hint(given: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(given, names, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"


def _recipe_hint(folder: Path) -> str:
    roots = (folder, folder.parent, Path("recipes"))
    known = {recipe.name: recipe.folder for root in roots for recipe in find_recipes(root)}
    close = difflib.get_close_matches(folder.name, known, n=1) or list(known)
    return f"; recipes are {', '.join(str(known[name]) for name in close)}" if close else ""


def _import_recipe(folder: Path) -> ModuleType:
    top = folder.resolve()
    package = f"recipe_{fingerprint(str(top))}"
    for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
        del sys.modules[name]
    spec = ModuleSpec(package, None, is_package=True)
    spec.submodule_search_locations = [str(top)]
    sys.modules[package] = importlib.util.module_from_spec(spec)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(f"{package}.recipe")
    except AsrError:
        raise
    except Exception as error:
        message = " ".join(str(error).split())
        where = _location(error, top) or folder / "recipe.py"
        raise ConfigError(f"{where}: {type(error).__name__}: {message}") from error


def _location(error: Exception, top: Path) -> str:
    """File and line, in the recipe's folder, where importing it failed."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if Path(frame.filename).is_relative_to(top)]
    return f"{inside[-1].filename}:{inside[-1].lineno}" if inside else ""


def _problems(recipe: Recipe) -> Iterator[str]:
    """What does not fit together in the stages of a recipe."""
    if not issubclass(recipe.corpus_settings, Settings):
        yield "Corpus is not a subclass of asr.config.Settings"
    names: set[str] = set()
    made: list[str] = []
    for stage in recipe.stages:
        if stage.name in names:
            yield f"two stages are called {stage.name}"
        for path in stage.outputs:
            if path in made:
                yield f"stage {stage.name} makes {path}, as an earlier stage does"
        for need in stage.needs:
            if not any(is_within(need, [m]) or is_within(m, [need]) for m in made):
                yield f"stage {stage.name} needs {need}, which no earlier stage makes"
        for setting in stage.settings:
            if not _is_setting(setting, recipe.corpus_settings):
                yield f"stage {stage.name} depends on {setting}, which is no setting"
        names.add(stage.name)
        made += stage.outputs


def _is_setting(dotted: str, corpus_settings: type[Settings]) -> bool:
    section, dot, key = dotted.partition(".")
    if section not in Config.model_fields:
        return False
    kind = corpus_settings if section == "corpus" else Config.model_fields[section].annotation
    return not dot or (kind is not None and key in getattr(kind, "model_fields", {}))


def _feeds(maker: Stage, user: Stage) -> bool:
    return any(is_within(n, [m]) or is_within(m, [n]) for m in maker.outputs for n in user.needs)
