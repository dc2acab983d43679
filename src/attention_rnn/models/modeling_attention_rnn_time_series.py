"""
Attention RNNs that forecast time series.

    past values -> scaled (`scaling.py`) -> patches counted from the end (`patches.py`)
                -> encoder -> memory and final state
                   bridge: final state -> first decoder state
    positions   -> decoder: a step for each future patch, attention over all past patches
                   readout: numbers for each future value, mixed with past patches by the weights of the attention
                -> quantiles or parameters (`distributions.py`) -> in the units of the series
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import SampleTSPredictionOutput
from transformers.utils import ModelOutput
from transformers.utils.generic import can_return_tuple

from .attention import ATTENTIONS, Memory
from .base import AttentionRnnPreTrainedModel
from .configuration_attention_rnn_time_series import AttentionRnnTimeSeriesConfig
from .decoder import AttentionRnnBridge, AttentionRnnDecoderLayer
from .distributions import DISTRIBUTIONS
from .encoder import RecurrentStack
from .patches import Past, PatchEmbedding, PatchReadout, future_patches, past_patches
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


@dataclass
class AttentionRnnTimeSeriesModelOutput(ModelOutput):
    """
    Args:
        last_hidden_state: the vectors of the future patches, (batch, patches, hidden); of several channels that are not
            mixed, (batch * channels, patches, hidden).
        encoder_last_hidden_state: the memory, (batch, past patches, memory), likewise.
        cross_attentions: see `AttentionRnnTimeSeriesPredictionOutput`.
        loc, scale: likewise.
    """

    last_hidden_state: Tensor | None = None
    encoder_last_hidden_state: Tensor | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
    loc: Tensor | None = None
    scale: Tensor | None = None


@dataclass
class AttentionRnnTimeSeriesPredictionOutput(ModelOutput):
    """
    Args:
        loss: where `future_values` are given.
        mean_predictions: the point forecast, (batch, prediction length), or (batch, prediction length, channels): the
            mean; of quantiles, the median. NaN for a channel of which no value is observed.
        full_predictions: the point forecast and, behind it, the `quantile_levels`, (batch, prediction length
            [, channels], 1 + levels), as TimesFM has them; the point forecast alone of `"point"`. `None` in training.
        params: the parameters of the distribution in the units of the scaled series, a tensor (batch, prediction length
            [, channels]) for each; of quantiles, one for each level.
        loc, scale: what was subtracted from each series, and by what it was divided, (batch, 1[, channels]).
        cross_attentions: when asked for, a tuple of one tensor: the attention of each future patch over the past
            patches, (batch, heads, patches, past patches); of several channels that are not mixed, (batch, channels,
            heads, patches, past patches). Past patches are counted from the end; the first may begin before the series.
    """

    loss: Tensor | None = None
    mean_predictions: Tensor | None = None
    full_predictions: Tensor | None = None
    params: tuple[Tensor, ...] | None = None
    loc: Tensor | None = None
    scale: Tensor | None = None
    cross_attentions: tuple[Tensor, ...] | None = None


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
    standard deviation 0.02.
    """

    config: AttentionRnnTimeSeriesConfig  # type: ignore[assignment]
    main_input_name = "past_values"
    input_modalities = ("time",)  # type: ignore[assignment]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=0.02)
        elif isinstance(module, PatchReadout):
            if module.gate is not None:
                init.constant_(module.gate.bias, -1.0)
        else:
            super()._init_weights(module)


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
        if self.attention is None:
            return Memory(past.memory[..., :0], past.memory[..., :0], past.mask)
        return Memory(*self.attention.project(past.memory), past.mask)

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
            if self.is_parallel:  # each patch is the first step of a sequence of its own
                patches = inputs.shape[1]
                output = output.flatten(0, 1)[:, None]
                initial_state = initial_state.repeat_interleave(patches, dim=0)
            noise = layer.draw_noise(output.shape[0], output)
            output, all_states = layer(output, None, initial_state, None, noise, False)
            if self.is_parallel:
                output = output.unflatten(0, (-1, patches))[:, :, 0]
            states.append(all_states[:, -1])
        context, weights, alignment = output[..., :0], None, state.alignment
        if self.attention is not None:
            context, weights, alignments = self.attention(output, memory, state.alignment, None)
            alignment = alignments[:, -1]
        vectors = output + self.combination(torch.cat([output, context], dim=-1))
        return vectors, weights, DecoderState(states, alignment)


class AttentionRnnTimeSeriesModel(AttentionRnnTimeSeriesPreTrainedModel):
    """The bare encoder-decoder: vectors of future patches given the past."""

    def __init__(self, config: AttentionRnnTimeSeriesConfig) -> None:
        super().__init__(config)
        kind: Any = config
        self.embed_series = SeriesEmbedding(config)
        self.embed_patches = PatchEmbedding(config, config.num_time_features + config.num_past_features)
        self.encoder = RecurrentStack(config, config.hidden_size)
        self.bridge = AttentionRnnBridge(kind)
        self.decoder = AttentionRnnTimeSeriesDecoder(config)
        known = config.patch_length * config.num_time_features
        self.known_features = nn.Linear(known, config.hidden_size, bias=False) if known else None
        self.positions = (
            None if config.decoding == "autoregressive" else nn.Embedding(config.num_future_patches, config.hidden_size)
        )
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        past_values: Tensor | None = None,
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
        known = self.known(future_time_features, series, self.config.prediction_length)
        values = None
        if future_values is not None:
            values = self.scaled(read_values("future_values", future_values, future_observed_mask, self.config), series)
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
        outputs, final_state = self.encoder(vectors, mask, None if before is None else before.final_state)
        past = Past(values.masked_fill(is_missing, 0), observed, outputs[-1], mask, final_state)
        if before is not None:
            joined = [torch.cat([old, new], dim=1) for old, new in zip(before[:-1], past[:-1], strict=True)]
            past = Past(*joined, final_state)
        return past, vectors[:, -1:]

    def embed_future(self, values: Tensor, known: Tensor, series: Series) -> Tensor:
        """The vectors of future patches, scaled (batch, patches, patch length * channels), and of their features."""
        return self.embed_patches(values, self._of_future(known), series.of_series)

    def _of_future(self, known: Tensor) -> Tensor:
        """The features of future patches: those that are known of the past alone are zero."""
        unknown = known.new_zeros(*known.shape[:2], self.config.patch_length * self.config.num_past_features)
        return _side_by_side([known, unknown], self.config.patch_length)

    def scaled(self, values: Tensor, series: Series) -> Tensor:
        """Values (batch, time, channels) as the sequences have them, scaled, (batch * channels, time, channels)."""
        return (split_channels(values, self.config) - series.loc) / series.scale

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


class AttentionRnnForTimeSeriesPrediction(AttentionRnnTimeSeriesPreTrainedModel):
    """The encoder-decoder with a readout that makes forecasts."""

    # the loss is a mean over values, whose number no Trainer counts
    accepts_loss_kwargs = False

    def __init__(self, config: AttentionRnnTimeSeriesConfig) -> None:
        super().__init__(config)
        self.model = AttentionRnnTimeSeriesModel(config)
        self.distribution = DISTRIBUTIONS[config.distribution_output](config)
        self.dropout = nn.Dropout(config.readout_dropout)
        self.readout = PatchReadout(config, 1 + self.distribution.others)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        past_values: Tensor | None = None,
        past_time_features: Tensor | None = None,
        past_observed_mask: Tensor | None = None,
        past_only_features: Tensor | None = None,
        static_categorical_features: Tensor | None = None,
        static_real_features: Tensor | None = None,
        future_values: Tensor | None = None,
        future_time_features: Tensor | None = None,
        future_observed_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        return_loss: bool = True,
        **kwargs: Any,
    ) -> AttentionRnnTimeSeriesPredictionOutput:
        """
        Args:
            future_values: what is to be forecast, (batch, prediction length[, channels]), NaN where it is not known.
            return_loss: whether they make a loss. By this name a Trainer sees that it can evaluate the model; give it
                `label_names=["future_values"]` for `compute_metrics`.
            Others: see `AttentionRnnTimeSeriesModel.forward`.

        Returns:
            `loss`: the mean over the observed future values, see `distributions.py`. With
            `decoding="autoregressive"`, each patch is judged by what is forecast of it given the true values before it;
            in training the forecasts that are returned are these, in evaluation they know the past alone.

        Raises:
            ValueError, TypeError: see `AttentionRnnTimeSeriesModel.forward`.
        """
        config, model = self.config, self.model
        series = model.read(
            past_values,
            past_time_features,
            past_observed_mask,
            past_only_features,
            static_categorical_features,
            static_real_features,
        )
        known = model.known(future_time_features, series, config.prediction_length)
        target = None
        if future_values is not None and return_loss:
            target = read_values("future_values", future_values, future_observed_mask, config)
            if target.shape[:2] != (len(past_values), config.prediction_length):
                raise ValueError(
                    f"`future_values` must be {config.prediction_length} values (`prediction_length`) of each of "
                    f"{len(past_values)} series, NaN where they are not known, got {tuple(future_values.shape)}."
                )
            target = model.scaled(target, series)
        loss, params = None, None
        if target is not None or config.decoding != "autoregressive":
            vectors, weights = model.decode(series, known, target)
            params = self._params(vectors, weights, series, config.prediction_length)
            loss = None if target is None else self._loss(params, target, series)
        if params is None or (config.decoding == "autoregressive" and not self.training):
            params, weights = self._run_on(series, known)
        mean = self._unscaled(self.distribution.mean(params), series)
        full = None
        if not self.training:
            quantiles = self.distribution.quantiles(params)
            full = torch.cat([mean[..., None], self._unscaled(quantiles, series)], dim=-1)
        return AttentionRnnTimeSeriesPredictionOutput(
            loss=loss,
            mean_predictions=self._shaped(mean, past_values),
            full_predictions=None if full is None else self._shaped(full, past_values),
            params=tuple(self._shaped(param, past_values) for param in params),
            loc=self._shaped(series.loc, past_values),
            scale=self._shaped(series.scale, past_values),
            cross_attentions=model.attentions(weights, output_attentions),
        )

    @torch.no_grad()
    def generate(
        self,
        past_values: Tensor,
        past_time_features: Tensor | None = None,
        past_observed_mask: Tensor | None = None,
        past_only_features: Tensor | None = None,
        static_categorical_features: Tensor | None = None,
        static_real_features: Tensor | None = None,
        future_time_features: Tensor | None = None,
        prediction_length: int | None = None,
        num_parallel_samples: int | None = None,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> SampleTSPredictionOutput:
        """
        Sample paths into the future, beyond the trained horizon too: the encoder reads on what has been sampled, from
        the state where it was. Within what is forecast at once (`prediction_length` of the config; with
        `decoding="autoregressive"` a patch) the values of a path are independent of each other.

        Args:
            prediction_length: how far; that of the config by default.
            num_parallel_samples: paths of each series; `config.num_parallel_samples` by default, and 1 for
                `distribution_output="point"`, whose paths are all the same.
            generator: where random numbers come from.
            Others: see `AttentionRnnTimeSeriesModel.forward`; `future_time_features` for the whole length.

        Returns:
            `sequences`: (batch, samples, prediction length[, channels]).

        Raises:
            ValueError, TypeError: `prediction_length` or `num_parallel_samples` is less than 1; see also `forward`.
        """
        config, model = self.config, self.model
        length = _positive("prediction_length", prediction_length, config.prediction_length)
        default = config.num_parallel_samples if self.distribution.is_random else 1
        samples = _positive("num_parallel_samples", num_parallel_samples, default)
        series = model.read(
            past_values,
            past_time_features,
            past_observed_mask,
            past_only_features,
            static_categorical_features,
            static_real_features,
        )
        known = model.known(future_time_features, series, length)
        series = Series(*(_repeat(part, samples) for part in series))
        known = known.repeat_interleave(samples, dim=0)
        sequences = self._sample(series, known, length, generator)
        sequences = sequences * series.scale + series.loc
        sequences = sequences.where(series.known, torch.nan)
        # (batch * channels * samples, time, 1) -> (batch, samples, time, channels)
        sequences = sequences.unflatten(0, (-1, samples))
        if config.num_channels > config.channels_together:
            sequences = sequences.unflatten(0, (-1, config.num_channels)).squeeze(-1).permute(0, 2, 3, 1)
        return SampleTSPredictionOutput(sequences=sequences if past_values.dim() == 3 else sequences.squeeze(-1))

    def _sample(self, series: Series, known: Tensor, length: int, generator: torch.Generator | None) -> Tensor:
        """Scaled paths, (batch, length, channels)."""
        config, model = self.config, self.model
        pieces: list[Tensor] = []
        if config.decoding == "autoregressive":
            steps = self._steps(series, known, lambda params: self.distribution.sample(params, generator))
            return torch.cat([values for _, _, values in steps], dim=1)[:, :length]
        done, whole = 0, config.prediction_length // config.patch_length  # patches that are forecast to their end
        while True:
            now = known[:, done : done + config.num_future_patches]
            rest = length - done * config.patch_length
            vectors, weights = model.decode(series, now)
            params = self._params(vectors, weights, series, min(rest, config.prediction_length))
            values = self.distribution.sample(params, generator)
            if rest <= config.prediction_length:
                return torch.cat([*pieces, values], dim=1)
            pieces.append(values[:, : whole * config.patch_length])
            series, done = model.read_on(series, pieces[-1], now[:, :whole]), done + whole

    def _run_on(self, series: Series, known: Tensor) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """The parameters and the attention of an autoregressive decoder that knows its own point forecasts alone."""
        steps = list(self._steps(series, known, self.distribution.mean))
        length = self.config.prediction_length
        params = tuple(torch.cat(parts, dim=1)[:, :length] for parts in zip(*(step[0] for step in steps), strict=True))
        weights = [step[1] for step in steps if step[1] is not None]
        return params, torch.cat(weights, dim=2) if weights else None

    def _steps(
        self, series: Series, known: Tensor, choose: Callable[[tuple[Tensor, ...]], Tensor]
    ) -> Iterator[tuple[tuple[Tensor, ...], Tensor | None, Tensor]]:
        """The parameters, the attention and the chosen values of each patch, which knows those of the one before."""
        model, length = self.model, self.config.patch_length
        (state, memory), last = model.begin(series), series.last_patch
        for patch in range(known.shape[1]):
            now = known[:, patch : patch + 1]
            vectors, weights, state = model.decoder(model.inputs(series, now, last), state, memory)
            params = self._params(vectors, weights, series, length)
            values = choose(params)
            yield params, weights, values
            last = model.embed_future(past_patches(values.to(known.dtype), length), now, series)

    def _params(self, vectors: Tensor, weights: Tensor | None, series: Series, length: int) -> tuple[Tensor, ...]:
        """The parameters of the forecast in the units of the scaled series, each (batch, length, channels)."""
        first, others = self.readout(self.dropout(vectors), weights, series.past, self.distribution.link)
        precision = torch.promote_types(first.dtype, torch.float32)
        return self.distribution.params(first[:, :length].to(precision), others[:, :length].to(precision))

    def _loss(self, params: tuple[Tensor, ...], target: Tensor, series: Series) -> Tensor:
        is_observed = ~target.isnan() & series.known
        filled = target.where(is_observed, 0).to(params[0].dtype)
        losses = self.distribution.loss(params, filled, series.scale.to(params[0].dtype).expand_as(filled))
        return losses.where(is_observed, 0).sum() / is_observed.sum().clamp(min=1)

    def _unscaled(self, values: Tensor, series: Series) -> Tensor:
        loc, scale, known = series.loc, series.scale, series.known
        if values.dim() == 4:
            loc, scale, known = loc[..., None], scale[..., None], known[..., None]
        return (values * scale + loc).where(known, torch.nan)

    def _shaped(self, values: Tensor, past_values: Tensor) -> Tensor:
        """As the past values: with the channels of a series together, without an axis for a single one."""
        values = join_channels(values, self.config)
        return values if past_values.dim() == 3 else values.squeeze(2)


def _side_by_side(features: list[Tensor], patch_length: int) -> Tensor:
    """Join features of patches, (batch, patches, patch length * features), time by time."""
    by_time = [part.unflatten(-1, (patch_length, part.shape[-1] // patch_length)) for part in features]
    return torch.cat(by_time, dim=-1).flatten(-2)


def _repeat(part: Any, times: int) -> Any:
    if isinstance(part, Past):
        return Past(*(_repeat(tensor, times) for tensor in part))
    return part.repeat_interleave(times, dim=0)


def _positive(name: str, value: int | None, default: int) -> int:
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"`{name}` must be an int, got {value!r}.")
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1, got {value}.")
    return value
