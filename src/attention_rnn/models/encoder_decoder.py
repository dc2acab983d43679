"""What the encoder-decoders share, whatever the source is: the decoder, and how it reads what an encoder returned."""

from dataclasses import fields
from typing import Any

from torch import Tensor
from transformers import EncoderDecoderCache
from transformers.utils import ModelOutput

from .base import AttentionRnnPreTrainedModel
from .cache import CACHE, cache_field, is_filled
from .decoder import AttentionRnnBridge, AttentionRnnDecoder
from .outputs import AttentionRnnEncoderOutput, AttentionRnnModelOutput


class AttentionRnnEncoderDecoder(AttentionRnnPreTrainedModel):
    """A model with an `encoder` that a subclass makes and, with `is_encoder_decoder`, a decoder and a bridge."""

    encoder: Any

    def make_decoder(self) -> None:
        """To be called by `__init__`, after the encoder is made."""
        if self.config.is_encoder_decoder:
            self.decoder = AttentionRnnDecoder(self.config)
            self.bridge = AttentionRnnBridge(self.config)

    @property
    def target_front(self) -> Any:
        """The part that holds the embeddings of the target: the encoder, where both sides share one vocabulary."""
        return self.encoder if self.config.shares_embeddings else self.decoder

    def decode_target(
        self,
        encoded: AttentionRnnEncoderOutput,
        mask: Tensor | None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        windows: Tensor | None = None,
    ) -> AttentionRnnModelOutput:
        """
        Args:
            encoded: what the encoder returned.
            mask: true at the real positions of the memory, (batch, source), or `None`.
            windows: instead of it, where each target token may attend to, (batch, target, source).
            Others: see `AttentionRnnDecoder.forward`.
        """
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
            encoder_attention_mask=mask if windows is None else windows,
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

    def read_encoder_outputs(self, outputs: Any) -> AttentionRnnEncoderOutput:
        """
        What an encoder returned, as its own class.

        Raises:
            TypeError: it is something else.
            ValueError: the memory has another shape, or `copy_ids` are missing.
        """
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
