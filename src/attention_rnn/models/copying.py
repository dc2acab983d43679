"""Copying tokens of the source: the mixture of a pointer-generator network."""

import torch
from torch import Tensor


def mix_copies(logits: Tensor, generation_probability: Tensor, weights: Tensor, copy_ids: Tensor) -> Tensor:
    """
    The distribution over the extended vocabulary, in which each token of the source has a place (See et al., 2017,
    https://arxiv.org/abs/1704.04368, equation 9):

        P(w) = p P_vocabulary(w) + (1 - p) sum of the weights at positions j where w stands in the source

    Args:
        logits: of the vocabulary, (batch, target, vocabulary).
        generation_probability: p, (batch, target, 1).
        weights: the attention, (batch, heads, target, source), averaged over the heads.
        copy_ids: the token at each position of the source, (batch, source); ids from the size of the vocabulary on
            stand for tokens that it lacks.

    Returns:
        log P, (batch, target, extended vocabulary), in single precision.
    """
    batch_size, length, vocab_size = logits.shape
    extended_size = max(vocab_size, int(copy_ids.max()) + 1)
    generation_probability = generation_probability.float()
    written = generation_probability * torch.softmax(logits, dim=-1, dtype=torch.float32)
    unknown = written.new_zeros(batch_size, length, extended_size - vocab_size)
    copied = (1 - generation_probability) * weights.mean(dim=1).float()  # (batch, target, source)
    index = copy_ids[:, None].expand(-1, length, -1)
    probabilities = torch.cat([written, unknown], dim=-1).scatter_add(2, index, copied)
    return probabilities.clamp(min=torch.finfo(torch.float32).tiny).log()
