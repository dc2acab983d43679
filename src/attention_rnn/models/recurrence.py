"""
A whole padded sequence through a cell, forwards or backwards.

At a padded position the state stays what it was: padding on either side, or holes, change nothing for the real tokens,
and the last state of a sequence is its final state. `recurrence_reference` says so directly; `recurrence` gives the
same numbers as fast as it can.
"""

import torch
from torch import Tensor, nn

from .cells import Cell, GRUCell, ReluRNNCell, TanhRNNCell


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
    if inputs.shape[1] == 1 or not _has_fused_form(cell):
        return recurrence_reference(cell, inputs, mask, initial_state, reverse, recurrent_mask)
    if mask is None:
        states = _fused(cell, inputs.flip(1) if reverse else inputs, initial_state, recurrent_mask)
        return states.flip(1) if reverse else states

    # Real tokens move to the front, in reading order, so that the fused form needs no mask.
    gather_index, scatter_index = _alignment(mask, reverse)
    aligned = inputs.gather(1, gather_index[..., None].expand_as(inputs))
    states = _fused(cell, aligned, initial_state, recurrent_mask)
    states = torch.cat([initial_state[:, None].to(states.dtype), states], dim=1)  # (batch, 1 + time, state)
    return states.gather(1, scatter_index[..., None].expand(-1, -1, states.shape[-1]))


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
        `gather_index` (batch, time): the position of the n-th real token in reading order, then zeros.
        `scatter_index` (batch, time): how many real tokens have been read up to and including each position.
    """
    count = mask.long()
    count = count.flip(1).cumsum(1).flip(1) if reverse else count.cumsum(1)
    positions = torch.arange(mask.shape[1], device=mask.device).expand_as(count)
    # a padded position writes to slot 0, which is then dropped
    slots = torch.zeros(mask.shape[0], mask.shape[1] + 1, dtype=torch.long, device=mask.device)
    return slots.scatter(1, count * mask, positions)[:, 1:], count


_FUSED = {GRUCell: torch.gru, TanhRNNCell: torch.rnn_tanh, ReluRNNCell: torch.rnn_relu}


def _has_fused_form(cell: Cell) -> bool:
    # A quantised or LoRA-wrapped matrix is no plain nn.Linear any more: its product is its own affair.
    plain = type(cell.input_to_hidden) is nn.Linear and type(cell.hidden_to_hidden) is nn.Linear
    return type(cell) in _FUSED and plain and isinstance(cell.input_norm, nn.Identity)


def _fused(cell: Cell, inputs: Tensor, initial_state: Tensor, recurrent_mask: Tensor | None) -> Tensor:
    recurrent_weight = cell.hidden_to_hidden.weight
    if recurrent_mask is not None:
        recurrent_weight = recurrent_weight * recurrent_mask
    weights = [cell.input_to_hidden.weight, recurrent_weight, cell.input_to_hidden.bias, cell.hidden_to_hidden.bias]
    # autocast may hand over halves, and the fused operator wants one type
    inputs, initial_state = inputs.to(weights[0].dtype), initial_state.to(weights[0].dtype)
    run = _FUSED[type(cell)]
    states, _ = run(inputs, initial_state[None].contiguous(), weights, True, 1, 0.0, False, False, True)
    return states
