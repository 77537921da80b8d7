from pathlib import Path

import pytest

from asr.cli import main
from asr.training.history import read_history
from tests.conftest import ROOT


def test_yesno_is_learnt_from_real_speech(
    corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", str(ROOT / "recipes" / "yesno"), "--corpus", str(corpora / "yesno")]
    settings = ["training.epochs=20", "encoder.cell=lstm", "training.batch_seconds=20"]
    arguments += [part for setting in settings for part in ("--set", setting)]
    assert main([*arguments, "--work", str(tmp_path), "--device", "cpu"]) == 0
    history = read_history(tmp_path / "history.csv")
    assert min(row["dev_wer"] for row in history if "dev_wer" in row) < 10
    out, _ = capsys.readouterr()
    assert out.startswith("%WER ")
    assert " / 232, " in out.splitlines()[0]
