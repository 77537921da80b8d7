import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from asr.cli import main
from asr.errors import ConfigError
from asr.launch import Launch, find_launch
from asr.training.history import read_history
from asr.training.step import Learner
from tests.conftest import ROOT

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
}
SRUN = {
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "8",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_PROCID": "5",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "8",
}


@pytest.mark.parametrize(
    ("environment", "launch"),
    [
        pytest.param({}, Launch(), id="alone"),
        pytest.param(
            TORCHRUN,
            Launch(launcher="torchrun", rank=3, world_size=4, num_nodes=2),
            id="torchrun",
        ),
        pytest.param(SRUN, Launch(launcher="slurm", rank=5, world_size=8, num_nodes=2), id="srun"),
        pytest.param({**SRUN, **TORCHRUN}, find_launch, id="torchrun-within-srun"),
        pytest.param({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, Launch(), id="sbatch-alone"),
        pytest.param({**SRUN, "SLURM_JOB_NAME": "bash"}, Launch(), id="a-shell-of-srun"),
    ],
)
def test_a_process_finds_its_place(
    environment: dict[str, str], launch: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(environment, monkeypatch)
    if callable(launch):
        place(TORCHRUN, monkeypatch)
        launch = launch()
        place(environment, monkeypatch)
    assert find_launch() == launch


def place(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in {**TORCHRUN, **SRUN}:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_uneven_tasks_of_slurm_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    place({k: v for k, v in SRUN.items() if k != "SLURM_NTASKS_PER_NODE"}, monkeypatch)
    with pytest.raises(ConfigError, match=r"8 tasks on 2 machines; .* with --ntasks-per-node"):
        find_launch()


RECIPE = '''"""Tones."""

from pathlib import Path

from asr.config import Settings
from asr.corpus import read_manifest, write_manifest
from asr.corpus.shards import write_shards
from asr.recipe import standard_stages
from tests.tones import write_corpus


class Corpus(Settings):
    sharded: bool = False


def download(target: Path) -> None:
    with (target.parent / "downloads.txt").open("a") as file:
        file.write("once")
    for seed, (name, count) in enumerate({"train": 61, "dev": 17, "test": 5}.items()):
        write_manifest(write_corpus(target / name, count, seed), target / f"{name}.jsonl")
    write_shards(read_manifest(target / "train.jsonl"), target / "shards", seconds=5)


def prepare(source: Path, folder: Path, corpus: Corpus) -> None:
    for path in source.glob("*.jsonl"):
        text = path.read_text().replace('"audio_filepath": "', f'"audio_filepath": "{source}/')
        folder.mkdir(exist_ok=True)
        (folder / path.name).write_text(text)
    if corpus.sharded:
        (folder / "train.shards").write_text(f"{source / 'shards'}\\n")


STAGES = standard_stages(Corpus, download, prepare)
'''
# Draws of dropout and augmentation would depend on the process.
CONF = """
features: {sample_rate: 8000, num_mel_bins: 20}
encoder: {hidden_size: 24, num_layers: 1, conv_channels: 24, subsampling: 2, dropout: 0}
training: {epochs: 3, batch_seconds: 5, learning_rate: 0.02}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    folder = tmp_path / "tones"
    (folder / "conf").mkdir(parents=True)
    (folder / "recipe.py").write_text(RECIPE)
    (folder / "conf" / "default.yaml").write_text(CONF)
    return folder


def test_sigterm_within_an_epoch_exits_with_143_and_the_same_command_goes_on(
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    step, numbers = Learner.step, []

    def ended(self: Learner, rows: Any, number: int) -> None:
        numbers.append(number)
        if numbers == [0, 1, 2]:
            os.kill(os.getpid(), signal.SIGTERM)
        step(self, rows, number)

    monkeypatch.setattr(Learner, "step", ended)
    command = [
        "run",
        str(recipe),
        "--to",
        "train",
        "--device",
        "cpu",
        "--work",
        str(tmp_path / "w"),
    ]
    command += ["--set", "training.epochs=1"]
    assert main(command) == 143
    assert "SIGTERM: the state is saved; the same command goes on" in capsys.readouterr().err
    assert main(command) == 0
    assert "going on from the last checkpoint, before step 3" in capsys.readouterr().err
    assert numbers == [*range(len(numbers))]


SHARDED = ["corpus.sharded=true", "training.stream=true", "training.window_mb=0.26"]
"""The training set from its shards, in windows of a quarter of them."""


@pytest.mark.parametrize("settings", [[], SHARDED], ids=["packed", "sharded"])
def test_two_processes_end_as_one(settings: list[str], recipe: Path, tmp_path: Path) -> None:
    arguments = ["run", str(recipe), "--to", "train", "--device", "cpu"]
    arguments += [word for setting in settings for word in ("--set", setting)] + ["--work"]
    assert main([*arguments, str(tmp_path / "one")]) == 0
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "asr"]
    command = [sys.executable, *torchrun, *arguments, str(tmp_path / "two")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "two" / "downloads.txt").read_text() == "once"
    one, two = (read_history(tmp_path / name / "history.csv") for name in ("one", "two"))
    for column in ("loss", "dev_loss", "dev_wer", "gradient_layer1", "skipped"):
        values = [[row[column] for row in history] for history in (one, two)]
        assert values[1] == pytest.approx(values[0], rel=1e-3, abs=1e-6), column
    assert one[-1]["loss"] < one[0]["loss"] / 1.5
    first, second = (
        safetensors.torch.load_file(tmp_path / name / "model" / "weights.safetensors")
        for name in ("one", "two")
    )
    for key, tensor in first.items():
        torch.testing.assert_close(second[key], tensor, rtol=1e-3, atol=1e-4)
    made = [{p.relative_to(tmp_path / n) for p in files(tmp_path / n)} for n in ("one", "two")]
    assert made[0] == made[1]


def files(folder: Path) -> list[Path]:
    found = folder.rglob("*")
    return [path for path in found if path.is_file() and not path.name.startswith("events.")]
