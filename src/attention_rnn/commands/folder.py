"""The folder of a training that a command began: what tells it from another one, and whether it is whole."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from . import UsageError
from .models import COMMAND


def settings_of(arguments: Sequence[str], data: bytes, **others: Any) -> dict[str, Any]:
    """What tells one training from another, as `training_folder` takes it."""
    told = [argument for argument in arguments if argument != "--again"]
    return {"arguments": told, "data": hashlib.sha256(data).hexdigest(), **others}


@contextmanager
def training_folder(folder: Path, settings: dict[str, Any], again: bool) -> Iterator[bool]:
    """
    Make the folder of a training, within which the training runs. An earlier one that it is to replace stays as it is
    until the new one begins, and for good where that one fails before.

    Yields:
        whether there is something left to train.

    Raises:
        UsageError: something else lies there.
    """
    from ..checkpoints import MEMBERS, TEACHERS

    file = folder / COMMAND
    earlier = file.read_text(encoding="utf-8") if file.exists() else None
    # a start that failed has left its data alone
    names = ("checkpoint-*", "model.safetensors", "README.md")
    places = ("", f"{MEMBERS}/*/", f"{TEACHERS}/{MEMBERS}/*/")  # of one model, of several, and of those of a student
    is_begun = any(chain(*(folder.glob(place + name) for place in places for name in names)))
    if earlier is not None and is_begun and not again:
        if json.loads(earlier) != settings:
            what = "another command" if json.loads(earlier)["data"] == settings["data"] else "other data"
            raise UsageError(
                f"{folder} holds the training of {what}: --output names another folder, --again replaces it"
            )
        if is_whole(folder):
            yield False
            return
        print(f"an earlier training in {folder} goes on")
    if earlier is None and folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} holds something else: --output names another folder")
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    try:
        yield True
    except BaseException:
        if earlier is not None and is_whole(folder):
            file.write_text(earlier, encoding="utf-8")
        raise


def is_whole(folder: Path) -> bool:
    """Whether a training has ended there, the last thing of which is its card."""
    return (folder / "README.md").exists()


def how_to_begin(again: bool) -> list[str]:
    """The arguments of a script that begins anew, or goes on from the last checkpoint if there is one."""
    return ["--overwrite_output_dir", "True", *([] if again else ["--resume_from_checkpoint", "True"])]
