"""The encoder: recurrent layers over the source make the memory that the decoder attends to."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.generic import can_return_tuple

from .base import AttentionRnnPreTrainedModel, embed
from .cells import CELLS
from .checks import check_tensors, check_token_ids, padding_mask
from .configuration_attention_rnn import AttentionRnnConfig
from .dropout import SequenceDropout, WordDropout, draw_recurrent_mask
from .outputs import AttentionRnnEncoderOutput
from .recurrence import recurrence


class AttentionRnnEncoderLayer(GradientCheckpointingLayer):
    """A recurrent layer that reads the source in one direction or in both (Schuster and Paliwal, 1997)."""

    def __init__(self, config: AttentionRnnConfig, input_size: int, directions: int) -> None:
        super().__init__()
        cell_class = CELLS[config.cell_type]
        self.norm = nn.LayerNorm(input_size) if config.layer_norm else nn.Identity()
        self.cells = nn.ModuleList(cell_class(config, input_size) for _ in range(directions))
        self.dropout = SequenceDropout(config.hidden_dropout, config.variational_dropout)
        self.recurrent_dropout = config.recurrent_dropout
        self.residual = config.residual and input_size == directions * config.hidden_size

    def forward(self, hidden_states: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """
        Args:
            hidden_states: (batch, source, input).
            mask: (batch, source) or `None`.

        Returns:
            The outputs (batch, source, directions * hidden) and the final state (batch, directions * state).
        """
        inputs = self.norm(hidden_states)
        outputs, final_states = [], []
        cell: Any
        for direction, cell in enumerate(self.cells):
            initial_state = inputs.new_zeros(inputs.shape[0], cell.state_size)
            recurrent_mask = draw_recurrent_mask(cell, self.recurrent_dropout)
            output, final_state = recurrence(cell, inputs, mask, initial_state, direction == 1, recurrent_mask)
            outputs.append(output)
            final_states.append(final_state)
        output = self.dropout(torch.cat(outputs, dim=-1))
        if self.residual:
            output = output + hidden_states
        return output, torch.cat(final_states, dim=-1)


class AttentionRnnEncoder(AttentionRnnPreTrainedModel):
    """Embeddings and recurrent layers over the source; the last layer's outputs are the memory."""

    def __init__(self, config: AttentionRnnConfig) -> None:
        super().__init__(config)
        vocab_size = config.source_vocab_size or config.vocab_size
        self.embed_tokens = nn.Embedding(vocab_size, config.embedding_size, config.pad_token_id)
        self.word_dropout = WordDropout(config.word_dropout)
        self.dropout = SequenceDropout(config.embedding_dropout, config.variational_dropout)
        widths = [config.embedding_size] + [directions * config.hidden_size for directions in config.encoder_directions]
        self.layers = nn.ModuleList(
            AttentionRnnEncoderLayer(config, input_size, directions)
            for input_size, directions in zip(widths[:-1], config.encoder_directions, strict=True)
        )
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        copy_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> AttentionRnnEncoderOutput:
        """
        Args:
            input_ids: source tokens, (batch, source).
            attention_mask: 1 at real tokens, 0 at padding, (batch, source); padding may stand anywhere.
            inputs_embeds: embeddings instead of `input_ids`, (batch, source, embedding).
            copy_ids: with `copy`, the token that stands at each position, (batch, source); `input_ids` by default. Ids
                from `vocab_size` on stand for tokens that the vocabulary lacks.

        Raises:
            TypeError: an input is no tensor, or one of another type.
            ValueError: ids outside the vocabulary, an empty source, a mask of another shape or with a row of zeros,
                inputs on another device.
        """
        check_tensors(
            input_ids=input_ids, inputs_embeds=inputs_embeds, attention_mask=attention_mask, copy_ids=copy_ids
        )
        hidden_states = embed("", self.embed_tokens, input_ids, inputs_embeds)
        mask = padding_mask("attention_mask", attention_mask, *hidden_states.shape[:2])
        hidden_states = self.dropout(self.word_dropout(hidden_states))
        all_hidden_states, final_states = [hidden_states], []
        for layer in self.layers:
            hidden_states, final_state = layer(hidden_states, mask)
            all_hidden_states.append(hidden_states)
            final_states.append(final_state)
        width = max(final_state.shape[-1] for final_state in final_states)
        final_states = [nn.functional.pad(state, (0, width - state.shape[-1])) for state in final_states]
        return AttentionRnnEncoderOutput(
            last_hidden_state=hidden_states,
            final_state=torch.stack(final_states, dim=1),  # (batch, layers, width)
            copy_ids=self._copy_ids(input_ids, copy_ids, hidden_states),
            hidden_states=tuple(all_hidden_states)
            if self.option("output_hidden_states", output_hidden_states)
            else None,
            attentions=() if self.option("output_attentions", output_attentions) else None,
        )

    def _copy_ids(self, input_ids: Tensor | None, copy_ids: Tensor | None, memory: Tensor) -> Tensor | None:
        if not self.config.copy:
            return None
        copy_ids = input_ids if copy_ids is None else copy_ids
        if copy_ids is None or copy_ids.shape != memory.shape[:2]:
            given = None if copy_ids is None else tuple(copy_ids.shape)
            raise ValueError(
                f"`copy_ids` must name the token at each position of the source, (batch, source), got {given}."
            )
        # sources have no more unknown tokens than positions, and what they have is added to every distribution
        check_token_ids("copy_ids", copy_ids, self.config.vocab_size + copy_ids.numel())
        return copy_ids.long()
