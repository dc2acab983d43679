"""`attention-rnn predict`: answers at a prompt, or what a model says of a file."""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

from ..data import extension, json_lines, read_rows, write_json_lines
from ..parts import contents_of, merge, parts_of, prepare, write_whole
from . import CommandParser, UsageError, add_reading_arguments, at_least, near_to
from .answers import STANDARD_OUTPUT, check_output, json_lines_for, row_of
from .forecast import main as forecast
from .models import Model, Source, name_piece, task_of, tell_unknown
from .reading import Texts, is_of_lines, read_texts

_DESCRIPTION = """Use a model: type texts at a prompt, pipe them in, or name a file.

  attention-rnn predict runs/words
  attention-rnn predict runs/words more.txt -o more.jsonl --int8
  echo hello | attention-rnn predict runs/words

A model that answers questions is given a context, a tab and a question; where one of the two ends in a question mark,
it is taken for the question. A model of two texts is given both with a tab between.

Of a table, whatever its name ends in, the columns are read that the model was trained on, or --columns, and the others
are written beside the predictions; in any other file each line is a text. What cannot be read has an empty prediction
and is told of. When a command was interrupted, the same command goes on. For an encoder-decoder all arguments of
examples/generate_file.py are understood too: --alignments, ...; with --source_column a table is read piece by piece, as
a text file always is, and its other columns are left out."""

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
        help="jsonl, csv or tsv to write, - for the screen (NAME.predictions.csv of csv, .tsv of tsv, else .jsonl)",
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
    options, others = parser.parse_known_intermixed_args(list(arguments))
    if options.file is None or not Path(options.file).exists():
        if others:
            parser.error(f"there is no {others[0]} without a file{near_to(others[0], parser.flags)}")
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
    nested = ["-n"] if options.number > 1 else [word for word in others if word in ("--alignments", "--scores")]
    kind = extension(options.file) if extension(options.file) in ("csv", "tsv") and not nested else "jsonl"
    output = options.output or Path(f"{Path(options.file).name.split('.')[0]}.predictions.{kind}")
    check_output(output, nested[0] if nested else None)
    if output.exists() and output.samefile(options.file):
        raise ValueError(f"-o must name another file than the one that is read, got {output}")
    model = Model(options.model, options.int8)
    check_options(parser, options, model)
    generates = model.task == "text2text-generation" and not model.is_spelt
    if not generates and (others or options.processes > 1):
        parser.error(f"{others[0] if others else '--processes'} is for encoder-decoders, and this is another model")
    # which is read piece by piece, however large it is
    reads_itself = generates and generate_file_reads(model, others, options)
    texts = Texts(options.file) if reads_itself else read_texts(model, options)
    if texts.columns:
        print(f"reads {' + '.join(texts.columns)} of {options.file}", file=sys.stderr)
    with json_lines_for(output, model, texts, options.overwrite) as file:
        if reads_itself:
            run_generate_file([options.model, options.file, str(file), *others], options)
        elif generates:
            generate_file(texts.readable, file, others, options)
        else:
            write_answers(model, texts.readable, file, options)
        told = tell_unknown(model, (row["source"] for _, row in read_rows(str(file))))
    if output != STANDARD_OUTPUT:
        print(f"all predictions lie in {output}")
    if texts.faults:
        print(texts.tell_faults(), file=sys.stderr)
    if told is not None:
        print(told, file=sys.stderr)


def check_options(parser: CommandParser, options: argparse.Namespace, model: Model) -> None:
    """Refuse what the model has no use for."""
    if options.number > 1 and not model.gives_several:
        parser.error(f"-n is for models with a next best answer, and {options.model} gives one to each text")
    if options.num_beams is not None and model.task != "text2text-generation":
        parser.error(f"--num_beams is for encoder-decoders, and {options.model} does {model.task}")


def generate_file(sources: Sequence[Source], output: Path, others: Sequence[str], options: argparse.Namespace) -> None:
    """Let `generate_file.py` write what becomes of these."""
    file = output.with_name(f"{output.name}.sources.jsonl")
    write_json_lines(file, ({"source": source} for source in sources))
    try:
        run_generate_file([options.model, str(file), str(output), *others, "--source_column", "source"], options)
    finally:
        file.unlink(missing_ok=True)


def run_generate_file(words: list[str], options: argparse.Namespace) -> None:
    """Call `generate_file.py` with these words and the options that this command gives another name."""
    words += ["--overwrite"] if options.overwrite else []
    words += ["--num_beams", str(max(options.num_beams or 1, options.number))] if options.num_beams else []
    words += ["--num_return_sequences", str(options.number), "--scores"] if options.number > 1 else []
    words += ["--int8"] if options.int8 else []
    if options.processes == 1:
        import transformers

        from ..examples.generate_file import main as generate

        transformers.logging.disable_progress_bar()  # of the weights
        generate(words)
        return
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(options.processes)]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]  # else it warns of defaults
    launch += ["--multi_gpu"] if has_accelerators(options.processes) else ["--cpu"]
    quiet = os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    code = subprocess.call([*launch, "--module", "attention_rnn.examples.generate_file", *words], env=quiet)
    if code:
        raise RuntimeError(f"a process of --processes {options.processes} failed with code {code}, see above")


def generate_file_reads(model: Model, others: Sequence[str], options: argparse.Namespace) -> bool:
    """Whether `generate_file.py` is to read the file: a text a line, or as its own arguments say."""
    if {"--source_column", "--column_names", "--file_format"} & {word.split("=")[0] for word in others}:
        return True
    return options.encoding is None and is_of_lines(model, options)


def has_accelerators(number: int) -> bool:
    import torch

    return torch.cuda.device_count() >= number


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
    """
    Answer each line of the standard input at once, and what cannot be read by an empty line.

    Raises:
        ValueError: none of the lines that were piped in can be read.
    """
    if sys.stdin is None:
        raise UsageError("there is no standard input to read texts from: name a file")
    # of a system that knows no other letters
    if isinstance(sys.stdin, TextIOWrapper) and sys.stdin.encoding.lower() in ("ascii", "ansi_x3.4-1968"):
        sys.stdin.reconfigure(encoding="utf-8")
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        print(f"{model.task} by {model.folder}; an empty line gives an empty answer, Ctrl-D ends")
    total, failed, has_told = 0, 0, False
    for number, line in enumerate(prompted_lines() if is_terminal else sys.stdin, start=1):
        text = line.rstrip("\r\n")
        place = "" if is_terminal else f"line {number}: "
        total += bool(text.strip())
        if not (is_terminal or has_told or model.reads_two or model.is_spelt) and "\t" in text:
            print(f"{place}the tab is read as part of the text, with what stands on both its sides", file=sys.stderr)
            has_told = True
        try:
            (answers,) = model.answers([text], options.number, options.num_beams)
            unknown = model.unknown(text) if text.strip() else []
        except ValueError as error:
            failed += 1
            print(f"{place}{error}", file=sys.stderr, flush=True)
            if not is_terminal:  # so that lines meet their answers
                print(flush=True)
            continue
        for answer in answers:
            is_alone = answer.score is None or (options.number == 1 and not is_terminal)
            shown = "" if is_alone else f"{answer.score:8.3f}  "
            print(f"{shown}{answer.text}", flush=True)
        if unknown:
            pieces = ", ".join(map(name_piece, unknown))
            print(f"  the model does not know {pieces}", file=sys.stderr, flush=True)
    if failed and failed == total and not is_terminal:
        raise ValueError(f"none of {total:,} lines could be read")


def prompted_lines() -> Iterator[str]:
    with suppress(ImportError):
        import readline  # noqa: F401  # lets the arrow keys edit what is typed
    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return
