"""The folder of a run: what it goes on from, what tells that one has been there, and what a new one deletes."""

import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from .checkpoints import CARD, MEMBERS, TEACHERS, checkpoints_of
from .model_card import TRAINING_CURVES
from .trainer import fault_of_checkpoint, last_whole_checkpoint

NEXT = "_next"  # in the folder, what is to take the place of that of an earlier run; the Trainer uploads no such name
PREPARED = f"{NEXT}/prepared"  # the tokenizer of a training that has not begun

# What scripts and commands tell of a model in the folder of its run. The card, by which a finished run is known, is the
# first to be deleted.
RESULTS = (
    CARD,
    TRAINING_CURVES,
    "attention_maps",
    "generated_predictions.jsonl",
    *(f"predictions.{ending}" for ending in ("tsv", "jsonl", "json", "conll", "csv", "png")),
    "intent_predictions.tsv",
    "confusions.tsv",
    "confusions.png",
    "confusion_matrix.png",
    "sample.txt",
    "scores.json",
    "scores_by_series.csv",
    *(f"{name}.png" for name in ("forecast", "worst", "attention", "calibration")),
    "forecast.csv",
    "trainer_state.json",
)
_MODEL = (
    "training_args.bin",
    "*tokenizer*.json",
    "special_tokens_map.json",
    "preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
    "*attention_rnn*.py",  # the code of the model, under names that no file of a user's own has
    MEMBERS,
    "model*.safetensors*",
)
# what a command leaves beside these, and needs as long as its own training goes on
_OF_COMMAND = (TEACHERS, "data/train.*", "data/validation.*", "data/test.*")


def find_checkpoint(output_dir: Path, resume_from_checkpoint: str | None, overwrite_output_dir: bool) -> str | None:
    """
    The checkpoint to resume from, if any. `True` is the last one that is whole; one that a training was writing when it
    ended is passed over. Refuses to write over an earlier run.
    """
    if resume_from_checkpoint is None:
        if not overwrite_output_dir and (files := files_of_run(output_dir)):
            raise ValueError(
                f"--output_dir must not hold a run already, got {output_dir} with {files[0].name}: name another "
                "folder, continue by --resume_from_checkpoint True, or replace the run by --overwrite_output_dir"
            )
        return None
    if resume_from_checkpoint.lower() != "true":
        if fault := fault_of_checkpoint(Path(resume_from_checkpoint)):
            raise ValueError(
                f"--resume_from_checkpoint must be a folder of a checkpoint, or True for the last one, got "
                f"{resume_from_checkpoint!r}, which {fault}"
            )
        return resume_from_checkpoint
    checkpoint = last_whole_checkpoint(output_dir)
    if checkpoint is None and not overwrite_output_dir:
        raise ValueError(
            f"--resume_from_checkpoint must be a folder of a checkpoint, got {resume_from_checkpoint!r} where "
            f"--output_dir {output_dir} has none that is whole; --overwrite_output_dir lets the run start anew then"
        )
    return checkpoint


def check_apart(
    output_dir: Path, flag: str, inputs: Mapping[str, Iterable[str | None]], spared: Path | None = None
) -> None:
    """
    Refuse what is to be read from the folder that is to be written, where it would be deleted first.

    Args:
        output_dir (`Path`), flag (`str`):
            The folder, and the argument that names it.
        inputs (`dict[str, Iterable[str | None]]`):
            What is read, by the arguments that name it: files, folders, and names on the Hub, which lie nowhere.
        spared (`Path`, *optional*):
            A folder in it that stays.

    Raises:
        ValueError: names both.
    """
    for argument, names in inputs.items():
        for name in names:
            if not name or not Path(name).exists():
                continue
            folders = [Path(name).resolve(), *Path(name).resolve().parents]
            if output_dir.resolve() in folders and (spared is None or spared.resolve() not in folders):
                raise ValueError(
                    f"{argument} {name} lies in {output_dir}, which is written anew: {flag} must name another folder"
                )


def files_of_run(output_dir: Path) -> list[Path]:
    """What tells that a run has been here."""
    results = [path for pattern in ("config.json", "*_results.json") for path in output_dir.glob(pattern)]
    return [*checkpoints_of(output_dir), *results]


def delete_prepared(output_dir: Path) -> None:
    """Delete what a training has prepared that has begun, or was killed before."""
    shutil.rmtree(output_dir / PREPARED, ignore_errors=True)
    with suppress(OSError):  # the record of a command may lie there still
        (output_dir / NEXT).rmdir()


def delete_run(output_dir: Path) -> None:
    """
    Delete an earlier run, and nothing else that may lie in its folder. Where a command has laid its record in `NEXT`,
    what belongs to an earlier command goes too, and the record takes the place of the earlier one at the very end: none
    ever stands beside the model of another.
    """
    records = [path for path in (output_dir / NEXT).glob("*") if path.is_file()]
    patterns = (*RESULTS, *_MODEL, *(_OF_COMMAND if records else ()))
    found = [path for pattern in patterns for path in output_dir.glob(pattern)]
    for path in dict.fromkeys([*found, *files_of_run(output_dir)]):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for record in records:
        record.replace(output_dir / record.name)
