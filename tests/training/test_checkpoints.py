import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from asr.errors import TrainingError
from asr.training.checkpoints import load_checkpoint, save_checkpoint


@contextmanager
def no_file_larger_than(num_bytes: int) -> Iterator[None]:
    """The system refuses to write on, as it does when a disk is full."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def step_of(folder: Path) -> int:
    state = load_checkpoint(folder, warn=print)
    assert state is not None
    return int(state["step"])


def test_a_disk_that_fills_up_in_a_write_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    save_checkpoint({"step": 1, "weights": torch.zeros(10_000)}, tmp_path)
    message = r"fresh.ckpt: .*; make room and run the same command again, it goes on from the"
    with no_file_larger_than(5_000), pytest.raises(TrainingError, match=message):
        save_checkpoint({"step": 2, "weights": torch.zeros(10_000)}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert step_of(tmp_path) == 1
    save_checkpoint({"step": 3, "weights": torch.zeros(10_000)}, tmp_path)
    assert step_of(tmp_path) == 3
    (tmp_path / "last.ckpt").write_bytes(b"")
    assert step_of(tmp_path) == 1


def test_space_is_looked_for_before_each_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint({"step": 1}, tmp_path)
    free = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(TrainingError, match="1 MB are free; make room and run the same command"):
        save_checkpoint({"step": 2}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert step_of(tmp_path) == 1
