"""Where the answers of a model go: lines of JSON, a table, or the standard output."""

import csv
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from ..data import extension, read_rows, significant
from .models import Answer, Model, Source

STANDARD_OUTPUT = Path("-")
_TABLES = {"csv": ",", "tsv": "\t"}
_PAIRS = {"question-answering": ("context", "question"), "text-classification": ("text", "text_pair")}


def row_of(source: Source, answers: Sequence[Answer]) -> dict[str, Any]:
    """What a file tells of a text."""
    best = answers[0]
    row: dict[str, Any] = {"source": source, "prediction": best.value}
    if best.intent is not None:
        row["intent"] = best.intent
    if best.score is not None:
        row["score"] = significant(best.score)
    if len(answers) > 1:
        row["n_best"] = [
            {"prediction": answer.value} | ({} if answer.score is None else {"score": significant(answer.score)})
            for answer in answers
        ]
    return row


def check_output(output: Path, nested: str | None) -> None:
    """
    Refuse a file whose name promises what is not written.

    Args:
        output: the file, or - for the standard output.
        nested: the argument that asks for more than a table can hold, if any.

    Raises:
        ValueError: it is none of jsonl, csv and tsv, or a table, which has a row for each text and no more.
    """
    kind = extension(output.name)
    if output != STANDARD_OUTPUT and (kind not in ("jsonl", *_TABLES) or output.suffix != f".{kind}"):
        raise ValueError(f"-o must end in .jsonl, .csv or .tsv, or be - for the standard output, got {output}")
    if kind in _TABLES and nested is not None:
        raise ValueError(f"a {kind} file holds one answer to each text: {nested} needs a .jsonl")


@contextmanager
def json_lines_for(output: Path, model: Model, overwrite: bool = False) -> Iterator[Path]:
    """
    Yields:
        the file of JSON lines to write, from which the output is made at the end; if that is JSON lines too, itself.

    Raises:
        ValueError: the output is there already.
    """
    if output == STANDARD_OUTPUT:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "answers.jsonl")
            yield file
            with open(file, encoding="utf-8") as lines:
                sys.stdout.writelines(lines)
        return
    if extension(output.name) not in _TABLES:
        yield output
        return
    if output.exists() and not overwrite:
        raise ValueError(f"{output} is there already: name another file, or give --overwrite")
    file = output.with_name(f"{output.name}.jsonl")
    yield file
    with open(output, "w", encoding="utf-8", newline="") as table:
        _write_table(file, table, model, _TABLES[extension(output.name)])
    file.unlink()


def _write_table(file: Path, table: TextIO, model: Model, separator: str) -> None:
    names = list(dict.fromkeys(chain.from_iterable(_cells(file, model))))  # an empty text has no score
    options: dict[str, Any] = {"quoting": csv.QUOTE_NONE, "quotechar": None} if separator == "\t" else {}
    writer = csv.DictWriter(table, names, restval="", delimiter=separator, lineterminator="\n", **options)
    writer.writeheader()
    writer.writerows(_cells(file, model))


def _cells(file: Path, model: Model) -> Iterator[dict[str, Any]]:
    of_labels = model.data_task.label_separator if model.data_task else ","
    separator = of_labels if model.task == "text-classification" else " "
    for _, row in read_rows(str(file)):
        source = row.pop("source")
        if model.reads_two:
            if isinstance(source, str):  # a line of text, which may be empty
                source = model.source(source) if source else [source]
            cells = dict(zip(_PAIRS[model.task], source, strict=False)) | row
        else:
            cells = {"source": source} | row
        # our readers, as most others, take a line for a row
        yield cells | {
            name: " ".join((separator.join(value) if isinstance(value, list) else value).split())
            for name, value in cells.items()
            if isinstance(value, str | list)
        }
