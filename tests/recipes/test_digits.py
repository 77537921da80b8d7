import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from asr.cli import main
from asr.training.history import read_history
from tests.conftest import ROOT

pytest.importorskip("espeakng_loader")

SETTINGS = [
    "corpus.hours=0.02",
    "corpus.num_voices=8",
    "corpus.num_dev=6",
    "corpus.num_test=6",
    "encoder.hidden_size=16",
    "encoder.num_layers=1",
    "encoder.conv_channels=16",
    "training.epochs=4",
    "training.batch_seconds=20",
]


def arguments(work: Path) -> list[str]:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    return [
        "run",
        str(ROOT / "recipes" / "digits"),
        "--work",
        str(work),
        "--device",
        "cpu",
        *settings,
    ]


def outcome(work: Path) -> dict[str, bytes]:
    """What a run leaves that is not a matter of time: weights, manifests, transcripts."""
    names = ["model/weights.safetensors", "model/tokens.txt", "test/per_utt", "test/hyp.trn"]
    names += [f"manifests/{split}.jsonl" for split in ("train", "dev", "test")]
    return {name: (work / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("reference") / "work"
    assert main(arguments(work)) == 0
    return work


def test_the_loss_falls_and_the_test_set_is_scored(
    reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = read_history(reference / "history.csv")
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert main(arguments(reference)) == 0
    out, err = capsys.readouterr()
    assert out.startswith("%WER ")
    assert "epoch" not in err, "what is done runs again"
    report = json.loads((reference / "test" / "report.json").read_text())
    assert report
    assert (reference / "test" / "report.html").exists()


def kill_when(work: Path, line_start: str) -> None:
    """Run in a process of its own and kill it when stderr has a line that starts so."""
    process = subprocess.Popen(
        [sys.executable, "-m", "asr", *arguments(work)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stderr is not None
    with process.stderr as lines:
        for line in lines:
            if line.startswith(line_start):
                os.killpg(process.pid, signal.SIGKILL)
                break
    assert process.wait() == -signal.SIGKILL, "the process ended before it was to be killed"


def test_killed_in_every_stage_the_result_is_the_same(reference: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    for line in ("[1/6] prepare:", "[2/6] pack:", "epoch 2/4", "[6/6] evaluate:"):
        kill_when(work, line)
    assert main(arguments(work)) == 0
    assert outcome(work) == outcome(reference)


def test_a_new_learning_rate_trains_again_and_prepares_nothing(
    reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = [*arguments(reference), "--set", "training.learning_rate=0.001", "--dry-run"]
    assert main(changed) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "prepare: done"
    assert lines[1] == "pack: done"
    assert lines[2].startswith("train: changed (training.learning_rate 0.003 -> 0.001")
    assert lines[-1].startswith("evaluate: waits")
