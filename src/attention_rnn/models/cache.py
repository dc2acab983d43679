"""
The decoding state as a transformers cache: constant in size, whatever the length of the target.

`generate` builds an `EncoderDecoderCache` of two caches with one layer per decoder layer, taken from the registry of
layer types (`AttentionRnnConfig.layer_types`). Importing this file puts the two classes below into that registry.

- Self-attention half: layer l holds the state of the decoder's layer l in `keys`, and in `values` what is fed back to
  its next input. Both are (batch, 1, steps, width) with one step, the last, except while the past is recorded.
- Cross-attention half: layer 0 holds the attention's keys and the memory, (batch, 1, source, width), made once.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin, StaticLayer

LAYER_TYPE = "attention_rnn"


class RecurrentStateLayer(CacheLayerMixin):
    """The cache layer of one recurrent layer: the last state instead of a growing list of keys and values."""

    _layer_type = LAYER_TYPE
    is_croppable = True
    is_sliding = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self.seen_tokens = 0
        self.record_past = False

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
        self.seen_tokens += key_states.shape[-2]
        if self.record_past and self.keys is not None:
            key_states = torch.cat([self.keys, key_states], dim=-2)
            value_states = torch.cat([self.values, value_states], dim=-2)
        if not (self.record_past or keep_all):
            key_states, value_states = key_states[..., -1:, :], value_states[..., -1:, :]
        self.keys, self.values = key_states, value_states
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.seen_tokens

    def get_max_length(self) -> int:
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.seen_tokens + query_length, 0

    def reset(self) -> None:
        self.keys = self.values = None
        self.is_initialized = False
        self.seen_tokens = 0

    def crop(self, tokens_to_remove: int) -> None:
        """
        Take tokens back: `-n` removes the last n, a positive number is the length to keep. States older than the last
        one left are dropped.

        Raises:
            RuntimeError: these tokens' states were not recorded.
        """
        if not self.is_initialized:
            return
        removed = max(self.seen_tokens - tokens_to_remove, 0) if tokens_to_remove > 0 else -tokens_to_remove
        kept = self.keys.shape[-2] - removed
        if kept < 1:
            raise RuntimeError(
                f"Cannot remove {removed} tokens from a recurrent state of which the last {self.keys.shape[-2]} are "
                "recorded. Call `activate_past_recording` on the cache before these tokens are read."
            )
        self.keys, self.values = self.keys[..., kept - 1 : kept, :], self.values[..., kept - 1 : kept, :]
        self.seen_tokens -= removed

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
