"""
The decoding state as a transformers cache: constant in size, whatever the length of the target.

`generate` builds an `EncoderDecoderCache` of two caches with one layer per decoder layer, taken from the registry of
layer types (`layer_types` of the config). Importing this file puts the two classes below into that registry.

- Self-attention half: layer l holds the state of the decoder's layer l in `keys`; the `values` of layer 0 hold what is
  fed back to the next input, those of the others are zero wide. All are (batch, 1, steps, width) with one step, the
  last, except while the past is recorded.
- Cross-attention half: layer 0 holds the attention's keys and the memory, (batch, 1, source, width), made once.

The functions at the end read and write it; the decoder knows nothing else of a cache.
"""

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, EncoderDecoderCache, StaticLayer
from transformers.modeling_outputs import Seq2SeqLMOutput

from .configuration_decoder import CACHE_NAMES, LAYER_TYPE, AttentionRnnDecoderConfig

# what the transformers that is installed calls it in outputs and arguments
CACHE = next(field.name for field in fields(Seq2SeqLMOutput) if field.name in CACHE_NAMES)


class RecurrentStateLayer(CacheLayerMixin):
    """The cache layer of one recurrent layer: the last state instead of a growing list of keys and values."""

    _layer_type = LAYER_TYPE
    is_croppable = True
    is_sliding = False
    keys: Any  # a tensor, or None before the first update
    values: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.record_past = False
        # a tensor, as an exported graph could not count a number on; on the CPU, where reading it does not wait
        self.seen_tokens = torch.zeros((), dtype=torch.long, device="cpu")

    def activate_past_recording(self) -> None:
        """Keep the state after every token until the next `crop`, so that assisted decoding can take tokens back."""
        self.record_past = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, keep_all: bool = False, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            key_states: the state after each new token, (batch, 1, steps, state).
            value_states: what each new token feeds back, (batch, 1, steps, fed); its width may be zero.
            keep_all: hold every step, not just the last (the memory of a source).

        Returns:
            What is held now.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        seen_tokens = torch.zeros_like(self.seen_tokens) if keep_all else self.seen_tokens
        self.seen_tokens = seen_tokens + key_states.shape[-2]
        if self.record_past and self.keys is not None:
            key_states = torch.cat([self.keys, key_states], dim=-2)
            value_states = torch.cat([self.values, value_states], dim=-2)
        if not (self.record_past or keep_all):
            key_states, value_states = key_states[..., -1:, :], value_states[..., -1:, :]
        self.keys, self.values = key_states, value_states
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return int(self.seen_tokens)

    def get_max_length(self) -> int:
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def reset(self) -> None:
        self.keys = self.values = None
        self.is_initialized = False
        self.seen_tokens = torch.zeros_like(self.seen_tokens)

    def crop(self, tokens_to_remove: int) -> None:
        """
        Take tokens back: `-n` removes the last n, a positive number is the length to keep. States older than the last
        one left are dropped.

        Raises:
            RuntimeError: these tokens' states were not recorded.
        """
        if not self.is_initialized:
            return
        seen_tokens = self.get_seq_length()
        removed = max(seen_tokens - tokens_to_remove, 0) if tokens_to_remove > 0 else -tokens_to_remove
        if removed == seen_tokens:
            self.reset()
            return
        kept = self.keys.shape[-2] - removed
        if kept < 1:
            raise RuntimeError(
                f"Cannot remove {removed} tokens from a recurrent state of which the last {self.keys.shape[-2]} are "
                "recorded. Call `activate_past_recording` on the cache before these tokens are read."
            )
        self.keys, self.values = self.keys[..., kept - 1 : kept, :], self.values[..., kept - 1 : kept, :]
        self.seen_tokens = self.seen_tokens - removed

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.is_initialized:
            self.keys = self.keys.repeat_interleave(repeats, dim=0)
            self.values = self.values.repeat_interleave(repeats, dim=0)

    def batch_select_indices(self, indices: Tensor) -> None:
        if self.is_initialized:
            self.keys, self.values = self.keys[indices], self.values[indices]


class StaticRecurrentStateLayer(StaticLayer):
    """The same with tensors that stay at one address and are written in place, for `torch.compile`."""

    _layer_type = LAYER_TYPE
    keys: Any  # a tensor, or None before the first update
    values: Any

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = torch.empty_like(key_states), torch.empty_like(value_states)
        self.cumulative_length = self.cumulative_length.to(self.device)
        if not torch.compiler.is_compiling():
            for tensor in (self.keys, self.values, self.cumulative_length):
                torch._dynamo.mark_static_address(tensor)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, keep_all: bool = False, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """As `RecurrentStateLayer.update`."""
        steps = key_states.shape[-2]
        if not keep_all:
            key_states, value_states = key_states[..., -1:, :], value_states[..., -1:, :]
        if not self.is_initialized or self.keys.shape != key_states.shape:
            self.lazy_initialization(key_states, value_states)
        self.cumulative_length.add_(steps)
        self.keys.copy_(key_states)
        self.values.copy_(value_states)
        return self.keys, self.values


def takes_cache(forward: Callable) -> Callable:
    """Let a `forward` take the cache as `cache` as well, and not only as `past_key_values`."""

    @wraps(forward)
    def taking(self: Any, *args: Any, cache: Cache | None = None, **kwargs: Any) -> Any:
        if cache is not None:
            if kwargs.get("past_key_values") is not None:
                raise ValueError("Give at most one of `cache` and `past_key_values`, which are the same.")
            kwargs["past_key_values"] = cache
        return forward(self, *args, **kwargs)

    return taking


def cache_field(cache: Cache | None) -> dict[str, Any]:
    """The cache as an argument of one of transformers' output classes."""
    return {CACHE: cache}


def new_cache(config: AttentionRnnDecoderConfig) -> EncoderDecoderCache:
    """An empty decoding state."""
    return EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))


def is_filled(cache: Cache | None) -> bool:
    """
    Whether the cache holds the state of a decoder that has begun.

    Raises:
        TypeError: it is a cache of another kind.
    """
    if cache is None:
        return False
    layers: Any = cache.self_attention_cache.layers if isinstance(cache, EncoderDecoderCache) else []
    kinds = [getattr(layer, "_layer_type", type(layer).__name__) for layer in layers]
    if set(kinds) != {LAYER_TYPE}:
        raise TypeError(
            "`past_key_values` must be a cache that the model returned, or an empty one of its config, "
            "`EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))`: the state of each layer, "
            f"with no keys and values of past tokens; got {type(cache).__name__} with the layers {kinds}."
        )
    # the state may have been cropped away while the memory is still there
    return bool(getattr(cache, "is_updated", {}).get(0)) and layers[0].is_initialized


def read_memory(cache: EncoderDecoderCache) -> tuple[Tensor, Tensor]:
    """The attention's keys (batch, source, key) and the memory (batch, source, memory)."""
    layer: Any = cache.cross_attention_cache.layers[0]
    return layer.keys[:, 0], layer.values[:, 0]


def write_memory(cache: EncoderDecoderCache, keys: Tensor, memory: Tensor) -> None:
    """Leave what `read_memory` reads."""
    cache.cross_attention_cache.update(keys[:, None], memory[:, None], 0, keep_all=True)
    cache.is_updated[0] = True


def read_states(cache: EncoderDecoderCache) -> tuple[list[Tensor], Tensor]:
    """The state of each layer after the last token, (batch, state), and what it feeds back, (batch, 1, fed)."""
    layers: Any = cache.self_attention_cache.layers
    return [layer.keys[:, 0, -1] for layer in layers], layers[0].values[:, 0, -1:]


def write_states(cache: EncoderDecoderCache, states: list[Tensor], fed: Tensor) -> None:
    """Leave the states of each layer after each token, (batch, target, state), and what it feeds back."""
    for index, state in enumerate(states):
        values = fed if index == 0 else state[..., :0]
        cache.self_attention_cache.update(state[:, None], values[:, None], index)
