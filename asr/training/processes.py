"""Where training runs: the device, and the processes that share the work.

Processes are started from outside; `asr.launch` says how many there are.
"""

import logging
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers.tensorboard import TensorBoardLogger
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.strategies.ddp import DDPStrategy

from asr.errors import ConfigError
from asr.launch import find_launch
from asr.model import network
from asr.progress import Report, silent

_log = logging.getLogger(__name__)

# The others wait as long as the first process downloads, prepares and packs.
_PATIENCE = timedelta(days=2)
_ENVIRONMENTS = {
    "none": LightningEnvironment,
    "torchrun": TorchElasticEnvironment,
    "slurm": SLURMEnvironment,
}

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a run works: its process among others, its folders, and whom it tells."""

    fabric: Fabric
    folder: Path
    """Gets what a run makes."""
    scratch: Path
    """Keeps what a run needs to go on."""
    tell: Report
    """Of what is this process's own; what all processes see alike goes to `report` and `warn`."""

    @property
    def report(self) -> Report:
        """To the user, from the first process alone."""
        return self.tell if self.is_first else silent

    def warn(self, message: str) -> None:
        """Log a warning, from the first process alone."""
        if self.is_first:
            _log.warning("%s", message)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes."""
        return bool(self.fabric.is_global_zero)

    def close_logs(self) -> None:
        """Write what the logs still hold back: a file that changes later is taken for changed."""
        for logger in self.fabric.loggers:
            logger.finalize("finished")


def open_place(device: str, folder: Path, scratch: Path, report: Report) -> Place:
    """This process's place; see `open_fabric`."""
    return Place(fabric=open_fabric(device, folder), folder=folder, scratch=scratch, tell=report)


def open_fabric(device: str, folder: Path) -> Fabric:
    """This process's place among all, joined to them; logs go to `folder`/tensorboard.

    Raises:
        ConfigError: more processes than GPUs.
    """
    device, launch = network.choose_device(device), find_launch()
    if device == "cuda":
        if launch.local_size > torch.cuda.device_count():
            raise ConfigError(
                f"{launch.local_size} processes and {torch.cuda.device_count()} GPUs: start as "
                f"many processes on a machine as it has GPUs"
            )
        torch.set_float32_matmul_precision("high")  # TF32 where there is no bfloat16
    fabric = Fabric(
        accelerator=device,
        devices=launch.local_size,
        num_nodes=launch.num_nodes,
        strategy=DDPStrategy(timeout=_PATIENCE) if launch.world_size > 1 else "auto",
        plugins=_ENVIRONMENTS[launch.launcher](),
        loggers=TensorBoardLogger(folder, name="", version="tensorboard"),
    )
    fabric.launch()
    return fabric


def agree(word: str, device: str, folder: Path) -> str:
    """What the first process says, once all are here."""
    agreed: str = open_fabric(device, folder).broadcast(word)
    return agreed


def gather(fabric: Fabric, items: list[_T]) -> list[_T]:
    """The lists of all processes, one after another."""
    if fabric.world_size == 1:
        return items
    parts: list[list[_T]] = [[]] * fabric.world_size
    torch.distributed.all_gather_object(parts, items)
    return [item for part in parts for item in part]
