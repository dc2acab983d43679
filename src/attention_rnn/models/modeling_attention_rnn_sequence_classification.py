"""The encoder with a classifier of whole texts: sentiment, topic, language, or a number (regression)."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils.generic import can_return_tuple

from .base import AttentionRnnPreTrainedModel
from .checks import IGNORED_LABEL, check_tensors, has_values, warn_without_targets
from .configuration_attention_rnn import AttentionRnnConfig
from .encoder import real_positions
from .losses import divisor, target_cross_entropy
from .modeling_attention_rnn import AttentionRnnModel
from .pooling import SelfAttentionPooling, overlap_penalty

SINGLE_LABEL, MULTI_LABEL, REGRESSION = "single_label_classification", "multi_label_classification", "regression"


class AttentionRnnForSequenceClassification(AttentionRnnPreTrainedModel):
    """
    The encoder, whose memory self-attention pools into one vector, and a linear classifier with `num_labels` outputs.

        memory -> pooled vector (`pooling_heads` heads) -> dropout (`readout_dropout`) -> logits

    The encoder of an encoder-decoder's checkpoint can be loaded into it.
    """

    _keys_to_ignore_on_load_unexpected = [r"^model\.(decoder|bridge)\.", r"^lm_head\."]

    def __init__(self, config: AttentionRnnConfig) -> None:
        config = copy.deepcopy(config)
        config.is_encoder_decoder = False
        super().__init__(config)
        self.model = AttentionRnnModel(config)
        self.pooling = SelfAttentionPooling(config)
        self.dropout = nn.Dropout(config.readout_dropout)
        self.classifier = nn.Linear(config.pooling_heads * config.memory_size, config.num_labels)  # type: ignore[arg-type]
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        character_ids: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """
        Args:
            input_ids, attention_mask, inputs_embeds, character_ids: the text, see `AttentionRnnEncoder.forward`.
            labels: by `config.problem_type`; where that is `None`, it is set as transformers does, from `num_labels`
                and the type of the first labels. -100 is ignored.

                - `"single_label_classification"`: integers from 0 to `num_labels - 1`, (batch,).
                - `"multi_label_classification"`: floats from 0 to 1, (batch, num_labels).
                - `"regression"`: floats, (batch, num_labels), or (batch,) if `num_labels` is 1.

        Returns:
            `loss`: the mean over the labels of cross entropy, binary cross entropy or squared error, or the sum over
            `num_items_in_batch` where the Trainer gives that number; plus the weighted penalty of pooling heads that
            overlap. `logits`: (batch, num_labels). `attentions`, when asked for: a tuple of one tensor, the weights
            with which each head pools the text, (batch, heads, 1, source).

        Raises:
            ValueError: labels of another type or shape, out of range, or none that counts; see also the encoder.
        """
        check_tensors(labels=labels)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            character_ids=character_ids,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        memory = outputs.last_hidden_state
        pooled, weights = self.pooling(memory, real_positions(outputs))
        logits = self.classifier(self.dropout(pooled))
        loss = None
        if labels is not None:
            labels = labels.to(logits.device)
            loss = self._loss(logits, weights, labels, kwargs.get("num_items_in_batch"))
        else:
            penalty = self.config.pooling_penalty_weight
            self.refuse_a_loss_from_outside(kwargs.get("num_items_in_batch"), pooling_penalty_weight=penalty)
        return SequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=(weights[:, :, None],) if self.option("output_attentions", output_attentions) else None,
        )

    def _loss(self, logits: Tensor, weights: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
        config: Any = self.config
        problem_type = config.problem_type or _guess_problem_type(labels, config.num_labels)
        check_class_labels(labels, problem_type, logits)
        # kept in the config, as transformers does: pipelines read there what turns logits into scores
        config.problem_type = problem_type
        if config.label_smoothing and problem_type != SINGLE_LABEL:
            raise ValueError(
                f'`label_smoothing` needs `problem_type="{SINGLE_LABEL}"`, got {config.label_smoothing} and '
                f'"{problem_type}".'
            )
        warn_without_targets("labels", labels)
        is_counted = labels != IGNORED_LABEL
        if problem_type == SINGLE_LABEL:
            smoothing = config.label_smoothing if self.training else 0.0
            loss = target_cross_entropy(logits, labels, num_items_in_batch, smoothing)
        else:
            function = mse_loss if problem_type == REGRESSION else binary_cross_entropy_with_logits
            losses = function(logits.float(), labels.reshape(logits.shape).float(), reduction="none")
            is_counted = is_counted.reshape(logits.shape)
            loss = losses.where(is_counted, 0).sum() / divisor(is_counted.sum(), num_items_in_batch)
        if config.pooling_penalty_weight:
            # for each label of an example, so that the mean over labels holds the mean over examples
            times = is_counted.reshape(len(logits), -1).sum(dim=1)
            penalty = (overlap_penalty(weights) * times).sum() / divisor(times.sum(), num_items_in_batch)
            loss = loss + config.pooling_penalty_weight * penalty
        return loss


def _guess_problem_type(labels: Tensor, num_labels: int) -> str:
    if num_labels == 1:
        return REGRESSION
    return MULTI_LABEL if labels.is_floating_point() else SINGLE_LABEL


def check_class_labels(labels: Tensor, problem_type: str, logits: Tensor) -> None:
    """
    Raises:
        ValueError: `labels` do not fit `logits` (batch, num_labels): another type or shape than the problem has, or a
            value out of range.
    """
    name, num_labels = f'`labels` for `problem_type="{problem_type}"`', logits.shape[1]
    if problem_type == SINGLE_LABEL:
        kind, has_kind = "integers", labels.dtype in (torch.int64, torch.int32)
        shapes = [logits.shape[:1]]
    elif problem_type in (MULTI_LABEL, REGRESSION):
        kind, has_kind = "floating point numbers", labels.is_floating_point()
        shapes = [logits.shape]
        if problem_type == REGRESSION and num_labels == 1:
            shapes.append(logits.shape[:1])
    else:
        raise ValueError(
            f"`problem_type` must be one of {[SINGLE_LABEL, MULTI_LABEL, REGRESSION]}, got {problem_type!r}."
        )
    if not has_kind:
        raise ValueError(f"{name} must be {kind}, got {labels.dtype}.")
    if labels.shape not in shapes:
        allowed = " or ".join(str(tuple(shape)) for shape in shapes)
        raise ValueError(f"{name} must have the shape {allowed}, got {tuple(labels.shape)}.")
    if not has_values(labels):
        return
    counted = labels[labels != IGNORED_LABEL]
    if problem_type == REGRESSION:
        limits, is_right = "finite", counted.isfinite()
    else:
        largest = num_labels - 1 if problem_type == SINGLE_LABEL else 1
        limits, is_right = f"from 0 to {largest}", (counted >= 0) & (counted <= largest)
    if not is_right.all():
        raise ValueError(f"{name} must be {limits} (`num_labels` is {num_labels}), got {counted[~is_right][0].item()}.")
