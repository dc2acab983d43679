"""What the training scripts under `examples/` share: arguments, checks, data sets, and the folder of a run."""

import ast
import json
import re
import shutil
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import PreTrainedConfig, PreTrainedTokenizerBase, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from .models.configuration_attention_rnn import AttentionRnnConfig


def expand_config_file(argv: list[str]) -> list[str]:
    """Turn a config file at the start of the command line into arguments, so that argparse converts the values."""
    if not argv or not argv[0].endswith((".json", ".yaml", ".yml")):
        return argv
    settings = yaml.safe_load(Path(argv[0]).read_text(encoding="utf-8"))  # JSON is YAML too
    if not isinstance(settings, dict):
        raise ValueError(f"{argv[0]} must map arguments to values, got {settings!r}")
    expanded = []
    for name, value in settings.items():
        if value is not None:
            values = value if isinstance(value, list) else [value]
            expanded += [f"--{name}", *(json.dumps(item) if isinstance(item, dict) else str(item) for item in values)]
    return expanded + argv[1:]


def parse_config_overrides(overrides: str | None) -> dict[str, Any]:
    """`"hidden_size=256,bidirectional=[True,False]"` as a dict."""
    set_by_tokenizer = ("vocab_size", "source_vocab_size")
    allowed = {
        name
        for name in {f.name for f in fields(AttentionRnnConfig)} - {f.name for f in fields(PreTrainedConfig)}
        if name not in set_by_tokenizer and not name.endswith("_token_id")
    }
    values = {}
    for override in re.split(r",(?=\w+=)", overrides) if overrides else []:
        name, _, value = override.partition("=")
        if name not in allowed:
            raise ValueError(
                f"--config_overrides must be name=value,... with the names {sorted(allowed)}, got {override!r}"
            )
        try:
            values[name] = ast.literal_eval({"true": "True", "false": "False", "null": "None"}.get(value, value))
        except (ValueError, SyntaxError):
            values[name] = value  # a plain word, such as gru
    return values


def find_checkpoint(output_dir: Path, resume_from_checkpoint: str | None, overwrite_output_dir: bool) -> str | None:
    """The checkpoint to resume from, if any. Refuses to write over an earlier run."""
    checkpoint = resume_from_checkpoint
    if checkpoint is not None:
        if checkpoint.lower() == "true":
            checkpoint = get_last_checkpoint(str(output_dir)) if output_dir.is_dir() else None
        if checkpoint is None or not Path(checkpoint, "trainer_state.json").is_file():
            raise ValueError(
                "--resume_from_checkpoint must be a folder of a checkpoint, or True for the last one in --output_dir "
                f"{output_dir}, got {resume_from_checkpoint!r} where there is none"
            )
    elif not overwrite_output_dir and (files := files_of_run(output_dir)):
        raise ValueError(
            f"--output_dir must not hold a run already, got {output_dir} with {files[0].name}: name another folder, "
            "continue by --resume_from_checkpoint True, or replace the run by --overwrite_output_dir"
        )
    return checkpoint


def files_of_run(output_dir: Path) -> list[Path]:
    """What tells that a run has been here."""
    return [path for pattern in ("checkpoint-*", "config.json", "*_results.json") for path in output_dir.glob(pattern)]


def delete_run(output_dir: Path) -> None:
    """Delete an earlier run, and nothing else that may lie in its folder."""
    for path in (*files_of_run(output_dir), *output_dir.glob("*tokenizer*.json"), *output_dir.glob("attention_maps")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@dataclass
class ScriptTrainingArguments(TrainingArguments):
    """The arguments of Trainer with defaults that suit recurrent networks, and two of our own."""

    learning_rate: float = field(default=1e-3, metadata={"help": "Highest learning rate."})
    eval_strategy: str | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "When to evaluate: no, steps, epoch."}
    )
    save_strategy: str | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "When to save. Default: as eval_strategy."}
    )
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints to keep besides the best one."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Keep the best model, not the last one."})
    use_cpu: bool = field(
        default_factory=lambda: not torch.accelerator.is_available(), metadata={"help": "Train on the CPU."}
    )
    dataloader_pin_memory: bool = field(
        default_factory=torch.accelerator.is_available, metadata={"help": "Pin batches for a faster copy to a device."}
    )
    logging_steps: float = field(default=100, metadata={"help": "Steps between reports of the loss."})
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after that many evaluations without improvement."}
    )
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Delete an earlier run in output_dir."})

    def settle_evaluation(self) -> None:
        """Give what depends on other arguments its value; to be called first in `__post_init__`."""
        self.dataloader_pin_memory &= torch.accelerator.is_available()  # else torch warns at each evaluation
        if self.eval_strategy is None:
            self.eval_strategy = "epoch" if self.do_train and self.do_eval else "no"
        if self.save_strategy is None:
            self.save_strategy = "epoch" if self.eval_strategy == "no" else self.eval_strategy
        self.load_best_model_at_end &= "no" not in (self.eval_strategy, self.save_strategy)


class ScriptTrainer(Trainer):
    """A trainer whose predictions come in the order of their data, and that leaves the model card to the script."""

    def _get_eval_sampler(self, eval_dataset: Any) -> None:
        # group_by_length would reorder these data too, and predictions meet their references by position
        return None

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        # push_to_hub would replace the card that the script has written
        pass


def train_and_save(trainer: Trainer, checkpoint: str | None) -> float:
    """Train, from a checkpoint if there is one, and save the model and the metrics; returns the seconds it took."""
    result = trainer.train(resume_from_checkpoint=checkpoint).metrics
    trainer.save_model()
    trainer.save_state()
    trainer.log_metrics("train", result)
    trainer.save_metrics("train", result)
    return result["train_runtime"]


def wanted_splits(training_args: TrainingArguments) -> dict[str, str]:
    """The splits to read, each with the argument that wants it."""
    actions = {"train": "--do_train", "validation": "--do_eval", "test": "--do_predict"}
    splits = {split: action for split, action in actions.items() if getattr(training_args, action[2:])}
    if not splits:
        raise ValueError("nothing to do: give one or several of --do_train, --do_eval, --do_predict")
    return splits


def check_files(data_args: Any, training_args: TrainingArguments) -> None:
    """Refuse splits that are read from nowhere, or from two places."""
    for split, action in wanted_splits(training_args).items():
        if (getattr(data_args, f"{split}_file") is None) == (data_args.dataset_name is None):
            raise ValueError(f"{action} needs either --{split}_file or --dataset_name")


def check_values(data_args: Any, training_args: ScriptTrainingArguments, smallest_values: dict[str, int]) -> None:
    """Refuse numbers below the smallest ones, pictures without matplotlib, and early stopping that could not be."""
    for name, least in smallest_values.items():
        if (value := getattr(data_args, name)) is not None and value < least:
            raise ValueError(f"--{name} must be at least {least}, got {value}")
    if getattr(data_args, "num_heat_maps", 0) and find_spec("matplotlib") is None:
        raise ImportError("--num_heat_maps needs matplotlib: pip install attention-rnn[plot], or set it to 0")
    if training_args.early_stopping_patience is not None and not training_args.load_best_model_at_end:
        raise ValueError("--early_stopping_patience needs --do_train and --do_eval, and saving when it evaluates")


def load_split(split: str, data_args: Any, streaming: bool = False) -> Any:
    """A split of the data set on the Hub, or in a folder, that `--dataset_name` tells."""
    name = data_args.dataset_name
    dataset = _load_dataset_once(name, data_args.dataset_config_name, streaming)
    if split not in dataset:
        raise ValueError(f"--dataset_name {name} must have the split {split!r}, got {list(dataset)}")
    return dataset[split]


@cache
def _load_dataset_once(name: str, config_name: str | None, streaming: bool) -> Any:
    from datasets import load_dataset  # takes seconds, and files need none of it

    return load_dataset(name, config_name, streaming=streaming)


def origin(split: str, data_args: Any) -> str:
    """What a split is read from, without the folders of this machine."""
    name = data_args.dataset_name
    if name is not None:
        return name if is_hub_name(name) else Path(name).name
    files = (getattr(data_args, f"{split}_file"), getattr(data_args, f"{split}_target_file", None))
    return " and ".join(Path(file).name for file in files if file is not None)


def is_hub_name(name: str | None) -> bool:
    return name is not None and not Path(name).exists()


def special_token_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, int | None]:
    """The ids of the special tokens as `AttentionRnnConfig` takes them."""
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "unk")}
