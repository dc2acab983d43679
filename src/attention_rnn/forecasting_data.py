"""
Reads time series from tables, long (a row for each item and time stamp) or wide (a row for each time stamp, a column
for each channel): from csv, tsv, json, jsonl or parquet, a data set of the `datasets` library, or a DataFrame.

All series of a `SeriesSet` lie on one regular calendar. A time stamp that is missing between two others becomes a
missing value; one that occurs twice, stands in the wrong order or fits no regular calendar is an error that names it.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .data import brief, read_lines, read_rows
from .forecasting_calendar import check_frequency, frequency_of_counts, infer_frequency

logger = logging.getLogger(__name__)

Part = list[tuple[int, int]]  # of each series, where a part of it begins and ends

# what columns are usually called, in lower case
TIMESTAMP_NAMES = ("timestamp", "datetime", "date", "time", "ds", "day", "week", "month", "quarter", "year")
ITEM_NAMES = ("item_id", "unique_id", "series_id", "series", "item", "id", "sensor", "station", "store")
TARGET_NAMES = ("target", "value", "values", "y", "sales", "demand", "close", "price", "count")
MISSING = ("", "na", "n/a", "nan", "null", "none", "-", "?")
ROWS_OF_A_CHUNK = 50_000
SERIES_OF_A_CHUNK = 64  # where a row holds a whole series
# integers from here on are taken for seconds, milliseconds, microseconds and nanoseconds since 1970; smaller ones count
_EPOCHS = {"ns": 10**17, "us": 10**14, "ms": 10**11, "s": 10**8}


@dataclass
class Columns:
    """
    What the columns of a table hold.

    Attributes:
        timestamp (`str`, *optional*): the time; without it, rows are numbered.
        item (`str`, *optional*): the name of the series that a row belongs to; without it, there is one series.
        targets (`list[str]`): what is forecast, a channel each.
        known (`list[str]`): numbers that are known ahead: prices, holidays, a weather forecast.
        past_only (`list[str]`): numbers that are known up to now.
        static (`list[str]`): numbers that are the same in all rows of a series.
    """

    timestamp: str | None = None
    item: str | None = None
    targets: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    past_only: list[str] = field(default_factory=list)
    static: list[str] = field(default_factory=list)

    @property
    def numbers(self) -> list[str]:
        return [*self.targets, *self.known, *self.past_only, *self.static]


@dataclass
class Series:
    """
    One series on the calendar of its set; NaN is what is missing.

    Attributes:
        item_id (`str`): its name.
        first (`int`): the position of its first value in the calendar.
        values (`np.ndarray` of shape (time, channels)): from the first to the last value that is not missing.
        known (`np.ndarray` of shape (time or more, known columns)): may go on behind the values.
        past_only (`np.ndarray` of shape (time, past-only columns)).
        static (`np.ndarray` of shape (static columns,)).
        begins (`dict[str, int]`): of each split after the first, the position in `values` at which it begins.
    """

    item_id: str
    first: int
    values: np.ndarray
    known: np.ndarray
    past_only: np.ndarray
    static: np.ndarray
    begins: dict[str, int] = field(default_factory=dict)

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
        (split, _explode(chunk))
        for split, source in sources.items()
        for chunk in _read_chunks(source, columns or Columns(), file_format, column_names)
    )
    first = next(chunks, None)
    if first is None or first[1].empty:
        raise ValueError(f"there must be at least one row, got none in {', '.join(map(_name, sources.values()))}")
    columns = recognise_columns(first[1], columns or Columns())
    collected = _Collected(columns, time_zone)
    for split, chunk in chain([first], chunks):
        collected.add(split, chunk)
    return collected.series_set(frequency)


def _name(source: Any) -> str:
    return Path(source).name if isinstance(source, (str, Path)) else f"a {type(source).__name__}"


def _read_chunks(
    source: Any, columns: Columns, file_format: str | None, column_names: list[str] | None
) -> Iterator[pd.DataFrame]:
    """The rows of a source in pieces, each with the places of its rows as index."""
    if isinstance(source, pd.DataFrame):
        yield source.set_axis([f"row {index}" for index in source.index])
        return
    if not isinstance(source, (str, Path)):
        number, has_lists = 0, any(hasattr(kind, "feature") for kind in (source.features or {}).values())
        for batch in source.with_format("pandas").iter(batch_size=SERIES_OF_A_CHUNK if has_lists else ROWS_OF_A_CHUNK):
            frame = pd.DataFrame(batch)
            yield frame.set_axis([f"row {number + row}" for row in range(1, len(frame) + 1)])
            number += len(frame)
        return
    file = str(source)
    if (file_format or Path(file).suffix.removeprefix(".")) == "parquet":
        from pyarrow.parquet import ParquetFile

        number = 0
        for batch in ParquetFile(file).iter_batches(batch_size=ROWS_OF_A_CHUNK):
            frame = batch.to_pandas().reset_index()
            frame = frame.drop(columns=[name for name in ("index", "level_0") if name in frame.columns])
            yield frame.set_axis([f"{file}, row {number + row}" for row in range(1, len(frame) + 1)])
            number += len(frame)
        return
    wanted = [*columns.numbers, columns.timestamp, columns.item, *_header(file)]
    rows = read_rows(file, file_format=file_format, column_names=column_names, wanted_columns=wanted)
    size = ROWS_OF_A_CHUNK
    while chunk := list(islice(rows, size)):
        places, values = zip(*chunk, strict=True)
        if any(isinstance(value, list) for value in values[0].values()):
            size = SERIES_OF_A_CHUNK
        yield pd.DataFrame(list(values), index=list(places), dtype=object)


def _explode(chunk: pd.DataFrame) -> pd.DataFrame:
    """A row for each value, where a row holds a series as lists."""
    if chunk.empty:
        return chunk
    lists = [name for name in chunk.columns if isinstance(_first(chunk[name]), (list, np.ndarray))]
    if not lists:
        return chunk
    for place, values in zip(chunk.index, zip(*(chunk[name] for name in lists), strict=True), strict=True):
        lengths = {name: len(of_row) for name, of_row in zip(lists, values, strict=True)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{place}: the lists of a row must have the same length, got {lengths}")
    return chunk.explode(lists)


def _header(file: str) -> list[str]:
    """The values of the first line if they may be names: none of them is a number."""
    line = next(read_lines(file), "").strip()
    names = [name.strip('"') for name in line.split("\t" if "\t" in line else ",")]
    return names if all(_as_number(name) is None and not _is_time(name) for name in names) else []


def _as_number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _is_time(value: Any) -> bool:
    if not isinstance(value, str) or not any(character.isdigit() for character in value):
        return isinstance(value, (pd.Timestamp, np.datetime64)) or hasattr(value, "isoformat")
    try:
        pd.Timestamp(value)
    except ValueError:
        return False
    return True


def recognise_columns(rows: pd.DataFrame, given: Columns) -> Columns:
    """
    What the columns of these rows hold; see `read_series`.

    Raises:
        ValueError: a column that is named is not there, or none is left for the target.
    """
    place = rows.index[0]
    for name in filter(None, [given.timestamp, given.item, *given.numbers]):
        if name not in rows.columns:
            raise ValueError(f"{place}: there must be a column {name!r}, got the columns {brief(list(rows.columns))}")
    taken = {given.timestamp, given.item, *given.numbers}
    left = [name for name in rows.columns if name not in taken]
    usual = {str(name).lower(): name for name in reversed(left)}

    def find(names: Sequence[str]) -> Any:
        return next((usual[name] for name in names if name in usual), None)

    timestamp = given.timestamp or find(TIMESTAMP_NAMES)
    if timestamp is None:
        timestamp = next(
            (name for name in left if _as_number(_first(rows[name])) is None and _is_time(_first(rows[name]))), None
        )
    item = given.item or find([name for name in ITEM_NAMES if usual.get(name) != timestamp])
    targets = given.targets
    if not targets:
        left = [name for name in left if name not in (timestamp, item)]
        usual_target = find(TARGET_NAMES)
        numeric = [name for name in left if _as_number(_first(rows[name])) is not None]
        targets = [usual_target] if usual_target is not None and (item is not None or len(numeric) == 1) else numeric
        if not targets:
            raise ValueError(
                f"{place}: there must be a column of numbers left for the target, got the columns "
                f"{brief(list(rows.columns))}"
            )
    return Columns(timestamp, item, list(targets), list(given.known), list(given.past_only), list(given.static))


def _first(values: pd.Series) -> Any:
    """The first one that is not missing."""
    return next((value for value in values if not _is_missing(value)), None)


def _is_missing(value: Any) -> bool:
    if isinstance(value, (list, np.ndarray)):
        return len(value) == 0
    return value is None or (value.strip().lower() in MISSING if isinstance(value, str) else bool(pd.isna(value)))


def to_numbers(values: pd.Series, what: str = "") -> np.ndarray:
    """
    A column as 32-bit numbers, NaN where it says that a value is missing.

    Raises:
        ValueError: a value is neither; names its place, the index of `values`.
    """
    numbers = pd.to_numeric(values, errors="coerce")
    for index in np.flatnonzero(numbers.isna().to_numpy()):
        if not _is_missing(values.iloc[index]):
            raise ValueError(
                f"{values.index[index]}: column {values.name!r} must hold a number or nothing, got "
                f"{brief(values.iloc[index])}{what}"
            )
    with np.errstate(over="ignore"):
        return numbers.to_numpy(dtype=np.float32, na_value=np.nan)


class _Collected:
    """The rows of each series so far, in arrays."""

    def __init__(self, columns: Columns, time_zone: str | None) -> None:
        self.columns, self.time_zone = columns, time_zone
        self.kind: str | None = None  # of time stamps: "number", "naive" or "aware"
        self.rows: dict[str, list[tuple[str, np.ndarray, np.ndarray]]] = {}  # split, stamps, numbers
        self.day_first = False
        self.gaps: list[tuple[str, int, Any]] = []  # series, missing time stamps, the one before the first of them

    def add(self, split: str, chunk: pd.DataFrame) -> None:
        columns = self.columns
        for name in filter(None, [columns.timestamp, columns.item, *columns.numbers]):
            if name not in chunk.columns:
                raise ValueError(f"{chunk.index[0]}: there must be a column {name!r}, got {brief(list(chunk.columns))}")
        numbers = np.stack([to_numbers(chunk[name]) for name in columns.numbers], axis=1)
        stamps = self._stamps(chunk)
        if columns.item is None:
            self.rows.setdefault("series", []).append((split, stamps, numbers))
            return
        missing = [index for index, name in zip(chunk.index, chunk[columns.item], strict=True) if _is_missing(name)]
        if missing:
            raise ValueError(f"{missing[0]}: column {columns.item!r} must name a series, got nothing")
        for name, indices in chunk.groupby(columns.item, sort=False, observed=True).indices.items():
            self.rows.setdefault(str(name), []).append((split, stamps[indices], numbers[indices]))

    def _stamps(self, chunk: pd.DataFrame) -> np.ndarray:
        """Integers: a count, or nanoseconds, of aware ones since 1970 in UTC."""
        name = self.columns.timestamp
        if name is None:
            self._settle_kind("number", chunk.index[0])
            return np.full(len(chunk), -1)
        values = chunk[name]
        if missing := [index for index, value in zip(values.index, values, strict=True) if _is_missing(value)]:
            raise ValueError(f"{missing[0]}: column {name!r} must hold a time stamp, got nothing")
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
        return stamps.to_numpy(dtype="datetime64[ns]").astype(np.int64)

    def _are_dates(self, numbers: pd.Series) -> bool:
        """Whether numbers look like 20240131."""
        return bool(numbers.between(19000101, 21001231).all() and (numbers % 100).between(1, 31).all())

    def _parse(self, values: pd.Series) -> pd.Series:
        for day_first in dict.fromkeys((self.day_first, True)):
            try:
                if values.dtype == object or pd.api.types.is_string_dtype(values):
                    texts = values.map(lambda value: value.strip() if isinstance(value, str) else str(value))
                    has_offset = texts.str.contains(r"(?:[+-]\d{2}:?\d{2}|Z)$").to_numpy()
                    if has_offset.any() and not has_offset.all():
                        other = values.index[int(np.flatnonzero(has_offset != has_offset[0])[0])]
                        raise ValueError(
                            f"{other}: time stamps must have an offset from UTC in all rows or in none, unlike those "
                            f"before, got {brief(values[other])}"
                        )
                    stamps = pd.to_datetime(texts, utc=bool(has_offset.all()), dayfirst=day_first)
                else:
                    stamps = pd.to_datetime(values)
            except (ValueError, OverflowError) as error:
                if "offset from UTC" in str(error):
                    raise
                fault = error
            else:
                self.day_first = day_first
                return stamps
        wrong = next((index for index, value in values.items() if not _is_time(str(value))), values.index[0])
        value = values[wrong] if values.index.is_unique else values.iloc[0]
        raise ValueError(
            f"{wrong}: column {values.name!r} must hold a time stamp in the form of those before it, such as "
            f"2024-01-31 13:00, got {brief(value)}: {str(fault).splitlines()[0]}"
        ) from fault

    def _settle_kind(self, kind: str, place: str) -> None:
        self.kind = self.kind or kind
        if kind != self.kind:
            told = {"number": "whole numbers", "naive": "time stamps without an offset", "aware": "with an offset"}
            raise ValueError(f"{place}: there must be {told[self.kind]} in all rows, got {told[kind]}")

    def series_set(self, frequency: str | None) -> SeriesSet:
        """All series on their common calendar."""
        stamps: dict[str, Any] = {}
        for name, parts in self.rows.items():
            of_item = np.concatenate([part for _, part, _ in parts])
            stamps[name] = np.arange(len(of_item)) if self.columns.timestamp is None else of_item
            if self.kind != "number":
                stamps[name] = self._index(name, of_item)
            _check_order(name, stamps[name], self.columns)
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
            logger.info(
                f"{missing:,} time stamps are missing in {len(self.gaps):,} of {len(series):,} series, the first one "
                f"in {name!r} after {before}; they count as missing values."
            )
        start = calendar[0]
        return SeriesSet(series, self.columns, int(start) if self.kind == "number" else start, chosen, len(calendar))

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
        self, name: str, stamps: Any, parts: list[tuple[str, np.ndarray, np.ndarray]], calendar: Any, step: str | int
    ) -> Series:
        """Put the rows of a series at their positions."""
        columns = self.columns
        positions = calendar.get_indexer(stamps)
        if (positions < 0).any():
            wrong = stamps[int(np.flatnonzero(positions < 0)[0])]
            raise ValueError(
                f"series {name!r}: the time stamp {wrong} is not on the calendar of all series, one in {step} from "
                f"{calendar[0]} on. Give another frequency, or resample the series by pandas."
            )
        numbers = np.full((positions[-1] - positions[0] + 1, len(columns.numbers)), np.nan, dtype=np.float32)
        numbers[positions - positions[0]] = np.concatenate([part for _, _, part in parts])
        if np.isinf(numbers).any():
            row, column = np.argwhere(np.isinf(numbers))[0]
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
        begins: dict[str, int] = {}
        row = 0
        for split, of_part, _ in parts:
            begins.setdefault(split, max(0, int(positions[row] - positions[0] - begin)))
            row += len(of_part)
        return Series(
            name,
            int(positions[0] + begin),
            np.ascontiguousarray(values[begin:end]),
            np.ascontiguousarray(known[begin:]),
            np.ascontiguousarray(past_only[begin:end]),
            np.array(of_series, dtype=np.float32),
            begins,
        )


def _check_order(name: str, stamps: Any, columns: Columns) -> None:
    wrong = np.flatnonzero(np.asarray(stamps[1:] <= stamps[:-1]))
    if len(wrong):
        stamp, before = stamps[wrong[0] + 1], stamps[wrong[0]]
        if stamp == before:
            hint = (
                " Where rows are of several series, name the column that tells which." if columns.item is None else ""
            )
            if getattr(stamp, "hour", 0) and stamp.tzinfo is None:
                hint += " Where the clock was set back, name the time zone."
            raise ValueError(f"series {name!r}: the time stamp {stamp} must occur once, got it twice.{hint}")
        raise ValueError(f"series {name!r}: time stamps must ascend, got {stamp} after {before}")
