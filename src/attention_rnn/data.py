"""Reads rows of text from files and says where what is wrong stands.

The readers of the `datasets` library guess types: they make the number 7 of "007", a point in time of "1998-03-03",
and nothing of "null" or "NA". Here text stays the text it is.
"""

import bz2
import codecs
import csv
import gzip
import io
import json
import logging
import lzma
import reprlib
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import IO, Any

logger = logging.getLogger(__name__)

COMPRESSED = (".gz", ".bz2", ".xz", ".zip")
_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip"}
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)  # what is raised of compressed files
FORMATS = ("csv", "tsv", "json", "jsonl")

# What columns are usually called, in lower case. By these names a header is told from data, and a column is found that
# no argument names.
COLUMN_NAMES = {
    "source": {"source", "src", "input", "word", "text", "document", "article"},
    "target": {"target", "tgt", "output", "phones", "phonemes", "pronunciation", "summary"},
    "text": {"text", "sentence", "sentence1", "premise", "review", "content", "tweet", "utterance", "document"},
    "audio": {"audio", "path", "file", "file_name", "filename", "wav"},
    "transcript": {"transcript", "transcription", "text", "sentence", "utterance"},
    "label": {"label", "labels", "class", "category", "sentiment", "intent", "command", "score", "rating"},
}
OTHER_NAMES = {"id", "idx", "index", "title", "sentence2", "hypothesis", "question", "context", "answer", "answers"}

_BRIEF = reprlib.Repr()
_BRIEF.maxlist = _BRIEF.maxtuple = _BRIEF.maxset = _BRIEF.maxdict = 10
_BRIEF.maxstring = _BRIEF.maxother = 100


def read_rows(
    file: str,
    target_file: str | None = None,
    *,
    file_format: str | None = None,
    column_names: list[str] | None = None,
    wanted_columns: Iterable[str | None] = (),
    separator: str | None = None,
    lines: Iterable[str] | None = None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """
    Read the rows of a table, or the lines of two aligned text files, one by one.

    Files are UTF-8, or UTF-16 with a byte order mark, and may be compressed, see `open_file`. A line ends with a line
    feed, or a carriage return and a line feed. Empty lines are left out.

    Args:
        file (`str`):
            The table; with `target_file` plain text, one source a line.
        target_file (`str`, *optional*):
            Plain text, one target a line. The columns are then `source` and `target`.
        file_format (`str`, *optional*):
            `"csv"`; `"tsv"`, in which quotation marks mean nothing; `"json"` and `"jsonl"`, both one list of objects
            or one object a line, `"json"` also one object over many lines. Taken from the name of the file if omitted.
        column_names (`list[str]`, *optional*):
            The columns of a csv or tsv file that has no header. A first row of just these names is a header all the
            same.
        wanted_columns (`Iterable[str | None]`, *optional*):
            Columns that are going to be read. The first row of a csv or tsv file is a header if it has one of them, or
            if two of its values (or its only one) are usual names of columns, see `COLUMN_NAMES`.
        separator (`str`, *optional*):
            What stands between the columns of a table in place of a comma or a tab. Quotation marks mean something
            beside commas and semicolons alone.
        lines (`Iterable[str]`, *optional*):
            Those of `file`, where they are read already.

    Yields:
        `tuple[str, dict[str, Any]]`: the place of the row (file and line, for messages) and its columns.

    Raises:
        ValueError: for an unknown format, files of different length, a first row that is no header without
            `column_names`, two columns of one name, a row with more or fewer values than columns, quotation marks that
            join rows, and what is not JSON, not UTF-8 or not gzip, with the file and its line.
    """
    if target_file is not None:
        yield from _read_aligned(file, target_file)
        return
    file_format = file_format or extension(file)
    if file_format not in FORMATS:
        raise ValueError(f"file_format must be one of {', '.join(FORMATS)}, got {file_format!r} for {file}")
    lines = read_lines(file) if lines is None else lines
    if file_format in ("json", "jsonl"):
        yield from _read_json(lines, file, file_format)
    else:
        separator = separator or {"csv": ",", "tsv": "\t"}[file_format]
        wanted = {name for name in wanted_columns if name is not None}
        yield from _read_table(lines, file, separator, column_names, wanted)


def extension(file: str) -> str:
    """How the name of a file ends that may be compressed, without the dot: `csv` of `train.csv.gz`."""
    path = Path(file)
    return (Path(path.stem) if path.suffix in COMPRESSED else path).suffix.removeprefix(".")


def choose_columns(columns: Iterable[str], place: str, **roles: str | None) -> list[str]:
    """
    The column of each role: the one given; else the one with a usual name of that role, whatever its place; else the
    first one that is left.

    Args:
        columns (`Iterable[str]`), place (`str`):
            The columns of a row and where it stands.
        roles (`str | None`):
            Keys of `COLUMN_NAMES`, each with the column that the user named.

    Raises:
        ValueError: if there are too few columns.

    Example:
        >>> choose_columns(["label", "text"], "train.csv, line 2", text=None, label=None)
        ['text', 'label']
    """
    columns = list(columns)
    left = [name for name in columns if name not in roles.values()]
    chosen = dict(roles)
    for is_usual in (True, False):
        for role in roles:
            if chosen[role] is None:
                usual = [name for name in left if not is_usual or name.lower() in COLUMN_NAMES[role]]
                if usual:
                    chosen[role] = usual[0]
                    left.remove(usual[0])
    if missing := [role for role, column in chosen.items() if column is None]:
        raise ValueError(f"{place}: there must be a column left for the {missing[0]}, got the columns {brief(columns)}")
    return [column for column in chosen.values() if column is not None]


def get_value(row: dict[str, Any], column: str, place: str) -> Any:
    """
    What stands in a column of a row.

    Args:
        row (`dict[str, Any]`), place (`str`):
            As `read_rows` yields them.
        column (`str`):
            The name of the column. A dot leads into a nested one: `"translation.en"`.

    Raises:
        ValueError: if the row has no such column.
    """
    value: Any = row
    for name in [column] if column in row else column.split("."):
        if not isinstance(value, dict) or name not in value:
            raise ValueError(f"{place}: there must be a column {column!r}, got the columns {brief(list(row))}")
        value = value[name]
    return value


def get_text(row: dict[str, Any], column: str, place: str) -> str:
    """
    The text in a column of a row, in Unicode's form NFC as our tokenizers give it back, without white space around it.
    It may be empty; JSON's null is an empty text. See `get_value`.

    Raises:
        ValueError: if the row has no such column, or no text there.
    """
    value = get_value(row, column, place)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{place}: column {column!r} must hold text, got {brief(value)}")
    return unicodedata.normalize("NFC", value.strip())


def drop_empty(examples: Iterable[dict[str, Any]], columns: Sequence[str], origin: str) -> Iterator[dict[str, Any]]:
    """
    The examples to train on: those with a text in each of these columns. How many are left out is logged at the end.

    Nothing can be learnt from an empty text, while in an evaluation it counts like any other.

    Args:
        examples (`Iterable[dict[str, Any]]`):
            Read by `get_text`.
        columns (`Sequence[str]`):
            Keys of the examples.
        origin (`str`):
            Where they come from, for the message.

    Raises:
        ValueError: if all of them are left out.
    """
    total = dropped = 0
    for example in examples:
        total += 1
        if all(example[column] for column in columns):
            yield example
        else:
            dropped += 1
    names = " or ".join(columns)
    if dropped == total > 0:
        raise ValueError(f"{origin} must hold an example to train on, got {total:,} of which the {names} is empty")
    if dropped:
        logger.warning(f"{dropped:,} of {total:,} rows of {origin} are left out of training: their {names} is empty.")


def compression_of(file: str) -> str | None:
    """How a file is compressed, by its first bytes: `gzip`, `bzip2`, `xz`, `zip`, or `None`."""
    with open(file, "rb") as stream:
        start = stream.read(6)
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)


def open_file(file: str) -> IO[bytes]:
    """
    Open a file to read its bytes, decompressed by what `compression_of` tells, or as gzip if its name ends in `.gz`.

    Raises:
        ValueError: if a zip file does not hold one file.
    """
    kind = compression_of(file)
    if kind == "zip":
        archive = zipfile.ZipFile(file)
        # a Mac adds a folder of its own
        members = [member for member in archive.namelist() if not member.endswith("/") and member[:9] != "__MACOSX/"]
        if len(members) != 1:
            raise ValueError(f"{file}: a zip file must hold one file, got {brief(members)}")
        return archive.open(members[0])
    by_name = "gzip" if file.endswith(".gz") else None
    openers: dict[str | None, Any] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open, None: open}
    return openers[kind or by_name](file, "rb")


def first_bytes(file: str, number: int) -> bytes:
    """The first bytes of a file, decompressed; none where it cannot be decompressed."""
    with suppress(*_DAMAGED), open_file(file) as stream:
        return stream.read(number)
    return b""


def encoding_of(file: str) -> str:
    """`"utf-16"` of a file that begins with its byte order mark, else `"utf-8"`."""
    return "utf-16" if first_bytes(file, 2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8"


def read_lines(file: str, encoding: str | None = None) -> Iterator[str]:
    """
    The lines of a file, decompressed by `open_file`, each with its line feed; a lone carriage return ends no line. A
    byte order mark is left out.

    Args:
        file (`str`): its name.
        encoding (`str`, *optional*): as Python names it; what `encoding_of` tells if omitted.

    Raises:
        ValueError: if the file is of another encoding or, in spite of its name, not gzip or not whole, with its line;
            or if there is no such encoding.
    """
    number = 0
    try:
        try:
            encoding = codecs.lookup(encoding or encoding_of(file)).name
        except LookupError:
            raise ValueError(f"encoding must be one that Python knows, such as cp1252, got {encoding!r}") from None
        with open_file(file) as stream:
            if encoding == "utf-8":
                for number, line in enumerate(stream, start=1):
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            else:  # in which a line feed may be of several bytes
                for text in io.TextIOWrapper(stream, encoding, newline="\n"):
                    number += 1
                    yield text
    except UnicodeDecodeError as error:
        wrong = f"must be {str(encoding).upper()}, got the byte 0x{error.object[error.start]:02x}"
        if encoding != "utf-8":
            raise ValueError(f"{file}, after line {number}: {wrong} ({error.reason})") from error
        raise ValueError(
            f"{file}, line {number}: {wrong} at position {error.start + 1} of the line ({error.reason})"
        ) from error
    except _DAMAGED as error:
        kind = compression_of(file) or ("gzip" if file.endswith(".gz") else None)
        if kind is None:
            raise
        raise ValueError(f"{file}, after line {number}: must be a whole {kind} file: {error}") from error


def distinct(items: Iterable[Any], key: Callable[[Any], Any]) -> list[Any]:
    """The first of those items that have the same key, in their order."""
    first: dict[Any, Any] = {}
    for item in items:
        first.setdefault(key(item), item)
    return list(first.values())


def significant(value: float) -> float:
    """A score with four significant digits: what a computer adds to the last ones says nothing."""
    return float(f"{value:.4g}")


def json_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_json_lines(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    file.write_text(json_lines(rows), encoding="utf-8", newline="\n")


def brief(value: Any) -> str:
    """The `repr` of a value from a file for a message: long texts and lists are shortened."""
    return _BRIEF.repr(value)


def _read_aligned(file: str, target_file: str) -> Iterator[tuple[str, dict[str, Any]]]:
    counts = [sum(1 for _ in read_lines(name)) for name in (file, target_file)]
    if counts[0] != counts[1]:
        raise ValueError(
            f"{file} and {target_file} must have the same number of lines, got {counts[0]:,} and {counts[1]:,}"
        )
    pairs = zip(read_lines(file), read_lines(target_file), strict=True)
    for number, (source, target) in enumerate(pairs, start=1):
        if source.strip() or target.strip():
            yield f"{file} and {target_file}, line {number}", {"source": source, "target": target}


def split_columns(lines: Iterable[str], file: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """
    The values of each row of a table, with the line on which it begins. Empty lines are left out.

    Args:
        lines (`Iterable[str]`), file (`str`):
            The lines of a file, with their line feeds, and its name.
        separator (`str`):
            What stands between columns. Beside commas and semicolons quotation marks are as in csv.

    Raises:
        ValueError: if quotation marks join rows, or are not as in csv.
    """
    if separator in (",", ";"):
        yield from _read_csv(lines, file, separator)
        return
    for number, line in enumerate(lines, start=1):
        if line := line.rstrip("\r\n"):
            yield number, line.split(separator)


def _read_table(
    lines: Iterable[str], file: str, separator: str, names: list[str] | None, wanted_columns: set[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    rows = split_columns(lines, file, separator)
    number, first = next(rows, (0, None))
    if first is None:
        return
    if names is None:
        if not _is_header(first, wanted_columns):
            raise ValueError(
                f"{file}, line {number}: the first row must name the columns, in usual names such as source and "
                "target, text and label, or by those that are to be read, got "
                f"{brief(first)}. If it is data, or a header in other names, give --column_names."
            )
        names = first
    elif [value.strip() for value in first] != names and first != names:
        rows = chain([(number, first)], rows)
    if len(set(names)) < len(names):
        raise ValueError(f"{file}: the columns must have different names, got {brief(names)}")
    for number, values in rows:
        if len(values) != len(names):
            raise ValueError(
                f"{file}, line {number}: there must be one value for each of the columns {brief(names)}, got "
                f"{brief(values)}"
            )
        yield f"{file}, line {number}", dict(zip(names, values, strict=True))


def _is_header(row: list[str], wanted_columns: set[str]) -> bool:
    usual = OTHER_NAMES.union(*COLUMN_NAMES.values())
    # one usual name among several values may be a word of the data
    is_usual = sum(value.strip().lower() in usual for value in row) >= min(2, len(row))
    return is_usual or not wanted_columns.isdisjoint(row)


def _read_csv(lines: Iterable[str], file: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line on which they begin. A quotation mark that was not meant as one joins rows, or spoils one."""
    record: list[str] = []

    def lines_of_record() -> Iterator[str]:
        for line in lines:
            record.append(line)
            yield line

    reader = csv.reader(lines_of_record(), delimiter=separator, strict=True)
    columns = 0
    while True:
        start = reader.line_num + 1
        record.clear()
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(
                f"{file}, line {start}: a row of csv begins here that cannot be read: {error}. A value with a "
                f"{separator!r}, a line break or a quotation mark stands in quotation marks, those within it doubled; "
                f"a value of more than {csv.field_size_limit():,} characters needs another format. If quotation marks "
                "mean nothing, it is no csv: save it as tsv."
            ) from error
        columns = columns or len(values)
        if len(record) > 1 and columns > 1 and all(line.count(separator) == columns - 1 for line in record):
            raise ValueError(
                f"{file}, line {start}: a quotation mark joins {len(record):,} lines to one row, though each of them "
                f"looks like a row of {columns} values: {brief(record[0])}. Double the quotation mark within quotation "
                "marks, or, if the lines belong together, save the file as json."
            )
        if values:
            yield start, values


def _read_json(all_lines: Iterable[str], file: str, file_format: str) -> Iterator[tuple[str, dict[str, Any]]]:
    lines: Iterator[tuple[int, str]] = enumerate(all_lines, start=1)
    number, first = next(((number, line) for number, line in lines if line.strip()), (0, ""))
    if first.lstrip().startswith("[") or (file_format == "json" and not _is_json(first)):
        # one value, however it is laid out
        text = "\n" * (number - 1) + first + "".join(line for _, line in lines)
        value = _parse_json(text, file, line=None) if text.strip() else []
        rows = ((f"item {index}", item) for index, item in enumerate(value if isinstance(value, list) else [value], 1))
    else:
        lines = chain([(number, first)], lines)
        rows = ((f"line {n}", _parse_json(line, file, n)) for n, line in lines if line.strip())
    for place, row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"{file}, {place}: there must be a JSON object, got {brief(row)}")
        yield f"{file}, {place}", row


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return True


def _parse_json(text: str, file: str, line: int | None) -> Any:
    try:
        value = json.loads(text)
        if r"\ud" in text.lower():  # one half of a character is none, and no file can hold it
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        place = f"{file}, line {line}" if line else file
        raise ValueError(f"{place}: {half} is one half of a character whose other half is missing") from error
    except json.JSONDecodeError as error:
        line, around = line or error.lineno, text[max(error.pos - 40, 0) : error.pos + 40]
        fault = f"{error.msg.removesuffix(' at')} at column {error.colno}"
        raise ValueError(f"{file}, line {line}: there must be a JSON object, got {brief(around)}: {fault}") from error
