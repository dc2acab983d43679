"""A recurrent layer of a decoder, and the bridge, which makes the first state of all of them."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .cells import CELLS
from .configuration_core import AttentionRnnCoreConfig
from .dropout import NO_NOISE, LayerNoise, SequenceDropout, draw_recurrent_mask
from .recurrence import recurrence, recurrence_reference


class AttentionRnnBridge(nn.Module):
    """
    The first state of every decoder layer: `zeros`; the final states of the encoder layers (`copy`); or a tanh layer
    on the final state of the last encoder layer (`linear`; Bahdanau et al., 2015, appendix A.2.2) or on the mean of
    the memory (`mean`; Sennrich et al., 2017, https://arxiv.org/abs/1703.04357).
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        state_size = config.state_size
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


class AttentionRnnDecoderLayer(GradientCheckpointingLayer):
    """A recurrent layer over the target, whose input may be joined by a context."""

    def __init__(self, config: AttentionRnnCoreConfig, input_size: int, context_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(input_size + context_size) if config.layer_norm else nn.Identity()
        self.cell = CELLS[config.cell_type](config, input_size + context_size)
        self.dropout = SequenceDropout(config.hidden_dropout, config.variational_dropout)
        self.recurrent_dropout = config.recurrent_dropout
        self.residual = config.residual and input_size == config.hidden_size

    def draw_noise(self, batch_size: int, like: Tensor) -> LayerNoise:
        """What is dropped at every step of the coming sequence."""
        recurrent_mask = draw_recurrent_mask(self.cell, self.recurrent_dropout)
        return LayerNoise(recurrent_mask, self.dropout.draw(batch_size, self.cell.hidden_size, like))

    def forward(
        self,
        hidden_states: Tensor,
        context: Tensor | None,
        initial_state: Tensor,
        mask: Tensor | None,
        noise: LayerNoise,
        keep_states: bool,
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            hidden_states: (batch, target, input).
            context: (batch, target, context), or `None` for a layer without.
            initial_state: (batch, state).
            mask: (batch, target) or `None`.
            noise: what `draw_noise` returned for this sequence.
            keep_states: whether the cache wants the state after each token.

        Returns:
            The outputs (batch, target, hidden) and the state after each token (batch, target, state), or after the last
            one alone (batch, 1, state).
        """
        inputs = self.norm(hidden_states if context is None else torch.cat([hidden_states, context], dim=-1))
        if keep_states:
            states = recurrence_reference(self.cell, inputs, mask, initial_state, recurrent_mask=noise.recurrent_mask)
            output = states[..., : self.cell.hidden_size]
        else:
            output, state = recurrence(self.cell, inputs, mask, initial_state, recurrent_mask=noise.recurrent_mask)
            states = state[:, None]
        output = self.dropout(output, noise.output_mask)
        return (output + hidden_states if self.residual else output), states

    def first_steps(
        self, hidden_states: Tensor, initial_state: Tensor, noise: LayerNoise = NO_NOISE
    ) -> tuple[Tensor, Tensor]:
        """
        Each position as the first step of a sequence of its own, all of them from one state, whose products are made
        once. Arguments and returned values are those of `forward`, without a context.
        """
        products = self.cell.input_products(self.norm(hidden_states))
        states = self.cell(products, initial_state[:, None], noise.recurrent_mask)
        output = self.dropout(states[..., : self.cell.hidden_size], noise.output_mask)
        return (output + hidden_states if self.residual else output), states


def _masked_mean(memory: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the real tokens: (batch, source, memory), (batch, source) -> (batch, memory)."""
    if mask is None:
        return memory.mean(dim=1)
    weights = mask.to(memory.dtype)[..., None]
    return (memory * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
