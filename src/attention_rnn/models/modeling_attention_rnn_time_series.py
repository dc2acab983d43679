"""
The attention RNN that reads time series, without a head.

    past values -> scaled (`scaling.py`) -> patches counted from the end (`patches.py`)
                -> encoder -> memory and final state
                   bridge: final state -> first decoder state
    positions   -> decoder: a step for each future patch, attention over all past patches
                   readout of `modeling_attention_rnn_time_series_prediction.py`: numbers for each future value,
                   and past patches that are copied by the weights of the attention
                -> quantiles or parameters (`distributions.py`) -> in the units of the series
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils.generic import can_return_tuple

from .attention import ATTENTIONS, Memory
from .base import AttentionRnnPreTrainedModel
from .configuration_attention_rnn_time_series import AttentionRnnTimeSeriesConfig
from .decoder_layer import AttentionRnnBridge, AttentionRnnDecoderLayer
from .encoder import RecurrentStack
from .outputs import AttentionRnnTimeSeriesModelOutput
from .patches import Past, PatchEmbedding, PatchReadout, future_patches, past_patches, unless_whole
from .scaling import location_and_scale
from .series import (
    Static,
    check_observed,
    for_each_channel,
    join_channels,
    read_features,
    read_static,
    read_values,
    split_channels,
)


class DecoderState(NamedTuple):
    """What the decoder knows before a patch."""

    states: list[Tensor]  # the state of each layer, (batch, state)
    alignment: Tensor  # where the attention has looked, (batch, features, past patches)


class Series(NamedTuple):
    """Sequences that have been read, and what is needed to read on."""

    past: Past
    of_series: Tensor  # what is known of each whole series, (batch, 1, hidden)
    loc: Tensor  # (batch, 1, channels)
    scale: Tensor  # (batch, 1, channels)
    known: Tensor  # true where anything of a channel is observed, (batch, 1, channels)
    last_patch: Tensor  # the vector of the last patch, (batch, 1, hidden)


class AttentionRnnTimeSeriesPreTrainedModel(AttentionRnnPreTrainedModel):
    """
    What models of time series share. Initial values as in `AttentionRnnPreTrainedModel`, but embeddings are normal with
    standard deviation 0.02, and the linear layers that read patches, join context and output, and make forecasts are
    uniform within inputs ** -0.5 as torch's own (not for an echo state): forecasts that begin small become better ones.
    """

    config: AttentionRnnTimeSeriesConfig  # type: ignore[assignment]
    main_input_name = "past_values"
    input_modalities = ("time",)  # type: ignore[assignment]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=0.02)
        elif isinstance(module, (PatchEmbedding, AttentionRnnTimeSeriesDecoder, PatchReadout)):
            if self.config.cell_type != "echo_state":
                _initialize_linear_layers(module)
            if isinstance(module, PatchReadout):
                module.initialize()
        else:
            super()._init_weights(module)


def _initialize_linear_layers(module: nn.Module) -> None:
    for layer in module.children():
        if isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            init.uniform_(layer.weight, -bound, bound)
            if layer.bias is not None:
                init.uniform_(layer.bias, -bound, bound)


class SeriesEmbedding(nn.Module):
    """What is known of a whole series: its channel and its static features, as a vector."""

    def __init__(self, config: AttentionRnnTimeSeriesConfig) -> None:
        super().__init__()
        self.width = config.hidden_size
        has_channels = config.channel_embedding and config.num_channels > config.channels_together
        self.channel = nn.Embedding(config.num_channels, config.hidden_size) if has_channels else None
        real = config.num_static_real_features
        self.real = nn.Linear(real, config.hidden_size, bias=False) if real else None
        self.categorical = nn.ModuleList(
            nn.Embedding(cardinality, config.hidden_size) for cardinality in config.cardinality or ()
        )
        self.config = config

    def forward(self, static: Static, like: Tensor) -> Tensor:
        """(batch * channels, 1, hidden), of the type of `like` (batch, ...)."""
        vector = like.new_zeros(like.shape[0], self.width)
        if self.real is not None and static.real is not None:
            vector = vector + self.real(static.real)
        if static.categorical is not None:
            for embedding, values in zip(self.categorical, static.categorical.unbind(1), strict=True):
                vector = vector + embedding(values)
        vector = for_each_channel(vector, self.config)
        if self.channel is not None:
            channels = torch.arange(self.config.num_channels, device=like.device)
            vector = vector + self.channel(channels).repeat(like.shape[0], 1)
        return vector[:, None]


class AttentionRnnTimeSeriesDecoder(nn.Module):
    """
    Recurrent layers over the future patches, the last of which queries the past. The vector of a patch is

        vector = output + W [output; context] + b
    """

    def __init__(self, config: AttentionRnnTimeSeriesConfig) -> None:
        super().__init__()
        kind: Any = config
        self.is_parallel = config.decoding == "parallel"
        self.layers = nn.ModuleList(
            AttentionRnnDecoderLayer(kind, config.hidden_size, 0) for _ in range(config.decoder_layers)
        )
        self.attention: Any = None if config.attention_type is None else ATTENTIONS[config.attention_type](config)
        self.combination = nn.Linear(config.hidden_size + config.context_size, config.hidden_size)

    def begin(self, initial_state: Tensor, past: Past) -> DecoderState:
        """The state before the first patch, of that which the bridge has made."""
        features = 0 if self.attention is None else self.attention.alignment_features
        precision = torch.promote_types(initial_state.dtype, torch.float32)  # it is a sum
        alignment = initial_state.new_zeros(*past.mask.shape[:1], features, past.mask.shape[1], dtype=precision)
        return DecoderState(list(initial_state.unbind(dim=1)), alignment)

    def memory(self, past: Past) -> Memory:
        """What the attention looks at."""
        keys = values = past.memory[..., :0]
        if self.attention is not None:
            keys, values = self.attention.project(past.memory)
        return Memory(keys, values, unless_whole(past.mask))

    def forward(
        self, inputs: Tensor, state: DecoderState, memory: Memory
    ) -> tuple[Tensor, Tensor | None, DecoderState]:
        """
        Args:
            inputs: of each future patch, (batch, patches, hidden).

        Returns:
            The vectors of the patches (batch, patches, hidden); the weights of the attention (batch, heads, patches,
            past patches), or `None` without attention; and the state after the last patch.
        """
        output, states = inputs, []
        layer: Any
        for layer, initial_state in zip(self.layers, state.states, strict=True):
            noise = layer.draw_noise(output.shape[0], output)
            if self.is_parallel:
                output, all_states = layer.first_steps(output, initial_state, noise)
            else:
                output, all_states = layer(output, None, initial_state, None, noise, False)
            states.append(all_states[:, -1])
        context, weights, alignment = output[..., :0], None, state.alignment
        if self.attention is not None:
            context, weights, alignments = self.attention(output, memory, state.alignment, None)
            alignment = alignments[:, -1]
        vectors = output + self.combination(torch.cat([output, context], dim=-1))
        return vectors, weights, DecoderState(states, alignment)


class AttentionRnnTimeSeriesModel(AttentionRnnTimeSeriesPreTrainedModel):
    """
    The bare encoder-decoder: vectors of future patches given the past. With `is_encoder_decoder=False` there is no
    decoder: the memory of the past, as the head for classification reads it.
    """

    def __init__(self, config: AttentionRnnTimeSeriesConfig) -> None:
        super().__init__(config)
        self.embed_series = SeriesEmbedding(config)
        self.embed_patches = PatchEmbedding(config, config.num_time_features + config.num_past_features)
        self.encoder = RecurrentStack(config, config.hidden_size)
        self._tied_weights_keys = {}
        if config.is_encoder_decoder:
            self._add_decoder(config)
        self.post_init()

    def _add_decoder(self, config: AttentionRnnTimeSeriesConfig) -> None:
        self.bridge = AttentionRnnBridge(config)
        self.decoder = AttentionRnnTimeSeriesDecoder(config)
        known = config.patch_length * config.num_time_features
        self.known_features = nn.Linear(known, config.hidden_size, bias=False) if known else None
        self.positions = (
            None if config.decoding == "autoregressive" else nn.Embedding(config.num_future_patches, config.hidden_size)
        )
        if config.share_layers:
            layers: Any = zip(self.decoder.layers, self.encoder, strict=True)
            for layer, of_encoder in layers:
                layer.cell = of_encoder.cells[0]
        self._tied_weights_keys = shared_weights(self)

    @can_return_tuple
    def forward(
        self,
        past_values: Tensor,
        past_time_features: Tensor | None = None,
        past_observed_mask: Tensor | None = None,
        past_only_features: Tensor | None = None,
        static_categorical_features: Tensor | None = None,
        static_real_features: Tensor | None = None,
        future_values: Tensor | None = None,
        future_time_features: Tensor | None = None,
        future_observed_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        **kwargs: Any,
    ) -> AttentionRnnTimeSeriesModelOutput:
        """
        Args:
            past_values: (batch, time), or (batch, time, channels), of any length; NaN where missing.
            past_time_features: with `num_time_features`, (batch, time, features).
            past_observed_mask: 1 where values are observed, 0 where they are missing, whatever stands there; of the
                shape of `past_values`.
            past_only_features: with `num_past_features`, (batch, time, features).
            static_categorical_features, static_real_features: where the config says so, (batch, features).
            future_values: for `decoding="autoregressive"`, the values of which each patch knows those before it,
                (batch, prediction length[, channels]); missing ones where they are not given.
            future_time_features: with `num_time_features`, (batch, prediction length, features).
            future_observed_mask: as `past_observed_mask`.

        Features are read as they are, and best scaled to be about -1 to 1; NaN counts as zero.

        Raises:
            TypeError: an input is no tensor.
            ValueError: an input is missing, has another shape than the config says, or is infinite; a series has no
                observed value at all.
        """
        series = self.read(
            past_values,
            past_time_features,
            past_observed_mask,
            past_only_features,
            static_categorical_features,
            static_real_features,
        )
        if not self.config.is_encoder_decoder:
            return AttentionRnnTimeSeriesModelOutput(
                last_hidden_state=series.past.memory,
                loc=join_channels(series.loc, self.config),
                scale=join_channels(series.scale, self.config),
                attention_mask=series.past.mask.long(),
            )
        known = self.known(future_time_features, series, self.config.prediction_length)
        values = None if future_values is None else self.future(future_values, future_observed_mask, series)
        vectors, weights = self.decode(series, known, values)
        return AttentionRnnTimeSeriesModelOutput(
            last_hidden_state=vectors,
            encoder_last_hidden_state=series.past.memory,
            cross_attentions=self.attentions(weights, output_attentions),
            loc=join_channels(series.loc, self.config),
            scale=join_channels(series.scale, self.config),
        )

    def read(
        self,
        past_values: Any,
        past_time_features: Any,
        past_observed_mask: Any,
        past_only_features: Any,
        static_categorical_features: Any,
        static_real_features: Any,
    ) -> Series:
        """Check the past, scale it, and let the encoder read it; see `forward`."""
        config = self.config
        values = read_values("past_values", past_values, past_observed_mask, config)
        self.check_device("past_values", values)
        check_observed(values)
        like = values.to(self.dtype)
        (batch_size, length), features = values.shape[:2], []
        for name, given, field in (
            ("past_time_features", past_time_features, "num_time_features"),
            ("past_only_features", past_only_features, "num_past_features"),
        ):
            shape = (batch_size, length, getattr(config, field))
            features.append(read_features(name, given, field, shape, like))
        static = read_static(static_real_features, static_categorical_features, config, like)
        first = 0 if config.context_length is None else -config.context_length
        values = split_channels(values[:, first:], config)
        loc, scale = location_and_scale(values, config.scaling)
        of_series = self.embed_series(static, like)
        known = (~values.isnan()).any(dim=1, keepdim=True)
        joined = for_each_channel(torch.cat(features, dim=-1)[:, first:], config)
        past, last_patch = self._read_patches(
            past_patches(((values - loc) / scale).to(like.dtype), config.patch_length, torch.nan),
            past_patches(joined, config.patch_length),
            of_series,
        )
        return Series(past, of_series, loc, scale, known, last_patch)

    def read_on(self, series: Series, values: Tensor, known: Tensor) -> Series:
        """
        Let the encoder go on from where it was.

        Args:
            values: scaled values that follow, (batch, time, channels), whole patches of them.
            known: their features, (batch, patches, patch length * time features).
        """
        patches = past_patches(values.to(known.dtype), self.config.patch_length)
        past, last_patch = self._read_patches(patches, self._of_future(known), series.of_series, series.past)
        return series._replace(past=past, last_patch=last_patch)

    def _read_patches(
        self, values: Tensor, features: Tensor, of_series: Tensor, before: Past | None = None
    ) -> tuple[Past, Tensor]:
        is_missing = values.isnan()
        mask, observed = ~is_missing.all(dim=-1), (~is_missing).to(values.dtype)
        vectors = self.embed_patches(values, features, of_series)
        initial_states = None if before is None else before.final_state
        if self.config.share_layers and self.config.decoding == "autoregressive":
            memory, final_state = self._encode_before_last(vectors, mask)
        else:
            outputs, final_state = self.encoder(vectors, unless_whole(mask), initial_states)
            memory = outputs[-1]
        past = Past(values.masked_fill(is_missing, 0), observed, memory, mask, final_state)
        return (past if before is None else before.followed_by(past)), vectors[:, -1:]

    def _encode_before_last(self, vectors: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The memory, and the state before the last patch, which the same layers read again as the decoder."""
        if vectors.shape[1] == 1:
            outputs, final_state = self.encoder(vectors, unless_whole(mask))
            return outputs[-1], torch.zeros_like(final_state)
        earlier, state = self.encoder(vectors[:, :-1], unless_whole(mask[:, :-1]))
        last, _ = self.encoder(vectors[:, -1:], mask[:, -1:], state)
        return torch.cat([earlier[-1], last[-1]], dim=1), state

    def embed_future(self, values: Tensor, known: Tensor, series: Series) -> Tensor:
        """The vectors of future patches, scaled (batch, patches, patch length * channels), and of their features."""
        return self.embed_patches(values, self._of_future(known), series.of_series)

    def _of_future(self, known: Tensor) -> Tensor:
        """The features of future patches: those that are known of the past alone are zero."""
        unknown = known.new_zeros(*known.shape[:2], self.config.patch_length * self.config.num_past_features)
        return _side_by_side([known, unknown], self.config.patch_length)

    def future(self, future_values: Any, future_observed_mask: Any, series: Series) -> Tensor:
        """Future values, checked and scaled, (batch * channels, prediction length, channels)."""
        config = self.config
        values = read_values("future_values", future_values, future_observed_mask, config)
        self.check_device("future_values", values)
        batch_size = series.loc.shape[0] * config.channels_together // config.num_channels
        if values.shape[:2] != (batch_size, config.prediction_length):
            raise ValueError(
                f"`future_values` must be {config.prediction_length} values (`prediction_length`) of each of "
                f"{batch_size} series, NaN where they are not known, got {tuple(future_values.shape)}."
            )
        return (split_channels(values, config) - series.loc) / series.scale

    def known(self, future_time_features: Any, series: Series, length: int) -> Tensor:
        """The features of the next `length` times, as patches (batch * channels, patches, patch length * features)."""
        config = self.config
        channels = config.num_channels // config.channels_together
        shape = (series.loc.shape[0] // channels, length, config.num_time_features)
        name = "future_time_features"
        features = read_features(name, future_time_features, "num_time_features", shape, series.of_series)
        return future_patches(for_each_channel(features, config), config.patch_length)

    def decode(self, series: Series, known: Tensor, values: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """
        The vectors and the attention of all future patches.

        Args:
            known: their features, (batch, patches, patch length * time features).
            values: scaled future values, (batch, time, channels), which an autoregressive decoder knows one patch
                later; missing ones by default.
        """
        state, memory = self.begin(series)
        if self.positions is None:
            if values is None:
                width = self.config.channels_together
                values = known.new_full((known.shape[0], self.config.prediction_length, width), torch.nan)
            patches = future_patches(values.to(known.dtype), self.config.patch_length, torch.nan)
            last = self.embed_future(patches[:, :-1], known[:, :-1], series)
            inputs = self.inputs(series, known, torch.cat([series.last_patch, last], dim=1))
        else:
            inputs = self.inputs(series, known)
        vectors, weights, _ = self.decoder(inputs, state, memory)
        return vectors, weights

    def begin(self, series: Series) -> tuple[DecoderState, Memory]:
        """The first state of the decoder, and what its attention looks at."""
        past = series.past
        initial_state = self.bridge(past.memory, past.final_state, past.mask)
        return self.decoder.begin(initial_state, past), self.decoder.memory(past)

    def inputs(self, series: Series, known: Tensor, last: Tensor | None = None) -> Tensor:
        """What the decoder reads for each patch: its position or the vector of the last one, and what is known."""
        inputs = series.of_series.expand(-1, known.shape[1], -1)
        if self.positions is not None:
            inputs = inputs + self.positions.weight[: known.shape[1]]
        if last is not None:
            inputs = inputs + last
        if self.known_features is not None:
            inputs = inputs + self.known_features(known)
        return inputs

    def attentions(self, weights: Tensor | None, output_attentions: bool | None) -> tuple[Tensor, ...] | None:
        """The weights as the output has them."""
        if not self.option("output_attentions", output_attentions):
            return None
        if weights is None:
            return ()
        config = self.config
        if config.num_channels > config.channels_together:
            weights = weights.unflatten(0, (-1, config.num_channels))
        return (weights,)


def shared_weights(model: AttentionRnnTimeSeriesModel, prefix: str = "") -> dict[str, str]:
    """The names of the decoder's cells' weights, and those of the encoder's, which they are with `share_layers`."""
    if not model.config.share_layers:
        return {}
    layers: Any = enumerate(model.decoder.layers)
    return {
        f"{prefix}decoder.layers.{index}.cell.{name}": f"{prefix}encoder.{index}.cells.0.{name}"
        for index, layer in layers
        for name, _ in layer.cell.named_parameters()
    }


def _side_by_side(features: list[Tensor], patch_length: int) -> Tensor:
    """Join features of patches, (batch, patches, patch length * features), time by time."""
    by_time = [part.unflatten(-1, (patch_length, part.shape[-1] // patch_length)) for part in features]
    return torch.cat(by_time, dim=-1).flatten(-2)
