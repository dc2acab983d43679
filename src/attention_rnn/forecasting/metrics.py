"""How good forecasts are: errors in several measures, and how honest the quantiles are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from transformers import EvalPrediction

from .data import Part, SeriesSet
from .windows import Windows

# what each score is, for cards and tables
METRICS = {
    "mse": "mean squared error of the point forecast (of a model of quantiles the median), each channel scaled by mean "
    "and deviation of its training part",
    "mae": "mean absolute error of the median, scaled in the same way",
    "crps": "twice the quantile loss, the mean over the quantiles, scaled in the same way; of a point its error",
    "smape": "200 |y - f| / (|y| + |f|) in percent, the mean",
    "mase": "absolute error over that of the season before in the training part",
    "weighted_quantile_loss": "the sum of twice the quantile losses over that of the absolute values",
    "coverage": "percent of the values between the lowest and the highest quantile",
}
LOWER_IS_BETTER = ("mse", "mae", "crps", "smape", "mase", "weighted_quantile_loss")


def seasonal_errors(series: SeriesSet, train: Part, season: int) -> np.ndarray:
    """
    The mean absolute difference of values a season apart in the training part, by which MASE divides; NaN where there
    is none, or where it is 0.

    Returns:
        `np.ndarray` of shape (series, channels).
    """
    errors = np.full((len(series.series), len(series.columns.targets)), np.nan)
    for row, (one, part) in enumerate(zip(series.series, train, strict=True)):
        values = one.values[slice(*part)]
        differences = np.abs(values[season:] - values[:-season])
        counts = (~np.isnan(differences)).sum(axis=0)
        seen = np.nansum(differences, axis=0, dtype=np.float64) / np.maximum(counts, 1)
        errors[row] = np.where(seen > 0, seen, np.nan)
    return errors


class Scores:
    """
    The metrics of forecasts that come batch by batch.

    Args:
        series (`SeriesSet`), train (`Part`), season (`int`): what the errors of MASE are taken from.
        scales: `standardizers` of the training part.
        levels (`Sequence[float]`): of the quantiles, ascending.
    """

    def __init__(
        self,
        series: SeriesSet,
        train: Part,
        season: int,
        scales: tuple[np.ndarray, np.ndarray],
        levels: Sequence[float] = (),
    ) -> None:
        self.series, self.scales, self.levels = series, scales, list(levels)
        self.seasonal_errors = seasonal_errors(series, train, season)
        shape = self.seasonal_errors.shape
        names = ("count", "squared", "absolute", "crps", "smape", "scaled", "scaled_count", "loss", "size", "inside")
        self.sums = {name: np.zeros(shape) for name in names}
        self.below = np.zeros(len(self.levels))  # values below each quantile

    def add(self, windows: Windows, indices: Sequence[int], truth: Any, mean: Any, quantiles: Any = None) -> None:
        """
        Take note of forecasts, scaled as the windows are.

        Args:
            windows (`Windows`), indices (`Sequence[int]`): of these windows.
            truth, mean (`np.ndarray` of shape (windows, horizon[, channels])): NaN in `truth` is left out.
            quantiles (`np.ndarray` of shape (windows, horizon[, channels], levels), *optional*).
        """
        which = np.array([windows.locate(index)[0] for index in indices])
        truth, mean = windows.unscaled(indices, truth), windows.unscaled(indices, mean)
        known = ~np.isnan(truth)
        scale = self.scales[1][which][:, None]
        median = mean
        loss = np.abs(truth - mean)
        if quantiles is not None and self.levels:
            quantiles = windows.unscaled(indices, quantiles, has_levels=True)
            median = quantiles[..., int(np.argmin(np.abs(np.array(self.levels) - 0.5)))]
            loss = np.zeros_like(truth)
            for index, level in enumerate(self.levels):
                error = truth - quantiles[..., index]
                loss += 2 * np.maximum(level * error, (level - 1) * error) / len(self.levels)
                self.below[index] += (error[known] < 0).sum()
            self._sum("inside", which, (truth >= quantiles[..., 0]) & (truth <= quantiles[..., -1]), known)
        absolute, size = np.abs(truth - median), np.abs(truth) + np.abs(median)
        divisor = self.seasonal_errors[which][:, None]
        has_divisor = known & ~np.isnan(divisor)
        self._sum("count", which, known, known)
        self._sum("squared", which, ((truth - mean) / scale) ** 2, known)
        self._sum("absolute", which, absolute / scale, known)
        self._sum("crps", which, loss / scale, known)
        self._sum("smape", which, 200 * absolute / np.where(size > 0, size, 1), known)
        self._sum("scaled", which, absolute / np.where(has_divisor, divisor, 1), has_divisor)
        self._sum("scaled_count", which, has_divisor, has_divisor)
        self._sum("loss", which, loss, known)
        self._sum("size", which, np.abs(truth), known)

    def _sum(self, name: str, which: np.ndarray, values: np.ndarray, where: np.ndarray) -> None:
        np.add.at(self.sums[name], which, np.sum(values, axis=1, where=where, dtype=np.float64))

    def result(self) -> dict[str, float]:
        """The metrics of all; those that nothing can be said of are left out."""
        return _metrics({name: of_series.sum() for name, of_series in self.sums.items()}, bool(self.levels))

    def by_series(self) -> pd.DataFrame:
        """The metrics of each channel of each series, the worst by MASE first."""
        rows = []
        for row, one in enumerate(self.series.series):
            for column, name in enumerate(self.series.columns.targets):
                sums = {key: of_series[row, column] for key, of_series in self.sums.items()}
                if sums["count"]:
                    rows.append({"item_id": one.item_id, "channel": name, **_metrics(sums, bool(self.levels))})
        table = pd.DataFrame(rows)
        worst = "mase" if "mase" in table else "mae"
        return table.sort_values(worst, ascending=False, ignore_index=True)

    def calibration(self) -> dict[float, float]:
        """Of each level, the share of the values that lay below its quantile."""
        count = max(1.0, self.sums["count"].sum())
        return {level: float(below / count) for level, below in zip(self.levels, self.below, strict=True)}


def _metrics(sums: dict[str, Any], has_quantiles: bool) -> dict[str, float]:
    count = sums["count"]
    if not count:
        return {}
    metrics = {
        "mse": sums["squared"] / count,
        "mae": sums["absolute"] / count,
        "crps": sums["crps"] / count,
        "smape": sums["smape"] / count,
    }
    if sums["scaled_count"]:
        metrics["mase"] = sums["scaled"] / sums["scaled_count"]
    if sums["size"]:
        metrics["weighted_quantile_loss"] = sums["loss"] / sums["size"]
    if has_quantiles:
        metrics["coverage"] = 100 * sums["inside"] / count
    return {name: float(value) for name, value in metrics.items()}


class ForecastMetrics:
    """`compute_metrics` of a Trainer that predicts these windows, all of them in their order."""

    def __init__(
        self, windows: Windows, train: Part, scales: tuple[np.ndarray, np.ndarray], levels: Sequence[float] = ()
    ) -> None:
        self.windows, self.train, self.scales, self.levels = windows, train, scales, levels

    def scores(self, output: EvalPrediction) -> Scores:
        """
        The scores of what the Trainer has predicted, the outputs of a model without its loss: `mean_predictions` and
        `full_predictions`, the mean and the quantiles behind it.
        """
        windows = self.windows
        scores = Scores(windows.series, self.train, windows.features.season, self.scales, self.levels)
        truth: Any = output.label_ids
        predictions: Any = output.predictions
        mean, full = predictions[:2] if isinstance(predictions, tuple) else (predictions, None)
        for begin in range(0, len(windows), 512):
            chosen = slice(begin, begin + 512)
            quantiles = full[chosen][..., 1:] if full is not None and self.levels else None
            scores.add(windows, range(len(windows))[chosen], truth[chosen], mean[chosen], quantiles)
        return scores

    def __call__(self, output: EvalPrediction) -> dict[str, float]:
        return self.scores(output).result()


def deciding_metric(config: Any) -> str:
    """By which metric a model of this config is compared with others."""
    return "mse" if config.loss == "mse" else "mase"


def compare(tables: Mapping[str, Mapping[str, Mapping[str, float]]], metric: str) -> tuple[str, str]:
    """
    What a model reached beside others.

    Args:
        tables: by split, by system, the model first, the metrics.
        metric (`str`): what decides; `"mae"` where there is none of it.

    Returns:
        a table in Markdown, and a sentence that says whether the model beats all others on the last split, and on those
        before it.
    """
    names = list(dict.fromkeys(name for table in tables.values() for of_it in table.values() for name in of_it))
    lines = [["", *names], ["---"] * (len(names) + 1)]
    for split, table in tables.items():
        for system, of_it in table.items():
            cells = [f"{of_it[name]:.3f}" if name in of_it else "" for name in names]
            lines.append([f"{split}, {system}", *cells])
    model = next(iter(tables[list(tables)[-1]]))

    def race(split: str) -> tuple[bool, str, str]:
        """Whether the model wins on a split, the best of the others, and the scores of both in words."""
        scores = tables[split]
        decides = metric if all(metric in of_it for of_it in scores.values()) else "mae"
        best = min((name for name in scores if name != model), key=lambda name: scores[name][decides])
        mine, others = scores[model][decides], scores[best][decides]
        told = f"its {decides} on the {split} is {mine:.3f}, that of {best} {others:.3f}"
        if "coverage" in scores[model]:  # it gives quantiles, which no baseline does
            lowest = min((name for name in scores if name != model), key=lambda name: scores[name]["crps"])
            of_model, of_lowest = scores[model]["crps"], scores[lowest]["crps"]
            told += f", and its crps {of_model:.3f}, that of {lowest} {of_lowest:.3f}"
            told += ", so that its quantiles say less than a single number" if of_model >= of_lowest else ""
        return round(mine, 3) < round(others, 3), best, told  # what looks the same is no win

    *earlier, split = tables
    wins, best, told = race(split)
    if not wins:
        verdict = f"**The model does not beat {best}**, which needs no training: {told}. Use {best}."
    elif lost := [told for wins, _, told in map(race, earlier) if not wins]:
        verdict = (
            f"The model beats what needs no training on the {split} alone, which may be chance: {told}; **{lost[0]}**."
        )
    else:
        verdict = f"The model beats what needs no training: {told}."
    return "\n".join(f"| {' | '.join(line)} |" for line in lines), verdict
