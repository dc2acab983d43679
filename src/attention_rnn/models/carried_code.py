"""
The code that travels with a checkpoint: the files that its class needs, under names that no file of a user's own has.

A file of this folder is saved as `attention_rnn_<name>.py`, unless its name says `attention_rnn` already. One of a
user's own, which registers a cell or a score function or is imported there, is saved as
`attention_rnn_extension_<name>.py`. Imports are rewritten to these names.
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
_IMPORT = re.compile(r"^(\s*)from (attention_rnn\.models)?\.(\w+) import.*", re.MULTILINE)
_OTHER_IMPORT = re.compile(
    r"^\s*(?:from \.(?!\w+ import)|from attention_rnn\b(?!\.models\.\w+ import)|import attention_rnn\b).*", re.MULTILINE
)


def code_of(model_class: type, config: Any) -> dict[str, str]:
    """
    The files that a checkpoint of this class and config needs, by the names under which they are saved.

    Raises:
        ValueError: a registered class has no file, or its file imports of this package what does not travel.
    """
    own = [sys.modules.get(kind.__module__) for kind in (*model_class.__mro__, *type(config).__mro__)]
    needed = {Path(str(module.__file__)) for module in own if module is not None and _is_here(module)}
    extensions = [
        classes[name]
        for classes, name in ((CELLS, config.cell_type), (ATTENTIONS, config.attention_type))
        if name in classes and not _is_here(sys.modules.get(classes[name].__module__))
    ]
    files = {extension: _file_of(extension) for extension in extensions}
    code: dict[str, str] = {}
    for file in _closure({*needed, *files.values()}):
        if (name := travelling_name(file)) in code:
            raise ValueError(f"{file} and another file, which travel with the checkpoint, must have different names.")
        code[name] = _rewritten(file)
    for extension, file in files.items():
        code[travelling_name(FOLDER / "extensions.py")] += (
            f"from .{travelling_name(file)} import {extension.__name__}\n"
        )
    return {f"{name}.py": text for name, text in code.items()}


def travelling_name(file: Path) -> str:
    """The name of a file in a checkpoint, without `.py`."""
    if file.parent != FOLDER:
        return f"attention_rnn_extension_{file.stem}"
    return file.stem if "attention_rnn" in file.stem else f"attention_rnn_{file.stem}"


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
        waiting |= {_imported(match, file) for match in _IMPORT.finditer(file.read_text(encoding="utf-8"))} - found
    return found


def _imported(match: re.Match[str], file: Path) -> Path:
    """The file that an import in another one means."""
    imported = (FOLDER if match[2] else file.parent) / f"{match[3]}.py"
    if not imported.is_file():
        raise _not_travelling(match[0], file)
    return imported


def _rewritten(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    if file.parent != FOLDER and (other := _OTHER_IMPORT.search(text)):
        raise _not_travelling(other[0], file)
    return _IMPORT.sub(
        lambda match: match[0].replace(
            f"{match[2] or ''}.{match[3]} import", f".{travelling_name(_imported(match, file))} import", 1
        ),
        text,
    )


def _not_travelling(statement: str, file: Path) -> ValueError:
    return ValueError(
        f"{file} must import files beside it by `from .<file> import ...` and those of this package by "
        "`from attention_rnn.models.<file> import ...`, since only these travel with a checkpoint, got "
        f"`{statement.strip()}`."
    )
