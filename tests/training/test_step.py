from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from asr.config import Config
from asr.corpus.packed import PackedCorpus
from asr.model.network import Network
from asr.text.tokens import build_tokens
from asr.training.augment import on_host
from asr.training.batch import Examples
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


@needs_gpu
def test_a_gpu_learns_what_a_cpu_learns(
    tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    config = changed(
        augment={name: value.default for name, value in type(CONFIG.augment).model_fields.items()},
        encoder={"dropout": 0.0, "num_layers": 3},
        training={"precision": "float32"},
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
