"""The distributions of a forecast: quantiles, samples and losses agree."""

import pytest
import torch
from scipy import stats
from tiny_series import tiny_config, tiny_future, tiny_inputs, tiny_model

from attention_rnn.models.distributions import (
    DISTRIBUTIONS,
    negative_binomial_quantile,
    student_t_quantile,
)

LEVELS = torch.tensor([0.001, 0.01, 0.1, 0.25, 0.45, 0.5, 0.7, 0.9, 0.99, 0.999], dtype=torch.float64)
RANDOM = ["quantile", "student_t", "normal", "negative_binomial"]


def distribution_of(name, **overrides):
    scaling = "mean" if name == "negative_binomial" else "std"
    return DISTRIBUTIONS[name](tiny_config(distribution_output=name, scaling=scaling, **overrides))


def params_of(distribution, count):
    first = distribution.link(torch.tensor(1.3)).expand(count)
    others = torch.tensor([0.3, -0.4, 0.9, 0.1, -0.2, 0.8, 0.5, -0.7])[: distribution.others].expand(count, -1)
    return distribution.params(first, others)


@pytest.mark.parametrize("freedom", [2.01, 2.5, 3.0, 4.9, 5.1, 10.0, 100.0])
def test_the_quantiles_of_students_t(freedom):
    expected = torch.tensor(stats.t.ppf(LEVELS.numpy(), freedom))
    found = student_t_quantile(LEVELS, torch.tensor(freedom, dtype=torch.float64))
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-9)


@pytest.mark.parametrize("mean", [1e-3, 0.3, 1.0, 7.0, 50.0, 1000.0, 1e4])
def test_the_quantiles_of_the_negative_binomial_distribution(mean):
    for count in (0.05, 0.5, 3.0, 30.0, 1e4):
        expected = torch.tensor(stats.nbinom.ppf(LEVELS.numpy(), count, count / (count + mean)))
        found = negative_binomial_quantile(LEVELS, torch.tensor(mean).double(), torch.tensor(count).double())
        # exactly at a level, the last bit decides which of two counts it is
        assert (found - expected).abs().max() <= 1
        assert (found != expected).sum() <= 1


@pytest.mark.parametrize("name", RANDOM)
def test_sampled_quantiles_meet_the_analytic_ones(name):
    distribution, scale = distribution_of(name), torch.tensor(40.0)
    params = params_of(distribution, 40000)
    samples = distribution.sample(params, scale, torch.Generator().manual_seed(0))
    expected = distribution.quantiles(tuple(param[:1] for param in params), scale)[0]
    below = (samples[:, None] <= expected).float().mean(dim=0)
    torch.testing.assert_close(below, torch.arange(1, 10) / 10, atol=0.015, rtol=0)


@pytest.mark.parametrize("name", ["student_t", "normal", "negative_binomial"])
def test_the_mean_of_samples_is_the_point_forecast(name):
    distribution, scale = distribution_of(name), torch.tensor(40.0)
    params = params_of(distribution, 40000)
    samples = distribution.sample(params, scale, torch.Generator().manual_seed(0))
    torch.testing.assert_close(samples.mean(), distribution.mean(params)[0], rtol=0.05, atol=0)


def test_counts_are_whole_and_not_negative():
    distribution, scale = distribution_of("negative_binomial"), torch.tensor(3.0)
    counts = distribution.sample(params_of(distribution, 100), scale, None) * scale
    torch.testing.assert_close(counts, counts.round())
    assert (counts >= 0).all()


def test_the_losses_of_quantiles_are_their_pinball_losses():
    distribution = distribution_of("quantile", quantile_levels=[0.2, 0.5])
    low, median = params = distribution.params(torch.tensor(3.0), torch.tensor([0.7]))
    assert low < median == 3
    target, scale = torch.tensor(4.5), torch.tensor(10.0)
    expected = 10 * (0.2 * (4.5 - low) + 0.5 * 1.5)  # twice the mean of two
    torch.testing.assert_close(distribution.loss(params, target, scale), expected)


@pytest.mark.parametrize(
    ("name", "of_scipy"),
    [
        ("normal", lambda mean, deviation: stats.norm(40 * mean, 40 * deviation).logpdf),
        ("student_t", lambda freedom, mean, spread: stats.t(freedom, 40 * mean, 40 * spread).logpdf),
        (
            "negative_binomial",
            lambda mean, dispersion: stats.nbinom(1 / dispersion, 1 / (1 + 40 * mean * dispersion)).logpmf,
        ),
    ],
)
def test_the_losses_of_distributions_are_likelihoods_in_the_units_of_the_series(name, of_scipy):
    distribution = distribution_of(name)
    params = params_of(distribution, 1)
    expected = -of_scipy(*(param.double().item() for param in params))(51)
    found = distribution.loss(params, torch.tensor([51 / 40]), torch.tensor(40.0))
    assert found.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["quantile", "student_t", "normal"])
def test_a_density_is_that_of_the_quantiles_and_sums_to_one(name):
    distribution, scale = distribution_of(name), torch.tensor(40.0)
    params = params_of(distribution, 1)
    targets = torch.linspace(-60, 60, 240001)
    likelihood = distribution.log_likelihood(tuple(param.expand(240001) for param in params), targets, scale.expand(1))
    probability = (likelihood.exp() * 40 * (targets[1] - targets[0])).cumsum(0)
    assert probability[-1].item() == pytest.approx(1, abs=2e-3)
    quantiles = distribution.quantiles(params, scale)[0]
    reached = probability[torch.searchsorted(targets, quantiles)]
    torch.testing.assert_close(reached, torch.arange(1, 10) / 10, atol=2e-3, rtol=0)


@pytest.mark.parametrize("decoding", ["parallel", "autoregressive"])
def test_an_outlier_is_the_least_likely_value(decoding):
    model = tiny_model(decoding=decoding)
    inputs = tiny_inputs(model.config)
    future = model(**inputs).mean_predictions
    future[1, 4] += 1000
    future[0, 2] = torch.nan
    likelihood = model.log_likelihood(**inputs, future_values=future)
    assert likelihood[0, 2].isnan()
    assert likelihood[1].argmin() == 4
    with pytest.raises(ValueError, match="must be a distribution, or two quantiles"):
        tiny_model(distribution_output="point").log_likelihood(**inputs, future_values=future)


@pytest.mark.parametrize(("loss", "expected"), [("mae", 4.0), ("mse", 16.0)])
def test_the_losses_of_numbers(loss, expected):
    distribution = distribution_of("point", loss=loss)
    assert distribution.loss((torch.tensor(3.0),), torch.tensor(5.0), torch.tensor(2.0)) == expected


@pytest.mark.parametrize("levels", [[0.5], [0.1], [0.3, 0.9], [0.05, 0.5, 0.95]])
def test_any_levels_may_be_asked_for(levels):
    model = tiny_model(quantile_levels=levels)
    outputs = model(**tiny_inputs(model.config), future_values=tiny_future(model.config))
    assert outputs.full_predictions.shape[-1] == 1 + len(levels)
    nearest = min(range(len(levels)), key=lambda index: abs(levels[index] - 0.5))
    assert torch.equal(outputs.mean_predictions, outputs.full_predictions[..., 1 + nearest])
