"""Tiny models of time series for the tests: every size differs from every other, so that a swapped axis fails."""

from typing import Any

import torch
from torch import Tensor

from attention_rnn import AttentionRnnForTimeSeriesPrediction, AttentionRnnTimeSeriesConfig

BATCH, TIME, HORIZON, PATCH = 3, 23, 10, 4

# every decoding, distribution, scaling, and way to read channels, at least once
VARIANTS: dict[str, dict[str, Any]] = {
    "parallel": {},
    "last": {"scaling": "last", "distribution_output": "point"},
    "last_std": {
        "scaling": "last_std",
        "distribution_output": "normal",
        "cell_type": "lstm",
        "attention_type": "local",
    },
    "mean": {"scaling": "mean", "distribution_output": "negative_binomial", "attention_type": "multi_head"},
    "unscaled": {"scaling": None, "bidirectional": True, "encoder_layers": 2, "decoder_layers": 2},
    "recurrent": {"decoding": "recurrent", "coverage": True},
    "autoregressive": {"decoding": "autoregressive", "distribution_output": "student_t"},
    "value_by_value": {"decoding": "autoregressive", "patch_length": 1, "attention_type": "location"},
    "channels": {"num_channels": 2},
    "channels_autoregressive": {"num_channels": 2, "decoding": "autoregressive", "distribution_output": "normal"},
    "mixed": {"num_channels": 2, "channel_mixing": True},
    "no_attention": {"attention_type": None, "copy": False, "num_static_categorical_features": 1, "cardinality": [3]},
    "features": {"num_time_features": 2, "num_past_features": 3, "num_static_real_features": 5},
    "highway": {"highway_length": 30, "num_channels": 2},
    "features_autoregressive": {"num_time_features": 2, "num_past_features": 3, "decoding": "autoregressive"},
}


def tiny_config(**overrides: Any) -> AttentionRnnTimeSeriesConfig:
    values: dict[str, Any] = {
        "hidden_size": 8,
        "attention_size": 7,
        "num_attention_heads": 2,
        "location_channels": 3,
        "location_kernel_size": 3,
        "local_window_size": 2,
        "prediction_length": HORIZON,
        "patch_length": PATCH,
        "readout_dropout": 0.0,
    }
    return AttentionRnnTimeSeriesConfig(**{**values, **overrides})


def tiny_model(seed: int = 0, **overrides: Any) -> AttentionRnnForTimeSeriesPrediction:
    """In evaluation mode, with weights large enough that the forecasts depend visibly on every input."""
    torch.manual_seed(seed)
    model = AttentionRnnForTimeSeriesPrediction(tiny_config(**overrides)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def tiny_inputs(config: AttentionRnnTimeSeriesConfig, batch: int = BATCH, time: int = TIME) -> dict[str, Tensor]:
    """The past, with its features and those of the future."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    channels = (config.num_channels,) if config.num_channels > 1 else ()
    inputs = {"past_values": 5 + 2 * draw(batch, time, *channels)}
    if config.distribution_output == "negative_binomial":
        inputs["past_values"] = inputs["past_values"].abs().round()
    if config.num_time_features:
        inputs["past_time_features"] = draw(batch, time, config.num_time_features)
        inputs["future_time_features"] = draw(batch, 40, config.num_time_features)
    if config.num_past_features:
        inputs["past_only_features"] = draw(batch, time, config.num_past_features)
    if config.num_static_real_features:
        inputs["static_real_features"] = draw(batch, config.num_static_real_features)
    if config.num_static_categorical_features:
        inputs["static_categorical_features"] = torch.arange(batch)[:, None] % torch.tensor(config.cardinality)
    return inputs


def tiny_future(config: AttentionRnnTimeSeriesConfig, batch: int = BATCH) -> Tensor:
    channels = (config.num_channels,) if config.num_channels > 1 else ()
    values = 5 + torch.randn(batch, config.prediction_length, *channels, generator=torch.Generator().manual_seed(1))
    return values.abs().round() if config.distribution_output == "negative_binomial" else values
