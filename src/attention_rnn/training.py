"""What the training scripts under `examples/` share: arguments, checks, data sets, and the folder of a run."""

import ast
import json
import logging
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import ModelCard, ModelCardData
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import (
    EarlyStoppingCallback,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from .models.configuration_attention_rnn import AttentionRnnConfig
from .tokenization import check_vocabulary

logger = logging.getLogger(__name__)

# what a training needs of a checkpoint to go on as if it had never been stopped
_NEEDED_TO_RESUME = ("*.safetensors", "optimizer*", "scheduler.pt", "rng_state*.pth", "trainer_state.json")


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


def last_whole_checkpoint(output_dir: Path) -> str | None:
    """The last checkpoint of a run that it can go on from, if any."""
    folders = {path: path.name.removeprefix("checkpoint-") for path in output_dir.glob("checkpoint-*")}
    steps = {path: int(number) for path, number in folders.items() if number.isdecimal()}
    for folder in sorted(steps, key=lambda path: steps[path], reverse=True):
        fault = fault_of_checkpoint(folder)
        if fault is None:
            return str(folder)
        logger.warning(f"{folder} {fault} and is passed over")
    return None


def fault_of_checkpoint(folder: Path) -> str | None:
    """What keeps a training from going on from a checkpoint, if anything: a file that lacks, or ends too early."""
    for pattern in _NEEDED_TO_RESUME:
        if not any(folder.glob(pattern)):
            return f"has no {pattern}"
    for file in sorted(folder.iterdir()):
        if not _is_whole(file):
            return f"has an incomplete {file.name}"
    return None


def _is_whole(file: Path) -> bool:
    try:
        if file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        elif file.suffix == ".safetensors":
            with safe_open(file, framework="pt"):
                pass
        elif file.suffix in (".pt", ".pth"):
            # torch writes archives, with the table of contents at the end; a device could be read without end
            return file.is_file() and zipfile.is_zipfile(file)
    except (ValueError, SafetensorError):
        return False
    return True


def files_of_run(output_dir: Path) -> list[Path]:
    """What tells that a run has been here."""
    return [path for pattern in ("checkpoint-*", "config.json", "*_results.json") for path in output_dir.glob(pattern)]


def delete_run(output_dir: Path) -> None:
    """Delete an earlier run, and nothing else that may lie in its folder."""
    for path in (*files_of_run(output_dir), *output_dir.glob("*tokenizer*.json"), *output_dir.glob("attention_maps")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@dataclass
class ScriptTrainingArguments(TrainingArguments):
    """The arguments of Trainer with defaults that suit recurrent networks, and three of our own."""

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
    overwrite_output_dir: bool = field(
        default=False,
        metadata={
            "help": "Delete an earlier run in output_dir; with --resume_from_checkpoint True only if none of its "
            "checkpoints is whole."
        },
    )
    non_finite_loss: str = field(
        default="stop",
        metadata={
            "help": "What to do at a step whose loss or gradients are NaN or infinite: stop with an error, or skip it. "
            "The weights never take such a step."
        },
    )

    def settle_evaluation(self) -> None:
        """Give what depends on other arguments its value; to be called first in `__post_init__`."""
        self.dataloader_pin_memory &= torch.accelerator.is_available()  # else torch warns at each evaluation
        if self.eval_strategy is None:
            self.eval_strategy = "epoch" if self.do_train and self.do_eval else "no"
        if self.save_strategy is None:
            self.save_strategy = "epoch" if self.eval_strategy == "no" else self.eval_strategy
        self.load_best_model_at_end &= "no" not in (self.eval_strategy, self.save_strategy)


class ScriptTrainer(Trainer):
    """
    A trainer that keeps NaN out of the weights, says what is wrong with a checkpoint that it cannot write, predicts in
    the order of the data, and leaves the model card to the script. Its arguments are `ScriptTrainingArguments`.

    Raises:
        FloatingPointError: the loss or gradients of a step are NaN or infinite, and `non_finite_loss` is `"stop"`.
        OSError: a checkpoint cannot be written.
        ValueError: the tokenizer has more tokens than the model.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(self.processing_class, PreTrainedTokenizerBase) and isinstance(self.model, PreTrainedModel):
            check_vocabulary(self.processing_class, self.model.config)
        if self.model is not None and self.args.device.type == "cpu":
            for parameter in self.model.parameters():
                # What is loaded lies in memory at other addresses than what is made, where products may differ in their
                # last bit: a resumed training would not be the same.
                parameter.data = parameter.data.clone()
        self.losses_of_step: list[Tensor] = []
        self.add_callback(FiniteSteps(self))

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        self.losses_of_step.append(loss)
        return loss

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # a training that is resumed where it had ended would take one more step
        patient = (
            callback.early_stopping_patience_counter < callback.early_stopping_patience
            for callback in self.early_stopping_callbacks()
        )
        if self.state.global_step < self.state.max_steps and all(patient):
            super()._run_epoch(*args, **kwargs)
        else:
            self.control.should_training_stop = True

    def early_stopping_callbacks(self) -> list[EarlyStoppingCallback]:
        return [callback for callback in self.callback_handler.callbacks if isinstance(callback, EarlyStoppingCallback)]

    @property
    def has_whole_model(self) -> bool:
        """Whether each process has the whole model, and so may use it alone."""
        return not self.is_fsdp_enabled

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with clear_errors_of_saving(f"The checkpoint of step {self.state.global_step}", self.args):
            super()._save_checkpoint(*args, **kwargs)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            for file in Path(output_dir).glob("*.pt"):
                if not _is_whole(file):  # before version 2.10 torch did not see that a disk was full
                    raise OSError(f"{file.name} is incomplete")

    def _get_eval_sampler(self, eval_dataset: Any) -> None:
        # group_by_length would reorder these data too, and predictions meet their references by position
        return None

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        # push_to_hub would replace the card that the script has written
        pass


class FiniteSteps(TrainerCallback):
    """Lets no step reach the weights whose loss or gradients are NaN or infinite."""

    def __init__(self, trainer: ScriptTrainer) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        model = kwargs["model"]
        losses, self.trainer.losses_of_step = torch.stack(self.trainer.losses_of_step), []
        finite = losses.isfinite().all()
        if not args.fp16:  # its gradients overflow now and then, and what scales the loss skips such a step by itself
            finite = finite & gradients_are_finite(model)
        # all processes take a step or none does
        if self.trainer.accelerator.gather(finite[None].int()).all():
            return
        what = f"Step {state.global_step + 1}: the loss is {losses.sum().item():g}"
        if losses.isfinite().all():
            what += ", but not all gradients are finite"
        if args.non_finite_loss == "stop":
            raise FloatingPointError(
                f"{what}. A lower --learning_rate or --max_grad_norm may help, and --non_finite_loss skip leaves such "
                f"steps out. {way_to_go_on(Path(args.output_dir))}"
            )
        logger.warning(f"{what}: it is skipped")
        model.zero_grad()  # optimizers leave alone what has no gradient


def gradients_are_finite(model: nn.Module) -> Tensor:
    """Whether those of this process are; FSDP leaves it a piece of each."""
    gradients: list[Any] = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    pieces = [gradient.to_local() if hasattr(gradient, "to_local") else gradient for gradient in gradients]
    return torch.stack([piece.isfinite().all() for piece in pieces]).all()


@contextmanager
def clear_errors_of_saving(what: str, args: TrainingArguments) -> Iterator[None]:
    """
    Raises:
        OSError: saving failed; says what could not be written, why, and what there is to go on from.
    """
    try:
        yield
    except Exception as error:  # torch, safetensors and tokenizers have errors of their own for a full disk
        output_dir = Path(str(args.output_dir))
        free = shutil.disk_usage(output_dir).free / 2**20
        raise OSError(
            f"{what} could not be written to {output_dir}, where {free:,.0f} MiB are free: {error}. "
            f"{way_to_go_on(output_dir)}"
        ) from error


def way_to_go_on(output_dir: Path) -> str:
    checkpoint = last_whole_checkpoint(output_dir)
    if checkpoint is None:
        return "There is no whole checkpoint yet."
    return f"{checkpoint} is whole: --resume_from_checkpoint True goes on from there."


def train_and_save(trainer: ScriptTrainer, checkpoint: str | None) -> float:
    """Train, from a checkpoint if there is one, and save the model and the metrics; returns the seconds it took."""
    if checkpoint is not None:
        saved = TrainerState.load_from_json(str(Path(checkpoint, "trainer_state.json"))).stateful_callbacks or {}
        for callback in trainer.early_stopping_callbacks():
            attributes = saved.get("EarlyStoppingCallback", {}).get("attributes", {})
            callback.early_stopping_patience_counter = attributes.get("early_stopping_patience_counter", 0)
    result = trainer.train(resume_from_checkpoint=checkpoint).metrics
    with clear_errors_of_saving("The model", trainer.args):
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
    """
    Refuse numbers below the smallest ones, pictures without matplotlib, early stopping that could not be, and what the
    Hub would refuse of the card once the model is trained.
    """
    for name, least in smallest_values.items():
        if (value := getattr(data_args, name)) is not None and value < least:
            raise ValueError(f"--{name} must be at least {least}, got {value}")
    if getattr(data_args, "num_heat_maps", 0) and find_spec("matplotlib") is None:
        raise ImportError("--num_heat_maps needs matplotlib: pip install attention-rnn[plot], or set it to 0")
    if training_args.non_finite_loss not in ("stop", "skip"):
        raise ValueError(f"--non_finite_loss must be stop or skip, got {training_args.non_finite_loss!r}")
    if training_args.early_stopping_patience is not None and not training_args.load_best_model_at_end:
        raise ValueError("--early_stopping_patience needs --do_train and --do_eval, and saving when it evaluates")
    if training_args.push_to_hub and (data_args.language or data_args.license):
        metadata = ModelCardData(language=data_args.language, license=data_args.license)
        try:
            ModelCard(f"---\n{metadata.to_yaml()}\n---\n").validate()
        except ValueError as error:
            given = f"--language {data_args.language} and --license {data_args.license!r}"
            raise ValueError(f"{given} must be what the Hub knows: {error}") from error
        except Exception as error:  # which one depends on the client; what is wrong is said again at the push
            logger.warning(f"The Hub could not be asked whether it takes the card: {error}")


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
