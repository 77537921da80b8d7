import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from asr.config import Config
from asr.data import PackedCorpus
from asr.errors import DataError, TrainingError
from asr.manifest import Utterance
from asr.recognizer import Recognizer
from asr.scoring import ErrorCounts, count_errors
from asr.training import train
from tests.tones import CONFIG, write_corpus


def run(
    corpus: dict[str, PackedCorpus], folder: Path, config: Config = CONFIG, stop_after: int = 0
) -> list[str]:
    """Train; with `stop_after`, fail right after that epoch's checkpoint and go on anew."""
    lines: list[str] = []
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)

    def report(line: str) -> None:
        lines.append(line)
        if stop_after and line.startswith(f"epoch {stop_after + 1}/"):
            raise KeyError("stopped")

    arguments = (corpus["train"], corpus["dev"], config, folder)
    if stop_after:
        with pytest.raises(KeyError, match="stopped"):
            train(*arguments, scratch=scratch, device="cpu", report=report)
    train(*arguments, scratch=scratch, device="cpu", report=lines.append)
    return lines


def rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model" / "weights.safetensors")


def test_the_loss_falls_and_unseen_words_are_recognized(tone_run: Path, tmp_path: Path) -> None:
    history = rows(tone_run / "history.csv")
    assert float(history[-1]["loss"]) < float(history[0]["loss"]) / 5
    recognizer = Recognizer.load(tone_run / "model", device="cpu")
    errors = ErrorCounts()
    for utterance in write_corpus(tmp_path / "test", 30, seed=9):
        transcript = recognizer.transcribe(utterance.audio_filepath)
        errors += count_errors((utterance.text or "").split(), transcript.text.split())
    assert errors.rate is not None
    assert errors.rate < 5


def test_a_seed_gives_the_same_weights_again(
    tone_run: Path, tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    run(tone_corpus, tmp_path)
    expected = weights(tone_run)
    for name, tensor in weights(tmp_path).items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize("stop_after", [1, 7])
def test_a_stopped_run_ends_as_one_never_stopped(
    tone_run: Path, tone_corpus: dict[str, PackedCorpus], tmp_path: Path, stop_after: int
) -> None:
    lines = run(tone_corpus, tmp_path, stop_after=stop_after)
    assert "going on from the last checkpoint" in lines
    assert sum(line.startswith("epoch 1/") for line in lines) == 1
    expected = weights(tone_run)
    for name, tensor in weights(tmp_path).items():
        assert torch.equal(tensor, expected[name]), name
    columns = ("epoch", "loss", "dev_loss", "dev_wer", "gradient_layer1", "learning_rate")
    first, second = (
        [[row[c] for c in columns] for row in rows(f / "history.csv")] for f in (tone_run, tmp_path)
    )
    assert first == second


def test_another_seed_gives_other_weights(
    tone_run: Path, tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    config = CONFIG.model_copy(
        update={"training": CONFIG.training.model_copy(update={"seed": 2, "epochs": 1})}
    )
    run(tone_corpus, tmp_path, config)
    assert not torch.equal(
        weights(tmp_path)["encoder.output.weight"], weights(tone_run)["encoder.output.weight"]
    )


def test_what_is_left_is_a_model_folder_logs_and_a_picture(tone_run: Path) -> None:
    assert {path.name for path in (tone_run / "model").iterdir()} == {
        "config.yaml",
        "tokens.txt",
        "training.json",
        "weights.safetensors",
    }
    origin = json.loads((tone_run / "model" / "training.json").read_text())
    best = min(float(row["dev_wer"]) for row in rows(tone_run / "history.csv"))
    assert origin["dev_wer"] == round(best, 4)
    assert (tone_run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((tone_run / "tensorboard").glob("events.*"))
    header = (tone_run / "history.csv").read_text().splitlines()[0].split(",")
    assert {"gradient_subsampling", "gradient_layer1", "gradient_output", "data_wait"} <= {*header}


def test_progress_shows_epochs_samples_and_time_left(tone_run: Path) -> None:
    text = (tone_run / "lines.txt").read_text()
    assert "epoch 20/20: loss" in text
    assert " left" in text
    assert "    ref " in text
    assert "    hyp " in text


def relabelled(corpus: PackedCorpus, texts: dict[int, str | None]) -> PackedCorpus:
    utterances = tuple(
        replace(u, text=texts[row]) if row in texts else u
        for row, u in enumerate(corpus.utterances)
    )
    return replace(corpus, utterances=utterances)


def test_infeasible_utterances_are_listed_and_left_out(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    too_long = relabelled(tone_corpus["train"], {3: "la mi " * 40})
    config = CONFIG.model_copy(
        update={"training": CONFIG.training.model_copy(update={"epochs": 1})}
    )
    lines = run({"train": too_long, "dev": tone_corpus["dev"]}, tmp_path, config)
    (row,) = rows(tmp_path / "infeasible.tsv", delimiter="\t")
    assert row["id"] == "train-3"
    assert int(row["needed"]) == len(("la mi " * 40).strip())
    assert int(row["steps"]) < int(row["needed"])
    assert any("1 of 60 utterances are left out" in line for line in lines)


@pytest.mark.parametrize(
    ("split", "texts", "message"),
    [
        pytest.param("dev", {0: "la xü"}, r"dev set: .*'ü' \(U\+00FC, 1 times\)", id="unknown"),
        pytest.param(
            "train", {5: None}, "1 utterances have no text, the first is train-5", id="no"
        ),
        pytest.param(
            "train",
            dict.fromkeys(range(60), "la mi " * 200),
            "no utterance can be learnt",
            id="all",
        ),
    ],
)
def test_transcripts_that_cannot_be_learnt_stop_before_training(
    tone_corpus: dict[str, PackedCorpus],
    tmp_path: Path,
    split: str,
    texts: dict[int, str | None],
    message: str,
) -> None:
    broken = {**tone_corpus, split: relabelled(tone_corpus[split], texts)}
    with pytest.raises(DataError, match=message):
        train(broken["train"], broken["dev"], CONFIG, tmp_path, scratch=tmp_path, report=print)


def test_a_loss_that_is_no_number_names_the_utterance(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    frames = np.full((50, 20), np.nan, np.float32)
    utterance = Utterance(id="broken", audio_filepath=Path("x.ark"), duration=0.5, text="la mi")
    broken = replace(
        tone_corpus["train"],
        kind="features",
        utterances=(utterance,),
        values=frames,
        starts=np.array([0, 50]),
    )
    with pytest.raises(TrainingError, match="step 0: the loss is not a number at broken"):
        train(broken, tone_corpus["dev"], CONFIG, tmp_path, scratch=tmp_path, report=print)


def test_global_normalization_is_measured_on_the_training_set(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    config = Config.model_validate(
        {
            **CONFIG.model_dump(),
            "features": {**CONFIG.features.model_dump(), "normalization": "global"},
            "training": {**CONFIG.training.model_dump(), "epochs": 1},
        }
    )
    run(tone_corpus, tmp_path, config)
    recognizer = Recognizer.load(tmp_path / "model", device="cpu")
    frontend = recognizer._network.frontend
    batch = tone_corpus["train"].batch(list(range(60)), [[1]] * 60)
    features, num_frames = frontend(batch.inputs / 32768, batch.lengths)
    position = torch.arange(features.shape[1])
    valid = features[position < num_frames[:, None]]
    torch.testing.assert_close(valid.mean(0), torch.zeros(20), atol=1e-3, rtol=0)
    torch.testing.assert_close(valid.std(0), torch.ones(20), atol=1e-2, rtol=0)
