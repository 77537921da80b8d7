"""GRU and plain RNN of one direction in training on a CPU, faster than torch's own.

Torch has a layer of oneDNN's for the LSTM alone; these two it runs step by step, in many small
operations. Here a step is one matrix product and what must follow it, in place. What can wait is
done for many steps at once: products with inputs, and in backward derivatives and the products that
give the gradients of weights.

Dimension names: step, batch (utterances), unit, row (an utterance at a step).

Source:
    The cells are those of `torch.nn.RNN` and `torch.nn.GRU`, from Elman 1990, "Finding structure in
    time", and Cho et al. 2014, "Learning phrase representations using RNN encoder-decoder for
    statistical machine translation"; the gradient is theirs by the chain rule.
"""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_ROWS = 1024
"""Of a piece. With all at once a GRU of 300 x 20 took a tenth longer, with 128 rows a little."""


def run_rnn(
    hidden: Float[Tensor, "step batch in"], cell: nn.RNN
) -> Float[Tensor, "step batch unit"]:
    """What `cell(hidden)[0]` is: h_t = tanh(W_xh x_t + b_xh + W_hh h_{t-1} + b_hh)."""
    output: Tensor = _Rnn.apply(hidden, *_parameters(cell))  # type: ignore[no-untyped-call]
    return output


def run_gru(
    hidden: Float[Tensor, "step batch in"], cell: nn.GRU
) -> Float[Tensor, "step batch unit"]:
    """What `cell(hidden)[0]` is, with * for products of single values.

    r_t = sigmoid(W_xr x_t + b_xr + W_hr h_{t-1} + b_hr)
    z_t = sigmoid(W_xz x_t + b_xz + W_hz h_{t-1} + b_hz)
    n_t = tanh(W_xn x_t + b_xn + r_t * (W_hn h_{t-1} + b_hn))
    h_t = (1 - z_t) * n_t + z_t * h_{t-1}
    """
    output: Tensor = _Gru.apply(hidden, *_parameters(cell))  # type: ignore[no-untyped-call]
    return output


def _parameters(cell: nn.RNNBase) -> list[Tensor]:
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return [cell.get_parameter(name) for name in names]


class _Rnn(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, w_x: Tensor, w_h: Tensor, b_x: Tensor, b_h: Tensor
    ) -> Tensor:
        inputs, w_x, w_h = _reduce(hidden, w_x, w_h)
        states = _make_states(inputs, w_h)
        states[1:] = b_x + b_h
        _add_product(states[1:].flatten(0, 1), inputs.flatten(0, 1), w_x.t())
        transposed = _transpose(w_h)
        for before, state in pairwise(states.unbind()):
            _add_product(state, before, transposed)
            state.tanh_()
        ctx.save_for_backward(inputs, w_x, w_h, states)
        return states[1:].to(inputs.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        inputs, w_x, w_h, states = ctx.saved_tensors
        sums = 1 - states[1:].square()  # first the derivative of tanh, in the loop the gradient
        later = states[0]  # zeros
        for own, total in reversed(list(zip(gradient.unbind(), sums.unbind(), strict=True))):
            total.mul_(own + later)
            later = total.to(w_h.dtype) @ w_h
        gradients = _Gradients(inputs, w_x, states)
        gradients.add(slice(0, len(inputs)), sums, sums)
        return gradients.inputs, *gradients.weights, *gradients.biases


class _Gru(torch.autograd.Function):
    """Four blocks stand beside one another in each row: W_hn h + b_hn, r, z, n.

    Before their nonlinearities the first three take the product with h, the last three the one
    with x; and so it is with their gradients.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, w_x: Tensor, w_h: Tensor, b_x: Tensor, b_h: Tensor
    ) -> Tensor:
        inputs, w_x, w_h = _reduce(hidden, w_x, w_h)
        units = w_h.shape[1]
        states = _make_states(inputs, w_h)
        blocks = states.new_empty(*inputs.shape[:2], 4 * units)
        bias = torch.cat([b_h[2 * units :], _halve_gates(b_x)])
        bias[units : 3 * units] += b_h[: 2 * units] / 2
        by_inputs = _halve_gates(w_x).t()
        by_state = _transpose(_halve_gates(w_h).roll(units, 0))
        one = states.new_ones(())
        for piece in _pieces(inputs):
            sums = blocks[piece]
            sums[:] = bias
            _add_product(sums.flatten(0, 1)[:, units:], inputs[piece].flatten(0, 1), by_inputs)
            steps = zip(
                states[piece].unbind(),
                states[1:][piece].unbind(),
                sums[:, :, : 3 * units].unbind(),
                sums[:, :, units : 3 * units].unbind(),
                *(block.unbind() for block in sums.chunk(4, 2)),
                strict=True,
            )
            for before, state, recurrent, gates, candidate, r, z, n in steps:
                _add_product(recurrent, before, by_state)
                gates.tanh_().lerp_(one, 0.5)
                n.addcmul_(r, candidate).tanh_()
                torch.lerp(n, before, z, out=state)
        ctx.save_for_backward(inputs, w_x, w_h, states, blocks)
        return states[1:].to(inputs.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        inputs, w_x, w_h, states, blocks = ctx.saved_tensors
        units = w_h.shape[1]
        by_state = w_h.roll(units, 0)
        gradients = _Gradients(inputs, w_x, states)
        later = states[0]  # zeros
        for piece in reversed(_pieces(inputs)):
            sums = _gru_derivatives(blocks[piece], states[1:][piece])  # in the loop the gradient
            steps = zip(
                gradient[piece].unbind(),
                blocks[piece].chunk(4, 2)[2].unbind(),
                sums.view(*sums.shape[:2], 4, units).unbind(),
                sums[:, :, : 3 * units].unbind(),
                strict=True,
            )
            for own, z, four, recurrent in reversed(list(steps)):
                total = own + later
                four.mul_(total[:, None])
                later = total * z
                _add_product(later, recurrent, by_state)
            gradients.add(piece, sums[:, :, units:], sums[:, :, : 3 * units])
        w_x_gradient, w_h_gradient = gradients.weights
        b_x_gradient, b_h_gradient = gradients.biases
        return (
            gradients.inputs,
            w_x_gradient,
            w_h_gradient.roll(-units, 0),
            b_x_gradient,
            b_h_gradient.roll(-units),
        )


def _gru_derivatives(blocks: Tensor, states: Tensor) -> Tensor:
    """Of h_t, by what stands before the nonlinearities of each block; h_{t-1} held fixed."""
    candidate, r, z, n = blocks.chunk(4, 2)
    result = torch.empty_like(blocks)
    by_candidate, by_r, by_z, by_n = result.chunk(4, 2)
    rest = 1 - z
    torch.addcmul(rest, rest * n, n, value=-1, out=by_n)  # (1 - z) (1 - n^2)
    torch.mul(by_n, r, out=by_candidate)
    torch.mul(by_candidate, candidate, out=by_r).addcmul_(by_r, r, value=-1)
    torch.sub(states, n, out=by_z).mul_(rest)  # h_t - n = z (h_{t-1} - n)
    return result


class _Gradients:
    """What the gradients of both sums of a step, W_xh x + b_xh and W_hh h + b_hh, lead to."""

    def __init__(self, inputs: Tensor, w_x: Tensor, states: Tensor):
        self.inputs = inputs.new_empty(inputs.shape)
        self.weights = [states.new_zeros(len(w_x), before.shape[2]) for before in (inputs, states)]
        self.biases = [states.new_zeros(len(w_x)) for _ in range(2)]
        self._w_x = w_x
        self._before = inputs, states

    def add(self, piece: slice, *sums: Tensor) -> None:
        """Those of some steps; `sums` with x comes first, that with h second."""
        dtype = self._w_x.dtype
        rows = [both.flatten(0, 1) for both in sums]
        torch.mm(rows[0].to(dtype), self._w_x, out=self.inputs[piece].flatten(0, 1))
        for row, before, weight, bias in zip(
            rows, self._before, self.weights, self.biases, strict=True
        ):
            _add_product(weight, row.t(), before[piece].flatten(0, 1).to(dtype))
            bias += row.sum(0)


def _pieces(inputs: Tensor) -> list[slice]:
    """Steps that are done with while they are in the cache."""
    num_steps, batch = inputs.shape[:2]
    length = max(1, _ROWS // batch)
    return [slice(start, min(start + length, num_steps)) for start in range(0, num_steps, length)]


def _reduce(*tensors: Tensor) -> list[Tensor]:
    """In the type of matrix products, each dense in memory."""
    dtype = tensors[0].dtype
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
    return [tensor.to(dtype).contiguous() for tensor in tensors]


def _make_states(inputs: Tensor, w_h: Tensor) -> Float[Tensor, "steps_and_one batch unit"]:
    """Room for h_0 to h_T in at least 32 bits, so that small changes are not lost; h_0 is zero."""
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    states = inputs.new_empty(len(inputs) + 1, inputs.shape[1], w_h.shape[1], dtype=dtype)
    states[0] = 0
    return states


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    if total.dtype == right.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left.to(right.dtype) @ right)


def _transpose(weight: Tensor) -> Tensor:
    """A copy: with a view the product of a step takes almost twice the time."""
    return weight.t().contiguous()


def _halve_gates(weight: Tensor) -> Tensor:
    """Halves rows of r and z: sigmoid(x) = (1 + tanh(x / 2)) / 2, and torch's tanh is faster."""
    halved = weight.clone()
    halved[: 2 * len(weight) // 3] /= 2
    return halved
