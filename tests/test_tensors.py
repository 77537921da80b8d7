from pathlib import Path

import pytest
import torch

from asr.config import Config, NeuralLmConfig
from asr.errors import AsrError, ModelError, opens_model
from asr.lm.neural import NeuralLm, load_neural_lm, save_neural_lm
from asr.model.network import Network, read_network, write_weights

SMALL = Config.model_validate({"encoder": {"hidden_size": 4, "num_layers": 1, "conv_channels": 4}})
GIANT = Config.model_validate(
    {"encoder": {"hidden_size": 16_384, "num_layers": 64, "conv_channels": 16_384}}
)  # takes terabytes


def test_a_giant_that_is_not_in_the_file_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_weights(Network(SMALL, 3).state_dict(), path)
    assert read_network(path, SMALL, 3, "cpu")
    with pytest.raises(ModelError, match=r"do not fit config\.yaml: "):
        read_network(path, GIANT, 3, "cpu")
    with pytest.raises(ModelError, match=r"do not fit config\.yaml: size mismatch"):
        read_network(path, SMALL, 10**9, "cpu")


def test_a_giant_language_model_that_is_not_in_the_file_is_not_made(tmp_path: Path) -> None:
    words = ["<unk>", "<s>", "</s>", "a"]
    save_neural_lm(NeuralLm(words, NeuralLmConfig(hidden_size=4)), tmp_path / "lm")
    assert load_neural_lm(tmp_path / "lm").words == tuple(words)
    (tmp_path / "lm" / "config.yaml").write_text("{hidden_size: 16384, num_layers: 64}")
    with pytest.raises(ModelError, match="do not fit the other files: size mismatch"):
        load_neural_lm(tmp_path / "lm")


@pytest.mark.parametrize("raised", [MemoryError(), RecursionError("deep\nest"), KeyError("x")])
def test_whatever_goes_wrong_while_a_model_is_opened_is_a_line(raised: Exception) -> None:
    @opens_model
    def fail(_: Path) -> None:
        raise raised

    with pytest.raises(ModelError, match=rf"\Athere: the model .* {type(raised).__name__}: .+\Z"):
        fail(Path("there"))


def test_an_error_that_is_explained_stays() -> None:
    @opens_model
    def fail(_: Path) -> None:
        raise AsrError("as it is")

    with pytest.raises(AsrError, match=r"\Aas it is\Z"):
        fail(Path("there"))


def test_shapes_of_a_network_take_no_memory() -> None:
    with torch.device("meta"):
        assert Network(SMALL, 3).encoder.output.weight.is_meta
