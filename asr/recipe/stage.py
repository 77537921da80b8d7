"""A stage of a recipe, and what it is given to work with."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from asr.config import Config
from asr.progress import Report, silent


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What a stage works with: all that its function is given."""

    folder: Path
    """The work folder."""
    config: Config
    corpus: Path | None = None
    """A local copy of the corpus in its published layout, in place of the download."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    report: Report = silent
    stage_key: str = "none"
    """Stage, and hash of all that it depends on; set while a stage runs."""

    def path(self, name: str) -> Path:
        """A file or folder below the work folder."""
        return self.folder / name

    def scratch(self) -> Path:
        """A folder of the running stage's own, for what lets it go on after it was killed.

        It is there again when the stage starts with the same inputs and settings, is empty when it
        starts with others, and goes when the stage is done.
        """
        folder = self.folder / ".scratch" / self.stage_key
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A step of a recipe. The first line of its function's docstring is its help.

    `needs`, `makes` and `may_make` are files or folders, relative to the work folder. A folder
    stands for the files in it, without those that begin with a dot and those that other stages add
    to it.
    """

    name: str
    run: Callable[[Work], None]
    settings: tuple[str, ...] = ()
    """Sections or `section.key` of the configuration that the outcome depends on, and with them the
    contents of the files that they name (values of type `Path`)."""
    ignores: tuple[str, ...] = ()
    """Of those settings, the ones that the outcome does not depend on."""
    needs: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    may_make: tuple[str, ...] = ()
    """What it makes on some settings, and removes on others."""
    reads: tuple[Path, ...] = ()
    """Files and folders outside of the work folder whose contents it depends on."""
    reads_corpus: bool = False
    """Cannot run without --corpus, and depends on what is in that folder."""
    fetches_corpus: bool = False
    """Left out with --corpus, which then stands for its files in the `needs` of others."""
    shared: bool = False
    """Whether all processes take part, where several were started; the first does the others."""
    check: Callable[[Work], None] | None = None
    """Refuses settings and files, by an AsrError, before the first stage of a run begins."""
    version: int = 1
    """Raised when its code changes what it makes."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", self.name):
            raise ValueError(f"stage name {self.name!r} is not lower-case letters, digits, - and _")
        if not (self.run.__doc__ or "").strip():
            raise ValueError(f"the function of stage {self.name} has no docstring")
        for path in (*self.needs, *self.outputs):
            pure = PurePosixPath(path)
            if pure.is_absolute() or ".." in pure.parts or str(pure) != path or path == ".":
                raise ValueError(f"stage {self.name}: {path!r} is no path below the work folder")

    @property
    def outputs(self) -> tuple[str, ...]:
        """All that it makes or may make."""
        return (*self.makes, *self.may_make)

    @property
    def help(self) -> str:
        """What the stage does, in a line."""
        return first_line(self.run.__doc__)


def is_within(path: str, tops: Sequence[str]) -> bool:
    """Whether a path is one of `tops` or below one."""
    return any(path == top or path.startswith(f"{top}/") for top in tops)


def first_line(docstring: str | None) -> str:
    """Of a docstring; empty when there is none."""
    return (docstring or "").strip().partition("\n")[0]
