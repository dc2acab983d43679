"""Reads rows of text from files and says where what is wrong stands.

The readers of the `datasets` library guess types: they make the number 7 of "007", a point in time of "1998-03-03",
and nothing of "null" or "NA". Here text stays the text it is.
"""

import csv
import gzip
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

FORMATS = ("csv", "tsv", "json", "jsonl")


def read_rows(
    file: str,
    target_file: str | None = None,
    *,
    file_format: str | None = None,
    column_names: list[str] | None = None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """
    Read the rows of a table, or the lines of two aligned text files, one by one.

    Files are UTF-8 and may be compressed (`.gz`). Empty lines are left out.

    Args:
        file (`str`):
            The table; with `target_file` plain text, one source a line.
        target_file (`str`, *optional*):
            Plain text, one target a line. The columns are then `source` and `target`.
        file_format (`str`, *optional*):
            `"csv"`; `"tsv"`, in which quotation marks mean nothing; `"json"` and `"jsonl"`, both one list of objects
            or one object a line. Taken from the name of the file if omitted.
        column_names (`list[str]`, *optional*):
            The columns of a csv or tsv file that has no header.

    Yields:
        `tuple[str, dict[str, Any]]`: the place of the row (file and line, for messages) and its columns.

    Raises:
        ValueError: for an unknown format, files of different length, two columns of one name, a row with more or
            fewer values than columns, and what is not JSON or not UTF-8.
    """
    try:
        if target_file is not None:
            yield from _read_aligned(file, target_file)
            return
        file_format = file_format or Path(file.removesuffix(".gz")).suffix.removeprefix(".")
        if file_format not in FORMATS:
            raise ValueError(
                f"file_format must be one of {', '.join(FORMATS)}, got {file_format!r} for {file}. Plain text needs a "
                "second file with the targets."
            )
        yield from _read_json(file) if file_format.startswith("json") else _read_table(file, file_format, column_names)
    except UnicodeDecodeError as error:
        raise ValueError(f"{' and '.join(filter(None, (file, target_file)))} must be UTF-8: {error}") from error


def get_text(row: dict[str, Any], column: str, place: str, may_be_empty: bool = False) -> str:
    """
    The text in a column of a row, in Unicode's form NFC as our tokenizers give it back, without white space around it.

    Args:
        row (`dict[str, Any]`), place (`str`):
            As `read_rows` yields them.
        column (`str`):
            The name of the column. A dot leads into a nested one: `"translation.en"`.
        may_be_empty (`bool`, *optional*, defaults to `False`):
            Whether the text may be empty or white space alone.

    Raises:
        ValueError: if the row has no such column, or no text there.
    """
    value: Any = row
    for name in [column] if column in row else column.split("."):
        if not isinstance(value, dict) or name not in value:
            raise ValueError(f"{place}: there must be a column {column!r}, got the columns {list(row)}")
        value = value[name]
    if not isinstance(value, str) or not (value.strip() or may_be_empty):
        raise ValueError(f"{place}: column {column!r} must hold text, got {value!r}")
    return unicodedata.normalize("NFC", value.strip())


def open_text(file: str) -> TextIO:
    """Open a UTF-8 file to read, decompressed if it ends in `.gz`; line ends stay as they are."""
    return (gzip.open if file.endswith(".gz") else open)(file, "rt", encoding="utf-8-sig", newline="")


def _read_aligned(file: str, target_file: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with open_text(file) as sources, open_text(target_file) as targets:
        counts = [sum(1 for _ in lines) for lines in (sources, targets)]
    if counts[0] != counts[1]:
        raise ValueError(
            f"{file} and {target_file} must have the same number of lines, got {counts[0]:,} and {counts[1]:,}"
        )
    with open_text(file) as sources, open_text(target_file) as targets:
        for number, (source, target) in enumerate(zip(sources, targets, strict=True), start=1):
            if source.strip() or target.strip():
                yield f"{file} and {target_file}, line {number}", {"source": source, "target": target}


def _read_table(file: str, file_format: str, names: list[str] | None) -> Iterator[tuple[str, dict[str, Any]]]:
    dialect: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if file_format == "tsv" else {}
    with open_text(file) as lines:
        reader = csv.reader(lines, **dialect)
        names = names or next(reader, [])
        if len(set(names)) < len(names):
            raise ValueError(f"{file}: the columns must have different names, got {names}")
        for values in reader:
            place = f"{file}, line {reader.line_num}"
            if len(values) == len(names):
                yield place, dict(zip(names, values, strict=True))
            elif values:
                raise ValueError(f"{place}: there must be one value for each of the columns {names}, got {values}")


def _read_json(file: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with open_text(file) as lines:
        is_list = lines.read(1) == "["
        lines.seek(0)
        for number, item in enumerate(json.load(lines) if is_list else lines, start=1):
            place = f"{file}, {'item' if is_list else 'line'} {number}"
            if not is_list:
                if not item.strip():
                    continue
                try:
                    item = json.loads(item)
                except json.JSONDecodeError as error:
                    raise ValueError(f"{place}: there must be a JSON object, got {item!r}: {error}") from error
            if not isinstance(item, dict):
                raise ValueError(f"{place}: there must be a JSON object, got {item!r}")
            yield place, item
