"""What is wrong with a series, or with a config, is said before any work is done."""

import pytest
import torch
from tiny_series import BATCH, HORIZON, TIME, VARIANTS, tiny_config, tiny_future, tiny_inputs, tiny_model

from attention_rnn import AttentionRnnTimeSeriesConfig

NAN, INFINITE = torch.nan, torch.inf


def with_values(place, value, shape=(BATCH, TIME)):
    values = torch.ones(shape)
    values[place] = value
    return values


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"past_values": None}, "`past_values` must be given, got None"),
        ({"past_values": torch.ones(BATCH, 0)}, r"must hold a series of one value or more, got the shape \(3, 0\)"),
        ({"past_values": torch.ones(0, 5)}, r"must hold a series of one value or more, got the shape \(0, 5\)"),
        ({"past_values": torch.ones(5)}, r"must have the shape \(batch, time\) or \(batch, time, 1\)"),
        ({"past_values": torch.ones(BATCH, TIME, 2)}, r"`num_channels` is 1\), got \(3, 23, 2\)"),
        ({"past_values": with_values(1, NAN)}, "an observed value of each series, but series 1 has none"),
        ({"past_values": with_values((2, 7), -INFINITE)}, "an infinite number in series 2, time 7"),
        ({"past_observed_mask": torch.ones(BATCH, TIME + 1)}, r"the shape of `past_values`, \(3, 23\), got \(3, 24\)"),
        ({"past_observed_mask": with_values((1, 1), 0.5)}, "`past_observed_mask` must hold 0 and 1 alone, got 0.5"),
        (
            {"past_observed_mask": with_values(0, 0.0)},
            "`past_values` must hold an observed value of each series, but series 0 has none",
        ),
        ({"future_values": torch.ones(BATCH, HORIZON + 1)}, r"must be 10 values .* of each of 3 series, .* \(3, 11\)"),
        ({"future_values": torch.ones(2, HORIZON)}, r"`future_values` must be 10 values .* got \(2, 10\)"),
        (
            {"future_values": with_values((0, 3), INFINITE, (BATCH, HORIZON))},
            "`future_values` must be finite, .* time 3",
        ),
        (
            {"future_values": torch.ones(BATCH, HORIZON), "future_observed_mask": torch.ones(BATCH, 4)},
            "`future_observed_mask` must have the shape of `future_values`",
        ),
        ({"past_time_features": torch.ones(BATCH, TIME, 1)}, "must not be given to a model with `num_time_features=0`"),
        (
            {"static_real_features": torch.ones(BATCH, 1)},
            "must not be given to a model with `num_static_real_features=0`",
        ),
    ],
)
def test_wrong_series_are_refused(inputs, message):
    with pytest.raises(ValueError, match=message):
        tiny_model()(**{"past_values": torch.ones(BATCH, TIME), **inputs})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("past_time_features", None, r"`past_time_features` must be given, \(3, 23, 2\): `num_time_features` is 2"),
        ("future_time_features", None, r"`future_time_features` must be given, \(3, 10, 2\)"),
        ("past_only_features", torch.ones(BATCH, TIME, 2), r"`past_only_features` .* \(3, 23, 3\), got \(3, 23, 2\)"),
        ("past_time_features", torch.ones(BATCH, TIME + 1, 2), r"\(3, 23, 2\), got \(3, 24, 2\)"),
        ("future_time_features", torch.ones(BATCH, 9, 2), r"\(3, 10, 2\), got \(3, 9, 2\)"),
        ("past_time_features", with_values((1, 2, 1), INFINITE, (BATCH, TIME, 2)), "series 1, time 2, column 1"),
        ("static_real_features", torch.ones(BATCH, 4), r"`static_real_features` must have the shape \(3, 5\)"),
        ("static_categorical_features", None, r"`static_categorical_features` must have the shape \(3, 1\), got None"),
        ("static_categorical_features", torch.tensor([[0], [1], [3]]), "from 0 to 2 in column 0"),
    ],
)
def test_wrong_features_are_refused(name, value, message):
    model = tiny_model(**VARIANTS["features"], num_static_categorical_features=1, cardinality=[3])
    with pytest.raises(ValueError, match=message):
        model(**{**tiny_inputs(model.config), name: value})


@pytest.mark.parametrize(
    "name",
    [
        "past_values",
        "past_observed_mask",
        "past_time_features",
        "past_only_features",
        "static_real_features",
        "static_categorical_features",
        "future_time_features",
        "future_values",
        "future_observed_mask",
    ],
)
def test_an_input_on_another_device_is_named(name):
    model = tiny_model(**VARIANTS["features"], num_static_categorical_features=1, cardinality=[3])
    past, future = tiny_inputs(model.config), tiny_future(model.config)
    observed = {"past_observed_mask": past["past_values"] > 0, "future_observed_mask": future > 0}
    inputs = {**past, "future_values": future, **observed}
    with pytest.raises(ValueError, match=f"`{name}` must be on the device|on the device of `{name}`"):
        model(**{**inputs, name: inputs[name].to("meta")})
    without_masks = {other: value for other, value in inputs.items() if other == name or "mask" not in other}
    with pytest.raises(ValueError, match=f"`{name}` must be on the device|on the device of `{name}`"):
        model(**{**without_masks, name: inputs[name].to("meta")})


def test_what_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match="`past_values` must be a tensor, got list"):
        tiny_model()(past_values=[1.0, 2.0])


def test_counts_are_not_negative():
    model = tiny_model(**VARIANTS["mean"])
    inputs, future = tiny_inputs(model.config), -1 - tiny_future(model.config)
    with pytest.raises(ValueError, match="`future_values` must be counts"):
        model(**inputs, future_values=future)
    with pytest.raises(ValueError, match="`past_values` must be counts"):
        model(past_values=-1 - inputs["past_values"])


def test_whole_numbers_are_a_series():
    model = tiny_model()
    values = torch.arange(BATCH * TIME).view(BATCH, TIME)
    assert torch.equal(model(values).mean_predictions, model(values.float()).mean_predictions)


def test_a_single_channel_may_have_an_axis():
    model = tiny_model()
    values = tiny_inputs(model.config)["past_values"]
    with_axis = model(values[..., None])
    assert torch.equal(with_axis.full_predictions[:, :, 0], model(values).full_predictions)
    assert model.generate(values[..., None], num_parallel_samples=2).sequences.shape == (BATCH, 2, HORIZON, 1)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"prediction_length": 0}, ValueError, "`prediction_length` must be at least 1, got 0"),
        ({"patch_length": -1}, ValueError, "`patch_length` must be at least 1, got -1"),
        ({"num_time_features": -1}, ValueError, "`num_time_features` must be at least 0, got -1"),
        ({"scaling": "minmax"}, ValueError, "`scaling` must be one of"),
        ({"decoding": "beam"}, ValueError, "`decoding` must be one of"),
        ({"distribution_output": "gamma"}, ValueError, "`distribution_output` must be one of"),
        ({"distribution_output": ["point"]}, ValueError, "`distribution_output` must be one of"),
        ({"loss": "mse"}, ValueError, '`loss` must be "pinball" for `distribution_output="quantile"`'),
        ({"distribution_output": "point", "loss": "nll"}, ValueError, '`loss` must be "mae" or "mse"'),
        ({"quantile_levels": [0.5, 0.1]}, ValueError, "`quantile_levels` must be increasing numbers between 0 and 1"),
        ({"label_smoothing": 1.0}, ValueError, "`label_smoothing` must be below 1, got 1.0"),
        ({"quantile_levels": []}, ValueError, "`quantile_levels` must be increasing"),
        ({"quantile_levels": [0.0, 0.5]}, ValueError, "`quantile_levels` must be increasing"),
        ({"quantile_levels": "0.5"}, TypeError, "`quantile_levels` must be a list of numbers"),
        ({"freeze_highway": True}, ValueError, "`freeze_highway` needs `highway_length`, got None"),
        (
            {
                "freeze_highway": True,
                "highway_length": 4,
                "distribution_output": "negative_binomial",
                "scaling": "mean",
            },
            ValueError,
            "`freeze_highway` must be False for",
        ),
        ({"highway_length": 0}, ValueError, "`highway_length` must be at least 1, got 0"),
        ({"highway_length": 48, "decoding": "autoregressive"}, ValueError, "`highway_length` must be None for"),
        ({"attention_type": None}, ValueError, "`coverage` and `copy` need attention"),
        ({"attention_type": "aligned"}, ValueError, "must not be 'aligned'"),
        ({"distribution_output": "negative_binomial"}, ValueError, '`scaling` must be "mean" or None'),
        ({"num_static_categorical_features": 2, "cardinality": [3]}, ValueError, "`cardinality` must have one number"),
        ({"bridge": "copy", "bidirectional": True}, ValueError, '`bridge="copy"` needs a unidirectional encoder'),
        ({"attention_type": "dot", "bidirectional": True}, ValueError, "needs a memory as wide as the query"),
        ({"vocab_size": 7}, TypeError, "has no field `vocab_size`"),
    ],
)
def test_a_wrong_config_is_refused(fields, error, message):
    with pytest.raises(error, match=message):
        AttentionRnnTimeSeriesConfig(**fields)


def test_a_forecaster_needs_a_decoder():
    with pytest.raises(ValueError, match="`is_encoder_decoder` must be True for AttentionRnnForTimeSeriesPrediction"):
        tiny_model(is_encoder_decoder=False)


def test_a_config_is_read_as_it_was_written(tmp_path):
    config = tiny_config(quantile_levels=[0.25, 0.75], scaling=None, cardinality=[4], num_static_categorical_features=1)
    config.save_pretrained(tmp_path)
    again = AttentionRnnTimeSeriesConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
