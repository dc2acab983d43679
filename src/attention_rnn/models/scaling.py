"""What is subtracted from each series, and by what it is divided, so that series of all sizes look alike."""

import torch
from torch import Tensor

# The deviation of a series is at least so many units in the last place of its values: below that is rounding.
FLAT_UNITS = 8


def location_and_scale(values: Tensor, scaling: str | None) -> tuple[Tensor, Tensor]:
    """
    Of each series, from its observed values alone. By `scaling`:

    - `"std"`: mean and standard deviation;
    - `"last"`: last value and 1;
    - `"last_std"`: last value and standard deviation;
    - `"mean"`: 0 and mean absolute value;
    - `None`: 0 and 1.

    A deviation is no smaller than rounding, about 1e-6 of the largest absolute value in single precision, so what is
    forecast of a constant series is constant. Where all are zero, or none is observed, a mean absolute value is 1.

    Args:
        values: (batch, time, channels), NaN where missing.

    Returns:
        The location and the scale, (batch, 1, channels).
    """
    observed = ~values.isnan()
    filled = values.where(observed, 0)
    zeros = torch.zeros_like(values[:, :1])
    if scaling is None:
        return zeros, zeros + 1
    # (batch, 1, channels) all of them; no sum of values overflows, or of their squares
    count = observed.sum(dim=1, keepdim=True).clamp(min=1)
    largest = filled.abs().amax(dim=1, keepdim=True)
    size = largest.where(largest > 0, 1)
    if scaling == "mean":
        absolute = (filled / size).abs().sum(dim=1, keepdim=True) / count
        return zeros, absolute.where(largest > 0, 1) * size
    location = (filled / size).sum(dim=1, keepdim=True) / count * size
    deviations = ((filled - location) / size).where(observed, 0)
    if scaling in ("last", "last_std"):
        position = torch.arange(values.shape[1], device=values.device)[None, :, None]
        last = torch.where(observed, position, 0).amax(dim=1, keepdim=True)
        location = filled.gather(1, last)
    if scaling == "last":
        return location, zeros + 1
    variance = deviations.square().sum(dim=1, keepdim=True) / count
    smallest = FLAT_UNITS * torch.finfo(values.dtype).eps
    return location, variance.clamp(min=smallest**2).sqrt() * size  # a root has no gradient at zero
