"""The folder of a training that a command began: what tells it from another one, and whether it is whole."""

import hashlib
import json
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

from ..parts import write_whole
from . import UsageError
from .models import COMMAND, read_settings

LOCK = "_lock"  # in the folder, as long as a command trains there
_USES = {"train": "attention-rnn predict {folder}", "forecast": "attention-rnn forecast FILE --model {folder}"}


def settings_of(
    arguments: Sequence[str], data: bytes, contents: Mapping[str, str] | None = None, **others: Any
) -> dict[str, Any]:
    """What tells one training from another, as `training_folder` takes it; `contents` of recipes and models read."""
    told = [argument for argument in arguments if argument != "--again"]
    settings = {"arguments": told, "data": hashlib.sha256(data).hexdigest(), **others}
    return settings | ({"contents": dict(contents)} if contents else {})


def name_of_command(settings: dict[str, Any]) -> str:
    """The command that left such settings: `train` if they do not say."""
    return settings.get("command", "train")


def command_of(settings: dict[str, Any]) -> str:
    """The command line that left such settings; without `--again`, which would throw away what it has done."""
    return shlex.join(["attention-rnn", name_of_command(settings), *settings["arguments"]])


@contextmanager
def training_folder(folder: Path, settings: dict[str, Any], again: bool) -> Iterator[Path | None]:
    """
    Make the folder of a training, within which the training runs. An earlier one that it is to replace stays as it is,
    with its settings and its data, until `delete_run` of the new one, and for good where that one fails before. What is
    to take their places lies in `NEXT` until then.

    Yields:
        where the data of the training are to be written, which come to lie in the folder `data`; `None` if there is
        nothing left to train.

    Raises:
        KeyboardInterrupt: Ctrl-C, with what there is then, and how to go on.
        UsageError: something else lies there, or another command trains there.
        ValueError: the settings of an earlier training are damaged.
    """
    from ..run_folder import NEXT

    file, following = folder / COMMAND, folder / NEXT
    if not file.exists() and folder.exists() and any(path.name not in (LOCK, NEXT) for path in folder.iterdir()):
        raise UsageError(f"{folder} holds something else: --output names another folder")
    with _alone_in(folder):
        is_begun = file.exists() and _is_begun(folder)
        if is_begun and not again:
            earlier = read_settings(folder)
            if _told_apart(earlier) != _told_apart(settings):
                raise UsageError(
                    f"{folder} holds the training of {_what_else(earlier, settings)}: --output names another folder, "
                    "--again replaces it"
                )
            if is_whole(folder):
                use = _use_of(folder, settings)
                print(f"{folder} holds this model already: {use}; --again trains it anew")
                yield None
                return
            print(f"an earlier training in {folder} goes on")
        shutil.rmtree(following, ignore_errors=True)  # of a start that was killed
        following.mkdir()
        record = following / COMMAND
        if again or not is_begun:
            write_whole(record, json.dumps(settings, indent=1) + "\n")
        try:
            yield following / "data"
            if record.exists():  # what has trained there deletes nothing
                record.replace(file)
        except KeyboardInterrupt as error:
            replaces = again and is_begun and record.exists()
            raise KeyboardInterrupt(_how_to_go_on(folder, settings, str(error), replaces)) from None
        finally:
            if not record.exists():
                _take_over(following / "data", folder / "data")
            shutil.rmtree(following, ignore_errors=True)


def _use_of(folder: Path, settings: dict[str, Any]) -> str:
    """The command that uses the model of a training."""
    return _USES[name_of_command(settings)].format(folder=shlex.quote(str(folder)))


def _told_apart(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings but for how many models are trained at once, which is nothing of what is trained."""
    words = settings["arguments"]
    others = [
        word
        for word, before in zip(words, ["", *words], strict=False)
        if word.split("=")[0] != "--processes" and before != "--processes"
    ]
    return settings | {"arguments": others}


def _what_else(earlier: dict[str, Any], settings: dict[str, Any]) -> str:
    """What an earlier training was of, in a few words."""
    if earlier["data"] != settings["data"]:
        return "other data"
    contents, before = settings.get("contents", {}), earlier.get("contents", {})
    if _told_apart(earlier)["arguments"] != _told_apart(settings)["arguments"] or contents == before:
        return "another command"
    return f"{' and '.join(name for name in contents if contents[name] != before.get(name))} as it was before"


def _is_begun(folder: Path) -> bool:
    """Whether a training has left more than its data, as one does not that failed before its first checkpoint."""
    from ..checkpoints import MEMBERS, TEACHERS, checkpoints_of

    names = ("model.safetensors", "README.md")
    # of one model, of several, and of those of a student
    places = chain([folder], folder.glob(f"{MEMBERS}/*"), folder.glob(f"{TEACHERS}/{MEMBERS}/*"))
    return any(checkpoints_of(place) or any((place / name).exists() for name in names) for place in places)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"another command trains in {folder}: wait for it; --output names another folder") from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps what is open
            (folder / LOCK).unlink()
        lock.release()
        with suppress(OSError):  # of a start that failed nothing is left
            folder.rmdir()


def _take_over(data: Path, place: Path) -> None:
    """Let the files of a training take the places of those of an earlier one."""
    for file in data.glob("*"):
        place.mkdir(exist_ok=True)
        file.replace(place / file.name)


def _how_to_go_on(folder: Path, settings: dict[str, Any], stopped: str, replaces: bool) -> str:
    """
    What to say after Ctrl-C.

    Args:
        stopped: where the training has stopped by itself, if it has.
        replaces: whether an earlier training is there still, which was to be replaced.
    """
    lines = [stopped] if stopped else []
    if stopped and (folder / "model.safetensors").exists() and not replaces:
        use = _use_of(folder, settings)
        is_best = _has_score(folder) and not settings.get("keeps_last")
        lines.append(f"The {'best ' if is_best else ''}model so far lies in {folder}: {use}")
    command = f"{command_of(settings)}{' --again' if replaces else ''}"
    return "\n".join([*lines, f"The same command goes on: {command}"])


def _has_score(folder: Path) -> bool:
    """Whether a training has measured one of its models, and so knows the best one."""
    state = folder / "trainer_state.json"
    return state.exists() and json.loads(state.read_text(encoding="utf-8")).get("best_metric") is not None


def is_whole(folder: Path) -> bool:
    """Whether a training has ended there, the last thing of which is its card."""
    from ..checkpoints import CARD

    return (folder / CARD).exists()


def how_to_begin(again: bool) -> list[str]:
    """The arguments of a script that begins anew, or goes on from the last checkpoint if there is one."""
    return ["--overwrite_output_dir", "True", *([] if again else ["--resume_from_checkpoint", "True"])]
