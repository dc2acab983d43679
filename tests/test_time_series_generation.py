"""Sampled paths of time series."""

import pytest
import torch
from tiny_series import BATCH, HORIZON, VARIANTS, tiny_inputs, tiny_model

rolling = {name: variant for name, variant in VARIANTS.items() if not variant.get("bidirectional")}


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("variant", rolling.values(), ids=rolling)
@pytest.mark.parametrize("length", [3, HORIZON, 33])
def test_paths_reach_as_far_as_asked(variant, length):
    model = tiny_model(**variant)
    channels = (model.config.num_channels,) if model.config.num_channels > 1 else ()
    samples = 1 if model.config.distribution_output == "point" else 5
    inputs = tiny_inputs(model.config)
    paths = model.generate(**inputs, prediction_length=length, num_parallel_samples=samples, generator=seeded())
    assert paths.sequences.shape == (BATCH, samples, length, *channels)
    assert paths.sequences.isfinite().all()
    again = model.generate(**inputs, prediction_length=length, num_parallel_samples=samples, generator=seeded())
    assert torch.equal(paths.sequences, again.sequences)


@pytest.mark.parametrize("variant", ["parallel", "last_std", "mean", "recurrent", "channels", "features"])
def test_paths_within_the_horizon_have_the_quantiles_of_the_forecast(variant):
    model = tiny_model(**VARIANTS[variant])
    inputs = tiny_inputs(model.config)
    quantiles = model(**inputs).full_predictions[..., 1:]
    paths = model.generate(**inputs, num_parallel_samples=4000, generator=seeded()).sequences
    below = (paths[..., None] <= quantiles[:, None]).float().mean(dim=1)
    expected = (torch.arange(1, 10) / 10).expand_as(below)
    if variant == "mean":  # of counts, as many as are at most the quantile
        assert (below >= expected - 0.04).all()
    else:
        torch.testing.assert_close(below, expected, atol=0.04, rtol=0)


def test_paths_and_quantiles_of_counts_are_whole():
    model = tiny_model(**VARIANTS["mean"])
    inputs = tiny_inputs(model.config)
    for counts in (model.generate(**inputs, generator=seeded()).sequences, model(**inputs).full_predictions[..., 1:]):
        assert torch.equal(counts, counts.round())


@pytest.mark.parametrize("cell_type", ["gru", "lstm"])
@pytest.mark.parametrize("patch_length", [1, 4])
def test_reading_on_is_reading_all(patch_length, cell_type):
    """From the state where the encoder was: the memory and the forecast are those of the whole series."""
    model = tiny_model(scaling=None, patch_length=patch_length, cell_type=cell_type, encoder_layers=2, bridge="linear")
    values = torch.randn(BATCH, 24, generator=seeded())
    with torch.no_grad():
        whole = model.model.read(values, *[None] * 5)
        begun = model.model.read(values[:, :16], *[None] * 5)
        known = torch.zeros(BATCH, 8 // patch_length, 0)
        read_on = model.model.read_on(begun, values[:, 16:, None], known)
    for found, expected in zip(read_on.past, whole.past, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_path_of_numbers_goes_on_from_its_own_forecast():
    model = tiny_model(distribution_output="point", scaling=None, prediction_length=8)
    values = torch.randn(BATCH, 16, generator=seeded())
    first = model(values).mean_predictions
    second = model(torch.cat([values, first], dim=1)).mean_predictions
    path = model.generate(values, prediction_length=13).sequences[:, 0]
    torch.testing.assert_close(path, torch.cat([first, second[:, :5]], dim=1))


def test_an_autoregressive_path_of_numbers_is_the_forecast():
    model = tiny_model(distribution_output="point", decoding="autoregressive")
    inputs = tiny_inputs(model.config)
    torch.testing.assert_close(model.generate(**inputs).sequences[:, 0], model(**inputs).mean_predictions)


@pytest.mark.parametrize(("decoding", "is_coherent"), [("autoregressive", True), ("parallel", False)])
def test_the_values_of_an_autoregressive_path_depend_on_each_other(decoding, is_coherent):
    model = tiny_model(2, decoding=decoding, patch_length=1, prediction_length=2, distribution_output="normal")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    inputs = {"past_values": tiny_inputs(model.config)["past_values"][:1]}
    paths = model.generate(**inputs, num_parallel_samples=2000, generator=seeded()).sequences[0]
    assert (torch.corrcoef(paths.t())[0, 1].abs() > 0.2) == is_coherent


@pytest.mark.parametrize(
    ("overrides", "arguments", "error", "message"),
    [
        ({}, {"prediction_length": 0}, ValueError, "`prediction_length` must be at least 1, got 0"),
        ({}, {"prediction_length": 2.5}, TypeError, "`prediction_length` must be an int, got 2.5"),
        ({}, {"num_parallel_samples": 0}, ValueError, "`num_parallel_samples` must be at least 1, got 0"),
        (
            {"bidirectional": True},
            {"prediction_length": 11},
            ValueError,
            "`prediction_length` beyond that of the config",
        ),
        ({"patch_length": 12}, {"prediction_length": 11}, ValueError, r"at least one patch \(`patch_length` is 12\)"),
        (
            {"num_time_features": 2},
            {"prediction_length": 41},
            ValueError,
            r"`future_time_features` must have the shape .* here \(3, 41, 2\), got \(3, 40, 2\)",
        ),
    ],
)
def test_what_cannot_be_sampled_is_refused(overrides, arguments, error, message):
    model = tiny_model(**overrides)
    with pytest.raises(error, match=message):
        model.generate(**tiny_inputs(model.config), **arguments)
