"""
Time of a recurrent layer over whole sequences: `models/recurrence.py` against torch.nn's modules of the same weights.

    python benchmarks/speed/run.py recurrence
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from comparison import Line, compare
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from attention_rnn import AttentionRnnConfig
from attention_rnn.models.cells import CELLS
from attention_rnn.models.encoder import AttentionRnnEncoderLayer
from attention_rnn.models.recurrence import recurrence

# batch, steps and hidden size, with the ratios that we aim at, of a GRU's forward, and forward and backward
SIZES: list[tuple[tuple[int, int, int], float | None, float | None]] = [
    ((64, 30, 512), 2.0, 1.8),
    ((32, 30, 1024), 2.0, 1.8),
    ((128, 30, 512), 2.0, 1.8),
    ((64, 100, 512), None, 1.8),
    ((64, 30, 256), None, 1.2),
    ((32, 20, 128), 1.0, 1.0),
]
MODULES = {"gru": nn.GRU, "lstm": nn.LSTM}


def measure(rounds: int) -> Iterator[Line]:
    for cell_type in MODULES:
        for (batch, steps, hidden), forward_goal, goal in SIZES:
            ours, theirs, inputs = sides(cell_type, batch, steps, hidden)
            goals = (forward_goal, goal) if cell_type == "gru" else (1.0, 1.0)
            name = f"{cell_type.upper()}, batch {batch}, {steps} steps, hidden {hidden}"
            with torch.no_grad():
                yield compare(f"{name}, forward", ours, theirs, rounds, goals[0])
            both = (training(side, inputs) for side in (ours, theirs))
            yield compare(f"{name}, forward and backward", *both, rounds, goals[1])
        yield bidirectional(cell_type, rounds)


def sides(
    cell_type: str, batch: int, steps: int, hidden: int
) -> tuple[Callable[[], Tensor], Callable[[], Tensor], Any]:
    torch.manual_seed(0)
    inputs = torch.randn(batch, steps, hidden, requires_grad=True)
    module = MODULES[cell_type](hidden, hidden, batch_first=True)
    cell: Any = CELLS[cell_type](AttentionRnnConfig(cell_type=cell_type, hidden_size=hidden), hidden)
    cell.input_to_hidden.weight, cell.input_to_hidden.bias = module.weight_ih_l0, module.bias_ih_l0
    cell.hidden_to_hidden.weight, cell.hidden_to_hidden.bias = module.weight_hh_l0, module.bias_hh_l0
    state = torch.zeros(batch, cell.state_size)
    return lambda: recurrence(cell, inputs, None, state)[0], lambda: module(inputs)[0], [inputs, *module.parameters()]


def training(side: Callable[[], Tensor], leaves: list[Tensor]) -> Callable[[], Any]:
    def step() -> None:
        outputs = side()
        torch.autograd.grad(outputs, leaves, torch.ones_like(outputs))

    return step


def bidirectional(cell_type: str, rounds: int) -> Line:
    """A layer in both directions over sequences of 10 to 40 tokens; torch's modules need them packed."""
    torch.manual_seed(0)
    batch, steps, hidden = 64, 40, 256
    lengths = torch.randint(10, steps + 1, (batch,))
    lengths[0] = steps
    mask = torch.arange(steps) < lengths[:, None]
    inputs = torch.randn(batch, steps, hidden)
    config = AttentionRnnConfig(cell_type=cell_type, hidden_size=hidden, hidden_dropout=0.0)
    layer = AttentionRnnEncoderLayer(config, hidden, directions=2)
    module = MODULES[cell_type](hidden, hidden, batch_first=True, bidirectional=True)

    def ours() -> None:
        layer(inputs, mask)[0].sum().backward()

    def theirs() -> None:
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        pad_packed_sequence(module(packed)[0], batch_first=True)[0].sum().backward()

    return compare(
        f"{cell_type.upper()} in both directions, ragged, forward and backward: packed", ours, theirs, rounds
    )
