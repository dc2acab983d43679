"""
Dropout for sequences.

With `variational_dropout` the units that are dropped are the same at every step of a sequence (Gal and Ghahramani,
2016, https://arxiv.org/abs/1512.05287). A mask is then drawn once per sequence and handed to every step, since the
decoder may run step by step.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from .cells import Cell


class SequenceDropout(nn.Module):
    """Dropout with one mask for each element or, if variational, one mask for all steps of a sequence."""

    def __init__(self, probability: float, variational: bool) -> None:
        super().__init__()
        self.probability = probability
        self.variational = variational

    def draw(self, batch_size: int, width: int, like: Tensor) -> Tensor | None:
        """The mask of a sequence, (batch, 1, width); `None` where each element has its own or nothing is dropped."""
        if not (self.training and self.variational and self.probability):
            return None
        return dropout(like.new_ones(batch_size, 1, width), self.probability)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """
        Args:
            inputs: (batch, steps, width).
            mask: what `draw` returned for this sequence; one is drawn if the whole sequence is here.
        """
        if not self.variational:
            return dropout(inputs, self.probability, self.training)
        if mask is None:
            mask = self.draw(inputs.shape[0], inputs.shape[2], inputs)
        return inputs if mask is None else inputs * mask


class WordDropout(nn.Module):
    """Drops whole tokens: their embedding becomes zero (Gal and Ghahramani, 2016, section 4.2)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, embeddings: Tensor) -> Tensor:
        if not (self.training and self.probability):
            return embeddings
        return embeddings * dropout(embeddings.new_ones(*embeddings.shape[:2], 1), self.probability)


class LayerNoise(NamedTuple):
    """What a recurrent layer drops at all steps of a sequence; `None` where nothing is, or at each step anew."""

    recurrent_mask: Tensor | None  # (gates * hidden, hidden)
    output_mask: Tensor | None  # (batch, 1, hidden)


NO_NOISE = LayerNoise(None, None)


def draw_recurrent_mask(cell: Cell, probability: float) -> Tensor | None:
    """DropConnect of the recurrent matrix, one mask for all steps (Merity et al., 2018, section 2)."""
    if not (cell.training and probability):
        return None
    return dropout(torch.ones_like(cell.hidden_to_hidden.weight), probability)
