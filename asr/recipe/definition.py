"""A recipe as its folder defines it: `recipe.py`, the stages in it, and its configurations.

`recipe.py` defines `STAGES` (a tuple of `Stage`) and `Corpus` (the settings class of the
configuration's `corpus` section).
"""

import difflib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from asr.config import Config, Settings, parse_settings
from asr.config_files import load_conf
from asr.errors import AsrError, ConfigError
from asr.recipe.catalogue import locate_recipe, recipe_hint
from asr.recipe.stage import Stage, first_line, is_within
from asr.values import fingerprint, plain_values


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """A loaded recipe."""

    name: str
    folder: Path
    description: str
    stages: tuple[Stage, ...]
    corpus_settings: type[Settings]


def load_recipe(folder: Path) -> Recipe:
    """Import `recipe.py` of a folder, as part of a package that holds the folder's modules.

    So `from .corpus import Corpus` works wherever the folder is, and `from ..other import corpus`
    where recipe `other` is beside it. A name that is no folder is that of a recipe which comes with
    the package.

    Raises:
        ConfigError: no recipe there, it fails to import, or its stages do not fit together.
    """
    folder = locate_recipe(folder)
    path = folder / "recipe.py"
    if not path.is_file():
        raise ConfigError(f"{folder}: not a recipe: it has no recipe.py{recipe_hint(folder)}")
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
    hint = nearest(name, names) if names else f"{folders[1]} has no .yaml file"
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


def _import_recipe(folder: Path) -> ModuleType:
    top = folder.resolve()
    above = f"recipes_{fingerprint(str(top.parent))}"
    package = f"{above}.recipe_{fingerprint(str(top))}"
    for name in [n for n in sys.modules if n == above or n.startswith(f"{above}.")]:
        del sys.modules[name]
    for name, path in ((above, top.parent), (package, top)):
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(path)]
        sys.modules[name] = importlib.util.module_from_spec(spec)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(f"{package}.recipe")
    except AsrError:
        raise
    except Exception as error:
        message = " ".join(str(error).split())
        where = _location(error, top) or folder / "recipe.py"
        remedy = _remedy(error)
        raise ConfigError(f"{where}: {type(error).__name__}: {message}{remedy}") from error


def _remedy(error: Exception) -> str:
    """What to do about a recipe that was written for another version of this package."""
    if not isinstance(error, ImportError) or (error.name or "").partition(".")[0] != "asr":
        return ""
    names = importlib.import_module("asr.recipe").__all__
    return (
        f"; the recipe was written for another version of asr: in this one asr.recipe has "
        f"{', '.join(names)}"
    )


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
        for setting in (*stage.settings, *stage.ignores):
            if not _is_setting(setting, recipe.corpus_settings):
                yield f"stage {stage.name} depends on {setting}, which is no setting"
        names.add(stage.name)
        made += stage.outputs


def _is_setting(dotted: str, corpus_settings: type[Settings]) -> bool:
    section, *keys = dotted.split(".")
    if section not in Config.model_fields:
        return False
    kind = corpus_settings if section == "corpus" else Config.model_fields[section].annotation
    for key in keys:
        fields = getattr(kind, "model_fields", {})
        if key not in fields:
            return False
        kind = fields[key].annotation
    return True


def nearest(given: str, names: Sequence[str]) -> str:
    """Which of `names` was meant, in words, or all of them."""
    close = difflib.get_close_matches(given, names, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
