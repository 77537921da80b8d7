"""Training on a GPU, as far as it can be shown without one; see `tests.fake_cuda`."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from asr.corpus.packed import PackedCorpus
from asr.corpus.statistics import GroupStatistics
from asr.model import Network, ctc_loss
from asr.text.tokens import build_tokens
from asr.training.batch import Examples
from asr.training.dev_set import score_dev
from asr.training.processes import open_place
from asr.training.rooms import Rooms
from asr.training.step import Learner
from asr.training.targets import encode_texts
from tests.fake_cuda import CUDA, FakeCuda, WaitError, fake_cuda, move
from tests.training.test_step import EVERY_AUGMENTATION, changed

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    with fake_cuda(monkeypatch) as device:
        yield device


WAITS: dict[str, tuple[Callable[[Tensor], object], type[Exception]]] = {
    "a value is read": (lambda x: x.sum().item(), DataDependentOutputException),
    "a condition": (lambda x: 1 if x.sum() > 0 else 0, DataDependentOutputException),
    "a shape": (lambda x: x[x > 0], DynamicOutputShapeException),
    "a copy to the host": (lambda x: x.cpu(), WaitError),
    "a copy to the device": (lambda x: torch.ones(3).to(x.device), WaitError),
    "memory is not pinned": (
        lambda x: torch.ones(3).to(x.device, non_blocking=True),
        WaitError,
    ),
    "two devices": (lambda x: x + torch.ones(3), RuntimeError),
    "lengths of the loss": (
        lambda x: ctc_loss(
            x.expand(1, 2, 3),
            *(torch.ones(shape, dtype=torch.int64, device=CUDA) for shape in ((1,), (1, 1), (1,))),
        ),
        WaitError,
    ),
}


@pytest.mark.parametrize("wait", WAITS)
def test_what_would_wait_or_fail_on_a_gpu_fails(wait: str, cuda: FakeCuda) -> None:
    act, error = WAITS[wait]
    with pytest.raises(error):
        act(torch.zeros(3, device=CUDA))
    assert cuda.operations


CASES: dict[str, dict[str, Any]] = {
    "lstm": {
        "features": {"deltas": 1, "normalization": "utterance"},
        "augment": {**EVERY_AUGMENTATION, "channel_db": 3.0, "mask_ramp": 0.5},
        "training": {"intermediate": 0.3, "consistency": 0.2},
    },
    "gru": {
        "features": {"kind": "mfcc", "normalization": "sliding"},
        "encoder": {"cell": "gru", "num_layers": 2, "subsampling": 4},
        "augment": {**EVERY_AUGMENTATION, "join_probability": 0.0},
        "training": {"precision": "float32"},
    },
    "rnn": {
        "features": {"normalization": "running"},
        "encoder": {"cell": "rnn", "bidirectional": False},
        "augment": EVERY_AUGMENTATION,
    },
    "speaker": {"features": {"normalization": "speaker"}},
}


@pytest.mark.parametrize("case", CASES)
def test_training_on_a_gpu_waits_for_nothing(
    case: str, cuda: FakeCuda, tone_corpus: dict[str, PackedCorpus], tmp_path: Path
) -> None:
    train_set, dev_set, config = tone_corpus["train"], tone_corpus["dev"], changed(**CASES[case])
    if config.features.normalization == "speaker":
        train_set, dev_set = (by_speaker(part) for part in (train_set, dev_set))
    tokens = build_tokens([u.text or "" for u in train_set.utterances], config.tokens)
    network = Network(config, len(tokens)).train()
    move(network)
    learner = Learner(
        network,
        config,
        Examples.of(train_set, encode_texts(train_set, tokens), config),
        open_place("cpu", tmp_path, tmp_path, print),
        num_steps=100,
        separator=tokens.separator_id,
        rooms=Rooms(noise=dev_set, responses=dev_set) if case == "rnn" else None,
    )
    reduced = config.training.precision == "auto"
    assert learner.dtype == (torch.bfloat16 if reduced else torch.float32)
    learner.step(np.arange(7), 0)
    cuda.operations.clear()
    # The step before is looked at while this one is on its way.
    learner.bad_steps._suspect = None
    learner.step(np.arange(7, 14), 1)
    learner.pace()
    done = set(cuda.operations)
    assert {"aten.gelu_backward.default", "aten._fused_adamw_.tensor_lr"} <= done or {
        "aten.gelu_backward.default",
        "aten._fused_adamw_.default",
    } <= done
    assert "aten._foreach_lerp_.Scalar" in done
    assert all(parameter.grad is not None for parameter in network.parameters())
    dev = Examples.of(dev_set, encode_texts(dev_set, tokens), config)
    with cuda.reading():
        scores = score_dev(learner.average, dev, tokens, learner.fabric)
    assert len(scores.utterances) == len(dev_set)


def by_speaker(corpus: PackedCorpus) -> PackedCorpus:
    bins = changed().features.num_bins
    speakers = GroupStatistics(
        groups=np.zeros(len(corpus), np.int64), values=np.ones((1, 2, bins), np.float32)
    )
    return replace(corpus, speakers=speakers)
