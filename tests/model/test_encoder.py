import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from asr.config import EncoderConfig
from asr.model.encoder import CtcModel, count_parameters

CELLS = ["rnn", "lstm", "gru"]
NUM_BINS, NUM_TOKENS = 5, 7


def make_model(**values: object) -> CtcModel:
    torch.manual_seed(0)
    config = EncoderConfig(**{"hidden_size": 6, "num_layers": 2, "conv_channels": 4, **values})
    return CtcModel(NUM_BINS, NUM_TOKENS, config).double().eval()


def frames(batch: int, length: int) -> Tensor:
    return torch.randn(
        batch, length, NUM_BINS, dtype=torch.double, generator=torch.Generator().manual_seed(1)
    )


def loop_over_time(cell: str, layer: nn.RNNBase, inputs: Tensor) -> Tensor:
    """The cells' equations, one step and one utterance at a time, from Elman, Hochreiter, Cho."""
    w_x, w_h = layer.weight_ih_l0, layer.weight_hh_l0
    b_x, b_h = layer.bias_ih_l0, layer.bias_hh_l0
    h = torch.zeros(layer.hidden_size, dtype=inputs.dtype)
    c = torch.zeros_like(h)
    outputs = []
    for x in inputs:
        if cell == "rnn":
            h = torch.tanh(w_h @ h + w_x @ x + (b_x + b_h))
        elif cell == "lstm":
            i, f, g, o = (w_x @ x + b_x + w_h @ h + b_h).chunk(4)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        else:
            r_x, z_x, n_x = (w_x @ x + b_x).chunk(3)
            r_h, z_h, n_h = (w_h @ h + b_h).chunk(3)
            r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
            h = (1 - z) * torch.tanh(n_x + r * n_h) + z * h
        outputs.append(h)
    return torch.stack(outputs)


@pytest.mark.parametrize("cell", CELLS)
def test_both_directions_follow_the_equations(cell: str) -> None:
    model = make_model(cell=cell, num_layers=1, subsampling=1)
    layer = model.layers[0]
    lengths = torch.tensor([9, 4])
    inputs = torch.randn(9, 2, 4, dtype=torch.double)
    reverse = reversed_rows(lengths, 9)
    with torch.no_grad():
        output = layer(inputs, reverse)
        for row, length in enumerate(lengths.tolist()):
            own = inputs[:length, row]
            forward = loop_over_time(cell, layer.forward_cell, own)
            backward = loop_over_time(cell, layer.backward_cell, own.flip(0)).flip(0)
            expected = layer.norm(torch.cat([forward, backward], dim=1))
            torch.testing.assert_close(output[:length, row], expected)


@pytest.mark.parametrize("cell", CELLS)
def test_dense_layers_equal_torch_with_packed_sequences(cell: str) -> None:
    model = make_model(cell=cell, num_layers=1)
    layer = model.layers[0]
    packed_layer = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[cell](
        4, 6, bidirectional=True
    ).double()
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(packed_layer, f"{name}_l0").data = getattr(layer.forward_cell, f"{name}_l0").data
        getattr(packed_layer, f"{name}_l0_reverse").data = getattr(
            layer.backward_cell, f"{name}_l0"
        ).data
    lengths = torch.tensor([8, 5, 1])
    inputs = torch.randn(8, 3, 4, dtype=torch.double, requires_grad=True)
    packed = nn.utils.rnn.pack_padded_sequence(inputs, lengths)
    expected = layer.norm(nn.utils.rnn.pad_packed_sequence(packed_layer(packed)[0])[0])
    output = layer(inputs, reversed_rows(lengths, 8))
    own = (torch.arange(8)[:, None] < lengths)[:, :, None]
    torch.testing.assert_close(output * own, expected * own)
    weights = torch.randn_like(output) * own
    (gradient,) = torch.autograd.grad(output, inputs, weights)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, inputs, weights)[0])


def reversed_rows(lengths: torch.Tensor, num_steps: int) -> torch.Tensor:
    batch = len(lengths)
    rows = [
        (length - 1 - step if step < length else step) * batch + row
        for step in range(num_steps)
        for row, length in enumerate(lengths.tolist())
    ]
    return torch.tensor(rows)


@pytest.mark.parametrize("subsampling", [1, 2, 3, 4])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_padding_does_not_change_a_row(cell: str, bidirectional: bool, subsampling: int) -> None:
    model = make_model(cell=cell, bidirectional=bidirectional, subsampling=subsampling)
    features = frames(3, 23)
    lengths = torch.tensor([23, 10, 1])
    garbage = features.clone()
    for row, length in enumerate(lengths.tolist()):
        garbage[row, length:] = 1e6
    with torch.no_grad():
        together, num_steps = model(garbage, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone, (steps,) = model(features[row : row + 1, :length], lengths[row : row + 1])
            assert steps == num_steps[row] == alone.shape[1] == -(-length // subsampling)
            torch.testing.assert_close(together[row, :steps], alone[0])


@settings(max_examples=40, deadline=None)
@given(
    cell=st.sampled_from(CELLS),
    subsampling=st.sampled_from([1, 2, 3, 4]),
    pieces=st.lists(st.integers(0, 7), min_size=1, max_size=8),
)
def test_chunks_give_what_the_whole_gives(cell: str, subsampling: int, pieces: list[int]) -> None:
    model = make_model(cell=cell, bidirectional=False, subsampling=subsampling)
    length = sum(pieces) or 1
    pieces = pieces if sum(pieces) else [1]
    features = frames(2, length)
    with torch.no_grad():
        whole, _ = model(features, torch.tensor([length, length]))
        state, outputs = None, []
        for index, chunk in enumerate(features.split(pieces, dim=1)):
            output, state = model.forward_chunk(chunk, state, last=index == len(pieces) - 1)
            outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole)


def test_chunks_are_refused_by_two_directions() -> None:
    with pytest.raises(ValueError, match="two directions"):
        make_model().forward_chunk(frames(1, 4))


def test_outputs_are_log_probabilities_in_training_too() -> None:
    model = make_model(dropout=0.5)
    for mode in (True, False):
        log_probs, _ = model.train(mode)(frames(2, 12), torch.tensor([12, 7]))
        torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones_like(log_probs[..., 0]))


def test_dropout_uses_one_mask_for_all_steps() -> None:
    dropout = make_model(dropout=0.5).dropout.train()
    torch.manual_seed(0)
    output = dropout(torch.ones(50, 8, 40))
    assert (output == output[:1]).all()
    assert output.unique().tolist() == [0.0, 2.0]
    assert len({tuple(row.tolist()) for row in output[0]}) == 8


def test_a_future_frame_changes_nothing_before_it_in_one_direction() -> None:
    model = make_model(bidirectional=False, subsampling=3)
    features = frames(1, 12)
    changed = features.clone()
    changed[:, 9:] += 1
    with torch.no_grad():
        before, after = (model(x, torch.tensor([12]))[0] for x in (features, changed))
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.equal(before[:, 3], after[:, 3])


def test_parameters_are_counted() -> None:
    assert count_parameters(nn.Linear(3, 4)) == 16
