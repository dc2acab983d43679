"""
Checks of what a user hands to a model, before any work is done.

Values are looked at on the CPU alone: on another device that would make the host wait, and while a graph is traced
there are no values. Shapes are always checked.
"""

import torch
from torch import Tensor

IGNORED_LABEL = -100


def check_token_ids(name: str, token_ids: Tensor, vocab_size: int | None) -> None:
    """
    Raises:
        ValueError: `token_ids` is not (batch, length) with a length of one or more, or holds an id that is negative or
            not below `vocab_size` (`None`: no limit).
    """
    if token_ids.dim() != 2 or token_ids.shape[1] == 0:
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
        ValueError: `labels` is not (batch, target), holds an id outside the vocabulary other than -100, or no target
            token at all.
    """
    if labels.dim() != 2:
        raise ValueError(f"`labels` must have the shape (batch, target), got {tuple(labels.shape)}.")
    if has_values(labels):
        targets = labels[labels != IGNORED_LABEL]
        if targets.numel() == 0:
            raise ValueError(f"`labels` must hold at least one target token, but all are {IGNORED_LABEL}.")
        check_token_ids("labels", targets[None], vocab_size)


def padding_mask(name: str, attention_mask: Tensor | None, batch_size: int, length: int) -> Tensor | None:
    """
    The attention mask (batch, length) as booleans, true at real tokens; `None` where nothing is known to be padded.

    Raises:
        ValueError: another shape, or a sequence without any real token.
    """
    if attention_mask is None:
        return None
    if attention_mask.shape != (batch_size, length):
        raise ValueError(
            f"`{name}` must have the shape {(batch_size, length)}, (batch, length), got {tuple(attention_mask.shape)}."
        )
    mask = attention_mask.to(torch.bool)
    if has_values(mask):
        if mask.all():
            return None
        real_tokens = mask.any(dim=1)
        if not real_tokens.all():
            row = int(real_tokens.int().argmin())
            raise ValueError(f"`{name}` must leave at least one token in every row, but row {row} is fully masked.")
    return mask


def new_tokens_mask(name: str, attention_mask: Tensor | None, batch_size: int, length: int) -> Tensor | None:
    """
    The last `length` columns of an attention mask (batch, past + length) as booleans: those of the tokens given, of
    which a whole row may be padding.

    Raises:
        ValueError: another shape.
    """
    if attention_mask is None:
        return None
    if attention_mask.dim() != 2 or attention_mask.shape[0] != batch_size or attention_mask.shape[1] < length:
        raise ValueError(
            f"`{name}` must be (batch, past + length), here {batch_size} rows of at least {length}, got "
            f"{tuple(attention_mask.shape)}."
        )
    return attention_mask[:, -length:].to(torch.bool)


def has_values(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.jit.is_tracing()
