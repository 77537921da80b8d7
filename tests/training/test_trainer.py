import csv
import gc
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from asr.config import Config
from asr.corpus.packed import PackedCorpus
from asr.errors import DataError, StoppedError, TrainingError
from asr.model.features import Frontend
from asr.model.network import Network
from asr.scoring.errors import ErrorCounts, count_errors
from asr.text.tokens import read_tokens
from asr.training.batch import make_batch
from asr.training.history import find_best, read_history
from asr.training.step import Learner
from asr.training.trainer import train
from asr.transcription.evaluation import evaluate
from asr.transcription.recognizer import Recognizer
from asr.values import fingerprint
from tests.tones import CONFIG, write_corpus


def changed(config: Config = CONFIG, **training: object) -> Config:
    values = {**config.model_dump(), "training": {**config.training.model_dump(), **training}}
    return Config.model_validate(values)


pytestmark = pytest.mark.usefixtures("no_pictures")  # but in fixtures of a wider scope
SHORT = changed(epochs=6)


class Warnings(logging.Handler):
    """What is logged, among the lines that are reported; as the command line shows it."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname.lower()}: {record.getMessage()}")


def run(corpus: dict[str, PackedCorpus], folder: Path, config: Config = CONFIG) -> list[str]:
    lines: list[str] = []
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    arguments = (corpus["train"], corpus["dev"], config, folder)
    log, handler = logging.getLogger("asr"), Warnings(lines)
    log.addHandler(handler)
    try:
        train(*arguments, scratch=scratch, device="cpu", report=lines.append)
    finally:
        log.removeHandler(handler)
    return lines


def rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model" / "weights.safetensors")


@pytest.fixture(scope="module")
def short_run(
    tone_corpus: dict[str, PackedCorpus], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A training's folder, of which others must give the same bits."""
    folder = tmp_path_factory.mktemp("short")
    run(tone_corpus, folder, SHORT)
    errors = [float(row["dev_wer"]) for row in rows(folder / "history.csv")]
    assert min(errors) < errors[0], "which epoch is best would be no matter"
    return folder


@pytest.mark.parametrize(
    ("precision", "speed", "warned"),
    [("bfloat16", 0.5, True), ("bfloat16", 0.95, False), ("float32", 0.5, False)],
)
def test_bfloat16_where_it_is_slow_is_warned_of(
    precision: str,
    speed: float,
    warned: bool,
    tone_corpus: dict[str, PackedCorpus],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("asr.training.trainer.bfloat16_speed", lambda _: speed)
    lines = run(tone_corpus, tmp_path, changed(epochs=1, precision=precision))
    assert any("bfloat16 is 2.0 times as slow as float32" in line for line in lines) == warned


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
    short_run: Path, tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    run(tone_corpus, tmp_path, SHORT)
    assert_equal_weights(weights(tmp_path), weights(short_run))


def test_the_average_of_the_best_epoch_is_written_and_not_its_last_weights(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_epoch = Learner.start_epoch
    averages, currents = [], []

    def kept(self: Learner) -> None:
        for states, network in ((averages, self.average), (currents, self.network)):
            states.append({name: t.clone() for name, t in network.state_dict().items()})
        start_epoch(self)

    monkeypatch.setattr(Learner, "start_epoch", kept)
    run(tone_corpus, tmp_path, changed(epochs=4))
    best = find_best(read_history(tmp_path / "history.csv"))
    assert best is not None
    place, written = int(best["epoch"]) - 1, weights(tmp_path)
    assert all(torch.equal(tensor, averages[place][name]) for name, tensor in written.items())
    name = "encoder.output.weight"
    assert not torch.equal(written[name], currents[place][name])
    assert not any(torch.equal(written[name], each[name]) for each in averages[:place])


def test_the_learning_rate_rises_and_falls_to_nothing(tone_run: Path) -> None:
    rates = [row["learning_rate"] for row in read_history(tone_run / "history.csv")]
    assert max(rates) == pytest.approx(CONFIG.training.learning_rate, rel=0.05)
    peak = rates.index(max(rates))
    assert peak + 1 == CONFIG.training.epochs // 10
    assert rates[peak:] == sorted(set(rates[peak:]), reverse=True)
    assert rates[-1] < 0.001 * CONFIG.training.learning_rate


def assert_equal_weights(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


COLUMNS = ("epoch", "loss", "dev_loss", "dev_wer", "gradient_layer1", "learning_rate")


def assert_ended_alike(folder: Path, whole: Path) -> None:
    """The same weights and the same history."""
    assert_equal_weights(weights(folder), weights(whole))
    found, expected = (
        [[row[c] for c in COLUMNS] for row in rows(place / "history.csv")]
        for place in (folder, whole)
    )
    assert found == expected


@pytest.mark.parametrize("stops", [(0,), (17, 18, 103)], ids=["at-once", "three-times"])
def test_a_stopped_run_ends_as_one_never_stopped(
    short_run: Path,
    tone_corpus: dict[str, PackedCorpus],
    tmp_path: Path,
    stops: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped in the middle of a step, inside epochs, with a checkpoint every few steps."""
    step = Learner.step
    config = changed(SHORT, checkpoint_seconds=0.02)
    for stop in stops:

        def fail(self: Learner, rows: Any, number: int, stop: int = stop) -> None:
            if number == stop:
                raise KeyError("stopped")
            step(self, rows, number)

        monkeypatch.setattr(Learner, "step", fail)
        with pytest.raises(KeyError, match="stopped"):
            run(tone_corpus, tmp_path, config)
    monkeypatch.setattr(Learner, "step", step)
    lines = run(tone_corpus, tmp_path, config)
    assert stops == (0,) or any("going on from the last checkpoint" in line for line in lines)
    assert_ended_alike(tmp_path, short_run)


def test_a_stopped_run_from_a_model_ends_as_one_never_stopped(
    short_run: Path,
    tone_corpus: dict[str, PackedCorpus],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped while the output layer learns alone, and after; the old domain is replayed."""
    init: dict[str, object] = {"model": short_run / "model", "freeze_share": 0.3}
    init |= {"replay": short_run / "manifest.jsonl", "replay_share": 0.2}  # given packed
    values = changed(SHORT, epochs=2, checkpoint_seconds=0).model_dump()
    values["training"]["init"] |= init
    config = Config.model_validate(values)

    def adapt(folder: Path) -> None:
        train(
            tone_corpus["train"],
            tone_corpus["dev"],
            config,
            folder,
            scratch=scratch_of(folder),
            report=lambda _: None,
            replay_set=tone_corpus["dev"],
        )

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    steps: list[int] = []
    step = Learner.step

    def count(self: Learner, rows: Any, number: int) -> None:
        steps.append(number)
        step(self, rows, number)

    monkeypatch.setattr(Learner, "step", count)
    adapt(whole)
    for stop in (1, max(steps) // 4, max(steps)):

        def fail(self: Learner, rows: Any, number: int, stop: int = stop) -> None:
            if number == stop:
                raise KeyError("stopped")
            step(self, rows, number)

        monkeypatch.setattr(Learner, "step", fail)
        with pytest.raises(KeyError, match="stopped"):
            adapt(stopped)
    monkeypatch.setattr(Learner, "step", step)
    adapt(stopped)
    assert_ended_alike(stopped, whole)


def test_sigterm_saves_and_a_second_run_ends_as_one_never_stopped(
    short_run: Path, tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    real = signal.getsignal(signal.SIGTERM)
    lines: list[str] = []

    def report(line: str) -> None:
        lines.append(line)
        if line.startswith("epoch 3/"):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedError, match="the same command goes on"):
        train(
            tone_corpus["train"],
            tone_corpus["dev"],
            SHORT,
            tmp_path,
            scratch=scratch_of(tmp_path),
            report=report,
        )
    assert signal.getsignal(signal.SIGTERM) is real
    run(tone_corpus, tmp_path, SHORT)
    assert_equal_weights(weights(tmp_path), weights(short_run))


def scratch_of(folder: Path) -> Path:
    (folder / "scratch").mkdir(exist_ok=True)
    return folder / "scratch"


def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_it_is_said(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    config = changed(epochs=2, checkpoint_seconds=0)
    run(tone_corpus, tmp_path, config)
    expected = weights(tmp_path)
    last = tmp_path / "scratch" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    lines = run(tone_corpus, tmp_path, config)
    assert lines[0].startswith("warning: ")
    assert lines[0].endswith("last.ckpt is damaged and left out")
    for name, tensor in weights(tmp_path).items():
        assert torch.equal(tensor, expected[name]), name
    for name in ("last.ckpt", "previous.ckpt"):
        (tmp_path / "scratch" / name).write_bytes(b"nothing")
    with pytest.raises(TrainingError, match="no checkpoint can be read; delete"):
        run(tone_corpus, tmp_path, config)


def test_too_little_disk_space_stops_before_the_first_step(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(TrainingError, match=r"MB are needed, 1 MB are free; make room"):
        run(tone_corpus, tmp_path)
    assert not (tmp_path / "history.csv").exists()


def test_a_batch_that_is_too_large_for_memory_is_split_and_learnt_alike(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Config.model_validate(
        {**changed(epochs=2).model_dump(), "augment": {}, "encoder": {**NO_DROPOUT}}
    )
    run(tone_corpus, tmp_path / "whole", plain)
    gradients = Learner._piece_gradients
    failures = []

    def small_memory(self: Learner, rows: Any, *arguments: Any, **options: Any) -> Any:
        if len(rows) > 3:
            failures.append(len(rows))
            raise torch.OutOfMemoryError
        return gradients(self, rows, *arguments, **options)

    monkeypatch.setattr(Learner, "_piece_gradients", small_memory)
    lines = run(tone_corpus, tmp_path / "split", plain)
    warnings = [line for line in lines if "no memory for a batch of" in line]
    assert len(warnings) == len(failures) < 5
    first, second = (
        [float(row["loss"]) for row in rows(tmp_path / name / "history.csv")]
        for name in ("whole", "split")
    )
    assert first == pytest.approx(second, rel=1e-3)

    def no_memory(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Learner, "_piece_gradients", no_memory)
    with pytest.raises(TrainingError, match=r"no memory for utterance train-\d+ of .* s alone"):
        run(tone_corpus, tmp_path / "none", plain)


NO_DROPOUT = {**CONFIG.encoder.model_dump(), "dropout": 0.0}


def test_another_seed_gives_other_weights(
    tone_run: Path, tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    run(tone_corpus, tmp_path, changed(seed=2, epochs=1))
    assert not torch.equal(
        weights(tmp_path)["encoder.output.weight"], weights(tone_run)["encoder.output.weight"]
    )


def test_what_is_left_is_a_model_folder_logs_and_a_picture(
    tone_run: Path, tone_corpus: dict[str, PackedCorpus]
) -> None:
    assert {path.name for path in (tone_run / "model").iterdir()} == {
        "config.yaml",
        "tokens.txt",
        "training.json",
        "weights.safetensors",
    }
    origin = json.loads((tone_run / "model" / "training.json").read_text())
    best = min(float(row["dev_wer"]) for row in rows(tone_run / "history.csv"))
    assert origin["dev_wer"] == round(best, 4)
    train_set = tone_corpus["train"]
    lengths = zip(train_set.utterances, train_set.lengths.tolist(), strict=True)
    assert origin["data"] == fingerprint([[u.id, u.text, length] for u, length in lengths])
    page = (tone_run / "training.html").read_text()
    assert f"dev WER {best:.2f} % at epoch" in page
    assert "3 speakers are in train and dev" in page
    assert (tone_run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((tone_run / "tensorboard").glob("events.*"))
    header = (tone_run / "history.csv").read_text().splitlines()[0].split(",")
    assert {"gradient_subsampling", "gradient_layer1", "gradient_output", "data_wait"} <= {*header}


def test_no_log_is_written_once_training_is_over(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    """What is written later, when Python finds a forgotten writer, changes a stage's files."""
    gc.collect()
    gc.disable()
    before = set(threading.enumerate())
    try:
        run(tone_corpus, tmp_path, changed(epochs=1))
        writers = [t for t in set(threading.enumerate()) - before if "Writer" in type(t).__name__]
    finally:
        gc.enable()
    assert not writers


def test_progress_shows_epochs_samples_and_time_left(tone_run: Path) -> None:
    text = (tone_run / "lines.txt").read_text()
    assert f"epoch {CONFIG.training.epochs}/{CONFIG.training.epochs}: loss" in text
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


def with_nan(corpus: PackedCorpus, row: int) -> PackedCorpus:
    """The corpus as frames, of which one utterance's are not numbers."""
    frontend = Frontend(CONFIG.features)
    parts = []
    for index in range(len(corpus)):
        batch = make_batch(corpus, [index], [[]] * len(corpus))
        frames, _ = frontend.base(batch.inputs / 32768, batch.lengths)
        parts.append(np.full_like(frames[0], np.nan) if index == row else frames[0].numpy())
    starts = np.cumsum([0, *map(len, parts)])
    return replace(corpus, kind="features", values=np.concatenate(parts), starts=starts)


def test_a_step_with_a_bad_number_is_named_saved_left_out_and_counted(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = changed(epochs=2, max_bad_steps=2)
    broken = {"train": with_nan(tone_corpus["train"], 7), "dev": tone_corpus["dev"]}
    lines = run(broken, tmp_path, config)
    warnings = [line for line in lines if "the loss is not a number at train-7" in line]
    assert [line.rpartition("(")[2] for line in warnings] == ["1 so far)", "2 so far)"]
    saved = sorted((tmp_path / "bad_batches").iterdir())
    assert len(saved) == 2
    with safetensors.safe_open(saved[0], "pt") as file:
        ids = json.loads(file.metadata()["ids"])
        inputs = file.get_tensor("inputs")
    assert inputs[ids.index("train-7")].isnan().any()
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path).values())
    assert rows(tmp_path / "history.csv")[-1]["bad_steps"] == "2"
    gradients = Learner._piece_gradients

    def small_memory(self: Learner, rows: Any, *arguments: Any, **options: Any) -> Any:
        if len(rows) > 3:
            raise torch.OutOfMemoryError
        return gradients(self, rows, *arguments, **options)

    step = Learner.step
    monkeypatch.setattr(Learner, "_piece_gradients", small_memory)
    monkeypatch.setattr(Learner, "step", lambda self, rows, number: step(self, rows[::-1], number))
    lines = run(broken, tmp_path / "pieces", changed(epochs=1, max_bad_steps=1))
    assert sum("the loss is not a number at train-7;" in line for line in lines) == 1
    with pytest.raises(TrainingError, match=r"train-7; .*; that makes 2 such steps, over training"):
        run(broken, tmp_path / "strict", changed(epochs=2, max_bad_steps=1))


def test_a_step_that_is_left_out_changes_no_weight(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    """All steps are bad: what is written is the network as it was drawn."""
    config = changed(epochs=1, max_bad_steps=100)
    broken = with_nan(tone_corpus["train"], 0)
    broken = replace(broken, values=np.full_like(broken.values, np.nan))
    run({"train": broken, "dev": tone_corpus["dev"]}, tmp_path, config)
    torch.manual_seed(config.training.seed)
    fresh = Network(config, len(read_tokens(tmp_path / "model"))).state_dict()
    for name, tensor in weights(tmp_path).items():
        assert torch.equal(tensor, fresh[name]), name


def test_speaker_normalization_scores_dev_as_evaluation_does(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    """Each speaker has a level of its own; evaluation sees the utterances in another order."""
    config = Config.model_validate(
        {
            **CONFIG.model_dump(),
            "features": {**CONFIG.features.model_dump(), "normalization": "speaker"},
            "training": {**CONFIG.training.model_dump(), "epochs": 7},
        }
    )
    run(tone_corpus, tmp_path, config)
    recognizer = Recognizer.load(tmp_path / "model", device="cpu")
    utterances = tone_corpus["dev"].utterances[::-1]
    anonymous = [replace(utterance, speaker=None) for utterance in utterances]
    known, unknown = (
        evaluate(recognizer, part, name="", test_set="").report.score.words
        for part in (utterances, anonymous)
    )
    assert known.rate == pytest.approx(recognizer.training["dev_wer"], abs=1e-3)
    alone = [recognizer.transcribe(u.audio_filepath).text for u in utterances]
    by_id = dict(recognizer.transcribe_utterances(anonymous))
    assert [by_id[u].text for u in anonymous] == alone
    assert known.reference_length == unknown.reference_length


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
    frontend = recognizer._network.network.frontend
    batch = make_batch(tone_corpus["train"], list(range(60)), [[1]] * 60)
    features, num_frames = frontend(batch.inputs / 32768, batch.lengths)
    position = torch.arange(features.shape[1])
    valid = features[position < num_frames[:, None]]
    torch.testing.assert_close(valid.mean(0), torch.zeros(20), atol=1e-3, rtol=0)
    torch.testing.assert_close(valid.std(0), torch.ones(20), atol=1e-2, rtol=0)


_SIGNALS = """
import faulthandler, sys
from asr.training.trainer import _sigterm

before = faulthandler.is_enabled()
with _sigterm():
    print(before, faulthandler.is_enabled())
"""


@pytest.mark.parametrize(("closed", "enabled"), [("", "True"), (" 2>&-", "False")])
def test_signals_are_handled_on_a_stack_of_their_own(closed: str, enabled: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "$@"{closed}', "sh", sys.executable, "-c", _SIGNALS],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", enabled]
