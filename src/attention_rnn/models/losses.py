"""Losses beyond cross entropy."""

import torch
from torch import Tensor


def coverage_loss(weights: Tensor, is_target: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """
    How much is attended to again (See et al., 2017, https://arxiv.org/abs/1704.04368, equation 12):

        sum_j min(a_tj, c_tj),  c_t = sum of a_t' over the steps t' before t

    Args:
        weights: (batch, heads, target, source), averaged over the heads.
        is_target: true at target tokens, (batch, target).
        num_items_in_batch: divide the sum by this number rather than by the number of target tokens here.

    Returns:
        The mean over the target tokens.
    """
    weights = weights.mean(dim=1).float()
    seen = weights.cumsum(dim=1) - weights
    total = torch.minimum(weights, seen).sum(dim=-1)[is_target].sum()
    return total / (is_target.sum() if num_items_in_batch is None else num_items_in_batch)
