"""`attention-rnn evaluate`: the scores of a model on a file."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..inspection import Known
from ..recipes import as_arguments
from . import CommandParser, add_reading_arguments
from .models import read_settings, read_task, text_task_of
from .train import known_of, quiet, read_files, rows_of, settle_task, suit_columns, tell_content, write_splits

_DESCRIPTION = """Score a model on a file.

  attention-rnn evaluate runs/words test.tsv
  attention-rnn evaluate runs/en-de test.en test.de --metrics bleu chrf --num_beams 5

The file is one that `attention-rnn train` reads. All arguments of examples/evaluate_checkpoint.py are understood."""

_METRICS = {"text2text-generation": ["exact_match", "chrf"], "question-answering": ["answer_f1", "answer_exact_match"]}


def main(arguments: Sequence[str]) -> None:
    parser = CommandParser("evaluate", _DESCRIPTION)
    parser.add_argument("model", help="a folder that a training left, or a name on the Hub")
    parser.add_argument("file", nargs="+", help="the file to read, or one of sources and one of targets")
    parser.add_argument("--metrics", nargs="+", help="what to compute (what the training has computed)")
    add_reading_arguments(parser)
    options, others = parser.parse_known_args(list(arguments))
    pipeline = text_task_of(options.model)
    metrics = options.metrics or trained_metrics(options.model) or _METRICS.get(pipeline)
    options.task = None
    task = None if options.columns else read_task(options.model)
    names = read_settings(options.model).get("names", ())
    known = known_of(task, names) if task else Known(wanted=options.columns or ())
    content = read_files(options.file, options, known)
    task = suit_columns(task, content) if task else settle_task(content, options)
    tell_content(content, task)
    quiet()
    from ..examples.evaluate_checkpoint import main as evaluate

    with tempfile.TemporaryDirectory() as folder:
        written = write_splits(Path(folder), task, {"test": list(rows_of(content, task))})
        words = [options.model, written.pop("test_file")]
        if pipeline in ("text2text-generation", "text-classification"):
            words += as_arguments(written)
        words += ["--metrics", *metrics] if metrics and pipeline in _METRICS else []
        evaluate([*words, *others])


def trained_metrics(model: str) -> list[str]:
    """The metrics that a training has computed, if its folder tells."""
    from ..metrics import METRICS

    results = set()
    for name in ("eval_results.json", "trainer_state.json"):  # the second of a training that was stopped
        if (file := Path(model, name)).exists():
            told = json.loads(file.read_text(encoding="utf-8"))
            results |= {key for row in told.get("log_history", [told]) for key in row}
    return [name for name in METRICS if f"eval_{name}" in results]
