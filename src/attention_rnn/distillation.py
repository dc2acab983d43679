"""
Distillation: a student learns what teachers say of the training data, beside what the data say.

Two levels, which go together (Kim and Rush, 2016, https://arxiv.org/abs/1606.07947):

- Word level (Hinton et al., 2015, https://arxiv.org/abs/1503.02531): at each position of a target, the cross entropy of
  the student to the probabilities of its teachers, see `DistillationTrainer`.
- Sequence level: what the teachers write of each source is a target beside its own, see `write_targets`.

Several teachers teach together, as an `AttentionRnnEnsemble`, by the mean of their probabilities.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, pipeline

from .arguments import check_choice, option
from .checkpoints import open_config, open_encoder_decoder, single_models
from .ensemble import AttentionRnnEnsemble
from .models.checks import IGNORED_LABEL
from .models.configuration_attention_rnn import AttentionRnnConfig
from .models.losses import divisor
from .trainer import ReliableSeq2SeqTrainer

LEVELS = ("word", "sequence", "both")
_COMPARED = 1_000  # pairs by which tokenizers are compared


@dataclass
class DistillationArguments:
    """Whom to learn from, and what."""

    teacher_models: list[str] | None = field(
        default=None,
        metadata={
            "help": "Checkpoints to distil: one of any AutoModelForSeq2SeqLM, or several of this package, which teach "
            "together."
        },
    )
    distillation: str = option(
        "word",
        "What to learn of them: their probabilities at each position of a target (word), what they write of each "
        "source, as another target (sequence), or both.",
    )
    distillation_weight: float = option(
        0.5, "Weight of the cross entropy to their probabilities in the loss; the usual loss has the rest of 1."
    )

    @property
    def teaches_words(self) -> bool:
        return self.teacher_models is not None and self.distillation != "sequence"

    @property
    def teaches_sequences(self) -> bool:
        return self.teacher_models is not None and self.distillation != "word"

    def check_distillation(self) -> None:
        """
        Raises:
            ValueError: an argument has a value that is not allowed, or no effect.
        """
        check_choice("distillation", self.distillation, LEVELS)
        if not 0 < self.distillation_weight <= 1:
            raise ValueError(f"--distillation_weight must be above 0 and at most 1, got {self.distillation_weight}")
        names = ("distillation", "distillation_weight")
        given = [
            f"--{name}"
            for name in names
            if getattr(self, name) != DistillationArguments.__dataclass_fields__[name].default
        ]
        if given and self.teacher_models is None:
            raise ValueError(f"{' and '.join(given)} must stand beside --teacher_models")

    def describe_distillation(self) -> str | None:
        """What the model card says of it."""
        if self.teacher_models is None:
            return None
        names = ", ".join(Path(name).name if Path(name).exists() else name for name in self.teacher_models)
        weight = f", weighted by {self.distillation_weight:g}" if self.teaches_words else ""
        levels = "word and sequence" if self.distillation == "both" else self.distillation
        return f"Distilled from {names} at the level of {levels}{weight}."


def open_teacher(names: Sequence[str], **options: Any) -> tuple[Any, Any]:
    """
    A model that teaches, or several that do so together, and its tokenizer.

    Args:
        names (`list[str]`): folders, or names on the Hub.
        options: as of `from_pretrained`.

    Raises:
        OSError: there is no such model.
        TypeError: there are several, and not all of this package.
        ValueError: it writes no texts, or they do not belong together.
    """
    names = single_models(names)
    if len(names) == 1:
        teacher, tokenizer = open_encoder_decoder(names[0], **options)
    else:
        for name in names:
            if (kind := open_config(name, **options).model_type) != AttentionRnnConfig.model_type:
                raise TypeError(f"--teacher_models must be one model, or several of this package, got {name}: {kind}")
        teacher = AttentionRnnEnsemble.from_pretrained(names, **options)
        tokenizer = AutoTokenizer.from_pretrained(names[0], **options)
    return teacher.float().eval().requires_grad_(False), tokenizer


def check_same_tokens(tokenizer: Any, of_teacher: Any, pairs: Iterable[Any], name: str) -> None:
    """
    Refuse, for the level of words, a teacher with other tokens than its student.

    Args:
        tokenizer, of_teacher (`PreTrainedTokenizerBase`): those of the two.
        pairs: training examples with `source` and `target`, the first of which are looked at.
        name (`str`): what the teacher is called.

    Raises:
        ValueError: the vocabularies differ, or the ids of a text do.
    """
    sources, targets = zip(*((pair["source"], pair["target"]) for pair in islice(pairs, _COMPARED)), strict=True)

    def tokens(of_one: Any) -> list[Any]:
        ids = [of_one(list(sources))["input_ids"], of_one(text_target=list(targets))["input_ids"]]
        return ids + [one.get_vocab() for one in (of_one, getattr(of_one, "target", of_one))]

    if tokens(tokenizer) != tokens(of_teacher):
        raise ValueError(
            f"--distillation word needs teachers that read and write the tokens of the student, and {name} has others: "
            f"--tokenizer_name {name} gives the student these, and --distillation sequence does without"
        )


def check_same_steps(aligned_steps: int, teacher: PreTrainedModel, name: str) -> None:
    """
    Refuse, for the level of words, a teacher that writes more or fewer chunks for each token than its student.

    Raises:
        ValueError: it does.
    """
    if (steps := getattr(teacher.config, "aligned_steps", 1)) != aligned_steps:
        raise ValueError(
            f"--teacher_models {name} has aligned_steps={steps}, and the student {aligned_steps}: they must be the same"
        )


def write_targets(
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sources: Sequence[str],
    *,
    num_beams: int,
    max_length: int,
    batch_size: int = 64,
) -> list[str]:
    """
    What a teacher writes of each source.

    Args:
        teacher, tokenizer: as of `open_teacher`.
        sources (`list[str]`): texts, of which those of about equal length are read at once.
        num_beams (`int`): beams of the search.
        max_length (`int`): the longest that is written, in tokens, with that which the decoder begins with.
        batch_size (`int`): texts at once.
    """
    open_pipeline: Any = pipeline  # whose overloads know its own tasks alone
    write = open_pipeline("text2text-generation", model=teacher, tokenizer=tokenizer, device=teacher.device)
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    options = {"num_beams": num_beams, "max_length": max_length, "truncation": True}
    written = write([sources[index] for index in order], batch_size=batch_size, **options)
    targets = [""] * len(sources)
    for index, output in zip(order, written, strict=True):
        targets[index] = output["generated_text"].strip()
    return targets


class DistillationTrainer(ReliableSeq2SeqTrainer):
    """
    A `ReliableSeq2SeqTrainer` whose loss is mixed with the cross entropy to the probabilities q of a teacher:

        (1 - w) loss - w sum_t sum_v q(v | y_<t, x) log p(v | y_<t, x) / tokens

    Args:
        teacher (`PreTrainedModel`, *optional*):
            Reads and writes the tokens of the model, in evaluation mode. Without one the loss is the usual one, as it
            always is in evaluations.
        distillation_weight (`float`, *optional*, defaults to 0.5):
            w.

    Raises:
        ValueError: the model saves its logits in training, or one of the two copies and the other does not.
    """

    def __init__(self, *args: Any, teacher: Any = None, distillation_weight: float = 0.5, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.teacher, self.distillation_weight = teacher, distillation_weight
        if teacher is None:
            return
        teacher.to(self.args.device)
        config = self.model.config  # type: ignore[union-attr]
        if not getattr(config, "logits_in_training", True):
            raise ValueError("logits_in_training must be True for a student of probabilities, got False")
        copies = [getattr(one, "copy", False) for one in (config, teacher.config)]
        if copies[0] != copies[1]:
            raise ValueError(f"copy must be the same in student and teacher, got {copies[0]} and {copies[1]}")

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if self.teacher is None or not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        # a copy, as the Trainer takes the labels out for the smoothing of a model that is not ours
        loss, outputs = super().compute_loss(model, dict(inputs), True, num_items_in_batch)
        of_teacher = self._cross_entropy(outputs["logits"], inputs, num_items_in_batch)
        loss = (1 - self.distillation_weight) * loss + self.distillation_weight * of_teacher
        return (loss, outputs) if return_outputs else loss

    def _cross_entropy(self, logits: Tensor, inputs: dict[str, Any], num_items_in_batch: Any) -> Tensor:
        """That of the student's logits (batch, target, vocabulary) to the teacher's probabilities."""
        # without decoder inputs: each model has a start token of its own
        names = ("input_ids", "attention_mask", "copy_ids", "labels")
        with torch.no_grad():
            of_teacher = self.teacher(**{name: inputs[name] for name in names if name in inputs}).logits
        size = min(logits.shape[-1], of_teacher.shape[-1])  # a vocabulary may be filled up with what is no token
        probabilities = of_teacher[..., :size].float().softmax(dim=-1)
        losses = -(probabilities * logits[..., :size].float().log_softmax(dim=-1)).sum(dim=-1)
        is_target = inputs["labels"] != IGNORED_LABEL
        if num_items_in_batch is None:
            return losses.where(is_target, 0).sum() / divisor(is_target.sum(), None)
        # as the Trainer does with the loss of the model; with several devices in one process there is a number for each
        total = losses.where(is_target, 0).sum() / divisor(is_target.sum(), torch.as_tensor(num_items_in_batch).sum())
        return total * self.accelerator.num_processes if self.args.average_tokens_across_devices else total
