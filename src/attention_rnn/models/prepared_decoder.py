"""
A decoder made ready for many steps with the same weights and the same sources.

Large matrices are laid out once, see `products.py`. And since the context is a mean of the memory, weighted by the
attention, its product with a matrix is the same mean of the memory's products: these are made once for each position
of the source and take the place of the memory's values, which spares a product at each step.
"""

import copy
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .attention import Memory, MultiHeadAttention
from .decoder import AttentionRnnDecoder
from .products import MIN_WEIGHTS, prepare_product


class PreparedLinear(nn.Module):
    """
    A linear layer for many calls without gradients.

    Args:
        layer: the layer, which stays as it is.
        rows: the number of rows of most calls.
    """

    def __init__(self, layer: nn.Linear, rows: int) -> None:
        super().__init__()
        self.layer, self.rows = layer, rows

    @cached_property
    def product(self) -> Callable[[Tensor], Tensor]:
        return prepare_product(self.layer.weight, self.layer.bias, self.rows)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.product(inputs)


class ContextReader(PreparedLinear):
    """
    A linear layer that reads the context among other inputs, and here finds the product with the context in its place.

    Args:
        start: the column at which the context starts.
        size: the size of the context.
    """

    def __init__(self, layer: nn.Linear, rows: int, start: int, size: int) -> None:
        super().__init__(layer, rows)
        self.start, self.stop = start, start + size

    def of_memory(self, values: Tensor) -> Tensor:
        """The products with what lies at each position, (sources, source, value) -> (sources, source, output)."""
        return linear(values, self.layer.weight[:, self.start : self.stop])

    @cached_property
    def product(self) -> Callable[[Tensor], Tensor]:
        weight = self.layer.weight
        others = torch.cat([weight[:, : self.start], weight[:, self.stop :]], dim=1)
        return prepare_product(others, self.layer.bias, self.rows)

    def forward(self, inputs: Tensor) -> Tensor:
        of_context = self.start + self.layer.out_features
        others = torch.cat([inputs[:, : self.start], inputs[:, of_context:]], dim=1)
        return self.product(others) + inputs[:, self.start : of_context]


class Prepared(NamedTuple):
    """What `prepare` returns: twins with the parameters of the decoder and of its `lm_head`, and what they look at."""

    decoder: Any
    lm_head: nn.Module
    memory: Memory
    # The attention of the twin returns side by side, in this order, what each matrix that reads the context adds to
    # its product; these are the sizes. `None` where it returns the context, which all of them read.
    context_sizes: list[int] | None


def prepare(decoder: AttentionRnnDecoder, lm_head: nn.Module, memory: Memory, rows: int, steps: int) -> Prepared:
    """
    Make a decoder in evaluation mode ready, which stays as it is itself.

    Args:
        memory: keys, values and mask of each source.
        rows: the number of hypotheses about all sources.
        steps: the number of steps to come, at most.
    """
    if torch.is_autocast_enabled(memory.values.device.type):
        return Prepared(decoder, lm_head, memory, None)  # there every product is autocast's own affair
    modules: list[Any] = [*decoder.modules(), lm_head]
    replaced: dict[nn.Module, nn.Module] = {
        module: PreparedLinear(module, rows)
        for module in modules
        if _is_plain(module) and module.weight.numel() >= MIN_WEIGHTS
    }
    context_sizes = None
    readers = _context_readers(decoder, rows)
    if readers and memory.values.shape[:2].numel() <= rows * steps:  # else no target would repay it
        values = torch.cat([reader.of_memory(memory.values) for reader in readers], dim=-1)
        memory = memory._replace(values=values)
        context_sizes = [reader.layer.out_features for reader in readers]
        replaced |= {reader.layer: reader for reader in readers}
    return Prepared(_twin(decoder, replaced), _twin(lm_head, replaced), memory, context_sizes)


def _context_readers(decoder: AttentionRnnDecoder, rows: int) -> list[ContextReader]:
    """The matrices that read the context, in the order of the decoder; none unless all are plain matrices."""
    config = decoder.config
    after_output = config.hidden_size  # where the context starts that follows the output of a layer
    layers: list[Any] = list(decoder.layers)[1:] if config.context_feeding == "parallel" else []
    places = [(layer.cell.input_to_hidden, after_output) for layer in layers]
    if decoder.context_layer is not None:
        places.append((decoder.context_layer.cell.input_to_hidden, 0))
    places.append((decoder.readout.projection, after_output))
    if decoder.copy_gate is not None:
        places.append((decoder.copy_gate.projection, 0))
    # multi-head attention has a matrix of its own after the mean; a layer norm takes the context as it is
    is_mean = decoder.attention is not None and not isinstance(decoder.attention, MultiHeadAttention)
    if not is_mean or config.layer_norm or not all(_is_plain(layer) for layer, _ in places):
        return []
    return [ContextReader(layer, rows, start, config.context_size) for layer, start in places]


def _is_plain(module: Any) -> bool:
    # a matrix that is quantised or adapted multiplies in its own way; halves are rounded where the model rounds them
    plain = type(module) is nn.Linear and type(module.weight) is nn.Parameter
    return plain and module.weight.dtype in (torch.float32, torch.float64)


def _twin(module: nn.Module, replaced: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """A module of the same parameters, some of its descendants replaced. `module` itself stays as it is."""
    if module in replaced:
        return replaced[module]
    children = {name: child and _twin(child, replaced) for name, child in module._modules.items()}
    if all(child is module._modules[name] for name, child in children.items()):
        return module
    twin = copy.copy(module)
    twin._modules = children
    return twin
