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
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], torch.finfo(scores.dtype).min)
        precision = torch.promote_types(scores.dtype, torch.float32)  # halves lose too much in a long sum
        weights = torch.softmax(scores, dim=-1, dtype=precision).to(memory.dtype)
        return (weights @ memory).flatten(1), weights


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
