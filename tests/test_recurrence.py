import pytest
import torch
from tiny import tiny_config

from attention_rnn.models import recurrence as recurrence_module
from attention_rnn.models.cells import CELLS
from attention_rnn.models.prepared_linear import MIN_WEIGHTS
from attention_rnn.models.recurrence import recurrence, recurrence_reference

BATCH, TIME, INPUT, HIDDEN = 4, 6, 5, 3
# tests/test_echo_state.py has the cell whose weights stay as they are drawn
TRAINED = [cell_type for cell_type in CELLS if cell_type != "echo_state"]

MASKS = {
    "none": None,
    "full": torch.ones(BATCH, TIME, dtype=torch.bool),
    "right": torch.arange(TIME) < torch.tensor([[6], [4], [1], [3]]),
    "left": torch.arange(TIME) >= torch.tensor([[0], [2], [5], [3]]),
    "holes": torch.tensor([[1, 0, 1, 1, 0, 1], [0, 1, 0, 0, 1, 0], [1, 1, 0, 0, 1, 1], [0, 0, 0, 1, 0, 0]]).bool(),
}


def make_cell(cell_type: str, **overrides) -> torch.nn.Module:
    torch.manual_seed(1)
    config = tiny_config(cell_type=cell_type, hidden_size=HIDDEN, num_attention_heads=1, **overrides)
    cell = CELLS[cell_type](config, INPUT).double()
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return cell


def torch_twin(cell_type: str, cell: torch.nn.Module) -> torch.nn.Module:
    """torch's own module with the numbers of `cell`."""
    if cell_type.startswith("rnn"):
        twin = torch.nn.RNN(INPUT, HIDDEN, nonlinearity=cell_type.removeprefix("rnn_"), batch_first=True)
    else:
        twin = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell_type](INPUT, HIDDEN, batch_first=True)
    twin.double()
    twin.weight_ih_l0.data = cell.input_to_hidden.weight.data
    twin.weight_hh_l0.data = cell.hidden_to_hidden.weight.data
    twin.bias_ih_l0.data = cell.input_to_hidden.bias.data
    twin.bias_hh_l0.data = cell.hidden_to_hidden.bias.data
    return twin


def by_reference(cell, inputs, mask, state, reverse=False, recurrent_mask=None):
    """What `recurrence` returns, from the plain loop."""
    states = recurrence_reference(cell, inputs, mask, state, reverse, recurrent_mask)
    return states[..., :HIDDEN], states[:, 0 if reverse else -1]


@pytest.mark.parametrize("cell_type", TRAINED)
def test_a_cell_equals_torch_s_of_the_same_numbers(cell_type):
    cell = make_cell(cell_type)
    inputs, state = torch.randn(BATCH, TIME, INPUT).double(), torch.randn(BATCH, cell.state_size).double()
    initial = tuple(part[None].contiguous() for part in state.split(HIDDEN, dim=1))
    expected, final = torch_twin(cell_type, cell)(inputs, initial if cell_type == "lstm" else initial[0])
    states = recurrence_reference(cell, inputs, None, state)
    torch.testing.assert_close(states[..., :HIDDEN], expected)
    final = torch.cat(final, dim=-1) if cell_type == "lstm" else final
    torch.testing.assert_close(states[:, -1], final[0])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell_type", TRAINED)
def test_a_ragged_batch_equals_torch_on_each_sequence_alone(cell_type, reverse):
    cell, mask = make_cell(cell_type), MASKS["right"]
    inputs, state = torch.randn(BATCH, TIME, INPUT).double(), torch.zeros(BATCH, cell.state_size).double()
    outputs, _ = recurrence(cell, inputs, mask, state, reverse)
    for row, length in enumerate(mask.sum(1).tolist()):
        sequence = inputs[row : row + 1, :length]
        expected, _ = torch_twin(cell_type, cell)(sequence.flip(1) if reverse else sequence)
        expected = expected.flip(1) if reverse else expected
        torch.testing.assert_close(outputs[row : row + 1, :length], expected)


@pytest.mark.parametrize("time", [TIME, 1])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("cell_type", TRAINED)
def test_fast_path_equals_the_reference_in_outputs_and_gradients(cell_type, dropped, mask, reverse, time):
    cell = make_cell(cell_type)
    recurrent_mask = torch.bernoulli(torch.full_like(cell.hidden_to_hidden.weight, 0.5)) * 2 if dropped else None
    mask = None if MASKS[mask] is None else MASKS[mask][:, :time]
    weights = torch.randn(BATCH, time, HIDDEN).double(), torch.randn(BATCH, cell.state_size).double()
    results = []
    for run in (recurrence, by_reference):
        torch.manual_seed(2)
        inputs = torch.randn(BATCH, time, INPUT).double().requires_grad_()
        state = torch.randn(BATCH, cell.state_size).double().requires_grad_()
        outputs, final_state = run(cell, inputs, mask, state, reverse, recurrent_mask)
        total = (outputs * weights[0]).sum() + (final_state * weights[1]).sum()
        gradients = torch.autograd.grad(total, [inputs, state, *cell.parameters()])
        results.append((outputs, final_state, *gradients))
    for fast, reference in zip(*results, strict=True):
        torch.testing.assert_close(fast, reference, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("cell_type", TRAINED)
def test_gradients_are_those_of_finite_differences(cell_type):
    cell, mask = make_cell(cell_type), MASKS["holes"]

    def run(inputs, state, *parameters):
        return recurrence(cell, inputs, mask, state)  # gradcheck moves the parameters in place

    inputs = torch.randn(BATCH, TIME, INPUT).double().requires_grad_()
    state = torch.randn(BATCH, cell.state_size).double().requires_grad_()
    torch.autograd.gradcheck(run, (inputs, state, *cell.parameters()))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell_type", TRAINED)
def test_padding_keeps_the_state(cell_type, reverse):
    cell, mask = make_cell(cell_type), MASKS["holes"]
    inputs, state = torch.randn(BATCH, TIME, INPUT).double(), torch.randn(BATCH, cell.state_size).double()
    states = recurrence_reference(cell, inputs, mask, state, reverse)
    order = range(TIME - 1, -1, -1) if reverse else range(TIME)
    previous = state
    for step in order:
        torch.testing.assert_close(states[~mask[:, step], step], previous[~mask[:, step]])
        previous = states[:, step]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("cell_type", TRAINED)
def test_the_form_for_the_gpu_equals_the_reference(cell_type, mask, monkeypatch):
    monkeypatch.setattr(recurrence_module, "_has_operator", lambda cell: True)
    cell = make_cell(cell_type)
    inputs, state = torch.randn(BATCH, TIME, INPUT).double(), torch.randn(BATCH, cell.state_size).double()
    for reverse in (False, True):
        arguments = (cell, inputs, MASKS[mask], state, reverse)
        torch.testing.assert_close(recurrence(*arguments), by_reference(*arguments))


@pytest.mark.parametrize("mask", ["none", "holes"])
@pytest.mark.parametrize("cell_type", TRAINED)
def test_single_precision_through_onednn_equals_the_reference(cell_type, mask):
    torch.manual_seed(0)
    cell = CELLS[cell_type](tiny_config(cell_type=cell_type, hidden_size=256), INPUT)
    assert cell.hidden_to_hidden.weight.numel() >= MIN_WEIGHTS  # else oneDNN would not be asked
    results = []
    for run in (recurrence, recurrence_reference):
        inputs = torch.randn(BATCH, TIME, INPUT, generator=torch.Generator().manual_seed(3), requires_grad=True)
        output = run(cell, inputs, MASKS[mask], torch.zeros(BATCH, cell.state_size))
        outputs = output[0] if run is recurrence else output[..., :256]
        results.append((outputs, *torch.autograd.grad(outputs.square().sum(), [inputs, *cell.parameters()])))
    for fast, reference in zip(*results, strict=True):
        torch.testing.assert_close(fast, reference, rtol=1e-4, atol=1e-5)


def test_the_reference_can_be_asked_for(monkeypatch):
    inputs, state = torch.randn(BATCH, TIME, INPUT).double(), torch.zeros(BATCH, HIDDEN).double()
    expected = recurrence(make_cell("gru"), inputs, None, state)
    monkeypatch.setattr(recurrence_module, "_FAST", {})
    outputs, final_state = recurrence(make_cell("gru", recurrence_backend="reference"), inputs, None, state)
    torch.testing.assert_close((outputs, final_state), expected)


@pytest.mark.parametrize("cell_type", TRAINED)
def test_autocast_products_are_half_and_states_are_not(cell_type):
    cell = make_cell(cell_type).float()
    inputs, state = torch.randn(BATCH, TIME, INPUT), torch.randn(BATCH, cell.state_size)
    expected, _ = by_reference(cell, inputs, MASKS["holes"], state)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, final_state = recurrence(cell, inputs, MASKS["holes"], state)
    (outputs.sum() + final_state.sum()).backward()
    assert outputs.dtype == final_state.dtype == torch.float32
    assert not torch.equal(outputs, expected)
    torch.testing.assert_close(outputs, expected, atol=0.1, rtol=0.1)
    assert all(parameter.grad.dtype == torch.float32 for parameter in cell.parameters())


@pytest.mark.parametrize("cell_type", ["gru", "rnn_tanh", "rnn_relu"])
def test_a_second_derivative_is_refused(cell_type):
    cell = make_cell(cell_type)
    inputs = torch.randn(BATCH, TIME, INPUT).double().requires_grad_()
    outputs, _ = recurrence(cell, inputs, None, torch.zeros(BATCH, cell.state_size).double())
    (gradient,) = torch.autograd.grad(outputs.square().sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_the_second_derivative_of_an_lstm_is_right():
    cell = make_cell("lstm")
    inputs = torch.randn(BATCH, TIME, INPUT).double().requires_grad_()
    state = torch.zeros(BATCH, cell.state_size).double()
    torch.autograd.gradgradcheck(lambda inputs: recurrence(cell, inputs, None, state), inputs)


def test_a_wrapped_matrix_is_called_rather_than_read():
    class Doubled(torch.nn.Linear):
        def forward(self, inputs):
            return 2 * super().forward(inputs)

    cell = make_cell("gru")
    inputs, state = torch.randn(BATCH, TIME, INPUT).double(), torch.zeros(BATCH, HIDDEN).double()
    plain = recurrence(cell, inputs, None, state)
    cell.input_to_hidden.__class__ = Doubled
    wrapped = recurrence(cell, inputs, None, state)
    assert not torch.allclose(plain[0], wrapped[0])
    torch.testing.assert_close(wrapped, by_reference(cell, inputs, None, state))


@pytest.mark.parametrize("cell_type", TRAINED)
def test_layer_norm_normalises_the_products(cell_type):
    cell = make_cell(cell_type, cell_layer_norm=True)
    inputs, state = torch.randn(BATCH, TIME, INPUT).double(), torch.randn(BATCH, cell.state_size).double()
    expected = recurrence(cell, inputs, None, state)
    with torch.no_grad():
        cell.input_to_hidden.weight *= 10
        cell.input_to_hidden.bias *= 10
        cell.hidden_to_hidden.weight *= 10
        cell.hidden_to_hidden.bias *= 10
    torch.testing.assert_close(recurrence(cell, inputs, None, state), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ["orthogonal", "xavier", "uniform"])
@pytest.mark.parametrize("cell_type", TRAINED)
def test_initial_values_are_those_asked_for(cell_type, kind):
    config = tiny_config(hidden_size=40, recurrent_initialization=kind, forget_gate_bias=1.5)
    cell = CELLS[cell_type](config, INPUT)
    with torch.no_grad():
        cell.initialize(config)
    bias = cell.hidden_to_hidden.bias.clone()
    if cell_type == "lstm":
        bias[40:80] -= 1.5
    for gate in cell.hidden_to_hidden.weight.chunk(cell.gates):
        if kind == "orthogonal":
            torch.testing.assert_close(gate @ gate.T, torch.eye(40), atol=1e-5, rtol=0)
        else:
            bound = 40**-0.5 if kind == "uniform" else (6 / 80) ** 0.5
            assert 0.95 * bound < gate.abs().max() <= bound
    assert (bias.abs().max() <= 40**-0.5) if kind == "uniform" else (bias == 0).all()
