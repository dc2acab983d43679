import pytest
import torch

from attention_rnn.models.cells import CELLS
from attention_rnn.models.recurrence import recurrence, recurrence_reference

BATCH, TIME, INPUT, HIDDEN = 4, 6, 5, 3

MASKS = {
    "none": None,
    "full": torch.ones(BATCH, TIME, dtype=torch.bool),
    "right": torch.arange(TIME) < torch.tensor([[6], [4], [1], [3]]),
    "left": torch.arange(TIME) >= torch.tensor([[0], [2], [5], [3]]),
    "holes": torch.tensor([[1, 0, 1, 1, 0, 1], [0, 1, 0, 0, 1, 0], [1, 1, 0, 0, 1, 1], [0, 0, 0, 1, 0, 0]]).bool(),
}


def make_cell(cell_type: str) -> torch.nn.Module:
    torch.manual_seed(1)
    cell = CELLS[cell_type](INPUT, HIDDEN).double()
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return cell


def torch_gru(cell: torch.nn.Module) -> torch.nn.GRU:
    gru = torch.nn.GRU(INPUT, HIDDEN, batch_first=True).double()
    gru.weight_ih_l0.data = cell.input_to_hidden.weight.data
    gru.weight_hh_l0.data = cell.hidden_to_hidden.weight.data
    gru.bias_ih_l0.data = cell.input_to_hidden.bias.data
    gru.bias_hh_l0.data = cell.hidden_to_hidden.bias.data
    return gru


def test_gru_equals_torch_gru_of_the_same_numbers():
    cell = make_cell("gru")
    inputs, state = torch.randn(BATCH, TIME, INPUT).double(), torch.randn(BATCH, HIDDEN).double()
    expected, _ = torch_gru(cell)(inputs, state[None])
    torch.testing.assert_close(recurrence_reference(cell, inputs, None, state), expected)


@pytest.mark.parametrize("reverse", [False, True])
def test_ragged_batch_equals_packed_torch_gru(reverse):
    cell, mask = make_cell("gru"), MASKS["right"]
    inputs, state = torch.randn(BATCH, TIME, INPUT).double(), torch.zeros(BATCH, HIDDEN).double()
    states = recurrence(cell, inputs, mask, state, reverse)
    for row, length in enumerate(mask.sum(1).tolist()):
        sequence = inputs[row : row + 1, :length]
        expected, _ = torch_gru(cell)(sequence.flip(1) if reverse else sequence)
        expected = expected.flip(1) if reverse else expected
        torch.testing.assert_close(states[row : row + 1, :length], expected)


@pytest.mark.parametrize("time", [TIME, 1])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("cell_type", CELLS)
def test_fast_path_equals_the_reference_in_outputs_and_gradients(cell_type, mask, reverse, time):
    cell = make_cell(cell_type)
    mask = None if MASKS[mask] is None else MASKS[mask][:, :time]
    weights = torch.randn(BATCH, time, cell.state_size).double()
    results = []
    for run in (recurrence, recurrence_reference):
        torch.manual_seed(2)
        inputs = torch.randn(BATCH, time, INPUT).double().requires_grad_()
        state = torch.randn(BATCH, cell.state_size).double().requires_grad_()
        states = run(cell, inputs, mask, state, reverse)
        gradients = torch.autograd.grad((states * weights).sum(), [inputs, state, *cell.parameters()])
        results.append((states, *gradients))
    for fast, reference in zip(*results, strict=True):
        torch.testing.assert_close(fast, reference, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("cell_type", CELLS)
def test_gradients_are_those_of_finite_differences(cell_type):
    cell, mask = make_cell(cell_type), MASKS["holes"]

    def run(inputs, state, *parameters):
        return recurrence(cell, inputs, mask, state)  # gradcheck moves the parameters in place

    inputs = torch.randn(BATCH, TIME, INPUT).double().requires_grad_()
    state = torch.randn(BATCH, cell.state_size).double().requires_grad_()
    torch.autograd.gradcheck(run, (inputs, state, *cell.parameters()))


@pytest.mark.parametrize("reverse", [False, True])
def test_padding_keeps_the_state(reverse):
    cell, mask = make_cell("gru"), MASKS["holes"]
    inputs, state = torch.randn(BATCH, TIME, INPUT).double(), torch.randn(BATCH, HIDDEN).double()
    states = recurrence(cell, inputs, mask, state, reverse)
    order = range(TIME - 1, -1, -1) if reverse else range(TIME)
    previous = state
    for step in order:
        torch.testing.assert_close(states[~mask[:, step], step], previous[~mask[:, step]])
        previous = states[:, step]


def test_a_wrapped_matrix_is_called_rather_than_read():
    class Doubled(torch.nn.Linear):
        def forward(self, inputs):
            return 2 * super().forward(inputs)

    cell = make_cell("gru")
    inputs, state = torch.randn(BATCH, TIME, INPUT).double(), torch.zeros(BATCH, HIDDEN).double()
    plain = recurrence(cell, inputs, None, state)
    cell.input_to_hidden.__class__ = Doubled
    wrapped = recurrence(cell, inputs, None, state)
    assert not torch.allclose(plain, wrapped)
    torch.testing.assert_close(wrapped, recurrence_reference(cell, inputs, None, state))
