"""Finds out which task a file of one's own is for, and the columns of each role."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from statistics import fmean
from typing import Any

from .data import COLUMN_NAMES, OTHER_NAMES, brief, choose_columns, get_value
from .inspection import SEPARATORS, UNTOLD, Content, Row, decimal, is_number, looks_like_labels, thousands_of
from .onnx.spelling import FEATURES

_TOKENS = ("tokens", "words", "token")
# a date, with or without its day, and the time of the day behind it
_STAMP = re.compile(r"(\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2}[-/.](\d\d|\d{4}))([ T]\d.*)?")
# what columns are called that number the rows, or say whose they are; pandas gives its index the last names
_IDENTIFIER = re.compile(
    r"(.*[_\-. ])?(id|idx|index|uuid|guid|nr|no|number)|unnamed: 0|__index_level_0__|", re.IGNORECASE
)
_CAMEL_IDENTIFIER = re.compile(r".*[a-z](Id|ID)")
_ALMOST_ALL = 0.95
_MISSING = object()
_RECORDING = re.compile(r"\S\.(wav|flac|mp3|ogg|opus|m4a)$", re.IGNORECASE)
# of the tasks whose columns the user may name: those before the last one, and that
ROLES = {"pairs": ("source", "target"), "classification": ("text", "label"), "labelling": ("tokens", "labels")}


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
        thousands (`str`): what stands between the thousands of a number, if anything.
    """

    name: str
    columns: dict[str, list[str]]
    reason: str
    spelt: bool = False
    problem_type: str = "single_label_classification"
    label_separator: str = ","
    thousands: str = ""


def find_task(content: Content, are_named: bool = False) -> Task:
    """
    The task that a file is for, and the columns of each role.

    Args:
        content (`Content`): the file.
        are_named (`bool`, *optional*): whether the user has named its columns, of which none is left out then.

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
    if {"paragraphs", "qas"} & set(first) or (not are_named and _asks(content, first)):
        return Task("question-answering", {}, "questions with contexts")
    if isinstance(first.get("translation"), dict) and len(first["translation"]) >= 2:
        source, target, *_ = (f"translation.{language}" for language in first["translation"])
        return Task("pairs", {"source": [source], "target": [target]}, "translations")
    names = [name for name, value in first.items() if isinstance(value, str | int | float)]
    columns = {name: _values(content, name) for name in names}
    filled = {name: values for name, values in columns.items() if values}
    if first and not filled and all(value in (None, "", []) for value in first.values()):
        raise ValueError(f"{content.file}: every row is empty where there should be a text")
    lists = [name for name, value in first.items() if isinstance(value, list) and _are_labels(value)]
    if lists:
        return _labelled_words(content, lists) or _listed_labels(content, lists, filled)
    if inflection := _inflection(columns):
        return inflection
    varied = {name: values for name, values in filled.items() if len(set(values)) > 1}
    columns = varied if len(varied) >= 2 else filled
    columns = columns if are_named else without_identifiers(columns)
    if inflection := _inflection(columns):  # beside numbers of rows
        return inflection
    if len(columns) < 2:
        empty = [name for name, value in first.items() if value in (None, "")]
        raise ValueError(
            f"{content.file}: there must be a column of sources and one of targets or labels, got {brief(list(first))}"
            + (f", of which {brief(empty)} are empty" if empty else "")
            + "; --columns names them"
        )
    return (
        _named_pairs(columns)
        or _texts_of_several_labels(content, columns)
        or _labelled_texts(columns)
        or _rated_texts(content, columns)
        or _pairs(columns)
    )


def find_task_called(content: Content, name: str) -> Task:
    """
    The columns of a task, `pairs` or `classification`, in a file that may look like one for another task.

    Raises:
        ValueError: there are no two columns of text.
    """
    with suppress(ValueError):
        if (found := find_task(content)).name == name:
            return found
    columns = {column: values for column in content.rows[0] if (values := _values(content, column))}
    of_text = {column: columns[column] for column in columns if not isinstance(content.rows[0][column], list | dict)}
    if len(of_text) < 2:
        raise ValueError(f"--task {name} needs two columns of text, got {brief(list(content.rows[0]))}")
    first, second = ROLES[name]
    chosen = choose_columns(without_identifiers(of_text), content.file, **{first: None, second: None})
    return task_of_columns(content, chosen, name, reason="--task")


def task_of_columns(content: Content, columns: Sequence[str], name: str | None, reason: str = "--columns") -> Task:
    """
    The task of columns of a file, of which the last one is that of targets or labels.

    Args:
        content (`Content`): the file.
        columns (`Sequence[str]`): their names, which lead into nested ones by a dot.
        name (`str`, *optional*): what the task is called; as these columns look if omitted.
        reason (`str`): what tells it.

    Raises:
        ValueError: they are for none.
    """
    these = Content(content.file, [{column: _cell(row, column) for column in columns} for row in content.rows])
    try:
        found = find_task(these, are_named=True)
    except ValueError:
        if name in (None, "classification"):
            raise
        found = Task("", {}, "")
    name = name or found.name
    if name not in ROLES:
        return found
    first, second = ROLES[name]
    task = Task(name, {first: list(columns[:-1]), second: [columns[-1]]}, reason)
    if found.name == name and found.columns[second] == [columns[-1]]:
        return replace(found, columns=found.columns if found.spelt else task.columns, reason=reason)
    return task


def has_column(content: Content, column: str) -> bool:
    """Whether a row has a column, which may be nested."""
    return any(_cell(row, column, _MISSING) is not _MISSING for row in content.rows)


def _cell(row: Row, column: str, default: Any = None) -> Any:
    with suppress(ValueError):
        return get_value(row, column, "")
    return default


def names_recordings(content: Content) -> str | None:
    """The column that holds names of audio files, if one does."""
    for name in content.rows[0] if content.rows else ():
        values = _values(content, name)
        if values and all(map(_RECORDING.search, values)):
            return name
    return None


def _asks(content: Content, first: Row) -> bool:
    """Whether rows hold a question, a context and answers; beside a label they are pairs of texts to classify."""
    names = {name.lower() for name in first}
    if not {"question", "context"} <= names:
        return False
    answers = names & {"answer", "answers"}
    if answers and {"question", "context", *answers} <= set(first):
        return True
    if answers or not names - {"question", "context", "id", "title"}:
        raise ValueError(
            f"{content.file}: questions need the columns question, context and answer, which holds words of the "
            f"context, got {brief(list(first))}"
        )
    return False


def _values(content: Content, name: str) -> list[str]:
    """What stands in a column, but for what is missing; beside numbers that is NaN too."""
    cells = [row.get(name) for row in content.rows]
    values = [text for cell in cells if cell is not None and cell == cell and (text := str(cell).strip())]
    numbers = [value for value in values if value.lower() != "nan"]
    return numbers if numbers and is_number(numbers) else values


def without_identifiers(columns: dict[str, list[str]]) -> dict[str, list[str]]:
    """The columns but those that number their rows, date them or say whose they are; two at least are left."""
    roles = set().union(*(COLUMN_NAMES[role] for role in ("source", "target", "text", "label")))
    own = [name for name in columns if name.lower() not in roles]
    called = [name for name in own if _is_called_identifier(name, columns[name])]
    has_text = any(fmean(len(value.split()) for value in values) > 2 for values in columns.values())
    dates = [name for name in own if len(columns[name]) >= 10 and all(map(_STAMP.fullmatch, columns[name]))]
    numbers = [name for name in own if _numbers_rows(columns[name])]
    codes = [name for name in own if has_text and _is_code(columns[name])]
    found = dict.fromkeys([*called, *dates, *numbers, *codes])
    # beside a text alone its number is nothing to learn either
    left_out = {name for name in called if name in numbers and not name.lower().endswith(("no", "nr", "number"))}
    left_out |= set(list(found)[: len(columns) - 2])
    return {name: values for name, values in columns.items() if name not in left_out}


def _is_called_identifier(name: str, values: Sequence[str]) -> bool:
    is_called = _IDENTIFIER.fullmatch(name) or _CAMEL_IDENTIFIER.fullmatch(name)
    is_label = re.split(r"[_\-. ]", name.lower())[0] in COLUMN_NAMES["label"] and not _is_distinct(values)
    # the Indonesian or Norwegian of a translation
    is_text = fmean(" " in value for value in values) > 0.5
    return bool(is_called) and not is_label and not is_text


def _numbers_rows(values: Sequence[str]) -> bool:
    return len(values) >= 10 and all(map(str.isdecimal, values)) and _is_distinct(values)


def _is_code(values: Sequence[str]) -> bool:
    """Whether these are codes such as R-0001, or names of files, one for each row."""
    has_digits = fmean(any(map(str.isdecimal, value)) for value in values) >= _ALMOST_ALL
    is_word = len(values) >= 10 and has_digits and not any(" " in value for value in values)
    return is_word and _is_distinct(values) and not _is_graded(values)


def _is_distinct(values: Sequence[str]) -> bool:
    return len(set(values)) >= _ALMOST_ALL * len(values)


def is_series(content: Content) -> bool:
    """Whether these rows are time stamps and numbers, beside names of series at most: to forecast, not to read."""
    columns = {
        name: [str(row[name]).strip() for row in content.rows if row.get(name) not in (None, "")]
        for name in (content.rows[0] if content.rows else ())
    }
    stamps = {name for name, values in columns.items() if values and all(map(_STAMP.fullmatch, values))}
    numbers = {name for name, values in columns.items() if values and is_number(values)} - stamps
    others = [values for name, values in columns.items() if name not in stamps | numbers]
    return bool(stamps and numbers) and all(map(looks_like_labels, filter(None, others)))


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


def _listed_labels(content: Content, lists: Sequence[str], columns: dict[str, list[str]]) -> Task:
    others = [name for name, values in columns.items() if not _is_called_identifier(name, values)]
    if not (texts := _text_columns([name for name in without_identifiers(columns) if name in others])):
        names = list(columns)
        raise ValueError(f"{content.file}: there must be a text beside the labels in {lists[0]!r}, got {brief(names)}")
    roles = {"text": texts[:1], "label": [lists[0]]}
    return Task("classification", roles, "a list of labels for each text", problem_type="multi_label_classification")


def _named_pairs(columns: dict[str, list[str]]) -> Task | None:
    """Pairs by the names of their columns, whatever stands in them."""
    roles = ("source", "target", "label")
    sources, targets, labels = ([name for name in columns if name.lower() in COLUMN_NAMES[role]] for role in roles)
    if not sources or not targets or labels:
        return None
    source, target = sources[0], targets[0]
    # beside a text the label is often called target
    is_label = looks_like_labels(columns[target]) or is_number(columns[target])
    if source.lower() in COLUMN_NAMES["text"] and is_label:
        return None
    return Task("pairs", {"source": [source], "target": [target]}, f"columns called {source} and {target}")


def _inflection(columns: dict[str, list[str]]) -> Task | None:
    if len(columns) != 3:
        return None
    features = [name for name, values in columns.items() if _are_features(values)]
    if len(features) != 1:
        return None
    lemma, form = (name for name in columns if name != features[0])
    if form.lower() == "lemma" or lemma.lower() in ("form", "inflected"):
        lemma, form = form, lemma
    return Task("pairs", {"source": [lemma, features[0]], "target": [form]}, "lemmas, forms and features", spelt=True)


def _are_features(values: Sequence[str]) -> bool:
    """Whether almost all of these are features of forms, most of them several."""
    matches = fmean(bool(FEATURES.fullmatch(value)) for value in values) if values else 0
    return matches >= _ALMOST_ALL and fmean(";" in value for value in values) > 0.5


def _rated_texts(content: Content, columns: dict[str, list[str]]) -> Task | None:
    numbers = [name for name, values in columns.items() if _is_graded(values)]
    texts = _text_columns([name for name in columns if name not in numbers and not is_number(columns[name])])
    if not numbers or not texts:
        return None
    number = next((name for name in numbers if name.lower() in COLUMN_NAMES["label"]), numbers[0])
    thousands = thousands_of(columns[number]) or ""
    if thousands == UNTOLD:
        example = next(value for value in columns[number] if "," in value)
        raise ValueError(
            f"{content.file}: the comma of {example!r} in column {number!r} may be a decimal one or stand between "
            f"thousands: write {example.replace(',', '')} or {example.replace(',', '.')} in the file; --task pairs "
            "takes the numbers as they are written"
        )
    roles = {"text": texts, "label": [number]}
    return Task("classification", roles, "a number for each text", problem_type="regression", thousands=thousands)


def _is_graded(values: Sequence[str]) -> bool:
    """Whether these are numbers with parts of a whole; whole ones may be classes, or what is to be written."""
    mark = thousands_of(values)
    return mark is not None and any(float(decimal(value, mark)) % 1 for value in values)


def _texts_of_several_labels(content: Content, columns: dict[str, list[str]]) -> Task | None:
    for name, values in columns.items():
        if is_number(values):  # whose comma is that of 3,5
            continue
        for separator in (",", ";", "|"):
            of_texts = [[label.strip() for label in value.split(separator) if label.strip()] for value in values]
            labels = [label for of_text in of_texts for label in of_text]
            several = sum(len(of_text) > 1 for of_text in of_texts)
            # labels are combined in more ways than there are labels; a comma within the name of one is in few
            if several <= len(values) / 10 or len(set(values)) <= len(set(labels)) or not looks_like_labels(labels):
                continue
            texts = _text_columns([other for other in columns if other != name])
            if texts and not _stand_in_texts(content, name, separator, texts):
                return Task(
                    "classification",
                    {"text": texts, "label": [name]},
                    f"{len(set(labels))} labels between {SEPARATORS[separator]}",
                    problem_type="multi_label_classification",
                    label_separator=separator,
                )
    return None


def _stand_in_texts(content: Content, name: str, separator: str, texts: Sequence[str]) -> bool:
    """Whether most of what would be labels are parts of their texts, as "Becker, E." of "Eva Becker"."""
    stand = [
        label.strip(" .") in " ".join(str(row.get(text)) for text in texts)
        for row in content.rows
        for label in str(row.get(name) or "").split(separator)
        if label.strip()
    ]
    return fmean(stand) > 0.5


def _text_columns(names: Sequence[str]) -> list[str]:
    """Of the columns beside the label, that of the text, or the two of a pair."""
    by_name = [name for name in names if name.lower() in COLUMN_NAMES["text"] | OTHER_NAMES]
    return (by_name or list(names))[: 1 if len(by_name) == 1 else 2]


def _labelled_texts(columns: dict[str, list[str]]) -> Task | None:
    names = [name for name in columns if not _is_graded(columns[name])]
    labels = [name for name in names if looks_like_labels(columns[name])]
    named = [name for name in names if name.lower() in COLUMN_NAMES["label"]]
    texts = [name for name in names if name not in labels]
    texts = [name for name in texts if not is_number(columns[name])] or texts
    if not (named or (labels and len(texts) == 1) or (len(labels) == 1 and len(names) <= 3)) or not texts:
        return None
    label = next((name for name in named if name in labels), (labels or named)[0])
    chosen = _text_columns([name for name in texts if name != label])
    if not chosen:
        return None
    classes = len(set(columns[label]))
    return Task("classification", {"text": chosen, "label": [label]}, f"{classes} labels, each of many texts")


def _pairs(columns: dict[str, list[str]]) -> Task:
    source, target = choose_columns(columns, "the file", source=None, target=None)
    return Task("pairs", {"source": [source], "target": [target]}, "two different texts in each row")
