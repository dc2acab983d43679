"""
A whole padded sequence through a cell, forwards or backwards.

At a padded position the state stays what it was: padding on either side, or holes, change nothing for the real tokens,
and the last state of a sequence is its final state. `recurrence_reference` says so directly; `recurrence` gives the
same numbers as fast as it can:

- a GRU and a plain RNN on a CPU by a function of our own: the products with the input are one product over all steps,
  the recurrent matrix is laid out once for all steps, and the backward, derived by hand, makes the weights' gradients
  in one product over all steps;
- an LSTM, everything on a GPU, and small inference by torch's own operators, which oneDNN and cuDNN serve;
- what has no fast form (layer norm in the cell; a matrix that is wrapped, quantised, offloaded or hooked; a cell of a
  user's own; a graph that is being traced) by the loop.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .cells import Cell, GRUCell, LSTMCell, ReluRNNCell, TanhRNNCell
from .prepared_linear import MIN_WEIGHTS, is_intercepted, is_plain, is_watched, prepare_product, product_dtype

sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
tanh_backward = torch.ops.aten.tanh_backward.grad_input

# cuDNN says so of every cell, since the weights are parameters of their own, and a user cannot change it
warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk", module=__name__)

HOLD = 1e4  # the sigmoid of it is one, and of its negative zero, in every precision


def recurrence(
    cell: Cell,
    inputs: Tensor,
    mask: Tensor | None,
    initial_state: Tensor,
    reverse: bool = False,
    recurrent_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
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
        The outputs (batch, time, hidden), at padding those of the token that was read last, and the final state
        (batch, state).
    """
    if inputs.shape[1] == 1 or not _has_fast_form(cell):
        states = recurrence_reference(cell, inputs, mask, initial_state, reverse, recurrent_mask)
        return states[..., : cell.hidden_size], states[:, 0 if reverse else -1]
    weight = cell.hidden_to_hidden.weight
    if recurrent_mask is not None:
        weight = weight * recurrent_mask
    # Time comes first, so that each step is one piece of memory. Real tokens move to the front, in reading order, so
    # that the loop needs no mask.
    inputs = inputs.transpose(0, 1)  # (time, batch, input)
    padding = None
    if mask is not None:
        gather_index, scatter_index = _alignment(mask, reverse)
        inputs = inputs.gather(0, gather_index[..., None].expand_as(inputs))
        length = scatter_index[0 if reverse else -1]  # (batch,)
        padding = torch.arange(len(inputs), device=mask.device)[:, None] >= length
    elif reverse:
        inputs = inputs.flip(0)

    if isinstance(cell, LSTMCell):
        outputs, final_memory = _lstm(cell, inputs, padding, initial_state, weight)
    elif _has_operator(cell):
        outputs = _operator(cell, inputs, initial_state, weight)
    else:
        products = cell.input_products(inputs)
        outputs = _FAST[type(cell)].apply(products, initial_state, weight, cell.hidden_to_hidden.bias)
    # the initial state comes before the others, (1 + time, batch, hidden)
    if mask is not None:
        outputs = outputs.gather(0, scatter_index[..., None].expand(-1, -1, outputs.shape[-1]))
    else:
        outputs = outputs[1:].flip(0) if reverse else outputs[1:]
    final_state = outputs[0 if reverse else -1]
    if isinstance(cell, LSTMCell):
        final_state = torch.cat([final_state, final_memory], dim=-1)
    return outputs.transpose(0, 1), final_state


def recurrence_reference(
    cell: Cell,
    inputs: Tensor,
    mask: Tensor | None,
    initial_state: Tensor,
    reverse: bool = False,
    recurrent_mask: Tensor | None = None,
) -> Tensor:
    """
    The plain loop over time that defines `recurrence`, of the same arguments.

    Returns:
        The state after each token, (batch, time, state). The final state stands at the last position, or at the first
        one when reading in reverse.
    """
    products = cell.input_products(inputs)  # (batch, time, gates * hidden)
    if inputs.shape[1] != 1 and torch.compiler.is_exporting():
        return _scan(cell, products, mask, initial_state, reverse, recurrent_mask)
    steps = range(inputs.shape[1])
    state, states = initial_state, []
    for step in reversed(steps) if reverse else steps:
        next_state = cell(products[:, step], state, recurrent_mask)
        state = next_state if mask is None else torch.where(mask[:, step, None], next_state, state)
        states.append(state)
    return torch.stack(states[::-1] if reverse else states, dim=1)


def _scan(
    cell: Cell,
    products: Tensor,
    mask: Tensor | None,
    initial_state: Tensor,
    reverse: bool,
    recurrent_mask: Tensor | None,
) -> Tensor:
    """The plain loop as one operator, so that an exported graph takes sequences of any length."""
    # no public part of torch yet, and needed by an export alone
    from torch._higher_order_ops.scan import scan

    def step(state: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        next_state = cell(inputs[0], state, recurrent_mask)
        if mask is not None:
            next_state = torch.where(inputs[1][:, None], next_state, state)
        return next_state, next_state.clone()

    sequences = [products] if mask is None else [products, mask]
    inputs = tuple(sequence.transpose(0, 1) for sequence in sequences)
    initial_state = initial_state.clone(memory_format=torch.contiguous_format)  # as every next state is
    _, states = scan(step, initial_state, inputs, dim=0, reverse=reverse)
    return states.transpose(0, 1)


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


Product = Callable[[Tensor], Tensor]


class _Recurrence(Function):
    """
    What the cells share; a subclass gives `run` and `run_back`.

    `apply(products, initial_state, weight, bias)` takes the products with the inputs (time, batch, gates * hidden) and
    returns the states, the initial one before the others, (1 + time, batch, hidden).
    """

    @classmethod
    def run(cls, products: Tensor, states: Tensor, product: Product, keep: bool) -> list[Tensor]:
        """
        Fill `states` from the second on by `product`, hidden (batch, hidden) -> W_h h + b_h; returns what `run_back`
        needs, if it is to be kept.
        """
        raise NotImplementedError

    @classmethod
    def run_back(
        cls, gradient: Tensor, states: Tensor, saved: list[Tensor], product: Product
    ) -> tuple[Tensor, Tensor, Tensor]:
        """
        By `product`, gradient of the gates -> gradient W_h: the gradients of the products with the inputs, of those
        with the state (both (time, batch, gates * hidden)) and of the initial state, from that of the states.
        """
        raise NotImplementedError

    @classmethod
    def forward(cls, ctx: Any, products: Tensor, initial_state: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.dtype = product_dtype(weight)
        with torch.autocast(weight.device.type, enabled=False):
            products = products.to(weight.dtype)
            states = products.new_empty(products.shape[0] + 1, *initial_state.shape)
            states[0] = initial_state
            product = prepare_product(weight, bias, states.shape[1], ctx.dtype)
            saved = cls.run(products, states, product, any(ctx.needs_input_grad))
        ctx.save_for_backward(states, weight, *saved)
        return states

    @classmethod
    @once_differentiable
    def backward(cls, ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        states, weight, *saved = ctx.saved_tensors
        with torch.autocast(weight.device.type, enabled=False):
            product = prepare_product(weight.t(), None, states.shape[1], ctx.dtype)
            of_inputs, of_hidden, of_initial = cls.run_back(gradient, states, saved, product)
            gates = of_hidden.flatten(0, 1)
            of_weight = (gates.to(ctx.dtype).t() @ states[:-1].flatten(0, 1).to(ctx.dtype)).to(weight.dtype)
            return of_inputs, of_initial, of_weight, gates.sum(dim=0)


class _GRURecurrence(_Recurrence):
    @classmethod
    def run(cls, products: Tensor, states: Tensor, product: Product, keep: bool) -> list[Tensor]:
        size = states.shape[-1]
        kept = []
        for step, from_input in enumerate(products):
            state = states[step]
            gates = product(state)  # becomes reset, update, and stays W_hn h + b_hn
            gates[:, : 2 * size].add_(from_input[:, : 2 * size]).sigmoid_()
            reset, update, new_hidden = gates.chunk(3, dim=1)
            new = torch.addcmul(from_input[:, 2 * size :], reset, new_hidden).tanh_()
            torch.lerp(new, state, update, out=states[step + 1])
            if keep:
                kept += [gates, new]
        return kept

    @classmethod
    def run_back(
        cls, gradient: Tensor, states: Tensor, saved: list[Tensor], product: Product
    ) -> tuple[Tensor, Tensor, Tensor]:
        time, batch, size = len(states) - 1, *states.shape[1:]
        of_inputs = states.new_empty(time, batch, 3 * size)
        of_hidden = torch.empty_like(of_inputs)
        of_state = gradient[-1].clone()
        kept, passed = torch.empty_like(of_state), torch.empty_like(of_state)
        for step in reversed(range(time)):
            gates, new = saved[2 * step : 2 * step + 2]
            reset, update, new_hidden = gates.chunk(3, dim=1)
            of_reset, of_update, of_new = of_inputs[step].chunk(3, dim=1)
            torch.sub(states[step], new, out=passed).mul_(of_state)
            sigmoid_backward(passed, update, grad_input=of_update)
            torch.mul(of_state, update, out=kept)
            torch.sub(of_state, kept, out=passed)
            tanh_backward(passed, new, grad_input=of_new)
            torch.mul(of_new, new_hidden, out=passed)
            sigmoid_backward(passed, reset, grad_input=of_reset)
            of_hidden[step, :, : 2 * size] = of_inputs[step, :, : 2 * size]
            torch.mul(of_new, reset, out=of_hidden[step, :, 2 * size :])
            of_state = product(of_hidden[step]).add_(kept).add_(gradient[step])
        return of_inputs, of_hidden, of_state


class _TanhRNNRecurrence(_Recurrence):
    @classmethod
    def run(cls, products: Tensor, states: Tensor, product: Product, keep: bool) -> list[Tensor]:
        for step, from_input in enumerate(products):
            cls.activate_(torch.add(product(states[step]), from_input, out=states[step + 1]))
        return []

    @classmethod
    def run_back(
        cls, gradient: Tensor, states: Tensor, saved: list[Tensor], product: Product
    ) -> tuple[Tensor, Tensor, Tensor]:
        of_products = torch.empty_like(states[1:])
        of_state = gradient[-1]
        for step in reversed(range(len(of_products))):
            cls.activate_backward(of_state, states[step + 1], of_products[step])
            of_state = product(of_products[step]).add_(gradient[step])
        return of_products, of_products, of_state

    @staticmethod
    def activate_(product: Tensor) -> None:
        product.tanh_()

    @staticmethod
    def activate_backward(gradient: Tensor, activation: Tensor, out: Tensor) -> None:
        tanh_backward(gradient, activation, grad_input=out)


class _ReluRNNRecurrence(_TanhRNNRecurrence):
    @staticmethod
    def activate_(product: Tensor) -> None:
        product.relu_()

    @staticmethod
    def activate_backward(gradient: Tensor, activation: Tensor, out: Tensor) -> None:
        torch.mul(gradient, activation > 0, out=out)


_FAST = {GRUCell: _GRURecurrence, TanhRNNCell: _TanhRNNRecurrence, ReluRNNCell: _ReluRNNRecurrence}
_OPERATORS = {GRUCell: torch.gru, TanhRNNCell: torch.rnn_tanh, ReluRNNCell: torch.rnn_relu}


def _has_fast_form(cell: Cell) -> bool:
    if cell.backend != "auto" or is_watched() or type(cell) not in (*_FAST, LSTMCell):
        return False
    norms = (cell.input_norm, cell.hidden_norm, *([cell.cell_norm] if isinstance(cell, LSTMCell) else []))
    if any(type(norm) is not nn.Identity for norm in norms) or is_intercepted(cell):
        return False
    if not is_plain(cell.hidden_to_hidden) or (isinstance(cell, LSTMCell) and not _serves_lstm(cell)):
        return False
    return not _has_operator(cell) or is_plain(cell.input_to_hidden)


def _serves_lstm(cell: LSTMCell) -> bool:
    """Whether torch's operator runs in the precision of the products: in halves oneDNN fails on older processors."""
    weight = cell.hidden_to_hidden.weight
    dtype = product_dtype(weight)
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return True
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype != torch.float16 or torch.ops.mkldnn._is_mkldnn_fp16_supported()


def _has_operator(cell: Cell) -> bool:
    weight = cell.hidden_to_hidden.weight
    # with a small matrix and nothing to differentiate, it is the loop that takes the time
    small = weight.numel() < MIN_WEIGHTS and not torch.is_grad_enabled()
    return isinstance(cell, LSTMCell) or weight.device.type == "cuda" or small


def _operator(cell: Cell, inputs: Tensor, initial_state: Tensor, weight: Tensor) -> Tensor:
    """As `_Recurrence.apply`, from the inputs (time, batch, input) themselves."""
    weights = [cell.input_to_hidden.weight, weight, cell.input_to_hidden.bias, cell.hidden_to_hidden.bias]
    # autocast may hand over halves, and the operator wants one type
    inputs, initial_state = inputs.to(weight.dtype), initial_state.to(weight.dtype)
    states, _ = _run_operator(_OPERATORS[type(cell)], inputs, initial_state[None].contiguous(), weights)
    return torch.cat([initial_state[None], states], dim=0)


def _lstm(
    cell: Cell, inputs: Tensor, padding: Tensor | None, initial_state: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """
    Args:
        inputs: (time, batch, input).
        padding: true behind the real tokens, (time, batch).

    Returns:
        The outputs, the initial one before the others, (1 + time, batch, hidden), and the last c, (batch, hidden).
    """
    input_weight = cell.input_to_hidden.weight
    inputs, initial_state = inputs.to(weight.dtype), initial_state.to(weight.dtype)
    if padding is not None:
        # The operator returns c after the last step alone. So c must pass through the padding: one more input closes
        # the input gate and opens the forget gate there.
        gates = input_weight.new_tensor([-HOLD, HOLD, 0.0, 0.0]).repeat_interleave(cell.hidden_size)
        input_weight = torch.cat([input_weight, gates[:, None]], dim=1)
        inputs = torch.cat([inputs, padding[..., None].to(inputs.dtype)], dim=-1)
    weights = [input_weight, weight, cell.input_to_hidden.bias, cell.hidden_to_hidden.bias]
    hidden, memory = (part[None].contiguous() for part in initial_state.split(cell.hidden_size, dim=-1))
    outputs, _, memory = _run_operator(torch.lstm, inputs, (hidden, memory), weights)
    return torch.cat([hidden, outputs.to(hidden.dtype)], dim=0), memory[0]


def _run_operator(
    operator: Callable[..., Any], inputs: Tensor, state: Tensor | tuple[Tensor, Tensor], weights: list[Tensor]
) -> Any:
    """One layer in one direction, with biases, over (time, batch, input)."""
    training = torch.is_grad_enabled()  # cuDNN keeps what its backward needs in training mode alone
    return operator(inputs, state, weights, True, 1, 0.0, training, False, False)
