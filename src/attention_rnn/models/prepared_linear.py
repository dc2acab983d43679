"""
Linear layers for many calls with the same weights: laid out once, and the part that reads the context made once.

Fast paths take the weights out of a layer instead of calling it. They may do so only where the call is nothing but the
product, which `is_plain` tells: hooks, adapters, quantised, pruned or offloaded weights and subclasses get their call.
"""

import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

# A smaller matrix gains nothing from oneDNN.
MIN_WEIGHTS = 2**16
# Nor do fewer multiplications, rows x weights: each call costs as much as some of them.
MIN_PRODUCTS = 2**20
# In a smaller one, the rounding of what it is multiplied with takes more time than eight bits save.
MIN_INT8_WEIGHTS = 2**18


def is_plain(module: Any, kinds: tuple[type, ...] = (nn.Linear,)) -> bool:
    """Whether a call of `module` is a product with its weight, plus its bias, and nothing more."""
    return type(module) in kinds and type(module.weight) is nn.Parameter and not is_intercepted(module)


class Int8Linear(nn.Linear):
    """
    A linear layer that multiplies in eight bits outside of training, on a CPU: the weights rounded for each output, the
    inputs as they come (dynamic quantisation). The parameters are those of a linear layer.

    The rounded weights are kept, since rounding takes as long as a hundred products: of the whole matrix, and of what
    is left of it where some columns are multiplied elsewhere.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training or is_watched():
            return super().forward(inputs)
        return self.prepare()(inputs)

    def prepare(self, start: int = 0, stop: int = 0) -> Callable[[Tensor], Tensor]:
        """The product without the columns from `start` to `stop`."""
        state = [(part.data_ptr(), part._version) for part in (self.weight, self.bias) if part is not None]
        rounded = vars(self).setdefault("_rounded", {})
        known_state, product = rounded.get((start, stop), (None, None))
        if known_state != state:  # another thread that does the same does no harm
            product = prepare_int8_product(without_columns(self.weight, start, stop), self.bias)
            rounded[start, stop] = state, product
        return product

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_rounded"}


def without_columns(weight: Tensor, start: int, stop: int) -> Tensor:
    """(output, input) without the columns from `start` to `stop`."""
    return weight if start == stop else torch.cat([weight[:, :start], weight[:, stop:]], dim=1)


def prepare_int8_product(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """As `prepare_product`, in eight bits."""
    weight = weight.detach()
    scale = weight.abs().amax(dim=1).clamp(min=1e-8) / 127
    zero = torch.zeros(len(weight), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # torch announces a successor, torchao, which has no eager int8 products for CPUs
        rounded = torch.quantize_per_channel(weight, scale.double(), zero, 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(rounded, None if bias is None else bias.detach())
    # seven bits of the inputs, since processors without VNNI add two products in sixteen bits
    return lambda inputs: torch.ops.quantized.linear_dynamic(inputs, packed, reduce_range=True)


def is_intercepted(module: nn.Module) -> bool:
    """Whether somebody has put something of his own around the call of this module: a hook, or another `forward`."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in vars(module)
        or module._compiled_call_impl
    )


def is_watched() -> bool:
    """Whether operators are recorded or transformed by torch, which then should see plain ones and reads no values."""
    transforms = getattr(torch._C, "_are_functorch_transforms_active", lambda: False)  # torch.func has no public sign
    return torch.compiler.is_compiling() or torch.jit.is_tracing() or transforms()


def prepare_product(
    weight: Tensor, bias: Tensor | None, rows: int, dtype: torch.dtype | None = None
) -> Callable[[Tensor], Tensor]:
    """
    `x -> x W^T + b`, without gradients, for many `x` (rows, input) and the same weights.

    In single precision on a CPU, oneDNN is faster than the library behind `linear`, by up to two times on an AMD
    processor, and equally precise; the weights are laid out for it once. Not so for a single row, which meets each
    weight once in whatever order they lie.

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
    if not _prefers_onednn(weight, rows):
        return lambda inputs: linear(inputs, weight, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
    return lambda inputs: torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, "none", [], "")


def product_dtype(weight: Tensor) -> torch.dtype:
    """The precision of products with `weight`: what autocast asks for, or else its own."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def _prefers_onednn(weight: Tensor, rows: int) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and weight.numel() >= MIN_WEIGHTS
        and rows > 1
        and rows * weight.numel() >= MIN_PRODUCTS
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


class PreparedLinear(nn.Module):
    """
    A plain linear layer for many calls without gradients.

    Args:
        layer: the layer, which stays as it is.
        rows: the number of rows of most calls.
    """

    # the columns that are multiplied elsewhere, from the first up to the second
    elsewhere: tuple[int, int] = (0, 0)

    def __init__(self, layer: nn.Linear, rows: int) -> None:
        super().__init__()
        self.layer, self.rows = layer, rows

    @property
    def weight(self) -> Tensor:
        """What the inputs are multiplied with."""
        return without_columns(self.layer.weight, *self.elsewhere)

    @cached_property
    def _prepared(self) -> Callable[[Tensor], Tensor]:
        weight = self.weight
        if isinstance(self.layer, Int8Linear) and weight.numel() >= MIN_INT8_WEIGHTS:
            return self.layer.prepare(*self.elsewhere)
        return prepare_product(weight, self.layer.bias, self.rows)

    def product(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.weight, self.layer.bias) if is_watched() else self._prepared(inputs)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.product(inputs)


class ContextReader(PreparedLinear):
    """
    A plain linear layer that reads the context among other inputs, and here finds its product with the context in the
    place of the context.

    The context is a mean of the memory, weighted by the attention, so its product with a matrix is the same mean of the
    memory's products. These are made once for each position of the source, for all readers side by side, and take the
    place of the memory's values, which spares a product at each step.

    Args:
        start: the column at which the context starts.
        size: the size of the context.
        place: where the products of this layer lie in those of all readers, and the width of all, (offset, all).
    """

    def __init__(self, layer: nn.Linear, rows: int, start: int, size: int, place: tuple[int, int]) -> None:
        super().__init__(layer, rows)
        self.elsewhere, self.place = (start, start + size), place

    def of_memory(self, values: Tensor) -> Tensor:
        """The products with what lies at each position, (sources, source, value) -> (sources, source, output)."""
        return linear(values, self.layer.weight[:, slice(*self.elsewhere)])

    def forward(self, inputs: Tensor) -> Tensor:
        start = self.elsewhere[0]
        before, contexts, after = inputs.tensor_split((start, start + self.place[1]), dim=-1)
        own = contexts[..., self.place[0] : self.place[0] + self.layer.out_features]
        return self.product(torch.cat([before, after], dim=-1)) + own
