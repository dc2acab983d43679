"""What the sequence to sequence models share, whatever the source is: `lm_head`, labels, and the loss."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import Seq2SeqLMOutput

from .base import AttentionRnnPreTrainedModel
from .cache import CACHE, cache_field
from .checks import IGNORED_LABEL, check_labels, has_values, warn_without_targets
from .generation import AttentionRnnGenerationMixin
from .losses import coverage_loss, linear_cross_entropy, target_cross_entropy
from .outputs import AttentionRnnModelOutput
from .readout import mix_copies, reachable_tokens


class AttentionRnnSequenceToSequence(AttentionRnnPreTrainedModel, AttentionRnnGenerationMixin):
    """A language modelling head on an `AttentionRnnEncoderDecoder`, which a subclass makes as `self.model`."""

    model: Any

    def make_head(self) -> None:
        """
        To be called by `__init__`, after `self.model` is made.

        Raises:
            ValueError: the model has no decoder.
        """
        config = self.config
        if not config.is_encoder_decoder:
            raise ValueError(f"`is_encoder_decoder` must be True for {type(self).__name__}, which has a decoder.")
        self.lm_head = nn.Linear(config.embedding_size, config.vocab_size, bias=False)
        # transformers' loss of such a class's name shifts the labels, which our decoder inputs already are
        self.loss_type = "ForMaskedLM"
        if config.tie_word_embeddings:
            side = "encoder" if config.shares_embeddings else "decoder"
            self._tied_weights_keys = {"lm_head.weight": f"model.{side}.embed_tokens.weight"}

    def read_labels(
        self,
        labels: Tensor | None,
        decoder_input_ids: Tensor | None,
        decoder_inputs_embeds: Tensor | None,
        num_items_in_batch: Any,
    ) -> tuple[Tensor | None, Tensor | None]:
        """
        Labels (batch, target) as 64-bit integers, and what the decoder reads: where nothing else is given, the labels
        shifted to the right.

        Raises:
            TypeError, ValueError: see `check_labels`; or a Trainer has taken the labels away.
        """
        has_inputs = decoder_input_ids is not None or decoder_inputs_embeds is not None
        if labels is None:
            self.refuse_a_loss_from_outside(num_items_in_batch, is_encoder_decoder=not has_inputs)
            return None, decoder_input_ids
        check_labels(labels, None if self.config.copy else self.config.vocab_size)
        if labels.numel() == 0:
            raise ValueError(f"`labels` must hold at least one token of each target, got {tuple(labels.shape)}.")
        labels = labels.long()
        return labels, decoder_input_ids if has_inputs else self.prepare_decoder_input_ids_from_labels(labels)

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """
        Labels (batch, target) shifted to the right, behind `decoder_start_token_id`.

        Raises:
            ValueError: the config lacks tokens, or labels are padded on the left.
        """
        config = self.config
        if config.decoder_start_token_id is None or config.pad_token_id is None:
            raise ValueError("`decoder_start_token_id` and `pad_token_id` must be set in the config to use `labels`.")
        if has_values(labels):
            is_target = labels != IGNORED_LABEL
            is_wrong = ~is_target[:, 0] & is_target.any(dim=1)
            if is_wrong.any():
                row = int(is_wrong.int().argmax())
                raise ValueError(
                    f"`labels` must be padded on the right, but row {row} begins with {IGNORED_LABEL}; a tokenizer "
                    'with `padding_side="right"` does so.'
                )
        start = labels.new_full((labels.shape[0], 1), config.decoder_start_token_id)
        shifted = torch.cat([start, labels[:, :-1]], dim=1)
        return shifted.masked_fill(shifted == IGNORED_LABEL, config.pad_token_id)

    def predict(
        self, outputs: Any, labels: Tensor | None, num_items_in_batch: Tensor | int | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """The loss, if there are labels, and the logits, unless `logits_in_training` saves them."""
        config = self.config
        needs_logits = labels is None or config.copy or not self.trains_without_logits()
        logits = self._logits(outputs) if needs_logits else None
        if labels is None:
            self.refuse_a_loss_from_outside(
                num_items_in_batch,
                coverage_loss_weight=config.coverage_loss_weight,
                copy=config.copy and logits is not None and logits.shape[-1] > config.vocab_size,
            )
            return None, logits
        return self._loss(logits, labels, outputs, num_items_in_batch), logits

    def _logits(self, outputs: Any) -> Tensor:
        logits = self.lm_head(outputs.last_hidden_state)  # (batch, target, vocabulary)
        if self.config.copy:
            (weights,) = outputs.cross_attentions
            logits = mix_copies(logits, outputs.generation_probability, weights, outputs.copy_ids)
        return logits

    def _loss(self, logits: Tensor | None, labels: Tensor, outputs: Any, num_items_in_batch: Any) -> Tensor:
        config, vectors = self.config, outputs.last_hidden_state
        if labels.shape != vectors.shape[:2]:
            raise ValueError(
                "`labels` must have the shape of the decoder's inputs, "
                f"{tuple(vectors.shape[:2])}, got {tuple(labels.shape)}."
            )
        warn_without_targets("labels", labels)
        smoothing = config.label_smoothing if self.training else 0.0
        if logits is None:
            weight = self.lm_head.weight
            loss = linear_cross_entropy(vectors, weight, labels, IGNORED_LABEL, num_items_in_batch, smoothing)
        else:
            reachable = None
            if config.copy:
                check_labels(labels, logits.shape[-1])
                reachable = reachable_tokens(logits, outputs.copy_ids, config.vocab_size)
            loss = target_cross_entropy(logits, labels, num_items_in_batch, smoothing, reachable)
        if config.coverage_loss_weight > 0:
            (weights,) = outputs.cross_attentions
            covered = coverage_loss(weights, labels != IGNORED_LABEL, num_items_in_batch)
            loss = loss + config.coverage_loss_weight * covered
        return loss

    def output_of(
        self, outputs: AttentionRnnModelOutput, loss: Tensor | None, logits: Tensor | None, output_attentions: bool
    ) -> Seq2SeqLMOutput:
        """What `forward` returns, of what `self.model` has."""
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            **cache_field(outputs.get(CACHE)),
            decoder_hidden_states=outputs.decoder_hidden_states,
            decoder_attentions=outputs.decoder_attentions if output_attentions else None,
            cross_attentions=outputs.cross_attentions if output_attentions else None,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            encoder_attentions=outputs.encoder_attentions if output_attentions else None,
        )
