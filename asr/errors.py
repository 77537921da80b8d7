"""What a user can cause. Each message is one line: file, line, key, and what to do.

AsrError
├── ConfigError       a key, value or file of the configuration
├── DataError         a manifest, transcript, corpus or feature file
│   └── AudioError    one audio file
├── ModelError        a model folder
├── TrainingError     a run that cannot go on
└── StoppedError      SIGTERM, with all saved
"""

import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

_SHOWN = 200  # characters of an error of others
_CONTROL = re.compile(
    "[\\x00-\\x08\\x0a-\\x1f\\x7f-\\x9f"  # C0 without TAB, DEL, C1
    "\\u2028-\\u202e\\u2066-\\u2069"  # line ends, and what turns the direction of writing
    "\\ud800-\\udfff]"  # bytes that are no UTF-8
)


class AsrError(Exception):
    """A user's mistake or misfortune; the command line prints it without a traceback."""


class ConfigError(AsrError):
    """A configuration that cannot be used."""


class DataError(AsrError):
    """Corpus data that cannot be used."""


class AudioError(DataError):
    """An audio file that cannot be used."""


class ModelError(AsrError):
    """A model folder that cannot be used."""


class WholeUtterancesError(ModelError):
    """A model that cannot hear audio as it arrives."""


class TrainingError(AsrError):
    """A training run that cannot go on."""


class StoppedError(AsrError):
    """Told to stop by SIGTERM; what is done is saved."""


_P = ParamSpec("_P")
_T = TypeVar("_T")


def opens_model(
    function: Callable[Concatenate[Path, _P], _T],
) -> Callable[Concatenate[Path, _P], _T]:
    """Make whatever goes wrong in a function, that opens a model's folder, a ModelError.

    A folder may be anyone's, and what is wrong with it beyond all imagination.
    """

    @wraps(function)
    def opened(folder: Path, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(folder, *args, **kwargs)
        except AsrError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:_SHOWN] or "no reason is given"
            message = f"{folder}: the model cannot be opened: {type(error).__name__}: {reason}"
            raise ModelError(message) from error

    return opened


def printable(name: object) -> str:
    """A name that may hold anything, as one line of characters that can be seen."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(name))


def visible(line: str) -> str:
    """A line whose control characters, but TAB, are written as escapes; all else is as it was.

    Unlike `printable` for text: what joins letters in Persian or Hindi is no control character.
    """
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], line)
