"""Which program made a result."""

import functools
import importlib.metadata
import subprocess
from pathlib import Path


def package_version() -> str:
    """The version of what is installed; `pip` calls it asr-recipes, as `asr` is another project."""
    return importlib.metadata.version("asr-recipes")


@functools.cache
def program_version() -> str:
    """The package's version, with the commit where it runs from a checkout.

    A commit with uncommitted changes is marked by `+changes`.
    """
    version = package_version()
    folder = Path(__file__).parents[1]
    if not (folder / ".git").exists():
        return version
    commit = _git(folder, "rev-parse", "--short=10", "HEAD")
    changes = "+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else ""
    return f"{version} ({commit}{changes})" if commit else version


def _git(folder: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip()
