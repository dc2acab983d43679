"""
The commands of `attention-rnn`.

To add one: write a function that takes its arguments as a list of strings, here or anywhere in the package, and name it
in `COMMANDS` of `cli.py`. What goes wrong it raises; what the message says is all that the user sees.
"""

import argparse
import difflib
import re
import shutil
import textwrap
from collections.abc import Iterable
from typing import Any, NoReturn


class UsageError(ValueError):
    """A command line that is not understood."""


def near_to(name: str, known: Iterable[str]) -> str:
    """The end of a message on a name that nothing has: what is near to it, if anything."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """As `near_to`, or else all of them."""
    known = list(known)
    return near_to(name, known) or f"; there are {', '.join(known)}"


def help_width() -> int:
    """How many characters a line of a help has: as the terminal, and no more than are easy to read."""
    return min(shutil.get_terminal_size().columns, 100) - 2


def fill_paragraphs(text: str, width: int) -> str:
    """A text with its paragraphs filled to lines of so many characters, where none of their lines is indented."""
    return "\n\n".join(
        paragraph if re.search("^ ", paragraph, re.MULTILINE) else "\n".join(_lines(paragraph, width))
        for paragraph in text.strip().split("\n\n")
    )


def _lines(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)


class _HelpFormatter(argparse.HelpFormatter):
    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"width": help_width(), **options})

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return fill_paragraphs(text, width)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return _lines(text, width)


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are exceptions, and that knows what a misspelt flag was to be."""

    def __init__(self, command: str, description: str | None, **options: Any) -> None:
        super().__init__(
            prog=f"attention-rnn {command}",
            description=description,
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
            **options,
        )

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} ({self.prog} --help)")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, others = self.parse_known_intermixed_args(args, namespace)  # files may also follow options
        if others:
            self.error(f"there is no {others[0]}{did_you_mean(others[0], self.flags)}")
        return options

    parse_intermixed_args = parse_args

    @property
    def flags(self) -> list[str]:
        return [name for name in self._option_string_actions if name.startswith("--")]


def add_reading_arguments(parser: CommandParser) -> None:
    """The arguments that say how a file is to be read."""
    parser.add_argument("--columns", nargs="+", metavar="NAME", help="columns of the source and the target or label")
    parser.add_argument("--separator", type=separator, help="what separates columns (as it looks)")
    parser.add_argument("--header", action=argparse.BooleanOptionalAction, help="the first row names columns (or not)")
    parser.add_argument("--encoding", metavar="NAME", help="of the file, such as cp1252 (utf-8)")


def separator(text: str) -> str:
    """The type of what separates columns, where a tab may be typed as a backslash and a t."""
    if not text:
        raise argparse.ArgumentTypeError("must be one or more characters, got ''")
    return text.replace("\\t", "\t")


def at_least(least: int) -> Any:
    """The type of an argument that is an integer of at least so much."""

    def parse(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"{value} is below {least}")
        return value

    parse.__name__ = "int"
    return parse
