"""
One step of each recurrent cell: its parameters, their initialisation, its equation.

A cell is a pure step: it takes the products of the current input (which the caller computes for all steps at once, see
`recurrence.py`) and a state, and returns the next state. The first `hidden_size` columns of a state are the output.
The weights are two `nn.Linear` in the gate order of torch's own modules, so that `torch.nn.GRU` with the same numbers
gives the same numbers, and tools that look for `nn.Linear` (LoRA, quantisers) find them.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import initialization as init

from .configuration_core import CELL_STATES, AttentionRnnCoreConfig, enter
from .prepared_linear import is_plain


class Cell(nn.Module):
    """
    The parameters of a cell. A subclass says how many gates it has and gives the equation; `register_cell` makes it a
    value of `cell_type`.

    With `cell_layer_norm`, the products with the input and with the state are normalised, each with a gain and a bias
    of its own (Ba, Kiros and Hinton, 2016, https://arxiv.org/abs/1607.06450, equations 20 to 22).
    """

    gates: int

    def __init__(self, config: AttentionRnnCoreConfig, input_size: int) -> None:
        super().__init__()
        self.hidden_size = config.hidden_size
        self.state_size = config.state_size
        self.backend = config.recurrence_backend
        self.input_to_hidden = nn.Linear(input_size, self.gates * config.hidden_size)
        self.hidden_to_hidden = nn.Linear(config.hidden_size, self.gates * config.hidden_size)
        self.input_norm, self.hidden_norm = (
            nn.LayerNorm(self.gates * config.hidden_size) if config.cell_layer_norm else nn.Identity() for _ in range(2)
        )

    def input_products(self, inputs: Tensor) -> Tensor:
        """(..., input) -> (..., gates * hidden), for all steps at once."""
        return self.input_norm(self.input_to_hidden(inputs))

    def hidden_products(self, state: Tensor, recurrent_mask: Tensor | None) -> Tensor:
        """
        (batch, state) -> (batch, gates * hidden). `recurrent_mask`, of the shape of the recurrent matrix, scales its
        entries (DropConnect of Merity et al., 2018, https://arxiv.org/abs/1708.02182, section 2).
        """
        hidden, matrix = state[..., : self.hidden_size], self.hidden_to_hidden
        if recurrent_mask is None:
            products = matrix(hidden)
        elif is_plain(matrix):
            products = linear(hidden, matrix.weight * recurrent_mask, matrix.bias)
        else:  # what else an adapter or a hook does to the product stays
            products = matrix(hidden) + linear(hidden, matrix.weight * (recurrent_mask - 1))
        return self.hidden_norm(products)

    def forward(self, input_products: Tensor, state: Tensor, recurrent_mask: Tensor | None = None) -> Tensor:
        """
        Args:
            input_products: of the current input, (batch, gates * hidden), or of several inputs, each of which follows
                the same state, (batch, inputs, gates * hidden).
            state: (batch, state), or of several inputs (batch, 1, state).
            recurrent_mask: see `hidden_products`.

        Returns:
            The next state, (batch, state), or of several inputs (batch, inputs, state).
        """
        raise NotImplementedError

    def initialize(self, config: AttentionRnnCoreConfig) -> None:
        """
        Give every parameter its initial value, except those that a checkpoint has filled. By
        `recurrent_initialization`:

        - `"orthogonal"`: Xavier uniform input matrix and orthogonal recurrent matrix, gate by gate, biases zero;
        - `"xavier"`: Xavier uniform matrices, gate by gate, biases zero;
        - `"uniform"`: everything uniform within `hidden_size ** -0.5`, as torch's own modules.
        """
        kind = config.recurrent_initialization
        bound = self.hidden_size**-0.5
        uniform = partial(nn.init.uniform_, a=-bound, b=bound)
        for matrix, initialize_gate in (
            (self.input_to_hidden, nn.init.xavier_uniform_),
            (self.hidden_to_hidden, nn.init.orthogonal_ if kind == "orthogonal" else nn.init.xavier_uniform_),
        ):
            _initialize_gates(matrix, self.gates, uniform if kind == "uniform" else initialize_gate)
            if kind == "uniform":
                init.uniform_(matrix.bias, -bound, bound)
            else:
                init.zeros_(matrix.bias)


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

    def forward(self, input_products: Tensor, state: Tensor, recurrent_mask: Tensor | None = None) -> Tensor:
        reset_input, update_input, new_input = input_products.chunk(3, dim=-1)
        reset_hidden, update_hidden, new_hidden = self.hidden_products(state, recurrent_mask).chunk(3, dim=-1)
        reset = torch.sigmoid(reset_input + reset_hidden)
        update = torch.sigmoid(update_input + update_hidden)
        new = torch.tanh(new_input + reset * new_hidden)
        return new + update * (state - new)


class LSTMCell(Cell):
    """
    Long short-term memory (Hochreiter and Schmidhuber, 1997, with the forget gate of Gers et al., 2000; no peepholes,
    as in `torch.nn.LSTM`). The state is [h; c]:

        i = sigmoid(W_ii x + b_ii + W_hi h + b_hi)
        f = sigmoid(W_if x + b_if + W_hf h + b_hf)
        g = tanh(W_ig x + b_ig + W_hg h + b_hg)
        o = sigmoid(W_io x + b_io + W_ho h + b_ho)
        c' = f * c + i * g
        h' = o * tanh(c')

    The bias of the forget gate starts at `forget_gate_bias` (Jozefowicz et al., 2015), all of it in the recurrent bias.
    With `cell_layer_norm` the cell is normalised before its tanh.
    """

    gates = 4

    def __init__(self, config: AttentionRnnCoreConfig, input_size: int) -> None:
        super().__init__(config, input_size)
        self.cell_norm = nn.LayerNorm(config.hidden_size) if config.cell_layer_norm else nn.Identity()

    def forward(self, input_products: Tensor, state: Tensor, recurrent_mask: Tensor | None = None) -> Tensor:
        products = input_products + self.hidden_products(state, recurrent_mask)
        input_gate, forget_gate, new, output_gate = products.chunk(4, dim=-1)
        cell = torch.sigmoid(forget_gate) * state[..., self.hidden_size :]
        cell = cell + torch.sigmoid(input_gate) * torch.tanh(new)
        hidden = torch.sigmoid(output_gate) * torch.tanh(self.cell_norm(cell))
        return torch.cat([hidden, cell], dim=-1)

    def initialize(self, config: AttentionRnnCoreConfig) -> None:
        super().initialize(config)
        bias = self.hidden_to_hidden.bias
        if not getattr(bias, "_is_hf_initialized", False):
            with torch.no_grad():
                bias[self.hidden_size : 2 * self.hidden_size] += config.forget_gate_bias


class TanhRNNCell(Cell):
    """Plain recurrent network (Elman, 1990): h' = tanh(W_ih x + b_ih + W_hh h + b_hh)"""

    gates = 1

    def forward(self, input_products: Tensor, state: Tensor, recurrent_mask: Tensor | None = None) -> Tensor:
        return torch.tanh(input_products + self.hidden_products(state, recurrent_mask))


class ReluRNNCell(TanhRNNCell):
    """Plain recurrent network with rectified linear units: h' = max(0, W_ih x + b_ih + W_hh h + b_hh)"""

    def forward(self, input_products: Tensor, state: Tensor, recurrent_mask: Tensor | None = None) -> Tensor:
        return torch.relu(input_products + self.hidden_products(state, recurrent_mask))


class EchoStateCell(Cell):
    """
    Leaky units whose weights are drawn once and never trained (Jaeger, 2001, "The echo state approach to analysing and
    training recurrent neural networks"; Jaeger et al., 2007, with the leak):

        h' = (1 - a) h + a tanh(W_ih x + b_ih + W_hh h)

    Of W_hh the share `connectivity` is normal, the rest zero, and its largest absolute eigenvalue is
    `spectral_radius`; W_ih and b_ih are uniform within `input_scaling`; b_hh is zero; a is `leak`. What reads the
    states is trained, or solved for by `fit_readout`.
    """

    gates = 1
    is_frozen = True

    def __init__(self, config: AttentionRnnCoreConfig, input_size: int) -> None:
        super().__init__(config, input_size)
        self.leak = config.leak
        self.requires_grad_(False)

    def forward(self, input_products: Tensor, state: Tensor, recurrent_mask: Tensor | None = None) -> Tensor:
        new = torch.tanh(input_products + self.hidden_products(state, recurrent_mask))
        return state + self.leak * (new - state)

    def initialize(self, config: AttentionRnnCoreConfig) -> None:
        matrix, bound = self.hidden_to_hidden.weight, config.input_scaling
        init.uniform_(self.input_to_hidden.weight, -bound, bound)
        init.uniform_(self.input_to_hidden.bias, -bound, bound)
        init.zeros_(self.hidden_to_hidden.bias)
        if not getattr(matrix, "_is_hf_initialized", False):
            reservoir = torch.randn_like(matrix, dtype=torch.float64)
            reservoir *= torch.rand_like(reservoir) < config.connectivity
            radius = torch.linalg.eigvals(reservoir).abs().max()
            # a few units with few connections may have no circle, and so no eigenvalue but zero
            init.copy_(matrix, reservoir * (config.spectral_radius / radius.clamp(min=1e-6)))


CELLS: dict[str, type[Cell]] = {
    "gru": GRUCell,
    "lstm": LSTMCell,
    "rnn_tanh": TanhRNNCell,
    "rnn_relu": ReluRNNCell,
    "echo_state": EchoStateCell,
}


def register_cell(name: str, states: int = 1) -> Callable[[type[Cell]], type[Cell]]:
    """
    Make a cell of your own a value of `cell_type`, as a decorator of its class.

    The file that holds the class travels with a checkpoint that needs it. So it imports torch, transformers, files
    beside it (`from .name import ...`) and those of this folder (`from attention_rnn.models.cells import ...`), and
    nothing else.

    Args:
        name: the value of `cell_type`.
        states: of how many vectors of `hidden_size` its state consists; the first one is the output.

    Raises:
        ValueError: the name is that of another cell.
        TypeError: the class is no `Cell`.
    """

    def register(cell_class: type[Cell]) -> type[Cell]:
        if not (isinstance(cell_class, type) and issubclass(cell_class, Cell)):
            raise TypeError(f"`register_cell` must decorate a subclass of Cell, got {cell_class!r}.")
        enter(CELLS, name, cell_class)
        CELL_STATES[name] = states
        return cell_class

    return register


def _initialize_gates(linear: nn.Linear, gates: int, initialize: Callable[[Tensor], Tensor]) -> None:
    # transformers marks the weights that a checkpoint has filled; a slice of a weight has lost that mark, so the whole
    # is drawn aside and copied by the function that knows it
    if not getattr(linear.weight, "_is_hf_initialized", False):
        weight = torch.empty_like(linear.weight, dtype=torch.float32)
        for gate in weight.chunk(gates):
            initialize(gate)
        init.copy_(linear.weight, weight)
