"""Outputs that are written part by part, so that a command that was interrupted continues where it was."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SETTINGS = "settings.json"


def parts_of(output: Path) -> Path:
    """The folder of the parts of a file."""
    return output.with_name(output.name + ".parts")


def prepare(output: Path, settings: Mapping[str, Any], overwrite: bool) -> None:
    """
    Make the folder of the parts of a file, or check that the one that is there belongs to the same command.

    Args:
        output (`Path`): the file to write.
        settings (`dict[str, Any]`): what decides its content, as JSON has it.
        overwrite (`bool`): begin anew, whatever is there.

    Raises:
        ValueError: the file is there already, or parts of a command with other settings.
    """
    folder = parts_of(output)
    if overwrite:
        shutil.rmtree(folder, ignore_errors=True)
        output.unlink(missing_ok=True)
    if output.exists():
        raise ValueError(f"{output} is there already: name another file, or give --overwrite")
    if (folder / SETTINGS).exists():
        earlier = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        if changed := {name for name in settings if settings[name] != earlier.get(name)}:
            raise ValueError(
                f"{folder} holds parts of a command with other {', '.join(sorted(changed))}: give that command again "
                "to continue it, or --overwrite to begin anew"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / SETTINGS, json.dumps(settings))


def write_whole(file: Path, text: str) -> None:
    """Write a file that is there when it is whole."""
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(file)


def merge(output: Path, pattern: str = "*.jsonl") -> None:
    """Join the parts in their order; the output is there when it is whole."""
    folder = parts_of(output)
    whole = folder / "whole.unfinished"
    with open(whole, "wb") as target:
        for part in sorted(folder.glob(pattern)):
            with open(part, "rb") as source:
                shutil.copyfileobj(source, target)
    whole.rename(output)
    shutil.rmtree(folder)
