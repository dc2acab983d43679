"""
The attention RNN that reads speech, without a head.

    log-mel frames -> convolutions -> recurrent layers -> row convolution, where there is a `lookahead`
    -> memory (batch, source, memory), whose positions are fewer than the frames, and its own mask
    target ids -> decoder, as for a source of tokens
"""

from typing import Any, NamedTuple

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
from .row_convolution import RowConvolution
from .spec_augment import spec_augment
from .subsampling import ConvolutionalSubsampling, put_together


class AttentionRnnSpeechPreTrainedModel(AttentionRnnPreTrainedModel):
    """What all models of speech share: what they are called with, and their kind of configuration."""

    config: AttentionRnnSpeechConfig  # type: ignore[assignment]
    main_input_name = "input_features"
    input_modalities = "audio"

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, RowConvolution):
            module.initialize()
        else:
            super()._init_weights(module)


class EncoderStreamState(NamedTuple):
    """What the encoder knows of a stream before a chunk; its size is constant."""

    convolutions: list[Tensor]  # the frames that the next output of each one begins with, (1, channels, frames, bands)
    groups: list[Tensor]  # what each layer has not read yet, as its group is not full, (1, positions, width)
    layers: list[Tensor]  # the state of each layer, (1, state)
    rows: Tensor  # what the last layer has said of positions whose later ones are not there yet, (1, positions, memory)


class AttentionRnnSpeechEncoder(AttentionRnnSpeechPreTrainedModel):
    """Convolutions over the frames, and recurrent layers over what these leave."""

    def __init__(self, config: AttentionRnnSpeechConfig) -> None:
        super().__init__(config)
        self.time_reduction = list(config.time_reduction or [])
        self.subsampling = ConvolutionalSubsampling(config) if config.subsampling_channels else None
        directions = config.encoder_directions
        first = config.hidden_size if config.subsampling_channels else config.num_mel_bins
        widths = [first, *(count * config.hidden_size for count in directions[:-1])]
        self.layers = nn.ModuleList(
            AttentionRnnEncoderLayer(config, width * factor, count)
            for width, factor, count in zip(widths, self.time_reduction, directions, strict=True)
        )
        self.row_convolution = RowConvolution(config.memory_size, config.lookahead) if config.lookahead else None
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
        mask = padding_mask("attention_mask", attention_mask, frames)
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
        if self.row_convolution is not None:
            vectors = self.row_convolution(vectors, mask)
        return AttentionRnnEncoderOutput(
            last_hidden_state=vectors,
            final_state=stack_states(final_states),
            hidden_states=tuple(outputs) if self.option("output_hidden_states", output_hidden_states) else None,
            attentions=() if self.option("output_attentions", output_attentions) else None,
            attention_mask=None if mask is None else mask.long(),
        )

    def begin_stream(self) -> EncoderStreamState:
        """
        The state before the first frame of a stream.

        Raises:
            ValueError: a layer reads backwards, or a convolution sees later frames.
        """
        config = self.config
        if set(config.encoder_directions) != {1}:
            raise ValueError(
                "`bidirectional` must be False to stream, since a layer that reads backwards begins at the end; got "
                f"{config.bidirectional}."
            )
        if self.subsampling is not None and not config.causal:
            raise ValueError("`causal` must be True to stream, since convolutions see later frames otherwise.")
        like = next(self.parameters())
        widths = [layer.cells[0].input_to_hidden.in_features // count for layer, count in self._layers_and_counts()]
        return EncoderStreamState(
            convolutions=[] if self.subsampling is None else self.subsampling.begin_stream(like),
            groups=[like.new_zeros(1, 0, width) for width in widths],
            layers=[like.new_zeros(1, config.state_size) for _ in widths],
            rows=like.new_zeros(1, 0, config.memory_size),
        )

    def stream(
        self, chunks: list[Tensor], states: list[EncoderStreamState], is_last: bool = False
    ) -> tuple[list[Tensor], list[EncoderStreamState]]:
        """
        The positions of the memory that chunks complete: those of the whole, whatever the chunks are.

        Args:
            chunks: the next frames of some streams, (frames, mels) each, of any number, also none.
            states: what is known of each of these streams.
            is_last: whether they end here, so that groups of `time_reduction` that are not full are read as well, and
                nothing follows for the `lookahead`.

        Returns:
            The new positions of each stream, (1, positions, memory), and the states.
        """
        vectors, convolutions = [], []
        for chunk, state in zip(chunks, states, strict=True):
            output, left = chunk[None], state.convolutions
            if self.subsampling is not None:
                output, left = self.subsampling.stream(output, left)
            vectors.append(output)
            convolutions.append(left)
        groups: list[list[Tensor]] = [[] for _ in states]
        layers: list[list[Tensor]] = [[] for _ in states]
        for index, (layer, count) in enumerate(self._layers_and_counts()):
            for stream, state in enumerate(states):
                waiting = torch.cat([state.groups[index], vectors[stream]], dim=1)
                full = waiting.shape[1] if is_last else waiting.shape[1] // count * count
                groups[stream].append(waiting[:, full:])
                vectors[stream], _ = put_together(waiting[:, :full], None, count)
            begun = [state.layers[index] for state in states]
            vectors, ended = _read_side_by_side(layer, vectors, begun)
            for stream, final_state in enumerate(ended):
                layers[stream].append(final_state)
        rows = [state.rows for state in states]
        if self.row_convolution is not None:
            heard = [torch.cat([before, new], dim=1) for before, new in zip(rows, vectors, strict=True)]
            if is_last:
                heard = [self.row_convolution.end(memory) for memory in heard]
            vectors = [self.row_convolution.stream(memory) for memory in heard]
            rows = [memory[:, done.shape[1] :] for memory, done in zip(heard, vectors, strict=True)]
        return vectors, [EncoderStreamState(*parts) for parts in zip(convolutions, groups, layers, rows, strict=True)]

    def _layers_and_counts(self) -> list[tuple[Any, int]]:
        return list(zip(self.layers, self.time_reduction, strict=True))

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
        self.check_device("input_features", input_features)
        if has_values(input_features) and not input_features.isfinite().all():
            raise ValueError("`input_features` must be finite, got NaN or infinite values.")
        return input_features.to(self.dtype)


def _read_side_by_side(layer: Any, inputs: list[Tensor], states: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """A layer over sequences of any lengths, (1, positions, width), each with its own state, (1, state)."""
    present = [index for index, vectors in enumerate(inputs) if vectors.shape[1]]
    outputs = [vectors.new_zeros(1, 0, layer.cells[0].hidden_size) for vectors in inputs]
    ended = list(states)
    if present:
        lengths = torch.tensor([inputs[index].shape[1] for index in present], device=inputs[0].device)
        padded = nn.utils.rnn.pad_sequence([inputs[index][0] for index in present], batch_first=True)
        mask = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
        begun = torch.cat([states[index] for index in present])
        output, final_states = layer(padded, None if len(present) == 1 else mask, begun)
        for row, index in enumerate(present):
            outputs[index] = output[row : row + 1, : inputs[index].shape[1]]
            ended[index] = final_states[row : row + 1]
    return outputs, ended


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
        windows: Tensor | None = None,
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
            windows: the positions of the memory that each target token may attend to, (batch, target, source), as
                booleans; all real ones by default.

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
            windows=windows,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            past_key_values=past_key_values,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
