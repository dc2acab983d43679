"""
The rows of tables in which series stand, long (a row for each item and time stamp) or wide (a row for each time stamp,
a column for each channel), and what their columns hold.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..data import brief, extension, read_lines, read_rows

# what columns are usually called, in lower case
TIMESTAMP_NAMES = ("timestamp", "datetime", "date", "time", "ds", "day", "week", "month", "quarter", "year")
ITEM_NAMES = (
    *("item_id", "unique_id", "series_id", "series", "item", "id", "sensor", "station", "store", "shop"),
    *("product", "product_id", "sku", "symbol", "ticker", "name", "city", "region", "country"),
)
TARGET_NAMES = ("target", "value", "values", "y", "sales", "demand", "close", "price", "count")
MISSING = ("", "na", "n/a", "nan", "null", "none", "-", "?")
ROWS_OF_A_CHUNK = 50_000
MOST_BLUR = 1e-4  # by how much of its range a column may be rounded
SERIES_OF_A_CHUNK = 64  # where a row holds a whole series


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
        categories (`list[str]`): words that are the same in all rows of a series, such as its region.
    """

    timestamp: str | None = None
    item: str | None = None
    targets: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    past_only: list[str] = field(default_factory=list)
    static: list[str] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)

    @property
    def numbers(self) -> list[str]:
        return [*self.targets, *self.known, *self.past_only, *self.static]

    @property
    def named(self) -> list[str]:
        """All columns that are read."""
        return [*filter(None, [self.timestamp, self.item]), *self.numbers, *self.categories]


def name_of(source: Any) -> str:
    return Path(source).name if isinstance(source, (str, Path)) else f"a {type(source).__name__}"


def read_chunks(
    source: Any, columns: Columns, file_format: str | None = None, column_names: list[str] | None = None
) -> Iterator[pd.DataFrame]:
    """
    The rows of a file, a DataFrame or a data set in pieces, each with the places of its rows as index. A row that holds
    a series as lists becomes a row for each value.

    Args:
        source, file_format, column_names: as of `read_series`.
        columns (`Columns`): those that the user names.
    """
    for chunk in _read_rows(source, columns, file_format, column_names):
        yield from _explode(chunk)


class ScatteredRows(ValueError):
    """The rows of a series do not follow each other."""


def read_by_item(
    source: Any,
    columns: Columns,
    longest: int,
    file_format: str | None = None,
    column_names: list[str] | None = None,
    *,
    in_memory: bool = False,
) -> Iterator[tuple[Columns, pd.DataFrame]]:
    """
    The rows of each series, of which none is held longer than needed.

    Args:
        source, columns, file_format, column_names: as of `read_chunks`.
        longest (`int`): how many of its last rows to keep, at least.
        in_memory (`bool`): hold all rows instead, so that those of a series need not follow each other.

    Yields:
        the columns as they are recognised, and the rows of a series.

    Raises:
        ScatteredRows: a series goes on after another one.
    """
    done: set[int] = set()
    name: str | None = None
    rows: list[pd.DataFrame] = []
    chunks = read_chunks(source, columns, file_format, column_names)
    for chunk in _gather(chunks, columns) if in_memory else chunks:
        columns = recognise_columns(chunk, columns)
        items = chunk[columns.item].astype(str).to_numpy() if columns.item else np.full(len(chunk), "series")
        edges = np.flatnonzero(items[1:] != items[:-1]) + 1
        for begin, end in pairwise([0, *edges, len(chunk)]):
            if begin < end and items[begin] != name:
                if rows:
                    yield columns, pd.concat(rows)
                if hash(items[begin]) in done:
                    raise ScatteredRows(
                        f"{chunk.index[begin]}: the rows of series {items[begin]!r} must follow each other, but others "
                        "stand between them"
                    )
                name, rows = items[begin], []
                done.add(hash(name))
            rows.append(chunk.iloc[begin:end])
            if sum(map(len, rows[1:])) >= longest:  # of one with gaps fewer rows would do
                rows = rows[1:]
    if rows:
        yield columns, pd.concat(rows)


def _gather(chunks: Iterator[pd.DataFrame], columns: Columns) -> Iterator[pd.DataFrame]:
    """All rows at once, those of each series behind each other, the series by their first rows."""
    table = pd.concat(list(chunks))
    item = recognise_columns(table, columns).item
    yield table if item is None else table.iloc[np.argsort(pd.factorize(table[item])[0], kind="stable")]


def _read_rows(
    source: Any, columns: Columns, file_format: str | None, column_names: list[str] | None
) -> Iterator[pd.DataFrame]:
    if isinstance(source, pd.DataFrame):
        of_arrow = [name for name, kind in source.dtypes.items() if isinstance(kind, pd.ArrowDtype)]
        frame = _with_index(source.astype(dict.fromkeys(of_arrow, object)), columns)
        yield frame.set_axis([f"row {index}" for index in frame.index])
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
        from pyarrow.types import is_nested

        number, table = 0, ParquetFile(file)
        has_lists = any(map(is_nested, table.schema_arrow.types))
        for batch in table.iter_batches(batch_size=SERIES_OF_A_CHUNK if has_lists else ROWS_OF_A_CHUNK):
            frame = _with_index(batch.to_pandas(), columns)
            yield frame.set_axis([f"{file}, row {number + row}" for row in range(1, len(frame) + 1)])
            number += len(frame)
        return
    line = next(read_lines(file), "").strip()
    separator = _separator(line)
    wanted = [*columns.numbers, columns.timestamp, columns.item, *_header(line, separator)]
    has_semicolons = separator == ";" and (file_format or extension(file)) == "csv"
    rows = read_rows(
        file,
        file_format=file_format,
        column_names=column_names,
        wanted_columns=wanted,
        separator=";" if has_semicolons else None,
    )
    first = list(islice(rows, 1))
    has_lists = any(isinstance(value, list) for _, row in first for value in row.values())
    rows = chain(first, rows)
    while chunk := list(islice(rows, SERIES_OF_A_CHUNK if has_lists else ROWS_OF_A_CHUNK)):
        places, values = zip(*chunk, strict=True)
        frame = pd.DataFrame(list(values), index=list(places), dtype=object)
        # where columns are not separated by commas, these are those of 3,5
        yield frame.replace(r"^([+-]?\d+),(\d+)$", r"\1.\2", regex=True) if has_semicolons else frame


def _with_index(frame: pd.DataFrame, columns: Columns) -> pd.DataFrame:
    """A table whose index, where it holds time stamps or names of series, has become columns."""
    levels: dict[Any, Any] = {}
    for level, name in enumerate(frame.index.names):
        values = frame.index.get_level_values(level)
        has_times = len(values) > 0 and is_time(values[0])
        is_one_of_several = frame.index.nlevels > 1
        if name is None and (has_times or is_one_of_several):
            name = "timestamp" if has_times else "item_id"
        is_usual = name in columns.named or str(name).lower() in (*TIMESTAMP_NAMES, *ITEM_NAMES)
        if name not in frame.columns and (has_times or is_one_of_several or is_usual):
            levels[name] = values
    if not levels:
        return frame
    of_index = pd.DataFrame({name: pd.Series(values) for name, values in levels.items()})
    return pd.concat([of_index, frame.reset_index(drop=True)], axis=1)


def _explode(chunk: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """A row for each value, where a row holds a series as lists; in pieces that are no longer than need be."""
    lists = [name for name in chunk.columns if isinstance(_first(chunk[name]), (list, np.ndarray))]
    if not lists:
        yield chunk
        return
    longest = []
    for place, values in zip(chunk.index, zip(*(chunk[name] for name in lists), strict=True), strict=True):
        lengths = {
            name: len(of_row) if isinstance(of_row, (list, np.ndarray)) else 1
            for name, of_row in zip(lists, values, strict=True)
        }
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{place}: the lists of a row must have the same length, got {lengths}")
        longest.append(lengths[lists[0]])
    for _, rows in chunk.groupby(np.cumsum(longest) // ROWS_OF_A_CHUNK, sort=False):
        yield rows.explode(lists)


def _separator(line: str) -> str:
    """What separates the columns of a table with this first line."""
    return max("\t;,", key=line.count) if any(mark in line for mark in "\t;") else ","


def _header(line: str, separator: str) -> list[str]:
    """The values of the first line if they may be names: none of them is a number."""
    names = [name.strip('"') for name in line.split(separator)]
    return names if all(as_number(name) is None and not is_time(name) for name in names) else []


def as_number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def is_time(value: Any) -> bool:
    if not isinstance(value, str) or not any(character.isdigit() for character in value):
        return isinstance(value, (pd.Timestamp, pd.Period, np.datetime64)) or hasattr(value, "isoformat")
    try:
        pd.Timestamp(value)
    except ValueError:
        return False
    return True


def recognise_columns(rows: pd.DataFrame, given: Columns) -> Columns:
    """
    What the columns of these rows hold; see `read_series`.

    Raises:
        ValueError: a column that is named is not there, or is forecast and known at once; or none is left for the
            target.
    """
    place = rows.index[0]
    for name in given.named:
        if name not in rows.columns:
            raise ValueError(f"{place}: there must be a column {name!r}, got the columns {brief(list(rows.columns))}")
    for kind in ("known", "past_only", "static"):
        if both := [name for name in given.targets if name in getattr(given, kind)]:
            raise ValueError(f"column {both[0]!r} must be a target or among {kind}, got it as both")
    left = [name for name in rows.columns if name not in given.named]
    usual = {str(name).lower(): name for name in reversed(left)}

    def find(names: Sequence[str]) -> Any:
        return next((usual[name] for name in names if name in usual), None)

    timestamp = given.timestamp or find(TIMESTAMP_NAMES)
    if timestamp is None:
        timestamp = next(
            (name for name in left if as_number(_first(rows[name])) is None and is_time(_first(rows[name]))), None
        )
    item = given.item or find([name for name in ITEM_NAMES if usual.get(name) != timestamp])
    if item is None and timestamp is not None and rows[timestamp].duplicated().any():
        texts = [name for name in left if name != timestamp and as_number(_first(rows[name])) is None]
        item = texts[0] if len(texts) == 1 else None
    targets = given.targets
    if not targets:
        left = [name for name in left if name not in (timestamp, item) and not _numbers_rows(name, rows)]
        usual_target = find(TARGET_NAMES)
        numeric = [name for name in left if as_number(_first(rows[name])) is not None]
        targets = [usual_target] if usual_target is not None and (item is not None or len(numeric) == 1) else numeric
        if not targets:
            firsts = {name: _first(rows[name]) for name in rows.columns[:5]}
            told = ", ".join(f"{'nothing' if v is None else brief(v)} in {name!r}" for name, v in firsts.items())
            raise ValueError(f"{place}: there must be a column of numbers left for the target, got {told}")
    return replace(given, timestamp=timestamp, item=item, targets=list(targets))


def _numbers_rows(name: Any, rows: pd.DataFrame) -> bool:
    """Whether a column is what pandas writes before the others: without a name, it numbers the rows."""
    if not re.fullmatch(r"|index|Unnamed: \d+", str(name)) or len(rows) < 2:
        return False
    numbers = pd.to_numeric(rows[name], errors="coerce").to_numpy(dtype=float)
    return bool((np.diff(numbers) == 1).all())


def _first(values: pd.Series) -> Any:
    """The first one that is not missing."""
    return next((value for value in values if not is_missing(value)), None)


def is_missing(value: Any) -> bool:
    if isinstance(value, (list, np.ndarray)):
        return len(value) == 0
    return value is None or (value.strip().lower() in MISSING if isinstance(value, str) else bool(pd.isna(value)))


def find_empty(names: pd.Series) -> np.ndarray:
    """Where there is no name; one of "NA" is one."""
    return (names.isna() | (names.astype(str).str.strip() == "")).to_numpy()


def find_missing(values: pd.Series) -> np.ndarray:
    """Where values are missing."""
    missing = values.isna().to_numpy()
    if values.dtype == object or pd.api.types.is_string_dtype(values):
        missing = missing | values.astype(str).str.strip().str.lower().isin(MISSING).to_numpy()
    return missing


def to_numbers(values: pd.Series) -> np.ndarray:
    """
    A column as 64-bit numbers, NaN where it says that a value is missing.

    Raises:
        ValueError: a value is neither; names its place, the index of `values`.
    """
    numbers = pd.to_numeric(values, errors="coerce")
    unknown = numbers.isna().to_numpy()
    if unknown.any() and len(wrong := np.flatnonzero(unknown & ~find_missing(values))):
        raise ValueError(
            f"{values.index[wrong[0]]}: column {values.name!r} must hold a number or nothing, got "
            f"{brief(values.iloc[wrong[0]])}"
        )
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)


def narrow(numbers: np.ndarray, watched: int) -> np.ndarray:
    """
    The same numbers (time, columns) in 32 bits, which hold half as much, unless that blurs how a column varies: 32 bits
    know 1e9 + 40 as 1e9 + 64.

    Args:
        watched (`int`): so many of the first columns must not be blurred.
    """
    of_series = numbers[:, :watched]
    high, low = np.fmax.reduce(of_series), np.fmin.reduce(of_series)
    with np.errstate(over="ignore", invalid="ignore"):
        short = numbers.astype(np.float32)
        blur = np.finfo(np.float32).eps * np.maximum(np.abs(high), np.abs(low))
        is_blurred = (blur > MOST_BLUR * (high - low)).any()
    return numbers if is_blurred and not np.array_equal(short, numbers, equal_nan=True) else short
