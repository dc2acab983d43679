"""The pipeline of forecasting, which transformers has not: for our models and for TimesFM."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers import pipelines as transformers_pipelines

if TYPE_CHECKING:
    import pandas as pd

    from .forecasting import Windows
    from .forecasting.data import SeriesSet
    from .forecasting.tables import Columns

# Any, as every pipeline takes other arguments than the base class declares
Pipeline: Any = transformers_pipelines.base.Pipeline

OWN_MODEL_TYPE = "attention_rnn_time_series"
BATCH_SIZE = 32


class TimeSeriesForecastingPipeline(Pipeline):
    """
    What comes next in a series.

        >>> forecast = pipeline("time-series-forecasting", "runs/sales")
        >>> forecast([112, 118, 132, 129, 121, 135, 148, 148], prediction_length=2)
        {'target': [151.2, 149.8], 'quantiles': {'0.1': [139.0, 136.4], ..., '0.9': [163.1, 164.9]}}
        >>> forecast(sales)  # a DataFrame with the columns item_id, timestamp, target
          item_id  timestamp  target    0.1 ...
        0    bern 2024-03-01   151.2  139.0 ...

    An input is

    - a series: numbers in a list, a tensor, an array or a `pd.Series`; `None` and NaN are missing values. For a model
      of several channels, an array (time, channels).
    - a dict with the series as `target`, and with what the model was trained with: `start`, the first time stamp, for
      a calendar; `known`, `past_only`, `static` and `categories`, dicts of columns by name, those of `known` as long
      as the series and the forecast together.
    - a list of these, or an array (series, time); for several channels (series, time, channels).
    - a `pd.DataFrame` with the columns `timestamp`, `item_id` where there are several series, one for each channel
      (`target` if there is one) and those of the covariates. Rows behind the last value of a series may tell what is
      known ahead. Columns of other usual names are recognised.

    Arguments of a call, or of the pipeline for all its calls:

    - `prediction_length` (`int`): how far to look ahead; by default as far as the model was trained to. Farther, our
      models go on from what they forecast (`num_parallel_samples` paths); TimesFM does not.
    - `quantile_levels` (`list[float]`): those to return, of the levels of the model; by default all of them.
    - `frequency` (`str`): the step of time stamps, where it cannot be told from them; by default the model's own.
    - `batch_size` (`int`): series at once.

    Returns a dict for a series: `target`, the median of a model of quantiles and otherwise the mean, and `quantiles`,
    lists by level, for several channels a list of them at each step. A list of dicts for a list; for a DataFrame a
    DataFrame with `item_id`, `timestamp`, `target` and a column for each level.

    Raises:
        TypeError: an input is none of these.
        ValueError: a series is empty, has no number at all or an infinite one, or lacks what the model was trained
            with; the number of the series, or its name and time stamp, are named.
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_own = self.model.config.model_type == OWN_MODEL_TYPE

    def _sanitize_parameters(
        self,
        prediction_length: int | None = None,
        quantile_levels: Sequence[float] | None = None,
        frequency: str | None = None,
        num_parallel_samples: int | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        given = {
            "prediction_length": prediction_length,
            "quantile_levels": quantile_levels,
            "frequency": frequency,
            "num_parallel_samples": num_parallel_samples,
        }
        return {}, {name: value for name, value in given.items() if value is not None}, {}

    @property
    def levels(self) -> list[float]:
        """The levels of the quantiles that the model gives."""
        config = self.model.config
        if getattr(config, "distribution_output", None) == "point":
            return []
        return [float(level) for level in (config.quantile_levels if self.is_own else config.quantiles)]

    def __call__(self, inputs: Any, *, batch_size: int | None = None, **kwargs: Any) -> Any:
        """The forecast of a series, or of each of several; see the class."""
        options = {**self._forward_params, **self._sanitize_parameters(**kwargs)[1]}
        frequency = options.pop("frequency", None)
        if _is_frame(inputs):
            return self.forecast_series(self._read(inputs, frequency), batch_size=batch_size, **options)
        several, items = self._items(inputs)
        if not items:
            return []
        horizon, chosen = self._horizon(options.get("prediction_length")), self._chosen(options.get("quantile_levels"))
        windows = self._windows(self._series_set(items, frequency, horizon), horizon)
        forecasts = self.forecast(windows, range(len(windows)), batch_size, options.get("num_parallel_samples"))
        results = [
            {
                "target": of_series.tolist(),
                "quantiles": {f"{self.levels[index]:g}": of_levels[..., index].tolist() for index in chosen},
            }
            for mean, quantiles in forecasts
            for of_series, of_levels in zip(mean, quantiles, strict=True)
        ]
        return results if several else results[0]

    def forecast_series(
        self,
        series: "SeriesSet",
        *,
        prediction_length: int | None = None,
        quantile_levels: Sequence[float] | None = None,
        batch_size: int | None = None,
        num_parallel_samples: int | None = None,
    ) -> "pd.DataFrame":
        """What comes behind the end of each series, as of a DataFrame."""
        import pandas as pd

        from .forecasting import forecast_table

        windows = self._windows(series, self._horizon(prediction_length))
        chosen = self._chosen(quantile_levels)
        levels = [self.levels[index] for index in chosen]
        tables, begin = [], 0
        for mean, quantiles in self.forecast(windows, range(len(windows)), batch_size, num_parallel_samples):
            indices = range(begin, begin + len(mean))
            tables.append(forecast_table(windows, indices, mean, quantiles[..., chosen], levels))
            begin += len(mean)
        return pd.concat(tables, ignore_index=True)

    def forecast(
        self,
        windows: "Windows",
        indices: Sequence[int],
        batch_size: int | None = None,
        num_parallel_samples: int | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """
        The `target` (batch, horizon[, channels]) and the quantiles (batch, horizon[, channels], levels) behind the
        cut-offs of these windows, batch by batch, so that they need never be in memory together.
        """
        size = batch_size or self._batch_size or BATCH_SIZE
        left = iter(indices)
        parts = iter(lambda: [windows[index] for index in islice(left, size)], [])
        options = {"horizon": windows.horizon, "num_parallel_samples": num_parallel_samples}
        for part in parts:
            yield self.run_single(part, {}, options, {})

    def preprocess(self, windows: list[dict[str, np.ndarray]]) -> dict[str, Any]:
        from .forecasting import collate

        if self.is_own:
            batch = {name: values for name, values in collate(windows).items() if name != "future_values"}
            if self.device.type == "mps":  # which has no 64 bits
                batch["past_values"] = batch["past_values"].float()
            return batch
        # TimesFM takes series one by one, and one missing value would spoil the whole of one
        return {"past_values": [torch.from_numpy(_filled(window["past_values"][:, 0])) for window in windows]}

    def _forward(
        self, inputs: dict[str, Any], horizon: int, num_parallel_samples: int | None = None
    ) -> tuple[Tensor, Tensor]:
        if self.is_own and horizon > self.model.config.prediction_length:
            samples = {} if num_parallel_samples is None else {"num_parallel_samples": num_parallel_samples}
            paths = self.model.generate(**inputs, prediction_length=horizon, **samples).sequences
            paths = paths.to(torch.promote_types(paths.dtype, torch.float32))
            levels = torch.tensor(self.levels, device=paths.device, dtype=paths.dtype)
            is_median = self.model.config.distribution_output == "quantile"  # as of what it forecasts at once
            target = paths.quantile(0.5, dim=1) if is_median else paths.mean(dim=1)
            return target, paths.quantile(levels, dim=1).movedim(0, -1)
        outputs = self.model(**inputs)
        mean, full = outputs.mean_predictions, outputs.full_predictions
        quantiles = full[..., 1 : 1 + len(self.levels)]  # behind the mean, or none of a model that gives one number
        precision = torch.promote_types(mean.dtype, torch.float32)
        return mean[:, :horizon].to(precision), quantiles[:, :horizon].to(precision)

    def postprocess(self, outputs: tuple[Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray]:
        mean, quantiles = (of_outputs.cpu().numpy() for of_outputs in outputs)
        return mean, quantiles

    def _horizon(self, prediction_length: int | None) -> int:
        longest = self.prediction_length
        horizon = longest if prediction_length is None else prediction_length
        if isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1:
            raise ValueError(f"prediction_length must be a whole number of at least 1, got {prediction_length!r}")
        if horizon > longest and not self.is_own:
            raise ValueError(f"prediction_length must be at most {longest} for this model, got {horizon}")
        return horizon

    def _chosen(self, levels: Sequence[float] | None) -> list[int]:
        """Where the levels that are asked for stand among those of the model."""
        known = [round(level, 6) for level in self.levels]
        if levels is None:
            return list(range(len(known)))
        wrong = [level for level in levels if round(float(level), 6) not in known]
        if wrong:
            raise ValueError(f"quantile_levels must be among those of the model, {known}, got {wrong}")
        return [known.index(round(float(level), 6)) for level in levels]

    @property
    def prediction_length(self) -> int:
        """How far the model looks ahead."""
        config = self.model.config
        return int(config.prediction_length if self.is_own else config.horizon_length)

    @property
    def context_length(self) -> int:
        """How far it looks back, 4,096 steps where it sets no limit."""
        return int(getattr(self.model.config, "context_length", None) or 4096)

    @property
    def frequency(self) -> str | None:
        """The step of the time stamps that it was trained on, if they were any."""
        frequency = self._features().frequency
        return frequency if isinstance(frequency, str) else None

    def columns(
        self, timestamp: str | None = None, item: str | None = None, targets: Sequence[str] | None = None
    ) -> "Columns":
        """The columns of a table that the model was trained on, as far as they are not given."""
        from .forecasting.tables import Columns

        features = self._features()
        known = [list(kind) for kind in (features.known, features.past_only, features.static, features.categories)]
        return Columns(timestamp, item, list(targets or ()), *known)

    def _read(self, frame: "pd.DataFrame", frequency: str | None) -> "SeriesSet":
        from .forecasting.data import read_series

        columns = self.columns(targets=self.targets_among(list(frame.columns)))
        return read_series({"data": frame}, columns, frequency=frequency or self.frequency)

    def targets_among(self, names: Sequence[str]) -> list[str] | None:
        """
        The columns that the model was trained to forecast, if a table has them; `None` where it has none of them, and
        its own are taken in their order.

        Raises:
            ValueError: it has some of them.
        """
        targets = self._features().targets
        if missing := [name for name in targets if name not in names]:
            if len(missing) < len(targets):
                raise ValueError(f"there must be the columns {targets} of the training, got none called {missing}")
            return None
        return targets

    def _features(self) -> Any:
        from .forecasting import Features

        settings = getattr(self.model.config, "features", None)
        return Features(**settings) if isinstance(settings, Mapping) else Features(frequency=1)

    def _windows(self, series: "SeriesSet", horizon: int) -> "Windows":
        from .forecasting import Windows

        channels, targets = getattr(self.model.config, "num_channels", 1), series.columns.targets
        if len(targets) != channels:
            raise ValueError(
                f"there must be {channels} column{'s' if channels > 1 else ''} to forecast, got {targets}; the model "
                f"was trained on {self._features().targets}"
            )
        ends = [(0, len(one)) for one in series.series]
        length = max(horizon, self.prediction_length) if self._features().num_time_features else horizon
        return Windows(series, ends, self.context_length, length, self._features(), beyond=True, horizon=horizon)

    def _items(self, inputs: Any) -> tuple[bool, list[dict[str, Any]]]:
        """Whether these are several series, and each as a dict with its `target`."""
        channels = getattr(self.model.config, "num_channels", 1)
        if isinstance(inputs, Mapping):
            return False, [_item(inputs, channels, None)]
        if isinstance(inputs, Tensor):
            inputs = inputs.detach().cpu().double().numpy()
        axes = 1 if channels == 1 else 2
        if isinstance(inputs, np.ndarray) or type(inputs).__name__ == "Series":
            array = np.asarray(inputs)
            if array.ndim not in (axes, axes + 1):
                raise ValueError(
                    f"an array must be a series of {axes} axes or several of {axes + 1}, got the shape {array.shape}"
                )
            if array.ndim == axes:
                return False, [_item({"target": array}, channels, None)]
            return True, [_item({"target": of_one}, channels, index) for index, of_one in enumerate(array)]
        if not isinstance(inputs, (list, tuple)):
            raise TypeError(
                "The input must be a series as a list of numbers, an array or a dict, a list of them or a DataFrame, "
                f"got {type(inputs).__name__}."
            )
        if len(inputs) and not any(_has_length(value) for value in inputs):
            return False, [_item({"target": inputs}, channels, None)]
        if channels > 1 and inputs and all(_is_row(value) for value in inputs):
            return False, [_item({"target": inputs}, channels, None)]
        items = [item if isinstance(item, Mapping) else {"target": item} for item in inputs]
        return True, [_item(item, channels, index) for index, item in enumerate(items)]

    def _series_set(self, items: list[dict[str, Any]], frequency: str | None, horizon: int) -> "SeriesSet":
        """Series that no table holds, each on the calendar from its own start on."""
        import pandas as pd

        from .forecasting.data import Series, SeriesSet
        from .forecasting.tables import Columns

        features = self._features()
        step: str | int = frequency or features.frequency
        columns = Columns(None, None, [f"channel {i}" for i in range(getattr(self.model.config, "num_channels", 1))])
        columns.known, columns.past_only = list(features.known), list(features.past_only)
        columns.static, columns.categories = list(features.static), list(features.categories)
        starts = [item.get("start") for item in items]
        first: Any = 0
        if features.calendar:
            for item, start in zip(items, starts, strict=True):
                if start is None:
                    raise ValueError(
                        f"{item['name']} must be a dict with its first time stamp as `start`: the model "
                        f"knows the cycles {features.calendar} of the calendar"
                    )
            first = min(pd.Timestamp(start) for start in starts)
        else:
            step = 1
        series = []
        for item, start in zip(items, starts, strict=True):
            at = 0 if not features.calendar else len(pd.date_range(first, pd.Timestamp(start), freq=step)) - 1
            length = len(item["target"])
            known = _covariates(item, "known", features.known, length + horizon)
            past_only = _covariates(item, "past_only", features.past_only, length)
            static = _covariates(item, "static", features.static, None)
            categories = _categories(item, features.categories)
            series.append(Series(item["name"], at, item["target"], known, past_only, static, {}, categories))
        length = max(one.first + len(one) for one in series)
        return SeriesSet(series, columns, first, step, length)


def _covariates(item: Mapping[str, Any], kind: str, names: Mapping[str, Any], length: int | None) -> np.ndarray:
    """The columns of one kind, (length, columns), or (columns,) of what has no time."""
    given = item.get(kind) or {}
    columns = []
    for name in names:
        if name not in given:
            raise ValueError(f"{item['name']} must have {name!r} in {kind!r}, as in the training, got {sorted(given)}")
        values = np.asarray(given[name], dtype=np.float32)
        wanted = () if length is None else (length,)
        if values.shape != wanted:
            raise ValueError(f"{item['name']}: {name!r} in {kind!r} must have the shape {wanted}, got {values.shape}")
        columns.append(values)
    if length is None:
        return np.array(columns, dtype=np.float32)
    return np.stack(columns, axis=1) if columns else np.zeros((length, 0), dtype=np.float32)


def _categories(item: Mapping[str, Any], names: Mapping[str, Any]) -> list[str]:
    from .forecasting.data import category_of

    given = item.get("categories") or {}
    for name in names:
        if name not in given:
            raise ValueError(
                f"{item['name']} must have {name!r} in 'categories', as in the training, got {sorted(given)}"
            )
    return [category_of(given[name]) for name in names]


def _item(item: Mapping[str, Any], channels: int, index: int | None) -> dict[str, Any]:
    from .forecasting.tables import narrow

    name = "the series" if index is None else f"series {index}"
    if "target" not in item:
        raise ValueError(f"{name} must be a dict with its values as `target`, got the keys {sorted(item)}")
    target = item["target"]
    try:
        if isinstance(target, Tensor):
            target = target.detach().cpu().double().numpy()
        values = np.asarray(target, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be made of numbers, with NaN or None for what is missing: {error}") from error
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] != channels:
        shape = f"{channels} channels at each step" if channels > 1 else "one number at each step"
        raise ValueError(f"{name} must have {shape}, got the shape {values.shape}")
    if not len(values) or np.isnan(values).all():
        raise ValueError(f"{name} must have at least one number, got {'none' if len(values) else 'an empty series'}")
    if (too_large := np.abs(values) > np.finfo(np.float32).max).any():
        step = int(np.argwhere(too_large)[0][0])
        raise ValueError(f"{name}, step {step}: must be a finite number of 32 bits, got {values[step].tolist()}")
    return {**item, "target": narrow(values, channels), "name": name}


def _filled(values: np.ndarray) -> np.ndarray:
    """A series with straight lines where values are missing."""
    known = np.flatnonzero(~np.isnan(values))
    return np.interp(np.arange(len(values)), known, values[known]).astype(np.float32)


def _is_frame(inputs: Any) -> bool:
    return type(inputs).__name__ == "DataFrame"


def _has_length(value: Any) -> bool:
    return hasattr(value, "__len__") and getattr(value, "ndim", 1) != 0


def _is_row(value: Any) -> bool:
    """Whether this is what several channels have at one step."""
    return isinstance(value, (list, tuple, np.ndarray)) and not any(_has_length(number) for number in value)
