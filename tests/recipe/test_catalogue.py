import os
import subprocess
import sys
from pathlib import Path

import pytest

from asr.cli import main
from asr.recipe.definition import load_recipe
from tests.conftest import ROOT

RECIPES = ["an4", "digits", "english", "fsdd", "librispeech", "speechocean762", "yesno"]


def listed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["recipes"]) == 0
    return [line.partition("\t")[0] for line in capsys.readouterr().out.splitlines()]


def own_recipe(folder: Path) -> Path:
    (folder / "conf").mkdir(parents=True)
    (folder / "conf" / "default.yaml").write_text("{}\n")
    (folder / "recipe.py").write_text(
        '"""Of my own."""\n'
        "from asr.recipe import Stage\n"
        "def speak(work):\n"
        '    """Speak."""\n'
        'STAGES = (Stage(name="speak", run=speak),)\n'
    )
    return folder


def test_recipes_of_the_package_run_by_name_where_no_folder_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert listed(capsys) == RECIPES
    assert main(["run", "yesno", "--to", "prepare", "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("download: to do")
    own_recipe(tmp_path / "yesno")
    assert main(["run", "yesno", "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("speak: to do")


def test_recipes_here_come_before_those_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own_recipe(tmp_path / "recipes" / "calls")
    monkeypatch.chdir(tmp_path)
    assert listed(capsys) == ["recipes/calls", *RECIPES]
    monkeypatch.chdir(ROOT)
    assert listed(capsys) == [f"recipes/{name}" for name in RECIPES]


def test_a_folder_that_hides_a_recipe_of_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert main(["run", "digits"]) == 2
    assert capsys.readouterr().err == (
        "asr: digits: not a recipe: it has no recipe.py; it hides the recipe digits of this "
        "package, which other folders can run\n"
    )
    assert main(["run", "digit"]) == 2
    assert capsys.readouterr().err.endswith("recipe.py; recipes are digits\n")


@pytest.mark.parametrize(
    "line", ["from asr.own_corpus import Source", "from asr.recipe import Source"]
)
def test_a_recipe_for_another_version_is_told_what_there_is(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (own_recipe(tmp_path / "calls") / "corpus.py").write_text(f"\n{line}\n")
    with (tmp_path / "calls" / "recipe.py").open("a") as file:
        file.write("from . import corpus\n")
    assert main(["run", "calls"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"{tmp_path / 'calls' / 'corpus.py'}:2: " in error
    assert "; the recipe was written for another version of asr: in this one asr.recipe" in error
    assert " CorpusSource, " in error
    assert " Stage, " in error


def test_an_installed_package_has_its_recipes_and_their_configurations_in_it(
    tmp_path: Path,
) -> None:
    for name, source in {"asr": "asr", "asr/recipes": "recipes", "asr/conf": "conf"}.items():
        for path in (ROOT / source).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                target = tmp_path / "site" / name / path.relative_to(ROOT / source)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(path)
    code = (
        "from asr.cli import main; import asr.recipe.catalogue as c; print(c.BROUGHT);"
        "main(['run', 'digits', '--conf', 'live', '--list'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = result.stdout.splitlines()
    assert lines[0] == str(tmp_path / "site" / "asr" / "recipes")
    assert lines[1].startswith("1\tprepare\tto do\t")


def test_a_recipe_that_is_given_by_name_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_recipe(Path("digits")).name == "digits"
