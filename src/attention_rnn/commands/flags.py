"""Arguments of a script that a command passes on: which are refused, and what they read."""

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from . import CommandParser, UsageError, near_to

# what a command tells the script itself, and how it is said here
SETTLED = {
    "output_dir": "-o names the folder",
    "overwrite_output_dir": "--again trains anew what is there",
    "resume_from_checkpoint": "the same command goes on, and --again begins anew",
    "do_train": "a model is trained, validated and tested",
    "do_eval": "a model is trained, validated and tested",
    "do_predict": "a model is trained, validated and tested",
    "train_file": "the file comes first, without a name",
}
# the same of what is said of the files that this command reads, and of which it writes others
_SETTLED_OF_FILES = {
    r"model_name_or_path": "--from names the model",
    r"dataset_name|dataset_config_name|\w+_file": "the file comes first, --validation and --test name others",
    r"\w+_columns?|column_names": "--columns names the columns",
    r"file_format": "--separator, --header and --encoding say how the file is read",
}


def settled_of(module: Any) -> dict[str, str]:
    """As `SETTLED`, of the script of a task."""
    names = [*module.ModelArguments.__dataclass_fields__, *module.DataArguments.__dataclass_fields__]
    told = _SETTLED_OF_FILES.items()
    return {name: said for pattern, said in told for name in names if re.fullmatch(pattern, name)} | SETTLED


def name_of_flag(word: str) -> str:
    """The argument that a word of a command line begins, as its field is called."""
    return word.split("=")[0].removeprefix("--").replace("-", "_")


def check_flags(module: Any, words: Sequence[str], parser: CommandParser, settled: Mapping[str, str]) -> None:
    """Refuse what neither this command nor the script knows, and what this command tells the script itself."""
    kinds = (module.ModelArguments, module.DataArguments, module.TrainingArguments)
    known = {name for kind in kinds for name in kind.__dataclass_fields__}
    for word in words:
        name = name_of_flag(word)
        name = name if name in known else name.removeprefix("no_")
        if not word.startswith("--"):
            continue
        if name not in known:
            flags = [*parser.flags, *(f"--{name}" for name in sorted(known - set(settled)))]
            near = near_to(word.split("=")[0], flags)
            raise UsageError(f"there is no {word}{near or '; --help-all lists all'}")
        if name in settled:
            raise UsageError(f"{word.split('=')[0]} is not for this command: {settled[name]}")
    if words and not words[0].startswith("-"):
        raise UsageError(f"{words[0]!r} belongs to no argument: name the files first")


# arguments of the scripts whose files and folders are read
_READ = ("model_name_or_path", "tokenizer_name", "teacher_models", "word_vectors")


def check_inputs(
    folder: Path, data: Mapping[str, Sequence[str]], inputs: Mapping[str, str | None], words: Sequence[str]
) -> dict[str, str]:
    """
    Refuse to train in the folder in which something lies that the training reads.

    Args:
        folder: of the training.
        data: the files of data, by the arguments of this command.
        inputs: what else is read, by the arguments of this command; `None` for those that are not given.
        words: arguments of the script, which may name more.

    Returns:
        what tells the inputs, but for the data, from others that may come to stand in their places.
    """
    from ..parts import content_of
    from ..run_folder import check_apart

    read = {argument: [name] for argument, name in inputs.items() if name is not None}
    argument = ""
    for word in words:
        if word.startswith("--"):
            argument, _, word = word.partition("=")
        if name_of_flag(argument) in _READ:
            read.setdefault(argument, []).append(word)
    check_apart(folder, "-o", {**data, **read})
    contents = {name: content_of(name) for name in chain.from_iterable(read.values())}
    return {name: content for name, content in contents.items() if content is not None}
