"""What the commands that use a model read of a file: a text a line, or the columns of the training."""

import argparse
import codecs
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from ..conll import is_conll
from ..data import FORMATS, brief, choose_columns, extension, first_bytes, read_lines, split_columns
from ..inspection import SEPARATORS, Content, Known, Row, find_separator, is_prose, read_content, read_text_lines
from ..tasks import Task
from .models import Model, Source, read_settings
from .rows import known_of, rows_of, suit_columns
from .train import name_of_column

_LOOKED_AT = 1_000  # lines, to tell a table from texts
_TOLD = 3  # faults of a file


@dataclass
class Texts:
    """
    What a model is to read of a file.

    Attributes:
        file (`str`): its name.
        sources (`list[str | tuple[str, str] | list[str]]`): that of each line or row, as `Model.answers` takes it.
        places (`list[str]`): where each stands, for messages.
        others (`list[dict]`): of each row of a table the columns that are not in its source; none of texts.
        faults (`dict[int, str]`): what is wrong with those that cannot be read, by their index.
        columns (`list[str]`): those that are read; none of texts.
        separator (`str`, *optional*): what stands between the columns of a table.
    """

    file: str
    sources: list[Source] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    others: list[Row] = field(default_factory=list)
    faults: dict[int, str] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    separator: str | None = None

    @property
    def readable(self) -> list[Source]:
        """The sources, with an empty text in place of each that cannot be read."""
        return ["" if index in self.faults else source for index, source in enumerate(self.sources)]

    @property
    def has_mark(self) -> bool:
        """Whether the file begins with a byte order mark."""
        return first_bytes(self.file, 3).startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))

    def fault(self, index: int) -> str:
        """What is wrong there, with the place within the file."""
        return f"{self.places[index].removeprefix(f'{self.file}, ')}: {self.faults[index]}"

    def tell_faults(self) -> str:
        """How many cannot be read, and what is wrong with the first of them."""
        told = "; ".join(map(self.fault, sorted(self.faults)[:_TOLD]))
        others = f"; and {len(self.faults) - _TOLD:,} others" if len(self.faults) > _TOLD else ""
        what = "rows" if self.columns else "lines"
        return f"{len(self.faults):,} of {len(self.sources):,} {what} could not be read: {told}{others}"


def read_texts(model: Model, options: argparse.Namespace) -> Texts:
    """
    Read a file for a model.

    Args:
        model (`Model`): the model.
        options (`Namespace`): `file` and what `add_reading_arguments` adds.

    Raises:
        ValueError: it cannot be read, or nothing in it, with the place.
    """
    if is_of_lines(model, options):
        lines = [line.rstrip("\r\n") for line in read_text_lines(options.file, options.encoding)]
        places = [f"{options.file}, line {number}" for number in range(1, len(lines) + 1)]
        texts = Texts(options.file, list(lines), places)
    else:
        texts = _read_table(model, options)
    for index, source in enumerate(texts.sources):
        if isinstance(source, str) and source.strip() and index not in texts.faults:
            try:
                model.source(source)
            except ValueError as error:
                texts.faults[index] = str(error)
    is_empty = (not any(part.strip() for part in source) for source in texts.sources)
    if texts.faults and all(empty or index in texts.faults for index, empty in enumerate(is_empty)):
        index = min(texts.faults)
        more = "; --columns names others" if texts.columns else ""
        raise ValueError(f"{texts.places[index]}: {texts.faults[index]}{more}")
    return texts


def is_of_lines(model: Model, options: argparse.Namespace) -> bool:
    """
    Whether each line of a file is a text, which is told by its first lines: a table under any name, as the model was
    trained on one, is none. Says so where commas or semicolons leave both possible.
    """
    says_otherwise = options.columns or options.separator or options.header is not None
    if says_otherwise or extension(options.file) in (*FORMATS, "parquet"):
        return False
    try:
        lines = list(islice(read_lines(options.file, options.encoding), _LOOKED_AT))
    except ValueError:
        return True  # whoever reads the texts says what is wrong with them
    if model.task == "token-classification" and is_conll(lines):
        return False
    filled = [line.rstrip("\r\n") for line in lines if line.strip()]
    if not filled or model.data_task is None or model.task == "text-generation":
        return True
    if _is_object(filled[0]):
        return False
    separator = None if model.task == "token-classification" else separator_of(filled)
    if separator is None:
        return True
    rows = [line.split(separator) for line in filled]
    wanted = read_columns(model.data_task) or ["question", "context"]
    if set(wanted) <= {value.strip() for value in rows[0]}:
        return False
    width = Counter(len(row) for row in rows if len(row) > 1).most_common(1)[0][0]
    if separator in (",", ";"):  # which sentences have as well
        if width == len(read_settings(model.folder).get("names", ())) and len(filled) > 2 and not is_prose(filled):
            told = (
                f"each line of {options.file} is read as one text; --separator {separator!r} would read {width} columns"
            )
            print(told, file=sys.stderr)
        return True
    # what is typed has a tab itself
    return separator == "\t" and (model.reads_two or model.is_spelt) and width <= 2


def separator_of(lines: Sequence[str]) -> str | None:
    """What separates the columns of a table, of which some lines may have a fault."""
    has_tabs = 2 * sum("\t" in line for line in lines) > len(lines)
    return "\t" if has_tabs else find_separator(lines, 1)


def read_columns(task: Task) -> list[str]:
    """The columns of the sources of a task."""
    return [column for role in ("source", "text", "tokens") for column in task.columns.get(role, ())]


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _read_table(model: Model, options: argparse.Namespace) -> Texts:
    task = None if options.columns or model.task == "text-generation" else model.data_task
    if task is None:
        labels_words = model.task == "token-classification"
        known = Known("labelling" if labels_words else "pairs", wanted=options.columns or ())
    else:
        names = read_settings(model.folder).get("names", ())
        known = known_of(task, names)._replace(wanted=read_columns(task))
    texts = Texts(options.file, separator=options.separator)
    lines, irregular = None, dict[str, tuple[str, str]]()
    if extension(options.file) not in ("json", "jsonl") and first_bytes(options.file, 4) != b"PAR1":
        lines = read_text_lines(options.file, options.encoding)
        texts.separator = texts.separator or (
            None if known.task == "labelling" else _separator_of_table(options.file, lines)
        )
        if texts.separator is not None:
            lines, irregular = set_aside_irregular(lines, options.file, texts.separator)
    content = read_content(options.file, texts.separator, options.header, options.encoding, known, lines)
    if content.text is not None:
        raise ValueError(f"{options.file} must hold columns, got plain text")
    task = suit_columns(task, content) if task else task_of_columns(model, content, options.columns)
    if task.name == "question-answering":
        _add_questions(texts, content, task)
        return texts
    texts.columns = read_columns(task)
    # several that are joined cannot be found again in the source
    in_source = set(texts.columns) if len(texts.columns) == 1 or model.reads_two else set()
    task = replace(task, spelt=False)  # the model spells what it reads
    for index, (place, row) in enumerate(content):
        source: Source = ""
        if place in irregular:
            (source, texts.faults[index]), row = irregular[place], {}
        else:
            try:
                values = tuple(next(rows_of(Content(content.file, [row], [place]), task, is_labelled=False)).values())
                source = values if len(values) > 1 else values[0]
            except ValueError as error:
                texts.faults[index] = str(error).removeprefix(f"{place}: ")
                source = brief(row.get(texts.columns[0], ""))
        texts.sources.append(source)
        texts.places.append(place)
        texts.others.append({name: value for name, value in row.items() if name not in in_source})
    return texts


def _add_questions(texts: Texts, content: Content, task: Task) -> None:
    texts.columns = ["context", "question"]
    examples = list(rows_of(content, task, is_labelled=False))
    texts.sources = [(example["context"], example["question"]) for example in examples]
    if all("question" in row for row in content.rows):
        texts.places = content.places
        texts.others = [{name: row[name] for name in row if name not in texts.columns} for row in content.rows]
    else:
        texts.places = [f"{texts.file}, question {example['id']}" for example in examples]
        texts.others = [{"id": example["id"]} for example in examples]


def _separator_of_table(file: str, lines: Sequence[str]) -> str | None:
    """What separates the columns of a file that is no text a line, nor rows of JSON."""
    if extension(file) == "tsv":
        return "\t"
    first = next((line for line in lines if line.strip()), "")
    if extension(file) == "csv":
        most = max(SEPARATORS, key=first.count)
        return find_separator(lines[:_LOOKED_AT], 1, is_csv=True) or (most if most in first else None)
    return None if first.lstrip()[:1] in ("[", "{") else separator_of(lines[:_LOOKED_AT])


def set_aside_irregular(
    lines: Sequence[str], file: str, separator: str
) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """
    Let a row that has not as many values as most rows not end the reading of a table.

    Args:
        lines (`Sequence[str]`), file (`str`), separator (`str`): as of `data.split_columns`.

    Returns:
        `tuple[list[str], dict[str, tuple[str, str]]]`: the lines, with empty values in such a row, and by the place of
        each what stands there and what is wrong with it.

    Raises:
        ValueError: quotation marks join rows, or are not as in csv.
    """
    lines = list(lines)
    rows = list(split_columns(lines, file, separator))
    width = Counter(len(values) for _, values in rows).most_common(1)[0][0] if rows else 0
    ends = [*(number for number, _ in rows[1:]), len(lines) + 1]
    found = {}
    for (number, values), end in list(zip(rows, ends, strict=True))[1:]:  # the first one may name the columns
        if len(values) != width > 1:
            raw = "".join(lines[number - 1 : end - 1]).strip("\r\n")
            fault = f"there must be {width} values as in most rows, got {brief(values)}"
            found[f"{file}, line {number}"] = raw, fault
            lines[number - 1 : end - 1] = [separator * (width - 1) + "\n", *["\n"] * (end - number - 1)]
    return lines, found


def task_of_columns(model: Model, content: Content, columns: Sequence[str] | None) -> Task:
    """What is to be read of a file for a model of which nothing tells its columns: those named, or usual ones."""
    name, role = {
        "text2text-generation": ("pairs", "source"),
        "token-classification": ("labelling", "tokens"),
        "question-answering": ("question-answering", ""),
    }.get(model.task, ("classification", "text"))
    if name == "labelling" and not columns:
        columns = [name for name, value in content.rows[0].items() if isinstance(value, list)][:1]
    elif name != "question-answering" and not columns:
        columns = choose_columns(content.rows[0], content.places[0], **{role: None})
    return Task(name, {role: [name_of_column(column, content) for column in columns or ()]}, "")
