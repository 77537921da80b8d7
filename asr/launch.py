"""This process among those that were started together, by `torchrun` or SLURM's `srun`.

Each finds its place in the environment that the launcher gave it; nothing is imported for it.
"""

import os
from dataclasses import dataclass
from typing import Literal

from asr.errors import ConfigError

_BY_HAND = ("bash", "interactive")  # names of SLURM jobs in which people type commands


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """Which process this is, and of how many."""

    launcher: Literal["none", "torchrun", "slurm"] = "none"
    rank: int = 0
    """Of this process among all; the first prepares, reports and writes."""
    world_size: int = 1
    """Processes on all machines."""
    num_nodes: int = 1
    """Machines."""

    @property
    def local_size(self) -> int:
        """Processes on a machine."""
        return self.world_size // self.num_nodes


def find_launch() -> Launch:
    """The place of this process.

    A SLURM job without `srun` is one process, however many tasks the job has room for.

    Raises:
        ConfigError: srun's tasks are not the same number on every machine, as far as it says.
    """
    values = os.environ
    if "TORCHELASTIC_RUN_ID" in values:
        world_size = int(values["WORLD_SIZE"])
        return Launch(
            launcher="torchrun",
            rank=int(values["RANK"]),
            world_size=world_size,
            num_nodes=world_size // int(values["LOCAL_WORLD_SIZE"]),
        )
    world_size = int(values.get("SLURM_STEP_NUM_TASKS", "1"))
    if world_size == 1 or values.get("SLURM_JOB_NAME") in _BY_HAND:
        return Launch()
    num_nodes = int(values.get("SLURM_STEP_NUM_NODES", "1"))
    if int(values.get("SLURM_NTASKS_PER_NODE", "0")) * num_nodes != world_size:
        raise ConfigError(
            f"SLURM started {world_size} tasks on {num_nodes} machines; say how many each has "
            f"with --ntasks-per-node, for sbatch and srun alike"
        )
    return Launch(
        launcher="slurm",
        rank=int(values["SLURM_PROCID"]),
        world_size=world_size,
        num_nodes=num_nodes,
    )
