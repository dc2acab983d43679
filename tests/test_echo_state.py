"""The echo state cell, and the ridge regression of what reads it."""

import numpy as np
import pytest
import torch
from tiny_series import tiny_config, tiny_inputs, tiny_model

from attention_rnn import (
    AttentionRnnForTimeSeriesClassification,
    AttentionRnnForTimeSeriesPrediction,
    AttentionRnnTimeSeriesConfig,
    fit_readout,
)
from attention_rnn.models.cells import EchoStateCell
from attention_rnn.models.recurrence import recurrence_reference


def echo_config(**overrides):
    return tiny_config(
        **{
            "cell_type": "echo_state",
            "hidden_size": 50,
            "patch_length": 1,
            "scaling": None,
            "decoding": "autoregressive",
            "share_layers": True,
            "attention_type": None,
            "copy": False,
            "distribution_output": "point",
            **overrides,
        }
    )


def echo_model(seed=0, **overrides):
    torch.manual_seed(seed)
    return AttentionRnnForTimeSeriesPrediction(echo_config(**overrides)).double()


def sine(length, period=17.3):
    return torch.sin(torch.arange(length, dtype=torch.float64) * 2 * np.pi / period)[None]


@pytest.fixture(scope="module")
def fitted():
    model = echo_model(prediction_length=300)
    fit_readout(model, [{"past_values": sine(400)[:, :100], "future_values": sine(400)[:, 100:]}], 1e-8)
    return model


def test_the_reservoir_is_as_the_config_says():
    torch.manual_seed(0)
    config = echo_config(hidden_size=200, spectral_radius=0.7, connectivity=0.2, input_scaling=0.4)
    model = AttentionRnnForTimeSeriesPrediction(config)
    cell = model.model.encoder[0].cells[0]
    matrix = cell.hidden_to_hidden.weight
    assert torch.linalg.eigvals(matrix).abs().max().item() == pytest.approx(0.7, abs=1e-3)
    assert (matrix != 0).float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert cell.input_to_hidden.weight.abs().max().item() == pytest.approx(0.4, abs=1e-3)
    assert (cell.hidden_to_hidden.bias == 0).all()


def test_the_reservoir_is_frozen_and_stays_so(tmp_path):
    model = echo_model().float()
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if ".cells." in name}
    model.save_pretrained(tmp_path)
    again = AttentionRnnForTimeSeriesPrediction.from_pretrained(tmp_path)
    assert {name for name, parameter in again.named_parameters() if not parameter.requires_grad} == frozen
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)
    assert again.model.decoder.layers[0].cell is again.model.encoder[0].cells[0]


def test_the_states_are_those_of_reservoirpy():
    nodes = pytest.importorskip("reservoirpy.nodes")
    torch.manual_seed(0)
    config = echo_config(hidden_size=30)
    cell = EchoStateCell(config, input_size=4).double()
    cell.initialize(config)
    inputs = torch.randn(1, 25, 4, dtype=torch.float64)
    reservoir = nodes.Reservoir(
        units=30,
        lr=config.leak,
        W=cell.hidden_to_hidden.weight.numpy(),
        Win=cell.input_to_hidden.weight.numpy(),
        bias=cell.input_to_hidden.bias.numpy(),
    )
    expected = torch.tensor(reservoir.run(inputs[0].numpy()))
    found = recurrence_reference(cell, inputs, None, inputs.new_zeros(1, 30))[0]
    torch.testing.assert_close(found, expected)


def test_the_readout_is_the_ridge_regression_of_reservoirpy(fitted):
    nodes = pytest.importorskip("reservoirpy.nodes")
    body, values = fitted.model, sine(400)
    with torch.no_grad():
        series = body.read(values[:, :100], *[None] * 5)
        known = body.known(None, series, 300)
        vectors, _ = body.decode(series, known, body.future(values[:, 100:], None, series))
        ridge = nodes.Ridge(ridge=1e-8).fit(vectors[0].numpy(), values[0, 100:, None].numpy())
        expected = torch.tensor(ridge.run(vectors[0].numpy()))
        torch.testing.assert_close(fitted.readout.projection(vectors[0]), expected, atol=1e-5, rtol=0)


def test_a_fitted_network_runs_freely(fitted):
    values = sine(500)
    path = fitted.generate(values[:, :120], prediction_length=100).sequences[:, 0]
    torch.testing.assert_close(path, values[:, 120:220], atol=0.02, rtol=0)


def test_a_free_run_stays_about_where_the_past_has_been():
    model = echo_model(prediction_length=5)
    with torch.no_grad():
        model.readout.projection.weight.mul_(100)  # a readout that would diverge
    values = tiny_inputs(model.config)["past_values"].double()
    path = model.generate(values, prediction_length=200).sequences[:, 0]
    margin = 0.1 * (values.amax(1) - values.amin(1)) + 1e-9
    assert (path.amin(1) >= values.amin(1) - margin).all()
    assert (path.amax(1) <= values.amax(1) + margin).all()
    assert (path.amax(1) > values.amax(1)).any()


def test_examples_may_come_in_any_batches():
    whole, parts = echo_model(prediction_length=50), echo_model(prediction_length=50)
    past, future = torch.randn(6, 30).double(), torch.randn(6, 50).double()
    future[2, 7] = torch.nan
    fit_readout(whole, [{"past_values": past, "future_values": future}])
    fit_readout(parts, ({"past_values": past[i : i + 1], "future_values": future[i : i + 1]} for i in range(6)))
    torch.testing.assert_close(parts.readout.projection.weight, whole.readout.projection.weight, rtol=1e-3, atol=1e-6)


def test_any_linear_readout_can_be_solved_for():
    """Of a trained kind of cell too; no other weights of the readout's shape have a smaller squared error."""
    model = tiny_model(distribution_output="point", loss="mse", copy=False, prediction_length=8)
    inputs, future = tiny_inputs(model.config), torch.randn(3, 8)
    fit_readout(model, [{**inputs, "future_values": future}], regularization=1e-4)
    best = model(**inputs, future_values=future).loss
    with torch.no_grad():
        for parameter in model.readout.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    assert model(**inputs, future_values=future).loss > best


def test_classes_are_solved_for():
    torch.manual_seed(0)
    model = AttentionRnnForTimeSeriesClassification(echo_config(num_labels=2, scaling="std", patch_length=4))
    slopes = torch.tensor([1.0, -1.0]).repeat(16)
    values = slopes[:, None] * torch.linspace(-1, 1, 20) + 0.3 * torch.randn(32, 20)
    fit_readout(model, [{"past_values": values, "labels": (slopes > 0).long()}])
    assert (model(values).logits.argmax(dim=1) == (slopes > 0)).all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"distribution_output": "normal"}, '`model` must have `distribution_output="point"`'),
        ({"highway_length": 8, "decoding": "parallel"}, "`highway_length=None`"),
        ({"prediction_length": 10, "patch_length": 4}, "`prediction_length` must be a multiple of `patch_length`"),
    ],
)
def test_what_has_no_linear_readout_is_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        fit_readout(echo_model(**overrides), [])


def test_no_example_is_refused():
    with pytest.raises(ValueError, match="`batches` must hold an example"):
        fit_readout(echo_model(), [])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"leak": 0.0}, "`leak` and `connectivity` must be more than 0"),
        ({"connectivity": 1.5}, "`leak` and `connectivity` must be more than 0 and at most 1"),
        ({"share_layers": True, "bidirectional": True}, "`share_layers` needs a unidirectional encoder"),
    ],
)
def test_a_wrong_config_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        AttentionRnnTimeSeriesConfig(**fields)
