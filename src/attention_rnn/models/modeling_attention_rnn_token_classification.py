"""The encoder with a classifier of its tokens: parts of speech, chunks, entities, slots; and of the text's intent."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import initialization as init
from transformers.modeling_outputs import TokenClassifierOutput
from transformers.utils.generic import can_return_tuple

from .attention import ATTENTIONS, Memory
from .base import AttentionRnnPreTrainedModel
from .checks import IGNORED_LABEL, check_integers, check_tensors, has_values, warn_without_targets
from .configuration_attention_rnn import AttentionRnnConfig
from .crf import ConditionalRandomField, allowed_transitions
from .dropout import SequenceDropout
from .encoder import real_positions
from .losses import divisor, target_cross_entropy
from .modeling_attention_rnn import AttentionRnnModel
from .pooling import SelfAttentionPooling


@dataclass
class AttentionRnnTokenClassifierOutput(TokenClassifierOutput):
    """
    Args:
        intent_logits: with `intents`, (batch, intents).
        intent_attentions: the weights with which each head pools the text to tell its intent, when asked for, (batch,
            heads, 1, source).
        Others: see transformers.
    """

    intent_logits: Tensor | None = None
    intent_attentions: Tensor | None = None


class TokenAttention(nn.Module):
    """Attention of each position of the memory over the whole of it; the score is that of `attention_type`."""

    def __init__(self, config: AttentionRnnConfig) -> None:
        super().__init__()
        self.query = nn.Linear(config.memory_size, config.hidden_size)
        self.attention = ATTENTIONS[str(config.attention_type)](config)

    def forward(self, memory: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """
        Args:
            memory: (batch, source, memory).
            mask: (batch, source), true at real tokens; `None` where there is no padding.

        Returns:
            The contexts (batch, source, memory) and the weights (batch, heads, source, source).
        """
        alignment = memory.new_zeros(memory.shape[0], self.attention.alignment_features, memory.shape[1])
        keys, values = self.attention.project(memory)
        attended = Memory(keys, values, mask)
        contexts, weights, _ = self.attention(self.query(memory), attended, alignment, mask)
        return contexts, weights


class AttentionRnnForTokenClassification(AttentionRnnPreTrainedModel):
    """
    The encoder with a linear classifier of each token, by its memory and, unless `attention_type` is `None`, a context
    that attention takes from the whole text.

        [memory; context] -> dropout (`readout_dropout`) -> classifier -> scores of the `num_labels` labels

    With `character_size`, words are also known by their characters (Ma and Hovy, 2016,
    https://arxiv.org/abs/1603.01354), which `AttentionRnnWordTokenizer` gives. With `crf`, the scores are the emissions
    of a conditional random field. With `intents`, a second classifier tells the intent of the whole text, pooled by
    self-attention (Liu and Lane, 2016, https://arxiv.org/abs/1609.01454).

    The encoder of an encoder-decoder's checkpoint can be loaded into it. The parameters of the field start at zero.
    """

    _keys_to_ignore_on_load_unexpected = [r"^model\.(decoder|bridge)\.", r"^lm_head\."]
    _renamed_weights = {r"^characters\.": "model.encoder.characters."}

    def __init__(self, config: AttentionRnnConfig) -> None:
        config = copy.deepcopy(config)
        config.is_encoder_decoder = False
        super().__init__(config)
        if config.attention_type in ("dot", "scaled_dot") and config.memory_size != config.hidden_size:
            raise ValueError(
                f'`attention_type="{config.attention_type}"` needs a memory as wide as the query (`hidden_size` is '
                f"{config.hidden_size}), but a bidirectional last encoder layer makes it {config.memory_size} wide."
            )
        self.model = AttentionRnnModel(config)
        self.attention = TokenAttention(config) if config.attention_type else None
        self.dropout = SequenceDropout(config.readout_dropout, config.variational_dropout)
        num_labels = len(self._label_names())
        self.classifier = nn.Linear(config.memory_size + config.context_size, num_labels)
        self.crf = ConditionalRandomField(num_labels) if config.crf else None
        self._allowed_transitions()  # names that follow no scheme are an error now rather than later
        if config.intents:
            self.pooling = SelfAttentionPooling(config)
            self.intent_classifier = nn.Linear(config.pooling_heads * config.memory_size, len(config.intents))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ConditionalRandomField):
            for parameter in module.parameters():
                init.zeros_(parameter)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        character_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        intent_ids: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> AttentionRnnTokenClassifierOutput:
        """
        Args:
            input_ids, attention_mask, inputs_embeds, character_ids: the text, see `AttentionRnnEncoder.forward`.
            labels: of the tokens, from 0 to `num_labels - 1`, (batch, source). -100 is ignored: the chain of a
                conditional random field skips it in training. In evaluation the chain runs over all tokens but
                padding, `bos_token_id` and `eos_token_id`, so label all pieces of a word to use it with subwords.
            intent_ids: with `intents`, their indices, (batch,); -100 is ignored.

        Returns:
            `loss`: the mean per labelled token, or the sum over `num_items_in_batch` where the Trainer gives that
            number, of cross entropy or the field's negative log likelihood; plus the cross entropy of the intents, that
            of a text counting once for each of its labelled tokens. `logits`: (batch, source, num_labels). In
            evaluation a field turns the scores into what `ConditionalRandomField.max_marginals` returns, so that
            `argmax` gives the best sequence of labels. `attentions`, when asked for: a tuple of the weights of each
            token over all, (batch, heads, source, source), empty without attention.

        Raises:
            ValueError: labels or intents of another shape, out of range, or none that counts; characters missing, or
                given to a model that does not read them; see also the encoder.
        """
        config = self.config
        check_tensors(input_ids=input_ids, inputs_embeds=inputs_embeds, labels=labels, intent_ids=intent_ids)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            inputs_embeds=inputs_embeds,
            character_ids=character_ids,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        memory = outputs.last_hidden_state
        mask = real_positions(outputs)
        vectors = memory
        attentions: tuple[Tensor, ...] = ()
        if self.attention is not None:
            context, weights = self.attention(memory, mask)
            vectors, attentions = torch.cat([memory, context], dim=-1), (weights,)
        logits = self.classifier(self.dropout(vectors))
        intent_logits = intent_attentions = None
        if config.intents:
            pooled, intent_attentions = self.pooling(memory, mask)
            intent_logits = self.intent_classifier(self.dropout(pooled[:, None])[:, 0])
        loss = self._loss(logits, labels, intent_logits, intent_ids, kwargs.get("num_items_in_batch"))
        if self.crf is not None and not self.training:
            logits = self.crf.max_marginals(
                logits, self._chain(input_ids, mask, logits), self._allowed_transitions(logits.device)
            )
        output_attentions = self.option("output_attentions", output_attentions)
        return AttentionRnnTokenClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=attentions if output_attentions else None,
            intent_logits=intent_logits,
            intent_attentions=intent_attentions[:, :, None]
            if output_attentions and intent_attentions is not None
            else None,
        )

    def _label_names(self) -> tuple[str, ...]:
        names: Any = self.config.id2label
        return tuple(names[index] for index in range(len(names)))

    def _allowed_transitions(self, device: torch.device | None = None) -> Tensor | None:
        if not self.config.constrained_decoding:
            return None
        return allowed_transitions(self._label_names()).to(device)

    def _chain(self, input_ids: Tensor | None, mask: Tensor | None, logits: Tensor) -> Tensor:
        """The tokens that a conditional random field labels, (batch, source)."""
        chain = torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device) if mask is None else mask
        if input_ids is not None:
            config = self.config
            eos = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
            for token_id in (config.pad_token_id, config.bos_token_id, *eos):
                if token_id is not None:
                    chain = chain & (input_ids != token_id)
        return chain

    def _loss(
        self,
        logits: Tensor,
        labels: Tensor | None,
        intent_logits: Tensor | None,
        intent_ids: Tensor | None,
        num_items_in_batch: Tensor | int | None,
    ) -> Tensor | None:
        if labels is None:
            self.refuse_a_loss_from_outside(num_items_in_batch, crf=self.config.crf, intents=self.config.intents)
        if labels is None and intent_ids is None:
            return None
        smoothing = self.config.label_smoothing if self.training else 0.0
        total, tokens = logits.new_zeros(()), torch.ones(len(logits), dtype=torch.long, device=logits.device)
        if labels is not None:
            _check_ids("labels", labels, logits)
            labels = labels.to(logits.device).long()
            is_labelled = labels != IGNORED_LABEL
            tokens = is_labelled.sum(dim=1)
            if self.crf is None:
                total = target_cross_entropy(logits, labels, 1, smoothing)
            else:
                total = -self.crf.log_likelihood(logits, labels, is_labelled).sum()
        if intent_ids is not None:
            if intent_logits is None:
                raise ValueError("`intent_ids` need a model with `intents`, got one without.")
            _check_ids("intent_ids", intent_ids, intent_logits)
            intent_ids = intent_ids.to(logits.device).long()
            losses = cross_entropy(
                intent_logits.float(),
                intent_ids,
                ignore_index=IGNORED_LABEL,
                reduction="none",
                label_smoothing=smoothing,
            )
            total = total + (losses * tokens).sum()
        return total / divisor(tokens.sum(), num_items_in_batch)


def _check_ids(name: str, ids: Tensor, logits: Tensor) -> None:
    """
    Raises:
        TypeError: `ids` are no integers.
        ValueError: they have another shape than `logits` (..., classes), or are out of range.
    """
    check_integers(name, ids)
    if ids.shape != logits.shape[:-1]:
        raise ValueError(f"`{name}` must have the shape {tuple(logits.shape[:-1])}, got {tuple(ids.shape)}.")
    warn_without_targets(name, ids)
    if has_values(ids):
        counted = ids[ids != IGNORED_LABEL]
        is_wrong = (counted < 0) | (counted >= logits.shape[-1])
        if is_wrong.any():
            largest = logits.shape[-1] - 1
            raise ValueError(f"`{name}` must be from 0 to {largest}, got {counted[is_wrong][0].item()}.")
