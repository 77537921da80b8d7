import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from asr.config import Config
from asr.config_files import write_config
from asr.corpus.packed import PackedCorpus, join_packed
from asr.errors import AsrError, ConfigError, ModelError, StoppedError
from asr.model.folder import content_hash
from asr.training import page, trainer
from asr.training.history import read_history
from asr.training.source import check_source
from asr.training.step import Learner
from asr.training.trainer import train
from tests.tones import CONFIG

pytestmark = pytest.mark.usefixtures("no_pictures")


def starting_from(model: Path, *, features: Any = (), **training: object) -> Config:
    values = CONFIG.model_dump()
    init = {"model": model, **dict(training.pop("init", {}))}  # type: ignore[call-overload]
    values["training"] |= {"epochs": 2, "learning_rate": 0.005, **training, "init": init}
    values["features"] |= dict(features)
    return Config.model_validate(values)


def run(
    corpus: dict[str, PackedCorpus],
    folder: Path,
    config: Config,
    replay: PackedCorpus | None = None,
    report: Any = None,
) -> list[str]:
    lines: list[str] = []
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    train(
        corpus["train"],
        corpus["dev"],
        config,
        folder,
        scratch=scratch,
        device="cpu",
        report=report or lines.append,
        replay_set=replay,
    )
    return lines


def weights(model: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(model / "weights.safetensors")


def assert_same(first: Path, second: Path) -> None:
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("normalization", ["utterance", "global"])
def test_no_epoch_gives_the_model_that_it_starts_from_to_the_bit(
    normalization: str, tone_run: Path, tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    source, features = tone_run / "model", {"normalization": normalization}
    if normalization == "global":
        config = starting_from(source, features=features, init={"model": None}, epochs=1)
        run(tone_corpus, tmp_path / "first", config)
        source = tmp_path / "first" / "model"
        assert weights(source)["frontend.mean"].any()
    # Another training set, whose statistics would be others.
    corpus = {"train": tone_corpus["dev"], "dev": tone_corpus["train"]}
    config = starting_from(source, features=features, epochs=0)
    lines = run(corpus, tmp_path / "second", config)
    model = tmp_path / "second" / "model"
    assert_same(model, source)
    assert (model / "tokens.txt").read_bytes() == (source / "tokens.txt").read_bytes()
    origin, before = (json.loads((f / "training.json").read_text()) for f in (model, source))
    assert origin["init"] == {
        "hash": content_hash(source), "name": str(source), "dev_wer": before["dev_wer"]
    }  # fmt: skip
    assert origin["epoch"] == origin["seconds"] == 0
    assert "init" not in before
    assert any(f"starting from {source} ({content_hash(source)}): tokens 5 copied" in line
               for line in lines)  # fmt: skip
    assert any(line.startswith("epoch 0/0: before the first step, dev WER") for line in lines)
    assert (tmp_path / "second" / "init.tsv").read_text().count("copied") == 6
    assert content_hash(tmp_path / "second" / "init") == content_hash(source)


def test_a_starter_is_started_from_by_its_name(
    starter: str, tone_starter: Path, tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    run(tone_corpus, tmp_path, starting_from(Path(starter), epochs=0))
    stored, written = weights(tone_starter), weights(tmp_path / "model")
    scale = stored.pop("encoder.output.weight.scale")
    integers = stored["encoder.output.weight"]
    assert integers.dtype == torch.int8
    assert torch.equal(written["encoder.output.weight"], integers.float() * scale[:, None])
    origin = json.loads((tmp_path / "model" / "training.json").read_text())["init"]
    assert (origin["name"], origin["hash"]) == (starter, content_hash(tone_starter))
    with pytest.raises(ModelError, match=r"^training\.init\.model: tonse: .*; starters are tones$"):
        check_source(starting_from(Path("tonse")), tmp_path)


def test_the_epoch_before_the_first_is_kept_if_none_is_better(
    tone_run: Path, tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    config = starting_from(tone_run / "model", epochs=1, learning_rate=3.0,
                           init={"freeze_share": 0.0, "lower_rate": 1.0})  # fmt: skip
    run(tone_corpus, tmp_path, config)
    history = read_history(tmp_path / "history.csv")
    assert [row["epoch"] for row in history] == [0, 1]
    assert history[0]["dev_wer"] < history[1]["dev_wer"]
    assert_same(tmp_path / "model", tone_run / "model")


def states(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """The network's weights after every step that is taken from now on."""
    step, kept = Learner.step, []

    def noted(self: Learner, rows: Any, number: int) -> None:
        step(self, rows, number)
        for network in (self.network, self.average):
            kept.append({name: t.clone() for name, t in network.state_dict().items()})

    monkeypatch.setattr(Learner, "step", noted)
    return kept


def test_at_first_the_output_alone_is_trained(
    tone_run: Path,
    tone_corpus: dict[str, PackedCorpus],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = states(monkeypatch)
    config = starting_from(tone_run / "model", init={"freeze_share": 0.5})
    run(tone_corpus, tmp_path, config)
    before, num_steps = weights(tone_run / "model"), len(kept) // 2
    border = round(0.5 * num_steps)
    assert 3 < border < num_steps - 3
    for number in range(num_steps):
        for state in kept[2 * number : 2 * number + 2]:
            changed = {name for name in before if not torch.equal(state[name], before[name])}
            assert "encoder.output.weight" in changed
            lower = {name for name in changed if not name.startswith("encoder.output.")}
            assert bool(lower) == (number >= border), number
    gradients = [row.get("gradient_layer1") for row in read_history(tmp_path / "history.csv")]
    assert gradients[1] == 0 != gradients[2]


@pytest.fixture(scope="module")
def no_pictures_here() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "draw_curves", lambda _history, _path: None)
        patch.setattr(page, "draw_curve", lambda _history, _curve: b"")
        yield


@pytest.fixture(scope="module")
def tuned(
    no_pictures_here: None,  # noqa: ARG001
    tone_run: Path,
    tone_corpus: dict[str, PackedCorpus],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A fine-tuning that was never stopped: half of its steps frozen, and with replay."""
    folder = tmp_path_factory.mktemp("tuned")
    run(tone_corpus, folder, tuning(tone_run), tone_corpus["dev"])
    return folder


def tuning(tone_run: Path, **training: object) -> Config:
    init = {"freeze_share": 0.5, "replay": "old.jsonl", "replay_share": 0.1}
    return starting_from(tone_run / "model", init=init, **training)


@pytest.mark.parametrize("place", ["frozen", "last-frozen", "first-free", "free", "killed"])
def test_a_stopped_fine_tuning_ends_as_one_never_stopped(
    place: str,
    tuned: Path,
    tone_run: Path,
    tone_corpus: dict[str, PackedCorpus],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own model is what it starts from, and is replaced before the second attempt begins.

    When it is killed the last checkpoint lies in the frozen part, before the border.
    """
    save = trainer.save_checkpoint
    shutil.copytree(tone_run / "model", tmp_path / "model")
    step, borders = Learner.step, []
    config = tuning(tone_run, checkpoint_seconds=0)
    init = config.training.init.model_copy(update={"model": tmp_path / "model"})
    config = config.model_copy(
        update={"training": config.training.model_copy(update={"init": init})}
    )

    def stopped(self: Learner, rows: Any, number: int) -> None:
        offset = {"frozen": -2, "last-frozen": -1, "first-free": 0, "free": 2, "killed": 1}[place]
        if place == "killed" and number == self.num_frozen - 1:
            monkeypatch.setattr(trainer, "save_checkpoint", lambda *_: None)
        if place == "killed" and number == self.num_frozen + offset:
            raise KeyError("killed")
        step(self, rows, number)
        borders.append(self.num_frozen)
        if number == self.num_frozen + offset:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Learner, "step", stopped)
    with pytest.raises(KeyError if place == "killed" else StoppedError):
        run(tone_corpus, tmp_path, config, tone_corpus["dev"])
    assert borders[0] > 3
    monkeypatch.setattr(Learner, "step", step)
    monkeypatch.setattr(trainer, "save_checkpoint", save)
    if place == "free":  # as if it had been killed just before its end
        shutil.copytree(tuned / "model", tmp_path / "model", dirs_exist_ok=True)
    else:
        (tmp_path / "model" / "weights.safetensors").write_bytes(b"half of")
    check_source(config, tmp_path)
    lines = run(tone_corpus, tmp_path, config, tone_corpus["dev"])
    assert any("going on from the last checkpoint" in line for line in lines)
    assert_same(tmp_path / "model", tuned / "model")
    assert_same(tmp_path / "init", tone_run / "model")
    histories = [read_history(folder / "history.csv") for folder in (tmp_path, tuned)]
    first, second = ([(r["epoch"], r.get("loss"), r["dev_loss"]) for r in h] for h in histories)
    assert first == second


def test_a_share_of_each_epoch_is_of_the_old_domain(
    tone_run: Path,
    tone_corpus: dict[str, PackedCorpus],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step, learnt, sets = Learner.step, [], []

    def noted(self: Learner, rows: Any, number: int) -> None:
        learnt.append(rows)
        sets.append(self.examples.corpus)
        step(self, rows, number)

    monkeypatch.setattr(Learner, "step", noted)
    corpus = {"train": tone_corpus["dev"], "dev": tone_corpus["dev"]}
    init = {"replay": "old.jsonl", "replay_share": 0.25}
    config = starting_from(tone_run / "model", epochs=3, init=init)
    lines = run(corpus, tmp_path, config, tone_corpus["train"])
    assert "replay: 4 of 60 utterances are added to the 12 of an epoch" in lines
    rows = np.concatenate(learnt).reshape(3, 16)
    assert all(sorted(epoch[epoch < 12]) == [*range(12)] for epoch in rows)
    old = [set(epoch[epoch >= 12].tolist()) for epoch in rows]
    assert [len(drawn) for drawn in old] == [4, 4, 4]
    assert len(set.union(*old)) == 12
    expected = join_packed(tone_corpus["dev"], tone_corpus["train"])
    assert [*sets[0].utterances] == [*expected.utterances]
    unlearnt = replace(
        tone_corpus["train"],
        utterances=tuple(replace(u, text="la mi " * 99) for u in tone_corpus["train"].utterances),
    )
    with pytest.raises(AsrError, match=r"no utterance of training\.init\.replay can be learnt"):
        run(corpus, tmp_path / "other", config, unlearnt)


def test_speakers_of_the_old_domain_are_others_whatever_their_names(
    tone_run: Path, tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    from asr.training.processes import open_place
    from asr.training.task import prepare_task

    features = {"normalization": "speaker"}
    model = tmp_path / "model"
    shutil.copytree(tone_run / "model", model)
    config = starting_from(model, features=features, init={"replay": "old.jsonl"})
    write_config(config, model / "config.yaml")
    place = open_place("cpu", tmp_path, tmp_path, print)
    arguments = (tone_corpus["train"], tone_corpus["dev"], config, place, None)
    task = prepare_task(*arguments, replay_set=tone_corpus["dev"])
    statistics = task.examples.corpus.speakers
    assert statistics is not None
    assert len(np.unique(statistics.groups[:60])) == 3
    assert len(np.unique(statistics.groups)) == 6


def test_without_a_model_nothing_of_an_earlier_one_is_left(
    tone_run: Path, tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    run(tone_corpus, tmp_path, starting_from(tone_run / "model", epochs=0))
    assert (tmp_path / "init" / "config.yaml").exists()
    config = starting_from(tone_run / "model", epochs=1, init={"model": None})
    shutil.rmtree(tmp_path / "scratch")
    run(tone_corpus, tmp_path, config)
    assert not {"init", "init.tsv"} & {path.name for path in tmp_path.iterdir()}


def test_a_dev_set_that_the_model_before_has_learnt_is_said(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    corpus = {"train": tone_corpus["dev"], "dev": tone_corpus["train"]}
    no_model = starting_from(tmp_path, init={"model": None}, epochs=1)
    run(corpus, tmp_path / "first", no_model)
    config = starting_from(tmp_path / "first" / "model", epochs=0)
    assert not any("has learnt" in line for line in run(corpus, tmp_path / "second", config))
    lines = run({"train": tone_corpus["train"], "dev": tone_corpus["dev"]}, tmp_path / "3", config)
    assert any("has learnt 12 of the 12 dev utterances, by their ids" in line for line in lines)
    # What it has learnt is handed on.
    config = starting_from(tmp_path / "3" / "model", epochs=0)
    lines = run({"train": tone_corpus["train"], "dev": tone_corpus["dev"]}, tmp_path / "4", config)
    assert any("has learnt 12 of the 12 dev utterances" in line for line in lines)


def test_an_alphabet_with_nothing_in_common_is_said(
    tone_run: Path, tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    def foreign(corpus: PackedCorpus) -> PackedCorpus:
        texts = {"la": "жю", "mi": "шщ"}
        utterances = tuple(
            replace(u, text=" ".join(texts[word] for word in (u.text or "").split()))
            for u in corpus.utterances
        )
        return replace(corpus, utterances=utterances)

    corpus = {name: foreign(part) for name, part in tone_corpus.items()}
    lines = run(corpus, tmp_path, starting_from(tone_run / "model", epochs=0))
    assert any("tokens 1 copied, 4 new (ж, ш, щ, ю), 4 dropped" in line for line in lines)
    (warning,) = (line for line in lines if line.startswith("warning: none of the letters"))
    assert warning.endswith("all that is written is learnt anew (init.tsv)")


@pytest.fixture
def model(tone_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tone_run / "model", tmp_path / "given")
    return tmp_path / "given"


def test_a_model_that_is_none_or_damaged_is_refused_in_a_line(model: Path, tmp_path: Path) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(ModelError) as info:
            check_source(starting_from(path), tmp_path)
        message = str(info.value)
        assert "\n" not in message
        return message.replace(str(tmp_path), "")

    check_source(starting_from(model), tmp_path)
    check_source(starting_from(model, init={"model": None}), tmp_path)
    nothing = "training.init.model: /nothing: not a model folder (there is no such folder); "
    assert refusal(tmp_path / "nothing").startswith(nothing)
    path = model / "weights.safetensors"
    content = path.read_bytes()
    for damaged in (b"", content[:-100], b"x" + content[1:]):
        path.write_bytes(damaged)
        assert "/given/weights.safetensors: the weights cannot be read" in refusal(model)
    path.unlink()
    assert "/given/weights.safetensors: the weights cannot be read" in refusal(model)
    training = json.loads((model / "training.json").read_text())
    (model / "training.json").write_text(json.dumps({**training, "exported": {}}))
    assert refusal(model).startswith("training.init.model: /given: is exported and cannot be")
    path.write_bytes(content)
    (model / "tokens.txt").write_text("<blank>\nx\n")
    assert "the weights do not fit config.yaml" in refusal(model)
    (model / "tokens.txt").unlink()
    assert "the token table cannot be read" in refusal(model)


def test_settings_that_do_not_fit_the_model_are_named_with_both_values(
    model: Path, tmp_path: Path
) -> None:
    values = starting_from(model).model_dump()
    values["encoder"] |= {"dropout": 0.4}  # which its weights do not depend on
    values["features"] |= {"high_freq": 4000.0}  # as it is without
    check_source(Config.model_validate(values), tmp_path)
    values["features"] |= {"num_mel_bins": 30, "normalization": "sliding"}
    values["encoder"] |= {"cell": "gru", "hidden_size": 32}
    values["tokens"] |= {"kind": "bpe"}
    with pytest.raises(ConfigError) as info:
        check_source(Config.model_validate(values), tmp_path)
    assert str(info.value) == (
        f"training.init.model {model} does not fit the configuration: features.num_mel_bins 30 "
        "(the model: 20), features.normalization sliding (the model: utterance), encoder.cell gru "
        "(the model: lstm), encoder.hidden_size 32 (the model: 24), tokens.kind bpe (the model: "
        f"characters); `asr init FOLDER --init {model}` writes one that fits"
    )
