"""
The code that travels with a checkpoint: the files that its class needs, under names that no file of a user's own has.

A file of this folder is saved as `attention_rnn_<name>.py`, unless its name says `attention_rnn` already, and so is a
file of a user's own that registers a cell or a score function. Imports are rewritten to these names.
"""

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from .attention import ATTENTIONS
from .cells import CELLS

FOLDER = Path(__file__).parent
# of a neighbour, or of this folder in a file of a user's own
_IMPORT = re.compile(r"^(\s*)from (?:attention_rnn\.models)?\.(\w+) import", re.MULTILINE)
_OTHER_IMPORT = re.compile(
    r"^\s*(?:from attention_rnn\b(?!\.models\.\w+ import)|import attention_rnn\b).*", re.MULTILINE
)


def code_of(model_class: type, config: Any) -> dict[str, str]:
    """
    The files that a checkpoint of this class and config needs, by the names under which they are saved.

    Raises:
        ValueError: a registered class has no file, or its file imports of this package what does not travel.
    """
    own = [sys.modules[kind.__module__] for kind in (*model_class.__mro__, *type(config).__mro__)]
    needed = {Path(str(module.__file__)) for module in own if _is_here(module)}
    extensions = [
        classes[name]
        for classes, name in ((CELLS, config.cell_type), (ATTENTIONS, config.attention_type))
        if name in classes and not _is_here(sys.modules[classes[name].__module__])
    ]
    files = {extension: _file_of(extension) for extension in extensions}
    closure = _closure({*needed, *files.values()})
    code = {travelling_name(file.stem): _rewritten(file) for file in closure}
    for extension, file in files.items():
        code[travelling_name("extensions")] += f"from .{travelling_name(file.stem)} import {extension.__name__}\n"
    return {f"{name}.py": text for name, text in code.items()}


def travelling_name(name: str) -> str:
    """The name of a file in a checkpoint, without `.py`."""
    return name if "attention_rnn" in name else f"attention_rnn_{name}"


def _is_here(module: Any) -> bool:
    return getattr(module, "__file__", None) is not None and Path(module.__file__).parent == FOLDER


def _file_of(extension: type) -> Path:
    try:
        return Path(inspect.getfile(extension))
    except (OSError, TypeError) as error:
        raise ValueError(
            f"{extension.__qualname__} must be in a file, which travels with the checkpoint, got one of the module "
            f"{extension.__module__!r}."
        ) from error


def _closure(files: set[Path]) -> set[Path]:
    """These files and all that they import of their folder, or of this one."""
    found: set[Path] = set()
    waiting = set(files)
    while waiting:
        file = waiting.pop()
        found.add(file)
        for _, name in _IMPORT.findall(file.read_text(encoding="utf-8")):
            neighbours = (file.parent / f"{name}.py", FOLDER / f"{name}.py")
            waiting |= {next(path for path in neighbours if path.is_file())} - found
    return found


def _rewritten(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    if file.parent != FOLDER and (other := _OTHER_IMPORT.search(text)):
        raise ValueError(
            f"{file} must import what it needs of this package by `from attention_rnn.models.<file> import ...`, since "
            f"only these files travel with a checkpoint, got `{other[0].strip()}`."
        )
    return _IMPORT.sub(lambda match: f"{match[1]}from .{travelling_name(match[2])} import", text)
