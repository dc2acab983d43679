"""The encoder: recurrent layers over the source make the memory that the decoder attends to."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.generic import can_return_tuple

from .cells import CELLS
from .checks import check_device, check_token_ids, padding_mask
from .configuration_attention_rnn import AttentionRnnConfig
from .configuration_core import AttentionRnnCoreConfig
from .dropout import SequenceDropout, draw_recurrent_mask
from .fronts import TokenFront
from .outputs import AttentionRnnEncoderOutput
from .recurrence import recurrence


class AttentionRnnEncoderLayer(GradientCheckpointingLayer):
    """A recurrent layer that reads the source in one direction or in both (Schuster and Paliwal, 1997)."""

    def __init__(self, config: AttentionRnnCoreConfig, input_size: int, directions: int) -> None:
        super().__init__()
        cell_class = CELLS[config.cell_type]
        self.norm = nn.LayerNorm(input_size) if config.layer_norm else nn.Identity()
        self.cells = nn.ModuleList(cell_class(config, input_size) for _ in range(directions))
        self.dropout = SequenceDropout(config.hidden_dropout, config.variational_dropout)
        self.recurrent_dropout = config.recurrent_dropout
        self.residual = config.residual and input_size == directions * config.hidden_size

    def forward(
        self, hidden_states: Tensor, mask: Tensor | None, initial_state: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            hidden_states: (batch, source, input).
            mask: (batch, source) or `None`.
            initial_state: the state that the layer begins with, (batch, directions * state); zeros by default.

        Returns:
            The outputs (batch, source, directions * hidden) and the final state (batch, directions * state).
        """
        inputs = self.norm(hidden_states)
        outputs, final_states = [], []
        begun = None if initial_state is None else initial_state.chunk(len(self.cells), dim=-1)
        cell: Any
        for direction, cell in enumerate(self.cells):
            start = inputs.new_zeros(inputs.shape[0], cell.state_size) if begun is None else begun[direction]
            recurrent_mask = draw_recurrent_mask(cell, self.recurrent_dropout)
            output, final_state = recurrence(cell, inputs, mask, start, direction == 1, recurrent_mask)
            outputs.append(output)
            final_states.append(final_state)
        output = self.dropout(torch.cat(outputs, dim=-1))
        if self.residual:
            output = output + hidden_states
        return output, torch.cat(final_states, dim=-1)


class RecurrentStack(nn.ModuleList):
    """
    The recurrent layers of an encoder; the outputs of the last one are the memory.

    Args:
        input_size: width of the vectors that the first one reads.
    """

    def __init__(self, config: AttentionRnnCoreConfig, input_size: int) -> None:
        directions = config.encoder_directions
        widths = [input_size, *(count * config.hidden_size for count in directions[:-1])]
        super().__init__(
            AttentionRnnEncoderLayer(config, width, count) for width, count in zip(widths, directions, strict=True)
        )

    def forward(
        self, vectors: Tensor, mask: Tensor | None, initial_states: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """
        Args:
            vectors: what the front has made of the input, (batch, source, input).
            mask: true at real positions, (batch, source), or `None`.
            initial_states: of another call, its final states, from which these layers read on; zeros by default.

        Returns:
            The vectors and the outputs of each layer, of which the last is the memory (batch, source, memory); and the
            final states (batch, layers, width), the two directions of a layer side by side, narrower layers filled up
            with zeros.
        """
        outputs, final_states = [vectors], []
        for index, layer in enumerate(self):
            initial_state = None if initial_states is None else initial_states[:, index]
            output, final_state = layer(outputs[-1], mask, initial_state)
            outputs.append(output)
            final_states.append(final_state)
        return outputs, stack_states(final_states)


def stack_states(final_states: list[Tensor]) -> Tensor:
    """The states of layers, (batch, layers, width), narrower ones filled up with zeros."""
    width = max(state.shape[-1] for state in final_states)
    padded = [
        state if state.shape[-1] == width else nn.functional.pad(state, (0, width - state.shape[-1]))
        for state in final_states
    ]
    return torch.stack(padded, dim=1)


class AttentionRnnEncoder(TokenFront):
    """The encoder of tokens: their vectors, read by recurrent layers."""

    def __init__(self, config: AttentionRnnConfig) -> None:
        super().__init__(config, config.source_size, config.character_size)
        self.layers = RecurrentStack(config, config.embedding_size)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        character_ids: Tensor | None = None,
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
            character_ids: with `character_size`, the characters of each token, (batch, source, characters), as
                `AttentionRnnWordTokenizer` gives them.
            copy_ids: with `copy`, the token that stands at each position, (batch, source); `input_ids` by default. Ids
                from `vocab_size` on stand for tokens that the vocabulary lacks.

        Raises:
            TypeError: an input is no tensor, or one of another type.
            ValueError: ids outside the vocabulary, an empty source, a mask of another shape or with a row of zeros,
                inputs on another device, characters missing.
        """
        vectors = self.read_tokens("", input_ids, inputs_embeds, character_ids)
        mask = padding_mask("attention_mask", attention_mask, vectors)
        outputs, final_state = self.layers(vectors, mask)
        return AttentionRnnEncoderOutput(
            last_hidden_state=outputs[-1],
            final_state=final_state,
            copy_ids=self._copy_ids(input_ids, copy_ids, outputs[-1]),
            hidden_states=tuple(outputs) if self.option("output_hidden_states", output_hidden_states) else None,
            attentions=() if self.option("output_attentions", output_attentions) else None,
            attention_mask=None if mask is None else mask.long(),
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
        check_device("copy_ids", copy_ids, memory.device)
        # sources have no more unknown tokens than positions, and what they have is added to every distribution
        check_token_ids("copy_ids", copy_ids, self.config.vocab_size + copy_ids.numel())
        return copy_ids.long()


def real_positions(encoded: AttentionRnnEncoderOutput) -> Tensor | None:
    """The mask of a memory as booleans, (batch, source), which have been checked; `None` where there is no padding."""
    return None if encoded.attention_mask is None else encoded.attention_mask.bool()


def memory_lengths(encoded: AttentionRnnEncoderOutput) -> Tensor:
    """How many positions of a memory are real, (batch,)."""
    memory: Any = encoded.last_hidden_state
    if encoded.attention_mask is None:
        return torch.full(memory.shape[:1], memory.shape[1], device=memory.device)
    return encoded.attention_mask.sum(dim=1)
