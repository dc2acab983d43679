"""Outputs that are written part by part, so that a command that was interrupted continues where it was."""

import json
import shutil
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

SETTINGS = "settings.json"


def parts_of(output: Path) -> Path:
    """The folder of the parts of a file."""
    return output.with_name(output.name + ".parts")


def contents_of(model: str, file: str | Path) -> dict[str, str | None]:
    """What tells a model and an input from others that may come to stand in their places, as `prepare` takes it."""
    return {"content of the model": content_of(model), "content of the input": content_of(file)}


def content_of(place: str | Path) -> str | None:
    """What tells a file, or a folder with a model or several, from another one that may come to stand in its place."""
    from .checkpoints import single_models

    if Path(place).is_file():
        return _digest([Path(place)])
    kinds = ("*.safetensors", "*.onnx", "*config.json", "*tokenizer*.json")
    files = sorted(file for folder in single_models([str(place)]) for kind in kinds for file in Path(folder).glob(kind))
    return _digest(files) if files else None  # a name on the Hub stays what it is


def _digest(files: Iterable[Path]) -> str:
    digest = sha256()
    for file in files:
        with open(file, "rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def prepare(output: Path, settings: Mapping[str, Any], overwrite: bool) -> None:
    """
    Make the folder of the parts of a file, or check that the one that is there belongs to the same command.

    Args:
        output (`Path`): the file to write.
        settings (`dict[str, Any]`): what decides its content, as JSON has it.
        overwrite (`bool`): begin anew, whatever is there; an output stays until the new one is whole.

    Raises:
        ValueError: the file is there already, or parts of a command with other settings.
    """
    folder = parts_of(output)
    if overwrite:
        shutil.rmtree(folder, ignore_errors=True)
    elif output.exists():
        raise ValueError(f"{output} is there already: name another file, or give --overwrite")
    if any(file.name != SETTINGS for file in folder.glob("*")):
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
    whole.replace(output)
    shutil.rmtree(folder)
