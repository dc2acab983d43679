"""Where the answers of a model go: lines of JSON, a table, or the standard output."""

import csv
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Any, TextIO

from ..data import extension, read_rows, significant
from ..inspection import Row
from .models import Answer, Model, Source
from .reading import Texts

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
def json_lines_for(output: Path, model: Model, texts: Texts, overwrite: bool = False) -> Iterator[Path]:
    """
    Yields:
        the file to write, as JSON lines of `row_of`, one for each of the texts. From these the output is made at the
        end, with the other columns of each row and what is wrong with those that could not be read; it is that file
        itself where it is JSON lines and there is nothing to add.

    Raises:
        ValueError: the output is there already.
    """
    if output == STANDARD_OUTPUT:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "answers.jsonl")
            yield file
            _write(file, sys.stdout, model, texts, "jsonl")
        return
    kind = extension(output.name)
    if kind not in _TABLES and not texts.faults and not any(texts.others):
        yield output
        return
    if output.exists() and not overwrite:
        raise ValueError(f"{output} is there already: name another file, or give --overwrite")
    file = output.with_name(f"{output.name}.jsonl")
    yield file
    unfinished = output.with_name(f"{output.name}.unfinished")
    # without which a spreadsheet that has written the input takes the output for another encoding
    encoding = "utf-8-sig" if texts.has_mark and kind == "csv" else "utf-8"
    with open(unfinished, "w", encoding=encoding, newline="") as target:
        _write(file, target, model, texts, kind)
    unfinished.replace(output)
    file.unlink()


def _write(file: Path, target: TextIO, model: Model, texts: Texts, kind: str) -> None:
    """Write the answers with the other columns of the input, of which those are left out that have a name of ours."""

    def answered() -> Iterator[Row]:
        for index, (_, row) in enumerate(read_rows(str(file))):
            if index in texts.faults:
                row |= {"source": texts.sources[index], "error": texts.fault(index)}
            yield _cells(row, model) if kind in _TABLES else row

    ours = dict.fromkeys(chain.from_iterable(answered()))  # an empty text has no score
    whole = (
        row | {name: value for name, value in others.items() if name not in ours}
        for row, others in zip(answered(), texts.others or repeat({}), strict=False)
    )
    if kind not in _TABLES:
        target.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in whole)
        return
    # a spreadsheet reads what it writes
    separator = ";" if kind == "csv" and texts.separator == ";" else _TABLES[kind]
    options: dict[str, Any] = {"quoting": csv.QUOTE_NONE, "quotechar": None} if kind == "tsv" else {}
    names = list(ours | dict.fromkeys(chain.from_iterable(texts.others)))
    writer = csv.DictWriter(target, names, restval="", delimiter=separator, lineterminator="\n", **options)
    writer.writeheader()
    has_commas = separator == ";" and _has_decimal_commas(texts)
    writer.writerows({name: _in_cell(value, has_commas) for name, value in row.items()} for row in whole)


def _cells(row: Row, model: Model) -> Row:
    of_labels = model.data_task.label_separator if model.data_task else ","
    separator = of_labels if model.task == "text-classification" else " "
    source = row.pop("source")
    if model.reads_two:
        if isinstance(source, str):  # a line of text, which may be empty or have a fault
            source = model.source(source) if source and "error" not in row else [source]
        cells = dict(zip(_PAIRS[model.task], source, strict=False)) | row
    else:
        cells = {"source": source} | row
    # our readers, as most others, take a line for a row
    return cells | {
        name: " ".join((separator.join(value) if isinstance(value, list) else value).split())
        for name, value in cells.items()
        if isinstance(value, str | list)
    }


def _has_decimal_commas(texts: Texts) -> bool:
    """Whether numbers of a table have a comma, as those of most spreadsheets that write semicolons."""
    cells = chain.from_iterable(others.values() for others in texts.others)
    return any(isinstance(cell, str) and re.fullmatch(r"[-+]?\d+,\d+", cell.strip()) for cell in cells)


def _in_cell(value: Any, has_commas: bool) -> Any:
    if isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, float) and has_commas:
        value = str(value).replace(".", ",")
    return re.sub(r"[\t\r\n]+", " ", value) if isinstance(value, str) else value
