"""
The attention RNN encoder-decoder: encoder, bridge, decoder, base model, and the model for conditional generation.

    source ids -> encoder -> memory (batch, source, memory) and final state
                             bridge: final state -> first decoder state
    target ids -> decoder: recurrent layers, attention over the memory, attentional vector
                             lm_head: attentional vector -> logits

Every axis of `AttentionRnnConfig` has one place: the cell in `cells.py`, the loop over time in `recurrence.py`, the
score function in `attention.py`, the feeding of the context in `AttentionRnnDecoder`, the bridge in
`AttentionRnnBridge`, the state while decoding in `cache.py`.
"""

import shutil
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import EncoderDecoderCache, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import DynamicCache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutputWithPastAndCrossAttentions,
    Seq2SeqLMOutput,
    Seq2SeqModelOutput,
)
from transformers.utils.generic import can_return_tuple

from .attention import build_attention
from .cache import LAYER_TYPE  # noqa: F401  the import registers the cache layers
from .cells import CELLS, GRUCell
from .checks import IGNORED_LABEL, check_labels, check_token_ids, padding_mask
from .configuration_attention_rnn import AUTO_MAP, AttentionRnnConfig
from .outputs import AttentionRnnEncoderOutput
from .recurrence import recurrence


class AttentionRnnPreTrainedModel(PreTrainedModel):
    """
    What all models of the family share: initial values, and a checkpoint that carries its code.

    Initial values: cells and layer norms as they say themselves; embeddings and `lm_head` normal with standard
    deviation `embedding_size ** -0.5`, the padding row zero; other matrices Xavier uniform, biases zero.
    """

    config: AttentionRnnConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("text",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["AttentionRnnEncoderLayer", "AttentionRnnDecoderLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _can_compile_fullgraph = True

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, GRUCell):
            module.initialize()
        elif isinstance(module, nn.Embedding) or module is getattr(self, "lm_head", None):
            init.normal_(module.weight, std=self.config.embedding_size**-0.5)
            padding_index = getattr(module, "padding_idx", None)
            if padding_index is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[padding_index])
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)

    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False) -> None:
        # For code outside its tree transformers skips modules without parameters of their own, such as our cells, to
        # protect loaded weights. `_init_weights` protects them itself.
        super()._initialize_weights(module, is_custom_code=False)

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        # transformers ties nothing when `tie_word_embeddings` is off, but a shared vocabulary is shared all the same;
        # our `_tied_weights_keys` already say what this config ties.
        if all_submodels:
            return super().get_expanded_tied_weights_keys(all_submodels=True)
        return dict(self._tied_weights_keys or {})

    def save_pretrained(self, save_directory: str | PathLike, is_main_process: bool = True, **kwargs: Any) -> None:
        """
        As in transformers; the code of the model is saved as well, so that the checkpoint loads with
        `trust_remote_code=True` where this package is not installed.
        """
        source = Path(__file__).parent
        present = {name: reference for name, reference in AUTO_MAP.items() if _code_file(source, reference).exists()}
        self.config.auto_map = present
        if is_main_process and not Path(save_directory).is_file():
            Path(save_directory).mkdir(parents=True, exist_ok=True)
            for file in source.glob("*.py"):
                if file.name != "__init__.py":
                    shutil.copyfile(file, Path(save_directory) / file.name)
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)


class AttentionRnnEncoderLayer(GradientCheckpointingLayer):
    """A recurrent layer that reads the source in one direction or in both (Schuster and Paliwal, 1997)."""

    def __init__(self, config: AttentionRnnConfig, input_size: int, directions: int) -> None:
        super().__init__()
        cell_class = CELLS[config.cell_type]
        self.norm = nn.LayerNorm(input_size) if config.layer_norm else nn.Identity()
        self.cells = nn.ModuleList(cell_class(input_size, config.hidden_size) for _ in range(directions))
        self.dropout = nn.Dropout(config.hidden_dropout)
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
        for direction, cell in enumerate(self.cells):
            initial_state = inputs.new_zeros(inputs.shape[0], cell.state_size)
            states = recurrence(cell, inputs, mask, initial_state, reverse=direction == 1)
            outputs.append(states[..., : cell.hidden_size])
            final_states.append(states[:, 0 if direction == 1 else -1])
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
        self.dropout = nn.Dropout(config.embedding_dropout)
        widths = [config.embedding_size] + [
            directions * config.hidden_size for directions in config.encoder_directions
        ]
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
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> AttentionRnnEncoderOutput:
        """
        Args:
            input_ids: source tokens, (batch, source).
            attention_mask: 1 at real tokens, 0 at padding, (batch, source); padding may stand anywhere.
            inputs_embeds: embeddings instead of `input_ids`, (batch, source, embedding).

        Raises:
            ValueError: ids outside the vocabulary, an empty source, a mask of another shape or with a row of zeros.
        """
        hidden_states = embed(self, input_ids, inputs_embeds)
        mask = padding_mask("attention_mask", attention_mask, *hidden_states.shape[:2])
        hidden_states = self.dropout(hidden_states)
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
            hidden_states=tuple(all_hidden_states)
            if requested(self, "output_hidden_states", output_hidden_states)
            else None,
            attentions=() if requested(self, "output_attentions", output_attentions) else None,
        )


class AttentionRnnBridge(nn.Module):
    """
    The first state of every decoder layer from what the encoder has read: `zeros`, `copy`, or a tanh layer on the final
    state of the last encoder layer (`linear`; Bahdanau et al., 2015, appendix A.2.2) or on the mean of the memory
    (`mean`; Sennrich et al., 2017, https://arxiv.org/abs/1703.04357).
    """

    def __init__(self, config: AttentionRnnConfig, state_size: int) -> None:
        super().__init__()
        self.kind = config.bridge
        self.shape = (config.decoder_layers, state_size)
        if self.kind in ("linear", "mean"):
            directions = config.encoder_directions[-1]
            self.width = directions * (state_size if self.kind == "linear" else config.hidden_size)
            self.projection = nn.Linear(self.width, config.decoder_layers * state_size)

    def forward(self, memory: Tensor, final_state: Tensor, mask: Tensor | None) -> Tensor:
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
        if self.kind == "copy":
            return final_state
        if self.kind == "linear":
            summary = final_state[:, -1, : self.width]
        elif mask is None:
            summary = memory.mean(dim=1)
        else:
            weights = mask.to(memory.dtype)[..., None]
            summary = (memory * weights).sum(dim=1) / weights.sum(dim=1)
        return torch.tanh(self.projection(summary)).unflatten(-1, self.shape)


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
        """(batch, target, hidden), (batch, target, memory), (batch, target, embedding) -> (batch, target, embedding)"""
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
        self.state_size = self.layers[0].cell.state_size
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
        embeddings = self.dropout(embed(self, input_ids, inputs_embeds))
        batch_size, length = embeddings.shape[:2]
        mask = self._target_mask(attention_mask, batch_size, length)
        use_cache = requested(self, "use_cache", use_cache)
        if use_cache and past_key_values is None:
            past_key_values = EncoderDecoderCache(DynamicCache(config=self.config), DynamicCache(config=self.config))
        if past_key_values is not None and not isinstance(past_key_values, EncoderDecoderCache):
            raise TypeError(f"`past_key_values` must be an EncoderDecoderCache, got {type(past_key_values).__name__}.")

        memory = self._memory(encoder_hidden_states, encoder_attention_mask, past_key_values)
        states, fed = self._first_state(initial_state, past_key_values, embeddings)
        if past_key_values is not None:
            past_key_values.is_updated[0] = True

        decode = self._decode_parallel if self.config.context_feeding == "parallel" else self._decode_input
        decoded = decode(embeddings, states, fed, memory, mask)

        if past_key_values is not None:
            for index, state in enumerate(decoded.states):
                fed = decoded.fed if index == 0 else state[..., :0]
                past_key_values.self_attention_cache.update(state[:, None], fed[:, None], index)
        output_hidden_states = requested(self, "output_hidden_states", output_hidden_states)
        output_attentions = requested(self, "output_attentions", output_attentions)
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
        The last layer queries the memory, and the attentional vector joins the next input (input feeding, Luong et al.,
        2015, section 3.3).
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
        vectors, outputs, new_states, weights, fed_steps = zip(*steps, strict=True)
        return Decoded(
            torch.cat(vectors, dim=1),
            [torch.cat(layer_outputs, dim=1) for layer_outputs in zip(*outputs, strict=True)],
            [torch.cat(layer_states, dim=1) for layer_states in zip(*new_states, strict=True)],
            torch.cat(weights, dim=2),
            torch.cat(fed_steps, dim=1),
        )

    def _target_mask(self, attention_mask: Tensor | None, batch_size: int, length: int) -> Tensor | None:
        if attention_mask is None:
            return None
        if attention_mask.dim() != 2 or attention_mask.shape[0] != batch_size or attention_mask.shape[1] < length:
            raise ValueError(
                f"`decoder_attention_mask` must have the shape (batch, past + target), at least {(batch_size, length)}, "
                f"got {tuple(attention_mask.shape)}."
            )
        return attention_mask[:, -length:].to(torch.bool)

    def _memory(
        self, memory: Tensor | None, attention_mask: Tensor | None, past_key_values: EncoderDecoderCache | None
    ) -> Memory:
        """The memory and its keys: from the cache, or made and left there."""
        if past_key_values is not None and past_key_values.is_updated.get(0):
            layer = past_key_values.cross_attention_cache.layers[0]
            keys, memory = layer.keys[:, 0], layer.values[:, 0]
        elif memory is None:
            raise ValueError("`encoder_hidden_states` must be given when no filled `past_key_values` are.")
        else:
            keys = self.attention.project(memory)
            if past_key_values is not None:
                past_key_values.cross_attention_cache.update(keys[:, None], memory[:, None], 0, keep_all=True)
        return Memory(keys, memory, padding_mask("attention_mask", attention_mask, *memory.shape[:2]))

    def _first_state(
        self, initial_state: Tensor | None, past_key_values: EncoderDecoderCache | None, embeddings: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """The state of each layer before the first of the tokens given, and what is fed to that token."""
        if past_key_values is not None and past_key_values.is_updated.get(0):
            layers = past_key_values.self_attention_cache.layers
            return [layer.keys[:, 0, -1] for layer in layers], layers[0].values[:, 0, -1:]
        batch_size = embeddings.shape[0]
        if initial_state is None:
            initial_state = embeddings.new_zeros(batch_size, len(self.layers), self.state_size)
        return list(initial_state.unbind(dim=1)), embeddings.new_zeros(batch_size, 1, self.fed_size)


class AttentionRnnModel(AttentionRnnPreTrainedModel):
    """The bare encoder-decoder: attentional vectors of the target given the source."""

    def __init__(self, config: AttentionRnnConfig) -> None:
        super().__init__(config)
        self.encoder = AttentionRnnEncoder(config)
        self.decoder = AttentionRnnDecoder(config)
        self.bridge = AttentionRnnBridge(config, self.decoder.state_size)
        if config.source_vocab_size is None:
            self._tied_weights_keys = {"encoder.embed_tokens.weight": "decoder.embed_tokens.weight"}
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.encoder.embed_tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.encoder.embed_tokens = value
        if self.config.source_vocab_size is None:
            self.decoder.embed_tokens = value

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: AttentionRnnEncoderOutput | tuple | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqModelOutput:
        """
        Args:
            input_ids, attention_mask, inputs_embeds: the source, see `AttentionRnnEncoder.forward`.
            decoder_input_ids, decoder_attention_mask, decoder_inputs_embeds: the target, see
                `AttentionRnnDecoder.forward`.
            encoder_outputs: what the encoder returned for this source, instead of the source itself.
            past_key_values: the decoding state returned by the last call.

        Returns:
            `last_hidden_state`: the attentional vectors, (batch, target, embedding).

        Raises:
            ValueError: see the encoder and the decoder.
        """
        if encoder_outputs is None:
            encoder_outputs = self.encoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                inputs_embeds=inputs_embeds,
                output_attentions=output_attentions,
                output_hidden_states=output_hidden_states,
                return_dict=True,
            )
        elif isinstance(encoder_outputs, tuple):
            encoder_outputs = AttentionRnnEncoderOutput(*encoder_outputs)
        memory = encoder_outputs.last_hidden_state
        is_started = isinstance(past_key_values, EncoderDecoderCache) and past_key_values.is_updated.get(0)
        initial_state = None
        if not is_started:
            mask = padding_mask("attention_mask", attention_mask, *memory.shape[:2])
            initial_state = self.bridge(memory, encoder_outputs.final_state, mask)
        decoder_outputs = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=memory,
            encoder_attention_mask=attention_mask,
            initial_state=initial_state,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=decoder_outputs.last_hidden_state,
            past_key_values=decoder_outputs.past_key_values,
            decoder_hidden_states=decoder_outputs.hidden_states,
            decoder_attentions=decoder_outputs.attentions,
            cross_attentions=decoder_outputs.cross_attentions,
            encoder_last_hidden_state=memory,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )


class AttentionRnnForConditionalGeneration(AttentionRnnPreTrainedModel, GenerationMixin):
    """The encoder-decoder with a language modelling head, for sequence to sequence tasks."""

    def __init__(self, config: AttentionRnnConfig) -> None:
        super().__init__(config)
        self.model = AttentionRnnModel(config)
        self.lm_head = nn.Linear(config.embedding_size, config.vocab_size, bias=False)
        # transformers' loss of this class's name shifts the labels, which our decoder inputs already are
        self.loss_type = "ForMaskedLM"
        if config.tie_word_embeddings:
            self._tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}
        self.post_init()

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """Labels (batch, target) shifted to the right, behind `decoder_start_token_id`."""
        config = self.config
        if config.decoder_start_token_id is None or config.pad_token_id is None:
            raise ValueError("`decoder_start_token_id` and `pad_token_id` must be set in the config to use `labels`.")
        start = labels.new_full((labels.shape[0], 1), config.decoder_start_token_id)
        shifted = torch.cat([start, labels[:, :-1]], dim=1)
        return shifted.masked_fill(shifted == IGNORED_LABEL, config.pad_token_id)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: AttentionRnnEncoderOutput | tuple | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """
        Args:
            labels: target tokens, (batch, target); -100 is ignored. Without decoder inputs, these are the labels
                shifted to the right.
            Others: see `AttentionRnnModel.forward`.

        Returns:
            `loss`: mean cross entropy per target token in nats, or the sum over `num_items_in_batch` where the Trainer
            gives that number. `logits`: (batch, target, vocabulary).

        Raises:
            ValueError: labels outside the vocabulary or without any target token; see also the encoder and decoder.
        """
        if labels is not None:
            check_labels(labels, self.config.vocab_size)
            use_cache = False if use_cache is None else use_cache
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        logits = self.lm_head(outputs.last_hidden_state)  # (batch, target, vocabulary)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.config.vocab_size, **kwargs)
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            decoder_hidden_states=outputs.decoder_hidden_states,
            decoder_attentions=outputs.decoder_attentions,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            encoder_attentions=outputs.encoder_attentions,
        )

    @staticmethod
    def create_masks_for_generate(attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
        """The masks of a recurrent model stay (batch, length), also with a static cache."""
        return attention_mask

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Embedding:
        """
        As in transformers, for a model with one vocabulary.

        Raises:
            ValueError: source and target have a vocabulary each; then `resize_source_token_embeddings` and
                `resize_target_token_embeddings` say which is meant.
        """
        if self.config.source_vocab_size is not None and new_num_tokens is not None:
            raise ValueError(
                "`resize_token_embeddings` needs a vocabulary that source and target share (`source_vocab_size=None`). "
                "Use `resize_source_token_embeddings` or `resize_target_token_embeddings`."
            )
        return super().resize_token_embeddings(new_num_tokens, *args, **kwargs)

    def resize_source_token_embeddings(self, new_num_tokens: int) -> nn.Embedding:
        """Resize the embedding matrix of a source with a vocabulary of its own to `new_num_tokens` rows."""
        if self.config.source_vocab_size is None:
            raise ValueError("The source shares the target's vocabulary: use `resize_token_embeddings`.")
        encoder = self.model.encoder
        encoder.embed_tokens = self._get_resized_embeddings(encoder.embed_tokens, new_num_tokens)
        self.config.source_vocab_size = new_num_tokens
        return encoder.embed_tokens

    def resize_target_token_embeddings(self, new_num_tokens: int) -> nn.Embedding:
        """Resize the embedding matrix and `lm_head` of a target with a vocabulary of its own to `new_num_tokens` rows."""
        if self.config.source_vocab_size is None:
            raise ValueError("The target shares the source's vocabulary: use `resize_token_embeddings`.")
        decoder = self.model.decoder
        decoder.embed_tokens = self._get_resized_embeddings(decoder.embed_tokens, new_num_tokens)
        self.lm_head = self._get_resized_lm_head(self.lm_head, new_num_tokens)
        self.config.vocab_size = new_num_tokens
        self.tie_weights()
        return decoder.embed_tokens


def embed(model: AttentionRnnPreTrainedModel, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
    """
    Embeddings (batch, length, embedding) of `input_ids`, or `inputs_embeds` as they are.

    Raises:
        ValueError: both or none are given, or an id is outside the vocabulary.
    """
    prefix = "decoder_" if isinstance(model, AttentionRnnDecoder) else ""
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError(f"Give exactly one of `{prefix}input_ids` and `{prefix}inputs_embeds`.")
    if inputs_embeds is not None:
        return inputs_embeds
    check_token_ids(f"{prefix}input_ids", input_ids, model.embed_tokens.num_embeddings)
    return model.embed_tokens(input_ids)


def requested(model: AttentionRnnPreTrainedModel, option: str, value: bool | None) -> bool:
    """The option as passed to `forward`, or else as the config says."""
    return bool(getattr(model.config, option) if value is None else value)


def _code_file(folder: Path, reference: str) -> Path:
    return folder / f"{reference.split('.')[0]}.py"
