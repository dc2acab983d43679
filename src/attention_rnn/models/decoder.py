"""The decoder: recurrent layers over the target, attention over the memory, and the attentional vector."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import EncoderDecoderCache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions
from transformers.utils.generic import can_return_tuple

from .attention import build_attention
from .base import AttentionRnnPreTrainedModel, embed
from .cache import is_filled, new_cache, read_memory, read_states, write_memory, write_states
from .cells import CELLS
from .checks import padding_mask
from .configuration_attention_rnn import AttentionRnnConfig
from .recurrence import recurrence


class AttentionRnnDecoderLayer(GradientCheckpointingLayer):
    """A recurrent layer over the target, whose input may be joined by a context."""

    def __init__(self, config: AttentionRnnConfig, input_size: int, context_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(input_size + context_size) if config.layer_norm else nn.Identity()
        self.cell = CELLS[config.cell_type](input_size + context_size, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.residual = config.residual and input_size == config.hidden_size

    def forward(
        self, hidden_states: Tensor, context: Tensor | None, initial_state: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            hidden_states: (batch, target, input).
            context: (batch, target, context), or `None` for a layer without.
            initial_state: (batch, state).
            mask: (batch, target) or `None`.

        Returns:
            The outputs (batch, target, hidden) and the state after each token (batch, target, state).
        """
        inputs = hidden_states if context is None else torch.cat([hidden_states, context], dim=-1)
        states = recurrence(self.cell, self.norm(inputs), mask, initial_state)
        output = self.dropout(states[..., : self.cell.hidden_size])
        if self.residual:
            output = output + hidden_states
        return output, states


class AttentionRnnReadout(nn.Module):
    """
    The attentional vector that `lm_head` reads, with the last target token beside it (the deep output of Bahdanau et
    al., 2015, appendix A.2.2, with the tanh of Luong et al., 2015, equation 5):

        vector_t = tanh(W [state_t; context_t; embedding_t] + b)
    """

    def __init__(self, config: AttentionRnnConfig) -> None:
        super().__init__()
        width = config.hidden_size + config.memory_size + config.embedding_size
        self.projection = nn.Linear(width, config.embedding_size)
        self.dropout = nn.Dropout(config.readout_dropout)

    def forward(self, output: Tensor, context: Tensor, embeddings: Tensor) -> Tensor:
        """(batch, target, hidden | memory | embedding) -> (batch, target, embedding)"""
        return self.dropout(torch.tanh(self.projection(torch.cat([output, context, embeddings], dim=-1))))


class Memory(NamedTuple):
    """What the attention looks at: its keys, the memory, and the mask of the source."""

    keys: Tensor
    values: Tensor
    mask: Tensor | None


class Decoded(NamedTuple):
    """What a feeding of the context returns."""

    vectors: Tensor  # the attentional vectors, (batch, target, embedding)
    hidden_states: list[Tensor]  # the outputs of each layer, (batch, target, hidden)
    states: list[Tensor]  # the states of each layer after each token, (batch, target, state)
    weights: Tensor  # the attention, (batch, heads, target, source)
    fed: Tensor  # what each token feeds to the next, (batch, target, fed); the width may be zero


class AttentionRnnDecoder(AttentionRnnPreTrainedModel):
    """Embeddings, recurrent layers and attention over the target; `context_feeding` says how they are wired."""

    def __init__(self, config: AttentionRnnConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size, config.pad_token_id)
        self.dropout = nn.Dropout(config.embedding_dropout)
        fed_size = config.embedding_size if config.context_feeding == "input" else 0
        context_size = config.memory_size if config.context_feeding == "parallel" else 0
        self.layers = nn.ModuleList(
            [AttentionRnnDecoderLayer(config, config.embedding_size, fed_size)]
            + [
                AttentionRnnDecoderLayer(config, config.hidden_size, context_size)
                for _ in range(config.decoder_layers - 1)
            ]
        )
        self.attention = build_attention(
            config.attention_type, config.hidden_size, config.memory_size, config.attention_size or config.hidden_size
        )
        self.readout = AttentionRnnReadout(config)
        self.fed_size = fed_size
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        initial_state: Tensor | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """
        Args:
            input_ids: target tokens, beginning with `decoder_start_token_id`, (batch, target). With a filled cache the
                new ones alone.
            attention_mask: (batch, target), or (batch, past + target) with a filled cache. The state does not move at
                padding.
            encoder_hidden_states: the memory, (batch, source, memory).
            encoder_attention_mask: (batch, source).
            initial_state: the state before the first token, (batch, decoder layers, state); zeros by default. Not used
                with a filled cache.
            past_key_values: the decoding state, see `cache.py`.
            inputs_embeds: embeddings instead of `input_ids`, (batch, target, embedding).

        Returns:
            `last_hidden_state`: the attentional vectors, (batch, target, embedding).
            `cross_attentions`: one tensor, (batch, heads, target, source).
            `hidden_states`: the embeddings and the output of each layer.
        """
        embeddings = self.dropout(embed("decoder_", self.embed_tokens, input_ids, inputs_embeds))
        mask = _target_mask(attention_mask, *embeddings.shape[:2])
        use_cache = self.option("use_cache", use_cache)
        if use_cache and past_key_values is None:
            past_key_values = new_cache(self.config)

        if past_key_values is not None and is_filled(past_key_values):
            keys, memory = read_memory(past_key_values)
            states, fed = read_states(past_key_values)
        elif encoder_hidden_states is None:
            raise ValueError("`encoder_hidden_states` must be given with an empty `past_key_values` or none.")
        else:
            memory = encoder_hidden_states
            keys = self.attention.project(memory)
            if initial_state is None:
                state_size = CELLS[self.config.cell_type].states * self.config.hidden_size
                initial_state = embeddings.new_zeros(embeddings.shape[0], len(self.layers), state_size)
            states = list(initial_state.unbind(dim=1))
            fed = embeddings.new_zeros(embeddings.shape[0], 1, self.fed_size)
            if past_key_values is not None:
                write_memory(past_key_values, keys, memory)
        source_mask = padding_mask("attention_mask", encoder_attention_mask, *memory.shape[:2])

        decode = self._decode_parallel if self.config.context_feeding == "parallel" else self._decode_input
        decoded = decode(embeddings, states, fed, Memory(keys, memory, source_mask), mask)

        if past_key_values is not None:
            write_states(past_key_values, decoded.states, decoded.fed)
        output_attentions = self.option("output_attentions", output_attentions)
        output_hidden_states = self.option("output_hidden_states", output_hidden_states)
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=decoded.vectors,
            past_key_values=past_key_values if use_cache else None,
            hidden_states=(embeddings, *decoded.hidden_states) if output_hidden_states else None,
            attentions=() if output_attentions else None,
            cross_attentions=(decoded.weights,) if output_attentions else None,
        )

    def _decode_parallel(
        self, embeddings: Tensor, states: list[Tensor], fed: Tensor, memory: Memory, mask: Tensor | None
    ) -> Decoded:
        """
        The first layer reads the target alone and queries the memory for all steps at once; the context joins the
        input of the layers above (Wu et al., 2016, https://arxiv.org/abs/1609.08144, section 3, as in GNMT v2).
        """
        output, layer_states = self.layers[0](embeddings, None, states[0], mask)
        outputs, new_states = [output], [layer_states]
        context, weights = self.attention(output, *memory)
        for layer, state in zip(self.layers[1:], states[1:], strict=True):
            output, layer_states = layer(output, context, state, mask)
            outputs.append(output)
            new_states.append(layer_states)
        vectors = self.readout(output, context, embeddings)
        return Decoded(vectors, outputs, new_states, weights, fed=vectors[..., :0])

    def _decode_input(
        self, embeddings: Tensor, states: list[Tensor], fed: Tensor, memory: Memory, mask: Tensor | None
    ) -> Decoded:
        """
        The last layer queries the memory, and the attentional vector joins the next input (input feeding, Luong et
        al., 2015, section 3.3).
        """
        steps = []
        for step in range(embeddings.shape[1]):
            token = slice(step, step + 1)
            token_mask = None if mask is None else mask[:, token]
            output, states, outputs = embeddings[:, token], list(states), []
            for index, layer in enumerate(self.layers):
                output, state = layer(output, fed if index == 0 else None, states[index], token_mask)
                outputs.append(output)
                states[index] = state[:, -1]
            context, weights = self.attention(output, *memory)
            vector = self.readout(output, context, embeddings[:, token])
            fed = vector if token_mask is None else torch.where(token_mask[..., None], vector, fed)
            steps.append((vector, outputs, [state[:, None] for state in states], weights, fed))
        all_vectors, all_outputs, all_states, all_weights, all_fed = zip(*steps, strict=True)
        return Decoded(
            torch.cat(all_vectors, dim=1),
            [torch.cat(layer_outputs, dim=1) for layer_outputs in zip(*all_outputs, strict=True)],
            [torch.cat(layer_states, dim=1) for layer_states in zip(*all_states, strict=True)],
            torch.cat(all_weights, dim=2),
            torch.cat(all_fed, dim=1),
        )


def _target_mask(attention_mask: Tensor | None, batch_size: int, length: int) -> Tensor | None:
    if attention_mask is None:
        return None
    if attention_mask.dim() != 2 or attention_mask.shape[0] != batch_size or attention_mask.shape[1] < length:
        raise ValueError(
            f"`decoder_attention_mask` must be (batch, past + target), here {batch_size} rows of at least {length}, "
            f"got {tuple(attention_mask.shape)}."
        )
    return attention_mask[:, -length:].to(torch.bool)
