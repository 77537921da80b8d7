"""Measures of many files: read in parallel, and kept in a file so that a stopped run goes on."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from asr.corpus.checks.measures import (
    VERSION,
    AudioMeasures,
    FeatureMeasures,
    FileMeasures,
    StretchBounds,
    measure_features,
    measure_file,
)
from asr.corpus.stored_features import is_feature_path
from asr.errors import DataError
from asr.files import open_regular

Outcome = FileMeasures | FeatureMeasures | str
"""What a file holds, or why it cannot be read."""

_READ_AHEAD = 16  # files for each thread


@dataclass(frozen=True, slots=True)
class FileRequest:
    """A file, and the stretches of it to measure."""

    path: Path
    stretches: tuple[StretchBounds, ...]
    content: str | None = None
    """A digest of the file, by which a result is found again; else by path, size and time."""


def measure_files(
    requests: Iterable[FileRequest], jobs: int, store: "Store | None"
) -> Iterator[Outcome]:
    """Results in the order of the requests; `jobs` files are read at once."""
    remaining = iter(requests)
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        while window := list(islice(remaining, _READ_AHEAD * jobs)):
            keys = [_key(request) if store is not None else None for request in window]
            stored = [store.find(key) if store and key else None for key in keys]
            missing = [r for r, result in zip(window, stored, strict=True) if result is None]
            measured = pool.map(_measure, missing)
            for key, result in zip(keys, stored, strict=True):
                if result is not None:
                    yield result
                    continue
                outcome = next(measured)
                # What cannot be read is tried again next time: the disk may have been at fault.
                if store is not None and key is not None and not isinstance(outcome, str):
                    store.add(key, outcome)
                yield outcome


class Store:
    """Results on disk, a JSON line each, found again by file and stretches.

    Lines are added as files are read. A line cut off by a kill is left out.
    """

    def __init__(self, path: Path):
        self._path = path
        self._results: dict[str, Any] = {}

    def __enter__(self) -> "Store":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        whole = 0
        if self._path.exists():
            with open_regular(self._path) as lines:
                for line in lines:
                    try:
                        row = json.loads(line)
                        self._results[row["key"]] = row["result"]
                    except (ValueError, KeyError, TypeError):
                        break
                    whole += len(line)
            os.truncate(self._path, whole)
        self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def find(self, key: str) -> Outcome | None:
        """The result that is stored under a key; none if it is of another shape."""
        try:
            return _parsed(self._results[key])
        except (KeyError, TypeError):
            return None

    def add(self, key: str, result: FileMeasures | FeatureMeasures) -> None:
        """Store a result."""
        self._file.write(json.dumps({"key": key, "result": asdict(result)}) + "\n")
        self._file.flush()


def _measure(request: FileRequest) -> Outcome:
    try:
        if is_feature_path(request.path):
            return measure_features(request.path)
        return measure_file(request.path, request.stretches)
    except DataError as error:
        return str(error)


def _key(request: FileRequest) -> str | None:
    """What must be the same for a stored result to hold; none if the file cannot be looked at."""
    if request.content is not None:
        return json.dumps([VERSION, request.content, request.stretches])
    try:
        status = request.path.stat()
    except (OSError, ValueError):
        return None
    path = str(request.path.absolute())
    return json.dumps([VERSION, path, status.st_size, status.st_mtime_ns, request.stretches])


def _parsed(row: Mapping[str, Any]) -> Outcome:
    if "stretches" not in row:
        return FeatureMeasures(**row)
    stretches: Sequence[Mapping[str, Any]] = row["stretches"]
    return FileMeasures(
        **{**row, "stretches": tuple(AudioMeasures(**stretch) for stretch in stretches)}
    )
