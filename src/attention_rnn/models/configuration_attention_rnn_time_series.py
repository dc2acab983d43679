"""Configuration of the attention RNNs that read time series."""

from collections.abc import Callable
from typing import Any, ClassVar

from .configuration_core import NOT_ALIGNED, OVERSMOOTHED, AttentionRnnCoreConfig
from .extensions import EXTENSIONS  # noqa: F401, registers what a checkpoint brings before its config is read
from .presets_time_series import PRESETS

# see `auto_classes` of the core
AUTO_MAP = {
    "AutoConfig": "configuration_attention_rnn_time_series.AttentionRnnTimeSeriesConfig",
    "AutoModel": "modeling_attention_rnn_time_series.AttentionRnnTimeSeriesModel",
    "AutoModelForTimeSeriesPrediction": (
        "modeling_attention_rnn_time_series_prediction.AttentionRnnForTimeSeriesPrediction"
    ),
    # there is no Auto class for the classification of series
    "AutoModelForSequenceClassification": (
        "modeling_attention_rnn_time_series_classification.AttentionRnnForTimeSeriesClassification"
    ),
}

SCALINGS = ("std", "last", "last_std", "mean")
DECODINGS = ("parallel", "recurrent", "autoregressive")
# the losses of each distribution; the first one is the default
LOSSES = {
    "quantile": ("pinball",),
    "student_t": ("nll",),
    "normal": ("nll",),
    "negative_binomial": ("nll",),
    "point": ("mae", "mse"),
}
MAY_BE_ZERO = (
    "num_time_features",
    "num_past_features",
    "num_static_real_features",
    "num_static_categorical_features",
)


class AttentionRnnTimeSeriesConfig(AttentionRnnCoreConfig):
    """
    Configuration of an [`AttentionRnnForTimeSeriesPrediction`]: series are scaled, cut into patches counted from their
    end, read by a recurrent encoder, and forecast patch by patch by a recurrent decoder with attention over all past
    patches. All arguments are keyword arguments; these and those of [`AttentionRnnCoreConfig`], of which
    `hidden_size` is 64, `bidirectional` False and `hidden_dropout` zero by default.

    Args:
        prediction_length (`int`, defaults to 24):
            How many values are forecast at once. `generate` goes on from there.
        context_length (`int`, *optional*):
            How many of the last past values are read. `None`: all that are given.
        patch_length (`int`, defaults to 24):
            How many successive values are one step of the encoder and the decoder: best a season, such as the 24 hours
            of a day, or a divisor of it. 1: value by value.
        num_channels (`int`, defaults to 1):
            How many channels a series has: with one, values are (batch, time); with more, (batch, time, channels).
        channel_mixing (`bool`, defaults to `False`):
            Whether all channels are read and forecast together. Otherwise each is a series of its own that shares the
            weights of the model, which serves better where there is little data.
        channel_embedding (`bool`, defaults to `True`):
            Whether the model knows which of several channels it reads.
        scaling (`str`, *optional*, defaults to `"std"`):
            What is subtracted from a series, and by what it is divided, see `scaling.py`: `"std"`: its mean, its
            standard deviation; `"last"`: its last value, 1; `"last_std"`: its last value, its standard deviation;
            `"mean"`: 0, its mean absolute value; `None`: 0, 1.
        decoding (`str`, defaults to `"parallel"`):
            How future patches are made. `"parallel"`: all at once from the final state, each by its position (the
            parallel decoding of SegRNN, Lin et al., 2023, https://arxiv.org/abs/2308.11200). `"recurrent"`: one after
            another, without a look at the values before. `"autoregressive"`: one after another, each knowing the
            values of the one before; only then are sampled paths coherent from patch to patch (Salinas et al., 2020,
            https://arxiv.org/abs/1704.04110).
        copy (`bool`, defaults to `True`):
            Whether past patches, by the weights of the attention, are copied into the forecast, by a gate for each
            value (as the pointer-generator of See et al., 2017, copies words), see `PatchReadout`. Needs attention.
        highway_length (`int`, *optional*):
            Of how many of the last values that are read a linear map, the same for all channels, is added to the
            forecast (the autoregressive part of LSTNet, Lai et al., 2018, https://arxiv.org/abs/1703.07015), see
            `PatchReadout`. Not for `decoding="autoregressive"`. `None`: there is no such map.
        freeze_highway (`bool`, defaults to `False`):
            Whether a training leaves that map as it is, since it was solved for (`PatchReadout.set_highway`); the rest
            of the model then starts small and learns what the map does not say.
        distribution_output (`str`, defaults to `"quantile"`):
            What is forecast, see `distributions.py`: `"quantile"`: the `quantile_levels`, which never cross;
            `"student_t"`, `"normal"`, `"negative_binomial"` (counts): the parameters of a distribution; `"point"`: a
            number.
        quantile_levels (`list[float]`, defaults to 0.1, 0.2, ..., 0.9):
            Increasing levels between 0 and 1.
        loss (`str`, *optional*):
            `"mae"` (the default) or `"mse"` for `"point"`. The other distributions have one loss each: the pinball
            loss of the quantiles, the negative log likelihood of the rest.
        num_time_features (`int`, defaults to 0):
            Features that are known ahead, such as the calendar: `past_time_features` and `future_time_features`.
        num_past_features (`int`, defaults to 0):
            Features that are known of the past alone: `past_only_features`.
        num_static_real_features (`int`, defaults to 0), num_static_categorical_features (`int`, defaults to 0):
            Features of a whole series.
        cardinality (`list[int]`, *optional*):
            How many values each static categorical feature has.
        decoder_layers (`int`, defaults to 1):
            Number of recurrent layers of the decoder.
        share_layers (`bool`, defaults to `False`):
            Whether the decoder's recurrent layers are those of the encoder, which then go on with the future.
        bridge (`str`, *optional*):
            How the first state of the decoder is made, see `AttentionRnnConfig`. `None` takes `"copy"` where encoder
            and decoder have the same shape, and `"linear"` elsewhere.
        readout_dropout (`float`, defaults to 0.3):
            Dropout on the vectors of which forecasts are made.
        pooling_heads (`int`, defaults to 1), pooling_penalty_weight, label_smoothing (`float`, default to 0.0):
            Of a classifier of series, see `AttentionRnnConfig`.
        num_parallel_samples (`int`, defaults to 100):
            How many paths `generate` samples by default.

    Raises:
        ValueError, TypeError: a value is out of range, of the wrong type, or contradicts another one.

    Example:
        >>> from attention_rnn import AttentionRnnForTimeSeriesPrediction, AttentionRnnTimeSeriesConfig
        >>> config = AttentionRnnTimeSeriesConfig(prediction_length=48, patch_length=24)
        >>> model = AttentionRnnForTimeSeriesPrediction(config)
    """

    model_type = "attention_rnn_time_series"
    presets = PRESETS
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "params",
        "loc",
        "scale",
        "cross_attentions",
        "encoder_last_hidden_state",
        "hidden_states",
        "attentions",
    ]
    # what TimesFM calls them
    attribute_map: ClassVar[dict[str, str]] = {
        "horizon_length": "prediction_length",
        "quantiles": "quantile_levels",
        "num_hidden_layers": "encoder_layers",
    }

    hidden_size: int = 64
    bidirectional: bool | list[bool] = False
    hidden_dropout: float = 0.0
    prediction_length: int = 24
    context_length: int | None = None
    patch_length: int = 24
    num_channels: int = 1
    channel_mixing: bool = False
    channel_embedding: bool = True
    scaling: str | None = "std"
    decoding: str = "parallel"
    copy: bool = True
    highway_length: int | None = None
    freeze_highway: bool = False
    distribution_output: str = "quantile"
    quantile_levels: list[float] | None = None
    loss: str | None = None
    num_time_features: int = 0
    num_past_features: int = 0
    num_static_real_features: int = 0
    num_static_categorical_features: int = 0
    cardinality: list[int] | None = None
    decoder_layers: int = 1
    share_layers: bool = False
    bridge: str | None = None
    readout_dropout: float = 0.3
    pooling_heads: int = 1
    pooling_penalty_weight: float = 0.0
    label_smoothing: float = 0.0
    num_parallel_samples: int = 100
    is_encoder_decoder: bool = True

    auto_classes: ClassVar[dict[str, str]] = AUTO_MAP
    choices: ClassVar[dict[str, Any]] = {
        **AttentionRnnCoreConfig.choices,
        "scaling": SCALINGS,
        "decoding": DECODINGS,
        "distribution_output": LOSSES,
        "loss": sorted({loss for losses in LOSSES.values() for loss in losses}),
        "bridge": ("zeros", "copy", "linear", "mean"),
    }
    contradictions: ClassVar[list[tuple[Callable[[Any], bool], str]]] = [
        *AttentionRnnCoreConfig.contradictions,
        NOT_ALIGNED,
        OVERSMOOTHED,
        (
            lambda c: c.loss not in LOSSES[c.distribution_output],
            '`loss` must be {c.losses} for `distribution_output="{c.distribution_output}"`, got {c.loss!r}.',
        ),
        (
            lambda c: (
                not c.quantile_levels
                or not all(0 < level < 1 for level in c.quantile_levels)
                or sorted(set(c.quantile_levels)) != c.quantile_levels
            ),
            "`quantile_levels` must be increasing numbers between 0 and 1, got {c.quantile_levels}.",
        ),
        (
            lambda c: c.attention_type is None and (c.coverage or c.copy),
            "`coverage` and `copy` need attention, got `attention_type=None`.",
        ),
        (
            lambda c: c.highway_length is not None and c.decoding == "autoregressive",
            '`highway_length` must be None for `decoding="autoregressive"`, got {c.highway_length}.',
        ),
        (
            lambda c: c.freeze_highway and c.highway_length is None,
            "`freeze_highway` needs `highway_length`, got None.",
        ),
        (
            lambda c: c.freeze_highway and c.distribution_output == "negative_binomial",
            '`freeze_highway` must be False for `distribution_output="negative_binomial"`, of which a linear map does '
            "not tell the mean.",
        ),
        (
            lambda c: c.attention_type is None and c.bridge == "zeros",
            '`attention_type=None` with `bridge="zeros"` leaves the decoder ignorant of the past.',
        ),
        (
            lambda c: c.attention_type in ("dot", "scaled_dot") and c.memory_size != c.hidden_size,
            '`attention_type="{c.attention_type}"` needs a memory as wide as the query (`hidden_size` is '
            "{c.hidden_size}), but a bidirectional last encoder layer makes it {c.memory_size} wide. Use "
            '`attention_type="general"` or `bidirectional=False`.',
        ),
        (
            lambda c: c.bridge == "copy" and not c.states_fit,
            '`bridge="copy"` needs a unidirectional encoder with as many layers as the decoder, got '
            "`bidirectional={c.bidirectional}`, `encoder_layers={c.encoder_layers}`, "
            '`decoder_layers={c.decoder_layers}`. Use `bridge="linear"` otherwise.',
        ),
        (
            lambda c: c.share_layers and not c.states_fit,
            "`share_layers` needs a unidirectional encoder with as many layers as the decoder, got "
            "`bidirectional={c.bidirectional}`, `encoder_layers={c.encoder_layers}`, "
            "`decoder_layers={c.decoder_layers}`.",
        ),
        (
            lambda c: c.distribution_output == "negative_binomial" and c.scaling not in ("mean", None),
            '`distribution_output="negative_binomial"` is of counts, which nothing may be subtracted from: `scaling` '
            'must be "mean" or None, got {c.scaling!r}.',
        ),
        (
            lambda c: len(c.cardinality or ()) != c.num_static_categorical_features or min(c.cardinality or [1]) < 1,
            "`cardinality` must have one number, at least 1, for each of `num_static_categorical_features` "
            "({c.num_static_categorical_features}), got {c.cardinality}.",
        ),
    ]

    def __post_init__(self, **kwargs: Any) -> None:
        if self.quantile_levels is None:
            self.quantile_levels = [tenth / 10 for tenth in range(1, 10)]
        if self.loss is None and self.distribution_output in list(LOSSES):  # which a list may be asked for
            self.loss = LOSSES[self.distribution_output][0]
        if self.bridge is None:
            self.bridge = "copy" if self.states_fit else "linear"
        super().__post_init__(**kwargs)

    @property
    def states_fit(self) -> bool:
        """Whether encoder and decoder have layers of the same shape."""
        return not self.bidirectional and self.encoder_layers == self.decoder_layers

    @property
    def losses(self) -> str:
        """The losses that `distribution_output` may have, in words."""
        return " or ".join(f'"{loss}"' for loss in LOSSES[self.distribution_output])

    @property
    def channels_together(self) -> int:
        """How many channels one sequence of the encoder holds."""
        return self.num_channels if self.channel_mixing else 1

    @property
    def num_future_patches(self) -> int:
        """Patches of the horizon; the last one may reach beyond it."""
        return -(-self.prediction_length // self.patch_length)

    def _check_range(self, name: str, value: float, least: float | None) -> None:
        super()._check_range(name, value, 0 if name in MAY_BE_ZERO else least)
