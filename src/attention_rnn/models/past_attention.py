"""
Attention of a recurrent language model over its own past outputs, and the cache layer that keeps these.

The past is a shift register: a real token pushes one entry to its end, padding pushes none, and a window drops the
oldest. So it is a part of the recurrent state: padding, holes and cuts in the text change nothing.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from .attention import ATTENTIONS, Memory, close_holes, open_holes, token_slots
from .cache import RecurrentStateLayer, StaticRecurrentStateLayer
from .configuration_attention_rnn import AttentionRnnConfig
from .configuration_decoder import LAYER_TYPE_WITH_PAST

# So many steps, or as many as the window is wide, look at their past together.
MIN_STEPS = 16
STEPS_WITHOUT_WINDOW = 64


class KeyValuePredictAttention(nn.Module):
    """
    Attention over the last `past_attention_window` outputs, each split into a key, a value and a part that predicts
    (Daniluk, Rocktäschel, Welbl and Riedel, 2017, https://arxiv.org/abs/1702.04521, section 2.3):

        [k_t; v_t; p_t] = h_t,  weights_t = softmax_{j < t}(score(k_t, k_j)),  r_t = sum_j weights_tj v_j
        vector_t = tanh(W [p_t; r_t] + b)

    The score is `attention_type`, the paper's is `"additive"`. The first token has no past, r_1 = 0.

    An entry of the past is [1; key; value], (past, 1 + key + value), its key projected as the score wants it. The one
    says that the entry is there: where rows have read more or fewer tokens, zeros stand before the shorter ones.
    """

    def __init__(self, config: AttentionRnnConfig) -> None:
        super().__init__()
        window = config.past_attention_window
        self.window = window if isinstance(window, int) else None  # "all"
        part = config.hidden_size // 3
        sizes = AttentionRnnConfig(
            hidden_size=part,
            attention_type=config.attention_type,
            attention_size=config.attention_size,
            bidirectional=False,
            recurrence_backend=config.recurrence_backend,
        )
        attention_type: Any = config.attention_type  # the config has seen to it that there is one
        self.attention = ATTENTIONS[attention_type](sizes)
        self.projection = nn.Linear(2 * part, config.embedding_size)

    def forward(
        self, outputs: Tensor, past: Tensor | None, mask: Tensor | None, output_attentions: bool
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """
        Args:
            outputs: of the last recurrent layer, (batch, length, hidden).
            past: what an earlier call returned, (batch, past, entry).
            mask: (batch, length), true at real tokens, or `None`.

        Returns:
            The vectors to predict from (batch, length, embedding). The weights, if wanted, (batch, 1, length, past +
            length): rows sum to one, or to zero where there is no past. The entries from now on, (batch, past + length,
            entry), the last of which are those of the last tokens.
        """
        queries, values, predict = outputs.chunk(3, dim=-1)
        keys, _ = self.attention.project(queries)
        entries = torch.cat([keys.new_ones(*keys.shape[:2], 1), keys, values], dim=-1)
        if mask is not None:
            entries, queries = close_holes(entries, mask), close_holes(queries, mask)
        past_length = 0 if past is None else past.shape[1]
        if past is not None:
            entries = torch.cat([past, entries], dim=1)
        contexts, weights = self._attend(queries, entries, past_length, output_attentions)
        if mask is not None:
            contexts = open_holes(contexts, mask)
            if weights is not None:
                weights = _open_weights(weights, mask, past_length)
            entries = _align_right(entries, padding=(~mask).sum(dim=1))
        return torch.tanh(self.projection(torch.cat([predict, contexts], dim=-1))), weights, entries

    def _attend(
        self, queries: Tensor, entries: Tensor, past: int, output_attentions: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Steps that are next to each other look at nearly the same past, so it is read for some of them together."""
        size = queries.shape[-1]
        exists, (keys, values) = entries[..., 0] > 0, entries[..., 1:].split([entries.shape[-1] - 1 - size, size], -1)
        steps = STEPS_WITHOUT_WINDOW if self.window is None else max(self.window, MIN_STEPS)
        contexts, all_weights = [], []
        for start in range(0, queries.shape[1], steps):
            query = queries[:, start : start + steps]
            first = 0 if self.window is None else max(0, past + start - self.window)
            seen = slice(first, past + start + query.shape[1])
            distance = torch.arange(past + start, seen.stop, device=query.device)[:, None]
            distance = distance - torch.arange(first, seen.stop, device=query.device)
            visible = distance > 0 if self.window is None else (distance > 0) & (distance <= self.window)
            visible = visible & exists[:, None, seen]  # (batch, steps, past)
            scores = self.attention.score(query, Memory(keys[:, seen], values[:, seen], None), query[:, :0])[:, 0]
            scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
            precision = torch.promote_types(scores.dtype, torch.float32)
            weights = torch.softmax(scores, dim=-1, dtype=precision).to(values.dtype)
            weights = weights * visible  # a row without past is zero
            contexts.append(weights @ values[:, seen])
            if output_attentions:
                all_weights.append(nn.functional.pad(weights, (first, entries.shape[1] - seen.stop)))
        return torch.cat(contexts, dim=1), torch.cat(all_weights, dim=1)[:, None] if output_attentions else None


class RecurrentStateWithPastLayer(RecurrentStateLayer):
    """The cache layer of the last recurrent layer: its state in `keys`, the entries of the past in `values`."""

    _layer_type = LAYER_TYPE_WITH_PAST

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, window: int | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            key_states: the state after each new token, (batch, 1, steps, state).
            value_states: the past from now on, (batch, 1, past, entry).
            window: how much of it is kept, unless the past is recorded.
        """
        self._drop_values()
        super().update(key_states, key_states[..., :0])
        self.values = value_states if window is None or self.record_past else value_states[..., -window:, :]
        return self.keys, self.values

    def crop(self, tokens_to_remove: int) -> None:
        seen, values = self.seen_tokens, self.values
        self._drop_values()
        super().crop(tokens_to_remove)
        if self.is_initialized:
            self.values = values[..., : values.shape[-2] - (seen - self.seen_tokens), :]

    def _drop_values(self) -> None:
        # for the class above, which keeps as many values as states
        if self.is_initialized:
            self.values = self.keys[..., :0]


class StaticRecurrentStateWithPastLayer(StaticRecurrentStateLayer):
    """The same with tensors that stay at one address. Without a window the past is as long as the cache may become."""

    _layer_type = LAYER_TYPE_WITH_PAST

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, window: int | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """As `RecurrentStateWithPastLayer.update`."""
        steps, slots = key_states.shape[-2], window or self.max_cache_len
        value_states = nn.functional.pad(value_states, (0, 0, slots, 0))[..., -slots:, :]
        super().update(key_states[..., -1:, :], value_states, keep_all=True)
        self.cumulative_length.add_(steps - 1)
        return self.keys, self.values


def read_past(cache: Cache) -> Tensor:
    """The entries of the past, (batch, past, entry)."""
    layer: Any = cache.layers[-1]
    return layer.values[:, 0]


def _open_weights(weights: Tensor, mask: Tensor, past: int) -> Tensor:
    """`open_holes` for both axes of weights (batch, 1, length, past + length); no padding has a weight."""
    columns = torch.cat([token_slots(mask).new_zeros(len(mask), past), past + token_slots(mask)], dim=1)
    columns[:, :past] = torch.arange(past, device=mask.device)
    is_real = torch.cat([mask.new_ones(len(mask), past), mask], dim=1)
    rows = open_holes(weights[:, 0], mask)
    opened = rows.gather(2, columns[:, None].expand_as(rows)) * is_real[:, None]
    return (opened * mask[..., None])[:, None]


def _align_right(entries: Tensor, padding: Tensor) -> Tensor:
    """Move (batch, length, width) by the `padding` at the end of each row, (batch,), to the right."""
    positions = torch.arange(entries.shape[1], device=entries.device) - padding[:, None]
    index = positions.clamp(min=0)[..., None].expand_as(entries)
    return entries.gather(1, index) * (positions >= 0)[..., None]
