import math

import pytest
import torch

from asr.model import Network
from asr.training.optimizer import make_optimizer, rate_share, set_rates
from tests.tones import CONFIG


@pytest.mark.parametrize(("num_steps", "warmup_share"), [(100, 0.1), (37, 0.3), (10, 0.0)])
def test_the_rate_rises_to_its_peak_and_falls_to_nothing(
    num_steps: int, warmup_share: float
) -> None:
    shares = [rate_share(step, num_steps, warmup_share) for step in range(num_steps)]
    warmup = max(1, round(warmup_share * num_steps))
    assert shares[0] == pytest.approx(1 / warmup)
    assert shares[warmup - 1] == shares[warmup] == max(shares) == 1.0
    assert shares[:warmup] == sorted(set(shares[:warmup]))
    assert shares[warmup:] == sorted(set(shares[warmup:]), reverse=True)
    assert 0 < shares[-1] < 0.1
    assert rate_share(num_steps, num_steps, warmup_share) == pytest.approx(0, abs=1e-12)


def test_the_rate_is_a_line_and_then_a_cosine() -> None:
    rising = [rate_share(step, 100, 0.1) for step in range(10)]
    assert rising == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    third, half = rate_share(40, 100, 0.1), rate_share(55, 100, 0.1)
    assert third == pytest.approx((1 + math.cos(math.pi / 3)) / 2)
    assert half == pytest.approx(0.5)


def test_a_run_of_one_step_has_the_whole_rate() -> None:
    assert rate_share(0, 1, 0.1) == 1.0
    assert rate_share(0, 1, 1.0) == 1.0


def test_weights_of_matrices_decay_and_biases_and_norms_do_not() -> None:
    network = Network(CONFIG, 6)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = make_optimizer(list(network.parameters()), weight_decay=0.5)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)  # so that only the decay changes it
    optimizer.step()
    for name, parameter in network.named_parameters():
        share = 0.95 if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter.detach(), share * before[name], msg=name)
    assert before["encoder.output.bias"].any()
    assert before["encoder.layers.0.norm.weight"].all()


def test_every_parameter_is_learnt_once() -> None:
    parameters = list(Network(CONFIG, 6).parameters())
    groups = make_optimizer(parameters, 0.01).param_groups
    learnt = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(learnt) == sorted(map(id, parameters))
    assert len(groups) == 2


def test_lower_parameters_have_a_rate_of_their_own() -> None:
    network = Network(CONFIG, 6)
    upper, lower = (
        list(network.encoder.output.parameters()),
        list(network.encoder.layers[0].parameters()),
    )
    optimizer = make_optimizer(upper, 0.01, lower)
    set_rates(optimizer, 0.5, 0.125)
    rates = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert {rates[id(p)] for p in upper} == {(0.5, 0.01), (0.5, 0.0)}
    assert {rates[id(p)] for p in lower} == {(0.125, 0.01), (0.125, 0.0)}
    assert all(rates[id(p)][1] == (0.01 if p.ndim > 1 else 0.0) for p in (*upper, *lower))
