"""Finds out what a file of one's own holds: its format, encoding, columns and header, and the task that it is for."""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from .data import COLUMN_NAMES, OTHER_NAMES, brief, choose_columns, read_rows

Row = dict[str, Any]

SEPARATORS = {"\t": "tabs", "|||": "|||", ";": "semicolons", "|": "bars", ",": "commas"}
_LOOKED_AT = 1_000  # lines, to find a separator
_REGULAR = 0.98  # of the lines have as many columns as most
_MOST_LABELS = 100
# the features of a form, as UniMorph writes them: V;IND;PRS;3;SG
_FEATURES = re.compile(r"[A-Z0-9][\w./+{}-]*(;[\w./+{}()-]+)*")


@dataclass
class Content:
    """
    What a file holds.

    Attributes:
        file (`str`): its name, without folders.
        rows (`list[dict]`): those of a table or of json; of a CoNLL file texts with `tokens` and `labels`.
        text (`str`, *optional*): that of a file that is none of these.
        seen (`list[str]`): what it was seen to be, in a few words each.
    """

    file: str
    rows: list[Row] = field(default_factory=list)
    text: str | None = None
    seen: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Task:
    """
    A task that a file is for.

    Attributes:
        name (`str`): a key of `recipes.TASKS`.
        columns (`dict[str, list[str]]`): the columns of each role.
        reason (`str`): what it was recognised by.
        spelt (`bool`): whether its pairs are lemmas and features, to be spelt.
        problem_type (`str`): what transformers calls a classification, which may be of several labels or by a number.
        label_separator (`str`): what stands between several labels that are no list.
    """

    name: str
    columns: dict[str, list[str]]
    reason: str
    spelt: bool = False
    problem_type: str = "single_label_classification"
    label_separator: str = ","


def read_content(file: str | Path, separator: str | None = None, header: bool | None = None) -> Content:
    """
    Read a csv, tsv, txt, CoNLL, json, jsonl or parquet file, compressed by gzip, bzip2, xz or zip or not.

    Args:
        file (`str` or `Path`): the file.
        separator (`str`, *optional*): what stands between the columns of a table, if that is known.
        header (`bool`, *optional*): whether the first row of a table names its columns, if that is known.

    Raises:
        OSError, ValueError: it cannot be read, is empty, or its rows differ in the number of columns.
    """
    path = Path(file)
    if path.is_dir():
        raise ValueError(f"{file} is a folder, and must be a file")
    data, compression = _decompress(path.read_bytes(), path.name)
    content = Content(path.name, seen=[compression] if compression else [])
    if data[:4] == b"PAR1":
        import pyarrow.parquet

        content.rows = pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
        content.seen.append("parquet")
    else:
        text, encoding = _decode(data)
        content.seen.append(encoding)
        if not text.strip():
            raise ValueError(f"{file} must hold text, got none")
        _read_text(content, text, separator, header)
    if content.text is None and not content.rows:
        raise ValueError(f"{file} must hold at least one row, got none")
    return content


def read_aligned(source_file: str | Path, target_file: str | Path) -> Content:
    """
    Read two texts, one with a source a line and one with the target of each.

    Raises:
        OSError, ValueError: one cannot be read, or they differ in the number of lines.
    """
    content = Content(f"{Path(source_file).name} and {Path(target_file).name}", seen=["a source and a target a line"])
    content.rows = [row for _, row in read_rows(str(source_file), str(target_file))]
    if not content.rows:
        raise ValueError(f"{content.file} must hold at least one line, got none")
    return content


def _decompress(data: bytes, name: str) -> tuple[bytes, str | None]:
    kinds: dict[bytes, tuple[str, Any]] = {
        b"\x1f\x8b": ("gzip", gzip.decompress),
        b"BZh": ("bzip2", bz2.decompress),
        b"\xfd7zXZ": ("xz", lzma.decompress),
        b"PK\x03\x04": ("zip", _unzip),
    }
    for magic, (kind, decompress) in kinds.items():
        if data.startswith(magic):
            try:
                return decompress(data), kind
            except (EOFError, OSError, lzma.LZMAError, zipfile.BadZipFile) as error:
                raise ValueError(f"{name} must be a whole {kind} file: {error}") from error
    return data, None


def _unzip(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [member for member in archive.namelist() if not member.endswith("/")]
        if len(members) != 1:
            raise ValueError(f"a zip file must hold one file, got {brief(members)}")
        return archive.read(members[0])


def _decode(data: bytes) -> tuple[str, str]:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16"), "UTF-16"
    try:
        return data.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError:
        from charset_normalizer import from_bytes  # comes with datasets

        best = from_bytes(data[: 2**20]).best()
        encoding = best.encoding if best is not None else "latin-1"
        return data.decode(encoding, errors="replace"), encoding.replace("_", "-")


def _read_text(content: Content, text: str, separator: str | None, header: bool | None) -> None:
    if text.lstrip()[0] in "[{" and (rows := _read_json(text)) is not None:
        content.rows = rows
        content.seen.append("json")
        return
    lines = text.splitlines()
    if separator is None and (texts := _read_conll(lines)):
        content.rows = texts
        content.seen.append(f"CoNLL, {len(texts):,} texts")
        return
    separator = separator or find_separator(lines)
    if separator is None:
        content.text = text
        content.seen.append(f"plain text, {len(lines):,} lines")
        return
    table = _split(content.file, lines, separator)
    columns = len(table[0])
    has_header = is_header(table[0], table[1:]) if header is None else header
    names = table.pop(0) if has_header else [f"column {number}" for number in range(1, columns + 1)]
    if len(set(names)) < len(names):
        raise ValueError(f"{content.file}: the columns must have different names, got {brief(names)}")
    content.rows = [dict(zip(names, values, strict=True)) for values in table]
    content.seen += [f"separated by {SEPARATORS.get(separator, repr(separator))}"]
    content.seen += [f"header: {', '.join(names)}" if has_header else "no header"]


def _read_json(text: str) -> list[Row] | None:
    """One list of objects, an object over many lines, or an object a line."""
    try:
        value = json.loads(text)
        rows = value if isinstance(value, list) else [value]
    except json.JSONDecodeError:
        try:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError:
            return None
    # SQuAD's file is one object
    if len(rows) == 1 and isinstance(rows[0], dict) and isinstance(rows[0].get("data"), list):
        rows = rows[0]["data"]
    return rows if all(isinstance(row, dict) for row in rows) else None


def _read_conll(lines: Sequence[str]) -> list[Row]:
    """Texts of a word and its labels a line with empty lines between them; nothing of another file."""
    some = lines[:_LOOKED_AT]
    filled = [line.split() for line in some if line.strip() and not line.startswith("# ")]
    empty = len([line for line in some if not line.strip()])
    columns = Counter(map(len, filled)).most_common(1)[0][0] if filled else 0
    if columns < 2 or empty < len(some) / 200 or not all(len(values) == columns for values in filled):
        return []
    is_universal = columns == 10 and filled[0][0].isdigit()
    word, label = (1, 3) if is_universal else (0, -1)
    if len({values[label] for values in filled}) > max(10, len(filled) / 3):
        return []
    texts: list[Row] = [{"tokens": [], "labels": []}]
    for line in lines:
        values = line.split()
        if not values:
            texts.append({"tokens": [], "labels": []})
        elif len(values) == columns and (not is_universal or values[0].isdigit()):
            texts[-1]["tokens"].append(values[word])
            texts[-1]["labels"].append(values[label])
    return [text for text in texts if text["tokens"]]


def find_separator(lines: Sequence[str]) -> str | None:
    """What separates the columns of a table, if these lines are one."""
    some = [line for line in lines[:_LOOKED_AT] if line.strip()]
    for separator in SEPARATORS:
        try:
            counts = Counter(len(values) for _, values in _rows_of(some, separator))
        except csv.Error:
            continue
        columns, regular = counts.most_common(1)[0]
        # that one line has a comma says nothing
        if columns > 1 and regular >= _REGULAR * counts.total() and (len(some) > 2 or separator == "\t"):
            return separator
    return None


def _rows_of(lines: Sequence[str], separator: str) -> Any:
    """Rows with the line on which each begins. Only commas and semicolons come with quotation marks."""
    if separator in (",", ";"):
        reader = csv.reader((line + "\n" for line in lines), delimiter=separator, strict=True)
        start = 1
        for values in reader:
            if values:
                yield start, values
            start = reader.line_num + 1
        return
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line.rstrip("\r\n").split(separator)


def _split(file: str, lines: Sequence[str], separator: str) -> list[list[str]]:
    table: list[list[str]] = []
    try:
        for number, values in _rows_of(lines, separator):
            if table and len(values) != len(table[0]):
                raise ValueError(
                    f"{file}, line {number}: there must be {len(table[0])} columns as in the first row, got "
                    f"{brief(values)}"
                )
            table.append([value.strip() for value in values])
    except csv.Error as error:
        raise ValueError(f"{file}: a quotation mark is not as in csv: {error}; as tsv it would mean nothing") from error
    return table


def is_header(first: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    """Whether the first row names the columns: by usual names, or because it is unlike what stands below it."""
    usual = OTHER_NAMES.union(*COLUMN_NAMES.values(), _MORE_NAMES)
    if sum(value.strip().lower() in usual for value in first) >= min(2, len(first)):
        return True
    for index, name in enumerate(first):
        column = [row[index] for row in others]
        if len(column) >= 10 and _is_number(column) and not _is_number([name]):
            return True
        # a label that occurs once, above others that occur often
        if name not in column and _looks_like_labels(column) and len(column) >= 20 * len(set(column)):
            return True
    return False


_MORE_NAMES = {"lemma", "form", "features", "ipa", "grapheme", "graphemes", "latin", "english", "german", "french"}
_MORE_NAMES |= {"en", "de", "fr", "es", "it", "ru", "zh", "ja", "ar", "original", "normalised", "normalized", "name"}


def _is_number(values: Sequence[str]) -> bool:
    return all(re.fullmatch(r"[+-]?\d+([.,]\d+)?", value) for value in values)


def _looks_like_labels(values: Sequence[Any]) -> bool:
    different = set(map(str, values))
    return len(different) <= min(_MOST_LABELS, len(values) / 5) and fmean(map(len, different)) <= 40


def find_task(content: Content) -> Task:
    """
    The task that a file is for, and the columns of each role.

    Raises:
        ValueError: it is for none.
    """
    if content.text is not None:
        return Task("language-model", {}, "running text")
    first = content.rows[0]
    if {"paragraphs", "qas"} & set(first) or {"question", "context"} <= set(first):
        return Task("question-answering", {}, "questions with contexts")
    lists = [
        name for name, value in first.items() if isinstance(value, list) and all(isinstance(v, str) for v in value)
    ]
    if len(lists) >= 2:
        tokens = next((name for name in lists if name.lower() in ("tokens", "words", "token")), lists[0])
        labels = next(name for name in lists if name != tokens)
        return Task("labelling", {"tokens": [tokens], "labels": [labels]}, "a label for each word")
    if isinstance(first.get("translation"), dict):
        source, target, *_ = (f"translation.{language}" for language in first["translation"])
        return Task("pairs", {"source": [source], "target": [target]}, "translations")
    names = [name for name, value in first.items() if isinstance(value, str | int | float)]
    columns = {name: ["" if row.get(name) is None else str(row[name]) for row in content.rows] for name in names}
    if len(lists) == 1 and names:
        text = next((name for name in names if name.lower() in COLUMN_NAMES["text"]), names[0])
        roles = {"text": [text], "label": lists}
        return Task(
            "classification", roles, "a list of labels for each text", problem_type="multi_label_classification"
        )
    if len(names) < 2:
        raise ValueError(
            f"{content.file}: there must be a column of sources and one of targets or labels, got {brief(list(first))}"
        )
    return (
        _inflection(columns)
        or _texts_of_several_labels(columns)
        or _labelled_texts(columns)
        or _rated_texts(columns)
        or _pairs(columns)
    )


def _inflection(columns: dict[str, list[str]]) -> Task | None:
    if len(columns) != 3:
        return None
    features = [name for name, values in columns.items() if all(map(_FEATURES.fullmatch, values))]
    features = [name for name in features if fmean(";" in value for value in columns[name]) > 0.5]
    if len(features) != 1:
        return None
    lemma, form = (name for name in columns if name != features[0])
    return Task("pairs", {"source": [lemma, features[0]], "target": [form]}, "lemmas, forms and features", spelt=True)


def _rated_texts(columns: dict[str, list[str]]) -> Task | None:
    numbers = [name for name, values in columns.items() if _is_graded(values)]
    texts = _text_columns([name for name in columns if name not in numbers and not _is_number(columns[name])])
    if not numbers or not texts:
        return None
    number = next((name for name in numbers if name.lower() in COLUMN_NAMES["label"]), numbers[0])
    roles = {"text": texts, "label": [number]}
    return Task("classification", roles, "a number for each text", problem_type="regression")


def _is_graded(values: Sequence[str]) -> bool:
    """Whether these are numbers with parts of a whole; whole ones may be classes, or what is to be written."""
    return _is_number(values) and any(float(value.replace(",", ".")) % 1 for value in values)


def _texts_of_several_labels(columns: dict[str, list[str]]) -> Task | None:
    for name, values in columns.items():
        for separator in (",", ";", "|"):
            of_texts = [[label.strip() for label in value.split(separator)] for value in values]
            labels = [label for of_text in of_texts for label in of_text]
            several = sum(len(of_text) > 1 for of_text in of_texts)
            # labels are combined in more ways than there are labels; a comma within the name of one is in few
            if several <= len(values) / 10 or len(set(values)) <= len(set(labels)) or not _looks_like_labels(labels):
                continue
            if texts := _text_columns([other for other in columns if other != name]):
                return Task(
                    "classification",
                    {"text": texts, "label": [name]},
                    f"{len(set(labels))} labels between {SEPARATORS[separator]}",
                    problem_type="multi_label_classification",
                    label_separator=separator,
                )
    return None


def _text_columns(names: Sequence[str]) -> list[str]:
    """Of the columns beside the label, that of the text, or the two of a pair."""
    texts = [name for name in names if name.lower() not in ("id", "idx", "index")]
    by_name = [name for name in texts if name.lower() in COLUMN_NAMES["text"] | OTHER_NAMES]
    return (by_name or texts)[:2] if len(texts) > 1 and len(by_name) != 1 else (by_name or texts)[:1]


def _labelled_texts(columns: dict[str, list[str]]) -> Task | None:
    names = [name for name in columns if not _is_graded(columns[name])]
    labels = [name for name in names if _looks_like_labels(columns[name])]
    named = [name for name in names if name.lower() in COLUMN_NAMES["label"]]
    texts = [name for name in names if name not in labels and name.lower() not in ("id", "idx", "index")]
    if not (named or (len(labels) == 1 and len(names) <= 3)) or not texts:
        return None
    label = next((name for name in named if name in labels), (labels or named)[0])
    chosen = _text_columns([name for name in texts if name != label])
    if not chosen:
        return None
    classes = len(set(columns[label]))
    return Task("classification", {"text": chosen, "label": [label]}, f"{classes} labels, each of many texts")


def _pairs(columns: dict[str, list[str]]) -> Task:
    names = [name for name in columns if name.lower() not in ("id", "idx", "index")]
    source, target = choose_columns(names, "the file", source=None, target=None)
    return Task("pairs", {"source": [source], "target": [target]}, "two different texts in each row")


def text_of(row: Row, column: str) -> str:
    """The text in a column, which may lie within another: translation.en."""
    value: Any = row
    for name in [column] if column in row else column.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return "" if value is None else unicodedata.normalize("NFC", str(value).strip())


def spell(text: str) -> str:
    """The characters of a text between spaces, as the recipe for inflection reads them."""
    return " ".join("␣" if character == " " else character for character in text)


def spell_lemma(lemma: str, features: str) -> str:
    """A lemma with its features: "gehen", "V;PST" as "g e h e n [V] [PST]"."""
    return " ".join([spell(lemma), *(f"[{feature}]" for feature in features.split(";"))])


def unspell(text: str) -> str:
    """The text that was spelt."""
    return text.replace(" ", "").replace("␣", " ")
