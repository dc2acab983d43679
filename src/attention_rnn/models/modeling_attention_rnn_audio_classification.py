"""The encoder of speech with a classifier: spoken commands, keywords, languages, speakers."""

import copy
from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils.generic import can_return_tuple

from .checks import check_tensors
from .classifier import AttentionRnnClassifier
from .configuration_attention_rnn_speech import AttentionRnnSpeechConfig
from .encoder import real_positions
from .modeling_attention_rnn_speech import AttentionRnnSpeechModel, AttentionRnnSpeechPreTrainedModel
from .pooling import LastStatePooling, QueryPooling, SelfAttentionPooling
from .streaming import KeywordSpottingMixin

_POOLINGS: dict[str, Any] = {"attention": SelfAttentionPooling, "query": QueryPooling, "last": LastStatePooling}


class AttentionRnnForAudioClassification(
    AttentionRnnSpeechPreTrainedModel, KeywordSpottingMixin, AttentionRnnClassifier
):
    """
    The encoder, whose memory `pooling` makes one vector of, and a linear classifier with `num_labels` outputs.

        memory -> pooled vector -> dropout (`readout_dropout`) -> logits

    The encoder of an [`AttentionRnnForSpeechSeq2Seq`]'s checkpoint can be loaded into it.
    """

    _keys_to_ignore_on_load_unexpected = [r"^model\.(decoder|bridge)\.", r"^lm_head\.", r"^ctc_head\."]

    def __init__(self, config: AttentionRnnSpeechConfig) -> None:
        config = copy.deepcopy(config)
        config.is_encoder_decoder = False
        super().__init__(config)
        self.model = AttentionRnnSpeechModel(config)
        self.pooling = _POOLINGS[config.pooling](config)
        self.dropout = nn.Dropout(config.readout_dropout)
        self.classifier = nn.Linear(self.pooling.output_size, config.num_labels)  # type: ignore[arg-type]
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """
        Args:
            input_features, attention_mask: the speech, see `AttentionRnnSpeechEncoder.forward`.
            labels: see `AttentionRnnForSequenceClassification.forward`.

        Returns:
            `loss`: see there. `logits`: (batch, num_labels). `attentions`, when asked for: a tuple of one tensor, the
            weights with which each head pools the positions of the memory, (batch, heads, 1, source).

        Raises:
            ValueError: labels of another type or shape, or out of range; see also the encoder.
        """
        check_tensors(input_features=input_features, labels=labels)
        outputs = self.model(
            input_features=input_features,
            attention_mask=attention_mask,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        pooled, weights = self.pooling(outputs.last_hidden_state, real_positions(outputs))
        logits = self.classifier(self.dropout(pooled))
        return SequenceClassifierOutput(
            loss=self.loss_of(logits, weights, labels, kwargs.get("num_items_in_batch")),
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=(weights[:, :, None],) if self.option("output_attentions", output_attentions) else None,
        )
