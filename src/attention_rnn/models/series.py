"""What a user hands to a model of time series: checked, and laid out as sequences that share the weights."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .checks import as_booleans, check_device, check_tensors, has_values
from .configuration_attention_rnn_time_series import AttentionRnnTimeSeriesConfig

NO_FEATURES = "`{name}` must not be given to a model with `{field}=0`."


class Static(NamedTuple):
    """What is known of whole series."""

    real: Tensor | None  # (batch, features)
    categorical: Tensor | None  # (batch, features)


def read_values(name: str, values: Any, mask: Any, config: AttentionRnnTimeSeriesConfig) -> Tensor:
    """
    Values (batch, time, channels) in single precision or better, NaN where missing or where `mask` is 0.

    Args:
        name: what the caller calls them, `"past_values"` or `"future_values"`.
        values: (batch, time) of one channel, or (batch, time, channels).
        mask: 1 where observed, of the same shape, or `None`.

    Raises:
        TypeError: no tensors.
        ValueError: another shape, an infinite value, or a negative one where counts are forecast.
    """
    mask_name = name.replace("values", "observed_mask")
    if values is None:
        raise ValueError(f"`{name}` must be given, got None.")
    check_tensors(**{name: values, mask_name: mask})
    channels = config.num_channels
    if values.dim() == 2 and channels == 1:
        shaped = values[..., None]
    elif values.dim() == 3 and values.shape[2] == channels:
        shaped = values
    else:
        allowed = "(batch, time) or (batch, time, 1)" if channels == 1 else f"(batch, time, {channels})"
        raise ValueError(
            f"`{name}` must have the shape {allowed} (`num_channels` is {channels}), got {tuple(values.shape)}."
        )
    if shaped.shape[0] == 0 or shaped.shape[1] == 0:
        raise ValueError(f"`{name}` must hold a series of one value or more, got the shape {tuple(values.shape)}.")
    shaped = shaped.to(torch.promote_types(shaped.dtype, torch.float32))
    if mask is not None:
        if mask.shape != values.shape:
            raise ValueError(
                f"`{mask_name}` must have the shape of `{name}`, {tuple(values.shape)}, got {tuple(mask.shape)}."
            )
        shaped = shaped.masked_fill(~as_booleans(mask_name, mask).view(shaped.shape), torch.nan)
    _check_finite(name, shaped)
    if config.distribution_output == "negative_binomial" and has_values(shaped) and (shaped < 0).any():
        raise ValueError(
            f'`{name}` must be counts for `distribution_output="negative_binomial"`, got '
            f"{shaped[shaped < 0][0].item()}."
        )
    return shaped


def check_observed(values: Tensor) -> None:
    """
    Raises:
        ValueError: a series of `values` (batch, time, channels) has no observed value.
    """
    if has_values(values):
        is_missing = values.isnan().flatten(1).all(dim=1)
        if is_missing.any():
            series = int(is_missing.int().argmax())
            raise ValueError(f"`past_values` must hold an observed value of each series, but series {series} has none.")


def read_features(name: str, features: Any, field: str, shape: tuple[int, int, int], like: Tensor) -> Tensor:
    """
    Features (batch, time, features) of the type of `like`, zero where missing.

    Args:
        field: the field of the config that says how many there are.
        shape: (batch, time, features) as they must be; of a longer time, the first are taken.

    Raises:
        TypeError: no tensor.
        ValueError: another shape, missing altogether, given where there are none, or an infinite value.
    """
    check_tensors(**{name: features})
    if shape[2] == 0:
        if features is not None:
            raise ValueError(NO_FEATURES.format(name=name, field=field))
        return like.new_zeros(shape)
    if features is None:
        raise ValueError(f"`{name}` must be given, {shape}: `{field}` is {shape[2]}.")
    fits = features.dim() == 3 and features.shape[0] == shape[0] and features.shape[2] == shape[2]
    if not fits or features.shape[1] < shape[1] or (features.shape[1] > shape[1] and not name.startswith("future")):
        raise ValueError(
            f"`{name}` must have the shape (batch, time, features), here {shape}, got {tuple(features.shape)}."
        )
    check_device(name, features, like.device)
    _check_finite(name, features)
    return features[:, : shape[1]].nan_to_num(nan=0.0).to(like.dtype)


def read_static(real: Any, categorical: Any, config: AttentionRnnTimeSeriesConfig, like: Tensor) -> Static:
    """
    Static features of the type of `like`, zero where missing, (batch, features); `None` where there are none.

    Raises:
        TypeError: no tensors.
        ValueError: another shape, missing, given where there are none, infinite, or a category that is out of range.
    """
    check_tensors(static_real_features=real, static_categorical_features=categorical)
    for name, values, field in (
        ("static_real_features", real, "num_static_real_features"),
        ("static_categorical_features", categorical, "num_static_categorical_features"),
    ):
        count = getattr(config, field)
        if count == 0 and values is not None:
            raise ValueError(NO_FEATURES.format(name=name, field=field))
        if count and (values is None or values.shape != (like.shape[0], count)):
            given = None if values is None else tuple(values.shape)
            raise ValueError(f"`{name}` must have the shape {(like.shape[0], count)}, got {given}.")
        if values is not None:
            check_device(name, values, like.device)
    if real is not None:
        _check_finite("static_real_features", real[:, None])
        real = real.nan_to_num(nan=0.0).to(like.dtype)
    if categorical is not None and has_values(categorical):
        for feature, cardinality in enumerate(config.cardinality or ()):
            of_feature = categorical[:, feature]
            if ((of_feature < 0) | (of_feature >= cardinality)).any():
                raise ValueError(
                    f"`static_categorical_features` must be from 0 to {cardinality - 1} in column {feature} "
                    f"(`cardinality`), got {of_feature.tolist()}."
                )
    return Static(real, categorical)


def split_channels(values: Tensor, config: AttentionRnnTimeSeriesConfig) -> Tensor:
    """(batch, time, channels) -> (batch * channels, time, 1), unless channels are mixed."""
    if config.channel_mixing or config.num_channels == 1:
        return values
    return values.transpose(1, 2).flatten(0, 1)[..., None]


def join_channels(values: Tensor, config: AttentionRnnTimeSeriesConfig) -> Tensor:
    """The inverse of `split_channels`, also with more axes behind: (batch * channels, time, 1, ...)."""
    if config.channel_mixing or config.num_channels == 1:
        return values
    return values.unflatten(0, (-1, config.num_channels)).squeeze(3).transpose(1, 2)


def for_each_channel(values: Tensor, config: AttentionRnnTimeSeriesConfig) -> Tensor:
    """What is known of a series, (batch, ...), for each of its sequences, (batch * channels, ...)."""
    if config.channel_mixing or config.num_channels == 1:
        return values
    return values.repeat_interleave(config.num_channels, dim=0)


def _check_finite(name: str, values: Tensor) -> None:
    if has_values(values) and values.is_floating_point():
        is_infinite = values.isinf()
        if is_infinite.any():
            series, time, channel = is_infinite.nonzero()[0].tolist()
            place = f"series {series}, time {time}" + (f", column {channel}" if values.shape[2] > 1 else "")
            raise ValueError(f"`{name}` must be finite, or NaN where missing, got an infinite number in {place}.")
