"""
What a forecasting model is trained and tested on: windows of series, cut where they are asked for.

    series = read_series({"train": "sales.csv"})
    settings = choose_settings(series)
    parts = split_by_time(series, settings.prediction_length)
    features = Features.fit(series, parts["train"])
    windows = Windows(series, parts["train"], settings.context_length, settings.prediction_length, features)
    batch = collate([windows[0], windows[1]])

Nothing of a later part is looked at for an earlier one: the split is by time alone, and scales are those of the
training part. A window is two slices of the series that it is cut from, so the windows of long series take no memory.
"""

import logging
import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .calendar import CYCLES, cycles_of
from .data import Part, Series, SeriesSet

logger = logging.getLogger(__name__)

MOST_WINDOWS = 200_000  # of a training; the stride grows where there would be more
MOST_ROWS = 500_000  # of the table of predictions
FLOAT_FORMAT = "%.10g"  # of tables: also values that differ little beside their size
MOST_UNSCALED = 100.0  # how large values may be that the model leaves as they are, or its inverse, how small


def split_by_time(
    series: SeriesSet, prediction_length: int, num_cutoffs: int = 5, stride: int | None = None
) -> dict[str, Part]:
    """
    Where the parts `train`, `validation` and `test` of each series begin and end. Those that series were read from stay
    as they are. What there is not is taken from the end of the training part, a test only where there is one source:
    as much as `num_cutoffs` cut-offs need, fewer where that were more than a fifth of the longest series.

    Args:
        series (`SeriesSet`): the series.
        prediction_length (`int`): steps behind a cut-off.
        num_cutoffs (`int`): how many there are in a part.
        stride (`int`, *optional*): steps from one to the next; the prediction length if omitted.
    """
    longest = max(len(one) for one in series.series)
    stride = stride or prediction_length
    held = min(longest // 5, prediction_length + (num_cutoffs - 1) * stride)
    held = max(1, held if held < prediction_length else held - (held - prediction_length) % stride)
    splits = list(dict.fromkeys(split for one in series.series for split in one.begins))
    parts: dict[str, Part] = {"train": [], "validation": [], "test": []}
    for one in series.series:
        edges = [*one.begins.items(), ("", len(one))]
        of_series = {split: (begin, end) for (split, begin), (_, end) in pairwise(edges)}
        begin, end = of_series.get("train", (0, 0)) if len(splits) > 1 else (0, len(one))
        if len(splits) <= 1:
            of_series["test"] = (max(end - held, begin), end)
            end = of_series["test"][0]
        if "validation" not in splits or len(splits) <= 1:
            # what is too short to lose two parts is not validated
            cut = end - held if end - held >= begin + held else end
            of_series["validation"] = (cut, end)
            end = cut
        of_series["train"] = (begin, end)
        for split, part in parts.items():
            part.append(of_series.get(split, (0, 0)))
    return parts


@dataclass
class Features:
    """
    What a model is told besides the values, and how large they are; belongs into its config as `features`.

    Attributes:
        frequency (`str` or `int`): the step of the series.
        season (`int`): after how many steps the series resemble themselves.
        calendar (`list[str]`): cycles, keys of `CYCLES`, as sine and cosine of the phase of each time stamp.
        targets (`list[str]`): the names of the channels.
        known, past_only, static (`dict[str, tuple[float, float]]`):
            Columns, each with the mean and the deviation by which it is scaled.
        categories (`dict[str, list[str]]`):
            Columns, each with the categories that the series have. A model knows them by their number from 1 on; 0 is
            one that it has not seen.
    """

    frequency: str | int
    season: int = 1
    calendar: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    known: dict[str, tuple[float, float]] = field(default_factory=dict)
    past_only: dict[str, tuple[float, float]] = field(default_factory=dict)
    static: dict[str, tuple[float, float]] = field(default_factory=dict)
    categories: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def fit(cls, series: SeriesSet, train: Part, season: int = 1, calendar: bool = False) -> "Features":
        """The features of these series, scaled by their training part."""
        cycles = cycles_of(series.frequency) if calendar else []
        kinds: dict[str, dict[str, tuple[float, float]]] = {}
        for kind in ("known", "past_only", "static"):
            kinds[kind] = {}
            for column, name in enumerate(getattr(series.columns, kind)):
                if kind == "static":
                    values = np.array([one.static[column] for one in series.series])
                else:
                    of_series = zip(series.series, train, strict=True)
                    values = np.concatenate([getattr(one, kind)[slice(*part), column] for one, part in of_series])
                    if kind == "known" and (missing := np.isnan(values).sum()):
                        logger.warning(f"Column {name!r} lacks {missing:,} values, for which its mean stands.")
                kinds[kind][name] = _scale_of(values)
        categories = {
            name: sorted(
                {one.categories[column] for one, (begin, end) in zip(series.series, train, strict=True) if end > begin}
            )
            for column, name in enumerate(series.columns.categories)
        }
        return cls(series.frequency, season, cycles, list(series.columns.targets), categories=categories, **kinds)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def cardinality(self) -> list[int]:
        """How many numbers each column of categories has for a model."""
        return [1 + len(words) for words in self.categories.values()]

    @property
    def num_time_features(self) -> int:
        return 2 * len(self.calendar) + len(self.known)

    def time_features(self, series: SeriesSet, one: Series, begin: int, end: int, wanted: range) -> np.ndarray:
        """
        Those of the positions `begin` to `end` of a series, which may lie behind its values. The mean of a known column
        stands where it is missing, except at the positions that are wanted.

        Returns:
            `np.ndarray` of shape (end - begin, time features).

        Raises:
            ValueError: a known column has no number at one of those.
        """
        columns = []
        if self.calendar:
            stamps = series.stamps(one.first + begin, one.first + end)
            for cycle in self.calendar:
                phase = 2 * math.pi * np.asarray(CYCLES[cycle][1](stamps))
                columns += [np.sin(phase), np.cos(phase)]
        for column, (name, (loc, scale)) in enumerate(self.known.items()):
            values = np.full(end - begin, np.nan, dtype=np.float32)
            values[: max(0, len(one.known) - begin)] = one.known[begin:end, column]
            missing = np.flatnonzero(np.isnan(values[wanted.start - begin : wanted.stop - begin]))
            if len(missing):
                raise ValueError(
                    f"series {one.item_id!r}, {series.stamp(one, wanted.start + int(missing[0]))}: column {name!r}, "
                    "which is known ahead, must hold a number up to the end of the forecast, got nothing"
                )
            columns.append(np.nan_to_num((values - loc) / scale))
        return np.stack(columns, axis=1).astype(np.float32)


def _scale_of(values: np.ndarray) -> tuple[float, float]:
    if np.isnan(values).all():
        return 0.0, 1.0
    scale = float(np.nanstd(values, dtype=np.float64))
    return float(np.nanmean(values, dtype=np.float64)), scale if scale > 0 else 1.0


def standardizers(series: SeriesSet, train: Part) -> tuple[np.ndarray, np.ndarray]:
    """
    Mean and deviation of each channel of each series in the training part; of a series that has none, of the values
    before its first other part.

    Returns:
        two `np.ndarray` of shape (series, channels).
    """
    scales = []
    for one, (begin, end) in zip(series.series, train, strict=True):
        known = one.values[begin:end] if end > begin else one.values[: min([*one.begins.values()] or [0]) or None]
        scales.append([_scale_of(channel) for channel in known.T])
    loc, scale = np.array(scales, dtype=np.float64).transpose(2, 0, 1)
    return loc, scale


def scales_in_training(config: Any, series: SeriesSet, scales: tuple[np.ndarray, np.ndarray]) -> Any:
    """
    By what the windows of a training are scaled, so that all series weigh alike, as far as the model does not mind.

    Raises:
        ValueError: the model would mind, and cannot learn from values of such a size.
    """
    loc, scale = scales
    if config.distribution_output == "negative_binomial":
        return None  # counts, whose loss has no units
    if config.scaling in ("std", "last_std"):
        return scales
    if config.scaling == "mean":
        return np.zeros_like(loc), scale
    size = scale if config.scaling == "last" else np.abs(loc) + scale
    if size.min() < 1 / MOST_UNSCALED or size.max() > MOST_UNSCALED:
        which = int(np.argmax(np.abs(np.log(size)).max(axis=1)))
        raise ValueError(
            f"scaling={config.scaling} leaves values of the size that they have, which must be about 1 to learn from, "
            f"and those of series {series.series[which].item_id!r} are of {size[which].max():.3g}; use std or last_std"
        )
    return None


class Windows(Dataset):
    """
    The windows of a part of series, each with the values before a cut-off and those behind it.

    Args:
        series (`SeriesSet`): the series.
        part (`Part`): where the values to forecast lie. What is before them is seen as context, if `sees_before`.
        context_length, prediction_length (`int`): steps before and behind a cut-off.
        features (`Features`): what else a window holds.
        stride (`int`): steps between cut-offs, counted back from the last one.
        sees_before (`bool`): whether the context may begin before the part, as in a test; in a training the windows of
            a long series lie in it whole.
        scales: `standardizers` by which the values are scaled, if any.
        most (`int`, *optional*): widen the stride where there were more windows.
        beyond (`bool`): one window for each series, whose cut-off is its end.
        horizon (`int`, *optional*): how many of the steps behind it must be known there, where not all need be.

    Items are dicts of arrays: `past_values` (time, channels) and `future_values` (prediction length, channels), where
    there is more to tell `past_time_features`, `future_time_features` (time, features), `past_only_features`,
    `static_real_features` and `static_categorical_features` (features,). Windows without any value before or behind the
    cut-off are left out.

    Raises:
        ValueError: there is no window.
    """

    def __init__(
        self,
        series: SeriesSet,
        part: Part,
        context_length: int,
        prediction_length: int,
        features: Features,
        *,
        stride: int = 1,
        sees_before: bool = False,
        scales: tuple[np.ndarray, np.ndarray] | None = None,
        most: int | None = None,
        beyond: bool = False,
        horizon: int | None = None,
    ) -> None:
        for name, value in (("context_length", context_length), ("prediction_length", prediction_length)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.series, self.features, self.scales = series, features, scales
        self.context_length, self.prediction_length, self.beyond = context_length, prediction_length, beyond
        self.horizon = horizon or prediction_length
        bounds = [self._bounds(begin, end, sees_before) for begin, end in part]
        total = sum(max(0, last - first + 1) for first, last in bounds)
        if most is not None and total // stride > most:
            stride = math.ceil(total / most)
            while math.gcd(stride, features.season) > 1:  # or some hours of the day would never be seen
                stride += 1
            logger.info(f"Of {total:,} windows one in {stride} is used.")
        self.cuts = [
            self._seen(one, range(first + (last - first) % stride, last + 1, stride))
            for one, (first, last) in zip(series.series, bounds, strict=True)
        ]
        self.ends = list(accumulate(map(len, self.cuts)))
        if not self.ends or not self.ends[-1]:
            raise ValueError(
                f"there must be a window of {prediction_length} steps to forecast and some before them, got none in "
                f"series of {sum(end - begin for begin, end in part):,} values"
            )

    def _bounds(self, begin: int, end: int, sees_before: bool) -> tuple[int, int]:
        """The first and the last cut-off of a part."""
        if self.beyond:
            return end, end
        if end <= begin:
            return 0, -1
        last = max(end - self.prediction_length, begin)
        if sees_before:
            return max(begin, 1), last
        # a short series is trained on with the context that it has, and a very short one with less to forecast
        length, least = end - begin, self.context_length
        if length - self.prediction_length < least:
            least = max(1, (length - self.prediction_length) // 2, length // 3)
        first = begin + least
        return (first, max(last, first)) if first < end else (0, -1)

    def _seen(self, one: Series, cuts: range) -> range | np.ndarray:
        missing = np.isnan(one.values).all(axis=1)
        if not missing.any():
            return cuts
        if self.beyond:
            if missing[-self.context_length :].all():
                raise ValueError(
                    f"series {one.item_id!r}: there must be a value among the last {self.context_length}, which are "
                    "all that is looked at, got none"
                )
            return cuts
        counts = np.concatenate([[0], np.cumsum(~missing)])
        all_cuts = np.asarray(cuts, dtype=np.int64)
        before = counts[all_cuts] > counts[np.maximum(all_cuts - self.context_length, 0)]
        behind = counts[np.minimum(all_cuts + self.prediction_length, len(one))] > counts[all_cuts]
        return all_cuts[before & behind]

    def __len__(self) -> int:
        return self.ends[-1]

    def locate(self, index: int) -> tuple[int, int]:
        """The number of the series of a window, and the position of its cut-off."""
        which = bisect_right(self.ends, index)
        return which, int(self.cuts[which][index - (self.ends[which - 1] if which else 0)])

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        which, cut = self.locate(index)
        one, begin, end = self.series.series[which], max(0, cut - self.context_length), cut + self.prediction_length
        window = {"past_values": self._scaled(which, one.values[begin:cut])}
        if not self.beyond:
            future = self._scaled(which, one.values[cut:end])
            lacking = self.prediction_length - len(future)
            if lacking:
                future = np.pad(future, ((0, lacking), (0, 0)), constant_values=np.nan)
            window["future_values"] = future
        if self.features.num_time_features:
            # behind the end of the data all that the user asks for must be known; before it there may be gaps
            wanted = range(cut, cut + self.horizon if self.beyond else cut)
            features = self.features.time_features(self.series, one, begin, end, wanted)
            window |= {"past_time_features": features[: cut - begin], "future_time_features": features[cut - begin :]}
        if self.features.past_only:
            loc, scale = np.array(list(self.features.past_only.values()), dtype=np.float32).T
            window["past_only_features"] = (one.past_only[begin:cut] - loc) / scale
        if self.features.static:
            loc, scale = np.array(list(self.features.static.values()), dtype=np.float32).T
            window["static_real_features"] = (one.static - loc) / scale
        if self.features.categories:
            known = zip(self.features.categories.values(), one.categories, strict=True)
            numbers = [1 + words.index(word) if word in words else 0 for words, word in known]
            window["static_categorical_features"] = np.array(numbers, dtype=np.int64)
        return window

    def _scaled(self, which: int, values: np.ndarray) -> np.ndarray:
        if self.scales is None:
            return values
        return ((values - self.scales[0][which]) / self.scales[1][which]).astype(np.float32)

    def unscaled(self, indices: Sequence[int], values: Any, has_levels: bool = False) -> np.ndarray:
        """
        Values of windows, (windows, time[, channels][, levels]), in the units of their series.

        Returns:
            `np.ndarray` of shape (windows, time, channels[, levels]).
        """
        values = np.asarray(values, dtype=np.float64)
        channels, levels = len(self.series.columns.targets), [-1] if has_levels else []
        values = values.reshape(*values.shape[:2], channels, *levels)
        if self.scales is None:
            return values
        which = [self.locate(index)[0] for index in indices]
        shape = (len(which), 1, channels, *(1 for _ in levels))
        loc, scale = (of_series[which].reshape(shape) for of_series in self.scales)
        return values * scale + loc


def collate(windows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Tensor]:
    """
    Windows as a batch, in 32 bits but for values that have 64. What is before a cut-off is padded on the left by NaN,
    which is what is missing; one channel has no axis of its own.
    """
    batch = {}
    for name in windows[0]:
        arrays = [np.asarray(window[name]) for window in windows]
        kind: Any = np.int64 if name == "static_categorical_features" else np.float32
        if name.endswith("_values"):
            kind = np.result_type(kind, *arrays)
        arrays = [array.astype(kind, copy=False) for array in arrays]
        if name.startswith("past"):
            longest = max(map(len, arrays))
            fill = np.nan if name == "past_values" else 0.0
            arrays = [
                a if len(a) == longest else np.pad(a, ((longest - len(a), 0), (0, 0)), constant_values=fill)
                for a in arrays
            ]
        stacked = torch.from_numpy(np.stack(arrays))
        batch[name] = stacked[..., 0] if name.endswith("_values") and stacked.shape[-1] == 1 else stacked
    return batch


def batches(windows: Windows, size: int = 256) -> Iterator[tuple[range, dict[str, Tensor]]]:
    """The windows in their order, batch by batch, each with their indices."""
    for begin in range(0, len(windows), size):
        indices = range(begin, min(begin + size, len(windows)))
        yield indices, collate([windows[index] for index in indices])


def forecast_table(
    windows: Windows,
    indices: Sequence[int],
    mean: np.ndarray,
    quantiles: np.ndarray | None = None,
    levels: Sequence[float] = (),
    truth: np.ndarray | None = None,
) -> pd.DataFrame:
    """
    Forecasts of windows as a long table, a row for each channel and time stamp.

    Args:
        windows (`Windows`), indices (`Sequence[int]`): the windows.
        mean (`np.ndarray` of shape (windows, horizon[, channels])): as the values of the windows are scaled.
        quantiles (`np.ndarray` of shape (windows, horizon[, channels], levels)), levels: in the same way.
        truth (`np.ndarray` of the shape of `mean`, *optional*): what came.

    Returns:
        `pd.DataFrame`: `item_id`, `channel` if there are several, `timestamp`, `target`, a column for each level named
        as `0.1`; with `truth` also `cutoff`, the first time stamp that is forecast, and `truth`.
    """
    series, channels = windows.series, windows.series.columns.targets
    mean = windows.unscaled(indices, mean)
    ahead = None if quantiles is None else windows.unscaled(indices, quantiles, has_levels=True)
    came = None if truth is None else windows.unscaled(indices, truth)
    tables = []
    for row, index in enumerate(indices):
        which, cut = windows.locate(index)
        one = series.series[which]
        stamps = series.stamps(one.first + cut, one.first + cut + mean.shape[1])
        for column, channel in enumerate(channels):
            table = pd.DataFrame({"item_id": one.item_id, "channel": channel, "timestamp": stamps})
            table["target"] = mean[row, :, column]
            if ahead is not None:
                table = table.assign(**{f"{level:g}": ahead[row, :, column, i] for i, level in enumerate(levels)})
            if came is not None:
                table.insert(2, "cutoff", stamps[0])
                table["truth"] = came[row, :, column]
            tables.append(table)
    joined = pd.concat(tables, ignore_index=True)
    return joined.drop(columns="channel") if len(channels) == 1 else joined


def write_predictions(file: Path, windows: Windows, output: Any, levels: list[float]) -> None:
    """
    A table of what was forecast at the cut-offs, at some of them where it would become too long.

    Args:
        file: csv to write.
        output: what a Trainer has predicted of the windows.
        levels: of the quantiles; empty for point forecasts.
    """
    mean, full = output.predictions[:2]
    rows = mean[0].size
    step = max(1, -(-len(windows) * rows // MOST_ROWS))
    chosen = list(range(len(windows)))[::-step][::-1]
    table = forecast_table(
        windows, chosen, mean[chosen], full[chosen][..., 1:] if levels else None, levels, output.label_ids[chosen]
    )
    table.to_csv(file, index=False, float_format=FLOAT_FORMAT)
    if step > 1:
        logger.info(f"{file.name} holds one in {step} of {len(windows):,} cut-offs.")
