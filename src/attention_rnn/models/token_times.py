"""When the tokens of a transcript were said: by aligning them with the CTC head, or else by the attention."""

from typing import Any

import torch
from torch import Tensor

from .checks import check_token_ids
from .ctc import CTCHead, align, confidence, silent_tokens
from .encoder import memory_lengths
from .outputs import AttentionRnnEncoderOutput, TokenTimes


class TokenTimesMixin:
    """`token_times` of a model with an encoder of speech and a CTC head, or a decoder with attention."""

    config: Any
    model: Any
    ctc_head: Any

    @torch.no_grad()
    def token_times(
        self,
        sequences: Tensor,
        input_features: Tensor | None = None,
        attention_mask: Tensor | None = None,
        encoder_outputs: AttentionRnnEncoderOutput | None = None,
    ) -> TokenTimes:
        """
        When each token of a transcript was said, by the most likely alignment with the CTC head. A model without one
        aligns by the attention: a token begins where the decoder looks most, at or after the one before, and ends where
        the next one begins. `emission_delay` of the config is taken off all times.

        Args:
            sequences: what `generate()` returned, (batch, target).
            input_features, attention_mask: the speech, see `AttentionRnnSpeechEncoder.forward`.
            encoder_outputs: what the encoder returned for it, instead.

        Returns:
            Times in seconds and confidences, each (batch, target).

        Raises:
            ValueError: there is not a transcript for each recording; a transcript has more tokens than CTC has
                positions for; the model has neither a CTC head nor attention.
        """
        check_token_ids("sequences", sequences, self.config.vocab_size)
        if encoder_outputs is None:
            encoder_outputs = self.model.encoder(
                input_features=input_features, attention_mask=attention_mask, return_dict=True
            )
        encoded: Any = encoder_outputs
        if len(sequences) != len(encoded.last_hidden_state):
            raise ValueError(
                f"`sequences` must have a row for each recording, {len(encoded.last_hidden_state)}, got "
                f"{len(sequences)}."
            )
        if self.ctc_head is not None:
            first, behind, certainty = _by_ctc(self.ctc_head, sequences, encoded)
        else:
            first, behind, certainty = self._by_attention(sequences, encoded)
        silent = torch.tensor([self.config.pad_token_id, *silent_tokens(self.config)], device=sequences.device)
        is_silent = torch.isin(sequences, silent)
        seconds = self.config.inputs_to_logits_ratio / self.config.sampling_rate
        delay = self.config.emission_delay
        return TokenTimes(
            start=(first * seconds - delay).clamp(min=0).masked_fill(is_silent, torch.nan),
            end=(behind * seconds - delay).clamp(min=0).masked_fill(is_silent, torch.nan),
            confidence=certainty.float().masked_fill(is_silent, torch.nan),
        )

    def _by_attention(self, sequences: Tensor, encoded: Any) -> tuple[Tensor, Tensor, Tensor]:
        """First position, the one behind the last, and confidence of each token, (batch, target)."""
        model: Any = self
        outputs = model(
            decoder_input_ids=sequences[:, :-1], encoder_outputs=encoded, output_attentions=True, use_cache=False
        )
        if not outputs.cross_attentions:
            raise ValueError("`token_times` needs `ctc_weight` or `attention_type`, got a model with neither.")
        weights = outputs.cross_attentions[0].mean(dim=1)  # (batch, target - 1, source)
        first = weights.argmax(dim=2).cummax(dim=1).values
        behind = torch.cat([first[:, 1:], memory_lengths(encoded)[:, None]], dim=1)
        behind = torch.maximum(behind, first + 1)
        of_tokens = outputs.logits.softmax(dim=-1).gather(2, sequences[:, 1:, None])[..., 0]
        return tuple(torch.nn.functional.pad(values, (1, 0)) for values in (first, behind, of_tokens))  # type: ignore[return-value]


def _by_ctc(head: CTCHead, sequences: Tensor, encoded: Any) -> tuple[Tensor, Tensor, Tensor]:
    log_probs, lengths = head(encoded.last_hidden_state), memory_lengths(encoded)
    targets, counts = head.targets(sequences)
    first, behind = align(log_probs, lengths, targets, counts, head.blank)
    certainty = confidence(log_probs, targets, first, behind)
    # back to where the tokens stand among those without a sound
    is_target = torch.isin(sequences, torch.tensor([head.blank, *head.silent], device=sequences.device)).logical_not()
    places = (is_target.cumsum(dim=1) - 1).clamp(min=0)
    return first.gather(1, places), behind.gather(1, places), certainty.gather(1, places)
