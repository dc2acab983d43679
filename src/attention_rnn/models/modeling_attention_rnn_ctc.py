"""Speech to text by CTC alone: a token or a blank at each position of the memory."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers.generation.streamers import BaseStreamer
from transformers.modeling_outputs import CausalLMOutput
from transformers.utils.generic import can_return_tuple

from .checks import check_labels, check_tensors, warn_without_targets
from .configuration_attention_rnn_speech import AttentionRnnCTCConfig
from .ctc import CTCHead, collapse
from .ctc_prefixes import prefix_beam_search
from .encoder import memory_lengths
from .language_model_fusion import LanguageModelScorer, check_weights
from .modeling_attention_rnn_speech import AttentionRnnSpeechModel, AttentionRnnSpeechPreTrainedModel
from .outputs import AttentionRnnEncoderOutput, CTCGenerateOutput
from .streaming import StreamingMixin, is_stream
from .token_times import TokenTimesMixin


class AttentionRnnForCTC(AttentionRnnSpeechPreTrainedModel, TokenTimesMixin, StreamingMixin):
    """
    The encoder with a CTC head (Graves et al., 2006; Deep Speech 2, Amodei et al., 2016,
    https://arxiv.org/abs/1512.02595). The blank is `pad_token_id`.

    The encoder and the CTC head of an [`AttentionRnnForSpeechSeq2Seq`] can be loaded into it, with a config of this
    model's type: `from_pretrained(folder, config=AttentionRnnCTCConfig(...))`.
    """

    config: AttentionRnnCTCConfig  # type: ignore[assignment]
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
        check_tensors(input_features=input_features, labels=labels)
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
        self,
        input_features: Tensor | Iterable[Tensor] | None = None,
        attention_mask: Tensor | None = None,
        encoder_outputs: AttentionRnnEncoderOutput | None = None,
        num_beams: int = 1,
        num_return_sequences: int = 1,
        language_model: Any = None,
        lm_weight: float = 0.3,
        return_dict_in_generate: bool = False,
        streamer: BaseStreamer | None = None,
        endpoint_seconds: float | None = None,
    ) -> Tensor | CTCGenerateOutput:
        """
        Transcripts, without blanks.

        Args:
            input_features, attention_mask: the speech, see `AttentionRnnSpeechEncoder.forward`. Or a generator of
                chunks of one stream, see `StreamingMixin.transcribe_stream`, which takes `streamer` and
                `endpoint_seconds` and nothing else.
            encoder_outputs: what the encoder returned for it, instead.
            num_beams: 1 takes the most likely token of each position; more look for the transcript that is likeliest
                over all its alignments, see `prefix_beam_search`.
            num_return_sequences: the best so many transcripts of each recording, at most `num_beams`.
            language_model: a causal language model of the same tokenizer, which needs two beams or more.
            lm_weight: the weight of its log probabilities.
            return_dict_in_generate: whether to return scores as well.

        Returns:
            Tokens (batch * num_return_sequences, longest), `pad_token_id` behind shorter ones; or these as `sequences`
            and their log probabilities as `sequences_scores`, (batch * num_return_sequences,).

        Raises:
            TypeError, ValueError: a number or a weight is out of range; the language model has another vocabulary.
        """
        features: Any = input_features
        if is_stream(features):
            return self.transcribe_stream(features, streamer, endpoint_seconds)
        _check_whole("num_beams", num_beams, 1_000)
        _check_whole("num_return_sequences", num_return_sequences, num_beams)
        check_weights(lm_weight=lm_weight)
        if language_model is not None and num_beams == 1:
            raise ValueError("`language_model` needs `num_beams` of at least 2, got 1.")
        encoded: Any = encoder_outputs
        if encoded is None:
            encoded = self.model(input_features=input_features, attention_mask=attention_mask, return_dict=True)
        log_probs, lengths = self.ctc_head(encoded.last_hidden_state), memory_lengths(encoded)
        blank = self.ctc_head.blank
        if num_beams == 1:
            best = log_probs.max(dim=-1)
            sequences, _ = collapse(best.indices, lengths, blank)
            places = torch.arange(log_probs.shape[1], device=lengths.device)
            scores = best.values.where(places < lengths[:, None], 0).sum(dim=1)
        else:
            scorer = language_model and LanguageModelScorer(language_model, lm_weight, self.config.vocab_size)
            begin, ends = self.config.decoder_start_token_id, self.config.eos_token_id
            if scorer is not None and (begin is None or ends is None):
                raise ValueError("`decoder_start_token_id` and `eos_token_id` must be set to use `language_model`.")
            ends = [] if ends is None else torch.as_tensor(ends).flatten().tolist()
            found, found_scores = prefix_beam_search(log_probs, lengths, blank, num_beams, scorer, begin or 0, ends)
            sequences = found[:, :num_return_sequences].flatten(0, 1)
            scores = found_scores[:, :num_return_sequences].flatten()
        if return_dict_in_generate:
            return CTCGenerateOutput(sequences=sequences, sequences_scores=scores)
        return sequences


def _check_whole(name: str, value: Any, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"`{name}` must be a whole number from 1 to {most}, got {value!r}.")
