"""
A whole padded sequence through a cell, forwards or backwards.

At a padded position the state stays what it was: padding on either side, or holes, change nothing for the real tokens,
and the last state of a sequence is its final state. `recurrence_reference` says so directly; `recurrence` gives the
same numbers as fast as it can: the products with the input are one product over all steps, the loop writes into buffers
that are made once, and the backward, derived by hand, makes the weights' gradients in one product over all steps.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from .cells import Cell, GRUCell, LSTMCell, ReluRNNCell, TanhRNNCell


def recurrence(
    cell: Cell,
    inputs: Tensor,
    mask: Tensor | None,
    initial_state: Tensor,
    reverse: bool = False,
    recurrent_mask: Tensor | None = None,
) -> Tensor:
    """
    Run `cell` over a batch of sequences.

    Args:
        cell: a cell of `cells.py`.
        inputs: (batch, time, input).
        mask: (batch, time), true at real tokens; `None` where there is no padding.
        initial_state: (batch, state).
        reverse: read from the last token to the first.
        recurrent_mask: scales the entries of the recurrent matrix, the same for all steps; see `Cell.hidden_products`.

    Returns:
        The state after each token, (batch, time, state). The final state stands at the last position, or at the first
        one when reading in reverse.
    """
    if inputs.shape[1] == 1 or not _has_fast_form(cell):
        return recurrence_reference(cell, inputs, mask, initial_state, reverse, recurrent_mask)
    weight = cell.hidden_to_hidden.weight
    if recurrent_mask is not None:
        weight = weight * recurrent_mask
    # Time comes first, so that each step is one piece of memory. Real tokens move to the front, in reading order, so
    # that the loop needs no mask.
    inputs = inputs.transpose(0, 1)  # (time, batch, input)
    if mask is not None:
        gather_index, scatter_index = _alignment(mask, reverse)
        inputs = inputs.gather(0, gather_index[..., None].expand_as(inputs))
    elif reverse:
        inputs = inputs.flip(0)
    if _runs_on_cudnn(cell):
        states = _cudnn(cell, inputs, initial_state, weight)
    else:
        products = cell.input_products(inputs)
        states = _FAST[type(cell)].apply(products, initial_state, weight, cell.hidden_to_hidden.bias)
    if mask is not None:
        states = states.gather(0, scatter_index[..., None].expand(-1, -1, states.shape[-1]))
    else:
        states = states[1:].flip(0) if reverse else states[1:]
    return states.transpose(0, 1)


def recurrence_reference(
    cell: Cell,
    inputs: Tensor,
    mask: Tensor | None,
    initial_state: Tensor,
    reverse: bool = False,
    recurrent_mask: Tensor | None = None,
) -> Tensor:
    """The plain loop over time that defines `recurrence`; same arguments and result."""
    products = cell.input_products(inputs)  # (batch, time, gates * hidden)
    steps = range(inputs.shape[1])
    state, states = initial_state, []
    for step in reversed(steps) if reverse else steps:
        next_state = cell(products[:, step], state, recurrent_mask)
        state = next_state if mask is None else torch.where(mask[:, step, None], next_state, state)
        states.append(state)
    return torch.stack(states[::-1] if reverse else states, dim=1)


def _alignment(mask: Tensor, reverse: bool) -> tuple[Tensor, Tensor]:
    """
    Where the real tokens of a (batch, time) mask lie, without sorting and without a word to the host.

    Returns:
        `gather_index` (time, batch): the position of the n-th real token in reading order, then zeros.
        `scatter_index` (time, batch): how many real tokens have been read up to and including each position.
    """
    mask = mask.transpose(0, 1)
    count = mask.long()
    count = count.flip(0).cumsum(0).flip(0) if reverse else count.cumsum(0)
    positions = torch.arange(mask.shape[0], device=mask.device)[:, None].expand_as(count)
    # a padded position writes to slot 0, which is then dropped
    slots = torch.zeros(mask.shape[0] + 1, mask.shape[1], dtype=torch.long, device=mask.device)
    return slots.scatter(0, count * mask, positions)[1:], count


def _product_dtype(like: Tensor) -> torch.dtype:
    """The precision of the products: what autocast asks for, or that of the weights, in which the states stay."""
    device = like.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype


class _Recurrence(Function):
    """
    What the cells share; a subclass gives `run` and `run_back`.

    `apply(products, initial_state, weight, bias)` takes the products with the inputs (time, batch, gates * hidden) and
    returns the states, the initial one before the others, (1 + time, batch, state).
    """

    @classmethod
    def run(cls, products: Tensor, states: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        """Fill `states` from the second on; returns what `run_back` needs."""
        raise NotImplementedError

    @classmethod
    def run_back(
        cls, gradient: Tensor, states: Tensor, weight: Tensor, saved: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """
        Gradients of the products, of the products with the state (both (time, batch, gates * hidden)) and of the
        initial state, from that of the states.
        """
        raise NotImplementedError

    @classmethod
    def forward(cls, ctx: Any, products: Tensor, initial_state: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.product_dtype = _product_dtype(weight)
        with torch.autocast(weight.device.type, enabled=False):
            products = products.to(weight.dtype)
            states = products.new_empty(products.shape[0] + 1, *initial_state.shape)
            states[0] = initial_state
            saved = cls.run(products, states, weight.to(ctx.product_dtype), bias.to(ctx.product_dtype))
        ctx.save_for_backward(states, weight, *saved)
        return states

    @classmethod
    @once_differentiable
    def backward(cls, ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        states, weight, *saved = ctx.saved_tensors
        with torch.autocast(weight.device.type, enabled=False):
            of_inputs, of_hidden, of_initial = cls.run_back(gradient, states, weight.to(ctx.product_dtype), saved)
            gates = of_hidden.flatten(0, 1)
            hidden = states[:-1, :, : weight.shape[1]].flatten(0, 1)
            of_weight = (gates.to(ctx.product_dtype).t() @ hidden.to(ctx.product_dtype)).to(weight.dtype)
            return of_inputs, of_initial, of_weight, gates.sum(dim=0)


class _GRURecurrence(_Recurrence):
    @classmethod
    def run(cls, products: Tensor, states: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        size = states.shape[-1]
        gates = torch.empty_like(products)  # reset, update, new
        new_hidden = torch.empty_like(states[1:])  # W_hn h + b_hn
        for step, (product, gate, hidden) in enumerate(zip(products, gates, new_hidden, strict=True)):
            state = states[step]
            from_state = linear(state.to(weight.dtype), weight, bias)
            torch.add(product[:, : 2 * size], from_state[:, : 2 * size], out=gate[:, : 2 * size]).sigmoid_()
            hidden.copy_(from_state[:, 2 * size :])
            reset, update, new = gate.chunk(3, dim=1)
            torch.addcmul(product[:, 2 * size :], reset, hidden, out=new).tanh_()
            torch.lerp(new, state, update, out=states[step + 1])
        return gates, new_hidden

    @classmethod
    def run_back(
        cls, gradient: Tensor, states: Tensor, weight: Tensor, saved: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        gates, new_hidden = saved
        reset, update, new = gates.chunk(3, dim=2)
        # what the gradient of the state is multiplied with, for all steps at once
        of_update = (states[:-1] - new).mul_(update).mul_(1 - update)
        of_new = (1 - new.square()).mul_(1 - update)
        of_reset = (new_hidden * reset).mul_(1 - reset)
        of_inputs = torch.empty_like(gates)
        of_hidden = torch.empty_like(gates)
        of_state = gradient[-1].clone()
        for step in reversed(range(len(gates))):
            reset_gate, update_gate, new_gate = of_inputs[step].chunk(3, dim=1)
            torch.mul(of_state, of_update[step], out=update_gate)
            torch.mul(of_state, of_new[step], out=new_gate)
            torch.mul(new_gate, of_reset[step], out=reset_gate)
            of_hidden[step] = of_inputs[step]
            of_hidden[step].chunk(3, dim=1)[2].mul_(reset[step])
            of_state = of_state.mul_(update[step]).add_(of_hidden[step].to(weight.dtype) @ weight).add_(gradient[step])
        return of_inputs, of_hidden, of_state


class _LSTMRecurrence(_Recurrence):
    @classmethod
    def run(cls, products: Tensor, states: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        size = weight.shape[1]
        gates = torch.empty_like(products)  # input, forget, new, output
        squashed = products.new_empty(*products.shape[:2], size)  # tanh(c)
        for step, (product, gate, squash) in enumerate(zip(products, gates, squashed, strict=True)):
            hidden, cell = states[step].split(size, dim=1)
            torch.add(product, linear(hidden.to(weight.dtype), weight, bias), out=gate)
            gate[:, : 2 * size].sigmoid_()
            gate[:, 2 * size : 3 * size].tanh_()
            gate[:, 3 * size :].sigmoid_()
            input_gate, forget_gate, new, output_gate = gate.chunk(4, dim=1)
            next_hidden, next_cell = states[step + 1].split(size, dim=1)
            torch.mul(forget_gate, cell, out=next_cell).addcmul_(input_gate, new)
            torch.tanh(next_cell, out=squash)
            torch.mul(output_gate, squash, out=next_hidden)
        return gates, squashed

    @classmethod
    def run_back(
        cls, gradient: Tensor, states: Tensor, weight: Tensor, saved: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        gates, squashed = saved
        size = weight.shape[1]
        input_gate, forget_gate, new, output_gate = gates.chunk(4, dim=2)
        # what the gradients of c and of h are multiplied with, for all steps at once
        of_cell = torch.empty_like(gates[:, :, : 3 * size])
        torch.mul(input_gate * new, 1 - input_gate, out=of_cell[:, :, :size])
        torch.mul(states[:-1, :, size:] * forget_gate, 1 - forget_gate, out=of_cell[:, :, size : 2 * size])
        torch.mul(input_gate, 1 - new.square(), out=of_cell[:, :, 2 * size :])
        of_output = (squashed * output_gate).mul_(1 - output_gate)
        of_squashed = (1 - squashed.square()).mul_(output_gate)
        of_gates = torch.empty_like(gates)
        hidden_gradient, cell_gradient = (part.clone() for part in gradient[-1].split(size, dim=1))
        for step in reversed(range(len(gates))):
            cell_gradient.addcmul_(hidden_gradient, of_squashed[step])
            of_gate = of_gates[step]
            torch.mul(
                cell_gradient[:, None],
                of_cell[step].unflatten(1, (3, size)),
                out=of_gate[:, : 3 * size].unflatten(1, (3, size)),
            )
            torch.mul(hidden_gradient, of_output[step], out=of_gate[:, 3 * size :])
            cell_gradient.mul_(forget_gate[step]).add_(gradient[step, :, size:])
            hidden_gradient = (of_gate.to(weight.dtype) @ weight).to(gates.dtype).add_(gradient[step, :, :size])
        return of_gates, of_gates, torch.cat([hidden_gradient, cell_gradient], dim=1)


class _TanhRNNRecurrence(_Recurrence):
    @classmethod
    def run(cls, products: Tensor, states: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        for step, product in enumerate(products):
            next_state = states[step + 1]
            torch.add(product, linear(states[step].to(weight.dtype), weight, bias), out=next_state)
            cls.activate_(next_state)
        return ()

    @classmethod
    def run_back(
        cls, gradient: Tensor, states: Tensor, weight: Tensor, saved: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        of_activation = cls.derivative(states[1:])
        of_products = torch.empty_like(of_activation)
        of_state = gradient[-1]
        for step in reversed(range(len(of_products))):
            torch.mul(of_state, of_activation[step], out=of_products[step])
            of_state = (of_products[step].to(weight.dtype) @ weight).to(gradient.dtype).add_(gradient[step])
        return of_products, of_products, of_state

    @staticmethod
    def activate_(product: Tensor) -> None:
        product.tanh_()

    @staticmethod
    def derivative(activation: Tensor) -> Tensor:
        return 1 - activation.square()


class _ReluRNNRecurrence(_TanhRNNRecurrence):
    @staticmethod
    def activate_(product: Tensor) -> None:
        product.relu_()

    @staticmethod
    def derivative(activation: Tensor) -> Tensor:
        return (activation > 0).to(activation.dtype)


_FAST = {
    GRUCell: _GRURecurrence,
    LSTMCell: _LSTMRecurrence,
    TanhRNNCell: _TanhRNNRecurrence,
    ReluRNNCell: _ReluRNNRecurrence,
}


def _has_fast_form(cell: Cell) -> bool:
    # A quantised or LoRA-wrapped recurrent matrix is no plain nn.Linear any more: its product is its own affair. Layer
    # norm inside the cell belongs to the plain loop, and a graph that is traced should hold plain operators.
    plain = type(cell.hidden_to_hidden) is nn.Linear and isinstance(cell.hidden_norm, nn.Identity)
    return plain and type(cell) in _FAST and not torch.compiler.is_compiling()


_CUDNN = {GRUCell: torch.gru, TanhRNNCell: torch.rnn_tanh, ReluRNNCell: torch.rnn_relu}


def _runs_on_cudnn(cell: Cell) -> bool:
    # Step by step a GPU waits for Python. cuDNN does not tell the cell states of an LSTM, which are part of its state.
    plain = type(cell.input_to_hidden) is nn.Linear and isinstance(cell.input_norm, nn.Identity)
    return plain and type(cell) in _CUDNN and cell.input_to_hidden.weight.device.type == "cuda"


def _cudnn(cell: Cell, inputs: Tensor, initial_state: Tensor, weight: Tensor) -> Tensor:
    """As `_Recurrence.apply`, from the inputs (time, batch, input) themselves."""
    weights = [cell.input_to_hidden.weight, weight, cell.input_to_hidden.bias, cell.hidden_to_hidden.bias]
    # autocast may hand over halves, and the operator wants one type
    inputs, initial_state = inputs.to(weight.dtype), initial_state.to(weight.dtype)[None].contiguous()
    states, _ = _CUDNN[type(cell)](inputs, initial_state, weights, True, 1, 0.0, False, False, False)
    return torch.cat([initial_state, states], dim=0)
