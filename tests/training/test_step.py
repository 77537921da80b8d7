import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.config import Config
from asr.corpus.packed import PackedCorpus
from asr.model import Network, ctc_loss
from asr.text.tokens import build_tokens
from asr.training.batch import Examples
from asr.training.draws import on_host
from asr.training.optimizer import rate_share
from asr.training.processes import open_place
from asr.training.step import Learner
from asr.training.targets import encode_texts
from tests.tones import CONFIG

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]

EVERY_AUGMENTATION = {
    "speeds": [0.9],
    "silence_seconds": 0.1,
    "join_probability": 1.0,
    "gain_db": 6,
    "noise_probability": 0.5,
    "reverb_probability": 0.5,
    "vocal_tract": 0.1,
    "time_masks": 2,
    "freq_masks": 2,
}


def changed(**sections: dict[str, object]) -> Config:
    values = CONFIG.model_dump()
    return Config.model_validate({**values, **{k: {**values[k], **v} for k, v in sections.items()}})


def make_learner(corpus: PackedCorpus, config: Config, folder: Path, device: str) -> Learner:
    tokens = build_tokens([u.text or "" for u in corpus.utterances], config.tokens)
    torch.manual_seed(0)
    network = Network(config, len(tokens)).train()
    return Learner(
        network,
        config,
        Examples.of(corpus, encode_texts(corpus, tokens), config),
        open_place(device, folder, folder, print),
        num_steps=100,
        separator=tokens.separator_id,
    )


@contextmanager
def no_waiting(device: str) -> Iterator[None]:
    """Where the program must not wait for the device; on a CPU anything goes."""
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["fbank", "mfcc"])
def test_a_step_waits_for_the_device_in_the_ctc_loss_alone(
    kind: str,
    device: str,
    tone_corpus: dict[str, PackedCorpus],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch takes the lengths of CTC to the host; another loss stands in for it."""
    monkeypatch.setattr("asr.training.loss.ctc_loss", lambda outputs, *_: -outputs.mean(dim=(1, 2)))
    config = changed(
        features={"kind": kind, "deltas": 1, "normalization": "utterance"},
        augment=EVERY_AUGMENTATION,
        training={"intermediate": 0.3, "consistency": 0.2},
    )
    learner = make_learner(tone_corpus["train"], config, tmp_path, device)
    batches = np.arange(30).reshape(5, 6)
    for number in range(3):  # what is made once and kept
        learner.step(batches[number], number)
    before = learner.network.encoder.output.weight.detach().clone()
    with no_waiting(device):
        for number in (3, 4):
            learner.step(batches[number], number)
    learner.bad_steps.check()
    assert learner.bad_steps.count == 0
    assert torch.isfinite(learner.sums.losses).all()
    assert not torch.equal(before, learner.network.encoder.output.weight)


def without_chance(**training: object) -> Config:
    """No augmentation and no dropout, so that a step can be computed by hand."""
    return changed(
        augment={name: value.default for name, value in type(CONFIG.augment).model_fields.items()},
        encoder={"dropout": 0.0},
        training={"precision": "float32", **training},
    )


def test_a_step_is_one_of_adamw_on_the_loss_of_a_token(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    config = without_chance(clip_norm=0.5, weight_decay=0.1, warmup_share=0.1)
    learner = make_learner(tone_corpus["train"], config, tmp_path, "cpu")
    network = copy.deepcopy(learner.network)
    rows = np.array([5, 1, 8])
    learner.step(rows, number=3)
    batch = learner.examples.batch(rows)
    features, num_frames = network.frontend(batch.inputs / 32768, batch.lengths)
    log_probs, num_steps = network.encoder(features, num_frames)
    losses = ctc_loss(log_probs, num_steps, batch.targets, batch.num_tokens)
    (losses.sum() / batch.num_tokens.sum()).backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
    assert norm > 1  # so that it is clipped
    rate = 0.02 * 4 / 10
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim == 1]
    torch.optim.AdamW(matrices, lr=rate, weight_decay=0.1).step()
    torch.optim.AdamW(others, lr=rate, weight_decay=0.0).step()
    for mine, expected in zip(learner.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)
    loss, num_tokens, skipped = learner.sums.losses.tolist()
    assert loss == pytest.approx(losses.sum().item(), rel=1e-5)
    assert (num_tokens, skipped) == (batch.num_tokens.sum().item(), 0)


def test_the_rate_of_each_step_follows_the_schedule(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    learner = make_learner(tone_corpus["train"], without_chance(), tmp_path, "cpu")
    rates = []
    for number in (0, 4, 9, 55, 99):
        learner.step(np.array([1, 2]), number)
        rates += [group["lr"] for group in learner.optimizer.param_groups]
        assert learner.pace().learning_rate == rates[-1]
    shares = [0.1, 0.5, 1.0, 0.5, 0.5 * (1 + math.cos(math.pi * 89 / 90))]
    assert rates == pytest.approx([0.02 * share for share in shares for _ in range(2)])


@pytest.mark.parametrize("is_alone", [True, False])
@pytest.mark.parametrize("number", [0, 39, 40, 99])
def test_lower_layers_of_a_fine_tuning_wait_and_then_have_a_share_of_the_rate(
    number: int,
    is_alone: bool,
    tone_corpus: dict[str, PackedCorpus],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Several processes have gradients of all, always."""
    if not is_alone:
        monkeypatch.setattr(Learner, "_freeze", lambda *_: None)
    init = {"model": "m", "freeze_share": 0.4, "lower_rate": 0.25}
    config = without_chance(clip_norm=0.5, weight_decay=0.1, init=init)
    learner = make_learner(tone_corpus["train"], config, tmp_path, "cpu")
    network = copy.deepcopy(learner.network)
    rows = np.array([5, 1, 8])
    learner.step(rows, number)
    batch = learner.examples.batch(rows)
    features, num_frames = network.frontend(batch.inputs / 32768, batch.lengths)
    log_probs, num_steps = network.encoder(features, num_frames)
    losses = ctc_loss(log_probs, num_steps, batch.targets, batch.num_tokens)
    (losses.sum() / batch.num_tokens.sum()).backward()
    rate = 0.02 * rate_share(number, 100, config.training.warmup_share)
    output = [*network.encoder.output.parameters()]
    rates = dict.fromkeys(output, rate)
    if number >= 40:
        rates |= {p: 0.25 * rate for p in network.parameters() if p not in rates}
    assert torch.nn.utils.clip_grad_norm_(rates, 0.5) > 0.5  # so that it is clipped
    for parameter, its_rate in rates.items():
        decay = 0.1 if parameter.ndim > 1 else 0.0
        torch.optim.AdamW([parameter], lr=its_rate, weight_decay=decay).step()
    for mine, expected in zip(learner.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)
    assert learner.learning_rate == rate


def test_lower_layers_that_have_no_rate_stay_as_they_are(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    config = without_chance(init={"model": "m", "freeze_share": 0.0, "lower_rate": 0.0})
    learner = make_learner(tone_corpus["train"], config, tmp_path, "cpu")
    before = copy.deepcopy(learner.network.state_dict())
    for number in (0, 50, 99):
        learner.step(np.arange(4), number)
    after = learner.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"encoder.output.weight", "encoder.output.bias"}
    assert not any(p.requires_grad for p in learner.lower)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.99])
def test_the_average_is_a_moving_one_that_follows_closely_at_first(
    decay: float, tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    config = without_chance(average_decay=decay)
    learner = make_learner(tone_corpus["train"], config, tmp_path, "cpu")
    name = "encoder.output.weight"
    average = learner.network.state_dict()[name].clone()
    for number in range(4):
        learner.step(np.arange(4) + 4 * number, number)
        kept = min(decay, (2 + number) / (11 + number))
        average = kept * average + (1 - kept) * learner.network.state_dict()[name]
        torch.testing.assert_close(learner.average.state_dict()[name], average)
    assert torch.equal(average, learner.network.state_dict()[name]) == (decay == 0)


def test_the_loss_falls_within_twenty_steps(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    learner = make_learner(tone_corpus["train"], without_chance(), tmp_path, "cpu")
    losses = []
    for number in range(20):
        learner.start_epoch()
        learner.step(np.arange(20) + 20 * (number % 3), number)
        losses.append(learner.sums.row(1, learner.fabric)["loss"])
    assert losses[-1] < 0.5 * losses[0]


def test_the_average_remembers_no_step(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    learner = make_learner(tone_corpus["train"], without_chance(), tmp_path, "cpu")
    learner.step(np.arange(4), 0)
    assert not any(parameter.requires_grad for parameter in learner.average.parameters())


@needs_gpu
def test_a_gpu_learns_what_a_cpu_learns(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    config = without_chance()
    config = config.model_copy(
        update={"encoder": config.encoder.model_copy(update={"num_layers": 3})}
    )
    losses = []
    for device in ("cpu", "cuda"):
        learner = make_learner(tone_corpus["train"], config, tmp_path / device, device)
        for number in range(20):
            learner.step(np.arange(20) + 20 * (number % 3), number)
        losses.append(learner.sums.losses.tolist())
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


@needs_gpu
def test_numbers_for_the_host_follow_from_the_seed_and_the_use() -> None:
    def draw(seed: int, use: str) -> list[float]:
        generator = torch.Generator("cuda").manual_seed(seed)
        return torch.rand(4, generator=on_host(generator, use)).tolist()

    assert draw(1, "speed") == draw(1, "speed")
    assert draw(1, "speed") != draw(1, "joining")
    assert draw(1, "speed") != draw(2, "speed")
