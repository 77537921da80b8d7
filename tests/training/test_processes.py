import pytest
import torch

from asr.training.processes import choose_precision


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
