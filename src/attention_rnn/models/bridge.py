"""The bridge: the first decoder state from what the encoder has read."""

import torch
from torch import Tensor, nn

from .cells import CELLS
from .configuration_attention_rnn import AttentionRnnConfig


class AttentionRnnBridge(nn.Module):
    """
    The first state of every decoder layer: `zeros`; the final states of the encoder layers (`copy`); or a tanh layer
    on the final state of the last encoder layer (`linear`; Bahdanau et al., 2015, appendix A.2.2) or on the mean of
    the memory (`mean`; Sennrich et al., 2017, https://arxiv.org/abs/1703.04357).
    """

    def __init__(self, config: AttentionRnnConfig) -> None:
        super().__init__()
        state_size = CELLS[config.cell_type].states * config.hidden_size
        self.kind = config.bridge
        self.shape = (config.decoder_layers, state_size)
        if self.kind in ("linear", "mean"):
            directions = config.encoder_directions[-1]
            width = directions * (state_size if self.kind == "linear" else config.hidden_size)
            self.projection = nn.Linear(width, config.decoder_layers * state_size)

    def forward(self, memory: Tensor, final_state: Tensor | None, mask: Tensor | None) -> Tensor:
        """
        Args:
            memory: (batch, source, memory).
            final_state: (batch, encoder layers, width).
            mask: (batch, source) or `None`.

        Returns:
            (batch, decoder layers, state).
        """
        if self.kind == "zeros":
            return memory.new_zeros(memory.shape[0], *self.shape)
        if self.kind == "mean":
            return self._project(_masked_mean(memory, mask))
        if final_state is None:
            raise ValueError(
                f'`encoder_outputs` must hold the `final_state` of the encoder for `bridge="{self.kind}"`.'
            )
        if self.kind == "copy":
            return final_state
        return self._project(final_state[:, -1, : self.projection.in_features])

    def _project(self, summary: Tensor) -> Tensor:
        return torch.tanh(self.projection(summary)).unflatten(-1, self.shape)


def _masked_mean(memory: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the real tokens: (batch, source, memory), (batch, source) -> (batch, memory)."""
    if mask is None:
        return memory.mean(dim=1)
    weights = mask.to(memory.dtype)[..., None]
    return (memory * weights).sum(dim=1) / weights.sum(dim=1)
