"""
The attention RNN that reads speech, without a head.

    log-mel frames -> convolutions -> recurrent layers -> memory (batch, source, memory), whose positions are fewer than
                                                          the frames, and its own mask
    target ids -> decoder, as for a source of tokens
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import EncoderDecoderCache
from transformers.utils.generic import can_return_tuple

from .attention import close_holes
from .base import AttentionRnnPreTrainedModel
from .cache import takes_cache
from .checks import check_tensors, has_values, padding_mask
from .configuration_attention_rnn_speech import AttentionRnnSpeechConfig
from .encoder import AttentionRnnEncoderLayer, real_positions, stack_states
from .encoder_decoder import AttentionRnnEncoderDecoder
from .outputs import AttentionRnnEncoderOutput, AttentionRnnModelOutput
from .spec_augment import spec_augment
from .subsampling import ConvolutionalSubsampling, put_together


class AttentionRnnSpeechPreTrainedModel(AttentionRnnPreTrainedModel):
    """What all models of speech share: what they are called with, and their kind of configuration."""

    config: AttentionRnnSpeechConfig  # type: ignore[assignment]
    main_input_name = "input_features"
    input_modalities = "audio"


class AttentionRnnSpeechEncoder(AttentionRnnSpeechPreTrainedModel):
    """Convolutions over the frames, and recurrent layers over what these leave."""

    def __init__(self, config: AttentionRnnSpeechConfig) -> None:
        super().__init__(config)
        self.time_reduction: Any = config.time_reduction
        self.subsampling = ConvolutionalSubsampling(config) if config.subsampling_channels else None
        directions = config.encoder_directions
        first = config.hidden_size if config.subsampling_channels else config.num_mel_bins
        widths = [first, *(count * config.hidden_size for count in directions[:-1])]
        self.layers = nn.ModuleList(
            AttentionRnnEncoderLayer(config, width * factor, count)
            for width, factor, count in zip(widths, self.time_reduction, directions, strict=True)
        )
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> AttentionRnnEncoderOutput:
        """
        Args:
            input_features: log-mel frames, (batch, frames, mels).
            attention_mask: 1 at real frames, 0 at padding, (batch, frames); padding may stand anywhere.

        Returns:
            `last_hidden_state`: the memory, (batch, source, memory), padding on the right. `attention_mask`: that of
            the memory, (batch, source), `None` where nothing is padded.

        Raises:
            TypeError: an input is no tensor, or one of another type.
            ValueError: features of another shape or without a frame, NaN or infinite values, a mask of another shape or
                with a row of zeros.
        """
        frames = self.checked_features(input_features)
        mask = padding_mask("attention_mask", attention_mask, *frames.shape[:2])
        if mask is not None:
            frames = close_holes(frames, mask)
            mask = torch.arange(frames.shape[1], device=frames.device) < mask.sum(dim=1, keepdim=True)
        if self.training and self.config.apply_spec_augment:
            everything = torch.full(frames.shape[:1], frames.shape[1], device=frames.device)
            frames = spec_augment(frames, everything if mask is None else mask.sum(dim=1), self.config)
        vectors = frames
        if self.subsampling is not None:
            vectors, mask = self.subsampling(frames, mask)
        outputs, final_states = [vectors], []
        for layer, count in zip(self.layers, self.time_reduction, strict=True):
            vectors, mask = put_together(vectors, mask, count)
            vectors, final_state = layer(vectors, mask)
            outputs.append(vectors)
            final_states.append(final_state)
        return AttentionRnnEncoderOutput(
            last_hidden_state=vectors,
            final_state=stack_states(final_states),
            hidden_states=tuple(outputs) if self.option("output_hidden_states", output_hidden_states) else None,
            attentions=() if self.option("output_attentions", output_attentions) else None,
            attention_mask=None if mask is None else mask.long(),
        )

    def checked_features(self, input_features: Any) -> Tensor:
        """
        Features in the precision of the model.

        Raises:
            TypeError, ValueError: see `forward`.
        """
        if input_features is None:
            raise ValueError("`input_features` must be given, got None.")
        check_tensors(input_features=input_features)
        if not input_features.is_floating_point():
            raise TypeError(f"`input_features` must be floating point numbers, got {input_features.dtype}.")
        bands = self.config.num_mel_bins
        if input_features.dim() != 3 or input_features.numel() == 0 or input_features.shape[2] != bands:
            raise ValueError(
                f"`input_features` must have the shape (batch, frames, {bands}) with one frame or more, got "
                f"{tuple(input_features.shape)}."
            )
        if has_values(input_features) and not input_features.isfinite().all():
            raise ValueError("`input_features` must be finite, got NaN or infinite values.")
        return input_features.to(self.dtype)


class AttentionRnnSpeechModel(AttentionRnnSpeechPreTrainedModel, AttentionRnnEncoderDecoder):
    """
    The bare encoder-decoder: attentional vectors of the target given speech. With `is_encoder_decoder=False` there is
    no decoder: the memory of the speech, as classifier and CTC read it.
    """

    def __init__(self, config: AttentionRnnSpeechConfig) -> None:
        super().__init__(config)
        self.encoder = AttentionRnnSpeechEncoder(config)
        self.make_decoder()
        self.post_init()

    def get_input_embeddings(self) -> Any:
        if not self.config.is_encoder_decoder:
            raise NotImplementedError("There are no embeddings where nothing is written.")
        return self.decoder.embed_tokens

    def set_input_embeddings(self, value: Any) -> None:
        self.decoder.embed_tokens = value

    @can_return_tuple
    @takes_cache
    def forward(
        self,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: AttentionRnnEncoderOutput | tuple | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> AttentionRnnModelOutput | AttentionRnnEncoderOutput:
        """
        Args:
            input_features, attention_mask: the speech, see `AttentionRnnSpeechEncoder.forward`.
            decoder_input_ids, decoder_attention_mask, decoder_inputs_embeds: the target, see
                `AttentionRnnDecoder.forward`.
            encoder_outputs: what the encoder returned for this speech, instead of the speech itself. The mask is then
                the one it holds.
            past_key_values: the decoding state returned by the last call.

        Returns:
            `last_hidden_state`: the attentional vectors, (batch, target, embedding). Without a decoder, what the
            encoder returns.

        Raises:
            ValueError, TypeError: see the encoder and the decoder.
        """
        if encoder_outputs is None:
            encoded: Any = self.encoder(
                input_features=input_features,
                attention_mask=attention_mask,
                output_attentions=output_attentions,
                output_hidden_states=output_hidden_states,
                return_dict=True,
            )
        else:
            encoded = self.read_encoder_outputs(encoder_outputs)
        if not self.config.is_encoder_decoder:
            return encoded
        return self.decode_target(
            encoded,
            real_positions(encoded),
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            past_key_values=past_key_values,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
