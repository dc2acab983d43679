"""
Reads time series from tables, long (a row for each item and time stamp) or wide (a row for each time stamp, a column
for each channel): from csv, tsv, json, jsonl or parquet, a data set of the `datasets` library, or a DataFrame.

All series of a `SeriesSet` lie on one regular calendar. A time stamp that is missing between two others becomes a
missing value; one that occurs twice, stands in the wrong order or fits no regular calendar is an error that names it.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from ..data import brief
from .calendar import (
    check_frequency,
    check_time_zone,
    frequency_of_counts,
    infer_frequency,
    other_frequency,
    share_on_calendar,
    swap_day_and_month,
)
from .tables import (
    Columns,
    find_empty,
    find_missing,
    is_time,
    name_of,
    narrow,
    read_chunks,
    recognise_columns,
    to_numbers,
)

logger = logging.getLogger(__name__)

Part = list[tuple[int, int]]  # of each series, where a part of it begins and ends

# of time stamps in a text, the first that fits
_FORMS = ({"format": "ISO8601"}, {"dayfirst": False}, {"dayfirst": True})
_DAY_AND_MONTH = r"^(?P<first>\d\d?)(?P<mark>[./-])(?P<second>\d\d?)(?P=mark)\d"  # in either order
# integers from here on are taken for seconds, milliseconds, microseconds and nanoseconds since 1970; smaller ones count
_EPOCHS = {"ns": 10**17, "us": 10**14, "ms": 10**11, "s": 10**8}


@dataclass
class Series:
    """
    One series on the calendar of its set; NaN is what is missing.

    Attributes:
        item_id (`str`): its name.
        first (`int`): the position of its first value in the calendar.
        values (`np.ndarray` of shape (time, channels)):
            From the first to the last value that is not missing; in 64 bits where 32 blur them, see `tables.narrow`.
        known (`np.ndarray` of shape (time or more, known columns)): may go on behind the values.
        past_only (`np.ndarray` of shape (time, past-only columns)).
        static (`np.ndarray` of shape (static columns,)).
        begins (`dict[str, int]`): of each split after the first, the position in `values` at which it begins.
        categories (`list[str]`): one word for each column of categories.
    """

    item_id: str
    first: int
    values: np.ndarray
    known: np.ndarray
    past_only: np.ndarray
    static: np.ndarray
    begins: dict[str, int] = field(default_factory=dict)
    categories: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)


@dataclass
class SeriesSet:
    """
    Series on one regular calendar.

    Attributes:
        series (`list[Series]`): in the order of their first rows.
        columns (`Columns`): where they were read from.
        start: the first time stamp, a `pd.Timestamp` or, where rows are numbered, an integer.
        frequency (`str` or `int`): the step from one to the next, an alias of pandas or a number.
        length (`int`): the steps from the first value of all series to the last one.
    """

    series: list[Series]
    columns: Columns
    start: Any
    frequency: str | int
    length: int

    def summary(self) -> str:
        lengths = [len(one) for one in self.series]
        told = "" if min(lengths) == max(lengths) else f"{min(lengths):,} to "
        return (
            f"{len(lengths):,} series of {told}{max(lengths):,} values of "
            f"{', '.join(map(str, self.columns.targets[:10]))}, one in {self.frequency} from {self.start} on."
        )

    def stamps(self, begin: int, end: int) -> pd.Index:
        """The time stamps of these positions of the calendar, also behind its end."""
        if isinstance(self.frequency, int):
            return pd.RangeIndex(self.start + begin * self.frequency, self.start + end * self.frequency, self.frequency)
        if end > getattr(self, "_made", 0):
            self._made = max(end, self.length)
            self._calendar = pd.date_range(self.start, periods=self._made, freq=self.frequency)
        return self._calendar[begin:end]

    def stamp(self, series: Series, position: int) -> Any:
        """The time stamp of a position in a series."""
        return self.stamps(series.first + position, series.first + position + 1)[0]


def read_series(
    sources: Mapping[str, Any],
    columns: Columns | None = None,
    *,
    frequency: str | None = None,
    time_zone: str | None = None,
    file_format: str | None = None,
    column_names: list[str] | None = None,
) -> SeriesSet:
    """
    Read series whose splits follow each other in time.

    Args:
        sources (`dict[str, Any]`):
            The splits in their order, such as `{"train": "2019.csv", "test": "2020.csv"}`: names of files, DataFrames
            or data sets of the `datasets` library. Files of other formats than parquet are read by `data.read_rows`.
        columns (`Columns`, *optional*):
            What the user names. What it leaves open is recognised: the time stamp and the item by usual names, the
            time stamp also by what it looks like; the target by a usual name beside an item, otherwise all columns
            that are left and hold numbers. A row may also hold a whole series, as lists.
        frequency (`str`, *optional*):
            An alias of pandas, such as `"15min"`. Inferred if omitted.
        time_zone (`str`, *optional*):
            Of time stamps without an offset, and the one in which the calendar counts days.
        file_format, column_names: as of `data.read_rows`.

    Raises:
        ValueError: names the series and its time stamp, or the place in the file.
    """
    chunks = (
        (split, chunk)
        for split, source in sources.items()
        for chunk in read_chunks(source, columns or Columns(), file_format, column_names)
    )
    first = next(chunks, None)
    if first is None or first[1].empty:
        raise ValueError(f"there must be at least one row, got none in {', '.join(map(name_of, sources.values()))}")
    columns = recognise_columns(first[1], columns or Columns())
    if time_zone is not None:
        check_time_zone(time_zone)
    collected = _Collected(columns, time_zone)
    for split, chunk in chain([first], chunks):
        collected.add(split, chunk)
    return collected.series_set(frequency)


class _Collected:
    """The rows of each series so far, in arrays."""

    def __init__(self, columns: Columns, time_zone: str | None) -> None:
        self.columns, self.time_zone = columns, time_zone
        self.kind: str | None = None  # of time stamps: "number", "naive" or "aware"
        self.rows: dict[str, list[tuple[str, range | np.ndarray, np.ndarray]]] = {}  # split, stamps, numbers
        self.forms: list[dict[str, Any]] = list(_FORMS)
        self.ambiguous: str | None = None  # a date, where all could have the day first as well as the month
        self.categories: dict[str, dict[str, str]] = {}  # by series and column
        self.gaps: list[tuple[str, int, Any]] = []  # series, missing time stamps, the one before the first of them

    def add(self, split: str, chunk: pd.DataFrame) -> None:
        columns = self.columns
        for name in columns.named:
            if name not in chunk.columns:
                raise ValueError(f"{chunk.index[0]}: there must be a column {name!r}, got {brief(list(chunk.columns))}")
        numbers = np.stack([to_numbers(chunk[name]) for name in columns.numbers], axis=1)
        stamps = self._stamps(chunk)
        if columns.item is None:
            self.rows.setdefault("series", []).append((split, _short(stamps), narrow(numbers, len(columns.targets))))
            self._note_categories("series", chunk)
            return
        missing = np.flatnonzero(find_empty(chunk[columns.item]))
        if len(missing):
            raise ValueError(f"{chunk.index[missing[0]]}: column {columns.item!r} must name a series, got nothing")
        for name, indices in chunk.groupby(columns.item, sort=False, observed=True).indices.items():
            of_item = narrow(numbers[indices], len(columns.targets))
            self.rows.setdefault(str(name), []).append((split, _short(stamps[indices]), of_item))
            self._note_categories(str(name), chunk.iloc[indices])

    def _note_categories(self, name: str, rows: pd.DataFrame) -> None:
        of_series = self.categories.setdefault(name, {})
        for column in self.columns.categories:
            values = rows[column][~find_empty(rows[column])].unique()
            for word in map(category_of, values):
                if of_series.setdefault(column, word) != word:
                    raise ValueError(
                        f"series {name!r}: the column of categories {column!r} must hold one in all rows, got "
                        f"{brief([of_series[column], word])}"
                    )

    def _stamps(self, chunk: pd.DataFrame) -> np.ndarray:
        """Integers: a count, or nanoseconds, of aware ones since 1970 in UTC."""
        name = self.columns.timestamp
        if name is None:
            self._settle_kind("number", chunk.index[0])
            return np.arange(len(chunk))
        values = chunk[name]
        if isinstance(values.dtype, pd.PeriodDtype):
            values = values.dt.to_timestamp()
        missing = np.flatnonzero(find_missing(values))
        if len(missing):
            raise ValueError(f"{values.index[missing[0]]}: column {name!r} must hold a time stamp, got nothing")
        as_numbers = None if pd.api.types.is_datetime64_any_dtype(values) else pd.to_numeric(values, errors="coerce")
        if as_numbers is not None and as_numbers.notna().all() and not self._are_dates(as_numbers):
            unit = next((unit for unit, least in _EPOCHS.items() if abs(as_numbers.iloc[0]) >= least), None)
            if unit is None:
                self._settle_kind("number", values.index[0])
                counts = as_numbers.to_numpy(dtype=float)
                if not (counts == counts.round()).all():
                    wrong = int(np.flatnonzero(counts != counts.round())[0])
                    raise ValueError(
                        f"{values.index[wrong]}: column {name!r} must hold time stamps or whole numbers, got "
                        f"{brief(values.iloc[wrong])}"
                    )
                return counts.astype(np.int64)
            stamps = pd.to_datetime(as_numbers.astype(np.int64), unit=unit)
        else:
            stamps = self._parse(values)
        is_aware = stamps.dt.tz is not None
        self._settle_kind("aware" if is_aware else "naive", values.index[0])
        if is_aware:
            if self.time_zone is None:
                self.time_zone = str(stamps.dt.tz) if pd.api.types.is_datetime64_any_dtype(values) else "UTC"
            stamps = stamps.dt.tz_convert("UTC").dt.tz_localize(None)
        outside = np.flatnonzero((stamps < pd.Timestamp.min) | (stamps > pd.Timestamp.max))
        if len(outside):
            raise ValueError(
                f"{values.index[outside[0]]}: column {name!r} must hold time stamps of the years 1678 to 2261, got "
                f"{brief(str(values.iloc[outside[0]]))}"
            )
        return stamps.to_numpy(dtype="datetime64[ns]").astype(np.int64)

    def _are_dates(self, numbers: pd.Series) -> bool:
        """Whether numbers look like 20240131 or, as months, 202401."""
        are_days = numbers.between(19000101, 21001231).all() and (numbers % 100).between(1, 31).all()
        are_months = numbers.between(190001, 210012).all() and (numbers % 100).between(1, 12).all()
        return bool(are_days or are_months)

    def _parse(self, values: pd.Series) -> pd.Series:
        if pd.api.types.is_numeric_dtype(values):  # see `_are_dates`
            values = values.astype(np.int64).astype(str)
        if not (values.dtype == object or pd.api.types.is_string_dtype(values)):
            return pd.to_datetime(values)
        texts = values.map(lambda value: value.strip() if isinstance(value, str) else str(value))
        texts = texts.str.replace(r"^(\d{4})(\d\d)$", r"\1-\2", regex=True)
        has_offset = texts.str.contains(r"\d:\d\d.*(?:[+-]\d\d:?\d\d|Z)$").to_numpy()
        odd = int(np.flatnonzero(has_offset != has_offset[0])[0]) if has_offset.any() and not has_offset.all() else None
        if odd is not None:
            raise ValueError(
                f"{values.index[odd]}: column {values.name!r} must hold time stamps with an offset from UTC in all "
                f"rows or in none, unlike those before, got {brief(values.iloc[odd])}"
            )
        forms = self._order_of_dates(texts)
        for form in forms:
            try:
                stamps = pd.to_datetime(texts, utc=bool(has_offset.all()), **form)
            except (ValueError, OverflowError) as error:
                fault = error
            else:
                self.forms = [form]  # what is the month in one row is not the day in another
                return stamps
        wrong = next((row for row, text in enumerate(texts) if not is_time(text)), 0)
        raise ValueError(
            f"{values.index[wrong]}: column {values.name!r} must hold time stamps in one form, such as "
            f"2024-01-31 13:00, got {brief(values.iloc[wrong])}: {str(fault).splitlines()[0]}"
        ) from fault

    def _order_of_dates(self, texts: pd.Series) -> list[dict[str, Any]]:
        """How to read these texts, by where the day stands if they begin with day and month, in whatever order."""
        is_settled = len(self.forms) == 1 and self.ambiguous is None
        if is_settled or not re.match(_DAY_AND_MONTH, texts.iloc[0]):
            return self.forms
        parts = texts.str.extract(_DAY_AND_MONTH)
        first, second = (pd.to_numeric(parts[name]).max() for name in ("first", "second"))
        # the day stands before points, wherever they are written
        has_day_first = first > 12 or (second <= 12 and parts["mark"].iloc[0] == ".")
        if has_day_first and self.ambiguous is not None:
            self._put_days_first()
        self.ambiguous = None if has_day_first or second > 12 else texts.iloc[0]
        self.forms = [{"dayfirst": has_day_first}]
        return self.forms

    def _put_days_first(self) -> None:
        """Read the rows so far with the day first, which were read with the month first."""
        if self.kind == "aware":
            raise ValueError(
                f"column {self.columns.timestamp!r} must hold dates whose day and month cannot be mistaken, such as "
                f"2024-01-31, got {self.ambiguous!r}"
            )
        for parts in self.rows.values():
            for number, (split, stamps, numbers) in enumerate(parts):
                swapped = swap_day_and_month(pd.DatetimeIndex(np.asarray(stamps, dtype="datetime64[ns]")))
                parts[number] = (split, _short(swapped.to_numpy("datetime64[ns]").astype(np.int64)), numbers)

    def _settle_ambiguity(self, frequency: str | None) -> None:
        """
        Of dates that can be read both ways, take those that lie evenly.

        Raises:
            ValueError: both do, or none.
        """
        if self.ambiguous is None:
            return
        month_first = {
            name: pd.DatetimeIndex(np.concatenate([np.asarray(part, dtype="datetime64[ns]") for _, part, _ in parts]))
            for name, parts in self.rows.items()
        }
        day_first = {name: swap_day_and_month(stamps) for name, stamps in month_first.items()}
        if all(day_first[name].equals(stamps) for name, stamps in month_first.items()):
            return
        shares = [share_on_calendar(stamps, frequency) for stamps in (month_first, day_first)]
        if max(shares) <= 2 * min(shares):
            raise ValueError(
                f"column {self.columns.timestamp!r}: dates such as {self.ambiguous} can be read with the day first or "
                "with the month first, and the data do not tell which. Write them as 2024-01-31."
            )
        if shares[1] > shares[0]:
            self._put_days_first()

    def _settle_kind(self, kind: str, place: str) -> None:
        self.kind = self.kind or kind
        if kind != self.kind:
            told = {"number": "whole numbers", "naive": "time stamps without an offset", "aware": "with an offset"}
            raise ValueError(f"{place}: there must be {told[self.kind]} in all rows, got {told[kind]}")

    def series_set(self, frequency: str | None) -> SeriesSet:
        """All series on their common calendar."""
        self._settle_ambiguity(frequency)
        stamps: dict[str, Any] = {}
        same: dict[bytes, Any] = {}  # series that begin and end together share their stamps
        for name, parts in self.rows.items():
            of_item = np.concatenate([np.asarray(part, dtype=np.int64) for _, part, _ in parts])
            key = blake2b(of_item.tobytes(), digest_size=16).digest()
            if key not in same:
                index = np.arange(len(of_item)) if self.columns.timestamp is None else of_item
                same[key] = index if self.kind == "number" else self._index(name, index)
                _check_order(name, same[key], self.columns)
            stamps[name] = same[key]
        if self.kind == "number":
            step = frequency_of_counts(stamps) if self.columns.timestamp is not None else 1
            chosen: str | int = step
            start = min(int(of_item[0]) for of_item in stamps.values())
            length = (max(int(of_item[-1]) for of_item in stamps.values()) - start) // step + 1
            calendar: Any = pd.RangeIndex(start, start + length * step, step)
        else:
            chosen = check_frequency(frequency) if frequency is not None else infer_frequency(stamps)
            calendar = pd.date_range(
                min(of_item[0] for of_item in stamps.values()),
                max(of_item[-1] for of_item in stamps.values()),
                freq=chosen,
            )
        series = []
        for name in list(self.rows):
            series.append(self._place(name, stamps.pop(name), self.rows.pop(name), calendar, chosen))
        if self.gaps:
            (name, _, before), missing = self.gaps[0], sum(missing for _, missing, _ in self.gaps)
            logger.log(
                logging.WARNING if missing > 2 / 3 * sum(map(len, series)) else logging.INFO,
                f"{missing:,} time stamps are missing in {len(self.gaps):,} of {len(series):,} series, the first one "
                f"in {name!r} after {before}; they count as missing values.",
            )
        start = int(calendar[0]) if self.kind == "number" else calendar[0]
        read = SeriesSet(series, self.columns, start, chosen, len(calendar))
        logger.info(read.summary())
        return read

    def _index(self, name: str, stamps: np.ndarray) -> pd.DatetimeIndex:
        index = pd.DatetimeIndex(stamps.astype("datetime64[ns]"))
        if self.kind == "aware":
            return index.tz_localize("UTC").tz_convert(self.time_zone)
        if self.time_zone is None:
            return index
        try:
            return index.tz_localize(self.time_zone, ambiguous="infer")
        except ValueError as error:
            raise ValueError(f"series {name!r}: a time stamp is none of {self.time_zone}: {error}") from error

    def _place(
        self, name: str, stamps: Any, parts: list[tuple[str, Any, np.ndarray]], calendar: Any, step: str | int
    ) -> Series:
        """Put the rows of a series at their positions."""
        columns = self.columns
        positions = calendar.get_indexer(stamps)
        own = None if self.kind == "number" or (positions < 0).any() else other_frequency(positions, stamps)
        if own is not None:
            raise ValueError(
                f"series {name!r}: its time stamps are one in {own}, but those of the model or of the other series one "
                f"in {step}. Read series of different frequencies by themselves, or resample them by pandas."
            )
        if (positions < 0).any():
            wrong = stamps[int(np.flatnonzero(positions < 0)[0])]
            raise ValueError(
                f"series {name!r}: the time stamp {wrong} is not on the calendar of all series, one in {step} from "
                f"{calendar[0]} on. Give another frequency, or resample the series by pandas."
            )
        joined = np.concatenate([part for _, _, part in parts])
        numbers = np.full((positions[-1] - positions[0] + 1, len(columns.numbers)), np.nan, dtype=joined.dtype)
        numbers[positions - positions[0]] = joined
        if (too_large := np.abs(numbers) > np.finfo(np.float32).max).any():
            row, column = np.argwhere(too_large)[0]
            raise ValueError(
                f"series {name!r}, {calendar[positions[0] + row]}: column {columns.numbers[column]!r} must hold finite "
                f"numbers of 32 bits, got {numbers[row, column]}"
            )
        edges = np.cumsum([len(columns.targets), len(columns.known), len(columns.past_only)])
        values, known, past_only, static = np.split(numbers, edges, axis=1)
        observed = np.flatnonzero(~np.isnan(values).all(axis=1))
        if not len(observed):
            raise ValueError(
                f"series {name!r}: there must be a value of {brief(columns.targets)}, got none in {len(values)} rows"
            )
        begin, end = observed[0], observed[-1] + 1
        if gaps := len(numbers) - len(positions):
            self.gaps.append((name, gaps, stamps[int(np.flatnonzero(np.diff(positions) > 1)[0])]))
        of_series = []
        for column, of_column in zip(columns.static, static.T, strict=True):
            different = np.unique(of_column[~np.isnan(of_column)])
            if len(different) != 1:
                raise ValueError(
                    f"series {name!r}: the static column {column!r} must hold one number, got "
                    f"{brief(different.tolist())}"
                )
            of_series.append(different[0])
        categories = self.categories.pop(name)
        if missing := [column for column in columns.categories if column not in categories]:
            raise ValueError(f"series {name!r}: the column of categories {missing[0]!r} must hold one, got nothing")
        begins: dict[str, int] = {}
        row = 0
        for split, of_part, _ in parts:
            begins.setdefault(split, max(0, int(positions[row] - positions[0] - begin)))
            row += len(of_part)
        return Series(
            name,
            int(positions[0] + begin),
            np.ascontiguousarray(values[begin:end]),
            np.ascontiguousarray(known[begin:], dtype=np.float32),
            np.ascontiguousarray(past_only[begin:end], dtype=np.float32),
            np.array(of_series, dtype=np.float32),
            begins,
            [categories[column] for column in columns.categories],
        )


def category_of(value: Any) -> str:
    """A category as a word; what a table has as a whole number is the same with a point in another one."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip()


def _short(stamps: np.ndarray) -> range | np.ndarray:
    """The same numbers as a range, where they are at equal distances."""
    steps = np.diff(stamps)
    if not len(steps) or not steps[0] or (steps != steps[0]).any():
        return stamps
    return range(int(stamps[0]), int(stamps[-1] + steps[0]), int(steps[0]))


def _check_order(name: str, stamps: Any, columns: Columns) -> None:
    wrong = np.flatnonzero(np.asarray(stamps[1:] <= stamps[:-1]))
    if len(wrong):
        stamp, before = stamps[wrong[0] + 1], stamps[wrong[0]]
        hint = ""
        if columns.item is None:
            hint = " Where rows are of several series, name the column that tells which: --item_column NAME."
        if stamp == before:
            if getattr(stamp, "hour", 0) and stamp.tzinfo is None:
                hint += " Where the clock was set back, name the time zone."
            raise ValueError(f"series {name!r}: the time stamp {stamp} must occur once, got it twice.{hint}")
        raise ValueError(
            f"series {name!r}: time stamps must ascend, got {stamp} after {before}. Sort rows by time, oldest first."
            f"{hint}"
        )
