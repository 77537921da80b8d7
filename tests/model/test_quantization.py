import math
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from asr.errors import ModelError
from asr.model.folder import WEIGHTS
from asr.model.network import Network, load_weights
from asr.model.quantization import dequantize, quantize
from tests.tones import CONFIG


def test_each_weight_is_off_by_at_most_half_a_step_of_its_row() -> None:
    torch.manual_seed(1)
    rows = torch.randn(7, 40, 3) * torch.logspace(-6, 6, 7).reshape(7, 1, 1)
    bias = torch.randn(7)
    stored = quantize({"w": rows, "b": bias})
    weights = dequantize(stored)
    assert stored["w"].dtype == torch.int8
    assert torch.equal(weights["b"], bias)
    assert list(weights) == ["w", "b"]
    for row, restored in zip(rows, weights["w"], strict=True):
        step = float(row.abs().max()) / 127
        assert float((row - restored).abs().max()) <= step / 2 * (1 + 1e-5)
    assert torch.equal(quantize(weights)["w"], stored["w"])  # nothing more is lost


def test_by_hand() -> None:
    stored = quantize({"w": torch.tensor([[1.27, -0.5, 0.014], [0.0, 0.0, 0.0]])})
    assert stored["w"].tolist() == [[127, -50, 1], [0, 0, 0]]
    assert stored["w.scale"].tolist() == pytest.approx([0.01, 1.0])
    assert dequantize(stored)["w"][0].tolist() == pytest.approx([1.27, -0.5, 0.01])


NAME = "encoder.output.weight"


def changed(stored: dict[str, Tensor], change: str) -> dict[str, Tensor]:
    weight, scale = stored.pop(NAME), stored.pop(f"{NAME}.scale")
    match change:
        case "no scale":
            return stored | {NAME: weight}
        case "no weight":
            return stored | {f"{NAME}.scale": scale}
        case "scale of 0" | "scale of NaN" | "infinite scale":
            value = {"0": 0.0, "NaN": math.nan, "infinite": math.inf}
            scale[1] = value[change.removeprefix("scale of ").removesuffix(" scale")]
        case "negative scale":
            scale[0] *= -1
        case "short scale":
            scale = scale[:-1]
        case "one scale":
            scale = scale[0]
        case "scale of halves":
            scale = scale.half()
        case "halves":
            weight = weight.half()
        case "bytes":
            weight = weight.to(torch.uint8)
        case "one number":
            weight, scale = weight[0, 0], scale[0]
        case "fewer rows":
            weight, scale = weight[:-1], scale[:-1]
    return stored | {NAME: weight, f"{NAME}.scale": scale}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no scale", f"{NAME}: int8 without {NAME}.scale"),
        ("no weight", f'do not fit config.yaml: Unexpected key(s) in state_dict: "{NAME}.scale".'),
        ("scale of 0", f"{NAME}.scale: a scale is no positive number"),
        ("scale of NaN", f"{NAME}.scale: a scale is no positive number"),
        ("infinite scale", f"{NAME}.scale: a scale is no positive number"),
        ("negative scale", f"{NAME}.scale: a scale is no positive number"),
        ("short scale", f"{NAME}.scale: a float32 for each row of {NAME} is expected"),
        ("one scale", f"{NAME}.scale: a float32 for each row of {NAME} is expected"),
        ("scale of halves", f"{NAME}.scale: a float32 for each row of {NAME} is expected"),
        ("halves", f"{NAME}: numbers are float16; float32, or int8 with scales, is read"),
        ("bytes", f"{NAME}: numbers are uint8; float32, or int8 with scales, is read"),
        ("one number", f"do not fit config.yaml: size mismatch for {NAME}"),
        ("fewer rows", f"do not fit config.yaml: size mismatch for {NAME}"),
    ],
)
def test_what_a_stranger_stored_is_checked(change: str, message: str, tmp_path: Path) -> None:
    network = Network(CONFIG, num_tokens=5)
    stored = changed(quantize(network.state_dict()), change)
    safetensors.torch.save_file(stored, tmp_path / WEIGHTS)
    with pytest.raises(ModelError) as caught:
        load_weights(network, tmp_path / WEIGHTS)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / WEIGHTS}: ")
    assert "\n" not in str(caught.value)
