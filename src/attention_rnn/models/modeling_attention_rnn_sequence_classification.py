"""The encoder with a classifier of whole texts: sentiment, topic, language, or a number (regression)."""

import copy
from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils.generic import can_return_tuple

from .checks import check_tensors
from .classifier import AttentionRnnClassifier
from .configuration_attention_rnn import AttentionRnnConfig
from .encoder import real_positions
from .modeling_attention_rnn import AttentionRnnModel
from .pooling import SelfAttentionPooling


class AttentionRnnForSequenceClassification(AttentionRnnClassifier):
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
        self.classifier = nn.Linear(self.pooling.output_size, config.num_labels)  # type: ignore[arg-type]
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
        check_tensors(input_ids=input_ids, inputs_embeds=inputs_embeds, labels=labels)
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
        return SequenceClassifierOutput(
            loss=self.loss_of(logits, weights, labels, kwargs.get("num_items_in_batch")),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=(weights[:, :, None],) if self.option("output_attentions", output_attentions) else None,
        )
