"""Losses beyond those of transformers: cross entropy without logits in memory, and the coverage loss."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from .checks import IGNORED_LABEL
from .prepared_linear import product_dtype

# `linear_cross_entropy` holds as many logits at a time, 16 MB in single precision, unless so few tokens would make its
# products slow.
MAX_LOGITS = 2**22
MIN_TOKENS = 64


def divisor(count: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor | int:
    """
    By what the sum of the losses of `count` targets is divided: `num_items_in_batch` where the Trainer gives the number
    of all accumulated batches, else their own, so that it is the mean; the loss of no target at all is zero.
    """
    divisor = count if num_items_in_batch is None else num_items_in_batch
    return divisor.clamp(min=1) if isinstance(divisor, Tensor) else max(divisor, 1)


def target_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    num_items_in_batch: Tensor | int | None = None,
    label_smoothing: float = 0.0,
    reachable: Tensor | None = None,
) -> Tensor:
    """
    Mean cross entropy of the targets, smoothed (Szegedy et al., 2016, https://arxiv.org/abs/1512.00567, section 7).

    Args:
        logits: (..., classes).
        labels: (...), -100 where there is no target.
        num_items_in_batch: see `divisor`.
        label_smoothing: the share of the probability that goes to all classes alike.
        reachable: true at the classes among which that share is divided, (..., classes); all by default.

    Returns:
        The mean over the targets, in single precision or better.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    labels = labels.long()
    is_target = labels != IGNORED_LABEL
    if reachable is None or not label_smoothing:
        total = cross_entropy(
            logits.flatten(0, -2),
            labels.flatten(),
            ignore_index=IGNORED_LABEL,
            reduction="sum",
            label_smoothing=label_smoothing,
        )
    else:
        log_probabilities = logits.log_softmax(dim=-1)
        of_target = log_probabilities.gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        of_all = log_probabilities.where(reachable, 0).sum(dim=-1) / reachable.sum(dim=-1)
        losses = -(1 - label_smoothing) * of_target - label_smoothing * of_all
        total = losses.where(is_target, 0).sum()
    return total / divisor(is_target.sum(), num_items_in_batch)


def linear_cross_entropy(
    hidden_states: Tensor,
    weight: Tensor,
    labels: Tensor,
    ignore_index: int = -100,
    num_items_in_batch: Tensor | int | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """
    `cross_entropy(linear(hidden_states, weight), labels)` without logits of all tokens in memory: they are made for a
    part of the tokens at a time and, while they are there, the gradients too. Padding takes no part in it.

    Args:
        hidden_states: (batch, target, width).
        weight: of the linear layer, (vocabulary, width).
        labels: (batch, target).
        ignore_index: the label of padding.
        num_items_in_batch: divide the sum by this number rather than by the number of target tokens here.
        label_smoothing: the share of the probability that goes to all tokens of the vocabulary alike.

    Returns:
        The mean over the target tokens, in single precision or better.

    Raises:
        RuntimeError: in the backward pass, when its result is to be differentiated again.
    """
    is_target = labels != ignore_index
    vectors, targets = hidden_states[is_target], labels[is_target]
    if not torch.is_grad_enabled():
        vectors, weight = vectors.detach(), weight.detach()
    total = _LinearCrossEntropy.apply(vectors, weight, targets, label_smoothing)
    return total / divisor(is_target.sum(), num_items_in_batch)


class _LinearCrossEntropy(torch.autograd.Function):
    """The sum over the tokens. With p = softmax(W h), the gradient with respect to the logits W h is p - target."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, weight: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
        dtype = product_dtype(weight)
        precision = torch.promote_types(dtype, torch.float32)  # of all else
        vectors_grad = torch.empty_like(vectors) if ctx.needs_input_grad[0] else None
        weight_grad = torch.zeros_like(weight, dtype=precision) if ctx.needs_input_grad[1] else None
        total = vectors.new_zeros((), dtype=precision)

        vocab_size = len(weight)
        tokens = max(MIN_TOKENS, MAX_LOGITS // vocab_size)  # at a time
        low_weight = weight.to(dtype)
        for start in range(0, len(vectors), tokens):
            part = slice(start, start + tokens)
            low_vectors, target = vectors[part].to(dtype), targets[part, None]
            logits = (low_vectors @ low_weight.t()).to(precision)
            shifted = logits.sub_(logits.amax(dim=1, keepdim=True))
            scores = (1 - label_smoothing) * shifted.gather(1, target)
            if label_smoothing:
                scores += label_smoothing * shifted.mean(dim=1, keepdim=True)
            probabilities = shifted.exp_()
            normalizer = probabilities.sum(dim=1, keepdim=True)
            total += (normalizer.log() - scores).sum()

            logits_grad = probabilities.div_(normalizer)
            logits_grad.scatter_add_(1, target, logits_grad.new_full(target.shape, label_smoothing - 1))
            if label_smoothing:
                logits_grad -= label_smoothing / vocab_size
            low_grad = logits_grad.to(dtype)
            if vectors_grad is not None:
                vectors_grad[part] = low_grad @ low_weight
            if weight_grad is not None and dtype == precision:
                weight_grad.addmm_(low_grad.t(), low_vectors)  # without a temporary of its size
            elif weight_grad is not None:
                weight_grad += low_grad.t() @ low_vectors
        ctx.save_for_backward(vectors_grad, weight_grad)
        return total

    @staticmethod
    def backward(ctx: Any, total_grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        if torch.is_grad_enabled():  # `once_differentiable` would let a constant `total_grad` pass
            raise RuntimeError("`linear_cross_entropy` cannot be differentiated twice.")
        vectors_grad, weight_grad = (None if grad is None else grad * total_grad for grad in ctx.saved_tensors)
        return vectors_grad, weight_grad, None, None


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
    weights = weights.float().mean(dim=1)
    seen = weights.cumsum(dim=1) - weights
    total = torch.minimum(weights, seen).sum(dim=-1)[is_target].sum()
    return total / divisor(is_target.sum(), num_items_in_batch)
