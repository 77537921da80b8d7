"""The network: convolutional subsampling, recurrent layers, an output layer with log-softmax.

Dimension names: batch (utterances), frame (of features), bin (values of a frame), step (outputs
in time, `subsampling` frames each), unit (values inside the network), token (the token table).

Nothing is packed: a direction is one dense recurrent layer, which runs near the machine's
matrix-product rate, and the backward one reads a copy reversed within each utterance's own
length, so that padding never comes before speech.
"""

import functools
import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from asr.config import EncoderConfig
from asr.model.recurrence import run_gru, run_rnn

_STRIDES = {1: (1,), 2: (2,), 3: (3,), 4: (2, 2)}
_CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderState:
    """What a one-directional network remembers between chunks; frames not yet used included."""

    frames: tuple[Tensor, ...]
    """For each convolution the inputs that its next window begins with, [batch, frame, unit]."""
    cells: tuple[Tensor | tuple[Tensor, Tensor] | None, ...]
    """For each recurrent layer its last hidden (and cell) state."""


class CtcModel(nn.Module):
    """Log-probabilities of tokens from features."""

    def __init__(self, num_bins: int, num_tokens: int, config: EncoderConfig):
        super().__init__()
        self.config = config
        strides = _STRIDES[config.subsampling]
        sizes = [num_bins] + [config.conv_channels] * len(strides)
        self.subsampling = nn.ModuleList(
            _Subsampling(size, config.conv_channels, stride)
            for size, stride in zip(sizes, strides, strict=False)
        )
        directions = 2 if config.bidirectional else 1
        sizes = [config.conv_channels] + [directions * config.hidden_size] * config.num_layers
        self.layers = nn.ModuleList(_Recurrent(size, config) for size in sizes[:-1])
        self.dropout = _SharedDropout(config.dropout)
        self.output = nn.Linear(sizes[-1], num_tokens)

    def forward(
        self,
        features: Float[Tensor, "batch frame bin"],
        num_frames: Int[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch step token"], Int[Tensor, " batch"]]:
        """Log-probabilities and the number of steps of each utterance.

        Args:
            features: frames after an utterance's own may hold anything; they change nothing.
        """
        hidden, lengths = self._encode(features, num_frames)
        return self._log_probs(hidden[-1]), lengths

    def forward_with_middle(
        self,
        features: Float[Tensor, "batch frame bin"],
        num_frames: Int[Tensor, " batch"],
    ) -> tuple[
        Float[Tensor, "batch step token"], Float[Tensor, "batch step token"], Int[Tensor, " batch"]
    ]:
        """`forward`, and between its two what the output layer makes of the middle layer.

        Source:
            Lee and Watanabe 2021, "Intermediate loss regularization for CTC-based speech
            recognition".
        """
        hidden, lengths = self._encode(features, num_frames)
        middle = hidden[(len(hidden) - 1) // 2]
        return self._log_probs(hidden[-1]), self._log_probs(middle), lengths

    def _encode(
        self, features: Tensor, num_frames: Tensor
    ) -> tuple[list[Float[Tensor, "step batch unit"]], Int[Tensor, " batch"]]:
        """What each recurrent layer gives, and numbers of steps."""
        hidden = features
        lengths = num_frames
        for convolution in self._convolutions:
            hidden = convolution(_mask(hidden, lengths))
            lengths = convolution.num_steps(lengths)
        hidden = self.dropout(hidden.transpose(0, 1))
        reverse = _reversal(lengths, len(hidden)) if self.config.bidirectional else None
        outputs = []
        for layer in self._recurrent_layers:
            hidden = self.dropout(layer(hidden, reverse))
            outputs.append(hidden)
        return outputs, lengths

    def num_steps(self, num_frames: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Steps that come of so many frames."""
        for convolution in self._convolutions:
            num_frames = convolution.num_steps(num_frames)
        return num_frames

    def forward_chunk(
        self,
        features: Float[Tensor, "batch frame bin"],
        state: EncoderState | None = None,
        *,
        last: bool = False,
    ) -> tuple[Float[Tensor, "batch step token"], EncoderState]:
        """The next steps of utterances that arrive in pieces of any length.

        All pieces together give what `forward` gives of the whole; for one direction only.

        Args:
            features: frames that follow those given before.
            state: what the call before returned; None at the start.
            last: no more frames follow, so that an incomplete window counts too.

        Raises:
            ValueError: the encoder has two directions.
        """
        if self.config.bidirectional:
            raise ValueError("an encoder with two directions needs the whole utterance")
        hidden = features
        frames = []
        for index, convolution in enumerate(self._convolutions):
            buffer = state.frames[index] if state else convolution.initial_frames(hidden)
            hidden, buffer = convolution.forward_chunk(torch.cat([buffer, hidden], 1), last=last)
            frames.append(buffer)
        hidden = hidden.transpose(0, 1)
        cells = list(state.cells if state else (None,) * len(self.layers))
        if len(hidden):
            for index, layer in enumerate(self._recurrent_layers):
                hidden, cells[index] = layer.forward_chunk(hidden, cells[index])
        else:
            hidden = hidden.new_zeros(0, len(features), self.output.in_features)
        return self._log_probs(hidden), EncoderState(frames=tuple(frames), cells=tuple(cells))

    def _log_probs(self, hidden: Float[Tensor, "step batch unit"]) -> Tensor:
        """y_t = W_hy h_t + b_y, normalized; batch first."""
        output: Tensor = self.output(hidden)
        dtype = torch.promote_types(output.dtype, torch.float32)
        return output.log_softmax(dim=-1, dtype=dtype).transpose(0, 1)

    # What nn.ModuleList holds, with its type.
    @property
    def _convolutions(self) -> list["_Subsampling"]:
        return cast(list[_Subsampling], list(self.subsampling))

    @property
    def _recurrent_layers(self) -> list["_Recurrent"]:
        return cast(list[_Recurrent], list(self.layers))


class _Subsampling(nn.Module):
    """One convolution over time. A step sees its `stride` frames and those before, none after."""

    def __init__(self, input_size: int, output_size: int, stride: int):
        super().__init__()
        self.stride = stride
        self.convolution = nn.Conv1d(input_size, output_size, 2 * stride + 1, stride)
        self.norm = nn.LayerNorm(output_size)

    def forward(self, hidden: Float[Tensor, "batch frame unit"]) -> Float[Tensor, "batch step out"]:
        return self.forward_chunk(
            torch.cat([self.initial_frames(hidden), hidden], dim=1), last=True
        )[0]

    def forward_chunk(
        self, hidden: Float[Tensor, "batch frame unit"], *, last: bool
    ) -> tuple[Float[Tensor, "batch step out"], Float[Tensor, "batch rest unit"]]:
        """Steps of all complete windows, and the frames from the next window on."""
        (width,) = self.convolution.kernel_size
        if last:
            missing = -(hidden.shape[1] - width) % self.stride
            hidden = nn.functional.pad(hidden, (0, 0, 0, missing))
        steps = max(0, (hidden.shape[1] - width) // self.stride + 1)
        rest = hidden[:, steps * self.stride :]
        if steps == 0:
            return hidden.new_zeros(len(hidden), 0, self.convolution.out_channels), rest
        output = self.convolution(hidden.transpose(1, 2)).transpose(1, 2)
        return nn.functional.gelu(self.norm(output)), rest

    def initial_frames(self, hidden: Tensor) -> Tensor:
        """The zeros that stand before the first frame."""
        (width,) = self.convolution.kernel_size
        return hidden.new_zeros(len(hidden), width - self.stride, hidden.shape[2])

    def num_steps(self, num_frames: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """The frames divided by the stride, rounded up."""
        return (num_frames + self.stride - 1) // self.stride


class _Recurrent(nn.Module):
    """One recurrent layer, of one or two directions, and layer normalization.

    Torch's cells have two biases; the b_h of h_t = tanh(W_hh h_{t-1} + W_xh x_t + b_h) is their
    sum, W_hh is `weight_hh_l0` and W_xh `weight_ih_l0`.
    """

    def __init__(self, input_size: int, config: EncoderConfig):
        super().__init__()
        cell = _CELLS[config.cell]
        self.forward_cell = cell(input_size, config.hidden_size)
        self.backward_cell = cell(input_size, config.hidden_size) if config.bidirectional else None
        self.norm = nn.LayerNorm(config.hidden_size * (2 if config.bidirectional else 1))

    def forward(
        self, hidden: Float[Tensor, "step batch unit"], reverse: Int[Tensor, " row"] | None
    ) -> Float[Tensor, "step batch out"]:
        """The layer's outputs; `reverse` is a `_reversal`, for two directions."""
        if self.backward_cell is None or reverse is None:
            output = _run(self.forward_cell, hidden)
        elif hidden.is_cuda:
            output = torch.cat(self._run_beside(self.backward_cell, hidden, reverse), dim=2)
        else:
            forward = _run(self.forward_cell, hidden)
            backward = self._run_reversed(self.backward_cell, hidden, reverse)
            output = torch.cat([forward, backward], dim=2)
        normalized: Tensor = self.norm(output)
        return normalized

    def _run_beside(
        self, backward_cell: nn.RNNBase, hidden: Tensor, reverse: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both directions at the same time, on two streams: one alone leaves most of a GPU idle.

        Autograd runs their gradients on the same streams, and waits where they meet.
        """
        here, beside = torch.cuda.current_stream(hidden.device), _second_stream(hidden.device)
        beside.wait_stream(here)
        with torch.cuda.stream(beside):
            backward = self._run_reversed(backward_cell, hidden, reverse)
        forward = self.forward_cell(hidden)[0]
        here.wait_stream(beside)
        # Memory is not given to others before the stream that did not allocate it is done too.
        hidden.record_stream(beside)
        reverse.record_stream(beside)
        backward.record_stream(here)
        return forward, backward

    def _run_reversed(self, cell: nn.RNNBase, hidden: Tensor, reverse: Tensor) -> Tensor:
        backward: Tensor = _Reordered.apply(hidden, reverse)  # type: ignore[no-untyped-call]
        output: Tensor = _Reordered.apply(  # type: ignore[no-untyped-call]
            _run(cell, backward), reverse
        )
        return output

    def forward_chunk(
        self,
        hidden: Float[Tensor, "step batch unit"],
        state: Tensor | tuple[Tensor, Tensor] | None,
    ) -> tuple[Float[Tensor, "step batch out"], Tensor | tuple[Tensor, Tensor]]:
        """The layer's outputs, and its state for the steps that follow."""
        output, state = self.forward_cell(hidden, state)
        return self.norm(output), state


class _SharedDropout(nn.Module):
    """Dropout with one mask for all steps of an utterance (Gal and Ghahramani 2016)."""

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, hidden: Float[Tensor, "step batch unit"]) -> Float[Tensor, "step batch unit"]:
        if not self.training or self.probability == 0:
            return hidden
        kept = 1 - self.probability
        mask = torch.empty_like(hidden[:1]).bernoulli_(kept).div_(kept)
        return hidden * mask


def count_parameters(model: nn.Module) -> int:
    """How many numbers training sets."""
    return sum(math.prod(parameter.shape) for parameter in model.parameters())


def _mask(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Zeros after each utterance's own length, [batch, frame, unit]."""
    position = torch.arange(hidden.shape[1], device=hidden.device)
    return hidden.masked_fill((position >= lengths[:, None])[:, :, None], 0.0)


def _run(cell: nn.RNNBase, hidden: Tensor) -> Tensor:
    """The outputs of all steps: torch's own, but where training on a CPU has a faster way."""
    if torch.is_grad_enabled() and hidden.device.type == "cpu":
        if isinstance(cell, nn.GRU):
            return run_gru(hidden, cell)
        if isinstance(cell, nn.RNN):
            return run_rnn(hidden, cell)
    output: Tensor = cell(hidden)[0]
    return output


def _reversal(lengths: Tensor, num_steps: int) -> Int[Tensor, " row"]:
    """Where each row, a step of an utterance, comes from when utterances are reversed.

    Each within its own length; padding stays where it is. Rows are counted as they lie in memory,
    all utterances of a step together.
    """
    position = torch.arange(num_steps, device=lengths.device)[:, None]
    mirrored = lengths - 1 - position
    step = torch.where(mirrored >= 0, mirrored, position)
    batch = len(lengths)
    return (step * batch + torch.arange(batch, device=lengths.device)).flatten()


class _Reordered(torch.autograd.Function):
    """Rows in another order, by an index that undoes itself: so it leads the gradient back too.

    Autograd's own way back adds up rows, one number at a time, as if several could meet.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        return hidden.flatten(0, 1).index_select(0, index).view(hidden.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return gradient.flatten(0, 1).index_select(0, index).view(gradient.shape), None


@functools.lru_cache
def _second_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
