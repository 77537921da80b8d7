import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT

_CODE = """
import numpy as np
from asr.decoding.viterbi import best_path
log_probs = np.log(np.array([[.1, .8, .1], [.8, .1, .1], [.1, .1, .8]], np.float32))
print(best_path(log_probs, np.array([1, 2])))
print(sum(best_path.stats.cache_hits.values()))
"""

_TOTAL = """
from sums.total import total
print(total(), sum(total.stats.cache_hits.values()))
"""


def hits(folder: Path, prefix: str = "", cache: Path | None = None) -> int:
    """How often the code of a function was found in a folder, in which its code is kept.

    Args:
        cache: the user's.
    """
    done = subprocess.run(
        [sys.executable, "-c", prefix + _CODE],
        # Root may write nearly everywhere: so Numba looks in this place alone.
        env={
            **os.environ,
            "NUMBA_CACHE_DIR": str(folder),
            "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator",
            "XDG_CACHE_HOME": str(cache or folder / "nowhere"),
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    path, count = done.stdout.splitlines()
    assert path == "[1 0 2]"
    return int(count)


def test_without_a_folder_to_keep_it_code_is_compiled(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert hits(tmp_path / "file") == 0


def test_a_full_disk_does_not_keep_code_from_running(tmp_path: Path) -> None:
    # A folder, and empty files in it, can be made.
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"
    assert hits(tmp_path, full) == 0
    assert any(tmp_path.iterdir())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        pytest.param(".nbi", cut, id="the index, cut"),
        pytest.param(".nbc", cut, id="code, cut"),
        pytest.param(".nbc", flip, id="code, a bit"),
    ],
)
def test_a_damaged_cache_is_written_anew(
    suffix: str, damage: Callable[[Path], object], tmp_path: Path
) -> None:
    assert hits(tmp_path) == 0
    (path,) = tmp_path.rglob(f"*{suffix}")
    damage(path)
    assert hits(tmp_path) == 0
    assert hits(tmp_path) == 1


def test_what_a_function_takes_from_other_files_is_compiled_anew_when_it_changes(
    tmp_path: Path,
) -> None:
    package = tmp_path / "sums"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "terms.py").write_text("from sums.numbers import SECOND\nFIRST = 1\n")
    (package / "total.py").write_text(
        "from asr.decoding.compilation import compiled\n"
        "from sums.terms import FIRST, SECOND\n\n"
        "@compiled()\n"
        "def total():\n"
        "    return FIRST + SECOND\n"
    )
    totals = []
    for second in (1, 1, 2):
        # Of one length, and of one age: what it holds has to tell.
        (package / "numbers.py").write_text(f"SECOND = {second}\n")
        os.utime(package / "numbers.py", (10**9, 10**9))
        done = subprocess.run(
            [sys.executable, "-Bc", _TOTAL],
            env={
                **os.environ,
                "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
                "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        totals.append(done.stdout.strip())
    assert totals == ["2 0", "2 1", "3 0"]


def test_code_is_compiled_where_numba_is_told_to_compile_nothing(tmp_path: Path) -> None:
    told = "import os; os.environ['NUMBA_DISABLE_JIT'] = '1'\n"
    assert hits(tmp_path, told) == 0
    assert hits(tmp_path, told) == 1


@pytest.mark.parametrize(
    ("mode", "group"), [pytest.param(0o777, 0, id="all"), pytest.param(0o775, 12345, id="a group")]
)
def test_code_from_a_folder_that_others_may_write_to_is_not_run(
    mode: int, group: int, tmp_path: Path
) -> None:
    given, cache = tmp_path / "given", tmp_path / "cache"
    given.mkdir()
    assert hits(given, cache=cache) == 0
    assert hits(given, cache=cache) == 1
    (path,) = given.rglob("*.nbi")
    if group:
        try:
            os.chown(path.parent, -1, group)
        except PermissionError:
            pytest.skip("files can be given to other groups by root alone")
    path.parent.chmod(mode)
    assert not cache.exists()
    # It is kept in the user's own cache in place of it.
    assert hits(given, cache=cache) == 0
    assert hits(given, cache=cache) == 1
    (kept,) = cache.rglob("*.nbi")
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
