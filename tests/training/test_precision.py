from typing import Any

import pytest
import torch

from asr.config import EncoderConfig
from asr.model.encoder import CtcModel
from asr.training.precision import bfloat16_speed, choose_precision


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_a_precision_that_is_asked_for_is_taken(
    precision: str, dtype: torch.dtype, device: str
) -> None:
    assert choose_precision(precision, device) == dtype


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("version", [None, 91200, 91300, 92000])
def test_auto_is_bfloat16_on_a_gpu_that_has_it_with_a_cudnn_that_has_such_layers(
    native: bool, version: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: version)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: native)
    assert choose_precision("auto", "cpu") == torch.float32
    reduced = native and version is not None and version >= 91300
    assert choose_precision("auto", "cuda") == (torch.bfloat16 if reduced else torch.float32)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_speed_of_bfloat16_is_the_ratio_of_the_best_times_of_a_layer_that_stays_as_it_was(
    cell: str, bidirectional: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"cell": cell, "bidirectional": bidirectional, "hidden_size": 8, "conv_channels": 8}
    network = CtcModel(5, 4, EncoderConfig.model_validate(settings))
    state = torch.get_rng_state()
    # float32 takes 3, 2, 4 and 2 seconds, and bfloat16 9, 8, 5 and 7
    readings = [0, 3, 10, 19, 20, 22, 30, 38, 40, 44, 50, 55, 60, 62, 70, 77]
    monkeypatch.setattr("time.process_time", iter(map(float, readings)).__next__)
    formats, gradients = [], []
    layer = network.layers[-1]
    grad = torch.autograd.grad

    def noted_grad(*arguments: Any) -> Any:
        gradients.extend(grad(*arguments))
        return gradients

    monkeypatch.setattr(torch.autograd, "grad", noted_grad)
    layer.register_forward_hook(lambda *_: formats.append(torch.is_autocast_enabled("cpu")))
    assert bfloat16_speed(network) == 2 / 5
    assert formats == [False, True] * 4
    # As in training, none is all but 0, which processors are slow with.
    assert all(float(gradient.abs().max()) > 1e-3 for gradient in gradients)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.get_rng_state(), state)
