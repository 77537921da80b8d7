from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import kl_div

from asr.config import Config
from asr.corpus.packed import PackedCorpus
from asr.model.ctc import ctc_loss
from asr.model.network import Network
from asr.training.batch import Batch, make_batch
from asr.training.inputs import Augmentation, input_features
from asr.training.loss import (
    Objective,
    join_targets,
    share_pairs,
    view_divergence,
)
from tests.tones import CONFIG

PLAIN = Config.model_validate(
    {
        "features": CONFIG.features.model_dump(),
        "encoder": {**CONFIG.encoder.model_dump(), "dropout": 0.0, "num_layers": 3},
    }
)


def changed(**sections: dict[str, Any]) -> Config:
    values = PLAIN.model_dump()
    for name, section in sections.items():
        values[name] |= section
    return Config.model_validate(values)


@pytest.fixture
def batch(tone_corpus: dict[str, PackedCorpus]) -> Batch:
    targets = [[1, 2, 1, 2] if index % 2 else [2, 1] for index in range(60)]
    return make_batch(tone_corpus["train"], [3, 8, 21, 40], targets)


def losses(config: Config, batch: Batch, seed: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(3)
    network = Network(config, 6)
    generator = torch.Generator().manual_seed(seed)
    total, ctc, skipped = Objective(network, config)(batch, generator, 1.0)
    assert not skipped.any()
    return total, ctc


def test_without_options_it_is_the_ctc_loss_of_the_network(batch: Batch) -> None:
    total, ctc = losses(PLAIN, batch)
    torch.manual_seed(3)
    network = Network(PLAIN, 6)
    features, num_frames = input_features(network.frontend, batch)
    log_probs, num_steps = network.encoder(features, num_frames)
    expected = ctc_loss(log_probs, num_steps, batch.targets, batch.num_tokens)
    torch.testing.assert_close(total, expected)
    assert torch.equal(total, ctc)


def test_the_middle_layer_has_its_share_of_the_loss(batch: Batch) -> None:
    """The loss is linear in the share, and its end is the loss of a network cut at the middle."""
    zero, _ = losses(PLAIN, batch)
    third, ctc = losses(changed(training={"intermediate": 0.3}), batch)
    torch.manual_seed(3)
    network = Network(PLAIN, 6)
    features, num_frames = input_features(network.frontend, batch)
    del network.encoder.layers[2]
    log_probs, num_steps = network.encoder(features, num_frames)
    middle = ctc_loss(log_probs, num_steps, batch.targets, batch.num_tokens)
    torch.testing.assert_close(third, 0.7 * zero + 0.3 * middle)
    torch.testing.assert_close(ctc, zero)


def test_joined_utterances_cost_what_their_recording_costs(
    tone_corpus: dict[str, PackedCorpus],
) -> None:
    """The oracle is a corpus in which the recordings are joined before."""
    corpus = tone_corpus["train"]
    raw = [corpus.values[corpus.starts[row] : corpus.starts[row + 1]] for row in (3, 8, 21)]
    config = changed(features={"normalization": "utterance"}, augment={"join_probability": 1.0})
    three = make_batch(corpus, [3, 8, 21], [[1, 2, 1, 2] if i % 2 else [2, 1] for i in range(60)])
    torch.manual_seed(3)
    network = Network(config, 6)
    objective = Objective(network, config, separator=5)
    generator = torch.Generator().manual_seed(1)
    total, ctc, skipped = objective(three, generator, 1.0)
    bases = [input_base(network, values) for values in raw]
    joined = [torch.cat(bases[:2]), bases[2]]
    texts = [[1, 2, 1, 2, 5, 2, 1], [1, 2, 1, 2]]
    for loss, base, text in zip([2 * total[0], total[2]], joined, texts, strict=True):
        num_frames = torch.tensor([len(base)])
        features = network.frontend.finish(base[None], num_frames)
        log_probs, steps = network.encoder(features, num_frames)
        wanted = ctc_loss(log_probs, steps, torch.tensor([text]), torch.tensor([len(text)]))
        torch.testing.assert_close(loss, wanted[0], rtol=1e-4, atol=1e-4)
    assert torch.equal(total, ctc)
    assert total[0] == total[1]
    assert skipped.tolist() == [False] * 3


def input_base(network: Network, samples: np.ndarray) -> torch.Tensor:
    waveform = torch.from_numpy(samples.astype(np.float32) / 32768)[None]
    base, _ = network.frontend.base(waveform, torch.tensor([len(samples)]))
    return base[0]


def test_joining_by_speaker_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"join_probability: utterances .* are normalized together"
    ):
        changed(features={"normalization": "speaker"}, augment={"join_probability": 0.5})


@pytest.mark.parametrize("separator", [None, 9])
def test_a_separator_stands_between_transcripts_that_are_not_empty(separator: int | None) -> None:
    targets = torch.tensor([[1, 2], [3, 0], [0, 0], [4, 4], [5, 6]])
    num_tokens = torch.tensor([2, 1, 0, 2, 2])
    joined, counts = join_targets(targets, num_tokens, separator)
    rows = [row[:count].tolist() for row, count in zip(joined, counts.tolist(), strict=True)]
    between = [] if separator is None else [separator]
    assert rows == [[1, 2, *between, 3], [4, 4], [5, 6]]


def test_the_loss_of_a_pair_is_shared() -> None:
    assert share_pairs(torch.tensor([4.0, 3.0]), 4).tolist() == [2, 2, 1.5, 1.5]
    assert share_pairs(torch.tensor([4.0, 3.0]), 3).tolist() == [2, 2, 3]


def test_two_views_that_are_alike_differ_by_nothing_and_masks_make_them_differ(
    batch: Batch,
) -> None:
    plain, _ = losses(PLAIN, batch)
    alike, ctc = losses(changed(training={"consistency": 0.2}), batch)
    torch.testing.assert_close(alike, plain)
    torch.testing.assert_close(ctc, plain)
    masks = {"time_masks": 20, "time_mask_width": 10}
    masked, ctc = losses(changed(augment=masks, training={"consistency": 0.2}), batch)
    assert (masked > ctc).all()


def test_the_divergence_of_views_equals_torchs_over_each_utterances_own_steps() -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(4, 9, 7).log_softmax(2)
    steps = torch.tensor([9, 4, 9, 4])
    divergence = view_divergence(log_probs, steps)
    for row, own in ((0, 9), (1, 4)):
        first, second = log_probs[row, :own], log_probs[row + 2, :own]
        expected = sum(
            kl_div(a, b, reduction="sum", log_target=True) / 2
            for a, b in ((first, second), (second, first))
        )
        torch.testing.assert_close(divergence[row], expected)


def test_each_view_is_pulled_to_the_other_but_no_view_pulls_itself() -> None:
    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(1)).requires_grad_()
    log_probs = logits.log_softmax(2)
    view_divergence(log_probs, torch.tensor([5, 5])).sum().backward()
    probs = log_probs.detach().exp()
    # Of cross entropy against a fixed target: what is given less what is wanted.
    torch.testing.assert_close(logits.grad[0], 0.5 * (probs[0] - probs[1]))  # type: ignore[index]
    torch.testing.assert_close(logits.grad[1], 0.5 * (probs[1] - probs[0]))  # type: ignore[index]


def test_masks_grow_with_the_training(batch: Batch) -> None:
    config = changed(augment={"time_masks": 10, "mask_ramp": 0.5})
    frontend = Network(config, 6).frontend
    plain, _ = input_features(frontend, batch)
    shares = []
    for done in (0.0, 0.1, 0.25, 0.5, 1.0):
        generator = torch.Generator().manual_seed(2)
        augmentation = Augmentation(config=config.augment, generator=generator, done=done)
        masked, _ = input_features(frontend, batch, augmentation)
        shares.append(int((masked != plain).any(dim=2).sum()))
    assert shares[0] == 0
    assert shares[1] < shares[2] < shares[3] == shares[4]


def test_half_precision_is_close_and_its_gradients_are_whole(batch: Batch) -> None:
    torch.manual_seed(3)
    network = Network(PLAIN, 6)
    objective = Objective(network, PLAIN, torch.bfloat16)
    total, _, _ = objective(batch, torch.Generator(), 1.0)
    plain, _ = losses(PLAIN, batch)
    torch.testing.assert_close(total, plain, rtol=0.03, atol=0)
    assert total.dtype == torch.float32
    total.sum().backward()
    assert {p.grad.dtype for p in network.parameters() if p.grad is not None} == {torch.float32}
