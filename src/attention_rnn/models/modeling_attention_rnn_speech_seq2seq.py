"""Speech to text by attention, with CTC beside it: training, `generate()`, and when each token was said."""

from typing import Any

from torch import Tensor, nn
from transformers import EncoderDecoderCache
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils.generic import can_return_tuple

from .cache import takes_cache
from .checks import check_tensors
from .configuration_attention_rnn_speech import AttentionRnnSpeechConfig
from .ctc import CTCHead
from .encoder import memory_lengths
from .modeling_attention_rnn_speech import AttentionRnnSpeechModel, AttentionRnnSpeechPreTrainedModel
from .outputs import AttentionRnnEncoderOutput
from .sequence_to_sequence import AttentionRnnSequenceToSequence
from .speech_generation import SpeechGenerationMixin
from .token_times import TokenTimesMixin
from .triggered_attention import TriggeredAttentionMixin, windows_of


class AttentionRnnForSpeechSeq2Seq(
    AttentionRnnSpeechPreTrainedModel,
    SpeechGenerationMixin,
    TokenTimesMixin,
    TriggeredAttentionMixin,
    AttentionRnnSequenceToSequence,
):
    """
    Listen, Attend and Spell with joint CTC and attention (Watanabe et al., 2017,
    https://ieeexplore.ieee.org/document/8068205): with w = `ctc_weight`,

        loss = w (CTC of the memory) + (1 - w) (cross entropy of the decoder)
    """

    def __init__(self, config: AttentionRnnSpeechConfig) -> None:
        super().__init__(config)
        self.model = AttentionRnnSpeechModel(config)
        self.make_head()
        self.ctc_head = CTCHead(config) if config.ctc_weight else None
        self.post_init()

    @can_return_tuple
    @takes_cache
    def forward(
        self,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: AttentionRnnEncoderOutput | tuple | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """
        Args:
            labels: target tokens, (batch, target); -100 is ignored. Without decoder inputs, these are the labels
                shifted to the right.
            Others: see `AttentionRnnSpeechModel.forward`.

        Returns:
            `loss`: the weighted mean, per target token in nats, of CTC and cross entropy, or their sums over
            `num_items_in_batch` where the Trainer gives that number. `logits`: (batch, target, vocabulary); `None`
            where `logits_in_training` saves them.

        Raises:
            ValueError: labels outside the vocabulary; see also the encoder and decoder.
        """
        check_tensors(input_features=input_features, labels=labels)
        output_attentions = self.option("output_attentions", output_attentions)
        num_items_in_batch = kwargs.get("num_items_in_batch")
        labels, decoder_input_ids = self.read_labels(
            labels, decoder_input_ids, decoder_inputs_embeds, num_items_in_batch
        )
        if labels is not None and use_cache is None:
            use_cache = False
        if encoder_outputs is None:
            encoded: Any = self.model.encoder(
                input_features=input_features,
                attention_mask=attention_mask,
                output_attentions=output_attentions,
                output_hidden_states=output_hidden_states,
                return_dict=True,
            )
        else:
            encoded = self.model.read_encoder_outputs(encoder_outputs)
        windows = None
        if labels is not None and self.config.attention_window is not None:
            windows = windows_of(self.ctc_head, encoded, labels, self.config.attention_window)
        outputs = self.model(
            windows=windows,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoded,
            past_key_values=past_key_values,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions or self.config.coverage_loss_weight > 0,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        loss, logits = self.predict(outputs, labels, num_items_in_batch)
        if self.ctc_head is not None:
            weight = self.config.ctc_weight
            if labels is None:
                self.refuse_a_loss_from_outside(num_items_in_batch, ctc_weight=weight)
            else:
                log_probs = self.ctc_head(encoded.last_hidden_state)
                ctc = self.ctc_head.loss(log_probs, memory_lengths(encoded), labels, num_items_in_batch)
                loss = weight * ctc + (1 - weight) * loss  # type: ignore[operator]
        return self.output_of(outputs, loss, logits, output_attentions)

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Embedding:
        """As in transformers; the CTC head is resized too."""
        embeddings = super().resize_token_embeddings(new_num_tokens, *args, **kwargs)
        if self.ctc_head is not None:
            self.ctc_head.resize(embeddings.num_embeddings)
        return embeddings
