"""The encoder-decoder with a language modelling head, for sequence to sequence tasks."""

from typing import Any

from torch import Tensor, nn
from transformers import EncoderDecoderCache
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils.generic import can_return_tuple

from .cache import takes_cache
from .checks import check_tensors
from .configuration_attention_rnn import AttentionRnnConfig
from .modeling_attention_rnn import AttentionRnnModel
from .outputs import AttentionRnnEncoderOutput
from .sequence_to_sequence import AttentionRnnSequenceToSequence


class AttentionRnnForConditionalGeneration(AttentionRnnSequenceToSequence):
    """The encoder-decoder with a language modelling head, for sequence to sequence tasks."""

    def __init__(self, config: AttentionRnnConfig) -> None:
        super().__init__(config)
        self.model = AttentionRnnModel(config)
        self.make_head()
        self.post_init()

    @can_return_tuple
    @takes_cache
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: AttentionRnnEncoderOutput | tuple | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        inputs_embeds: Tensor | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        character_ids: Tensor | None = None,
        copy_ids: Tensor | None = None,
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
            Others: see `AttentionRnnModel.forward`.

        Returns:
            `loss`: mean cross entropy per target token in nats, or the sum over `num_items_in_batch` where the Trainer
            gives that number, plus the weighted coverage loss. `logits`: (batch, target, vocabulary); with `copy`, the
            log probabilities of the extended vocabulary; `None` where `logits_in_training` saves them.

        Raises:
            ValueError: labels outside the vocabulary or without any target token; see also the encoder and decoder.
        """
        config = self.config
        check_tensors(input_ids=input_ids, inputs_embeds=inputs_embeds, labels=labels)
        output_attentions = self.option("output_attentions", output_attentions)
        num_items_in_batch = kwargs.get("num_items_in_batch")
        labels, decoder_input_ids = self.read_labels(
            labels, decoder_input_ids, decoder_inputs_embeds, num_items_in_batch
        )
        if labels is not None and use_cache is None:
            use_cache = False
        if config.copy and decoder_input_ids is not None and config.unk_token_id is not None:
            # copied tokens that the vocabulary lacks have no embedding
            is_known = decoder_input_ids < config.vocab_size
            decoder_input_ids = decoder_input_ids.where(is_known, config.unk_token_id)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            character_ids=character_ids,
            copy_ids=copy_ids,
            use_cache=use_cache,
            output_attentions=output_attentions or config.copy or config.coverage_loss_weight > 0,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        loss, logits = self.predict(outputs, labels, num_items_in_batch)
        return self.output_of(outputs, loss, logits, output_attentions)

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *args: Any, **kwargs: Any) -> nn.Embedding:
        """
        As in transformers, for a model with one vocabulary.

        Raises:
            ValueError: source and target have a vocabulary each; then `resize_source_token_embeddings` and
                `resize_target_token_embeddings` say which is meant.
        """
        if self.config.source_vocab_size is not None and new_num_tokens is not None:
            raise ValueError(
                "`resize_token_embeddings` needs one vocabulary for source and target (`source_vocab_size=None`). "
                "Use `resize_source_token_embeddings` or `resize_target_token_embeddings`."
            )
        return super().resize_token_embeddings(new_num_tokens, *args, **kwargs)

    def resize_source_token_embeddings(self, new_num_tokens: int) -> nn.Embedding:
        """Resize the embedding matrix of a source with its own vocabulary to `new_num_tokens` rows."""
        if self.config.source_vocab_size is None:
            raise ValueError("The source shares the target's vocabulary: use `resize_token_embeddings`.")
        encoder = self.model.encoder
        encoder.embed_tokens = self._get_resized_embeddings(encoder.embed_tokens, new_num_tokens)
        self.config.source_vocab_size = new_num_tokens
        return encoder.embed_tokens

    def resize_target_token_embeddings(self, new_num_tokens: int) -> nn.Embedding:
        """Resize the embedding matrix and `lm_head` of a target with its own vocabulary to `new_num_tokens` rows."""
        if self.config.source_vocab_size is None:
            raise ValueError("The target shares the source's vocabulary: use `resize_token_embeddings`.")
        decoder = self.model.decoder
        decoder.embed_tokens = self._get_resized_embeddings(decoder.embed_tokens, new_num_tokens)
        self.lm_head = self._get_resized_lm_head(self.lm_head, new_num_tokens)
        self.config.vocab_size = new_num_tokens
        self.tie_weights()
        return decoder.embed_tokens
