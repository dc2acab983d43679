"""`attention-rnn average` and `attention-rnn ensemble`: several models as one."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data import write_json_lines
from ..parts import write_whole
from . import CommandParser, UsageError, add_reading_arguments, at_least
from .answers import check_output, json_lines_for, row_of
from .evaluate import trained_metrics, training_data_of
from .models import COMMAND, Model, read_settings, task_of
from .reading import read_texts

_AVERAGE = """Average the last checkpoints of a training into one model.

  attention-rnn train words.tsv --save_total_limit 5
  attention-rnn average runs/words -o runs/words-averaged"""
_ENSEMBLE = """Let several models, such as those of several seeds, decode a file together.

  attention-rnn train words.tsv --seed 1 -o runs/words1
  attention-rnn train words.tsv --seed 2 -o runs/words2
  attention-rnn ensemble runs/words1 runs/words2 --file more.txt -o more.jsonl"""


def average(arguments: Sequence[str]) -> None:
    parser = CommandParser("average", _AVERAGE)
    parser.add_argument("folders", nargs="+", type=Path, help="a folder of a training, or its checkpoints")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where the model goes")
    options = parser.parse_args(list(arguments))
    folders, output = options.folders, options.output
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise FileNotFoundError(f"there is no folder {missing[0]}")
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise UsageError(f"{output} holds something else: -o names another folder")
    from ..averaging import average_checkpoints
    from ..checkpoints import checkpoints_of
    from ..ensemble import check_tokenizers

    if len(folders) == 1:
        folders = checkpoints_of(folders[0])
    if len(folders) < 2:
        raise ValueError(f"there must be two checkpoints or more, got {len(folders)}: --save_total_limit 5 keeps more")
    check_tokenizers(folders)
    reports = {folder: report for folder in folders if (report := first_report(folder))}
    for folder, report in reports.items():
        if report != next(iter(reports.values())):
            raise ValueError(
                f"{next(iter(reports))} and {folder} are of different runs, whose weights have no useful mean: "
                "attention-rnn ensemble lets such models decode together"
            )
    settings = read_settings(folders[-1])
    average_checkpoints(folders, output)
    if settings:
        metrics = trained_metrics(str(folders[-1])) or trained_metrics(str(folders[-1].parent))
        settings |= {"command": "average", "arguments": list(arguments), "metrics": metrics}
        write_whole(output / COMMAND, json.dumps(settings, indent=1) + "\n")
    print(f"{output} is the mean of {', '.join(path.name for path in folders)}")
    file = training_data_of(str(folders[-1])) / "validation.jsonl"
    if file.exists():
        each = (shlex.join(["attention-rnn", "evaluate", str(model), str(file)]) for model in (folders[-1], output))
        print("to compare", *each, sep="\n  ")
    if len(reports) < len(folders):
        print("nothing tells whether they are of one run: the weights of different runs have no useful mean")


def first_report(folder: Path) -> dict[str, Any] | None:
    """What the training of a model measured first, which no other training did; `None` if nothing tells of it."""
    file = folder / "trainer_state.json"
    return next(iter(json.loads(file.read_text(encoding="utf-8"))["log_history"]), None) if file.exists() else None


def ensemble(arguments: Sequence[str]) -> None:
    parser = CommandParser("ensemble", _ENSEMBLE)
    parser.add_argument("models", nargs="+", help="folders of encoder-decoders with the same tokenizer")
    parser.add_argument("--file", required=True, help="the file to read")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="jsonl, csv or tsv to write (else the screen)"
    )
    parser.add_argument("--num_beams", type=at_least(1), default=5, help="beams of the search (%(default)s)")
    parser.add_argument("--batch_size", type=at_least(1), default=32, help="texts at once (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="write another file in place of the one of -o")
    add_reading_arguments(parser)
    options = parser.parse_args(list(arguments))
    from ..checkpoints import single_models

    models = single_models(options.models)
    if len(models) < 2:
        raise ValueError(f"an ensemble is of two models or more, got {len(models)}: attention-rnn predict takes one")
    for name in models:
        if task_of(name) != "text2text-generation":
            raise ValueError(f"an ensemble is of encoder-decoders, and {name} does {task_of(name)}")
    if options.output is not None:
        check_output(options.output, None)
        if options.output.exists() and options.output.samefile(options.file):
            raise ValueError(f"-o must be another file than --file, got {options.output}")
        if options.output.exists() and not options.overwrite:
            raise ValueError(f"{options.output} is there already: name another file, or give --overwrite")
    from ..ensemble import AttentionRnnEnsemble

    model = Model(options.models[0])
    model.batch_size = options.batch_size
    pipeline = model.pipeline  # which shows no bars of what is loaded, from here on
    pipeline.model = AttentionRnnEnsemble.from_pretrained(models).to(pipeline.device)
    texts = read_texts(model, options)
    found = model.answers(texts.readable, num_beams=options.num_beams)
    rows = [row_of(source, answers) for source, answers in zip(texts.readable, found, strict=True)]
    if options.output is None:
        print("\n".join(f"{row['source']}\t{row['prediction']}" for row in rows))
    else:
        with json_lines_for(options.output, model, texts, overwrite=True) as file:
            write_json_lines(file, rows)
        print(f"all predictions lie in {options.output}")
    if texts.faults:
        print(texts.tell_faults(), file=sys.stderr)
