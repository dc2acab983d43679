"""`attention-rnn predict`: answers at a prompt, or what a model says of a file."""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from ..data import COLUMN_NAMES
from ..inspection import read_content, text_of
from . import CommandParser, at_least
from .forecast import main as forecast
from .models import Answer, Model, task_of

_DESCRIPTION = """Use a model: type texts at a prompt, pipe them in, or name a file.

  attention-rnn predict runs/words
  attention-rnn predict runs/words more.txt -o more.jsonl --int8
  echo hello | attention-rnn predict runs/words

A file of any size is read piece by piece by an encoder-decoder; when that was interrupted, the same command goes on.
All arguments of examples/generate_file.py are understood for it too: --column_names, --alignments, ..."""

_PART = 1_024  # texts that are written at once


def main(arguments: Sequence[str]) -> None:
    parser = CommandParser("predict", _DESCRIPTION)
    parser.add_argument("model", help="a folder that a training left, or a name on the Hub")
    parser.add_argument("file", nargs="?", help="the file to read (else a prompt, or the standard input)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="jsonl to write (NAME.predictions.jsonl)")
    parser.add_argument("-n", type=at_least(1), default=1, dest="number", help="answers to each text (%(default)s)")
    parser.add_argument("--num_beams", type=at_least(1), help="beams of the search (the model's own setting)")
    parser.add_argument("--int8", action="store_true", help="decode with int8 weights, on a CPU")
    parser.add_argument("--processes", type=at_least(1), default=1, help="for a file (%(default)s)")
    options, others = parser.parse_known_args(list(arguments))
    if options.file is None or not Path(options.file).exists():
        if others:
            parser.error(f"there is no {others[0]} without a file")
        if options.file is not None:
            raise FileNotFoundError(f"there is no file {options.file}")
        answer_lines(Model(options.model, options.int8), options)
        return
    if task_of(options.model) == "time-series-forecasting":
        named = ["--output", str(options.output)] if options.output else []
        forecast([options.file, "--model", options.model, *named, *others])
        return
    output = options.output or Path(f"{Path(options.file).name.split('.')[0]}.predictions.jsonl")
    model = Model(options.model, options.int8)
    if model.task == "text2text-generation" and not model.is_spelt:
        generate_file(output, others, options)
    elif others or options.processes > 1:
        parser.error(f"{others[0] if others else '--processes'} is for encoder-decoders, and this is another model")
    else:
        write_answers(model, output, options)
    print(f"all predictions lie in {output}")


def generate_file(output: Path, others: Sequence[str], options: argparse.Namespace) -> None:
    """Let `generate_file.py` do it, in one process or several."""
    words = [options.model, options.file, str(output), *others]
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


def has_accelerators(number: int) -> bool:
    import torch

    return torch.cuda.device_count() >= number


def write_answers(model: Model, output: Path, options: argparse.Namespace) -> None:
    """Write an object for each text of a file; a part that is there is not made again."""
    if output.exists():
        raise ValueError(f"{output} is there already: -o names another file")
    content = read_content(options.file)
    if content.text is not None:
        texts = content.text.splitlines()
    else:
        names = list(content.rows[0])
        usual = [name for name in names if name.lower() in COLUMN_NAMES["text"] | COLUMN_NAMES["source"]]
        texts = [text_of(row, (usual or names)[0]) for row in content.rows]
    unfinished = output.with_name(f"{output.name}.unfinished")
    done = unfinished.read_text(encoding="utf-8").count("\n") if unfinished.exists() else 0
    remaining = iter(texts[done:])
    with open(unfinished, "a", encoding="utf-8") as file:
        while part := list(islice(remaining, _PART)):
            rows = zip(part, model.answers(part, options.number, options.num_beams), strict=True)
            lines = (json.dumps(row_of(text, answers), ensure_ascii=False) + "\n" for text, answers in rows)
            file.write("".join(lines))
            file.flush()
    unfinished.rename(output)


def row_of(text: str, answers: Sequence[Answer]) -> dict[str, object]:
    row: dict[str, object] = {"source": text, "prediction": answers[0].text}
    if len(answers) > 1:
        row["n_best"] = [{"prediction": answer.text, "score": answer.score} for answer in answers]
    return row


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
            shown = "" if options.number == 1 or answer.score is None else f"{answer.score:8.3f}  "
            print(f"{shown}{answer.text}", flush=True)
        if unknown:
            pieces = ", ".join(
                f"{piece!r} (U+{ord(piece):04X})" if len(piece) == 1 else repr(piece) for piece in unknown
            )
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
