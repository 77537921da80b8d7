"""A CUDA device that is not there: its tensors have shapes and types, and no values.

Torch's FakeTensorMode follows every operation on them. So a step of training can be taken on a
machine without a GPU, and what would fail or wait on one fails here:

- two devices in one operation;
- reading a value (`item`, `tolist`, a condition), or a shape that depends on values (`nonzero`);
- a copy between host and device for which the host waits: one that is not `non_blocking`, or one
  out of memory that is not pinned.

Some of torch asks for a driver even so, and is replaced by stand-ins of the same signature: random
generators, pinned memory, streams, recurrent layers and the CTC loss. They check that the real ones
are called as torch documents it. What those do on a GPU is not shown here, nor is what autocast
does to types: it looks at the device from C++, where this one is torch's "meta".
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from asr.model import encoder
from asr.training import augment

CUDA = torch.device("cuda:0")
_NOWHERE = torch.device("meta")
_COMPOSITE = "CompositeImplicitAutograd"
_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1}


class WaitError(AssertionError):
    """The host would wait for the device."""


class FakeGenerator(torch.Generator):
    """In place of `torch.Generator`, of the device; of the host it is torch's."""

    device = CUDA

    def __new__(cls, device: torch.device | str = "cpu") -> torch.Generator:
        if torch.device(device).type == "cpu":
            return torch.Generator()
        return super().__new__(cls)

    def __init__(self, device: torch.device | str):
        del device


class FakeCuda(TorchDispatchMode):
    """Sends what has to do with the device to torch's fakes; the host's own work is real."""

    def __init__(self) -> None:
        super().__init__()
        self.fakes = FakeTensorMode(allow_non_fake_inputs=True)
        self.pinned: list[Tensor] = []
        self.is_reading = False
        self.operations: list[str] = []
        """On the device, in order."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.ops.prim.device.default:
            # Autograd would look for the streams of a real one.
            where: torch.device = args[0].fake_device
            return _NOWHERE if where.type == "cuda" else where
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSITE):
            with self:  # an operation made of others; in inference mode it comes as a whole
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        if kwargs.get("device") == _NOWHERE:
            kwargs["device"] = CUDA
        leaves = tree_leaves((args, kwargs))
        here = [each for each in leaves if isinstance(each, FakeTensor)]
        target = kwargs.get("device")
        to_device = target is not None and torch.device(target).type == "cuda"
        if not here and not to_device:
            return func(*args, **kwargs)
        self.operations.append(str(func))
        if func is torch.ops.aten._to_copy.default and target is not None:
            source = args[0]
            if to_device and source.device.type == "cpu":
                return self._send(source, kwargs)
            if not to_device and torch.device(target).type == "cpu":
                return self._read(source, kwargs)
        with self.fakes:
            return func(*args, **kwargs)

    def pin(self, tensor: Tensor) -> Tensor:
        """In place of `Tensor.pin_memory`."""
        assert tensor.device.type == "cpu", "only the host's memory can be pinned"
        self.pinned.append(tensor)
        return tensor

    def _send(self, source: Tensor, kwargs: dict[str, Any]) -> Tensor:
        if not kwargs.get("non_blocking") or not any(source is each for each in self.pinned):
            raise WaitError(f"sending {tuple(source.shape)} of {source.dtype} to the device")
        with self.fakes:
            return torch.empty(source.shape, dtype=kwargs.get("dtype") or source.dtype, device=CUDA)

    def _read(self, source: Tensor, kwargs: dict[str, Any]) -> Tensor:
        """A copy on the host; what stands in it is nothing if it was allowed to read."""
        if self.is_reading:
            return torch.zeros(source.shape, dtype=kwargs.get("dtype") or source.dtype)
        if not kwargs.get("non_blocking"):
            raise WaitError(f"reading {tuple(source.shape)} from the device")
        with self.fakes:
            return torch.ops.aten._to_copy.default(source, **kwargs)  # type: ignore[no-any-return]

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Where the host may wait for numbers of the device; it gets zeros."""
        self.is_reading = True
        try:
            yield
        finally:
            self.is_reading = False


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """In place of torch's, which is documented to take such arguments; the rest is not looked at.

    Of lengths on the device it would make a copy on the host, and wait.
    """
    assert log_probs.dtype == torch.float32
    assert (targets.device, targets.dtype, targets.ndim) == (log_probs.device, torch.int64, 2)
    if not (input_lengths.device.type == target_lengths.device.type == "cpu"):
        raise WaitError("lengths of the CTC loss on the device")
    steps, batch, _ = log_probs.shape
    assert input_lengths.dtype == target_lengths.dtype == torch.int64
    assert len(targets) == len(input_lengths) == len(target_lengths) == batch
    assert 0 < int(input_lengths.max()) <= steps
    assert int(target_lengths.max()) <= targets.shape[1]
    assert (blank, reduction, zero_infinity) == (0, "none", True)
    return -log_probs.mean(dim=(0, 2))


def _random(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`torch.rand` and its like, of a generator of the device too."""

    def draw(*args: Any, generator: Any = None, **kwargs: Any) -> Tensor:
        if isinstance(generator, FakeGenerator):
            assert torch.device(kwargs["device"]) == generator.device
            generator = None
        return function(*args, generator=generator, **kwargs)

    return draw


def _grouped(group: Callable[..., Any]) -> Callable[..., Any]:
    """Tensors by device and type, as the optimizer takes them."""

    def by_device(*args: Any) -> Any:
        return {
            (CUDA if device == _NOWHERE else device, dtype): rows
            for (device, dtype), rows in group(*args).items()
        }

    return by_device


def _recurrent(kind: str) -> Callable[..., Any]:
    """In place of a recurrent layer of cuDNN, whose conditions it checks; it uses all weights."""

    def layer(
        inputs: Tensor,
        states: Any,
        weights: list[Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        _: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> Any:
        states = list(states) if kind == "lstm" else [states]
        assert inputs.is_cuda
        assert (inputs.ndim, min(inputs.shape) > 0) == (3, True)
        # It makes the input contiguous, and refuses states that are not.
        assert all(each.is_contiguous() for each in states)
        assert len({inputs.device, *(each.device for each in [*weights, *states])}) == 1
        assert len({each.dtype for each in weights}) == 1
        assert (has_biases, num_layers, dropout) == (True, 1, 0.0)
        assert not bidirectional
        assert not batch_first
        of_inputs, of_states, *biases = weights
        size = of_states.shape[1]
        assert of_inputs.shape == (_GATES[kind] * size, inputs.shape[2])
        gates = inputs @ of_inputs.T + states[0] @ of_states.T + sum(biases)
        output = gates[..., :size].tanh()
        return (output, *states)

    return layer


class _Stream:
    """In place of a CUDA stream."""

    def __init__(self, device: Any = None):
        self.device = device

    def wait_stream(self, other: "_Stream") -> None:
        assert isinstance(other, _Stream)

    def record_event(self) -> SimpleNamespace:
        def synchronize() -> None:
            raise WaitError("an event")

        return SimpleNamespace(synchronize=synchronize)


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """A machine with a GPU that has bfloat16; `asr` places a run on it."""
    from lightning.fabric import Fabric

    monkeypatch.setattr(Fabric, "device", CUDA)
    monkeypatch.setattr(Fabric, "to_device", lambda _, module: move(module, CUDA))
    monkeypatch.setattr("asr.training.step.Generator", FakeGenerator)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "current_stream", _Stream)
    monkeypatch.setattr(encoder, "_second_stream", _Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    for name in ("rand", "randn", "randint"):
        monkeypatch.setattr(torch, name, _random(getattr(torch, name)))
    for kind in _GATES:
        monkeypatch.setattr(torch._VF, kind, _recurrent(kind), raising=False)
    monkeypatch.setattr(nn.Module, "to", move)
    device = FakeCuda()
    name = "_group_tensors_by_device_and_dtype"
    monkeypatch.setattr(torch._C, name, _grouped(getattr(torch._C, name)))
    is_cuda = property(lambda tensor: tensor.fake_device.type == "cuda")
    monkeypatch.setattr(FakeTensor, "is_cuda", is_cuda, raising=False)
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: device.pin(tensor))
    monkeypatch.setattr(Tensor, "record_stream", lambda *_: None)
    monkeypatch.setattr(nn.functional, "ctc_loss", ctc_loss)
    augment._resampling.cache_clear()
    with device:
        yield device
    augment._resampling.cache_clear()


def move(module: nn.Module, device: torch.device = CUDA) -> nn.Module:
    """A module of the host's on the device, in place; torch's own way cannot exchange fakes."""

    def moved(tensor: Tensor) -> Tensor:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)

    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is not None and parameter.device != device:
                setattr(part, name, nn.Parameter(moved(parameter), parameter.requires_grad))
        for name, buffer in list(part._buffers.items()):
            if buffer is not None and buffer.device != device:
                part._buffers[name] = moved(buffer)
    return module
