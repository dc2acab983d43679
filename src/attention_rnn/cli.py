"""
The command `attention-rnn`, also `python -m attention_rnn`.

    attention-rnn train words.tsv
    attention-rnn predict runs/words

Nothing is imported here that takes time: the help comes at once.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from .commands import did_you_mean, fill_paragraphs, help_width

TRACEBACK = "ATTENTION_RNN_TRACEBACK"


class Command(NamedTuple):
    """
    Args:
        group (`str`): the heading in the help that it stands under.
        function (`str`): the function that gets its arguments, as module:name within this package.
        what (`str`): what it does, for the help.
    """

    group: str
    function: str
    what: str


COMMANDS = {
    "train": Command("Make a model", "commands.train:main", "train a model on your own file, or go on with a training"),
    "forecast": Command("Make a model", "commands.forecast:main", "tell what comes next in the series of a file"),
    "recipes": Command("Make a model", "commands.recipes:main", "list the recipes, or show one"),
    "predict": Command("Use a model", "commands.predict:main", "answer at a prompt, or put a file through a model"),
    "evaluate": Command("Use a model", "commands.evaluate:main", "score a model on a file"),
    "demo": Command("Use a model", "commands.demo:demo", "try a model in the browser"),
    "space": Command("Use a model", "commands.demo:space", "write a Space of the Hub that shows a model"),
    "transcribe": Command("Use a model", "commands.transcribe:main", "write what is said in recordings"),
    "export": Command("Use a model", "commands.export:main", "write a model for use without torch, or in a web page"),
    "serve": Command("Use a model", "commands.serve:main", "put a model behind a port"),
    "explain": Command("Look into a model", "commands.explain:main", "show where a model looks in texts that you give"),
    "info": Command("Look into a model", "commands.info:main", "tell what a folder holds and what it reached"),
    "card": Command("Look into a model", "commands.card:main", "show its model card, or add to it"),
    "average": Command("Combine models", "commands.combine:average", "average the checkpoints of a training"),
    "ensemble": Command("Combine models", "commands.combine:ensemble", "let several models decode a file together"),
}

_HELP = """Usage: attention-rnn COMMAND ...

Recurrent networks with attention, from a file to a model that is used:

  attention-rnn train words.tsv      trains a model in runs/words
  attention-rnn predict runs/words   answers what you type
  attention-rnn forecast sales.csv   tells what comes next in series

{commands}

attention-rnn COMMAND --help tells more of one; --version prints the version. After an error, --traceback shows
where it was raised."""


def main(argv: Sequence[str] | None = None) -> None:
    arguments = list(sys.argv[1:] if argv is None else argv)
    shows_traceback = "--traceback" in arguments or bool(os.environ.get(TRACEBACK))
    arguments = [argument for argument in arguments if argument != "--traceback"]
    name = arguments[0] if arguments else "--help"
    try:
        call(name, arguments[1:])
    except KeyboardInterrupt as error:
        if str(error):
            print(f"\n{error}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if shows_traceback:
            raise
        told = " ".join(str(error).split())
        if isinstance(error, FileNotFoundError) and error.filename is not None:
            told = f"there is no file {error.filename}"
        kind = "" if isinstance(error, ValueError | OSError | ImportError) else f"{type(error).__name__}: "
        sys.exit(f"attention-rnn {name}: {kind}{told}")


def call(name: str, arguments: Sequence[str]) -> None:
    """Run a command, or what is asked for in the place of one."""
    if name in ("-h", "--help", "help"):
        print(overview())
    elif name == "--version":
        from . import __version__

        print(f"attention-rnn {__version__}")
    elif name not in COMMANDS:
        sys.exit(f"attention-rnn: there is no command {name!r}{did_you_mean(name, COMMANDS)}")
    else:
        module, _, function = COMMANDS[name].function.partition(":")
        getattr(import_module(f".{module}", __package__), function)(arguments)


def overview() -> str:
    """The help of all commands."""
    lines: list[str] = []
    for group in dict.fromkeys(command.group for command in COMMANDS.values()):
        lines += [f"{group}:"]
        lines += [f"  {name:10} {command.what}" for name, command in COMMANDS.items() if command.group == group]
    return fill_paragraphs(_HELP.format(commands="\n".join(lines)), help_width())
