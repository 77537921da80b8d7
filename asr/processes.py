"""Where training runs: the device, its number format, and the processes that share the work.

Processes are started from outside, by `torchrun` or SLURM's `srun`; each finds out by itself how
many there are.
"""

import os
from pathlib import Path

import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers.tensorboard import TensorBoardLogger
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from asr.network import choose_device

_CUDNN_WITH_BFLOAT16_CELLS = 91300


def open_fabric(device: str, folder: Path) -> Fabric:
    """This process's place among all, joined to them; logs go to `folder`/tensorboard."""
    device = choose_device(device)
    num_nodes, devices = 1, 1
    if TorchElasticEnvironment.detect():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        num_nodes = int(os.environ["WORLD_SIZE"]) // devices
    elif SLURMEnvironment.detect():
        num_nodes = int(os.environ["SLURM_NNODES"])
        devices = int(os.environ["SLURM_NTASKS"]) // num_nodes
    if device == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32 where there is no bfloat16
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=num_nodes,
        strategy="ddp" if devices * num_nodes > 1 else "auto",
        loggers=TensorBoardLogger(folder, name="", version="tensorboard"),
    )
    fabric.launch()
    return fabric


def choose_precision(precision: str, device: str) -> torch.dtype:
    """The number format of matrix products.

    `auto` is bfloat16 on a GPU that has it, if cuDNN is 9.13 or newer: older ones have no such
    recurrent layers. On a CPU it is float32; see docs/experiments.md.
    """
    if precision != "auto":
        return torch.float32 if precision == "float32" else torch.bfloat16
    if device != "cuda":
        return torch.float32
    version = torch.backends.cudnn.version() or 0  # type: ignore[no-untyped-call]
    native = torch.cuda.is_bf16_supported() and version >= _CUDNN_WITH_BFLOAT16_CELLS
    return torch.bfloat16 if native else torch.float32
