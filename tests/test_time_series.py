"""Forecasting: what always holds, for every decoding, distribution, scaling and way to read channels."""

import inspect

import pytest
import torch
from tiny_series import BATCH, HORIZON, PATCH, TIME, VARIANTS, tiny_config, tiny_future, tiny_inputs, tiny_model
from transformers import AutoConfig, AutoModel, AutoModelForTimeSeriesPrediction

from attention_rnn import (
    AttentionRnnForTimeSeriesPrediction,
    AttentionRnnTimeSeriesConfig,
    AttentionRnnTimeSeriesModel,
)
from attention_rnn.models.dropout import NO_NOISE

NAN = torch.nan
every_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


def forecast(model, **inputs):
    with torch.no_grad():
        return model(**inputs).full_predictions


def past(name):
    return name.startswith("past")


@every_variant
def test_the_shapes_of_a_forecast(variant):
    model = tiny_model(**variant)
    config = model.config
    outputs = model(**tiny_inputs(config), future_values=tiny_future(config), output_attentions=True)
    channels = (config.num_channels,) if config.num_channels > 1 else ()
    levels = 0 if config.distribution_output == "point" else 9
    assert outputs.loss.shape == ()
    assert outputs.mean_predictions.shape == (BATCH, HORIZON, *channels)
    assert outputs.full_predictions.shape == (BATCH, HORIZON, *channels, 1 + levels)
    assert torch.equal(outputs.full_predictions[..., 0], outputs.mean_predictions)
    assert all(param.shape == outputs.mean_predictions.shape for param in outputs.params)
    assert outputs.loc.shape == outputs.scale.shape == (BATCH, 1, *channels)
    if config.attention_type is not None:
        (weights,) = outputs.cross_attentions
        apart = () if config.channel_mixing or not channels else channels
        heads = 2 if config.attention_type == "multi_head" else 1
        patches = [-(-length // config.patch_length) for length in (HORIZON, TIME)]
        assert weights.shape == (BATCH, *apart, heads, *patches)
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


@every_variant
def test_padding_on_the_left_changes_nothing(variant):
    model = tiny_model(**variant)
    inputs = tiny_inputs(model.config)
    padded = {
        name: torch.cat([torch.full_like(values[:, :1], NAN).expand(-1, 9, *values.shape[2:]), values], dim=1)
        if past(name)
        else values
        for name, values in inputs.items()
    }
    torch.testing.assert_close(forecast(model, **padded), forecast(model, **inputs))


@every_variant
def test_what_stands_under_a_mask_changes_nothing(variant):
    model = tiny_model(**variant)
    inputs = tiny_inputs(model.config)
    observed = torch.rand(inputs["past_values"].shape, generator=torch.Generator().manual_seed(3)) > 0.3
    values = inputs.pop("past_values")
    expected = forecast(model, past_values=values.where(observed, NAN), **inputs)
    assert expected.isfinite().all()
    for fill in (0.0, -7e5, torch.inf):
        filled = values.where(observed, fill)
        torch.testing.assert_close(
            forecast(model, past_values=filled, past_observed_mask=observed.long(), **inputs), expected
        )


@every_variant
def test_the_others_of_a_batch_change_nothing(variant):
    model = tiny_model(**variant)
    inputs = tiny_inputs(model.config)
    inputs["past_values"][1, :17] = NAN
    inputs["past_values"][2] *= 1e6
    together = forecast(model, **inputs)
    for row in range(BATCH):
        alone = forecast(model, **{name: values[row : row + 1] for name, values in inputs.items()})
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5 * float(alone.abs().max()), rtol=1e-5)


@pytest.mark.parametrize("decoding", ["parallel", "recurrent", "autoregressive"])
@pytest.mark.parametrize(
    ("scaling", "factor", "shift"),
    [("std", 3.0, 40.0), ("last_std", 3.0, 40.0), ("last", 1.0, 40.0), ("mean", 3.0, 0.0)],
)
def test_a_forecast_follows_the_units_of_its_series(scaling, factor, shift, decoding):
    model = tiny_model(scaling=scaling, decoding=decoding)
    values = tiny_inputs(model.config)["past_values"].double()
    expected = factor * forecast(model, past_values=values) + shift
    torch.testing.assert_close(forecast(model, past_values=factor * values + shift), expected, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, 7.5, -1e9])
@pytest.mark.parametrize("scaling", ["std", "last_std"])
def test_a_constant_series_has_a_constant_forecast(scaling, value):
    model = tiny_model(scaling=scaling)
    values = tiny_inputs(model.config)["past_values"]
    constant = forecast(model, past_values=torch.full_like(values, value))
    torch.testing.assert_close(constant, torch.full_like(constant, value), rtol=1e-4, atol=1e-4)
    # and one that is nearly so has one that is nearly so
    for spread in (1e-4, 1e-5, 1e-6, 1e-7):
        found = forecast(model, past_values=value + abs(value) * spread * values)
        assert (found - value).abs().max() <= 200 * spread * abs(value) + 1e-4 * abs(value) + 1e-4


@pytest.mark.parametrize("distribution", ["normal", "student_t"])
def test_what_comes_after_a_constant_past_spoils_no_density(distribution):
    model = tiny_model(distribution_output=distribution).train()
    inputs, future = tiny_inputs(model.config), tiny_future(model.config)
    expected = model(**inputs, future_values=future.where(torch.arange(BATCH)[:, None] > 0, NAN)).loss
    inputs["past_values"][0] = 7.5
    torch.testing.assert_close(model(**inputs, future_values=future).loss, expected)


@every_variant
def test_quantiles_never_cross(variant):
    model = tiny_model(**variant)
    inputs = tiny_inputs(model.config)
    inputs["past_values"] *= 100
    assert (forecast(model, **inputs)[..., 1:].diff(dim=-1) >= 0).all()


@every_variant
def test_a_forecast_does_not_know_the_future(variant):
    model = tiny_model(**variant)
    inputs, future = tiny_inputs(model.config), tiny_future(model.config)
    expected = forecast(model, **inputs, future_values=future)
    torch.testing.assert_close(forecast(model, **inputs), expected)
    for time in range(HORIZON):
        changed = future.clone()
        changed[:, time] += 1000
        assert torch.equal(forecast(model, **inputs, future_values=changed), expected)


@pytest.mark.parametrize("patch_length", [1, PATCH])
def test_in_training_a_patch_knows_the_true_values_before_it_and_no_others(patch_length):
    model = tiny_model(decoding="autoregressive", patch_length=patch_length).train()
    inputs, future = tiny_inputs(model.config), tiny_future(model.config)
    expected = model(**inputs, future_values=future).mean_predictions
    for time in range(HORIZON):
        changed = future.clone()
        changed[:, time] += 10
        differs = (model(**inputs, future_values=changed).mean_predictions != expected).any(dim=0)
        later = time - time % patch_length + patch_length  # where the next patch begins
        assert not differs[:later].any()
        assert differs[later : later + 1].all()


def test_features_that_are_known_ahead_are_seen_where_they_belong():
    model = tiny_model(num_time_features=2)
    inputs = tiny_inputs(model.config)
    expected = forecast(model, **inputs)
    for time in range(HORIZON):
        changed = inputs["future_time_features"].clone()
        changed[:, time] += 1
        differs = (forecast(model, **{**inputs, "future_time_features": changed}) != expected).flatten(2).any(-1).any(0)
        patch = time // PATCH * PATCH
        assert differs[patch : patch + PATCH].any()
        assert not differs[:patch].any()
        assert not differs[patch + PATCH :].any()


@pytest.mark.parametrize("feature", ["past_time_features", "past_only_features", "static_real_features"])
def test_features_of_the_past_are_seen_and_missing_ones_are_zero(feature):
    model = tiny_model(**VARIANTS["features"])
    inputs = tiny_inputs(model.config)
    inputs[feature][0] = 0
    expected = forecast(model, **inputs)
    inputs[feature][0] = NAN
    assert torch.equal(forecast(model, **inputs), expected)
    inputs[feature][0] = 1
    differs = (forecast(model, **inputs) != expected).flatten(1).any(dim=1)
    assert differs.tolist() == [True, False, False]


def hard_series(kind):
    values = torch.randn(BATCH, TIME, generator=torch.Generator().manual_seed(4))
    return {
        "gaps": values.where(values < 1, NAN),
        "constant": torch.full_like(values, 7.5),
        "zero": torch.zeros_like(values),
        "nearly constant": 1e6 + 1e-3 * values,
        "huge": 1e9 * (3 + values),
        "tiny": 1e-12 * values,
        "three values": values[:, :3],
        "one value": values[:, :1],
        "one observed value": values.where(torch.arange(TIME) == 6, NAN),
        "one outlier": values + 1e9 * (torch.arange(TIME) == 6),
    }[kind].abs()


@pytest.mark.parametrize("variant", ["parallel", "last", "last_std", "mean", "recurrent", "autoregressive"])
@pytest.mark.parametrize(
    "kind",
    [
        "gaps",
        "constant",
        "zero",
        "nearly constant",
        "huge",
        "tiny",
        "three values",
        "one value",
        "one observed value",
        "one outlier",
    ],
)
def test_forecasts_and_gradients_are_finite(variant, kind):
    model = tiny_model(**VARIANTS[variant]).train()
    values = hard_series(kind).round() if variant == "mean" else hard_series(kind)
    future = values[:, :1].nan_to_num(nan=1.0).expand(-1, HORIZON).clone()
    future[0, 3:5] = future[1] = NAN
    outputs = model(past_values=values, future_values=future)
    outputs.loss.backward()
    assert outputs.loss.isfinite()
    assert outputs.mean_predictions.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@every_variant
def test_missing_future_values_do_not_count(variant):
    model = tiny_model(**variant).train()
    inputs, future = tiny_inputs(model.config), tiny_future(model.config)
    mask = torch.ones_like(future)
    mask[:, -3:] = mask[1] = 0
    loss = model(**inputs, future_values=future.masked_fill(mask == 0, NAN)).loss
    with_mask = model(**inputs, future_values=future.masked_fill(mask == 0, 1e4), future_observed_mask=mask).loss
    assert torch.equal(loss, with_mask)
    assert model(**inputs, future_values=torch.full_like(future, NAN)).loss == 0


def test_a_channel_that_is_never_observed_has_no_forecast_and_spoils_none():
    model = tiny_model(num_channels=2)
    values = tiny_inputs(model.config)["past_values"]
    expected = forecast(model, past_values=values)
    values[1, :, 0] = NAN
    found = forecast(model, past_values=values)
    assert found[1, :, 0].isnan().all()
    found[1, :, 0] = expected[1, :, 0]
    torch.testing.assert_close(found, expected)
    model.train()
    loss = model(past_values=values, future_values=tiny_future(model.config)).loss
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@every_variant
def test_every_parameter_has_a_gradient(variant):
    model = tiny_model(**variant).train()
    model(**tiny_inputs(model.config), future_values=tiny_future(model.config)).loss.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_the_copy_is_the_weighted_mean_of_what_is_observed_at_the_same_place():
    model = tiny_model(distribution_output="point", scaling=None, patch_length=2, prediction_length=2)
    with torch.no_grad():
        model.readout.gate.weight.zero_()
        model.readout.gate.bias.fill_(50)  # nothing but the copy
        model.readout.projection.weight.zero_()
        model.readout.projection.bias.zero_()
    values = torch.tensor([[1.0, 2.0, 4.0, NAN, 16.0, 32.0]])
    outputs = model(past_values=values, output_attentions=True)
    a, b, c = outputs.cross_attentions[0][0, 0, 0].tolist()
    expected = torch.tensor([[a * 1 + b * 4 + c * 16, (a * 2 + c * 32) / (a + c)]])
    torch.testing.assert_close(outputs.mean_predictions, expected)


@pytest.mark.parametrize("mixing", [True, False])
@pytest.mark.parametrize("time", [3, 5, 9])
def test_the_highway_is_a_linear_map_of_the_last_values(time, mixing):
    """Missing ones, and those before the series, are zero."""
    kinds = {"distribution_output": "point", "scaling": None, "num_channels": 2, "channel_mixing": mixing}
    model = tiny_model(highway_length=5, patch_length=2, prediction_length=3, **kinds)
    with torch.no_grad():
        for parameter in [*model.readout.projection.parameters(), *model.readout.gate.parameters()]:
            parameter.zero_()
        model.readout.gate.bias.fill_(-50)  # nothing but the highway
    values = torch.randn(1, time, 2, generator=torch.Generator().manual_seed(0))
    values[0, -2, 1] = NAN
    last = torch.cat([torch.zeros(1, 5, 2), values.nan_to_num(nan=0.0)], dim=1)[:, -5:]
    expected = torch.einsum("ht,btc->bhc", model.readout.highway.weight[:3], last)
    torch.testing.assert_close(model(past_values=values).mean_predictions, expected)


def test_a_readout_starts_as_small_as_the_layers_of_torch():
    config = AttentionRnnTimeSeriesConfig(hidden_size=16)
    readout = AttentionRnnForTimeSeriesPrediction(config).readout
    assert 0.24 < readout.projection.weight.abs().max() <= 16**-0.5
    assert (readout.gate.bias == -1).all()


def test_a_highway_that_was_solved_for_is_what_the_model_says_at_first():
    weights = torch.randn(5, 3)
    weights[-1] += 1 - weights.sum(dim=0)
    model = tiny_model(highway_length=5, freeze_highway=True, copy=False, prediction_length=3)
    model.readout.set_highway(weights)
    for parameter in model.readout.projection.parameters():
        parameter.data.zero_()
    values = 7 + 3 * torch.randn(2, 11)
    outputs = model(past_values=values)
    torch.testing.assert_close(outputs.mean_predictions, values[:, -5:] @ weights, rtol=1e-4, atol=1e-4)


def test_a_frozen_highway_is_not_trained_and_the_rest_starts_small(tmp_path):
    torch.manual_seed(0)
    model = AttentionRnnForTimeSeriesPrediction(tiny_config(highway_length=5, freeze_highway=True))
    torch.manual_seed(0)
    free = AttentionRnnForTimeSeriesPrediction(tiny_config(highway_length=5))
    torch.testing.assert_close(model.readout.projection.weight, 0.1 * free.readout.projection.weight)
    model.readout.set_highway(torch.ones(5, HORIZON))
    model.save_pretrained(tmp_path)
    again = AttentionRnnForTimeSeriesPrediction.from_pretrained(tmp_path)
    assert not again.readout.highway.weight.requires_grad
    assert free.readout.highway.weight.requires_grad
    torch.testing.assert_close(again.readout.projection.weight, model.readout.projection.weight)


def test_a_map_of_another_size_is_no_highway():
    with pytest.raises(ValueError, match=r"`weights` must fit the highway, \(5, 12\), got \(6, 10\)"):
        tiny_model(highway_length=5).readout.set_highway(torch.ones(6, HORIZON))
    with pytest.raises(ValueError, match="must fit the highway"):
        tiny_model().readout.set_highway(torch.ones(6, HORIZON))


@pytest.mark.parametrize("cell_type", ["gru", "lstm", "rnn_tanh", "echo_state"])
def test_parallel_patches_are_first_steps_of_sequences_of_their_own(cell_type):
    copies = {"copy": False} if cell_type == "echo_state" else {}
    layer = tiny_model(cell_type=cell_type, **copies).model.decoder.layers[0]
    inputs, state = torch.randn(2, 3, 8), torch.randn(2, layer.cell.state_size)
    outputs, states = layer.first_steps(inputs, state)
    for patch in range(3):
        output, after = layer(inputs[:, patch : patch + 1], None, state, None, NO_NOISE, False)
        torch.testing.assert_close(outputs[:, patch : patch + 1], output)
        torch.testing.assert_close(states[:, patch : patch + 1], after)


def test_the_highway_starts_at_zero():
    config = AttentionRnnTimeSeriesConfig(highway_length=5)
    assert not AttentionRnnForTimeSeriesPrediction(config).readout.highway.weight.any()


def test_only_the_last_values_of_the_context_are_read():
    model = tiny_model(context_length=9, num_past_features=3)
    inputs = tiny_inputs(model.config)
    expected = forecast(model, **{name: values[:, -9:] for name, values in inputs.items()})
    assert torch.equal(forecast(model, **inputs), expected)


def test_values_in_double_precision_keep_it():
    model = tiny_model()
    values = tiny_inputs(model.config)["past_values"].double()
    found = forecast(model, past_values=values + 1e9)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found - 1e9, forecast(model, past_values=values), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("decoding", ["parallel", "autoregressive"])
def test_it_trains_in_halves_under_autocast(decoding):
    model = tiny_model(decoding=decoding).train()
    inputs, future = tiny_inputs(model.config), tiny_future(model.config)
    expected = model(**inputs, future_values=future)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(**inputs, future_values=future)
    outputs.loss.backward()
    assert outputs.mean_predictions.dtype == torch.float32
    torch.testing.assert_close(outputs.loss, expected.loss, rtol=0.05, atol=0)


def test_the_auto_classes_know_the_models():
    config = AutoConfig.for_model("attention_rnn_time_series", prediction_length=5)
    assert type(config) is AttentionRnnTimeSeriesConfig
    assert type(AutoModel.from_config(config)) is AttentionRnnTimeSeriesModel
    assert type(AutoModelForTimeSeriesPrediction.from_config(config)) is AttentionRnnForTimeSeriesPrediction


@every_variant
def test_what_is_saved_is_what_is_loaded(variant, tmp_path):
    model = tiny_model(**variant)
    model.save_pretrained(tmp_path)
    again = AutoModelForTimeSeriesPrediction.from_pretrained(tmp_path)
    inputs = tiny_inputs(model.config)
    assert torch.equal(forecast(again, **inputs), forecast(model, **inputs))


def test_the_names_of_timesfm_are_known():
    config = AttentionRnnTimeSeriesConfig(prediction_length=7, quantile_levels=[0.25, 0.5])
    assert config.horizon_length == 7
    assert config.quantiles == [0.25, 0.5]


def test_the_arguments_of_generate_are_those_of_forward():
    forward = inspect.signature(AttentionRnnForTimeSeriesPrediction.forward).parameters
    generate = inspect.signature(AttentionRnnForTimeSeriesPrediction.generate).parameters
    only_known_later = {"future_values", "future_observed_mask", "output_attentions", "return_loss"}
    assert forward.keys() - generate.keys() == only_known_later


@pytest.mark.parametrize("name", ["deepar", "segrnn", "lstnet", "da-rnn", "echo-state"])
def test_the_architectures_of_papers_forecast(name):
    config = AttentionRnnTimeSeriesConfig.from_preset(name, prediction_length=6, hidden_size=8, num_channels=2)
    model = AttentionRnnForTimeSeriesPrediction(config)
    loss = model(past_values=torch.randn(2, 9, 2), future_values=torch.randn(2, 6, 2)).loss
    loss.backward()
    assert loss.isfinite()


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match=r"`name` must be one of .*'deepar'.*, got 'deeper'"):
        AttentionRnnTimeSeriesConfig.from_preset("deeper")
