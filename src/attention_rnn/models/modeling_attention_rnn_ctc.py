"""Speech to text by CTC alone: a token or a blank at each position of the memory."""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import CausalLMOutput
from transformers.utils.generic import can_return_tuple

from .checks import check_labels, warn_without_targets
from .configuration_attention_rnn_speech import AttentionRnnCTCConfig
from .ctc import CTCHead, collapse
from .encoder import memory_lengths
from .modeling_attention_rnn_speech import AttentionRnnSpeechModel, AttentionRnnSpeechPreTrainedModel


class AttentionRnnForCTC(AttentionRnnSpeechPreTrainedModel):
    """
    The encoder with a CTC head (Graves et al., 2006; Deep Speech 2, Amodei et al., 2016,
    https://arxiv.org/abs/1512.02595). The blank is `pad_token_id`.

    The encoder and the CTC head of an [`AttentionRnnForSpeechSeq2Seq`] can be loaded into it.
    """

    config: AttentionRnnCTCConfig
    _keys_to_ignore_on_load_unexpected = [r"^model\.(decoder|bridge)\.", r"^lm_head\."]

    def __init__(self, config: AttentionRnnCTCConfig) -> None:
        config = copy.deepcopy(config)
        config.is_encoder_decoder = False
        super().__init__(config)
        self.model = AttentionRnnSpeechModel(config)
        self.ctc_head = CTCHead(config)
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
    ) -> CausalLMOutput:
        """
        Args:
            input_features, attention_mask: the speech, see `AttentionRnnSpeechEncoder.forward`.
            labels: target tokens, (batch, target); -100 is ignored, and so are tokens without a sound.

        Returns:
            `loss`: the mean CTC loss per target token in nats, or the sum over `num_items_in_batch` where the Trainer
            gives that number. `logits`: log probabilities, (batch, positions, vocabulary); those of padding are blank
            for sure.

        Raises:
            ValueError: labels outside the vocabulary; see also the encoder.
        """
        encoded = self.model(
            input_features=input_features,
            attention_mask=attention_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        log_probs = self.ctc_head(encoded.last_hidden_state)
        loss = None
        if labels is not None:
            check_labels(labels, self.config.vocab_size)
            warn_without_targets("labels", labels)
            num_items_in_batch = kwargs.get("num_items_in_batch")
            loss = self.ctc_head.loss(log_probs, memory_lengths(encoded), labels.long(), num_items_in_batch)
        if encoded.attention_mask is not None:
            # pipelines know nothing of the mask of the memory
            nothing = torch.full_like(log_probs, torch.finfo(log_probs.dtype).min)
            nothing[..., self.ctc_head.blank] = 0
            log_probs = torch.where(encoded.attention_mask[..., None] > 0, log_probs, nothing)
        return CausalLMOutput(
            loss=loss, logits=log_probs, hidden_states=encoded.hidden_states, attentions=encoded.attentions
        )

    @torch.no_grad()
    def generate(
        self, input_features: Tensor | None = None, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """
        The most likely token of each position, repeats and blanks taken out.

        Args:
            input_features, attention_mask: the speech, see `AttentionRnnSpeechEncoder.forward`.

        Returns:
            (batch, tokens), `pad_token_id` behind shorter ones.
        """
        encoded = self.model(input_features=input_features, attention_mask=attention_mask, return_dict=True)
        log_probs = self.ctc_head(encoded.last_hidden_state)
        return collapse(log_probs.argmax(dim=-1), memory_lengths(encoded), self.ctc_head.blank)[0]
