"""The loss of a classifier of whole texts or series, by the kind of its labels."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from .checks import IGNORED_LABEL, has_values, warn_without_targets
from .losses import divisor, target_cross_entropy
from .pooling import overlap_penalty

SINGLE_LABEL, MULTI_LABEL, REGRESSION = "single_label_classification", "multi_label_classification", "regression"


def class_loss(
    config: Any,
    logits: Tensor,
    weights: Tensor,
    labels: Tensor,
    training: bool,
    num_items_in_batch: Tensor | int | None,
) -> Tensor:
    """
    The mean over the labels of cross entropy, binary cross entropy or squared error, plus the weighted penalty of
    pooling heads that overlap.

    Args:
        config: says which, in `problem_type`; where that is `None`, it is set as transformers does.
        logits: (batch, num_labels).
        weights: of the pooling, (batch, heads, source).
        labels: see `AttentionRnnForSequenceClassification.forward`.
        training: whether labels are smoothed.
        num_items_in_batch: see `divisor`.

    Raises:
        ValueError: labels of another type or shape, or out of range.
    """
    problem_type = config.problem_type or _guess_problem_type(labels, config.num_labels)
    check_class_labels(labels, problem_type, logits)
    # kept in the config, as transformers does: pipelines read there what turns logits into scores
    config.problem_type = problem_type
    if config.label_smoothing and problem_type != SINGLE_LABEL:
        raise ValueError(
            f'`label_smoothing` needs `problem_type="{SINGLE_LABEL}"`, got {config.label_smoothing} and '
            f'"{problem_type}".'
        )
    warn_without_targets("labels", labels)
    is_counted = labels != IGNORED_LABEL
    if problem_type == SINGLE_LABEL:
        smoothing = config.label_smoothing if training else 0.0
        loss = target_cross_entropy(logits, labels, num_items_in_batch, smoothing)
    else:
        function = mse_loss if problem_type == REGRESSION else binary_cross_entropy_with_logits
        losses = function(logits.float(), labels.reshape(logits.shape).float(), reduction="none")
        is_counted = is_counted.reshape(logits.shape)
        loss = losses.where(is_counted, 0).sum() / divisor(is_counted.sum(), num_items_in_batch)
    if config.pooling_penalty_weight:
        # for each label of an example, so that the mean over labels holds the mean over examples
        times = is_counted.reshape(len(logits), -1).sum(dim=1)
        penalty = (overlap_penalty(weights) * times).sum() / divisor(times.sum(), num_items_in_batch)
        loss = loss + config.pooling_penalty_weight * penalty
    return loss


def _guess_problem_type(labels: Tensor, num_labels: int) -> str:
    if num_labels == 1:
        return REGRESSION
    return MULTI_LABEL if labels.is_floating_point() else SINGLE_LABEL


def check_class_labels(labels: Tensor, problem_type: str, logits: Tensor) -> None:
    """
    Raises:
        ValueError: `labels` do not fit `logits` (batch, num_labels): another type or shape than the problem has, or a
            value out of range.
    """
    name, num_labels = f'`labels` for `problem_type="{problem_type}"`', logits.shape[1]
    if problem_type == SINGLE_LABEL:
        kind, has_kind = "integers", labels.dtype in (torch.int64, torch.int32)
        shapes = [logits.shape[:1]]
    elif problem_type in (MULTI_LABEL, REGRESSION):
        kind, has_kind = "floating point numbers", labels.is_floating_point()
        shapes = [logits.shape]
        if problem_type == REGRESSION and num_labels == 1:
            shapes.append(logits.shape[:1])
    else:
        raise ValueError(
            f"`problem_type` must be one of {[SINGLE_LABEL, MULTI_LABEL, REGRESSION]}, got {problem_type!r}."
        )
    if not has_kind:
        raise ValueError(f"{name} must be {kind}, got {labels.dtype}.")
    if labels.shape not in shapes:
        allowed = " or ".join(str(tuple(shape)) for shape in shapes)
        raise ValueError(f"{name} must have the shape {allowed}, got {tuple(labels.shape)}.")
    if not has_values(labels):
        return
    counted = labels[labels != IGNORED_LABEL]
    if problem_type == REGRESSION:
        limits, is_right = "finite", counted.isfinite()
    else:
        largest = num_labels - 1 if problem_type == SINGLE_LABEL else 1
        limits, is_right = f"from 0 to {largest}", (counted >= 0) & (counted <= largest)
    if not is_right.all():
        raise ValueError(f"{name} must be {limits} (`num_labels` is {num_labels}), got {counted[~is_right][0].item()}.")
