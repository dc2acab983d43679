"""
Bad configs and inputs of models of time series: a right result, or a ValueError or TypeError that names the argument,
as in `test_bad_input.py`.
"""

from functools import cache
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from test_bad_input import FIELDS as SHARED
from test_bad_input import attempt, attempt_config, choices, optional_sizes, sizes, switches
from tiny_series import VARIANTS, tiny_config, tiny_future, tiny_inputs, tiny_model

from attention_rnn import AttentionRnnForTimeSeriesPrediction, AttentionRnnTimeSeriesConfig
from attention_rnn.models.configuration_attention_rnn_time_series import DECODINGS, LOSSES, SCALINGS
from attention_rnn.models.configuration_core import declared_fields

# fields of the core, of which any value that is right there is right here
SHARED_FIELDS = {name: SHARED[name] for name in declared_fields(AttentionRnnTimeSeriesConfig) if name in SHARED}
many = st.data()
counts = (st.integers(0, 3), st.sampled_from([-1, True, 2.0, "3", None, [4]]))
# of each field: what is right, if it contradicts no other, and what is wrong
FIELDS: dict[str, tuple[Any, Any]] = {
    **SHARED_FIELDS,
    "prediction_length": sizes,
    "context_length": optional_sizes,
    "patch_length": sizes,
    "num_channels": (st.integers(1, 3), sizes[1]),
    "channel_mixing": switches,
    "channel_embedding": switches,
    "scaling": (st.none() | st.sampled_from(SCALINGS), choices(SCALINGS)[1]),
    "decoding": choices(DECODINGS),
    "share_layers": switches,
    "highway_length": optional_sizes,
    "freeze_highway": switches,
    "distribution_output": choices(LOSSES),
    "quantile_levels": (
        st.none() | st.just([0.5]) | st.just([0.1, 0.8]),
        st.sampled_from([[], [0.0], [1.0], [0.9, 0.1], [0.5, 0.5], [float("nan")], ["a"], 0.5, "0.5", [True]]),
    ),
    "loss": (st.none() | st.sampled_from(["pinball", "nll", "mae", "mse"]), st.sampled_from(["", "other", 1, ["mae"]])),
    "num_time_features": counts,
    "num_past_features": counts,
    "num_static_real_features": counts,
    "num_static_categorical_features": counts,
    "cardinality": (
        st.none() | st.lists(st.integers(1, 4), max_size=3),
        st.sampled_from([[0], [-1, 2], ["a"], 3, [2.0], [True]]),
    ),
    "num_parallel_samples": sizes,
}


def test_every_field_of_a_config_is_tried():
    assert set(FIELDS) == set(declared_fields(AttentionRnnTimeSeriesConfig)) - {"config_version", "model_type"}


@given(many)
def test_a_config_makes_a_model_that_forecasts_or_is_refused(data):
    config = attempt_config(data, FIELDS, tiny_config)
    if config is None:
        return
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = attempt(lambda: AttentionRnnForTimeSeriesPrediction(config).eval(), (), FIELDS)
    if model is not None:
        inputs = tiny_inputs(config, batch=2, time=data.draw(st.integers(1, 20), "time"))
        future = tiny_future(config, batch=2)
        check_forecast(model, inputs, model(**inputs, future_values=future))


def check_forecast(model, inputs, outputs):
    assert outputs.loss is None or outputs.loss.isfinite()
    assert outputs.mean_predictions.isfinite().all()
    assert outputs.mean_predictions.shape[:2] == (len(inputs["past_values"]), model.config.prediction_length)
    quantiles = outputs.full_predictions[..., 1:]
    assert (quantiles.diff(dim=-1) >= 0).all()


WRONG = {
    "list": lambda x: x.tolist(),
    "text": lambda x: "abc",
    "another device": lambda x: x.to("meta"),
    "no rows": lambda x: x[:0],
    "more rows": lambda x: torch.cat([x, x]),
    "two axes more": lambda x: x[..., None, None],
    "infinite": lambda x: x.float().index_fill(0, torch.tensor([0]), float("-inf")),
    "missing altogether": lambda x: None,
}
WRONG_OF = {
    "past_values": {"never observed": lambda x: x.index_fill(0, torch.tensor([0]), float("nan"))},
    "past_observed_mask": {"half": lambda x: x / 2},
    "future_observed_mask": {"half": lambda x: x / 2},
    "future_values": {"longer": lambda x: torch.cat([x, x], dim=1)},
    "future_time_features": {"shorter": lambda x: x[:, :3]},
    "static_categorical_features": {"unknown": lambda x: x + 99, "negative": lambda x: x - 99},
}


@cache
def models(name):
    """A model, and one of the same weights that takes the plain way everywhere."""
    with torch.random.fork_rng():
        model, reference = (
            tiny_model(**VARIANTS[name], recurrence_backend=backend) for backend in ("auto", "reference")
        )
    return model, reference


@given(many)
def test_the_inputs_of_a_model_are_read_right_or_refused(data):
    draw = data.draw
    model, reference = models(draw(st.sampled_from(sorted(VARIANTS)), "model"))
    config, batch = model.config, draw(st.integers(1, 3), "batch")
    inputs = tiny_inputs(config, batch, draw(st.integers(1, 30), "time"))
    inputs["future_values"] = tiny_future(config, batch)
    for name in ("past", "future"):
        if draw(st.booleans(), f"{name} mask"):
            mask = torch.rand(inputs[f"{name}_values"].shape, generator=torch.Generator().manual_seed(2)) < 0.7
            mask[:, -1] = True
            inputs[f"{name}_observed_mask"] = mask.float()
    optional = {"future_values", "past_observed_mask", "future_observed_mask"}
    wrong = draw(st.none() | st.sampled_from(sorted(inputs)), "wrong")
    if wrong is not None:
        kinds = {**WRONG, **WRONG_OF.get(wrong, {})}
        if wrong in optional:
            del kinds["missing altogether"]
        inputs[wrong] = kinds[draw(st.sampled_from(sorted(kinds)), "kind")](inputs[wrong])
    # where one argument has another shape, the others do not fit it
    outputs = attempt(lambda: model(**inputs), {wrong} - {None}, inputs if wrong else ())
    if outputs is not None:
        check_forecast(model, inputs, outputs)
        expected = reference(**inputs)
        for name in ("loss", "mean_predictions", "full_predictions"):
            torch.testing.assert_close(outputs[name], expected[name], atol=1e-3, rtol=1e-3)
