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
# In a smaller one, the rounding of what it is multiplied with takes more time than eight bits save.
MIN_INT8_WEIGHTS = 2**18


def is_plain(module: Any, kinds: tuple[type, ...] = (nn.Linear,)) -> bool:
    """Whether a call of `module` is a product with its weight, plus its bias, and nothing more."""
    return type(module) in kinds and type(module.weight) is nn.Parameter and not is_intercepted(module)


class Int8Linear(nn.Linear):
    """
    A linear layer that multiplies in eight bits outside of training, on a CPU: the weights rounded for each output, the
    inputs as they come (dynamic quantisation). The parameters are those of a linear layer.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training or is_watched():
            return super().forward(inputs)
        weight, bias = self.weight, self.bias
        state = [(part.data_ptr(), part._version) for part in (weight, bias) if part is not None]
        packed = vars(self).get("_packed")
        if packed is None or packed[0] != state:  # another thread that does the same does no harm
            packed = self._packed = state, prepare_int8_product(weight, bias)
        return packed[1](inputs)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_packed"}


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
    packed = weight.contiguous()
    if rows > 1:  # a single row meets each weight once, in whatever order they lie
        packed = torch.ops.mkldnn._reorder_linear_weight(packed, rows)
    return lambda inputs: torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, "none", [], "")


def product_dtype(weight: Tensor) -> torch.dtype:
    """The precision of products with `weight`: what autocast asks for, or else its own."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def _prefers_onednn(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and weight.numel() >= MIN_WEIGHTS
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

    def __init__(self, layer: nn.Linear, rows: int) -> None:
        super().__init__()
        self.layer, self.rows = layer, rows

    @property
    def weight(self) -> Tensor:
        """What the inputs are multiplied with."""
        return self.layer.weight

    @cached_property
    def _prepared(self) -> Callable[[Tensor], Tensor]:
        weight, bias = self.weight, self.layer.bias
        if isinstance(self.layer, Int8Linear) and weight.numel() >= MIN_INT8_WEIGHTS:
            return prepare_int8_product(weight, bias)
        return prepare_product(weight, bias, self.rows)

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
        self.start, self.size, self.place = start, size, place

    def of_memory(self, values: Tensor) -> Tensor:
        """The products with what lies at each position, (sources, source, value) -> (sources, source, output)."""
        return linear(values, self.layer.weight[:, self.start : self.start + self.size])

    @property
    def weight(self) -> Tensor:
        weight = self.layer.weight
        return torch.cat([weight[:, : self.start], weight[:, self.start + self.size :]], dim=1)

    def forward(self, inputs: Tensor) -> Tensor:
        before, contexts, after = inputs.tensor_split((self.start, self.start + self.place[1]), dim=-1)
        own = contexts[..., self.place[0] : self.place[0] + self.layer.out_features]
        return self.product(torch.cat([before, after], dim=-1)) + own
