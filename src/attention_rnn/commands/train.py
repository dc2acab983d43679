"""`attention-rnn train`: from a file to a folder with a model, what it reached, and pictures of where it looked."""

import argparse
import json
import logging
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from statistics import fmean
from typing import Any

from ..data import FORMATS, extension, get_value
from ..inspection import Content, Known, Row, read_aligned, read_content
from ..recipes import (
    FEW_PAIRS,
    RECIPES,
    TASKS,
    PairLooks,
    as_arguments,
    choose_pair_recipe,
    full_name,
    load_recipe,
)
from ..tasks import ROLES, Task, find_task, find_task_called, has_column, is_series, names_recordings, task_of_columns
from . import CommandParser, UsageError, add_reading_arguments, at_least, did_you_mean
from .flags import check_flags, check_inputs, name_of_flag, settled_of
from .folder import command_of, how_to_begin, settings_of, training_folder
from .models import task_of
from .results import tell_results, write_marked_predictions
from .rows import (
    SPLITS,
    column_names,
    has_intent,
    known_of,
    rows_of,
    settle_intents,
    split_rows,
    told_of_the_file,
    write_splits,
)

_DESCRIPTION = """Train a model on your own file.

  attention-rnn train words.tsv
  attention-rnn train reviews.csv --output runs/reviews --recipe sentiment
  attention-rnn train train.tsv --validation dev.tsv --test test.tsv
  attention-rnn train train.en train.de

The file is csv, tsv, json, jsonl, parquet, CoNLL or plain text, compressed or not, and holds pairs of texts, texts with
labels, words with labels, questions with contexts, or running text; two files hold a source and a target a line. Ctrl-C
stops and leaves the model so far; the same command goes on. All arguments of the Trainer (--help-all) are
understood too: --num_train_epochs 30."""

_PATIENCE = 8  # evaluations, of the twenty or so of a training
# Which of the models of a training has a word or two more right of so few is chance. The last one is better: from 300
# to 400 pairs, a tenth of them to choose by, 53.8 % of other words right in place of 52.7 (seven trainings).
_FEW_TO_CHOOSE_BY = 100


def make_parser() -> CommandParser:
    parser = CommandParser("train", _DESCRIPTION, usage="attention-rnn train FILE [TARGET_FILE] [options]")
    parser.add_argument("file", nargs="*", help="your file, or one of sources and one of targets")
    parser.add_argument(
        "--validation", nargs="+", metavar="FILE", help="what to choose the best model by (a tenth of the file)"
    )
    parser.add_argument("--test", nargs="+", metavar="FILE", help="what to test it on (another tenth)")
    parser.add_argument("-o", "--output", metavar="FOLDER", type=Path, help="where it goes (runs/NAME)")
    parser.add_argument("--task", metavar="NAME", help=f"what the file is for: {', '.join(TASKS)} (as it looks)")
    parser.add_argument(
        "--recipe", metavar="NAME", type=full_name, default="auto", help="see attention-rnn recipes (auto)"
    )
    parser.add_argument("--preset", metavar="NAME", help="the architecture of a paper: bahdanau2015, luong2015, ...")
    parser.add_argument("--from", dest="start", metavar="MODEL", help="fine-tune that model, a folder or on the Hub")
    parser.add_argument(
        "--config_overrides", metavar="NAME=VALUE,...", help="fields of the config, over those of recipe and preset"
    )
    add_reading_arguments(parser)
    parser.add_argument(
        "--num_models", type=at_least(1), default=1, metavar="N", help="of pairs: an ensemble of N seeds (%(default)s)"
    )
    parser.add_argument("--distil", action="store_true", help="distil the ensemble into one model")
    parser.add_argument(
        "--processes", type=at_least(1), default=1, metavar="N", help="models to train at once (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=42, help="of the first weights (%(default)s)")
    parser.add_argument("--again", action="store_true", help="train anew what is there already")
    parser.add_argument("--help-all", action="store_true", help="list the arguments of the Trainer too")
    return parser


def main(arguments: Sequence[str]) -> None:
    parser = make_parser()
    options, others = parser.parse_known_args(list(arguments))
    if options.help_all:
        parser.print_help()
        print("\nArguments of the Trainer:\n")
        script(options.task or (task_of_file(options) if options.file else "pairs")).main(["--help"])
    if not options.file or (arguments[0].startswith("-") and not Path(options.file[0]).exists()):
        parser.error("name a file first: attention-rnn train words.tsv")
    if options.task is not None and options.task not in TASKS:
        raise UsageError(f"there is no task {options.task!r}{did_you_mean(options.task, TASKS)}")
    files = {"train": options.file, "validation": options.validation, "test": options.test}
    contents = {"train": read_files(options.file, options, known_of_options(options))}
    task = settle_task(contents["train"], options)
    names = column_names(contents["train"])
    if options.num_models > 1 or options.distil or options.processes > 1:
        from .several import check_several, train_several

        check_several(options, task, others)
    known = known_of(task, names)
    contents |= {s: read_files(files[s], options, known) for s in SPLITS[1:] if files[s]}
    for split, content in contents.items():
        check_places(content, contents["train"], f"--{split}")
    tell_content(contents["train"], task)
    rows = {split: list(rows_of(content, task)) for split, content in contents.items()}
    rows = split_rows(settle_intents(rows), task)
    if task.name != "language-model":  # of which these are counted otherwise
        rows = {split: of_split[: most_of(split, others)] for split, of_split in rows.items()}
    is_text = task.name == "language-model"
    sizes = [f"{len(rows[s][0]['text']):,} characters" if is_text else f"{len(rows[s]):,}" for s in SPLITS]
    print(", ".join(f"{size} {what}" for size, what in zip(sizes, _WHAT, strict=True)))
    recipe, reason = settle_recipe(task, rows, options, others)
    print(f"recipe {recipe}" + (f" ({reason}; attention-rnn recipes lists others)" if reason else ""))
    if options.start is not None:
        print(f"  only for how to train: the model and its tokenizer are those of {options.start}, trained further")

    folder = options.output or Path("runs", Path(options.file[0]).name.split(".")[0])
    check_flags(script(task.name), others, parser, settled_of(script(task.name)))
    inputs = {"the file": options.file, "--validation": options.validation or (), "--test": options.test or ()}
    contents_read = check_inputs(folder, inputs, {"--from": options.start, "--recipe": options.recipe}, others)
    words = script_arguments(task, recipe, options, others, rows["train"], len(rows["validation"]))
    read = json.dumps([[content.rows, content.text] for content in contents.values()], ensure_ascii=False, default=str)
    kept = {"keeps_last": True} if "--load_best_model_at_end" in words else {}
    settings = settings_of(arguments, read.encode(), contents_read, task=asdict(task), names=names, **kept)
    with training_folder(folder, settings, options.again) as data_folder:
        if data_folder is None:
            return
        words += as_arguments(write_splits(data_folder, task, rows))
        command = command_of(settings)
        words += ["--output_dir", str(folder), "--command", command, "--origins", *origins_of(files)]
        words += [*how_to_begin(options.again), *others]
        quiet()
        lines: list[str] = []
        with told_of_the_file(rows, data_folder):
            if options.num_models == 1:
                scores = script(task.name).main(words)
            else:
                data = {s: (of, len(rows[s])) for s, of in zip(SPLITS, origins_of(files), strict=True)}
                scores, lines = train_several(folder, task, words, options, data, command)
    write_marked_predictions(folder, task)
    tell_results(folder, task, scores, rows, lines)


def most_of(split: str, words: Sequence[str]) -> int | None:
    """How many rows of a split an argument of the script leaves; `None` if none does, or it is no number."""
    name = {"train": "max_train_samples", "validation": "max_eval_samples", "test": "max_predict_samples"}[split]
    value = value_of(name, words) if f"--{name}" in {word.split("=")[0] for word in words} else ""
    return int(value) if value.isdecimal() else None


_WHAT = ("to train on", "to choose the best model by", "to test it on")


def origins_of(files: Mapping[str, Sequence[str] | None]) -> list[str]:
    """What the card calls the data of each split."""
    names = {split: " and ".join(map(_shown_name, of_split)) for split, of_split in files.items() if of_split}
    return [names.get(split, f"a part of {names['train']}") for split in SPLITS]


def _shown_name(file: str) -> str:
    name = Path(file).name
    return f"./{name}" if name.startswith("-") else name  # else the script would take it for an argument


def script(task: str) -> Any:
    """The script that trains a task, as a module."""
    return import_module(f"attention_rnn.examples.{TASKS[task]}")


def task_of_file(options: argparse.Namespace) -> str:
    content = read_files(options.file, options, known_of_options(options))
    return settle_task(content, options).name


def known_of_options(options: argparse.Namespace) -> Known:
    """What the command line says of a file that may be more than one thing."""
    kind = extension(options.file[0])
    is_told = options.task in ("pairs", "classification") or kind not in _OF_TABLES
    is_told = is_told or (options.task == "labelling" and kind == "tsv")
    return Known(options.task if is_told else None, wanted=options.columns or ())


def read_files(files: Sequence[str], options: argparse.Namespace, known: Known) -> Content:
    """What a file holds, or a file of sources and one of targets."""
    if len(files) == 1:
        return read_content(files[0], options.separator, options.header, options.encoding, known)
    if len(files) > 2 or any(extension(file) in _OF_TABLES for file in files):
        raise UsageError(
            "there must be one file, or one with a source a line and one with their targets, got "
            f"{' '.join(files)}; --validation and --test name others"
        )
    if options.separator is not None or options.header is not None:
        raise UsageError("--separator and --header are of one table, and two files hold a source and a target a line")
    source_file, target_file = files
    return read_aligned(source_file, target_file, options.encoding)


_OF_TABLES = (*FORMATS, "parquet")


def settle_task(content: Content, options: argparse.Namespace) -> Task:
    if options.columns and content.text is not None:
        raise UsageError(f"--columns are of a table, and {content.file} holds running text")
    if options.columns:
        columns = [name_of_column(column, content) for column in options.columns]
        for column in columns:
            if not has_column(content, column):
                numbers = "; or name them by number: --columns 1 2" if content.unread else ""
                raise UsageError(f"there is no column {column!r}{did_you_mean(column, content.rows[0])}{numbers}")
        if len(columns) < 2:
            raise UsageError(f"--columns must name at least two columns, got {columns}")
        task = task_of_columns(content, columns, options.task)
        if task.name not in ROLES:
            raise UsageError(f"--columns are of pairs, classification and labelling, and the task is {task.name}")
        return task
    if options.task is None and is_series(content):
        raise UsageError(
            f"{content.file} holds time stamps and numbers: attention-rnn forecast {shlex.quote(options.file[0])}; "
            "--task pairs or classification reads them as texts"
        )
    if options.task is None and (recordings := names_recordings(content)):
        raise UsageError(
            f"{content.file} names recordings, in column {recordings!r}: examples/run_speech_seq2seq.py writes what is "
            "said in them, examples/run_audio_classification.py labels them; --columns names others"
        )
    if options.task in ("pairs", "classification") and content.text is None:
        return find_task_called(content, options.task)
    found = find_task(content)
    if options.task not in (None, found.name):
        hint = "; --separator names what is between its columns" if options.task in ROLES else ""
        raise UsageError(f"--task {options.task} needs another file: {content.file} holds {found.reason}{hint}")
    return found


def name_of_column(column: str, content: Content) -> str:
    """The name of a column, which may be given by its number where the file has no header."""
    numbered = f"column {column}"
    return numbered if content.rows and column not in content.rows[0] and numbered in content.rows[0] else column


def check_places(content: Content, trained: Content, argument: str) -> None:
    """Refuse a file whose columns are known by their places, and are not as many as in that of the training."""
    there, names = (column_names(one) for one in (content, trained))
    if len(there) != len(names) and "column 1" in (*there, *names):
        raise UsageError(
            f"{argument} needs the columns of {trained.file}, which has {len(names)} of them; {content.file} has "
            f"{len(there)}, and their names are not in both"
        )


def tell_content(content: Content, task: Task) -> None:
    counts_itself = any(seen.startswith("CoNLL") for seen in content.seen)
    is_of_rows = content.rows and not counts_itself and not {"tokens", "paragraphs"} & set(content.rows[0])
    rows = f"{len(content.rows):,} rows, " if is_of_rows else ""
    print(f"{content.file}: {rows}{one_line(', '.join(content.seen))}")
    print(f"task {task.name} ({task.reason})")
    read = dict(task.columns)
    if task.name == "labelling" and all(map(has_intent, content.rows)):
        read["intent"] = ["intent"]
    for role, columns in read.items():
        values = [get_value(content.rows[0], column, content.places[0]) for column in columns]
        texts = [" ".join(map(str, value)) if isinstance(value, list) else str(value) for value in values]
        shown = "  ".join(map(brief_text, map(one_line, texts)))
        print(f"  {role:6}  {shown}  ({one_line(' + '.join(columns))})")
    there = column_names(content)
    used = {name if name in there else name.split(".")[0] for columns in read.values() for name in columns}
    others = [name or "(no name)" for name in [*there, *content.unread] if name not in used]
    if read and others:
        print(f"  not read: {brief_text(one_line(', '.join(others)))}; --columns names others")


def one_line(text: str) -> str:
    """A text in which a cell with line breaks breaks none."""
    return " ".join(text.split())


def brief_text(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"


def settle_recipe(
    task: Task, splits: Mapping[str, Sequence[Row]], options: argparse.Namespace, others: Sequence[str] = ()
) -> tuple[str, str]:
    """The recipe and, if it was chosen here, why."""
    rows = splits["train"]
    name = options.recipe
    if name != "auto":
        if name not in RECIPES and not Path(name).is_file():
            raise UsageError(f"there is no recipe {name!r}{did_you_mean(name, ['auto', *RECIPES])}")
        if RECIPES.get(name, task.name) != task.name:
            known = ", ".join(recipe for recipe, of_task in RECIPES.items() if of_task == task.name)
            raise UsageError(f"the recipe {name} is for {RECIPES[name]}; for {task.name} there are {known}")
        return name, ""
    if task.spelt:
        return "inflection", "lemmas and features"
    if task.name == "pairs":
        may_align = not rules_out_chunks(options, others) and not any(map(hold_signs_of_chunks, splits.values()))
        return choose_pair_recipe(looks_of(rows, may_align))
    if task.name == "labelling":
        if "intent" in rows[0]:
            return "slot-filling", "there is an intent of each text"
        labels = {label for row in rows for label in row["labels"]}
        if any(label[:2] in ("B-", "S-", "U-") for label in labels):
            return "chunking", "the labels begin and continue chunks"
        return "pos-tagging", "labels of single words"
    if task.name == "classification" and fmean(len(row["text"].split()) for row in rows) < 1.5:
        return "names", "single words, or no spaces, and what is said of each"
    return {
        "classification": ("sentiment", "texts and what is said of each"),
        "question-answering": ("question-answering", "questions with contexts"),
        "language-model": ("language-model", "running text"),
    }[task.name]


def rules_out_chunks(options: argparse.Namespace, others: Sequence[str]) -> bool:
    """Whether the command line says of attention, copying or tokenizers what a model that writes chunks settles."""
    flags = {name_of_flag(word) for word in others}
    fields = set(re.findall(r"(\w+)=", options.config_overrides or ""))
    return bool(
        options.preset
        or flags & {"shared_vocabulary", "source_tokenizer", "target_tokenizer", "tokenizer_name"}
        or fields & {"attention_type", "copy", "coverage"}
    )


def hold_signs_of_chunks(rows: Sequence[Row]) -> bool:
    """Whether targets hold what tells the chunks of a target apart, so that they cannot be cut into chunks."""
    from ..tokenizer_training import BETWEEN_CHUNKS, EMPTY_CHUNK

    return any(sign in row["target"] for row in rows for sign in (BETWEEN_CHUNKS, EMPTY_CHUNK))


def looks_of(rows: Sequence[Row], may_align: bool) -> PairLooks:
    from ..chunks import can_be_aligned
    from ..tokenizer_training import choose_tokenizer

    sources, targets = ([row[side] for row in rows if row["source"] and row["target"]] for side in ("source", "target"))
    if not sources:
        raise ValueError("there must be a pair of texts to train on, and one side is always empty")
    return PairLooks(
        choose_tokenizer(sources).kind,
        choose_tokenizer(targets, is_target=True).kind,
        fmean(map(len, sources)),
        fmean(map(len, targets)),
        fmean(fmean(c in source for c in target) for source, target in zip(sources[:2000], targets, strict=False)),
        fmean(len(unit) for target in targets for unit in target.split() or [""]),
        may_align and len(sources) < FEW_PAIRS and can_be_aligned(sources, targets),
    )


_MODELS_FOR = {
    "pairs": "text2text-generation",
    "classification": "text-classification",
    "labelling": "token-classification",
    "question-answering": "question-answering",
    "language-model": "text-generation",
}


def script_arguments(
    task: Task,
    recipe: str,
    options: argparse.Namespace,
    others: Sequence[str],
    rows: Sequence[Row] = (),
    rows_to_choose_by: float = math.inf,
) -> list[str]:
    """
    What the script of a task gets beside its files; says what is wrong with the options.

    Args:
        rows: to train on.
        rows_to_choose_by: the number of those of the validation.
    """
    import torch

    from ..arguments import multiplies_bfloat16
    from ..checkpoints import members_of

    settings = load_recipe(recipe)
    if not (torch.cuda.is_available() or multiplies_bfloat16()):
        settings.pop("bf16", None)
    if options.recipe == "auto" and recipe == "sentiment" and has_punctuation_at_words(rows):
        # else "great!" is another word than "great"
        settings = {name: settings[name] for name in settings if name not in ("vocab_size", "min_frequency")}
        settings["tokenizer"] = "auto"
    settle_overrides(settings, options, script(task.name))
    if rows and "intent" not in rows[0]:
        settings.pop("intent_column", None)
    if task.problem_type != "single_label_classification":
        settings.pop("metrics", None)
        settings["problem_type"] = task.problem_type
    of_models = script(task.name).ModelArguments
    if "--tokenizer_name" in {word.split("=")[0] for word in others}:  # which a recipe would train
        of_tokenizers = {*of_models.__dataclass_fields__} - {*of_models.of_any_tokenizer}
        settings = {name: value for name, value in settings.items() if name not in of_tokenizers}
    if options.start is not None:
        if options.config_overrides:
            raise UsageError(f"--config_overrides is of new models, and {options.start} brings its config")
        if members := members_of(options.start):
            raise UsageError(
                f"--from needs a single model, and {options.start} holds an ensemble: take one of it, {members[0]}, or "
                f"distil it, --teacher_models {options.start}"
            )
        if (found := task_of(options.start)) != _MODELS_FOR[task.name]:
            raise UsageError(f"--from needs a model for {_MODELS_FOR[task.name]}, and {options.start} is for {found}")
        settings = {name: value for name, value in settings.items() if name not in of_models.__dataclass_fields__}
        settings["model_name_or_path"] = options.start
        if task.name == "pairs":
            settings["extend_vocabulary"] = True
    given = {word.split("=")[0] for word in others}
    for one, other in (("eval_steps", "save_steps"), ("save_steps", "eval_steps")):
        if f"--{one}" in given and f"--{other}" not in given and other in settings:  # they must go together
            settings[other] = value_of(one, others)
    if "--max_steps" in given and (steps := value_of("max_steps", others)).isdecimal() and "warmup_steps" in settings:
        settings["warmup_steps"] = min(settings["warmup_steps"], int(steps) // 10)
    words = as_arguments(settings)
    words += ["--do_train", "--do_eval", "--do_predict", "--seed", str(options.seed), "--brief", "True"]
    words += ["--report_to", "none", "--logging_steps", "20"]
    if not {"--eval_strategy", "--save_strategy", "--load_best_model_at_end"} & given:
        is_chance = rows_to_choose_by < _FEW_TO_CHOOSE_BY and settings.get("metrics", [""])[0] == "exact_match"
        of_last = ["--load_best_model_at_end", "False", "--metric_for_best_model", "exact_match"]
        words += of_last if is_chance else ["--early_stopping_patience", str(_PATIENCE)]
    return words


def has_punctuation_at_words(rows: Sequence[Row]) -> bool:
    """Whether texts are written as people write, and not with spaces around their punctuation."""
    words = [word for row in rows for word in str(row["text"]).split()]
    return sum(bool(re.search(r"\w[.,;:!?]$", word)) for word in words) > 0.02 * len(words)


def value_of(name: str, words: Sequence[str]) -> str:
    """What the words of a command line give for an argument that is among them."""
    for word, value in zip(words, [*words[1:], ""], strict=True):
        if word == f"--{name}":
            return value
        if word.startswith(f"--{name}="):
            return word.split("=", 1)[1]
    raise ValueError(f"--{name} is not among {words}")


def settle_overrides(settings: dict[str, Any], options: argparse.Namespace, module: Any) -> None:
    """
    Let a preset take the place of the config's fields in the recipe of a script, and the command line add to them.
    """
    from ..arguments import parse_config_overrides

    config_class = module.ModelArguments.config_class
    if options.preset is not None:
        if options.preset not in config_class.presets:
            near = did_you_mean(options.preset, config_class.presets)
            raise UsageError(f"there is no preset {options.preset!r}{near}")
        preset = dict(config_class.presets[options.preset])
        arguments = set(preset) & set(module.DataArguments.__dataclass_fields__)  # the script settles some by the data
        settings |= {name: preset.pop(name) for name in arguments}
        settings["config_overrides"] = ",".join(f"{name}={value}" for name, value in preset.items())
    if options.config_overrides:
        parse_config_overrides(options.config_overrides, config_class)
        overrides = (settings.get("config_overrides"), options.config_overrides)
        settings["config_overrides"] = ",".join(filter(None, overrides))  # of two values of a field the last one counts


def quiet() -> None:
    """Leave out what the libraries tell of their work."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in ("accelerate", "sacrebleu"):
        logging.getLogger(name).setLevel(logging.ERROR)
