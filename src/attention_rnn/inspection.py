"""Finds out what a file of one's own holds: its format, encoding, columns and header."""

import datetime
import io
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from .conll import Columns, is_conll, is_spaced_table, read_conll
from .data import (
    COLUMN_NAMES,
    OTHER_NAMES,
    compression_of,
    encoding_of,
    extension,
    first_bytes,
    get_text,
    get_value,
    open_file,
    read_lines,
    read_rows,
    split_columns,
)

Row = dict[str, Any]

SEPARATORS = {"\t": "tabs", "|||": "|||", ";": "semicolons", "|": "bars", ",": "commas"}
_LOOKED_AT = 1_000  # lines, to find a separator
_REGULAR = 0.98  # of the lines have as many columns as most
_CONLL = ("conll", "conllu", "iob", "bio")  # extensions
_MOST_LABELS = 100


@dataclass
class Content:
    """
    What a file holds.

    Attributes:
        file (`str`): its name, without folders.
        rows (`list[dict]`): those of a table or of json; of a CoNLL file texts with `tokens` and `labels`.
        places (`list[str]`): where each row stands, for messages.
        text (`str`, *optional*): that of a file that is none of these.
        seen (`list[str]`): what it was seen to be, in a few words each.
        unread (`list[str]`): columns that no row has, since a task of labelled words reads but two of a CoNLL file.
    """

    file: str
    rows: list[Row] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    text: str | None = None
    seen: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def add(self, rows: Iterable[tuple[str, Row]]) -> None:
        """Add places and rows, as `data.read_rows` yields them."""
        for place, row in rows:
            self.places.append(place)
            self.rows.append(row)

    def __iter__(self) -> Iterator[tuple[str, Row]]:
        """Places and rows, as `data.read_rows` yields them."""
        return zip(self.places, self.rows, strict=True)


class Known(NamedTuple):
    """
    What is known of a file before it is read: the user has said it, or another file of the same data has told it.

    Attributes:
        task (`str`, *optional*): a key of `recipes.TASKS`.
        names (`Sequence[str]`): all columns of another file, in their order. Where the file has as many and no header,
            they are these; where it has as many as are wanted, those.
        wanted (`Sequence[str]`): those that are going to be read. A first row with all of them is a header.
    """

    task: str | None = None
    names: Sequence[str] = ()
    wanted: Sequence[str] = ()


_NOTHING = Known()


def read_content(
    file: str | Path,
    separator: str | None = None,
    header: bool | None = None,
    encoding: str | None = None,
    known: Known = _NOTHING,
    lines: list[str] | None = None,
) -> Content:
    """
    Read a csv, tsv, txt, CoNLL, json, jsonl or parquet file, compressed by gzip, bzip2, xz or zip or not.

    Args:
        file (`str` or `Path`): the file.
        separator (`str`, *optional*): what stands between the columns of a table, if that is known.
        header (`bool`, *optional*): whether the first row of a table names its columns, if that is known.
        encoding (`str`, *optional*): as Python names it; UTF-8 if omitted, or UTF-16 by its byte order mark.
        known (`Known`, *optional*): what is known of the file before it is read.
        lines (`list[str]`, *optional*): those of the file, where they are read already.

    Raises:
        OSError, ValueError: it cannot be read, is empty, or its rows differ in the number of columns.
    """
    path, file = Path(file), str(file)
    if path.is_dir():
        raise ValueError(f"{file} is a folder, and must be a file{'' if known.task else _splits_in(path)}")
    content = Content(path.name, seen=[kind] if (kind := compression_of(file)) else [])
    if first_bytes(file, 4) == b"PAR1":
        content.seen.append("parquet")
        content.add((f"{file}, row {number}", row) for number, row in enumerate(_read_parquet(file), start=1))
    else:
        encoding = encoding or encoding_of(file)
        content.seen.append(encoding.upper())
        lines = read_text_lines(file, encoding) if lines is None else lines
        _read_text(content, file, lines, separator, header, known)
    if content.text is None and not content.rows:
        raise ValueError(f"{file} must hold at least one row, got none")
    return content


def _splits_in(folder: Path) -> str:
    """The end of a message on a folder: how the files of its splits are named to the command."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    found = {
        flag: [str(file) for file in files if re.split(r"[._-]", file.name.lower())[0] in names]
        for flag, names in _SPLITS.items()
    }
    if not all(len(of_split) in (0, 1, 2) for of_split in found.values()) or not found[""]:
        return ""
    words = chain.from_iterable([flag, *of_split] for flag, of_split in found.items() if of_split)
    return f": {shlex.join(['attention-rnn', 'train', *filter(None, words)])}"


_SPLITS = {"": ("train",), "--validation": ("dev", "valid", "validation", "val"), "--test": ("test",)}


def read_aligned(source_file: str | Path, target_file: str | Path, encoding: str | None = None) -> Content:
    """
    Read two texts, one with a source a line and one with the target of each.

    Args:
        source_file, target_file (`str` or `Path`): the files, compressed or not.
        encoding (`str`, *optional*): of both, see `read_content`.

    Raises:
        OSError, ValueError: one cannot be read, or they differ in the number of lines.
    """
    file, target_file = str(source_file), str(target_file)
    content = Content(f"{Path(file).name} and {Path(target_file).name}", seen=["a source and a target a line"])
    sources, targets = read_text_lines(file, encoding), read_text_lines(target_file, encoding)
    if len(sources) != len(targets):
        raise ValueError(
            f"{file} and {target_file} must have the same number of lines, got {len(sources):,} and {len(targets):,}"
        )
    content.add(
        (f"{file} and {target_file}, line {number}", {"source": source, "target": target})
        for number, (source, target) in enumerate(zip(sources, targets, strict=True), start=1)
        if source.strip() or target.strip()
    )
    if not content.rows:
        raise ValueError(f"{content.file} must hold at least one line, got none")
    return content


def read_text_lines(file: str, encoding: str | None = None) -> list[str]:
    """
    All lines of a file, see `data.read_lines`.

    Raises:
        ValueError: it is of another encoding; the message shows what the line would be in likely ones.
    """
    try:
        "".encode(encoding or "utf-8")
    except LookupError:
        raise ValueError(f"encoding must be one that Python knows, such as cp1252, got {encoding!r}") from None
    try:
        lines = list(read_lines(file, encoding))
    except ValueError as error:
        if not isinstance(fault := error.__cause__, UnicodeDecodeError):
            raise
        from charset_normalizer import from_bytes

        best = from_bytes(first_bytes(file, 2**16)).best()
        readings = []
        for name in dict.fromkeys(["cp1252", best.encoding.replace("_", "-") if best else "cp1252"]):
            with suppress(UnicodeDecodeError):
                position, line = len(fault.object[: fault.start].decode(name, "ignore")), fault.object.decode(name)
                around = line[max(position - 20, 0) : position + 20].strip()
                readings.append(f"by --encoding {name} there is {around!r}")
        raise ValueError(f"{error}. Save it as UTF-8, or name its encoding: {', '.join(readings)}") from fault
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise ValueError(
                f"{file}, line {number}: there must be text, got the character NUL. UTF-16 without a byte order mark "
                "is read by --encoding utf-16-le or utf-16-be"
            )
    return lines


def _read_parquet(file: str) -> list[Row]:
    import pyarrow.parquet

    with open_file(file) as stream:
        rows = pyarrow.parquet.read_table(io.BytesIO(stream.read())).to_pylist()
    return [{name: _as_text_has_it(value) for name, value in row.items()} for row in rows]


def _as_text_has_it(value: Any) -> Any:
    """What a text file would hold in the place of a decimal number, a date, or bytes that are UTF-8."""
    if isinstance(value, bytes):
        with suppress(UnicodeDecodeError):
            return value.decode()
    return str(value) if isinstance(value, Decimal | datetime.date | datetime.time) else value


def _read_text(
    content: Content, file: str, lines: list[str], separator: str | None, header: bool | None, known: Known
) -> None:
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise ValueError(f"{file} must hold text, got none")
    if len(lines) == 1 and first.rstrip().count("\r") > 1:
        raise ValueError(f"{file} must have line feeds, got lines that end in a carriage return alone, as on old Macs")
    if known.task == "language-model":
        separator = None
    elif (rows := _read_json(file, lines, first)) is not None:
        content.add(rows)
        content.seen.append("json")
        return
    elif separator is None and _is_of_words(file, lines, header, known):
        _read_words(content, file, lines, header, known)
        return
    elif separator is None and extension(file) == "tsv" and (known.task or "\t" in first):
        separator = "\t"  # also of a single column
    elif separator is None:
        separator = find_separator(lines, 1 if known.task else 3, extension(file) == "csv")
        separator = separator or _separator_of_table(file, first, known)
        if separator in (",", ";") and extension(file) not in ("csv", "tsv") and not known.task and is_prose(lines):
            separator = None
    if separator is None:
        content.text = "".join(lines).replace("\r\n", "\n")
        content.seen.append(f"plain text, {len(lines):,} lines")
        return
    table = [values for _, values in split_columns(lines, file, separator)]
    names, has_header = _find_names(table, header, known)
    content.add(read_rows(file, file_format="csv", column_names=names, separator=separator, lines=lines))
    content.seen += [f"separated by {SEPARATORS.get(separator, repr(separator))}"]
    content.seen += [f"header: {', '.join(name or '(no name)' for name in names)}" if has_header else "no header"]


def _is_of_words(file: str, lines: Sequence[str], header: bool | None, known: Known) -> bool:
    """Whether a file is CoNLL: as known or called, or by its lines, which a table with empty lines may be like."""
    some = [line.strip("\r\n") for line in lines[:_LOOKED_AT]]
    if known.task == "labelling" and not known.names and extension(file) == "tsv":
        return is_conll(some)
    if known.task is not None or extension(file) in _CONLL:
        return known.task in (None, "labelling")
    if not is_conll(some) or is_spaced_table(some):
        return False
    if Columns(some).has_header or extension(file) not in ("tsv", "csv"):
        return True
    separator = find_separator(some, is_csv=extension(file) == "csv")
    if separator is None:
        return True
    rows = [[value.strip() for value in values] for _, values in split_columns(some, file, separator)]
    has_names = bool(known.wanted) and set(known.wanted) <= set(rows[0])
    is_named = is_header(rows[0], [row for row in rows[1:] if len(row) == len(rows[0])]) if header is None else header
    return separator == "\t" and not has_names and not is_named


def _read_words(content: Content, file: str, lines: Sequence[str], header: bool | None, known: Known) -> None:
    """Words and labels of a CoNLL file: of the columns that are wanted, by number or by name."""
    columns = Columns([line.strip("\r\n") for line in lines])
    numbers = {f"column {number}": number - 1 for number in range(1, columns.width + 1)}
    known_as = {name: number for number, name in enumerate(columns.names)} | numbers
    wanted = [f"column {name}" if name.isdecimal() else name for name in known.wanted]
    if not 1 <= len(wanted) <= 2 or not set(wanted) <= set(known_as):
        wanted = []
    chosen = {name: known_as[name] for name in wanted}
    usual = {"tokens": columns.token, "labels": columns.label}
    (tokens, token), (labels, label) = [*chosen.items(), *list(usual.items())[len(chosen) :]]
    texts = read_conll(file, token, label, lines=lines, header=header)
    content.add((place, {tokens: row["tokens"], labels: row["labels"]}) for place, row in texts)
    content.seen.append(f"CoNLL, {len(content.rows):,} texts")
    if columns.has_header and header is not False:
        content.seen.append(f"header: {', '.join(columns.names)}")
    used = {token % columns.width, label % columns.width} if columns.width else set()
    content.unread = [name for number, name in enumerate(columns.names) if number not in used]


def _separator_of_table(file: str, first: str, known: Known) -> str | None:
    """What separates the columns of a file that is a table by its name, though not all of its lines look like it."""
    if extension(file) not in ("csv", "tsv"):
        return None
    separator = max(SEPARATORS, key=first.count)
    if first.count(separator):
        return separator
    return "," if known.task and extension(file) == "csv" else None


def _read_json(file: str, lines: list[str], first: str) -> list[tuple[str, Row]] | None:
    """Places and rows of json or jsonl, and nothing of what is neither."""
    if extension(file) not in ("json", "jsonl") and first.lstrip()[0] not in "[{":
        return None
    try:
        rows = list(read_rows(file, file_format="json", lines=lines))
    except ValueError:
        if extension(file) in ("json", "jsonl") or _is_json(first):
            raise
        return None
    # SQuAD's file is one object
    if len(rows) == 1 and isinstance(data := rows[0][1].get("data"), list) and all(isinstance(r, dict) for r in data):
        return [(f"{file}, item {number}", row) for number, row in enumerate(data, start=1)]
    return rows


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), (dict, list))
    except json.JSONDecodeError:
        return False


def find_separator(lines: Sequence[str], least: int = 3, is_csv: bool = False) -> str | None:
    """
    What separates the columns of a table, if these lines are one.

    Args:
        lines: those of the file.
        least: how many of them tell; of fewer only tabs do.
        is_csv: whether the file is called so: then commas win that are as many in all rows, unless each is that of 3,5.
    """
    some = lines[:_LOOKED_AT]
    found: dict[str, tuple[int, float]] = {}
    for separator in SEPARATORS:
        with suppress(ValueError):
            counts = Counter(len(values) for _, values in split_columns(some, "", separator))
            columns, regular = counts.most_common(1)[0] if counts else (0, 0)
            # that one line has a comma says nothing
            is_told = counts.total() >= least or separator == "\t"
            if columns > 1 and regular >= _REGULAR * counts.total() and is_told:
                found[separator] = columns, regular / counts.total()
    most = max((columns for columns, _ in found.values()), default=0)
    if is_csv and found.get(",") == (most, 1.0) and not all(map(_DECIMAL_COMMAS.fullmatch, filter(str.strip, some))):
        return ","
    return next(iter(found), None)


_DECIMAL_COMMAS = re.compile(r"([^,]*\d,\d)+[^,]*\s*")


def is_prose(lines: Sequence[str]) -> bool:
    """Whether most of these lines are sentences, whose commas have a space behind them and a full stop at the end."""
    filled = [line for line in lines[:_LOOKED_AT] if line.strip()]
    return sum(bool(_SENTENCE.search(line.strip())) for line in filled) > len(filled) / 2


_SENTENCE = re.compile(r"^[^,;]*\w[,;] .*[.!?…][\"'”’»)]*$")


def _find_names(table: Sequence[list[str]], header: bool | None, known: Known) -> tuple[list[str], bool]:
    """The names of the columns of a table, and whether its first row is they."""
    first = [value.strip() for value in table[0]]
    if header is None and known.wanted and set(known.wanted) <= set(first):
        header = True
    elif header is None:
        others = [] if known.names else [row for row in table[1:] if len(row) == len(first)]
        header = is_header(first, others)
    if header:
        return first, True
    for names in (known.names, known.wanted):
        if known.names and len(names) == len(first):
            return list(names), False
    return [f"column {number}" for number in range(1, len(first) + 1)], False


def is_header(first: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: by usual names, or because it is unlike what stands below it."""
    usual = OTHER_NAMES.union(*COLUMN_NAMES.values(), _MORE_NAMES)
    if sum(value.strip().lower() in usual for value in first) >= min(2, len(first)):
        return True
    for index, name in enumerate(first):
        column = [row[index] for row in others]
        if len(column) >= 10 and is_number(column) and not is_number([name]):
            return True
        # a label that occurs once, above others that occur often
        if name not in column and looks_like_labels(column) and len(column) >= 20 * len(set(column)):
            return True
    return False


_MORE_NAMES = {"lemma", "form", "features", "ipa", "grapheme", "graphemes", "latin", "english", "german", "french"}
_MORE_NAMES |= {"en", "de", "fr", "es", "it", "ru", "zh", "ja", "ar", "original", "normalised", "normalized", "name"}


_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?")
# with a mark between its thousands, and without one
_GROUPED = {
    ",": re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?|[+-]?\d+(\.\d+)?"),
    ".": re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+(,\d+)?|[+-]?\d+(,\d+)?"),
}
_ONE_COMMA = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
UNTOLD = "?"


def thousands_of(values: Sequence[str]) -> str | None:
    """
    What stands between the thousands of a column of numbers: `","`, `"."`, or `""` where nothing does and a comma is a
    point; `UNTOLD` where it may be either, as in 1,250; `None` where not all of these are numbers.
    """
    if not all(map(_NUMBER.fullmatch, values)):
        return next((mark for mark, number in _GROUPED.items() if all(map(number.fullmatch, values))), None)
    commas = [value for value in values if "," in value]
    return UNTOLD if commas and all(map(_ONE_COMMA.fullmatch, commas)) else ""


def is_number(values: Sequence[str]) -> bool:
    """Whether all of these are numbers, whose comma may be a point or stand between thousands."""
    return thousands_of(values) is not None


def decimal(value: str, thousands: str) -> str:
    """A number as Python reads it, see `thousands_of`."""
    return (value.replace(thousands, "") if thousands else value).replace(",", ".")


def looks_like_labels(values: Sequence[Any]) -> bool:
    """Whether these are few, short and different values, each of which occurs often."""
    different = set(map(str, values))
    return bool(different) and len(different) <= min(_MOST_LABELS, len(values) / 5) and fmean(map(len, different)) <= 40


def text_of(row: Row, column: str, place: str) -> str:
    """
    The text in a column, see `data.get_text`; a number is written out, and what is no number (NaN) is missing.

    Raises:
        ValueError: there is no such column, or a list or an object in it.
    """
    value = get_value(row, column, place)
    if isinstance(value, int | float):
        value = "" if value != value else str(value)
    return get_text({column: value}, column, place)
