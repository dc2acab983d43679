"""Pooling: one vector of fixed size for a memory of any length."""

from typing import Any

import torch
from torch import Tensor, nn


class SelfAttentionPooling(nn.Module):
    """
    Additive self-attention (Lin et al., 2017, https://arxiv.org/abs/1703.03130, equations 6 and 7): each of
    `pooling_heads` heads weighs the positions of the memory H, and their means stand side by side.

        A = softmax(W2 tanh(W1 H^T)),  M = A H

    Initialised Xavier uniform.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.hidden = nn.Linear(config.memory_size, config.attention_size or config.hidden_size, bias=False)
        self.energy = nn.Linear(self.hidden.out_features, config.pooling_heads, bias=False)
        self.output_size = config.pooling_heads * config.memory_size

    def forward(self, memory: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """
        Args:
            memory: H, (batch, source, memory).
            mask: (batch, source), true at real tokens; `None` where there is no padding.

        Returns:
            M, (batch, heads * memory), and the weights A, (batch, heads, source), whose rows sum to one over the real
            tokens and are zero elsewhere.
        """
        scores = self.energy(torch.tanh(self.hidden(memory))).transpose(1, 2)  # (batch, heads, source)
        return _weighted_mean(scores, memory, mask)


class QueryPooling(nn.Module):
    """
    Attention whose query is made of the position in the middle (de Andrade et al., 2018,
    https://arxiv.org/abs/1808.08929): with m the number of real positions halved,

        weights = softmax_j((W h_m)^T h_j)

    Initialised Xavier uniform, bias zero. Arguments and results are those of `SelfAttentionPooling`, with one head.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.query = nn.Linear(config.memory_size, config.memory_size)
        self.output_size = config.memory_size

    def forward(self, memory: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        counts = _number_real(memory, mask)
        middle = (counts == (counts[:, -1:] + 1) // 2).int().argmax(dim=1)
        query = self.query(memory[torch.arange(len(memory), device=memory.device), middle])
        return _weighted_mean((memory @ query[..., None]).transpose(1, 2), memory, mask)


class LastStatePooling(nn.Module):
    """
    What each direction of the last layer has read last: its output at the last real position, backwards at the first
    one. Arguments and results are those of `SelfAttentionPooling`; the weights are those of the direction that reads
    forwards.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.output_size, self.hidden_size = config.memory_size, config.hidden_size

    def forward(self, memory: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        rows = torch.arange(len(memory), device=memory.device)
        counts = _number_real(memory, mask)
        last = (counts == counts[:, -1:]).int().argmax(dim=1)
        first = (counts == 1).int().argmax(dim=1)
        pooled = torch.cat([memory[rows, last, : self.hidden_size], memory[rows, first, self.hidden_size :]], dim=-1)
        return pooled, nn.functional.one_hot(last, memory.shape[1])[:, None].to(memory.dtype)


def _weighted_mean(scores: Tensor, memory: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The means of the memory, side by side, and their weights, from scores (batch, heads, source)."""
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min)
    precision = torch.promote_types(scores.dtype, torch.float32)  # halves lose too much in a long sum
    weights = torch.softmax(scores, dim=-1, dtype=precision).to(memory.dtype)
    return (weights @ memory).flatten(1), weights


def _number_real(memory: Tensor, mask: Tensor | None) -> Tensor:
    """How many real positions stand up to and at each one, (batch, source)."""
    present = torch.ones(memory.shape[:2], dtype=torch.long, device=memory.device) if mask is None else mask.long()
    return present.cumsum(dim=1)


def overlap_penalty(weights: Tensor) -> Tensor:
    """
    ||A A^T - I||^2 in the Frobenius norm (Lin et al., 2017, equation 8): zero where every head looks at one token, and
    no two heads at the same.

    Args:
        weights: A, (batch, heads, source).

    Returns:
        The penalty of each example, (batch,).
    """
    weights = weights.float()
    overlaps = weights @ weights.transpose(1, 2)  # (batch, heads, heads)
    identity = torch.eye(overlaps.shape[-1], device=overlaps.device)
    return (overlaps - identity).square().sum(dim=(1, 2))
