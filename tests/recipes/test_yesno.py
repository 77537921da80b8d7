import json
from pathlib import Path

import pytest

from asr.cli import main
from asr.training.history import find_best, read_history
from tests.conftest import ROOT


def test_yesno_is_learnt_from_real_speech(
    corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Limits are far from what any processor comes to: half of the words are right by chance."""
    arguments = ["run", str(ROOT / "recipes" / "yesno"), "--corpus", str(corpora / "yesno")]
    settings = ["training.epochs=10", "training.warmup_share=0.2", "training.batch_seconds=20"]
    arguments += [part for setting in settings for part in ("--set", setting)]
    assert main([*arguments, "--work", str(tmp_path), "--device", "cpu"]) == 0
    history = read_history(tmp_path / "history.csv")
    assert history[-1]["loss"] < history[0]["loss"] / 5
    assert history[-1]["dev_loss"] < history[0]["dev_loss"] / 5
    best = find_best(history)
    assert best is not None
    assert best["dev_wer"] < 10
    origin = json.loads((tmp_path / "model" / "training.json").read_text(encoding="utf-8"))
    assert (origin["epoch"], origin["dev_wer"]) == (best["epoch"], round(best["dev_wer"], 4))
    rates = [row["learning_rate"] for row in history]
    assert rates[1] == max(rates) == pytest.approx(0.005, rel=0.01)  # of 10 epochs a fifth rises
    assert rates[-1] < 1e-5
    out, _ = capsys.readouterr()
    label, rate, _, errors, _, words, *_ = out.splitlines()[0].split()
    assert (label, words) == ("%WER", "232,")
    assert float(rate) == pytest.approx(100 * int(errors) / 232, abs=0.005)
    assert float(rate) < 25
