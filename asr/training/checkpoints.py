"""What a stopped run goes on from: its last state, and the one before.

A file is the SHA-256 of the rest, then a torch archive that holds tensors and plain values only.
It is read with `weights_only`, so that it can run no code.
"""

import hashlib
import io
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from asr.errors import TrainingError
from asr.files import open_atomic, read_file
from asr.progress import Report

_MAX_BYTES = 2**40  # of one's own file
_DIGEST_SIZE = hashlib.sha256().digest_size
_MARGIN = 16 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class RunState:
    """Where a run stands and what it has seen; a checkpoint holds it beside the learner's state."""

    epoch: int = 0
    """Number of the epoch that is being trained, from 0."""
    batch: int = 0
    """Number of the epoch's next batch."""
    history: tuple[dict[str, float], ...] = ()
    """A row for each epoch that is over."""
    samples: tuple[dict[str, str], ...] = ()
    """Dev utterances as the best epoch heard them."""
    findings: dict[str, str] = field(default_factory=dict)
    """What goes wrong, in words, by kind."""


def save_checkpoint(state: dict[str, Any], folder: Path) -> None:
    """Write `last.ckpt`; the one that was there becomes `previous.ckpt`.

    Raises:
        TrainingError: the disk is full; what was there before stays.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    require_space(folder, len(content))
    fresh, last = folder / "fresh.ckpt", folder / "last.ckpt"
    try:
        with open_atomic(fresh, "wb") as file:
            file.write(hashlib.sha256(content).digest())
            file.write(content)
    except OSError as error:
        raise TrainingError(
            f"{fresh}: {error.strerror or error}; make room and run the same command again, it "
            f"goes on from the checkpoint before"
        ) from error
    if last.exists():
        last.replace(folder / "previous.ckpt")
    fresh.replace(last)


def load_checkpoint(folder: Path, warn: Report) -> dict[str, Any] | None:
    """The last state that can be read; None where there was none.

    Raises:
        TrainingError: there are checkpoints, and every one is damaged.
    """
    damaged = []
    for name in ("last.ckpt", "previous.ckpt"):
        path = folder / name
        if not path.exists():
            continue
        state = _read(path)
        if state is not None:
            return state
        warn(f"{path} is damaged and left out")
        damaged.append(path)
    if damaged:
        raise TrainingError(
            f"{damaged[0]}: no checkpoint can be read; delete {folder} to train from the start"
        )
    return None


def require_space(folder: Path, num_bytes: int) -> None:
    """See that a folder's disk can take so much.

    Raises:
        TrainingError: it cannot.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes + _MARGIN:
        raise TrainingError(
            f"{folder}: {num_bytes / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free; make "
            f"room and run the same command again"
        )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = read_file(path, _MAX_BYTES)
    except OSError:
        return None
    digest, archive = content[:_DIGEST_SIZE], content[_DIGEST_SIZE:]
    if hashlib.sha256(archive).digest() != digest:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(archive), map_location="cpu", weights_only=True)
    return state
