import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr.audio import read_audio
from asr.cli import main
from asr.corpus import Utterance, write_manifest
from asr.corpus.noises import list_noises
from asr.errors import DataError
from asr.transcription.noisy import add_recorded_noise
from tests import tones

RATE = tones.RATE


def write_noise(path: Path, samples: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, samples, RATE)
    return path


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Tones of both words at once, so that at equal level either is heard everywhere."""
    time = np.arange(3 * RATE) / RATE
    both = sum(np.sin(2 * np.pi * hertz * time) for hertz in tones.TONES.values())
    return write_noise(tmp_path / "noise/both.wav", 0.3 * both).parent


def test_noise_is_added_at_its_level_and_the_same_at_every_level(
    noise: Path, tmp_path: Path
) -> None:
    utterance = tones.write_corpus(tmp_path / "test", 1, seed=1)[0]
    listed = list_noises([noise], "noise")
    clean = read_audio(utterance.audio_filepath, sample_rate=RATE).samples
    added = []
    for level in (30.0, 10.0):
        noisy = add_recorded_noise(utterance, listed, level, RATE)
        assert len(noisy) == len(clean)
        added.append(noisy - clean)
        ratio = 10 * np.log10(np.mean(clean**2) / np.mean(added[-1] ** 2))
        assert ratio == pytest.approx(level, abs=0.01)
    assert added[1] == pytest.approx(10 * added[0], abs=1e-4)
    loud = add_recorded_noise(utterance, listed, -20.0, RATE)
    assert np.abs(loud).max() == pytest.approx(0.99)


def test_evaluate_adds_a_table_by_level(
    noise: Path, tone_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances = tones.write_corpus(tmp_path / "test", 8, seed=3)
    write_manifest(utterances, tmp_path / "test.jsonl")
    output = tmp_path / "output"
    arguments = ["evaluate", str(tone_run / "model"), str(tmp_path / "test.jsonl")]
    arguments += ["--device", "cpu", "--noise", str(noise)]
    assert main([*arguments, "--snr", "40,-10", "--output-dir", str(output)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " dB: WER " in line]
    assert [line.partition(":")[0] for line in lines] == ["noise at 40 dB", "noise at -10 dB"]
    values = json.loads((output / "report.json").read_text())
    soft, loud = values["conditions"]
    assert soft["wer"] == values["wer"] == 0
    assert loud["wer"] > 20
    assert loud["interval"]["low"] <= loud["wer"] <= loud["interval"]["high"]
    assert f"WER {loud['wer']:.2f} % [" in lines[1]
    page = (output / "report.html").read_text()
    assert "In noise" in page
    assert f">{loud['wer']:.2f}<" in page
    assert main([*arguments, "--snr", "loud"]) == 2
    assert "levels in dB are expected" in capsys.readouterr().err


def test_noise_that_cannot_be_is_said_before_anything_is_transcribed(
    noise: Path, tone_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    utterances = tones.write_corpus(tmp_path / "test", 8, seed=3)
    write_manifest(utterances, tmp_path / "test.jsonl")
    arguments = ["evaluate", str(tone_run / "model"), str(tmp_path / "test.jsonl")]
    longest = max(utterances, key=lambda utterance: utterance.duration)
    taken = longest.audio_filepath
    for path, message in (
        (tmp_path / "nowhere", "nowhere: no such file or folder"),
        (write_noise(tmp_path / "silent.wav", np.zeros(RATE)), "silent, no noise is in it"),
        (taken, f"{taken}: has the audio of {longest.id} of test.jsonl, which is scored"),
    ):
        assert main([*arguments, "--noise", str(path), "--device", "cpu"]) == 2
        captured = capsys.readouterr()
        assert message in captured.err.splitlines()[-1]
        assert not captured.out
    gap = np.zeros(30 * RATE)
    gap[:4000] = 0.1 * np.random.default_rng(1).standard_normal(4000)
    listed = list_noises([noise], "noise")
    silent = Utterance(
        id="gap", audio_filepath=write_noise(tmp_path / "gap.wav", gap), duration=0.0
    )
    with pytest.raises(DataError, match=r"gap\.wav: nothing but zeros from .* leave it out"):
        add_recorded_noise(utterances[0], [silent], 10.0, RATE)
    assert len(add_recorded_noise(silent, listed, 10.0, RATE)) == len(gap)
