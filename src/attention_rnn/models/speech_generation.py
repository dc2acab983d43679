"""
What `generate()` of speech adds to that of a source of tokens: scores of CTC and of a language model beside those of
the decoder, and an output that is no longer than the audio allows.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList

from .ctc import CTCHead
from .ctc_prefixes import CANDIDATES, PrefixScorer
from .encoder import memory_lengths
from .generation import AttentionRnnGenerationMixin
from .language_model_fusion import FollowingRows, LanguageModelScorer, check_weights
from .outputs import AttentionRnnEncoderOutput
from .streaming import is_stream


class SpeechGenerationMixin(AttentionRnnGenerationMixin):
    """`generate()` for a model with an encoder of speech, a decoder, an `lm_head` and perhaps a `ctc_head`."""

    ctc_head: Any

    @torch.no_grad()
    def generate(
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *args: Any,
        ctc_weight: float | None = None,
        language_model: Any = None,
        lm_weight: float = 0.3,
        endpoint_seconds: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        As in transformers, with (Watanabe et al., 2017, equation 15; Gulcehre et al., 2015)

            score = w log P_ctc + (1 - w) log P_decoder + `lm_weight` log P_lm

        A transcript has at most as many tokens as the memory of its audio has positions. `length_penalty` is 0 unless
        it is given. With `attention_window` CTC says when a token begins, and settings of the search have no effect.

        Args:
            inputs: log-mel frames, (batch, frames, mels), also as `input_features=`; with `attention_mask=`. Or a
                generator of chunks of one stream, see `StreamingMixin.transcribe_stream`, which takes `streamer` and
                `endpoint_seconds` and nothing else.
            ctc_weight: w, from 0 to 1; `decoding_ctc_weight` of the config by default.
            language_model: a causal language model of the same tokenizer.
            lm_weight: its weight.
            endpoint_seconds: of a stream, see `StreamingMixin.stream_step`.
            kwargs: see transformers: `num_beams`, `num_return_sequences`, ...

        Raises:
            ValueError, TypeError: a weight is out of range, the language model has another vocabulary; see also
                `CheckedGenerationMixin`.
        """
        model: Any = self
        features = kwargs.get("input_features", inputs)
        if is_stream(features):
            return model.transcribe_stream(features, kwargs.get("streamer"), endpoint_seconds)
        config = model.config
        weight = config.decoding_ctc_weight if ctc_weight is None and self.ctc_head is not None else ctc_weight or 0.0
        check_weights(ctc_weight=weight, lm_weight=lm_weight)
        if weight and self.ctc_head is None:
            raise ValueError(f"`ctc_weight` needs a model that was trained with `ctc_weight`, got {ctc_weight}.")
        if inputs is not None:
            kwargs["input_features"] = inputs
        self._check_inputs(**kwargs)
        encoded = kwargs.get("encoder_outputs")
        if encoded is None:
            of_encoder = {name: kwargs.pop(name, None) for name in ("input_features", "attention_mask")}
            settings = {name: kwargs.get(name) for name in ("output_attentions", "output_hidden_states")}
            encoded = model.model.encoder(**of_encoder, **settings, return_dict=True)
        # a copy: a search repeats what it is given for each beam, in place
        encoded = AttentionRnnEncoderOutput(**model.model.read_encoder_outputs(encoded))
        if config.attention_window is not None:
            if kwargs.get("num_return_sequences", 1) != 1:
                raise ValueError(
                    "`num_return_sequences` must be 1 for a model with `attention_window`, whose tokens CTC triggers, "
                    f"got {kwargs['num_return_sequences']}."
                )
            return model.transcribe_memory(encoded)
        kwargs |= {"encoder_outputs": encoded, "attention_mask": encoded.attention_mask}

        def given(name: str) -> Any:
            of_configs = [getattr(some, name, None) for some in (generation_config, model.generation_config)]
            return next((value for value in (kwargs.get(name), *of_configs) if value is not None), None)

        processors = LogitsProcessorList(kwargs.pop("logits_processor", None) or [])
        ends = torch.as_tensor(config.eos_token_id if given("eos_token_id") is None else given("eos_token_id"))
        head = self.ctc_head if weight else None
        processors.append(SpeechScorer(encoded, head, weight, ends.flatten().tolist()))
        if language_model is not None:
            processors.append(LanguageModelScorer(language_model, lm_weight, config.vocab_size))
        if given("max_length") is None and given("max_new_tokens") is None:
            kwargs["max_new_tokens"] = int(memory_lengths(encoded).max()) + 1
        if given("length_penalty") is None and (given("num_beams") or 1) > 1:
            kwargs["length_penalty"] = 0.0
        return super().generate(None, generation_config, *args, logits_processor=processors, **kwargs)


class SpeechScorer(FollowingRows):
    """
    Adds the score of CTC to that of the decoder, and ends a transcript that has a token for each position.

    Args:
        encoded: what the encoder returned.
        head: the CTC head, if it is to be heard.
        weight: of CTC; the decoder has the rest.
        ends: the tokens that end a transcript.
    """

    def __init__(
        self, encoded: AttentionRnnEncoderOutput, head: CTCHead | None, weight: float, ends: list[int]
    ) -> None:
        super().__init__()
        self.lengths, self.head, self.weight, self.ends = memory_lengths(encoded), head, weight, ends
        self.log_probs: Any = None if head is None else head(encoded.last_hidden_state)
        self.scorer: PrefixScorer | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Of tokens (rows, length) and scores (rows, vocabulary), which are logits or log probabilities."""
        rows = len(input_ids) // len(self.lengths)
        scores = scores.log_softmax(dim=-1)  # which leaves log probabilities as they are
        parents = self.follow(input_ids, rows)
        if self.head is not None:
            self._advance(self.head, input_ids, parents, rows)
            scores = self._add_ctc(scores)
        if input_ids.shape[1] > 1:
            is_full = input_ids.shape[1] > self.lengths.repeat_interleave(rows)
            goes_on = torch.ones(scores.shape[1], dtype=torch.bool, device=scores.device)
            goes_on[self.ends] = False
            scores = scores.masked_fill(is_full[:, None] & goes_on, -torch.inf)
        return scores

    def _advance(self, head: CTCHead, input_ids: Tensor, parents: Tensor | None, rows: int) -> None:
        silent = torch.tensor([*head.silent, head.blank], device=input_ids.device)
        tokens = input_ids.masked_fill(torch.isin(input_ids, silent), head.blank)
        if parents is None or self.scorer is None:
            lengths = self.lengths.repeat_interleave(rows)
            self.scorer = PrefixScorer(self.log_probs.repeat_interleave(rows, dim=0), lengths, head.blank)
            every_row = torch.arange(len(tokens), device=tokens.device)
            for prompted in tokens.unbind(dim=1):
                self.scorer.advance(every_row, prompted)
        else:
            self.scorer.advance(parents, tokens[:, -1])

    def _add_ctc(self, scores: Tensor) -> Tensor:
        scorer: Any = self.scorer
        head: Any = self.head
        silent = torch.tensor([head.blank, *(token for token in head.silent if token not in self.ends)])
        scores = scores.index_fill(1, silent.to(scores.device), -torch.inf)
        candidates = scores.topk(min(CANDIDATES, scores.shape[1]), dim=1).indices
        of_ctc = torch.full_like(scores, -torch.inf, dtype=torch.float64)
        of_ctc.scatter_(1, candidates, scorer.extended(candidates))
        of_ctc[:, self.ends] = scorer.said()[:, None]
        # a finished row, which goes on with padding, and one that cannot be any more have no score
        of_ctc = (of_ctc - scorer.scores[:, None]).nan_to_num(nan=-torch.inf, neginf=-torch.inf)
        joint = self.weight * of_ctc + (1 - self.weight) * scores.double()
        return joint.masked_fill(of_ctc.isinf() | scores.isinf(), -torch.inf).to(scores.dtype)
