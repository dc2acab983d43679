"""`attention-rnn evaluate`: the scores of a model on a file."""

import json
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..data import read_rows
from ..inspection import Known, Row
from ..recipes import as_arguments
from ..tasks import Task
from . import CommandParser, UsageError, add_reading_arguments, did_you_mean
from .models import read_settings, read_task, tells_intents, text_task_of
from .rows import (
    has_intent,
    known_of,
    place_of,
    rows_of,
    suit_columns,
    suit_features,
    told_of_the_file,
    with_labels,
    write_splits,
)
from .train import quiet, read_files, settle_task, tell_content

_DESCRIPTION = """Score a model on a file.

  attention-rnn evaluate runs/words test.tsv
  attention-rnn evaluate runs/en-de test.en test.de --metrics bleu --num_beams 5

The file is one that `attention-rnn train` reads. All arguments of examples/evaluate_checkpoint.py are understood."""

_SOURCES = ("source", "text", "text_pair", "tokens", "context", "question")
_METRICS = {"text2text-generation": ["exact_match", "chrf"], "question-answering": ["answer_f1", "answer_exact_match"]}


def main(arguments: Sequence[str]) -> None:
    parser = CommandParser("evaluate", _DESCRIPTION)
    parser.add_argument("model", help="a folder that a training left, or a name on the Hub")
    parser.add_argument("file", nargs="+", help="the file to read, or one of sources and one of targets")
    parser.add_argument("--metrics", nargs="+", help="what to compute (what the training has computed)")
    add_reading_arguments(parser)
    options, others = parser.parse_known_intermixed_args(list(arguments))
    pipeline = text_task_of(options.model)
    metrics = options.metrics or trained_metrics(options.model) or _METRICS.get(pipeline)
    options.task = None
    task = None if options.columns else read_task(options.model)
    names = read_settings(options.model).get("names", ())
    known = known_of(task, names) if task else Known(wanted=options.columns or ())
    content = read_files(options.file, options, known)
    task = suit_features(suit_columns(task, content), content) if task else settle_task(content, options)
    tell_content(content, task)
    if options.metrics:
        check_metrics(options.metrics, task)
    rows = with_labels(list(rows_of(content, task)), task, content.file)
    if told := seen_in_training(options.model, rows):
        print(told)
    quiet()
    from ..examples.evaluate_checkpoint import main as evaluate

    with tempfile.TemporaryDirectory() as folder, told_of_the_file({"test": rows}, Path(folder)):
        written = write_splits(Path(folder), task, {"test": rows})
        words = [options.model, written.pop("test_file")]
        if pipeline in ("text2text-generation", "text-classification"):
            words += as_arguments(written)
        if tells_intents(options.model):
            if without := [row for row in rows if not has_intent(row)]:
                raise ValueError(f"{place_of(without[0])}: there must be an intent, which {options.model} tells too")
            words += ["--intent_column", "intent"]
        words += ["--metrics", *metrics] if metrics and (options.metrics or pipeline in _METRICS) else []
        evaluate([*words, *others])


def trained_metrics(model: str) -> list[str]:
    """The metrics that a training has computed, if its folder tells."""
    from ..metrics import METRICS

    results = set()
    for name in ("eval_results.json", "trainer_state.json"):  # the second of a training that was stopped
        if (file := Path(model, name)).exists():
            told = json.loads(file.read_text(encoding="utf-8"))
            results |= {key for row in told.get("log_history", [told]) for key in row}
    return [name for name in METRICS if f"eval_{name}" in results] or read_settings(model).get("metrics", [])


def check_metrics(names: Sequence[str], task: Task) -> None:
    """Refuse metrics that the task has not, before the model is opened."""
    from ..classification import METRICS as OF_LABELS
    from ..metrics import METRICS

    known: Iterable[str] = {
        "pairs": [name for name in METRICS if not name.startswith("answer_")],
        "question-answering": list(METRICS),
        "classification": OF_LABELS.get(task.problem_type, ()),
    }.get(task.name, ())
    for name in names:
        if name not in known:
            near = did_you_mean(name, known) if known else ", whose scores are always the same: leave --metrics out"
            raise UsageError(f"there is no metric {name!r} of {task.name}{near}")


def seen_in_training(model: str, rows: Sequence[Row]) -> str | None:
    """How much of what a model is scored on it was trained on, if its folder tells."""
    from ..checkpoints import members_of

    folders = {training_data_of(name) for name in (model, *members_of(model))}
    texts = [folder / "train.txt" for folder in folders if (folder / "train.txt").exists()]
    tables = [folder / "train.jsonl" for folder in folders if (folder / "train.jsonl").exists()]
    if texts and rows and "text" in rows[0]:
        lines = rows[0]["text"].splitlines()
        trained = {line for text in texts for line in text.read_text(encoding="utf-8").splitlines()}
        what, seen = "lines", [line for line in lines if line.strip() and line in trained]
        number = sum(bool(line.strip()) for line in lines)
    else:
        read = {_source(row) for table in tables for _, row in read_rows(str(table))}
        what, seen, number = "rows", [row for row in rows if _source(row) in read], len(rows)
    if not seen:
        return None
    return f"{len(seen):,} of {number:,} {what} the model was trained on: what it scores on them flatters it"


def training_data_of(model: str) -> Path:
    """Where the data of a training lie, if they do; of a checkpoint, a member or a teacher in a folder around it."""
    folder = Path(model).resolve()
    while not (folder / "data").exists() and re.fullmatch(r"checkpoint-\d+|seed\d+|members|teachers", folder.name):
        folder = folder.parent
    return folder / "data"


def _source(row: Row) -> str:
    return json.dumps([row.get(name) for name in _SOURCES], ensure_ascii=False)
