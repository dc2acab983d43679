"""Read what the attention did: alignments of source and target, soft and hard, and how they cover the source."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

IGNORED_LABEL = -100


class Alignment(NamedTuple):
    """One pair to show.

    Attributes:
        weights (`torch.Tensor` of shape (target, source), an array or nested lists): between 0 and 1, without padding.
        source_tokens (`list[str]`): one for each column.
        target_tokens (`list[str]`): one for each row.
        title (`str`): a line above the pair.
        score (`float`): how certain the model was, such as a log probability.
        is_right (`bool`): whether what it said is right, if that is known.
        kind (`str`): what its columns and rows are: `"pairs"` of source and target, `"classification"`, `"labelling"`
            or `"question-answering"`.
        text (`str`): what stands below the title, such as the context of a question.
    """

    weights: Tensor | ArrayLike
    source_tokens: Sequence[str]
    target_tokens: Sequence[str]
    title: str | None = None
    score: float | None = None
    is_right: bool | None = None
    kind: str = "pairs"
    text: str | None = None


def alignment_from_outputs(outputs: Any, average_heads: bool = True) -> Tensor:
    """Bring the cross-attention of a forward pass or of `generate` into one form.

    Args:
        outputs (`ModelOutput`): of `model(..., output_attentions=True)` or of `model.generate(...,
            output_attentions=True, return_dict_in_generate=True)`, with any decoding method. Of a model that attends
            in several layers, the last one counts.
        average_heads (`bool`): whether to return the mean over the heads, or each of them.

    Returns:
        `torch.Tensor` of shape (batch, target, source), or (batch, heads, target, source) with `average_heads=False`,
        and type float32: row i holds where the model looked to predict `labels[:, i]`, or `sequences[:, i + 1]` after
        `generate`, whose batch is that of `sequences`. What lies beyond the end of a sequence means nothing.

    Raises:
        ValueError: if the outputs hold no cross-attention, as those of a model without attention.
    """
    attentions = getattr(outputs, "cross_attentions", None)
    if not attentions or attentions[0] is None or len(attentions[0]) == 0:
        raise ValueError(
            "outputs must hold cross_attentions: call the model with output_attentions=True, and generate with "
            "output_attentions=True and return_dict_in_generate=True; a transformer needs "
            f'model.set_attn_implementation("eager") besides; got {type(outputs).__name__} without'
        )

    def last_layer(layers: Sequence[Tensor]) -> Tensor:
        weights = layers[-1].float()
        return weights.mean(dim=1) if average_heads else weights

    if isinstance(attentions[0], Tensor):
        return last_layer(attentions)

    # The first step covers the whole decoder prompt. The later ones cover one token, or, without a cache, everything
    # so far again, of which the last row is new.
    prompt, *later = map(last_layer, attentions)
    steps = [prompt, *(step[..., -1:, :] for step in later)]
    beam_indices = getattr(outputs, "beam_indices", None)
    if beam_indices is not None:
        # beam_indices[i, t] is the row of step t that sequence i went through, -1 after its end.
        steps = [
            step[rows.clamp(min=0)] * (rows >= 0).view(-1, *[1] * (step.dim() - 1))
            for step, rows in zip(steps, beam_indices.unbind(dim=1), strict=False)
        ]
    return torch.cat(steps, dim=-2)[..., : outputs.sequences.shape[1] - 1, :]


def text_mask(token_ids: Tensor | ArrayLike, config: Any) -> Tensor:
    """Tell the tokens of a text, `<unk>` among them, from those that a model puts around it.

    Args:
        token_ids (`torch.Tensor` of any shape, an array or nested lists): of the source, such as `input_ids`, or of
            the target, such as `labels` or `sequences[:, 1:]`.
        config (`PreTrainedConfig`): of the model.

    Returns:
        `torch.Tensor` of bool, of the shape of `token_ids`: false at the padding, at start and end of a sequence and
        at ignored labels (-100).
    """
    ids = _tensor("token_ids", token_ids)
    special_ids = [IGNORED_LABEL]
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
        value = getattr(config, name, None)
        special_ids += value if isinstance(value, list) else [] if value is None else [value]
    return ~torch.isin(ids, torch.tensor(special_ids))


def to_pharaoh(
    weights: Tensor | ArrayLike,
    source_mask: Tensor | ArrayLike | None = None,
    target_mask: Tensor | ArrayLike | None = None,
    *,
    threshold: float | None = None,
) -> list[str]:
    """Write hard alignments in the Pharaoh format, such as "0-0 1-2 2-1".

        outputs = model.generate(**inputs, output_attentions=True, return_dict_in_generate=True)
        source_mask = text_mask(inputs["input_ids"], model.config)
        target_mask = text_mask(outputs.sequences[:, 1:], model.config)
        lines = to_pharaoh(alignment_from_outputs(outputs), source_mask, target_mask)

    Each link is `source-target`, and the links are ordered by source, then target. Positions count from 0 over the
    tokens that the masks keep, so they are those in the text without its special tokens. The weight on a source token
    left out goes to nobody. Where `generate` returns several sequences for each source, the source's mask needs
    `repeat_interleave(num_return_sequences, dim=0)`.

    Args:
        weights (`torch.Tensor` of shape (batch, target, source), an array or nested lists): between 0 and 1.
        source_mask (`torch.Tensor` of shape (batch, source), an array or nested lists): true or 1 at the tokens that
            count, all by default.
        target_mask (`torch.Tensor` of shape (batch, target), an array or nested lists): likewise.
        threshold (`float`): by default each target token is linked with the source token of the greatest weight, the
            first of equals. A threshold links it with every source token of this weight or more, which may be none.

    Returns:
        `list[str]`: one line for each pair, empty where there is nothing to link.

    Raises:
        TypeError: for an argument that is no array of numbers.
        ValueError: for an argument of another shape, weights outside of 0 to 1, a mask of other values than 0 and 1, or
            a threshold that is not above 0 and at most 1.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise ValueError(f"threshold must be None or a weight above 0 and at most 1, got {threshold!r}")
    weights = as_weights(weights, ("batch", "target", "source"))
    batch_size, targets, sources = weights.shape
    source_mask = _mask("source_mask", source_mask, (batch_size, sources))
    target_mask = _mask("target_mask", target_mask, (batch_size, targets))

    lines = []
    for pair, columns, rows in zip(weights, source_mask, target_mask, strict=True):
        kept = pair[rows][:, columns]
        if threshold is not None:
            links = kept >= threshold
        else:
            links = torch.zeros_like(kept, dtype=torch.bool)
            if links.numel():
                links.scatter_(1, kept.argmax(dim=1, keepdim=True), True)
        lines.append(" ".join(f"{source}-{target}" for source, target in links.T.nonzero().tolist()))
    return lines


def source_coverage(weights: Tensor | ArrayLike, target_mask: Tensor | ArrayLike | None = None) -> Tensor:
    """Sum up the attention that each source token received (the coverage vector of See et al., 2017,
    https://arxiv.org/abs/1704.04368, section 2.3, at the end of the target).

    Args:
        weights (`torch.Tensor` of shape (batch, target, source), an array or nested lists): between 0 and 1.
        target_mask (`torch.Tensor` of shape (batch, target), an array or nested lists): true or 1 at the tokens that
            count, all by default. Without it, what `generate` computed beyond the end of a sequence counts.

    Returns:
        `torch.Tensor` of shape (batch, source): in target tokens, so a row sums to their number.

    Raises:
        As `to_pharaoh`.
    """
    weights = as_weights(weights, ("batch", "target", "source"))
    target_mask = _mask("target_mask", target_mask, weights.shape[:2])
    return (weights * target_mask[:, :, None]).sum(dim=1)


def coverage_deviation_penalty(coverage: Tensor | ArrayLike, source_mask: Tensor | ArrayLike | None = None) -> Tensor:
    """Judge a coverage by how far its tokens are from having been looked at once (Rikters and Fishel, 2017, Confidence
    through Attention, https://arxiv.org/abs/1710.03743):

        -1/J sum_j log(1 + (1 - coverage_j)^2)   over the J source tokens

    0 is perfect. Source left out and source repeated both lower it, and pairs of any length compare. A target that is
    much shorter or longer than its source cannot reach 0.

    Args:
        coverage (`torch.Tensor` of shape (batch, source), an array or nested lists): of `source_coverage`.
        source_mask (`torch.Tensor` of shape (batch, source), an array or nested lists): true or 1 at the tokens that
            count, all by default.

    Returns:
        `torch.Tensor` of shape (batch,): 0 or less; 0 for a source without a token that counts.

    Raises:
        TypeError: for an argument that is no array of numbers.
        ValueError: for an argument of another shape, coverage below 0, or a mask of other values than 0 and 1.
    """
    coverage = _tensor("coverage", coverage).float()
    if coverage.dim() != 2:
        raise ValueError(f"coverage must have the shape (batch, source), got the shape {tuple(coverage.shape)}")
    if not (coverage >= 0).all():
        raise ValueError(f"coverage must be 0 or more, got {coverage.min().item():.3g}")
    source_mask = _mask("source_mask", source_mask, coverage.shape)
    deviation = torch.log1p((1 - coverage).square()) * source_mask
    return -deviation.sum(dim=1) / source_mask.sum(dim=1).clamp(min=1)


def as_weights(weights: Tensor | ArrayLike, axes: tuple[str, ...]) -> Tensor:
    """The weights as a float32 tensor on the CPU.

    Raises:
        TypeError: for anything but an array of numbers.
        ValueError: for another number of axes, or weights outside of 0 to 1.
    """
    tensor = _tensor("weights", weights).float()
    if tensor.dim() != len(axes):
        raise ValueError(f"weights must have the shape ({', '.join(axes)}), got the shape {tuple(tensor.shape)}")
    if tensor.numel():
        # A little room, as sums in bfloat16 exceed 1. Written so that NaN fails too.
        low, high = tensor.min().item(), tensor.max().item()
        if not (low >= -0.01 and high <= 1.01):
            raise ValueError(f"weights must lie between 0 and 1, got values from {low:.3g} to {high:.3g}")
    return tensor


def _mask(name: str, mask: Tensor | ArrayLike | None, shape: Sequence[int]) -> Tensor:
    if mask is None:
        return torch.ones(tuple(shape), dtype=torch.bool)
    tensor = _tensor(name, mask)
    if tensor.shape != tuple(shape):
        raise ValueError(f"{name} must have the shape {tuple(shape)}, got {tuple(tensor.shape)}")
    if not ((tensor == 0) | (tensor == 1)).all():
        raise ValueError(f"{name} must hold 0 and 1 alone, got {tensor.unique().tolist()}")
    return tensor.bool()


def _tensor(name: str, values: Tensor | ArrayLike) -> Tensor:
    try:
        return torch.as_tensor(values).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:  # of torch, which does not name the argument
        raise TypeError(f"{name} must be a tensor, an array or nested lists of numbers: {error}") from error
