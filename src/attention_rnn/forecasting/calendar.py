"""Regular calendars: which frequency time stamps have, and the cycles that they go through."""

from collections.abc import Callable, Mapping
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd

_FEWEST_STEPS = 4  # by which a series is known to have a frequency of its own
_STRETCHES = 50  # in which a frequency is looked for
# of each cycle, its length in seconds and the phase of time stamps in it, from 0 to 1
CYCLES: dict[str, tuple[float, Callable[[Any], Any]]] = {
    "hour": (3600.0, lambda stamps: (stamps.minute + stamps.second / 60) / 60),
    "day": (86400.0, lambda stamps: (stamps.hour + stamps.minute / 60) / 24),
    "week": (7 * 86400.0, lambda stamps: stamps.day_of_week / 7),
    "month": (30 * 86400.0, lambda stamps: (stamps.day - 1) / stamps.days_in_month),
    "year": (365 * 86400.0, lambda stamps: (stamps.day_of_year - 1) / 366),
}


def step_seconds(frequency: str | int) -> float | None:
    """About how long a step takes; `None` where steps are numbered."""
    if isinstance(frequency, int):
        return None
    first, *_, last = pd.date_range("2001-01-01", periods=6, freq=frequency)
    return (last - first).total_seconds() / 5


def cycles_of(frequency: str | int) -> list[str]:
    """The cycles of the calendar that such steps go through."""
    seconds = step_seconds(frequency)
    if seconds is None:
        return []
    return [name for name, (length, _) in CYCLES.items() if seconds <= length / 2]


def other_frequency(positions: np.ndarray, stamps: pd.DatetimeIndex) -> str | None:
    """
    The step of a series that is regular by itself, but wider than that of the calendar on which it lies at these
    positions; `None` where single stamps are missing, or where they have no step of their own.
    """
    steps = np.diff(positions)
    usual = np.median(steps) if len(steps) >= _FEWEST_STEPS else 1
    if usual < 2 or (np.abs(steps - usual) <= 0.15 * usual).mean() < 0.9:  # months have 28 to 31 days
        return None
    return pd.infer_freq(stamps) or str(pd.Series(stamps).diff().median())


def share_on_calendar(stamps: Mapping[str, pd.DatetimeIndex], frequency: str | None = None) -> float:
    """
    How many of the stamps of a regular calendar there are, from 0 to 1; 0 where they lie on none, or do not ascend.

    Args:
        frequency: of the calendar; inferred if omitted.
    """
    try:
        frequency = frequency or infer_frequency(stamps)
        calendars = [pd.date_range(of_item[0], of_item[-1], freq=frequency) for of_item in stamps.values()]
    except ValueError:
        return 0.0
    pairs = list(zip(calendars, stamps.values(), strict=True))
    if not all(of_item.is_monotonic_increasing and of_item.isin(calendar).all() for calendar, of_item in pairs):
        return 0.0
    return sum(map(len, stamps.values())) / sum(map(len, calendars))


def swap_day_and_month(stamps: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Stamps that were read with the month first, as they are with the day first; of days up to the twelfth."""
    parts = {"year": stamps.year, "month": stamps.day, "day": stamps.month}
    return pd.DatetimeIndex(pd.to_datetime(pd.DataFrame(parts))) + (stamps - stamps.normalize())


def check_frequency(frequency: str) -> str:
    """The frequency as pandas writes it."""
    try:
        return pd.tseries.frequencies.to_offset(frequency).freqstr
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"frequency must be an alias of pandas such as 15min, h, D, W-MON, MS, got {frequency!r}"
        ) from error


def check_time_zone(name: str) -> None:
    """Refuse the name of a zone that there is not."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"time_zone must be the name of a zone such as Europe/Berlin or UTC, got {name!r}") from error


def frequency_of_counts(stamps: Mapping[str, np.ndarray]) -> int:
    """The step of whole numbers: the greatest one that leads to all of them."""
    starts = [int(of_item[0]) for of_item in stamps.values()]
    steps = [np.gcd.reduce(np.diff(of_item)) for of_item in stamps.values() if len(of_item) > 1]
    return int(np.gcd.reduce([*steps, *np.diff(starts)])) or 1 if steps else 1


def infer_frequency(stamps: Mapping[str, pd.DatetimeIndex]) -> str:
    """
    The frequency of these time stamps by name of series, which ascend and may have gaps: the widest one that leads to
    all of them.

    Raises:
        ValueError: there is none, or there are less than three time stamps in each series.
    """
    longest = max(stamps, key=lambda name: len(stamps[name]))
    of_longest = stamps[longest]
    candidates: dict[str, None] = {}
    for begin in range(0, max(1, len(of_longest) - 2), max(1, len(of_longest) // _STRETCHES)):
        for length in (len(of_longest), 12, 6, 3):
            stretch = of_longest[begin : begin + length]
            if len(stretch) >= 3 and (found := pd.infer_freq(stretch)):
                candidates[found] = None
                break
    different = list({id(of_item): of_item for of_item in stamps.values()}.values())  # many series have the same
    begin, end = min(of_item[0] for of_item in different), max(of_item[-1] for of_item in different)
    fitting = {}
    for candidate in candidates:
        calendar = pd.date_range(begin, end, freq=candidate)
        if all(of_item.isin(calendar).all() for of_item in different):
            fitting[candidate] = len(calendar)
    if not fitting:
        near = of_longest[: min(4, len(of_longest))]
        raise ValueError(
            f"series {longest!r}: its frequency cannot be told from {len(of_longest)} time stamps, "
            f"{', '.join(map(str, near))}, ...: give the frequency, such as h or D, or resample the series by pandas"
        )
    return min(fitting, key=lambda candidate: fitting[candidate])
