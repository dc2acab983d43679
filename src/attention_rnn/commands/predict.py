"""`attention-rnn predict`: answers at a prompt, or what a model says of a file."""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ..conll import is_conll
from ..data import FORMATS, choose_columns, extension, json_lines, read_rows, write_json_lines
from ..inspection import Content, Known, read_content, read_text_lines
from ..parts import contents_of, merge, parts_of, prepare, write_whole
from ..tasks import Task
from . import CommandParser, add_reading_arguments, at_least
from .answers import STANDARD_OUTPUT, check_output, json_lines_for, row_of
from .forecast import main as forecast
from .models import Model, Source, name_piece, read_settings, task_of, tell_unknown
from .rows import known_of, rows_of, suit_columns

_DESCRIPTION = """Use a model: type texts at a prompt, pipe them in, or name a file.

  attention-rnn predict runs/words
  attention-rnn predict runs/words more.txt -o more.jsonl --int8
  echo hello | attention-rnn predict runs/words

A model that answers questions is given a context, a tab and a question; where one of the two ends in a question mark,
it is taken for the question. A model of two texts is given both with a tab between.

In a csv, tsv, json, jsonl or parquet file the columns are read that the model was trained on, or --columns; in any
other file each line is a text. When a command was interrupted, the same command goes on. For an encoder-decoder all
arguments of examples/generate_file.py are understood too: --alignments, ...; with --source_column a table is read piece
by piece, as a text file always is."""

_PART = 1_024  # texts that are written at once


def main(arguments: Sequence[str]) -> None:
    parser = CommandParser("predict", _DESCRIPTION)
    parser.add_argument("model", help="a folder that a training left, or a name on the Hub")
    parser.add_argument("file", nargs="?", help="the file to read (else a prompt, or the standard input)")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="jsonl, csv or tsv to write, - for the screen (NAME.predictions.jsonl)",
    )
    parser.add_argument(
        "-n", type=at_least(1), default=1, dest="number", help="answers to each text, the best first (%(default)s)"
    )
    parser.add_argument(
        "--num_beams", type=at_least(1), help="beams of an encoder-decoder's search (the model's own setting)"
    )
    parser.add_argument(
        "--int8", action="store_true", help="decode with int8 weights, on a CPU (models that write texts)"
    )
    parser.add_argument("--processes", type=at_least(1), default=1, help="for a file (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="begin anew, whatever an earlier command has left")
    add_reading_arguments(parser)
    options, others = parser.parse_known_args(list(arguments))
    if options.file is None or not Path(options.file).exists():
        if others:
            parser.error(f"there is no {others[0]} without a file")
        if options.file is not None:
            raise FileNotFoundError(f"there is no file {options.file}")
        model = Model(options.model, options.int8)
        check_options(parser, options, model)
        answer_lines(model, options)
        return
    if task_of(options.model) == "time-series-forecasting":
        named = ["--output", str(options.output)] if options.output else []
        named += ["--again"] if options.overwrite else []
        forecast([options.file, "--model", options.model, *named, *others])
        return
    output = options.output or Path(f"{Path(options.file).name.split('.')[0]}.predictions.jsonl")
    nested = ["-n"] if options.number > 1 else [word for word in others if word in ("--alignments", "--scores")]
    check_output(output, nested[0] if nested else None)
    model = Model(options.model, options.int8)
    check_options(parser, options, model)
    generates = model.task == "text2text-generation" and not model.is_spelt
    if not generates and (others or options.processes > 1):
        parser.error(f"{others[0] if others else '--processes'} is for encoder-decoders, and this is another model")
    with json_lines_for(output, model, options.overwrite) as file:
        if generates:
            generate_file(model, file, others, options)
        else:
            write_answers(model, read_sources(model, options), file, options)
        told = tell_unknown(model, (row["source"] for _, row in read_rows(str(file))))
    if output != STANDARD_OUTPUT:
        print(f"all predictions lie in {output}")
    if told is not None:
        print(told, file=sys.stderr)


def check_options(parser: CommandParser, options: argparse.Namespace, model: Model) -> None:
    """Refuse what the model has no use for."""
    if options.number > 1 and not model.gives_several:
        parser.error(f"-n is for models with a next best answer, and {options.model} gives one to each text")
    if options.num_beams is not None and model.task != "text2text-generation":
        parser.error(f"--num_beams is for encoder-decoders, and {options.model} does {model.task}")


def generate_file(model: Model, output: Path, others: Sequence[str], options: argparse.Namespace) -> None:
    """Let `generate_file.py` do it, in one process or several."""
    file, sources = options.file, output.with_name(f"{output.name}.sources.jsonl")
    if not reads_itself(others, options):
        rows = ({"source": source} for source in read_sources(model, options))
        write_json_lines(sources, rows)
        file, others = str(sources), [*others, "--source_column", "source"]
    try:
        run_generate_file([options.model, file, str(output), *others], options)
    finally:
        sources.unlink(missing_ok=True)


def run_generate_file(words: list[str], options: argparse.Namespace) -> None:
    """Call `generate_file.py` with these words and the options that this command gives another name."""
    words += ["--overwrite"] if options.overwrite else []
    words += ["--num_beams", str(max(options.num_beams or 1, options.number))] if options.num_beams else []
    words += ["--num_return_sequences", str(options.number), "--scores"] if options.number > 1 else []
    words += ["--int8"] if options.int8 else []
    if options.processes == 1:
        from ..examples.generate_file import main as generate

        generate(words)
        return
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(options.processes)]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]  # else it warns of defaults
    launch += ["--multi_gpu"] if has_accelerators(options.processes) else ["--cpu"]
    code = subprocess.call([*launch, "--module", "attention_rnn.examples.generate_file", *words])
    if code:
        raise RuntimeError(f"a process of --processes {options.processes} failed with code {code}, see above")


def reads_itself(others: Sequence[str], options: argparse.Namespace) -> bool:
    """Whether `generate_file.py` is to read the file: a text a line, or as its own arguments say."""
    if {"--source_column", "--column_names", "--file_format"} & {word.split("=")[0] for word in others}:
        return True
    return is_plain(options) and options.encoding is None


def is_plain(options: argparse.Namespace) -> bool:
    """Whether each line of the file is a text."""
    says_otherwise = options.columns or options.separator or options.header is not None
    return not says_otherwise and extension(options.file) not in (*FORMATS, "parquet")


def has_accelerators(number: int) -> bool:
    import torch

    return torch.cuda.device_count() >= number


def read_sources(model: Model, options: argparse.Namespace) -> list[Source]:
    """
    What the model is to read of each line or row of a file.

    Raises:
        ValueError: the file lacks what the model reads, with the place.
    """
    labels_words = model.task == "token-classification"
    if is_plain(options):
        lines = [line.rstrip("\r\n") for line in read_text_lines(options.file, options.encoding)]
        if not (labels_words and is_conll(lines)):
            return list(lines)
    task = None if options.columns or model.task == "text-generation" else model.data_task
    if task is None:
        known = Known("labelling" if labels_words else "pairs", wanted=options.columns or ())
    else:
        read = [column for role in ("source", "text", "tokens") for column in task.columns.get(role, ())]
        known = known_of(task, read_settings(model.folder).get("names", ()))._replace(wanted=read)
    content = read_content(options.file, options.separator, options.header, options.encoding, known)
    if content.text is not None:
        raise ValueError(f"{options.file} must hold columns, got plain text")
    if task:
        task = replace(suit_columns(task, content), spelt=False)
    else:
        task = task_of_columns(model, content, options.columns)
    rows = rows_of(content, task, is_labelled=False)
    if task.name == "question-answering":
        return [(row["context"], row["question"]) for row in rows]
    return [source if len(source := tuple(row.values())) > 1 else source[0] for row in rows]


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
    return Task(name, {role: list(columns or ())}, "")


def write_answers(model: Model, sources: Sequence[Source], output: Path, options: argparse.Namespace) -> None:
    """Write an object for each text; a part that is there is not made again."""
    settings = {name: value for name, value in vars(options).items() if name not in ("output", "overwrite")}
    prepare(output, settings | {"texts": len(sources), **contents_of(model.folder, options.file)}, options.overwrite)
    for number, start in enumerate(range(0, len(sources), _PART)):
        file = parts_of(output) / f"{number:08}.jsonl"
        if file.exists():
            continue
        part = sources[start : start + _PART]
        rows = zip(part, model.answers(part, options.number, options.num_beams), strict=True)
        write_whole(file, json_lines(row_of(source, answers) for source, answers in rows))
    merge(output)


def answer_lines(model: Model, options: argparse.Namespace) -> None:
    """Answer each line of the standard input at once."""
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        print(f"{model.task} by {model.folder}; an empty line gives an empty answer, Ctrl-D ends")
    for line in prompted_lines() if is_terminal else sys.stdin:
        text = line.rstrip("\r\n")
        try:
            (answers,) = model.answers([text], options.number, options.num_beams)
            unknown = model.unknown(text) if text.strip() else []
        except ValueError as error:
            if not is_terminal:
                raise
            print(error, file=sys.stderr)
            continue
        for answer in answers:
            is_alone = answer.score is None or (options.number == 1 and not is_terminal)
            shown = "" if is_alone else f"{answer.score:8.3f}  "
            print(f"{shown}{answer.text}", flush=True)
        if unknown:
            pieces = ", ".join(map(name_piece, unknown))
            print(f"  the model has never seen {pieces}", file=sys.stderr, flush=True)


def prompted_lines() -> Iterator[str]:
    with suppress(ImportError):
        import readline  # noqa: F401  # lets the arrow keys edit what is typed
    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return
