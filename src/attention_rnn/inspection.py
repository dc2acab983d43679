"""Finds out what a file of one's own holds: its format, encoding, columns and header, and the task that it is for."""

import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from .conll import is_conll, read_conll
from .data import (
    COLUMN_NAMES,
    OTHER_NAMES,
    brief,
    choose_columns,
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
_MOST_LABELS = 100
# the features of a form, as UniMorph writes them: V;IND;PRS;3;SG
FEATURES = re.compile(r"[A-Z0-9][\w./+{}-]*(;[\w./+{}()-]+)*")


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
    """

    file: str
    rows: list[Row] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    text: str | None = None
    seen: list[str] = field(default_factory=list)

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
        names (`Sequence[str]`): all columns, in their order. Where the file has as many and no header, they are these.
        wanted (`Sequence[str]`): those that are going to be read. A first row with all of them is a header.
    """

    task: str | None = None
    names: Sequence[str] = ()
    wanted: Sequence[str] = ()


_NOTHING = Known()


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


def read_content(
    file: str | Path,
    separator: str | None = None,
    header: bool | None = None,
    encoding: str | None = None,
    known: Known = _NOTHING,
) -> Content:
    """
    Read a csv, tsv, txt, CoNLL, json, jsonl or parquet file, compressed by gzip, bzip2, xz or zip or not.

    Args:
        file (`str` or `Path`): the file.
        separator (`str`, *optional*): what stands between the columns of a table, if that is known.
        header (`bool`, *optional*): whether the first row of a table names its columns, if that is known.
        encoding (`str`, *optional*): as Python names it; UTF-8 if omitted, or UTF-16 by its byte order mark.
        known (`Known`, *optional*): what is known of the file before it is read.

    Raises:
        OSError, ValueError: it cannot be read, is empty, or its rows differ in the number of columns.
    """
    path, file = Path(file), str(file)
    if path.is_dir():
        raise ValueError(f"{file} is a folder, and must be a file")
    content = Content(path.name, seen=[kind] if (kind := compression_of(file)) else [])
    if first_bytes(file, 4) == b"PAR1":
        content.seen.append("parquet")
        content.add((f"{file}, row {number}", row) for number, row in enumerate(_read_parquet(file), start=1))
    else:
        encoding = encoding or encoding_of(file)
        content.seen.append(encoding.upper())
        _read_text(content, file, read_text_lines(file, encoding), separator, header, known)
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
    content.add(read_rows(str(source_file), str(target_file)))
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
        return list(read_lines(file, encoding))
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


def _read_parquet(file: str) -> list[Row]:
    import pyarrow.parquet

    with open_file(file) as stream:
        return pyarrow.parquet.read_table(io.BytesIO(stream.read())).to_pylist()


def _read_text(
    content: Content, file: str, lines: list[str], separator: str | None, header: bool | None, known: Known
) -> None:
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise ValueError(f"{file} must hold text, got none")
    ending = extension(file)
    if known.task == "language-model":
        separator = None
    elif (rows := _read_json(file, lines, first)) is not None:
        content.add(rows)
        content.seen.append("json")
        return
    elif separator is None and (known.task == "labelling" or is_conll(lines[:_LOOKED_AT])):
        content.add(read_conll(file, lines=lines))
        content.seen.append(f"CoNLL, {len(content.rows):,} texts")
        return
    else:
        of_name = {"csv": ",", "tsv": "\t"}.get(ending) if known.task else None
        separator = separator or find_separator(lines) or of_name
    if separator is None:
        content.text = "".join(lines).replace("\r\n", "\n")
        content.seen.append(f"plain text, {len(lines):,} lines")
        return
    table = [values for _, values in split_columns(lines, file, separator)]
    names, has_header = _find_names(table, header, known)
    content.add(read_rows(file, file_format="csv", column_names=names, separator=separator, lines=lines))
    content.seen += [f"separated by {SEPARATORS.get(separator, repr(separator))}"]
    content.seen += [f"header: {', '.join(names)}" if has_header else "no header"]


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


def find_separator(lines: Sequence[str]) -> str | None:
    """What separates the columns of a table, if these lines are one."""
    some = lines[:_LOOKED_AT]
    for separator in SEPARATORS:
        try:
            counts = Counter(len(values) for _, values in split_columns(some, "", separator))
        except ValueError:
            continue
        columns, regular = counts.most_common(1)[0]
        # that one line has a comma says nothing
        if columns > 1 and regular >= _REGULAR * counts.total() and (counts.total() > 2 or separator == "\t"):
            return separator
    return None


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
        if len(names) == len(first):
            return list(names), False
    return [f"column {number}" for number in range(1, len(first) + 1)], False


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


_TOKENS = ("tokens", "words", "token")
_MORE_NAMES = {"lemma", "form", "features", "ipa", "grapheme", "graphemes", "latin", "english", "german", "french"}
_MORE_NAMES |= {"en", "de", "fr", "es", "it", "ru", "zh", "ja", "ar", "original", "normalised", "normalized", "name"}


def _is_number(values: Sequence[str]) -> bool:
    return all(re.fullmatch(r"[+-]?\d+([.,]\d+)?", value) for value in values)


def _looks_like_labels(values: Sequence[Any]) -> bool:
    different = set(map(str, values))
    return bool(different) and len(different) <= min(_MOST_LABELS, len(values) / 5) and fmean(map(len, different)) <= 40


def find_task(content: Content) -> Task:
    """
    The task that a file is for, and the columns of each role.

    Raises:
        ValueError: it is for none.
    """
    if content.text is not None:
        return Task("language-model", {}, "running text")
    # of each column the first value that there is
    first: Row = {}
    for name, value in chain.from_iterable(row.items() for row in content.rows):
        if first.get(name) in (None, "", []):
            first[name] = value
    if {"paragraphs", "qas"} & set(first) or {"question", "context"} <= set(first):
        return Task("question-answering", {}, "questions with contexts")
    if isinstance(first.get("translation"), dict) and len(first["translation"]) >= 2:
        source, target, *_ = (f"translation.{language}" for language in first["translation"])
        return Task("pairs", {"source": [source], "target": [target]}, "translations")
    names = [name for name, value in first.items() if isinstance(value, str | int | float)]
    columns = {
        name: ["" if row.get(name) is None else str(row[name]).strip() for row in content.rows] for name in names
    }
    lists = [name for name, value in first.items() if isinstance(value, list) and _are_labels(value)]
    if lists:
        return _labelled_words(content, lists) or _listed_labels(content, lists, names)
    varied = {name: values for name, values in columns.items() if len(set(values)) > 1}
    columns = varied if len(varied) >= 2 else columns
    if len(columns) < 2:
        raise ValueError(
            f"{content.file}: there must be a column of sources and one of targets or labels, got {brief(list(first))}"
        )
    return (
        _named_pairs(columns)
        or _inflection(columns)
        or _texts_of_several_labels(columns)
        or _labelled_texts(columns)
        or _rated_texts(columns)
        or _pairs(columns)
    )


def _are_labels(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str | int) for value in values)


def _labelled_words(content: Content, lists: Sequence[str]) -> Task | None:
    def lengths(name: str) -> list[int]:
        return [len(row[name]) if isinstance(row.get(name), list) else 0 for row in content.rows]

    named = [name for name in lists if name.lower() in _TOKENS]
    tokens = (named or lists)[0]
    labels = [name for name in lists if name != tokens]
    labels = [name for name in labels if lengths(name) == lengths(tokens)] or (labels if not named else [])
    if labels:
        return Task("labelling", {"tokens": [tokens], "labels": labels[:1]}, "a label for each word")
    if named:
        raise ValueError(f"{content.file}: there must be a list of labels as long as that in {tokens!r} in each row")
    return None


def _listed_labels(content: Content, lists: Sequence[str], names: Sequence[str]) -> Task:
    if not (texts := _text_columns(names)):
        raise ValueError(f"{content.file}: there must be a text beside the labels in {lists[0]!r}, got {brief(names)}")
    roles = {"text": texts[:1], "label": [lists[0]]}
    return Task("classification", roles, "a list of labels for each text", problem_type="multi_label_classification")


def _named_pairs(columns: dict[str, list[str]]) -> Task | None:
    """Pairs by the names of their columns alone, which no statistics contradict."""
    by_role = {
        role: [name for name in columns if name.lower() in COLUMN_NAMES[role]] for role in ("source", "target", "label")
    }
    if not by_role["source"] or not by_role["target"] or by_role["label"]:
        return None
    roles = {role: by_role[role][:1] for role in ("source", "target")}
    return Task("pairs", roles, f"columns called {roles['source'][0]} and {roles['target'][0]}")


def _inflection(columns: dict[str, list[str]]) -> Task | None:
    if len(columns) != 3:
        return None
    features = [name for name, values in columns.items() if all(map(FEATURES.fullmatch, values))]
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
        if _is_number(values):  # whose comma is that of 3,5
            continue
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


def text_of(row: Row, column: str, place: str) -> str:
    """
    The text in a column, see `data.get_text`; a number is written out.

    Raises:
        ValueError: there is no such column, or a list or an object in it.
    """
    value = get_value(row, column, place)
    return get_text({column: str(value) if isinstance(value, int | float) else value}, column, place)


def spell(text: str) -> str:
    """The characters of a text between spaces, as the recipe for inflection reads them."""
    return " ".join("␣" if character == " " else character for character in text)


def spell_lemma(lemma: str, features: str) -> str:
    """A lemma with its features: "gehen", "V;PST" as "g e h e n [V] [PST]"."""
    return " ".join([spell(lemma), *(f"[{feature}]" for feature in features.split(";"))])


def unspell(text: str) -> str:
    """The text that was spelt."""
    return text.replace(" ", "").replace("␣", " ")
