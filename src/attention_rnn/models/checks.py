"""
Checks of what a user hands to a model, before any work is done.

Values are looked at on the CPU alone: on another device that would make the host wait, and while a graph is traced
there are no values. Shapes are always checked.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging

from .prepared_linear import is_watched

logger = logging.get_logger(__name__)

IGNORED_LABEL = -100


def check_tensors(**inputs: Any) -> None:
    """
    Raises:
        TypeError: an input is neither a tensor nor `None`.
        ValueError: they are on different devices.
    """
    first = None
    for name, value in inputs.items():
        if value is None:
            continue
        if not isinstance(value, Tensor):
            raise TypeError(f"`{name}` must be a tensor, got {type(value).__name__}.")
        if first is None:
            first = name
        elif value.device != inputs[first].device:
            raise ValueError(
                f"`{name}` must be on the device of `{first}`, {inputs[first].device}, got a tensor on {value.device}."
            )


def check_device(name: str, tensor: Tensor, device: torch.device) -> None:
    """
    Raises:
        ValueError: `tensor` is not on `device`, where the model works.
    """
    if tensor.device != device:
        raise ValueError(f"`{name}` must be on the device of the model, {device}, got a tensor on {tensor.device}.")


def check_integers(name: str, tensor: Tensor) -> None:
    """
    Raises:
        TypeError: `tensor` is not of integers with 32 or 64 bits.
    """
    if tensor.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"`{name}` must be of the type torch.int64 or torch.int32, got {tensor.dtype}.")


def check_token_ids(name: str, token_ids: Tensor, vocab_size: int | None) -> None:
    """
    Raises:
        TypeError: `token_ids` are no tensor of integers.
        ValueError: they are not (batch, length) with one row and a length of one or more, or hold an id that is
            negative or not below `vocab_size` (`None`: no limit).
    """
    check_tensors(**{name: token_ids})
    check_integers(name, token_ids)
    if token_ids.dim() != 2 or token_ids.numel() == 0:
        raise ValueError(
            f"`{name}` must have the shape (batch, length) with at least one token, got {tuple(token_ids.shape)}."
        )
    if has_values(token_ids):
        low, high = token_ids.min().item(), token_ids.max().item()
        if low < 0 or (vocab_size is not None and high >= vocab_size):
            largest = "" if vocab_size is None else f" to {vocab_size - 1}"
            raise ValueError(f"`{name}` must be tokens of the vocabulary, 0{largest}, got {low if low < 0 else high}.")


def check_labels(labels: Tensor, vocab_size: int | None) -> None:
    """
    Raises:
        TypeError: `labels` are no tensor of integers.
        ValueError: they are not (batch, target), or hold an id outside the vocabulary other than -100.
    """
    check_tensors(labels=labels)
    check_integers("labels", labels)
    if labels.dim() != 2:
        raise ValueError(f"`labels` must have the shape (batch, target), got {tuple(labels.shape)}.")
    if has_values(labels):
        is_wrong = (labels != IGNORED_LABEL) & (labels < 0)
        if vocab_size is not None:
            is_wrong |= labels >= vocab_size
        if is_wrong.any():
            largest = "" if vocab_size is None else f" to {vocab_size - 1}"
            raise ValueError(f"`labels` must be tokens of the vocabulary, 0{largest}, got {int(labels[is_wrong][0])}.")


def warn_without_targets(name: str, values: Tensor) -> None:
    """Say once that labels or positions are all -100: a batch may be so, but a whole training learns nothing of it."""
    if has_values(values) and bool((values == IGNORED_LABEL).all()):
        logger.warning_once(f"`{name}` are all {IGNORED_LABEL} in a batch: its loss is zero.")


def padding_mask(name: str, attention_mask: Tensor | None, sequence: Tensor) -> Tensor | None:
    """
    The attention mask of a sequence (batch, length, ...) as booleans (batch, length), true at real tokens; `None` where
    nothing is known to be padded.

    Raises:
        TypeError: no tensor.
        ValueError: another shape or device, other values than 0 and 1, or a row without any real token.
    """
    if attention_mask is None:
        return None
    check_tensors(**{name: attention_mask})
    if attention_mask.shape != sequence.shape[:2]:
        raise ValueError(
            f"`{name}` must have the shape {tuple(sequence.shape[:2])}, (batch, length), got "
            f"{tuple(attention_mask.shape)}."
        )
    check_device(name, attention_mask, sequence.device)
    mask = as_booleans(name, attention_mask)
    if has_values(mask):
        if mask.all():
            return None
        real_tokens = mask.any(dim=1)
        if not real_tokens.all():
            row = int(real_tokens.int().argmin())
            raise ValueError(f"`{name}` must leave at least one token in every row, but row {row} is fully masked.")
    return mask


def new_tokens_mask(name: str, attention_mask: Tensor | None, sequence: Tensor, *, has_past: bool) -> Tensor | None:
    """
    The last columns of an attention mask (batch, past + length) as booleans (batch, length): those of the `sequence`
    (batch, length, ...) given, of which a whole row may be padding.

    Raises:
        TypeError: no tensor.
        ValueError: another shape or device, or other values than 0 and 1.
    """
    if attention_mask is None:
        return None
    check_tensors(**{name: attention_mask})
    batch_size, length = sequence.shape[:2]
    fits = attention_mask.dim() == 2 and attention_mask.shape[0] == batch_size
    if not fits or attention_mask.shape[1] < length or (attention_mask.shape[1] > length and not has_past):
        raise ValueError(
            f"`{name}` must be (batch, past + length), here {batch_size} rows of {'at least ' if has_past else ''}"
            f"{length}, got {tuple(attention_mask.shape)}."
        )
    check_device(name, attention_mask, sequence.device)
    return as_booleans(name, attention_mask[:, -length:])


def as_booleans(name: str, mask: Tensor) -> Tensor:
    """
    True where `mask` is 1, false where it is 0.

    Raises:
        ValueError: it holds something else, such as the large negative numbers of a mask that is to be added.
    """
    booleans = mask.to(torch.bool)
    if mask.dtype != torch.bool and has_values(mask):
        is_wrong = mask != booleans
        if is_wrong.any():
            raise ValueError(f"`{name}` must hold 0 and 1 alone, got {mask[is_wrong][0].item()}.")
    return booleans


def has_values(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and not is_watched()
