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

from typing import Any

from torch import Tensor, nn
from transformers import EncoderDecoderCache
from transformers.utils.generic import can_return_tuple

from .cache import takes_cache
from .checks import padding_mask
from .configuration_attention_rnn import AttentionRnnConfig
from .encoder import AttentionRnnEncoder, real_positions
from .encoder_decoder import AttentionRnnEncoderDecoder
from .outputs import AttentionRnnEncoderOutput, AttentionRnnModelOutput


class AttentionRnnModel(AttentionRnnEncoderDecoder):
    """
    The bare encoder-decoder: attentional vectors of the target given the source. With `is_encoder_decoder=False` there
    is no decoder: the memory of the source, as the heads for classification and labelling read it.
    """

    def __init__(self, config: AttentionRnnConfig) -> None:
        super().__init__(config)
        self.encoder = AttentionRnnEncoder(config)
        self.make_decoder()
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.encoder.embed_tokens

    def set_input_embeddings(self, value: Any) -> None:
        self.encoder.embed_tokens = value

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
            encoded = self.read_encoder_outputs(encoder_outputs)
            mask = real_positions(encoded)
            if attention_mask is not None:
                mask = padding_mask("attention_mask", attention_mask, encoded.last_hidden_state)
        if not self.config.is_encoder_decoder:
            return encoded
        return self.decode_target(
            encoded,
            mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            past_key_values=past_key_values,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
