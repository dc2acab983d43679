"""How far a forecast looks ahead and back, suited to the series."""

import logging
import math
from dataclasses import asdict, dataclass

import numpy as np

from .calendar import step_seconds
from .data import Part, SeriesSet

logger = logging.getLogger(__name__)

# how far ahead a forecast looks by default: by the first of these steps, in seconds, that is not above that of the
# series; 0 is a day
_HORIZONS = (
    (300 * 86400, 4),
    (80 * 86400, 8),
    (28 * 86400, 12),
    (6 * 86400, 13),
    (86400, 14),
    (3600, 24),
    (600, 0),
    (0, 60),
)
SEASONS_OF_A_CONTEXT = 14
LONGEST_CONTEXT = 1024


@dataclass
class Settings:
    """
    Of a forecast, in steps.

    Attributes:
        prediction_length (`int`): how far it looks ahead.
        context_length (`int`): how far it looks back.
        patch_length (`int`): how many values the model reads at once.
        season (`int`): after how many steps the series resemble themselves; 1 if they do not.
    """

    prediction_length: int
    context_length: int
    patch_length: int
    season: int


def choose_settings(series: SeriesSet, train: Part | None = None, **given: int | None) -> Settings:
    """
    Suit settings to series, and say what was chosen.

    Args:
        series (`SeriesSet`): the series.
        train (`Part`, *optional*):
            The part to look at. By default the first three fifths of each series, or what was read for the training
            alone: the test has no say in how a model is made.
        given: those of `Settings` that the user has chosen.

    Raises:
        ValueError: one that is given is not positive, or the prediction length reaches beyond all series.
    """
    for name, value in given.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if train is None:
        train = [
            (0, max(1, min([-(-3 * len(one) // 5), *(begin for begin in one.begins.values() if begin)])))
            for one in series.series
        ]
    longest = max(end - begin for begin, end in train)
    season = given.get("season") or find_season(series, train)
    of_all = max(map(len, series.series))
    prediction = given.get("prediction_length") or default_horizon(series.frequency, of_all)
    if prediction >= of_all > 1:
        raise ValueError(
            f"prediction_length must be below the length of the longest series, {of_all:,}, and best at most a fifth "
            f"of it, {max(1, of_all // 5):,}, so that forecasts can be tested; got {prediction:,}"
        )
    context = given.get("context_length")
    patch = given.get("patch_length")
    if patch is None:
        most = max(1, min(season if season > 1 else 8, 48, max(prediction, 2), (context or longest // 2) // 2))
        divisors = [n for n in range(-(-most // 2), most + 1) if season % n == 0]
        patch = divisors[-1] if divisors else most
    if context is None:
        wanted = max(SEASONS_OF_A_CONTEXT * season if season > 1 else 0, 4 * prediction, 32)
        context = min(wanted, max(LONGEST_CONTEXT, 2 * season, prediction), max(longest // 2, 1))
        context = max(context // patch * patch, 1)
    settings = Settings(prediction, context, patch, season)
    chosen = {name: value for name, value in asdict(settings).items() if given.get(name) is None}
    if chosen:
        told = ", ".join(f"{name} {value}" for name, value in chosen.items())
        logger.info(f"Chosen by the data, a step being {series.frequency}: {told}.")
    return settings


def default_horizon(frequency: str | int, longest: int) -> int:
    """How far ahead to look: a day of hours, two weeks of days, a year of months; at most a fifth of the series."""
    seconds = step_seconds(frequency)
    if seconds is None:
        horizon = 24
    else:
        horizon = next(steps for least, steps in _HORIZONS if seconds >= least) or round(86400 / seconds)
    return max(1, min(horizon, longest // 5))


def find_season(series: SeriesSet, train: Part) -> int:
    """
    After how many steps the series resemble themselves most, 1 if at none.

    Candidates are the cycles of the calendar; where steps are numbered, all up to 200. A season must beat by 5 % what
    values that lie closer together differ by, which a random walk does not. A straight trend does not count.
    """
    longest = max(end - begin for begin, end in train)
    seconds = step_seconds(series.frequency)
    if seconds is None:
        candidates = list(range(2, min(200, longest // 3) + 1))
    else:
        cycles = [3600.0, 86400.0, 7 * 86400.0, 365.25 * 86400.0]
        lengths = [round(cycle / seconds) for cycle in cycles]
        candidates = [length for length in lengths if 2 <= length <= longest // 3]
        if str(series.frequency) == "B":
            candidates = [length for length in (5, 261) if length <= longest // 3]
    order = sorted(range(len(train)), key=lambda index: train[index][0] - train[index][1])[:20]
    samples = [series.series[index].values[slice(*train[index])][-10_000:] for index in order]
    samples = [_without_trend(sample) for sample in samples if not np.isnan(sample).all(axis=0).any()]

    def difference(lag: int) -> float:
        """The mean of the absolute differences over this lag."""
        pairs = [np.abs(sample[lag:] - sample[:-lag]) for sample in samples if len(sample) > lag]
        total = sum(float(np.nansum(pair)) for pair in pairs)
        return total / max(1, sum(int((~np.isnan(pair)).sum()) for pair in pairs))

    best, season = math.inf, 1
    for candidate in candidates:
        shorter = np.unique(np.linspace(1, candidate - 1, min(candidate - 1, 12)).astype(int))
        of_candidate = difference(candidate)
        is_season = of_candidate < 0.95 * float(np.mean([difference(int(lag)) for lag in shorter]))
        if is_season and of_candidate < min(0.98 * best, best - 1e-3):  # of series without noise the shortest
            best, season = of_candidate, candidate
    return season


def _without_trend(values: np.ndarray) -> np.ndarray:
    """What a straight line leaves of each channel (time, channels), of deviation 1, or zero where it leaves nothing."""
    steps, left = np.arange(len(values)), np.empty(values.shape)
    for channel, of_channel in enumerate(values.T.astype(np.float64)):
        known = ~np.isnan(of_channel)
        line = np.polyfit(steps[known], of_channel[known], min(1, known.sum() - 1))
        rest, spread = of_channel - np.polyval(line, steps), np.std(of_channel[known])
        deviation = np.std(rest[known])
        left[:, channel] = rest / deviation if deviation > 1e-6 * spread else 0 * rest
    return left
