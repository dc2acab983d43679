"""
Forecasts that need no training, or one that takes a second. A model that does not beat them is not worth its weights.

Each takes what was before a cut-off, (windows, time, channels) with NaN for what is missing, and gives the values
behind it, (windows, horizon, channels), NaN where a channel has no value at all.
"""

import warnings
from collections.abc import Callable

import numpy as np

from .metrics import Scores
from .windows import Windows, batches

SEASONS_OF_A_MEAN = 7
_PENALTY, _PENALTIES = 100.0, (0.01, 1.0, 10.0, 100.0, 1000.0)  # of the ridge, for each thousand windows
_MOST_ROWS = 20_000  # windows of one channel that the ridge is fitted on


def repeat_last(past: np.ndarray, horizon: int) -> np.ndarray:
    """The last value, for ever: the best that can be said of a random walk."""
    return np.repeat(_last(past)[:, None], horizon, axis=1)


def seasonal_naive(past: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """What was a season before, or several where that is missing."""
    phases = _by_phase(past, season)  # (windows, seasons, season, channels)
    windows, seasons, _, channels = phases.shape
    flat = phases.transpose(0, 2, 1, 3).reshape(windows * season, seasons, channels)
    return _continue(_last(flat).reshape(windows, season, channels), past, horizon)


def seasonal_mean(past: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """The mean of the last seven seasons, for each phase by itself: of the last seven days, hour by hour."""
    return _continue(_mean(_by_phase(past, season)[:, -SEASONS_OF_A_MEAN:], axis=1), past, horizon)


def _by_phase(past: np.ndarray, season: int) -> np.ndarray:
    windows, length, channels = past.shape
    lacking = -length % season
    padded = np.pad(past, ((0, 0), (lacking, 0), (0, 0)), constant_values=np.nan)
    return padded.reshape(windows, -1, season, channels)


def _continue(seasons: np.ndarray, past: np.ndarray, horizon: int) -> np.ndarray:
    """Repeat a season over the horizon; phases that were never seen have the last value."""
    seasons = np.where(np.isnan(seasons), _last(past)[:, None], seasons)
    return np.tile(seasons, (1, -(-horizon // seasons.shape[1]), 1))[:, :horizon]


def _last(past: np.ndarray) -> np.ndarray:
    """The last value of each channel that is not missing."""
    steps = np.arange(past.shape[1])[None, :, None]
    last = np.where(np.isnan(past), -1, steps).max(axis=1)
    return np.take_along_axis(past, np.maximum(last, 0)[:, None], axis=1)[:, 0]


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of an empty mean, which is NaN
        return np.nanmean(values, axis=axis)


class WindowRidge:
    """
    Each value behind a cut-off as a linear function of those before it, by ridge regression: one for all channels of
    all series. The last value is taken off before and put back after.
    """

    def __init__(self, context_length: int, horizon: int) -> None:
        self.context_length, self.horizon = context_length, horizon
        self.weights: np.ndarray = np.zeros((context_length, horizon))

    def fit(self, train: Windows, validation: Windows | None = None) -> "WindowRidge":
        """Fit to the windows of a training; those of a validation, if any, choose the penalty."""
        size = self.context_length
        gram, products, seen = np.zeros((size, size)), np.zeros((size, self.horizon)), 0
        for past, future in self._pairs(train):
            features, last = self._features(past)
            targets = future - last
            whole = ~np.isnan(targets).any(axis=1)
            gram += features[whole].T @ features[whole]
            products += features[whole].T @ targets[whole]
            seen += int(whole.sum())
        if not seen:  # no window is whole: the last value it is
            return self
        # of the size of the features, so that units do not matter
        unit = np.trace(gram) / seen / size * max(seen, 1000) / 1000 or 1.0
        best = np.inf
        held = self._pairs(validation) if validation is not None else []
        for penalty in _PENALTIES if held else (_PENALTY,):
            weights = np.linalg.solve(gram + penalty * unit * np.eye(size), products)
            error = sum(float(np.nansum((self._predict(past, weights) - future) ** 2)) for past, future in held)
            if error < best:
                best, self.weights = error, weights
        return self

    def __call__(self, past: np.ndarray, horizon: int) -> np.ndarray:
        windows, _, channels = past.shape
        rows = past.transpose(0, 2, 1).reshape(windows * channels, -1)
        predicted = self._predict(rows, self.weights)[:, :horizon]
        return predicted.reshape(windows, channels, horizon).transpose(0, 2, 1)

    @property
    def map(self) -> np.ndarray:
        """The same as a linear map of the values as they are, (context, horizon); each column sums to one."""
        weights = self.weights.copy()
        weights[-1] += 1 - weights.sum(axis=0)
        return weights

    def _pairs(self, windows: Windows) -> list[tuple[np.ndarray, np.ndarray]]:
        """Past and future of some windows, a row for each channel."""
        most = max(1, _MOST_ROWS // len(windows.series.columns.targets))
        chosen = np.unique(np.linspace(0, len(windows) - 1, min(len(windows), most)).astype(int))
        pairs = []
        for begin in range(0, len(chosen), 1024):
            items = [windows[int(index)] for index in chosen[begin : begin + 1024]]
            pasts = [_fit_length(item["past_values"], self.context_length).T for item in items]
            futures = [item["future_values"].T for item in items]
            pairs.append((np.concatenate(pasts), np.concatenate(futures)))
        return pairs

    def _features(self, past: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        past = _fit_length(past.T, self.context_length).T.astype(np.float64)
        last = _last(past[:, :, None])
        return np.nan_to_num(past - last), last

    def _predict(self, past: np.ndarray, weights: np.ndarray) -> np.ndarray:
        features, last = self._features(past)
        return features @ weights + last


def _fit_length(values: np.ndarray, length: int) -> np.ndarray:
    """The last `length` rows; before the first there is nothing."""
    lacking = max(0, length - len(values))
    return np.pad(values[-length:], ((lacking, 0), (0, 0)), constant_values=np.nan)


def forecast_baselines(past: np.ndarray, horizon: int, season: int, ridge: WindowRidge) -> dict[str, np.ndarray]:
    """The forecast of each baseline by its name."""
    return {
        "repeat-last": repeat_last(past, horizon),
        "seasonal naive": seasonal_naive(past, horizon, season),
        "seasonal mean": seasonal_mean(past, horizon, season),
        "ridge": ridge(past, horizon),
    }


def context_of_baselines(context_length: int, season: int) -> int:
    """How far the baselines look back."""
    return max(context_length, SEASONS_OF_A_MEAN * season)


def score_baselines(
    windows: Windows, scores: Callable[[], Scores], season: int, ridge: WindowRidge
) -> dict[str, dict[str, float]]:
    """
    The metrics of each baseline on windows whose context is long enough for all of them, see `context_of_baselines`.

    Args:
        scores: makes what they are noted in.
    """
    of_baseline: dict[str, Scores] = {}
    for indices, batch in batches(windows):
        past = batch["past_values"].numpy().reshape(*batch["past_values"].shape[:2], -1)
        for name, forecast in forecast_baselines(past, windows.prediction_length, season, ridge).items():
            of_baseline.setdefault(name, scores()).add(windows, indices, batch["future_values"].numpy(), forecast)
    return {name: of_it.result() for name, of_it in of_baseline.items()}
