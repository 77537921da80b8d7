"""What a verb reads is never what it writes over."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import click


def refuse_input(output: Path, inputs: Iterable[object], option: str) -> None:
    """Refuse a file as output that is among what is read, by whatever name.

    Args:
        output: what would be written; a folder is not looked at.
        inputs: what the verb was given; what is no path of a file counts for nothing.
        option: says in the message where the output was named.

    Raises:
        UsageError: it is one of them.
    """
    if not output.is_file():
        return
    for value in inputs:
        for path in value if isinstance(value, tuple) else (value,):
            with suppress(OSError, ValueError):  # not there, or no name of a file
                if isinstance(path, str | Path) and output.samefile(path):
                    raise click.UsageError(
                        f"{option}: {output} is read as well; name another place"
                    )
