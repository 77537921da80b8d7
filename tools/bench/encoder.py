"""Training steps of bidirectional encoders beside the machine's matrix-product rate, in one run.

A step is forward and backward of the recurrent layers, batch 20 x 300 steps, input 256. The dense
layers of asr.model.encoder stand beside the same with torch's cells in place of ours (an LSTM's are
torch's anyway), and beside torch's packed layer on the same lengths. Rates count matrix products
alone: a multiplication and an addition for each weight, step and utterance, three times (forward,
and two in backward). Times are of the processor.

Run: python tools/bench/encoder.py [ROUNDS [CELL...]]
"""

import statistics
import sys
import time
from collections.abc import Callable
from unittest.mock import patch

import torch
from torch import nn

from asr.config import EncoderConfig
from asr.model import CtcModel, encoder

BATCH, STEPS, INPUT = 20, 300, 256
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def main(rounds: int, cells: list[str]) -> None:
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {rounds} rounds, medians")
    print("cell  layers   product  dense          torch's cells  packed         packed/dense")
    for cell, layers, units in [
        ("lstm", 3, 256),
        ("lstm", 4, 384),
        ("gru", 3, 256),
        ("rnn", 3, 256),
    ]:
        if cells and cell not in cells:
            continue
        dense_step, packed_step = make_steps(cell, layers, units)
        rows = []
        for _ in range(rounds + 1):
            with patch.multiple(encoder, run_gru=run_cell, run_rnn=run_cell):
                torch_cells = seconds(dense_step)
            rows.append((product_rate(), seconds(dense_step), torch_cells, seconds(packed_step)))
        rate, *times = (statistics.median(column) for column in zip(*rows[1:], strict=True))
        rates = [3 * flops(cell, layers, units) / time / 1e9 for time in times]
        shares = "    ".join(f"{own:4.0f} ({100 * own / rate:3.0f} %)" for own in rates)
        print(
            f"{cell:<5} {layers} x {units}  {rate:4.0f}     {shares}    {times[2] / times[0]:.1f}"
        )
    print("rates in GFLOP/s; in brackets the share of the 1024-cubed product's, same round")


def run_cell(hidden: torch.Tensor, cell: nn.RNNBase) -> torch.Tensor:
    return cell(hidden)[0]


def make_steps(cell: str, layers: int, units: int) -> tuple[Callable[[], None], Callable[[], None]]:
    config = EncoderConfig(
        cell=cell,
        num_layers=layers,
        hidden_size=units,
        conv_channels=INPUT,
        dropout=0,
        subsampling=1,
    )
    stack = CtcModel(1, 2, config).layers
    kinds = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
    packed_layer = kinds[cell](INPUT, units, layers, bidirectional=True)
    inputs = torch.randn(STEPS, BATCH, INPUT)
    lengths = torch.linspace(0.95 * STEPS, STEPS, BATCH).long().flip(0)
    position = torch.arange(STEPS)[:, None]
    reverse = torch.where(lengths > position, lengths - 1 - position, position)
    reverse = (reverse * BATCH + torch.arange(BATCH)).flatten()
    gradient = torch.randn(
        STEPS, BATCH, 2 * units
    )  # that of a sum is lost in the last layer's norm

    def dense() -> None:
        hidden = inputs
        for layer in stack:
            hidden = layer(hidden, reverse)
        hidden.backward(gradient)

    def packed() -> None:
        output, _ = packed_layer(nn.utils.rnn.pack_padded_sequence(inputs, lengths))
        output.data.sum().backward()

    return dense, packed


def flops(cell: str, layers: int, units: int) -> float:
    sizes = [INPUT] + [2 * units] * (layers - 1)
    return sum(2 * 2 * GATES[cell] * units * (size + units) * BATCH * STEPS for size in sizes)


def product_rate() -> float:
    """GFLOP/s of a product of two 1024 x 1024 matrices."""
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    taken = seconds(lambda: [left @ right for _ in range(20)])
    return 20 * 2 * 1024**3 / taken / 1e9


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, sys.argv[2:])
