from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from asr.config import EncoderConfig
from asr.model import CtcModel, ctc_loss, encoder
from asr.model.recurrence import run_gru, run_rnn

Run = Callable[..., Tensor]
CELLS = pytest.mark.parametrize(("kind", "run"), [(nn.GRU, run_gru), (nn.RNN, run_rnn)])
SIZES = [(7, 3, 5, 4), (5, 1, 3, 9), (1, 4, 2, 3), (1, 1, 1, 1), (300, 9, 6, 5)]
"""Steps, batch, inputs and units; of the last, several pieces."""


def torch_run(hidden: Tensor, cell: nn.RNNBase) -> Tensor:
    return cell(hidden)[0]


def make(
    kind: type[nn.RNNBase], steps: int, batch: int, inputs: int, units: int
) -> tuple[nn.RNNBase, Tensor]:
    torch.manual_seed(0)
    cell = kind(inputs, units).double()
    hidden = torch.randn(batch, steps, inputs, dtype=torch.double)
    return cell, hidden.transpose(0, 1).requires_grad_()


def results(run: Run, cell: nn.RNNBase, hidden: Tensor) -> list[Tensor]:
    """Outputs and all gradients; those that come are laid out as a slice of both directions'."""
    output = run(hidden, cell)
    weights = torch.sin(torch.arange(2 * output.numel(), dtype=torch.double))
    incoming = weights.view(*output.shape[:2], -1)[:, :, : output.shape[2]].to(output.dtype)
    return [output, *torch.autograd.grad(output, [hidden, *cell.parameters()], incoming)]


@CELLS
@pytest.mark.parametrize("sizes", SIZES)
def test_outputs_and_gradients_are_those_of_torch(
    kind: type[nn.RNNBase], run: Run, sizes: tuple[int, int, int, int]
) -> None:
    cell, hidden = make(kind, *sizes)
    for ours, theirs in zip(
        results(run, cell, hidden), results(torch_run, cell, hidden), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@CELLS
def test_gradients_are_those_of_differences(kind: type[nn.RNNBase], run: Run) -> None:
    cell, hidden = make(kind, 4, 2, 3, 2)
    assert torch.autograd.gradcheck(
        lambda hidden, *_: run(hidden, cell), (hidden, *cell.parameters())
    )


@CELLS
def test_a_layer_may_run_twice_in_one_graph(kind: type[nn.RNNBase], run: Run) -> None:
    cell, hidden = make(kind, 6, 3, 4, 4)
    gradients = [
        torch.autograd.grad(way(way(hidden, cell), cell).sum(), [hidden, *cell.parameters()])
        for way in (run, torch_run)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


@CELLS
def test_a_graph_that_is_kept_gives_its_gradients_again(kind: type[nn.RNNBase], run: Run) -> None:
    cell, hidden = make(kind, 6, 3, 4, 5)
    output = run(hidden, cell).sum()
    first = torch.autograd.grad(output, [hidden, *cell.parameters()], retain_graph=True)
    again = torch.autograd.grad(output, [hidden, *cell.parameters()])
    assert all(torch.equal(left, right) for left, right in zip(first, again, strict=True))


@CELLS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bfloat16_is_no_farther_from_the_truth_than_torch(
    kind: type[nn.RNNBase], run: Run, dtype: torch.dtype
) -> None:
    cell, hidden = make(kind, 60, 5, 16, 16)
    truth = results(torch_run, cell, hidden)
    cell.float()
    hidden = hidden.detach().to(dtype).requires_grad_()
    errors = []
    for way in (run, torch_run):
        with torch.autocast("cpu", torch.bfloat16):
            found = results(way, cell, hidden)
        errors.append(
            [
                ((one - true).norm() / true.norm()).item()
                for one, true in zip(found, truth, strict=True)
            ]
        )
        assert found[0].dtype == torch.bfloat16 or way is torch_run
        assert [one.dtype for one in found[1:]] == [dtype] + 4 * [torch.float32]
    for ours, theirs in zip(*errors, strict=True):
        assert ours < 0.02
        assert ours < 1.2 * theirs


@pytest.mark.parametrize("cell", ["gru", "rnn"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_training_takes_it_and_its_loss_is_that_of_torch(
    cell: str, bidirectional: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = EncoderConfig(
        cell=cell, hidden_size=6, num_layers=2, conv_channels=4, bidirectional=bidirectional
    )
    model = CtcModel(5, 7, config).double()
    features = torch.randn(3, 30, 5, dtype=torch.double)
    lengths, targets = torch.tensor([30, 21, 9]), torch.tensor([[1, 2], [3, 3], [4, 0]])

    def step() -> tuple[set[str], list[Tensor]]:
        torch.manual_seed(1)
        log_probs, steps = model(features, lengths)
        loss = ctc_loss(log_probs, steps, targets, torch.tensor([2, 2, 1])).sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        return names(loss.grad_fn), [loss, *gradients]

    used, ours = step()
    monkeypatch.setattr(encoder, "run_gru", torch_run)
    monkeypatch.setattr(encoder, "run_rnn", torch_run)
    unused, theirs = step()
    name = f"_{cell.capitalize()}Backward"
    assert name in used
    assert name not in unused
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-11)


def names(node: torch.autograd.graph.Node | None) -> set[str]:
    found, seen, waiting = set(), set(), [node]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            found.add(node.name())
            waiting += [function for function, _ in node.next_functions]
    return found
