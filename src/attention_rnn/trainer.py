"""A Trainer that survives what goes wrong in long trainings: NaN, a full disk, a process that is killed at any moment.

It trains any model that transformers' own Trainer trains:

    from attention_rnn import ReliableTrainer, ReliableTrainingArguments

    args = ReliableTrainingArguments("runs/tagger", non_finite_loss="skip", early_stopping_patience=3,
                                     eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True)
    trainer = ReliableTrainer(model, args, train_dataset=train, eval_dataset=dev)
    trainer.train(resume_from_checkpoint=last_whole_checkpoint("runs/tagger"))

    - A step whose loss or gradients are NaN or infinite never reaches the weights.
    - A checkpoint that cannot be written is an error that says why, and from where the training can go on.
    - Of a training that was killed, the last checkpoint that is whole is found. What goes on from it ends with the
      weights of a training that was never stopped, also where it stops early.
    - Predictions come in the order of the data.

A stream (`datasets.IterableDataset`) is resumed exactly as an `EndlessStream`.
"""

import inspect
import json
import logging
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.utils.data import IterableDataset
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from .tokenizer_training import check_vocabulary

logger = logging.getLogger(__name__)

# what a training needs of a checkpoint to go on as if it had never been stopped
_NEEDED_TO_RESUME = ("*.safetensors", "optimizer*", "scheduler.pt", "rng_state*.pth", "trainer_state.json")


@dataclass
class ReliableTrainingArguments(TrainingArguments):
    """
    The arguments of `ReliableTrainer`: those of transformers' `TrainingArguments`, and

    Args:
        non_finite_loss (`str`, *optional*, defaults to `"stop"`):
            What to do at a step whose loss or gradients are NaN or infinite: `"stop"` with a `FloatingPointError`, or
            `"skip"` it.
        early_stopping_patience (`int`, *optional*):
            Stop after that many evaluations without improvement of `metric_for_best_model`.
        use_cpu (`bool`, *optional*):
            Train on the CPU. By default, where there is no accelerator; `bf16` is then allowed, which transformers
            refuses otherwise.
        dataloader_pin_memory (`bool`, *optional*):
            Pin batches for a faster copy to an accelerator. By default, where there is one.

    Raises:
        ValueError: for another `non_finite_loss`, or if nothing tells which model of an early stopping is best.
    """

    # None, and not a default factory: `HfArgumentParser` makes False of that
    use_cpu: bool = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Train on the CPU. Default: where there is no accelerator."}
    )
    dataloader_pin_memory: bool = field(  # type: ignore[assignment]
        default=None,
        metadata={"help": "Pin batches for a faster copy to an accelerator. Default: where there is one."},
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after that many evaluations without improvement."}
    )
    non_finite_loss: str = field(
        default="stop",
        metadata={
            "help": "What to do at a step whose loss or gradients are NaN or infinite: stop with an error, or skip it. "
            "The weights never take such a step."
        },
    )

    def __post_init__(self) -> None:
        has_accelerator = torch.accelerator.is_available()
        if self.use_cpu is None:
            self.use_cpu = not has_accelerator
        if self.dataloader_pin_memory is None or not has_accelerator:  # without, torch warns at each evaluation
            self.dataloader_pin_memory = has_accelerator and not self.use_cpu
        if self.non_finite_loss not in ("stop", "skip"):
            raise ValueError(f"--non_finite_loss must be stop or skip, got {self.non_finite_loss!r}")
        if self.early_stopping_patience is not None:
            if self.early_stopping_patience < 1:
                raise ValueError(f"--early_stopping_patience must be at least 1, got {self.early_stopping_patience}")
            if not self.load_best_model_at_end:
                raise ValueError(
                    "--early_stopping_patience needs --load_best_model_at_end, with evaluations (--do_eval in a "
                    "script) and checkpoints at the same steps"
                )
        super().__post_init__()


@dataclass
class ReliableSeq2SeqTrainingArguments(ReliableTrainingArguments, Seq2SeqTrainingArguments):
    """The arguments of `ReliableSeq2SeqTrainer`: as `ReliableTrainingArguments`, and those of `Seq2SeqTrainer`."""


class ReliableTrainer(Trainer):
    """
    A `Trainer` that keeps NaN out of the weights, says what is wrong with a checkpoint that it cannot write, resumes
    exactly, stops early if its arguments say so, and predicts in the order of the data.

    It takes the arguments of transformers' `Trainer`. It does not write the Trainer's model card: a card that lies in
    `output_dir` stays as it is, and `push_to_hub` sends it along.

    Args:
        args (`ReliableTrainingArguments`):
            How to train; its defaults if omitted.

    Raises:
        FloatingPointError: the loss or gradients of a step are NaN or infinite, and `non_finite_loss` is `"stop"`.
        OSError: a checkpoint or the model cannot be written.
        TypeError: `args` are those of another Trainer.
        ValueError: the tokenizer has more tokens than the model, labels are to be smoothed where there are none, or
            `train` is to resume from a checkpoint that is not whole.
    """

    def __init__(self, model: Any = None, args: Any = None, *others: Any, **kwargs: Any) -> None:
        args = ReliableTrainingArguments("tmp_trainer") if args is None else args
        if not isinstance(args, ReliableTrainingArguments):
            raise TypeError(f"args must be ReliableTrainingArguments, got {type(args).__name__}")
        super().__init__(model, args, *others, **kwargs)
        config: Any = getattr(self.model, "config", None)
        if args.label_names is None and not self.label_names and self.can_return_loss:
            forward: Any = type(self.model).forward  # type: ignore[union-attr]
            self.label_names = list({"future_values"} & inspect.signature(forward).parameters.keys())
        if self.label_smoother is not None and "start_positions" in self.label_names:
            raise ValueError(
                "label_smoothing_factor must be 0 for question answering, whose loss has no labels to smooth, got "
                f"{args.label_smoothing_factor}"
            )
        if self.label_smoother is not None and getattr(config, "model_type", "").startswith("attention_rnn"):
            # in the model's own loss, of which the Trainer's smoothing would leave parts out
            config.label_smoothing, self.label_smoother = self.args.label_smoothing_factor, None
            config.validate()
        if isinstance(self.processing_class, PreTrainedTokenizerBase) and isinstance(self.model, PreTrainedModel):
            check_vocabulary(self.processing_class, self.model.config)
        if self.model is not None and self.args.device.type == "cpu":
            for parameter in self.model.parameters():
                # What is loaded lies in memory at other addresses than what is made, where products may differ in their
                # last bit: a resumed training would not be the same.
                parameter.data = parameter.data.clone()
        self.losses_of_step: list[Tensor] = []
        self.add_callback(_FiniteSteps(self))
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStoppingCallback(args.early_stopping_patience))

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """
        Train as transformers' `Trainer` does. `resume_from_checkpoint=True` takes the last checkpoint of `output_dir`
        that is whole, and starts anew if there is none.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_whole_checkpoint(str(self.args.output_dir))
        if resume_from_checkpoint:
            if fault := fault_of_checkpoint(resume_from_checkpoint):
                raise ValueError(
                    f"resume_from_checkpoint must be a whole checkpoint, got {resume_from_checkpoint!r}, which {fault}"
                )
            self._restore_patience(str(resume_from_checkpoint))
        return super().train(resume_from_checkpoint or None, *args, **kwargs)

    def _restore_patience(self, checkpoint: str) -> None:
        saved = TrainerState.load_from_json(str(Path(checkpoint, "trainer_state.json"))).stateful_callbacks or {}
        for callback in self._early_stopping_callbacks():
            attributes = saved.get("EarlyStoppingCallback", {}).get("attributes", {})
            callback.early_stopping_patience_counter = attributes.get("early_stopping_patience_counter", 0)

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        self.losses_of_step.append(loss)
        return loss

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        # a training that is resumed where it had ended would take one more step
        patient = (
            callback.early_stopping_patience_counter < callback.early_stopping_patience
            for callback in self._early_stopping_callbacks()
        )
        if self.state.global_step < self.state.max_steps and all(patient):
            super()._run_epoch(*args, **kwargs)
        else:
            self.control.should_training_stop = True

    def _early_stopping_callbacks(self) -> list[EarlyStoppingCallback]:
        return [callback for callback in self.callback_handler.callbacks if isinstance(callback, EarlyStoppingCallback)]

    @property
    def has_whole_model(self) -> bool:
        """Whether each process has the whole model, and so may use it alone."""
        return not self.is_fsdp_enabled

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if _internal_call:  # part of a checkpoint, whose error names it
            super().save_model(output_dir, _internal_call)
            return
        with _clear_errors_of_saving("The model", self.args):
            super().save_model(output_dir)

    def save_state(self) -> None:
        with _clear_errors_of_saving("The state of the training", self.args):
            super().save_state()

    def save_metrics(self, *args: Any, **kwargs: Any) -> None:
        combined = Path(str(self.args.output_dir), "all_results.json")
        # a run that was killed while it wrote them leaves what the next one could not read
        if self.is_world_process_zero() and combined.exists() and not _is_whole(combined):
            combined.unlink()
        super().save_metrics(*args, **kwargs)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with _clear_errors_of_saving(f"The checkpoint of step {self.state.global_step}", self.args):
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
        # push_to_hub would replace the card that lies in the folder
        pass


class ReliableSeq2SeqTrainer(ReliableTrainer, Seq2SeqTrainer):
    """
    A `ReliableTrainer` that evaluates what the model generates, as transformers' `Seq2SeqTrainer` does.

    Args:
        args (`ReliableSeq2SeqTrainingArguments`):
            How to train.
    """

    def __init__(self, model: Any = None, args: Any = None, *others: Any, **kwargs: Any) -> None:
        if not isinstance(args, ReliableSeq2SeqTrainingArguments):
            raise TypeError(f"args must be ReliableSeq2SeqTrainingArguments, got {type(args).__name__}")
        super().__init__(model, args, *others, **kwargs)


class EndlessStream(IterableDataset):
    """
    A stream of examples that begins again when it ends, shuffled anew at each pass.

    The Trainer does not know how long a stream is. It takes all steps for one epoch, and on resuming it passes over as
    many batches as it has seen, from the beginning of the first pass: only in a stream without end are those the same.

    Args:
        stream (`datasets.IterableDataset`): one pass, with a `set_epoch` that changes how it is shuffled.

    Raises:
        ValueError: where examples are read, if a pass has none.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[Any]:
        for epoch in count():
            self.stream.set_epoch(epoch)
            example = None
            for example in self.stream:
                yield example
            if example is None:
                raise ValueError("stream must hold at least one example, got none")


class _FiniteSteps(TrainerCallback):
    """Lets no step reach the weights whose loss or gradients are NaN or infinite."""

    def __init__(self, trainer: ReliableTrainer) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        model = kwargs["model"]
        losses, self.trainer.losses_of_step = torch.stack(self.trainer.losses_of_step), []
        finite = losses.isfinite().all()
        if not args.fp16:  # its gradients overflow now and then, and what scales the loss skips such a step by itself
            finite = finite & _gradients_are_finite(model)
        # all processes take a step or none does
        if self.trainer.accelerator.gather(finite[None].int()).all():
            return
        what = f"Step {state.global_step + 1}: the loss is {losses.sum().item():g}"
        if losses.isfinite().all():
            what += ", but not all gradients are finite"
        if args.non_finite_loss == "stop":
            raise FloatingPointError(
                f"{what}. A lower --learning_rate or --max_grad_norm may help, and --non_finite_loss skip leaves such "
                f"steps out. {_way_to_go_on(args.output_dir)}"
            )
        logger.warning(f"{what}: it is skipped")
        model.zero_grad()  # optimizers leave alone what has no gradient


def _gradients_are_finite(model: nn.Module) -> Tensor:
    """Whether those of this process are; FSDP leaves it a piece of each."""
    gradients: list[Any] = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    pieces = [gradient.to_local() if hasattr(gradient, "to_local") else gradient for gradient in gradients]
    return torch.stack([piece.isfinite().all() for piece in pieces]).all()


def last_whole_checkpoint(output_dir: str | Path) -> str | None:
    """The last checkpoint in the folder of a training that it can go on from, if any; a warning names the others."""
    folders = {path: path.name.removeprefix("checkpoint-") for path in Path(output_dir).glob("checkpoint-*")}
    steps = {path: int(number) for path, number in folders.items() if number.isdecimal()}
    for folder in sorted(steps, key=lambda path: steps[path], reverse=True):
        fault = fault_of_checkpoint(folder)
        if fault is None:
            return str(folder)
        logger.warning(f"{folder} {fault} and is passed over")
    return None


def fault_of_checkpoint(folder: str | Path) -> str | None:
    """What keeps a training from going on from a checkpoint, if anything: a file that lacks, or ends too early."""
    for pattern in _NEEDED_TO_RESUME:
        if not any(Path(folder).glob(pattern)):
            return f"has no {pattern}"
    for file in sorted(Path(folder).iterdir()):
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


@contextmanager
def _clear_errors_of_saving(what: str, args: TrainingArguments) -> Iterator[None]:
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
            f"{_way_to_go_on(output_dir)}"
        ) from error


def _way_to_go_on(output_dir: str | Path) -> str:
    checkpoint = last_whole_checkpoint(output_dir)
    if checkpoint is None:
        return "There is no whole checkpoint yet."
    return f"{checkpoint} is whole: --resume_from_checkpoint True goes on from there."
