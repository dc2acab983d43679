"""Products of many small batches with one matrix, as fast as the CPU has them."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

# A smaller matrix gains nothing from oneDNN.
MIN_WEIGHTS = 2**16


def prepare_product(
    weight: Tensor, bias: Tensor | None, rows: int, dtype: torch.dtype | None = None
) -> Callable[[Tensor], Tensor]:
    """
    `x -> x W^T + b`, without gradients, for many `x` (rows, input) and the same weights.

    In single precision on a CPU, oneDNN is faster than the library behind `linear`, by 1.1 to 1.9 on an AMD processor,
    and equally precise; the weights are laid out for it once.

    Args:
        weight: (output, input).
        bias: (output,).
        rows: how many there will mostly be.
        dtype: the precision of the product; what goes in and comes out has that of the weights, which is the default.
    """
    dtype = weight.dtype if dtype is None else dtype
    low_weight, low_bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    if dtype != weight.dtype:
        return lambda inputs: linear(inputs.to(dtype), low_weight, low_bias).to(weight.dtype)
    if not _prefers_onednn(weight):
        return lambda inputs: linear(inputs, weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
    return lambda inputs: torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, "none", [], "")


def _prefers_onednn(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and weight.numel() >= MIN_WEIGHTS
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )
