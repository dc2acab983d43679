"""
What is forecast of each value: quantiles, the parameters of a distribution, or a number.

All are made of numbers that are free: a first one, which says where the value lies, and others, which say how far it
may be from there. Everything is in the units of the scaled series, except that `NegativeBinomialOutput` takes the scale
into its mean, since counts stay whole numbers.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import NegativeBinomial, Normal, StudentT
from torch.nn.functional import softplus

from .configuration_attention_rnn_time_series import AttentionRnnTimeSeriesConfig

SMALLEST = 1e-4  # of a standard deviation


class PointOutput:
    """One number: the median with `loss="mae"`, the mean with `"mse"`."""

    others = 0  # numbers besides the first
    is_random = False

    def __init__(self, config: AttentionRnnTimeSeriesConfig) -> None:
        self.levels: list[float] = config.quantile_levels or []
        self.loss_name = config.loss

    def link(self, first: Tensor) -> Tensor:
        """A value, of the first number."""
        return first

    def params(self, first: Tensor, others: Tensor) -> tuple[Tensor, ...]:
        """The parameters, (...), of the first number (...), through `link`, and the others (..., others)."""
        return (first,)

    def mean(self, params: tuple[Tensor, ...]) -> Tensor:
        """The point forecast, (...)."""
        return params[0]

    def quantiles(self, params: tuple[Tensor, ...]) -> Tensor:
        """(..., levels)"""
        return params[0][..., None][..., :0]

    def sample(self, params: tuple[Tensor, ...], generator: torch.Generator | None) -> Tensor:
        """One value for each element, (...)."""
        return params[0]

    def loss(self, params: tuple[Tensor, ...], target: Tensor, scale: Tensor) -> Tensor:
        """Of each value in the units of the series, (...); `target` is scaled."""
        error = (target - params[0]) * scale
        return error.abs() if self.loss_name == "mae" else error.square()


class QuantileOutput(PointOutput):
    """
    The `quantile_levels`: the one next to 0.5 is free, those above and below it follow at positive distances, so that
    none crosses another. The point forecast is the level next to 0.5. Values are sampled by linear interpolation
    between the quantiles, and extrapolation beyond the outer ones. The loss is the mean over the levels of

        2 max(q (y - y_q), (q - 1) (y - y_q)),

    twice the pinball loss: the absolute error for the median, and for many levels the continuous ranked probability
    score.
    """

    is_random = True

    def __init__(self, config: AttentionRnnTimeSeriesConfig) -> None:
        super().__init__(config)
        self.others = len(self.levels) - 1
        self.middle = min(range(len(self.levels)), key=lambda index: abs(self.levels[index] - 0.5))

    def params(self, first: Tensor, others: Tensor) -> tuple[Tensor, ...]:
        distances = softplus(others)
        first = first[..., None]
        below = first - distances[..., : self.middle].flip(-1).cumsum(-1).flip(-1)
        above = first + distances[..., self.middle :].cumsum(-1)
        return torch.cat([below, first, above], dim=-1).unbind(-1)

    def mean(self, params: tuple[Tensor, ...]) -> Tensor:
        return params[self.middle]

    def quantiles(self, params: tuple[Tensor, ...]) -> Tensor:
        return torch.stack(params, dim=-1)

    def sample(self, params: tuple[Tensor, ...], generator: torch.Generator | None) -> Tensor:
        quantiles, levels = self.quantiles(params), self._levels(params[0])
        probability = torch.rand(params[0].shape, generator=generator, device=levels.device, dtype=levels.dtype)
        if len(levels) == 1:
            return params[0]
        lower = (torch.bucketize(probability, levels) - 1).clamp(0, len(levels) - 2)[..., None]
        low, high = (quantiles.gather(-1, index)[..., 0] for index in (lower, lower + 1))
        lower = lower[..., 0]
        share = (probability - levels[lower]) / (levels[lower + 1] - levels[lower])
        return low + share.to(low.dtype) * (high - low)

    def loss(self, params: tuple[Tensor, ...], target: Tensor, scale: Tensor) -> Tensor:
        error = (target[..., None] - self.quantiles(params)) * scale[..., None]
        levels = self._levels(params[0])
        return 2 * torch.maximum(levels * error, (levels - 1) * error).mean(dim=-1)

    def _levels(self, like: Tensor) -> Tensor:
        return torch.tensor(self.levels, device=like.device, dtype=torch.promote_types(like.dtype, torch.float32))


class NormalOutput(PointOutput):
    """A normal distribution: mean, standard deviation."""

    others = 1
    is_random = True

    def params(self, first: Tensor, others: Tensor) -> tuple[Tensor, ...]:
        return first, softplus(others[..., 0]) + SMALLEST

    def quantiles(self, params: tuple[Tensor, ...]) -> Tensor:
        mean, deviation = params
        levels = torch.tensor(self.levels, device=mean.device, dtype=mean.dtype)
        return mean[..., None] + deviation[..., None] * torch.special.ndtri(levels)

    def sample(self, params: tuple[Tensor, ...], generator: torch.Generator | None) -> Tensor:
        mean, deviation = params
        return torch.normal(mean, deviation, generator=generator)

    def loss(self, params: tuple[Tensor, ...], target: Tensor, scale: Tensor) -> Tensor:
        return scale.log() - Normal(*params, validate_args=False).log_prob(target)


DISTRIBUTIONS: dict[str, Any] = {  # classes, made of a config alone
    "point": PointOutput,
    "quantile": QuantileOutput,
    "normal": NormalOutput,
}
_ = StudentT, NegativeBinomial
