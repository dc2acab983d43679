"""The rows of a file as the script of its task reads them, and their splits."""

import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from ..data import brief, get_value, write_json_lines
from ..inspection import Content, Known, Row, decimal, text_of
from ..onnx.spelling import spell_lemma, spell_text
from ..tasks import Task, find_task

SPLITS = ("train", "validation", "test")
_PART, _MOST = 0.1, 2_000  # of the rows, for validation and for test each
_SEED = 42
_LARGEST = 3.4e38  # of single precision
_FEW = 3  # texts of a class, one for each split
_SHOWN = 10  # labels in a message
_OVERLAPS = (
    ("validation", "train", "are trained on too"),
    ("test", "train", "are trained on too"),
    ("test", "validation", "choose the best model too"),
)


class PlacedRow(dict[str, Any]):
    """A row that knows where it stands in the file of the user."""

    place: str = ""

    @classmethod
    def at(cls, place: str, values: Row) -> "PlacedRow":
        row = cls(values)
        row.place = place
        return row


def place_of(row: Row) -> str:
    """Where the user wrote a row, if it knows."""
    return row.place if isinstance(row, PlacedRow) else ""


@contextmanager
def told_of_the_file(rows: Mapping[str, Sequence[Row]], folder: Path) -> Iterator[None]:
    """Let what is said of a line of the splits that a folder has be said of the file that they were read from."""

    def place(match: re.Match[str]) -> str:
        return place_of(rows[match[1]][int(match[2]) - 1]) or match[0]

    try:
        yield
    except ValueError as error:
        written = rf"{re.escape(f'{folder}{os.sep}')}({'|'.join(rows)})\.jsonl, line (\d+)"
        if (told := re.sub(written, place, str(error))) == str(error):
            raise
        raise ValueError(told).with_traceback(error.__traceback__) from error


def column_names(content: Content) -> list[str]:
    return list(content.rows[0]) if content.rows else []


def known_of(task: Task, names: Sequence[str]) -> Known:
    """What a file of the same task as another one with these columns is known to be."""
    return Known(task.name, names, list(chain.from_iterable(task.columns.values())))


def suit_columns(task: Task, content: Content) -> Task:
    """
    A task as another file has it: of one that `attention-rnn train` has split itself, or by the places of the columns
    where the file of the training named none.
    """
    there = column_names(content)
    sources = [role for role in task.columns if role in ("source", "text", "tokens")]
    wanted = [column for role in sources for column in task.columns[role]]
    if not there or {column.split(".")[0] for column in wanted} <= set(there):
        if "label" in there and not set(task.columns.get("label", there)) & set(there):
            return replace(task, columns=task.columns | {"label": ["label"]})
        return task
    if not task.spelt and set(sources) <= set(there):
        pair = {"text": ["text", "text_pair"][: len(wanted)]} if sources == ["text"] else {}
        return replace(task, columns={role: [role] for role in task.columns} | pair)
    places = {f"column {number}": name for number, name in enumerate(there, start=1)}
    if set(chain.from_iterable(task.columns.values())) <= set(places):
        columns = {role: [places[column] for column in of_role] for role, of_role in task.columns.items()}
        return replace(task, columns=columns)
    return task


def suit_features(task: Task, content: Content) -> Task:
    """
    A task of lemmas and features as a file has it whose columns are in another order, which their names tell, or where
    the features stand.

    Raises:
        ValueError: there are numbers in the place of features.
    """
    if not task.spelt:
        return task
    try:
        found = find_task(content)
    except ValueError:
        return task
    is_elsewhere = found.spelt and found.columns["source"][1] != task.columns["source"][1]
    is_named = found.spelt and found.columns["source"][0].lower() == "lemma"
    if is_elsewhere or is_named:
        return replace(task, columns=found.columns)
    column = task.columns["source"][1]
    numbers = [str(row[column]) for row in content.rows if str(row.get(column, "")).strip().isdecimal()]
    if numbers and len(numbers) == len(content.rows):
        raise ValueError(
            f"{content.file}: column {column!r} must hold features, such as V;PST, got {numbers[0]!r}; --columns names "
            "those of the lemma, the features and the form"
        )
    return task


def rows_of(content: Content, task: Task, is_labelled: bool = True) -> Iterator[Row]:
    """
    The rows as the script of the task reads them; without targets and labels where these are to be predicted.

    Raises:
        ValueError: a row lacks a column of the task, or something else stands there; with its place.
    """
    columns = task.columns
    if task.name == "language-model":
        yield {"text": content.text}
    elif task.name == "question-answering":
        from ..question_answering import read_examples

        for example in read_examples(content, may_be_empty=not is_labelled):
            yield {name: example[name] for name in ("id", "question", "context", "answers")}
    elif task.name == "labelling":
        from ..labelling import get_labelled_words, get_words

        for place, row in content:
            (tokens,) = columns["tokens"]
            if not is_labelled:
                yield {"tokens": get_words(row, tokens, place)}
                continue
            (labels,) = columns["labels"]
            if isinstance(row.get(labels), list):  # which may be of ids
                row = row | {labels: [str(label) if isinstance(label, int) else label for label in row[labels]]}
            words = get_labelled_words(row, tokens, labels, place)
            others = {"intent": row["intent"]} if has_intent(row) else {}
            yield PlacedRow.at(place, {"tokens": words["tokens"], "labels": words["labels"]} | others)
    elif task.name == "classification":
        names = ["text", "text_pair"][: len(columns["text"])]
        for place, row in content:
            texts = {name: text_of(row, column, place) for name, column in zip(names, columns["text"], strict=True)}
            yield PlacedRow.at(place, texts | ({"label": _label_of(row, task, place)} if is_labelled else {}))
    else:
        for place, row in content:
            yield PlacedRow.at(place, _pair_of(row, task, place, is_labelled))


def _pair_of(row: Row, task: Task, place: str, is_labelled: bool) -> Row:
    sources = [text_of(row, column, place) for column in task.columns["source"]]
    pair = {"source": " ".join(sources)}
    if task.spelt:
        if len(sources[1].split()) > 1:
            column, told = task.columns["source"][1], brief(sources[1])
            raise ValueError(f"{place}: column {column!r} must hold features, such as V;PST, got {told}")
        pair["source"] = spell_lemma(*sources) if all(sources) else ""  # which is left out
    if is_labelled:
        target = text_of(row, task.columns["target"][0], place)
        pair["target"] = spell_text(target) if task.spelt else target
    return pair


def has_intent(row: Row) -> bool:
    """Whether a text with labelled words has an intent too."""
    return isinstance(row.get("intent"), str) and bool(row["intent"].strip())


def settle_intents(splits: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The rows without their intents where some have none, which is told."""
    rows = list(chain.from_iterable(splits.values()))
    number = sum(map(has_intent, rows))
    if number in (0, len(rows)):
        return splits
    print(f"the intents are left out: {len(rows) - number:,} of {len(rows):,} texts have none")
    return {name: [_without_intent(row) for row in of_split] for name, of_split in splits.items()}


def _without_intent(row: Row) -> Row:
    values = {column: value for column, value in row.items() if column != "intent"}
    return PlacedRow.at(place_of(row), values)


def _label_of(row: Row, task: Task, place: str) -> Any:
    (column,) = task.columns["label"]
    if task.problem_type == "multi_label_classification":
        label = get_value(row, column, place)
        labels = label if isinstance(label, list) else text_of(row, column, place).split(task.label_separator)
        there = [label for label in labels if label is not None and label == label]
        return [label for label in there if not isinstance(label, str) or label.strip()]
    label = text_of(row, column, place)
    if task.problem_type != "regression":
        return label
    if not label or label.lower() == "nan":
        return ""
    number = decimal(label, task.thousands)
    with suppress(ValueError):
        if abs(float(number)) <= _LARGEST:
            return number
    raise ValueError(f"{place}: column {column!r} must hold a finite number of single precision, got {brief(label)}")


def split_rows(rows: dict[str, list[Row]], task: Task) -> dict[str, list[Row]]:
    """
    The rows of train, validation and test: what no file was given for is taken from that of train, so that no source
    is in two splits, and each has its share of each class. The split of a file is always the same, so that models of
    several seeds have one vocabulary, and none is tested on what another one has read. What is left out, lacks a class,
    or is in two of the files that were given, is told.
    """
    missing = [split for split in ("validation", "test") if split not in rows]
    if task.name == "language-model":
        text = rows["train"][0]["text"]
        cuts = [len(text)]
        for _ in missing:
            cuts.insert(0, text.rfind("\n", 0, cuts[0] - int(len(text) * _PART / 2)) + 1 or cuts[0] * 9 // 10)
        rows = rows | {split: [{"text": text[a:b]}] for split, a, b in zip(missing, cuts, cuts[1:], strict=False)}
        return rows | {"train": [{"text": text[: cuts[0]]}]}

    names: tuple[str, ...] = ("source", "text", "text_pair", "tokens", "context")
    if task.name == "question-answering" and len({row["context"] for row in rows["train"]}) < 10:
        names = ("context", "question")

    def key(row: Row) -> str:
        return json.dumps([row[name] for name in names if name in row] or row, ensure_ascii=False)

    if not any(str(value).strip() for row in rows["train"] for name, value in row.items() if name in names):
        raise ValueError("every row is empty where there should be a text")
    rows = {name: with_labels(of_split, task, name) for name, of_split in rows.items()}
    by_source: dict[str, list[Row]] = {}
    for row in rows["train"]:
        by_source.setdefault(key(row), []).append(row)
    if missing and len(by_source) < 10:
        raise ValueError(f"there must be at least 10 different sources to split, got {len(by_source)}")
    is_of_texts = task.name == "classification"
    has_classes = not is_of_texts or task.problem_type == "single_label_classification"
    name_of_class = ("label" if is_of_texts else "intent") if has_classes else ""
    drawn = _draw(by_source, len(missing), name_of_class) if missing else []
    held_out = set(chain.from_iterable(drawn))
    split = {
        name: [row for source in of_split for row in by_source[source]]
        for name, of_split in zip(missing, drawn, strict=True)
    }
    rows |= split | {"train": [row for row in rows["train"] if key(row) not in held_out]}
    trained, tested = ({str(row.get(name_of_class, "")) for row in rows[name]} for name in ("train", "test"))
    if unseen := sorted(trained - tested):
        print(f"the test has no {name_of_class} {_some(unseen)}")
    keys = {name: [key(row) for row in of_split] for name, of_split in rows.items()}
    for name, other, what in _OVERLAPS:
        known = set(keys[other])
        if shared := sum(source in known for source in keys[name]):
            print(
                f"{shared:,} of {len(rows[name]):,} texts of {name} {what}: what it scores on them flatters the model"
            )
    return rows


def with_labels(rows: list[Row], task: Task, what: str) -> list[Row]:
    """
    The rows but those whose label is missing, of which there are none where a text may have any number of labels, and
    but pairs of which one side is empty. How many are left out is told.

    Raises:
        ValueError: all of them are.
    """
    if task.name == "pairs":
        lacking, kept = "source or no target", [row for row in rows if row["source"].strip() and row["target"].strip()]
    elif task.name == "classification" and task.problem_type != "multi_label_classification":
        lacking, kept = "label", [row for row in rows if row["label"]]
    else:
        return rows
    if not kept:
        raise ValueError(f"the rows of {what} must have what is needed, got {len(rows):,} rows with no {lacking}")
    if left_out := len(rows) - len(kept):
        print(f"{left_out:,} of {len(rows):,} rows of {what} have no {lacking} and are left out")
    return kept


def _draw(by_source: dict[str, list[Row]], parts: int, name_of_class: str) -> list[list[str]]:
    """
    The sources of some parts of the data, of which each has its share of each class. A class of one or two sources is
    in none of them.
    """
    sources = list(by_source)
    random.Random(_SEED).shuffle(sources)
    counts = Counter(row.get(name_of_class) for rows in by_source.values() for row in rows)
    by_class: dict[Any, list[str]] = {}
    for source in sources:
        rarest = min((row.get(name_of_class) for row in by_source[source]), key=counts.__getitem__)
        by_class.setdefault(rarest, []).append(source)
    large = [of_class for of_class in by_class.values() if len(of_class) >= _FEW]
    if not large:
        raise ValueError(
            f"there must be {_FEW} texts of a {name_of_class} to split, and no {name_of_class} has more than "
            f"{max(map(len, by_class.values()))}; --validation and --test name files of their own"
        )
    if rare := sorted(str(label) for label, of_class in by_class.items() if len(of_class) < _FEW):
        print(f"there are fewer than {_FEW} texts for the {name_of_class} {_some(rare)}: all of them are trained on")
    number = min(max(1, round(len(sources) * _PART)), _MOST)
    share = number / sum(map(len, large))
    drawn: list[set[str]] = [set() for _ in range(parts)]
    seen = 0
    for of_class in large:
        # what one class has too little by rounding the next one has too much
        quota = int((seen + len(of_class)) * share + 0.5) - int(seen * share + 0.5)
        seen += len(of_class)
        quota = min(max(quota, len(large) <= number), (len(of_class) - 1) // parts)
        for index, part in enumerate(drawn):
            part.update(of_class[index * quota : (index + 1) * quota])
    return [[source for source in sources if source in part] for part in drawn]


def _some(labels: Sequence[str]) -> str:
    return ", ".join(map(repr, labels[:_SHOWN])) + (
        f" and {len(labels) - _SHOWN:,} more" if len(labels) > _SHOWN else ""
    )


def write_splits(folder: Path, task: Task, rows: dict[str, list[Row]]) -> dict[str, Any]:
    """The files of the splits, as arguments of the script."""
    folder.mkdir(parents=True, exist_ok=True)
    is_text = task.name == "language-model"
    arguments: dict[str, Any] = {}
    for split, of_split in rows.items():
        file = folder / f"{split}.{'txt' if is_text else 'jsonl'}"
        if is_text:
            file.write_text("".join(row["text"] for row in of_split), encoding="utf-8", newline="\n")
        else:
            write_json_lines(file, of_split)
        arguments[f"{split}_file"] = str(file)
    if task.name == "pairs":
        arguments |= {"source_column": "source", "target_column": "target"}
    elif task.name == "labelling" and "train" in rows:
        labels = {split: {label for row in of_split for label in row["labels"]} for split, of_split in rows.items()}
        if unseen := sorted(set().union(*labels.values()) - labels["train"]):
            arguments |= {"extra_labels": unseen}
    elif task.name == "classification":
        arguments |= {"text_columns": [name for name in ("text", "text_pair") if name in next(iter(rows.values()))[0]]}
        arguments["label_column"] = "label"
    return arguments
