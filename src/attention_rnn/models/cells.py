"""
One step of each recurrent cell: its parameters, their initialisation, its equation.

A cell is a pure step: it takes the products of the current input (which the caller computes for all steps at once, see
`recurrence.py`) and a state, and returns the next state. The first `hidden_size` columns of a state are the output.
The weights are two `nn.Linear` in the gate order of torch's own modules, so that `torch.nn.GRU` with the same numbers
gives the same numbers, and tools that look for `nn.Linear` (LoRA, quantisers) find them.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import initialization as init


class Cell(nn.Module):
    """
    The parameters of a cell. A subclass says how many gates it has and gives the equation.

    Initialised with a Xavier uniform input matrix and an orthogonal recurrent matrix for each gate, biases zero.
    """

    gates: int
    states: int = 1  # a state is so many vectors of `hidden_size`

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.state_size = self.states * hidden_size
        self.input_to_hidden = nn.Linear(input_size, self.gates * hidden_size)
        self.hidden_to_hidden = nn.Linear(hidden_size, self.gates * hidden_size)

    def forward(self, input_products: Tensor, state: Tensor) -> Tensor:
        """
        Args:
            input_products: `input_to_hidden` of the current input, (batch, gates * hidden).
            state: (batch, state).

        Returns:
            The next state, (batch, state).
        """
        raise NotImplementedError

    def initialize(self) -> None:
        """Give every parameter its initial value, except those that a checkpoint has filled."""
        _initialize_gates(self.input_to_hidden, self.gates, nn.init.xavier_uniform_)
        _initialize_gates(self.hidden_to_hidden, self.gates, nn.init.orthogonal_)


class GRUCell(Cell):
    """
    Gated recurrent unit (Cho et al., 2014, https://arxiv.org/abs/1406.1078, equations 5 to 8; the reset gate acts
    after the product with the state, as in cuDNN and `torch.nn.GRU`):

        r = sigmoid(W_ir x + b_ir + W_hr h + b_hr)
        z = sigmoid(W_iz x + b_iz + W_hz h + b_hz)
        n = tanh(W_in x + b_in + r * (W_hn h + b_hn))
        h' = (1 - z) * n + z * h
    """

    gates = 3

    def forward(self, input_products: Tensor, state: Tensor) -> Tensor:
        reset_input, update_input, new_input = input_products.chunk(3, dim=-1)
        reset_hidden, update_hidden, new_hidden = self.hidden_to_hidden(state).chunk(3, dim=-1)
        reset = torch.sigmoid(reset_input + reset_hidden)
        update = torch.sigmoid(update_input + update_hidden)
        new = torch.tanh(new_input + reset * new_hidden)
        return new + update * (state - new)


CELLS: dict[str, type[Cell]] = {"gru": GRUCell}


def _initialize_gates(linear: nn.Linear, gates: int, initialize: Callable[[Tensor], Tensor]) -> None:
    # transformers marks the weights that a checkpoint has filled; a slice of a weight has lost that mark, so the whole
    # is drawn aside and copied by the function that knows it
    if not getattr(linear.weight, "_is_hf_initialized", False):
        weight = torch.empty_like(linear.weight, dtype=torch.float32)
        for gate in weight.chunk(gates):
            initialize(gate)
        init.copy_(linear.weight, weight)
    init.zeros_(linear.bias)
