"""What the documents say of the code is true of it."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "recipes").glob("*/README.md")),
]
PROGRAM = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"`((?:asr|tests|tools|recipes|docs)/[\w/.-]+\.\w+)`")


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_imports_of_a_page_are_there(page: Path) -> None:
    for program in PROGRAM.findall(page.read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(program)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("asr"):
                module = importlib.import_module(node.module or "")
                for alias in node.names:
                    getattr(module, alias.name)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_files_that_a_page_names_are_there(page: Path) -> None:
    names = FILE.findall(page.read_text(encoding="utf-8"))
    assert [name for name in names if not (ROOT / name).exists()] == []
