"""
Row convolution (Amodei et al., 2016, https://arxiv.org/abs/1512.02595, section 3.7): each feature of a position is a
weighted sum over this position and the next few ones. Behind layers that read forwards alone it hears a word to its end
before the word is written, which a stream does so many positions later.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, pad
from transformers import initialization as init


class RowConvolution(nn.Module):
    """
    r[t, i] = sum over j from 0 to `lookahead` of weight[i, j] * h[t + j, i], where h is 0 behind the end.

    Initialised 1 for the position itself and 0.3 for each later one: a model that begins with the mean of them, or with
    the position alone, hardly learns to hear ahead.

    Args:
        size: features of a position.
        lookahead: how many later positions it sees.
    """

    def __init__(self, size: int, lookahead: int) -> None:
        super().__init__()
        self.lookahead = lookahead
        self.weight = nn.Parameter(torch.empty(size, 1 + lookahead))

    def initialize(self) -> None:
        init.copy_(self.weight, torch.tensor([1.0] + [0.3] * self.lookahead).expand_as(self.weight))

    def forward(self, memory: Tensor, mask: Tensor | None) -> Tensor:
        """
        Args:
            memory: (batch, positions, size), padding on the right.
            mask: true at real positions, (batch, positions), or `None`.

        Returns:
            (batch, positions, size)
        """
        if mask is not None:
            memory = memory * mask[..., None]
        return self.stream(self.end(memory))

    def stream(self, memory: Tensor) -> Tensor:
        """Of all positions whose later ones are there, (batch, positions - lookahead, size), as a stream has them."""
        if memory.shape[1] <= self.lookahead:
            return memory[:, :0]
        rows = memory.transpose(1, 2)  # (batch, size, positions)
        return conv1d(rows, self.weight[:, None], groups=len(self.weight)).transpose(1, 2)

    def end(self, memory: Tensor) -> Tensor:
        """With the nothing that follows an end, (batch, positions + lookahead, size)."""
        return pad(memory, (0, 0, 0, self.lookahead))
