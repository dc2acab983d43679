"""
The attention RNN encoder-decoder without a head, as a transformers model.

    source ids -> encoder -> memory (batch, source, memory) and final state
                             bridge: final state -> first decoder state
    target ids -> decoder: recurrent layers, attention over the memory, attentional vector
                             lm_head of `modeling_attention_rnn_seq2seq.py`: attentional vector -> logits

Every axis of `AttentionRnnConfig` has one place: the cell in `cells.py`, the loop over time in `recurrence.py`, the
score function in `attention.py`, the feeding of the context and the first state in `decoder.py`, the state while
decoding in `cache.py`.
"""

from dataclasses import fields
from typing import Any

from torch import Tensor, nn
from transformers import EncoderDecoderCache
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .base import AttentionRnnPreTrainedModel
from .cache import CACHE, cache_field, is_filled, takes_cache
from .checks import padding_mask
from .configuration_attention_rnn import AttentionRnnConfig
from .decoder import AttentionRnnDecoder
from .decoder_layer import AttentionRnnBridge
from .encoder import AttentionRnnEncoder, real_positions
from .fronts import TokenFront
from .outputs import AttentionRnnEncoderOutput, AttentionRnnModelOutput


class AttentionRnnModel(AttentionRnnPreTrainedModel):
    """
    The bare encoder-decoder: attentional vectors of the target given the source. With `is_encoder_decoder=False` there
    is no decoder: the memory of the source, as the heads for classification and labelling read it.
    """

    def __init__(self, config: AttentionRnnConfig) -> None:
        super().__init__(config)
        self.encoder = AttentionRnnEncoder(config)
        if config.is_encoder_decoder:
            self.decoder = AttentionRnnDecoder(config)
            self.bridge = AttentionRnnBridge(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.encoder.embed_tokens

    def set_input_embeddings(self, value: Any) -> None:
        self.encoder.embed_tokens = value

    @property
    def target_front(self) -> TokenFront:
        """The part that holds the embeddings of the target: the encoder, where both sides share one vocabulary."""
        return self.encoder if self.config.source_vocab_size is None else self.decoder

    @can_return_tuple
    @takes_cache
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
        character_ids: Tensor | None = None,
        copy_ids: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> AttentionRnnModelOutput | AttentionRnnEncoderOutput:
        """
        Args:
            input_ids, attention_mask, inputs_embeds, character_ids, copy_ids: the source, see
                `AttentionRnnEncoder.forward`.
            decoder_input_ids, decoder_attention_mask, decoder_inputs_embeds: the target, see
                `AttentionRnnDecoder.forward`.
            encoder_outputs: what the encoder returned for this source, instead of the source itself.
            past_key_values: the decoding state returned by the last call.

        Returns:
            `last_hidden_state`: the attentional vectors, (batch, target, embedding). Without a decoder, what the
            encoder returns.

        Raises:
            ValueError, TypeError: see the encoder and the decoder.
        """
        if encoder_outputs is None:
            encoded: Any = self.encoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                inputs_embeds=inputs_embeds,
                character_ids=character_ids,
                copy_ids=copy_ids,
                output_attentions=output_attentions,
                output_hidden_states=output_hidden_states,
                return_dict=True,
            )
            mask = real_positions(encoded)
        else:
            encoded = self._read_encoder_outputs(encoder_outputs)
            mask = real_positions(encoded)
            if attention_mask is not None:
                mask = padding_mask("attention_mask", attention_mask, *encoded.last_hidden_state.shape[:2])
        if not self.config.is_encoder_decoder:
            return encoded
        memory = encoded.last_hidden_state
        initial_state = None
        if not is_filled(past_key_values):
            initial_state = self.bridge(memory, encoded.final_state, mask)
        if decoder_input_ids is not None and decoder_inputs_embeds is None:
            # one matrix is held by one module, so that adapters, FSDP and device maps meet it once
            decoder_inputs_embeds = self.target_front.embed("decoder_input_ids", decoder_input_ids)
            decoder_input_ids = None
        decoder_outputs = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=memory,
            encoder_attention_mask=mask,
            initial_state=initial_state,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        return AttentionRnnModelOutput(
            last_hidden_state=decoder_outputs.last_hidden_state,
            **cache_field(decoder_outputs.get(CACHE)),
            decoder_hidden_states=decoder_outputs.hidden_states,
            decoder_attentions=decoder_outputs.attentions,
            cross_attentions=decoder_outputs.cross_attentions,
            encoder_last_hidden_state=memory,
            encoder_hidden_states=encoded.hidden_states,
            encoder_attentions=encoded.attentions,
            generation_probability=decoder_outputs.generation_probability,
            copy_ids=encoded.copy_ids if self.config.copy else None,
        )

    def _read_encoder_outputs(self, outputs: Any) -> AttentionRnnEncoderOutput:
        if isinstance(outputs, AttentionRnnEncoderOutput):
            encoded = outputs
        elif isinstance(outputs, tuple):
            encoded = AttentionRnnEncoderOutput(*outputs)
        elif isinstance(outputs, ModelOutput):  # that of a class of transformers lacks some fields
            encoded = AttentionRnnEncoderOutput(
                **{field.name: outputs.get(field.name) for field in fields(AttentionRnnEncoderOutput)}
            )
        else:
            raise TypeError(f"`encoder_outputs` must be what the encoder returned, got {type(outputs).__name__}.")
        memory, width = encoded.last_hidden_state, self.config.memory_size
        if not isinstance(memory, Tensor) or memory.dim() != 3 or memory.shape[1] == 0 or memory.shape[2] != width:
            given = tuple(memory.shape) if isinstance(memory, Tensor) else type(memory).__name__
            raise ValueError(
                f"`encoder_outputs` must hold a memory of the shape (batch, source, {width}), got {given}."
            )
        if self.config.copy and encoded.copy_ids is None:
            raise ValueError("`encoder_outputs` must hold the `copy_ids` of the encoder for `copy=True`.")
        return encoded
