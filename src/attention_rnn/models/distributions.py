"""
What is forecast of each value: quantiles, the parameters of a distribution, or a number.

All are made of numbers that are free: a first one, which says where the value lies and may be copied from the past, and
others, which say how far the value may be from there. All is in the units of the scaled series.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import NegativeBinomial, Normal, StudentT
from torch.nn.functional import softplus

from .configuration_attention_rnn_time_series import AttentionRnnTimeSeriesConfig

# standard deviations, and the dispersion of counts
SMALLEST = 1e-4
# Of a value that lies so many deviations of its series away, a density has nothing to learn: the past was constant.
FARTHEST = 1e4
# The quantiles of larger counts are those of fewer, in larger units: they differ by less than this part.
COUNTS = 1e4

Params = tuple[Tensor, ...]


class PointOutput:
    """One number: the median with `loss="mae"`, the mean with `"mse"`. The loss is in the units of the series."""

    others = 0  # numbers besides the first
    is_random = False
    is_whole = False  # whether values are counts
    farthest = math.inf  # scaled values beyond it are not learnt from

    def __init__(self, config: AttentionRnnTimeSeriesConfig) -> None:
        self.levels: list[float] = config.quantile_levels or []
        self.loss_name = config.loss

    def link(self, first: Tensor) -> Tensor:
        """A value, of the first number."""
        return first

    def params(self, first: Tensor, others: Tensor) -> Params:
        """The parameters, each (...), of the first number (...), through `link`, and the others (..., others)."""
        return (first,)

    def mean(self, params: Params) -> Tensor:
        """The point forecast, (...)."""
        return params[0]

    def quantiles(self, params: Params, scale: Tensor) -> Tensor:
        """At the `quantile_levels`, (..., levels); `scale`, which broadcasts to (...), is that of the series."""
        return params[0][..., None][..., :0]

    def sample(self, params: Params, scale: Tensor, generator: torch.Generator | None) -> Tensor:
        """One value for each element, (...)."""
        return params[0]

    def loss(self, params: Params, target: Tensor, scale: Tensor) -> Tensor:
        """Of each value of a scaled target, (...)."""
        error = (target - params[0]) * scale
        return error.abs() if self.loss_name == "mae" else error.square()

    def log_likelihood(self, params: Params, target: Tensor, scale: Tensor) -> Tensor:
        """Of each value of a scaled target in the units of the series, in nats, (...)."""
        return -self.loss(params, target, scale)

    def _levels(self, like: Tensor) -> Tensor:
        return torch.tensor(self.levels, device=like.device, dtype=like.dtype)


class QuantileOutput(PointOutput):
    """
    The `quantile_levels`: the one next to 0.5 is free, those above and below it follow at positive distances, so that
    none crosses another. The point forecast is the level next to 0.5. Samples are linear between the quantiles and go
    on so beyond the outer ones. The loss, in the units of the series, is the mean over the levels q of

        2 max(q (y - y_q), (q - 1) (y - y_q)),

    twice the pinball loss (Koenker and Bassett, 1978): for the median the absolute error, for many levels the
    continuous ranked probability score.
    """

    is_random = True

    def __init__(self, config: AttentionRnnTimeSeriesConfig) -> None:
        super().__init__(config)
        self.others = len(self.levels) - 1
        self.middle = min(range(len(self.levels)), key=lambda index: abs(self.levels[index] - 0.5))

    def params(self, first: Tensor, others: Tensor) -> Params:
        distances, first = softplus(others), first[..., None]
        below = first - distances[..., : self.middle].flip(-1).cumsum(-1).flip(-1)
        above = first + distances[..., self.middle :].cumsum(-1)
        return torch.cat([below, first, above], dim=-1).unbind(-1)

    def mean(self, params: Params) -> Tensor:
        return params[self.middle]

    def quantiles(self, params: Params, scale: Tensor) -> Tensor:
        return torch.stack(params, dim=-1)

    def sample(self, params: Params, scale: Tensor, generator: torch.Generator | None) -> Tensor:
        if len(params) == 1:
            return params[0]
        quantiles, levels = torch.stack(params, dim=-1), self._levels(params[0])
        probability = torch.rand(params[0].shape, generator=generator, device=levels.device, dtype=levels.dtype)
        lower = (torch.bucketize(probability, levels) - 1).clamp(0, len(levels) - 2)
        share = (probability - levels[lower]) / (levels[lower + 1] - levels[lower])
        low, high = (quantiles.gather(-1, index[..., None])[..., 0] for index in (lower, lower + 1))
        return low + share * (high - low)

    def loss(self, params: Params, target: Tensor, scale: Tensor) -> Tensor:
        error = (target[..., None] - torch.stack(params, dim=-1)) * scale[..., None]
        levels = self._levels(target)
        return 2 * torch.maximum(levels * error, (levels - 1) * error).mean(dim=-1)

    def log_likelihood(self, params: Params, target: Tensor, scale: Tensor) -> Tensor:
        """The density is constant between two quantiles, and falls exponentially beyond the outer ones."""
        quantiles, levels = torch.stack(params, dim=-1), self._levels(target)
        densities = levels.diff() / quantiles.diff(dim=-1).clamp(min=torch.finfo(quantiles.dtype).tiny)
        interval = (target[..., None] > quantiles).sum(dim=-1)[..., None]  # 0 below all of them
        density = densities.gather(-1, (interval - 1).clamp(0, len(levels) - 2))
        mass = torch.where(interval == 0, levels[0], 1 - levels[-1])
        beyond = (quantiles[..., :1] - target[..., None]).clamp(min=0) + (
            target[..., None] - quantiles[..., -1:]
        ).clamp(min=0)
        return (density.log() - beyond * density / mass)[..., 0] - scale.log()


class NormalOutput(PointOutput):
    """A normal distribution: mean, standard deviation. The loss is the negative log likelihood, in nats."""

    others = 1
    is_random = True
    farthest = FARTHEST

    def params(self, first: Tensor, others: Tensor) -> Params:
        return first, softplus(others[..., 0]) + SMALLEST

    def quantiles(self, params: Params, scale: Tensor) -> Tensor:
        mean, deviation = params
        return mean[..., None] + deviation[..., None] * torch.special.ndtri(self._levels(mean))

    def sample(self, params: Params, scale: Tensor, generator: torch.Generator | None) -> Tensor:
        mean, deviation = params
        return mean + deviation * _normal(mean, generator)

    def loss(self, params: Params, target: Tensor, scale: Tensor) -> Tensor:
        mean, deviation = params
        return scale.log() - Normal(mean, deviation, validate_args=False).log_prob(target)


class StudentTOutput(PointOutput):
    """
    Student's t distribution: degrees of freedom, more than 2; mean; scale. For outliers. The loss is the negative log
    likelihood, in nats.
    """

    others = 2
    is_random = True
    farthest = FARTHEST

    def params(self, first: Tensor, others: Tensor) -> Params:
        return 2 + SMALLEST + softplus(others[..., 1]), first, softplus(others[..., 0]) + SMALLEST

    def mean(self, params: Params) -> Tensor:
        return params[1]

    def quantiles(self, params: Params, scale: Tensor) -> Tensor:
        freedom, mean, spread = (param[..., None] for param in params)
        return mean + spread * student_t_quantile(self._levels(mean), freedom)

    def sample(self, params: Params, scale: Tensor, generator: torch.Generator | None) -> Tensor:
        freedom, mean, spread = params
        chi_squared = 2 * torch._standard_gamma(freedom / 2, generator=generator)
        return mean + spread * _normal(mean, generator) * (freedom / chi_squared).sqrt()

    def loss(self, params: Params, target: Tensor, scale: Tensor) -> Tensor:
        freedom, mean, spread = params
        return scale.log() - StudentT(freedom, mean, spread, validate_args=False).log_prob(target)


class NegativeBinomialOutput(PointOutput):
    """
    A negative binomial distribution, for counts: mean, and dispersion a, with the variance m + a m^2 of the counts
    themselves (Salinas et al., 2020, https://arxiv.org/abs/1704.04110, section 3.1). The loss is the negative log
    likelihood, in nats.
    """

    others = 1
    is_random = True
    is_whole = True

    def link(self, first: Tensor) -> Tensor:
        return softplus(first)

    def params(self, first: Tensor, others: Tensor) -> Params:
        return first + SMALLEST, softplus(others[..., 0]) + SMALLEST

    def quantiles(self, params: Params, scale: Tensor) -> Tensor:
        mean, dispersion = params
        levels = self._levels(mean)
        mean = mean * scale
        units = (mean / COUNTS).clamp(min=1)
        counts = negative_binomial_quantile(levels, (mean / units)[..., None], 1 / dispersion[..., None])
        return counts * (units / scale)[..., None]

    def sample(self, params: Params, scale: Tensor, generator: torch.Generator | None) -> Tensor:
        mean, dispersion = params
        rate = torch._standard_gamma(1 / dispersion, generator=generator) * dispersion * mean * scale
        return torch.poisson(rate, generator=generator) / scale

    def loss(self, params: Params, target: Tensor, scale: Tensor) -> Tensor:
        mean, dispersion = params
        logits = (mean * scale * dispersion).log()
        counts = NegativeBinomial(1 / dispersion, logits=logits, validate_args=False)
        return -counts.log_prob((target * scale).round())


DISTRIBUTIONS: dict[str, Any] = {  # classes, made of a config alone
    "quantile": QuantileOutput,
    "student_t": StudentTOutput,
    "normal": NormalOutput,
    "negative_binomial": NegativeBinomialOutput,
    "point": PointOutput,
}


def student_t_quantile(level: Tensor, freedom: Tensor) -> Tensor:
    """
    Quantiles of Student's t distribution, which torch lacks, by the expansions of Hill (1970, Algorithm 396,
    Communications of the ACM 13). Where `freedom` is 2 or more they are off by less than 0.2 %.

    Args:
        level: between 0 and 1.
        freedom: degrees of freedom, which broadcast with `level`.
    """
    tail = 2 * torch.minimum(level, 1 - level)  # the probability beyond the quantile on both sides
    a = 1 / (freedom - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * (a * math.pi / 2).sqrt() * freedom
    y = (d * tail) ** (2 / freedom)
    # near the middle, an expansion around the normal quantile; in the tails, one in the tail's probability
    x = torch.special.ndtri(0.5 * tail)
    z = x**2
    c = torch.where(freedom < 5, c + 0.3 * (freedom - 4.5) * (x + 0.6), c)
    c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
    middle = torch.expm1(a * ((((((0.4 * z + 6.3) * z + 36) * z + 94.5) / c - z - 3) / b + 1) * x) ** 2)
    tails = (
        (1 / (((freedom + 6) / (freedom * y) - 0.089 * d - 0.822) * (freedom + 2) * 3) + 0.5 / (freedom + 4)) * y - 1
    ) * (freedom + 1) / (freedom + 2) + 1 / y
    size = (freedom * torch.where(y > 0.05 + a, middle, tails)).sqrt()
    return size * torch.sign(level - 0.5)


def negative_binomial_quantile(level: Tensor, mean: Tensor, count: Tensor) -> Tensor:
    """
    Quantiles of the negative binomial distribution, which torch lacks: the smallest count k with

        P(K <= k) = I_p(r, k + 1) >= level,  p = r / (r + mean)

    by bisection; I is the regularized incomplete beta function.

    Args:
        level: between 0 and 1.
        mean: of the counts, up to about `COUNTS`.
        count: r, the number of successes, the inverse of the dispersion.
    """
    dtype = mean.dtype
    level, mean, count = torch.broadcast_tensors(level.double(), mean.double(), count.double())
    deviation = (mean + mean**2 / count).sqrt()
    low, high = torch.full_like(mean, -1), (mean + deviation * (1 - level).rsqrt()).ceil()  # Cantelli's inequality
    for _ in range(int(high.max().clamp(min=1).log2()) + 2 if high.numel() else 0):
        middle = ((low + high) / 2).floor()
        reaches = regularized_incomplete_beta(count, middle + 1, count / (count + mean)) >= level
        low, high = torch.where(reaches, low, middle), torch.where(reaches, middle, high)
    return high.to(dtype)


def regularized_incomplete_beta(a: Tensor, b: Tensor, x: Tensor, terms: int = 200) -> Tensor:
    """I_x(a, b) by its continued fraction (https://dlmf.nist.gov/8.17#v), from the last of `terms` to the first."""
    swapped = x > (a + 1) / (a + b + 2)  # where it would converge slowly: I_x(a, b) = 1 - I_{1-x}(b, a)
    a, b, x = torch.where(swapped, b, a), torch.where(swapped, a, b), torch.where(swapped, 1 - x, x)
    fraction = torch.ones_like(x)
    for m in range(terms, 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        fraction = 1 + odd / (1 + even / fraction)
    log_beta = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
    value = torch.exp(a * x.log() + b * torch.log1p(-x) - log_beta) / (a * fraction)
    return torch.where(swapped, 1 - value, value)


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)
