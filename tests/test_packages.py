"""The house: faces, names and who may import what."""

import ast
import importlib
import pkgutil
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import asr

ROOT = Path(asr.__file__).parent
PACKAGES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(ROOT)], "asr.")
    if module.ispkg and not module.name.startswith("asr.cli")
)
LARGEST_FACE = 12
WITH_TORCH = ("model", "training", "lm/neural.py")
WITHOUT_TORCH = ("model/onnx.py", "model/operators.py", "model/folder.py", "model/inference.py")


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    """Modules and what is taken from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_face_is_small_and_has_what_it_lists(name: str) -> None:
    face = importlib.import_module(name)
    objects = [getattr(face, public) for public in face.__all__]
    assert None not in objects
    # Modules that are reached by name do not count.
    assert 0 < sum(not isinstance(each, ModuleType) for each in objects) <= LARGEST_FACE
    assert "Which module for which question" in (face.__doc__ or "")


def test_other_packages_are_imported_by_their_faces() -> None:
    around = [
        f"{path}: {module}"
        for path, tree in sources()
        for module, _ in imported(tree)
        if module.startswith("asr.")
        and module.count(".") > 1
        and module not in PACKAGES
        and module.split(".")[1] != path.parts[0]
    ]
    assert not around


def test_torch_is_imported_where_networks_are() -> None:
    importers = {
        path.as_posix()
        for path, tree in sources()
        for module, _ in imported(tree)
        if module.partition(".")[0] in ("torch", "torchaudio", "lightning")
    }
    outside = {path for path in importers if not path.startswith(WITH_TORCH)}
    assert not outside | (importers & set(WITHOUT_TORCH))


@pytest.mark.parametrize("name", PACKAGES)
def test_a_face_names_every_module(name: str) -> None:
    face = importlib.import_module(name)
    words = set(re.findall(r"[a-z_0-9]+", face.__doc__ or ""))
    modules = {module.name for module in pkgutil.iter_modules(face.__path__)}
    assert not modules - words


def test_no_public_name_is_defined_in_two_packages() -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for path, tree in sources():
        if path.parts[0] == "cli" or path.name == "__init__.py":
            continue
        for node in tree.body:
            names: list[str] = []
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names = [node.name]
            elif isinstance(node, ast.Assign):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names = [node.target.id]
            package = path.parts[0] if len(path.parts) > 1 else "asr"
            for name in names:
                if not name.startswith("_"):
                    places[name].add(package)
    assert {name: sorted(where) for name, where in places.items() if len(where) > 1} == {}
