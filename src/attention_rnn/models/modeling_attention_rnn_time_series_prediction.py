"""The encoder-decoder of time series with a readout that makes forecasts, and their samples."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SampleTSPredictionOutput
from transformers.utils.generic import can_return_tuple

from .configuration_attention_rnn_time_series import AttentionRnnTimeSeriesConfig
from .distributions import DISTRIBUTIONS, Params
from .modeling_attention_rnn_time_series import (
    AttentionRnnTimeSeriesModel,
    AttentionRnnTimeSeriesPreTrainedModel,
    Series,
    shared_weights,
)
from .outputs import AttentionRnnTimeSeriesPredictionOutput
from .patches import Past, PatchReadout, past_patches
from .series import join_channels

# How far a free run of an echo state may leave the range of the past, as a part of that range: new peaks are a little
# higher than those before.
MARGIN = 0.1


class AttentionRnnForTimeSeriesPrediction(AttentionRnnTimeSeriesPreTrainedModel):
    """The encoder-decoder with a readout that makes forecasts."""

    # the loss is a mean over values, whose number no Trainer counts
    accepts_loss_kwargs = False

    def __init__(self, config: AttentionRnnTimeSeriesConfig) -> None:
        super().__init__(config)
        if not config.is_encoder_decoder:
            raise ValueError(f"`is_encoder_decoder` must be True for {type(self).__name__}, which has a decoder.")
        self.model = AttentionRnnTimeSeriesModel(config)
        self.distribution = DISTRIBUTIONS[config.distribution_output](config)
        self.dropout = nn.Dropout(config.readout_dropout)
        self.readout = PatchReadout(config, 1 + self.distribution.others)
        self._tied_weights_keys = shared_weights(self.model, "model.")
        self.post_init()

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
            target = model.future(future_values, future_observed_mask, series)
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
            quantiles = self.distribution.quantiles(params, series.scale.to(params[0].dtype))
            full = torch.cat([mean[..., None], self._whole(self._unscaled(quantiles, series))], dim=-1)
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
        if length > config.prediction_length and not self._reads_on:
            raise ValueError(
                f"`prediction_length` beyond that of the config, {config.prediction_length}, needs an encoder that "
                "reads on (`bidirectional=False`) and forecasts of at least one patch (`patch_length` is "
                f"{config.patch_length}), got {length}. Append what is forecast to `past_values` and generate again."
            )
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
        sequences = self._whole(self._unscaled(sequences, series))
        # (batch * channels * samples, time, 1) -> (batch, samples, time, channels)
        sequences = sequences.unflatten(0, (-1, samples))
        if config.num_channels > config.channels_together:
            sequences = sequences.unflatten(0, (-1, config.num_channels)).squeeze(-1).permute(0, 2, 3, 1)
        return SampleTSPredictionOutput(sequences=sequences if past_values.dim() == 3 else sequences.squeeze(-1))

    @torch.no_grad()
    def log_likelihood(
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
    ) -> Tensor:
        """
        How likely what came is under the forecast; the least likely values are anomalies.

        Returns:
            The log likelihood of each future value in nats, in the units of the series, (batch, prediction length
            [, channels]), NaN where it is missing. With `decoding="autoregressive"`, of a value given the patches
            before its own.

        Raises:
            ValueError: the forecast is a number, or a single quantile, and so has no likelihood; see also `forward`.
        """
        if not self.distribution.is_random or len(self.distribution.levels) < 2:
            raise ValueError(
                "`distribution_output` must be a distribution, or two quantiles or more, for a likelihood."
            )
        model = self.model
        series = model.read(
            past_values,
            past_time_features,
            past_observed_mask,
            past_only_features,
            static_categorical_features,
            static_real_features,
        )
        known = model.known(future_time_features, series, self.config.prediction_length)
        target = model.future(future_values, future_observed_mask, series)
        vectors, weights = model.decode(series, known, target)
        params = self._params(vectors, weights, series, self.config.prediction_length)
        target = target.to(params[0].dtype)
        scale = series.scale.to(target.dtype).expand_as(target)
        likelihood = self.distribution.log_likelihood(params, target.nan_to_num(nan=0.0), scale)
        return self._shaped(likelihood.masked_fill(target.isnan() | ~series.known, torch.nan), past_values)

    @property
    def _reads_on(self) -> bool:
        config = self.config
        if config.decoding == "autoregressive":  # it is the decoder that goes on
            return True
        return set(config.encoder_directions) == {1} and config.patch_length <= config.prediction_length

    def _sample(self, series: Series, known: Tensor, length: int, generator: torch.Generator | None) -> Tensor:
        """Scaled paths, (batch, length, channels)."""
        config, model = self.config, self.model
        pieces: list[Tensor] = []
        if config.decoding == "autoregressive":
            steps = self._steps(series, known, lambda params: self._draw(params, series, generator))
            return torch.cat([values for _, _, values in steps], dim=1)[:, :length]
        done, whole = 0, config.prediction_length // config.patch_length  # patches that are forecast to their end
        while True:
            now = known[:, done : done + config.num_future_patches]
            rest = length - done * config.patch_length
            vectors, weights = model.decode(series, now)
            params = self._params(vectors, weights, series, min(rest, config.prediction_length))
            values = self._fed_back(self._draw(params, series, generator), series)
            if rest <= config.prediction_length:
                return torch.cat([*pieces, values], dim=1)
            pieces.append(values[:, : whole * config.patch_length])
            series, done = model.read_on(series, pieces[-1], now[:, :whole]), done + whole

    def _draw(self, params: Params, series: Series, generator: torch.Generator | None) -> Tensor:
        return self.distribution.sample(params, series.scale.to(params[0].dtype), generator)

    def _fed_back(self, values: Tensor, series: Series) -> Tensor:
        """An echo state, which no training has taught to stay where it was, stays about where its past has been."""
        if self.config.cell_type != "echo_state":
            return values
        past = series.past.values.where(series.past.observed > 0, torch.nan).flatten(1)
        lowest, highest = (past.nan_to_num(nan=fill).to(values.dtype) for fill in (torch.inf, -torch.inf))
        low, high = lowest.amin(1)[:, None, None], highest.amax(1)[:, None, None]
        margin = MARGIN * (high - low)
        return values.clamp(low - margin, high + margin)

    def _run_on(self, series: Series, known: Tensor) -> tuple[Params, Tensor | None]:
        """The parameters and the attention of an autoregressive decoder that knows its own point forecasts alone."""
        steps = list(self._steps(series, known, self.distribution.mean))
        length = self.config.prediction_length
        params = tuple(torch.cat(parts, dim=1)[:, :length] for parts in zip(*(step[0] for step in steps), strict=True))
        weights = [step[1] for step in steps if step[1] is not None]
        return params, torch.cat(weights, dim=2) if weights else None

    def _steps(
        self, series: Series, known: Tensor, choose: Callable[[Params], Tensor]
    ) -> Iterator[tuple[Params, Tensor | None, Tensor]]:
        """The parameters, the attention and the chosen values of each patch, which knows those of the one before."""
        model, length = self.model, self.config.patch_length
        (state, memory), last = model.begin(series), series.last_patch
        for patch in range(known.shape[1]):
            now = known[:, patch : patch + 1]
            vectors, weights, state = model.decoder(model.inputs(series, now, last), state, memory)
            params = self._params(vectors, weights, series, length)
            values = self._fed_back(choose(params), series)
            yield params, weights, values
            last = model.embed_future(past_patches(values.to(known.dtype), length), now, series)

    def _params(self, vectors: Tensor, weights: Tensor | None, series: Series, length: int) -> Params:
        """The parameters of the forecast in the units of the scaled series, each (batch, length, channels)."""
        first, others = self.readout(self.dropout(vectors), weights, series.past, self.distribution.link)
        precision = torch.promote_types(first.dtype, torch.float32)
        return self.distribution.params(first[:, :length].to(precision), others[:, :length].to(precision))

    def _loss(self, params: Params, target: Tensor, series: Series) -> Tensor:
        is_observed = (target.abs() <= self.distribution.farthest) & series.known
        filled = target.where(is_observed, 0).to(params[0].dtype)
        losses = self.distribution.loss(params, filled, series.scale.to(params[0].dtype).expand_as(filled))
        return losses.where(is_observed, 0).sum() / is_observed.sum().clamp(min=1)

    def _unscaled(self, values: Tensor, series: Series) -> Tensor:
        loc, scale, known = series.loc, series.scale, series.known
        if values.dim() == 4:
            loc, scale, known = loc[..., None], scale[..., None], known[..., None]
        return (values * scale + loc).where(known, torch.nan)

    def _whole(self, values: Tensor) -> Tensor:
        """Counts, which scaling has left beside whole numbers."""
        return values.round() if self.distribution.is_whole else values

    def _shaped(self, values: Tensor, past_values: Tensor) -> Tensor:
        """As the past values: with the channels of a series together, without an axis for a single one."""
        values = join_channels(values, self.config)
        return values if past_values.dim() == 3 else values.squeeze(2)


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
