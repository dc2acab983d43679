"""The arguments that the training scripts under `examples/` share, and their checks."""

import ast
import difflib
import logging
import math
import platform
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
import yaml
from huggingface_hub import ModelCard, ModelCardData
from transformers import HfArgumentParser, PreTrainedConfig, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from .checkpoints import one_of, open_config
from .models.configuration_attention_rnn import AttentionRnnConfig
from .recipes import as_arguments
from .trainer import ReliableTrainingArguments

logger = logging.getLogger(__name__)

# of a training whose length the command line leaves open
SMALLEST_BATCH = 8
STEPS_OF_AN_EPOCH = 40  # there are at least so many, unless batches would become smaller than that
MOST_EPOCHS = 200

FEW_EXAMPLES = 100_000  # of fewer, models are smaller than the config says


def option(default: Any, help: str) -> Any:
    """A field of a dataclass of arguments; for lists see `dataclasses.field`."""
    return field(default=default, metadata={"help": help})


@dataclass
class NewModelArguments:
    """Which model: fine-tune `model_name_or_path`, or train an attention RNN from scratch."""

    config_class: ClassVar[type[PreTrainedConfig]] = AttentionRnnConfig
    # what has an effect on a model that exists already
    of_any_model: ClassVar[tuple[str, ...]] = ("model_name_or_path", "trust_remote_code")

    model_name_or_path: str | None = option(None, "Checkpoint to fine-tune or to evaluate.")
    trust_remote_code: bool = option(False, "Run code that comes with that checkpoint.")
    config_overrides: str | None = option(
        None, "Fields of the config for a new model: hidden_size=256,encoder_layers=2"
    )


@dataclass
class ScriptModelArguments(NewModelArguments):
    """Which model, and which tokenizer."""

    # what has an effect on a new model with a tokenizer that exists already
    of_any_tokenizer: ClassVar[tuple[str, ...]] = (
        *NewModelArguments.of_any_model,
        "config_overrides",
        "tokenizer_name",
    )

    tokenizer_name: str | None = option(None, "Existing tokenizer for a new model.")
    vocab_size: int | None = option(
        None, "Largest vocabulary of a trained tokenizer. Default: what auto chooses, otherwise 10,000."
    )
    min_frequency: int = option(1, "Occurrences that a unit of a trained tokenizer needs.")
    lowercase: bool = option(False, "Whether trained tokenizers lower-case the text.")


@dataclass
class ScriptDataArguments:
    """What to read, and what the model card says of it."""

    train_file: str | None = option(None, "The training data. May be compressed (.gz).")
    validation_file: str | None = option(None, "The same for validation.")
    test_file: str | None = option(None, "The same for testing.")
    dataset_name: str | None = option(None, "Data set on the Hub with the splits train, validation, test; or a folder.")
    dataset_config_name: str | None = option(None, "Its configuration.")
    language: list[str] | None = option(None, "Languages for the card, ISO 639 codes.")
    license: str | None = option(None, "Licence for the card, the Hub's identifier.")
    command: str | None = option(None, "Command for the card, in place of the script's.")
    origins: list[str] | None = option(
        None, "What the data of train, validation and test are called in the card, in place of their files' names."
    )


@dataclass
class ExampleDataArguments(ScriptDataArguments):
    """What to read, example by example, and what to do with it."""

    max_train_samples: int | None = option(None, "Use that many training examples.")
    max_eval_samples: int | None = option(None, "Use that many validation examples.")
    max_predict_samples: int | None = option(None, "Use that many test examples.")
    num_heat_maps: int = option(4, "Test items of which to draw the attention.")

    def limit(self, split: str) -> int | None:
        """How many examples of a split to use."""
        return {
            "train": self.max_train_samples,
            "validation": self.max_eval_samples,
            "test": self.max_predict_samples,
        }[split]


@dataclass
class TableDataArguments(ExampleDataArguments):
    """What to read, row by row of a table, and what to do with it."""

    file_format: str | None = option(None, "csv, tsv, json or jsonl. Default: the extension of each file.")
    column_names: list[str] | None = option(None, "Columns of csv and tsv files that have no header.")


_SMALLEST_NUMBERS = {
    "learning_rate": 0,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "seed": 0,
    "weight_decay": 0,
    "max_grad_norm": 0,
    "label_smoothing_factor": 0,
}


@dataclass
class ScriptTrainingArguments(ReliableTrainingArguments):
    """
    The arguments of `ReliableTrainer` with defaults that suit recurrent networks.

    With --do_train and --do_eval, each epoch is evaluated and the best one is kept.
    """

    learning_rate: float = option(1e-3, "Highest learning rate.")
    eval_strategy: str = option(None, "When to evaluate: no, steps, epoch.")
    save_strategy: str = option(None, "When to save. Default: as eval_strategy.")
    save_total_limit: int | None = option(
        1, "Checkpoints to keep, the best one among them. With 1, the last one too as long as the training goes on."
    )
    load_best_model_at_end: bool = option(True, "Keep the best model, not the last one.")
    train_sampling_strategy: str = option(
        "group_by_length", "Which examples form a batch: random, group_by_length, ..."
    )
    logging_steps: float = option(100, "Steps between reports of the loss.")
    brief: bool = option(False, "Show one progress bar in place of the Trainer's reports.")
    overwrite_output_dir: bool = option(
        False,
        "Delete an earlier run in output_dir; with --resume_from_checkpoint True only if none of its "
        "checkpoints is whole.",
    )

    def __post_init__(self) -> None:
        self._check_numbers()
        on_cpu = self.use_cpu or (self.use_cpu is None and not torch.accelerator.is_available())
        emulated = on_cpu and (self.bf16 or self.bf16_full_eval) and not multiplies_bfloat16()
        if emulated:
            self.bf16 = self.bf16_full_eval = False
        super().__post_init__()
        if emulated and self.process_index == 0:
            logger.warning(
                "bf16 has no effect: this CPU lacks the instructions (AVX512-BF16, AMX, Arm's BF16), without which it "
                "is many times slower. All is computed in float32."
            )

    def _check_numbers(self) -> None:
        for name, least in _SMALLEST_NUMBERS.items():
            if (value := getattr(self, name)) is not None and not least <= float(value) < math.inf:
                raise ValueError(f"--{name} must be a number of at least {least}, got {value}")
        if not 0 < self.num_train_epochs < math.inf:
            raise ValueError(f"--num_train_epochs must be a number above 0, got {self.num_train_epochs}")
        if self.max_steps == 0 or self.max_steps < -1:
            raise ValueError(f"--max_steps must be at least 1, or -1 to count by epochs, got {self.max_steps}")

    def settle_evaluation(self, best_metric: str | None = None, lower_is_better: Sequence[str] = ()) -> None:
        """
        Give what depends on other arguments its value; to be called first in `__post_init__`.

        Args:
            best_metric: what chooses the best model if the arguments do not say.
            lower_is_better: the metrics of which, beside the loss, a lower value is better.
        """
        if self.eval_strategy is None:
            self.eval_strategy = "epoch" if self.do_train and self.do_eval else "no"
        if self.save_strategy is None:
            self.save_strategy = "epoch" if self.eval_strategy == "no" else self.eval_strategy
        self.load_best_model_at_end &= "no" not in (self.eval_strategy, self.save_strategy)
        if self.metric_for_best_model is None and self.load_best_model_at_end:
            self.metric_for_best_model = best_metric
        if self.greater_is_better is None and self.metric_for_best_model is not None:
            best = self.metric_for_best_model.removeprefix("eval_")
            self.greater_is_better = best not in ("loss", *lower_is_better)

    def settle_length(self, epochs: float, batch_size: int) -> None:
        """Take so many epochs of such batches where the command line says nothing; see `suit_length`."""
        self.chooses_epochs, self.chooses_batch_size = (
            value is None for value in (self.num_train_epochs, self.per_device_train_batch_size)
        )
        if self.chooses_epochs:
            self.num_train_epochs = epochs
        if self.chooses_batch_size:
            self.per_device_train_batch_size = batch_size

    def suit_length(
        self, examples: int, least_steps: int = 0, most_steps: float = math.inf, largest_batch: float = math.inf
    ) -> None:
        """
        Suit what `settle_length` has taken to the number of training examples.

        Args:
            least_steps: take more epochs if there were fewer steps, up to `MOST_EPOCHS`.
            most_steps: take fewer epochs if there were more, down to 2.
            largest_batch: take no more examples at a step.
        """
        if self.chooses_batch_size:
            suitable = min(max(SMALLEST_BATCH, examples // STEPS_OF_AN_EPOCH), largest_batch)
            self.per_device_train_batch_size = int(min(self.per_device_train_batch_size, suitable))
        if self.chooses_epochs and self.max_steps <= 0:
            steps = max(1.0, examples / self.train_batch_size)
            epochs = max(self.num_train_epochs, min(MOST_EPOCHS, math.ceil(least_steps / steps)))
            self.num_train_epochs = float(round(min(epochs, max(2.0, most_steps / steps))))
            logger.info(
                f"The training takes {self.num_train_epochs:g} epochs, with {self.train_batch_size} of {examples:,} "
                "examples at a step; --num_train_epochs changes that."
            )

    def evaluate_by_steps(self) -> None:
        """Evaluate and save twenty times instead of at each epoch, for data of which nobody knows where they end."""
        for action in ("eval", "save"):
            if getattr(self, f"{action}_strategy") == "epoch":
                setattr(self, f"{action}_strategy", IntervalStrategy.STEPS)
                setattr(self, f"{action}_steps", max(1, self.max_steps // 20))


def multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for it; others emulate it."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    # for x86 oneDNN counts AVX512 alone as support
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


class _Parser(HfArgumentParser):
    """Says what is wrong without a page of what there is."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help lists all arguments)\n")


def parse_arguments(argv: Sequence[str], *kinds: Any) -> tuple[Any, ...]:
    """
    The arguments of a command line as dataclasses of these kinds. A .json or .yaml file that comes first stands for
    arguments; what follows it wins.
    """
    parser = _Parser(kinds, allow_abbrev=False)
    missing = [name for name in ("accelerate", "datasets") if find_spec(name) is None]
    if missing:
        raise ImportError(f"a training needs {' and '.join(missing)}: pip install 'attention-rnn[train]'")
    return parser.parse_args_into_dataclasses(expand_config_file(list(argv)), look_for_args_file=False)


def expand_config_file(argv: list[str]) -> list[str]:
    """Turn a config file at the start of the command line into arguments, so that argparse converts the values."""
    if not argv or not argv[0].endswith((".json", ".yaml", ".yml")):
        return argv
    settings = yaml.safe_load(Path(argv[0]).read_text(encoding="utf-8"))  # JSON is YAML too
    if not isinstance(settings, dict):
        raise ValueError(f"{argv[0]} must map arguments to values, got {settings!r}")
    return as_arguments(settings) + argv[1:]


def parse_config_overrides(
    overrides: str | None, config_class: type[PreTrainedConfig] = AttentionRnnConfig
) -> dict[str, Any]:
    """`"hidden_size=256,bidirectional=[True,False]"` as a dict."""
    set_by_tokenizer = ("vocab_size", "source_vocab_size")
    allowed = {
        name
        for name in {f.name for f in fields(config_class)} - {f.name for f in fields(PreTrainedConfig)}
        if name not in set_by_tokenizer and not name.endswith("_token_id")
    }
    values = {}
    for override in re.split(r",(?=\w+=)", overrides) if overrides else []:
        name, equals, value = override.partition("=")
        if not equals:
            raise ValueError(f"--config_overrides must be name=value,..., got {override!r}")
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=1)
            known = f"did you mean {near[0]}?" if near else f"the names are {sorted(allowed)}"
            raise ValueError(f"--config_overrides must name fields of the config, got {name!r}; {known}")
        try:
            values[name] = ast.literal_eval({"true": "True", "false": "False", "null": "None"}.get(value, value))
        except (ValueError, SyntaxError):
            values[name] = value  # a plain word, such as gru
    return values


def settle_sizes(
    overrides: str | None,
    examples: int | None,
    sizes: Mapping[str, Any],
    config_class: type[PreTrainedConfig] = AttentionRnnConfig,
) -> dict[str, Any]:
    """
    The fields of the config that a command line sets, and `sizes` where it says nothing of them and there are few
    examples; those of the config are for many.
    """
    values = parse_config_overrides(overrides, config_class)
    chosen = {name: size for name, size in sizes.items() if name not in values}
    if chosen and examples is not None and examples < FEW_EXAMPLES:
        values |= chosen
        told = ", ".join(f"{name}={size}" for name, size in chosen.items())
        logger.info(f"The model gets {told}, for {examples:,} training examples; --config_overrides changes that.")
    return values


def wanted_splits(training_args: TrainingArguments) -> dict[str, str]:
    """The splits to read, each with the argument that wants it."""
    actions = {"train": "--do_train", "validation": "--do_eval", "test": "--do_predict"}
    splits = {split: action for split, action in actions.items() if getattr(training_args, action[2:])}
    if not splits:
        raise ValueError("nothing to do: give one or several of --do_train, --do_eval, --do_predict")
    return splits


def check_shared_arguments(
    model_args: Any,
    data_args: Any,
    training_args: ScriptTrainingArguments,
    smallest_values: Mapping[str, int],
    metrics: Sequence[str],
) -> None:
    """
    Check what all scripts check that read examples.

    Args:
        model_args, data_args, training_args: the arguments.
        smallest_values (`dict[str, int]`): of some arguments of the data.
        metrics (`list[str]`): those that the best model may be chosen by, beside the loss.

    Raises:
        ValueError, ImportError: names the argument, its value and what is allowed.
        OSError: there is no model of that name.
    """
    check_files(data_args, training_args)
    check_values(data_args, training_args, smallest_values)
    if (best := training_args.metric_for_best_model) is not None:
        check_choice("metric_for_best_model", best.removeprefix("eval_"), ("loss", *metrics))
    check_model(model_args, training_args)


def check_model(model_args: Any, training_args: TrainingArguments) -> None:
    """Refuse a run without a model, and arguments about a new model or tokenizer beside one that exists already."""
    if model_args.model_name_or_path is None:
        if "train" not in wanted_splits(training_args):
            raise ValueError("--do_eval and --do_predict without --do_train need --model_name_or_path")
        values = parse_config_overrides(model_args.config_overrides, model_args.config_class)
        try:
            model_args.config_class(**values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"--config_overrides: {error}") from error
    for name, brings, of_any in (
        ("model_name_or_path", "config and tokenizer", model_args.of_any_model),
        ("tokenizer_name", "vocabulary", getattr(model_args, "of_any_tokenizer", ())),
    ):
        without_effect = [
            f"--{argument.name}"
            for argument in fields(model_args)
            if argument.name not in of_any and getattr(model_args, argument.name) != argument.default
        ]
        if getattr(model_args, name, None) is not None and without_effect:
            raise ValueError(f"--{name} brings its {brings}: no {', '.join(without_effect)}")
    if model_args.model_name_or_path is not None:
        open_config(one_of(model_args.model_name_or_path), trust_remote_code=model_args.trust_remote_code)


def check_files(data_args: Any, training_args: TrainingArguments) -> None:
    """Refuse splits that are read from nowhere, or from two places."""
    for split, action in wanted_splits(training_args).items():
        if (getattr(data_args, f"{split}_file") is None) == (data_args.dataset_name is None):
            raise ValueError(f"{action} needs either --{split}_file or --dataset_name")


def check_values(data_args: Any, training_args: TrainingArguments, smallest_values: Mapping[str, int]) -> None:
    """
    Refuse numbers below the smallest ones, pictures without matplotlib, and what the Hub would refuse of the card once
    the model is trained.
    """
    smallest_values = {
        "max_train_samples": 1,
        "max_eval_samples": 1,
        "max_predict_samples": 1,
        "num_heat_maps": 0,
        **smallest_values,
    }
    for name, least in smallest_values.items():
        if (value := getattr(data_args, name, None)) is not None and value < least:
            raise ValueError(f"--{name} must be at least {least}, got {value}")
    if getattr(data_args, "num_heat_maps", 0) and find_spec("matplotlib") is None:
        raise ImportError("--num_heat_maps needs matplotlib: pip install 'attention-rnn[plot]', or set it to 0")
    if training_args.push_to_hub and (data_args.language or data_args.license):
        metadata = ModelCardData(language=data_args.language, license=data_args.license)
        try:
            ModelCard(f"---\n{metadata.to_yaml()}\n---\n").validate()
        except ValueError as error:
            given = f"--language {data_args.language} and --license {data_args.license!r}"
            raise ValueError(f"{given} must be what the Hub knows: {error}") from error
        except Exception as error:  # which one depends on the client; what is wrong is said again at the push
            logger.warning(f"The Hub could not be asked whether it takes the card: {error}")


def check_choice(name: str, value: Any, allowed: Collection[Any]) -> None:
    """Refuse a value of an argument that is not among those allowed."""
    if value not in allowed:
        raise ValueError(f"--{name} must be one of {', '.join(filter(None, allowed))}, got {value!r}")
