"""Which recipes there are: those below a folder, and those that the package brings."""

import ast
import difflib
from dataclasses import dataclass
from pathlib import Path

from asr.files import read_file
from asr.recipe.stage import first_line

_PACKAGE = Path(__file__).parents[1]
_HERE = Path("recipes")
BROUGHT = next(
    (f for f in (_PACKAGE / "recipes", _PACKAGE.parent / "recipes") if f.is_dir()), _HERE
)
"""The recipes that come with the package: in it, or beside it in a checkout."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeSummary:
    """A recipe's name and line, read without importing it."""

    name: str
    folder: Path
    description: str


def find_recipes(root: Path) -> list[RecipeSummary]:
    """The recipes in the folders directly below `root`, by name; nothing is imported."""
    summaries = []
    for path in sorted(root.glob("*/recipe.py")):
        try:
            description = first_line(ast.get_docstring(ast.parse(read_file(path))))
        except (SyntaxError, ValueError) as error:
            description = f"(not Python: {error})"
        summary = RecipeSummary(name=path.parent.name, folder=path.parent, description=description)
        summaries.append(summary)
    return summaries


def available_recipes() -> dict[str, RecipeSummary]:
    """The recipes in the folder `recipes` here and the package's, by what `asr run` takes."""
    here = {str(recipe.folder): recipe for recipe in find_recipes(_HERE)}
    if _HERE.resolve() == BROUGHT.resolve():
        return here
    return here | {recipe.name: recipe for recipe in find_recipes(BROUGHT)}


def locate_recipe(recipe: Path) -> Path:
    """The folder of a recipe that is given by its folder or, if none is there, by name."""
    if recipe.exists() or len(recipe.parts) > 1 or not (BROUGHT / recipe / "recipe.py").is_file():
        return recipe
    return BROUGHT / recipe


def recipe_hint(folder: Path) -> str:
    """Which recipe may have been meant by a folder that is none; empty where there are none."""
    if folder.exists() and (BROUGHT / folder.name / "recipe.py").is_file():
        return f"; it hides the recipe {folder.name} of this package, which other folders can run"
    near = [*find_recipes(folder), *find_recipes(folder.parent)]
    arguments = {recipe.name: argument for argument, recipe in available_recipes().items()}
    arguments |= {recipe.name: str(recipe.folder) for recipe in near}
    close = difflib.get_close_matches(folder.name, arguments, n=1) or list(arguments)
    return f"; recipes are {', '.join(arguments[name] for name in close)}" if close else ""
