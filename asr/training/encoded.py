"""What the transcripts of a training set come to, kept in the scratch folder and mapped afterwards.

Tokens and targets of ten million utterances take minutes to work out, and are the same at every
start of a run.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.config import Config
from asr.corpus import PackedCorpus, packed
from asr.errors import DataError, ModelError
from asr.files import read_file
from asr.folders import replace_folder
from asr.text import TokenTable, read_tokens, write_tokens
from asr.training.targets import TokenRows

_FOLDER = "encoded"
_TARGETS, _STARTS, _ROWS, _ORIGIN = "targets.npy", "starts.npy", "rows.npy", "origin"


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """The transcripts of a training set, and which of its utterances can be learnt."""

    tokens: TokenTable
    targets: TokenRows
    """Of all utterances."""
    rows: NDArray[np.int64]
    """Of those that CTC can learn, in ascending order."""


def origin_of(corpus: PackedCorpus, config: Config) -> str:
    """A name for the audio and the settings that it is worked out from.

    Texts are not looked at: they are part of what a scratch folder is for.
    """
    digest = hashlib.sha256()
    for section in (config.features, config.tokens, config.encoder, config.training.init):
        digest.update(section.model_dump_json().encode())
    digest.update(corpus.starts.tobytes())
    digest.update(corpus.digests.tobytes())
    return digest.hexdigest()


def keep_encoded(encoded: Encoded, origin: str, scratch: Path) -> None:
    """Write it for `open_encoded`."""
    with replace_folder(scratch / _FOLDER) as folder:
        write_tokens(encoded.tokens, folder)
        np.save(folder / _TARGETS, encoded.targets.tokens)
        np.save(folder / _STARTS, encoded.targets.starts)
        np.save(folder / _ROWS, encoded.rows)
        (folder / _ORIGIN).write_text(origin, encoding="ascii")


def open_encoded(origin: str, scratch: Path) -> Encoded | None:
    """What was kept, its arrays mapped; nothing where it is missing, another's or damaged."""
    folder = scratch / _FOLDER
    try:
        if read_file(folder / _ORIGIN).decode("ascii") != origin:
            return None
        targets, starts, rows = packed.load_arrays(folder, _TARGETS, _STARTS, _ROWS)
        return Encoded(tokens=read_tokens(folder), targets=TokenRows.of(targets, starts), rows=rows)
    except (OSError, UnicodeDecodeError, DataError, ModelError):
        return None
