"""Opens a trained model for the scripts: what it is not, they say in one line."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.utils import CONFIG_NAME

from .ensemble import AttentionRnnEnsemble
from .onnx import RUNNER

MEMBERS = "members"  # in the folder of an ensemble, what holds one of each of its models
TEACHERS = "teachers"  # in the folder of a student, the ensemble that it was distilled from
CARD = "README.md"  # the last thing that a training writes, by which a finished one is known


def members_of(name: str | Path) -> list[str]:
    """
    The folders of the models of the ensemble that lies in a folder, but for those whose training has not ended; none of
    what is a single model.
    """
    folder = Path(name)
    if (folder / CONFIG_NAME).is_file():  # what they were distilled into
        return []
    members = (file.parent for file in folder.glob(f"{MEMBERS}/*/{CONFIG_NAME}"))
    return sorted(str(member) for member in members if (member / CARD).is_file())


def checkpoints_of(folder: str | Path) -> list[Path]:
    """The checkpoints in the folder of a training, in the order of their steps; not what is merely called alike."""
    return sorted(filter(is_checkpoint, Path(folder).glob("checkpoint-*")), key=lambda path: int(path.name[11:]))


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is called as the Trainer calls a checkpoint."""
    return re.fullmatch(r"checkpoint-[0-9]+", folder.name) is not None


def single_models(names: Sequence[str]) -> list[str]:
    """Folders or names on the Hub, those of its members in place of an ensemble."""
    return [model for name in names for model in members_of(name) or [name]]


def one_of(name: str) -> str:
    """A model, or of an ensemble one of its members."""
    return next(iter(members_of(name)), name)


def open_config(name: str, **options: Any) -> Any:
    """
    The config of a model.

    Args:
        name (`str`): a folder, or a name on the Hub.
        options: as of `AutoConfig.from_pretrained`.

    Raises:
        OSError: there is no such model, or an ensemble.
    """
    folder = Path(name)
    if members := members_of(folder):
        raise OSError(
            f"{name} must hold a single model, got an ensemble of {len(members)}: take one of them, {members[0]}, or "
            f"distil them into one, attention-rnn train FILE --teacher_models {name}; those that are exported one by "
            "one are joined by OnnxRunner.from_pretrained([ONE, ANOTHER])"
        )
    if folder.exists() and not (folder / CONFIG_NAME).is_file():
        if any(place.is_dir() for place in (folder / MEMBERS, folder / TEACHERS)):
            raise OSError(f"{name} must hold a trained model, and its training has not ended: the same command goes on")
        raise OSError(f"{name} must be a folder that a training or `save_pretrained` left, but has no {CONFIG_NAME}")
    if (folder / RUNNER).is_file():
        raise OSError(
            f"{name} must be a folder that a training or `save_pretrained` left, got an exported one, which "
            f"python {folder / RUNNER} and attention-rnn serve run"
        )
    try:
        return AutoConfig.from_pretrained(name, **options)
    except OSError as error:
        if folder.exists():
            raise
        # what failed on the way is a chain of many lines
        raise OSError(f"there is no folder {name}, and the Hub gives no such model: {_in_one_line(error)}") from None


def open_encoder_decoder(name: str, **options: Any) -> tuple[Any, Any]:
    """
    An encoder-decoder or an ensemble of some, and its tokenizer.

    Args:
        name (`str`), options: as of `open_config`.

    Raises:
        OSError: there is no such model, or it has no tokenizer.
        ValueError: it is none that writes texts.
    """
    if members := members_of(name):
        return AttentionRnnEnsemble.from_pretrained(members, **options), AutoTokenizer.from_pretrained(members[0])
    config = open_config(name, **options)
    if not config.is_encoder_decoder:
        raise ValueError(
            f"{name} must hold an encoder-decoder, got {' or '.join(config.architectures or [config.model_type])}"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        raise OSError(f"{name} has no tokenizer that can be opened: {_in_one_line(error)}") from None
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers makes one up where there is no file
        raise OSError(f"{name} has no tokenizer: what was opened for one knows no token but special ones")
    return AutoModelForSeq2SeqLM.from_pretrained(name, **options), tokenizer


def open_pipeline(task: str, name: str, **options: Any) -> Any:
    """
    A pipeline of transformers with a model, or with an ensemble where it writes texts.

    Args:
        task (`str`), options: as of `transformers.pipeline`.
        name (`str`): a folder, or a name on the Hub.

    Raises:
        OSError: there is no such model.
        ValueError: it is for another task, or cannot be read.
    """
    import transformers

    make: Any = transformers.pipeline  # whose overloads know its own tasks alone
    if task == "text2text-generation" and members_of(name):
        model, tokenizer = open_encoder_decoder(name)
        return make(task, model, tokenizer=tokenizer, **options)
    config = open_config(name, trust_remote_code=bool(options.get("trust_remote_code")))
    try:
        return make(task, name, **options)
    except ValueError as error:
        # which has the tracebacks of each Auto class that was tried
        causes = re.findall(r"^[\w.]*Error: (.*)", str(error), re.MULTILINE)
        if not causes:
            raise
        told = [cause for cause in causes if not cause.startswith("Unrecognized configuration class")]
        held = " or ".join(config.architectures or [config.model_type])
        raise ValueError(": ".join([f"{name} holds {held}, which cannot be opened for {task}", *told[-1:]])) from None


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
