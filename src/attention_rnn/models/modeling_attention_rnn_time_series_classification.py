"""The encoder of time series with a classifier of whole series."""

import copy
from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils.generic import can_return_tuple

from .checks import check_tensors
from .classifier import AttentionRnnClassifier
from .configuration_attention_rnn_time_series import AttentionRnnTimeSeriesConfig
from .modeling_attention_rnn_time_series import AttentionRnnTimeSeriesModel, AttentionRnnTimeSeriesPreTrainedModel
from .pooling import SelfAttentionPooling


class AttentionRnnForTimeSeriesClassification(AttentionRnnTimeSeriesPreTrainedModel, AttentionRnnClassifier):
    """
    The encoder, whose memory self-attention pools into one vector, and a linear classifier with `num_labels` outputs.
    The vectors of several channels that are not mixed stand side by side.

        memory -> pooled vector (`pooling_heads` heads) -> dropout (`readout_dropout`) -> logits

    The encoder of a forecaster's checkpoint can be loaded into it.
    """

    _keys_to_ignore_on_load_unexpected = [r"^model\.(decoder|bridge|positions|known_features)\.", r"^readout\."]

    def __init__(self, config: AttentionRnnTimeSeriesConfig) -> None:
        config = copy.deepcopy(config)
        config.is_encoder_decoder = False
        super().__init__(config)
        self.model = AttentionRnnTimeSeriesModel(config)
        self.pooling = SelfAttentionPooling(config)
        self.dropout = nn.Dropout(config.readout_dropout)
        self.sequences = config.num_channels // config.channels_together  # of each series
        width = self.sequences * config.pooling_heads * config.memory_size
        self.classifier = nn.Linear(width, config.num_labels)  # type: ignore[arg-type]
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        past_values: Tensor,
        past_time_features: Tensor | None = None,
        past_observed_mask: Tensor | None = None,
        past_only_features: Tensor | None = None,
        static_categorical_features: Tensor | None = None,
        static_real_features: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """
        Args:
            past_values and the others: the series, see `AttentionRnnTimeSeriesModel.forward`.
            labels: by `config.problem_type`, see `AttentionRnnForSequenceClassification.forward`.

        Returns:
            `loss`: as there. `logits`: (batch, num_labels). `attentions`, when asked for: a tuple of one tensor, the
            weights with which each head pools the patches, (batch, heads, 1, patches); the heads of several channels
            that are not mixed follow each other.

        Raises:
            ValueError: labels of another type or shape, out of range; see also `AttentionRnnTimeSeriesModel.forward`.
        """
        check_tensors(past_values=past_values, labels=labels)
        pooled, weights = self.pooled(
            past_values,
            past_time_features,
            past_observed_mask,
            past_only_features,
            static_categorical_features,
            static_real_features,
        )
        logits = self.classifier(self.dropout(pooled))
        return SequenceClassifierOutput(
            loss=self.loss_of(logits, weights, labels, kwargs.get("num_items_in_batch")),
            logits=logits,
            attentions=(weights[:, :, None],) if self.option("output_attentions", output_attentions) else None,
        )

    def pooled(self, *series: Tensor | None, **named: Tensor | None) -> tuple[Tensor, Tensor]:
        """The vector of each series, (batch, channels * heads * memory), and the weights (batch, heads, patches)."""
        outputs = self.model(*series, **named, return_dict=True)
        vectors, weights = self.pooling(outputs.last_hidden_state, outputs.attention_mask.bool())
        batch_size = vectors.shape[0] // self.sequences
        return vectors.reshape(batch_size, -1), weights.reshape(batch_size, -1, weights.shape[-1])
