"""
The loops behind `generate()`: greedy decoding, sampling and beam search.

`generate()` checks and prepares a request as transformers does; only the loop is replaced, and only for the requests
that `_covers` lets pass. The others get transformers' own loop. The tokens are the same either way.

What makes these loops faster: a step is the equations of the decoder and nothing else, with products made ready for
many steps (`decoder_step.py`); the beams of a source share its memory; sources that are finished leave the batch.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    EncoderDecoderCache,
    EosTokenCriteria,
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    GenerationConfig,
    GenerationMixin,
    MaxLengthCriteria,
    MaxTimeCriteria,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    StopStringCriteria,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)
from transformers.generation import GenerateBeamEncoderDecoderOutput, GenerateEncoderDecoderOutput
from transformers.generation.streamers import BaseStreamer
from transformers.utils import ModelOutput

from .attention import Memory
from .beams import Beams
from .cache import CACHE, cache_field, read_memory, read_states, write_states
from .checks import padding_mask
from .decoder import AttentionRnnDecoder, DecoderState
from .decoder_step import DecoderStep, prepare
from .generation_checks import CheckedGenerationMixin
from .prepared_linear import is_intercepted

_ROW_BY_ROW = {
    EosTokenCriteria,
    ForcedBOSTokenLogitsProcessor,
    ForcedEOSTokenLogitsProcessor,
    MaxLengthCriteria,
    MaxTimeCriteria,
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    StopStringCriteria,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
}


class AttentionRnnGenerationMixin(CheckedGenerationMixin):
    """`GenerationMixin` with loops of our own, for a model with an encoder, a decoder and an `lm_head`."""

    config: Any
    model: Any
    lm_head: Any
    device: Any
    modules: Any

    def _sample(
        self,
        input_ids: Any,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        synced_gpus: bool = False,
        streamer: BaseStreamer | None = None,
        **model_kwargs: Any,
    ) -> Any:
        """Greedy decoding and sampling; arguments and result as in transformers."""
        if synced_gpus or not self._covers(input_ids, generation_config, model_kwargs):
            return super()._sample(  # type: ignore[misc]
                input_ids,
                logits_processor,
                stopping_criteria,
                generation_config,
                synced_gpus=synced_gpus,
                streamer=streamer,
                **model_kwargs,
            )
        do_sample, pad_token_id = generation_config.do_sample, generation_config._pad_token_tensor
        pads = any(hasattr(criterion, "eos_token_id") for criterion in stopping_criteria)
        # rows that are sampled draw from one stream of random numbers, and a streamer wants them all
        may_leave = pads and not do_sample and streamer is None
        may_leave = may_leave and _may_leave([*logits_processor, *stopping_criteria], generation_config, model_kwargs)
        record = _Record(generation_config)
        logits, weights, state, step = self._begin(input_ids, generation_config, model_kwargs)
        process = join_processors(logits_processor, logits.shape[-1])
        rows = torch.arange(len(input_ids), device=input_ids.device)
        unfinished, left, steps = torch.ones_like(rows), [], 0
        while True:
            scores = process(input_ids, logits)
            record.add(scores, logits, weights)
            if do_sample:
                tokens = torch.multinomial(torch.softmax(scores, dim=-1), num_samples=1)[:, 0]
            else:
                tokens = torch.argmax(scores, dim=-1)
            if pads:
                tokens = torch.where(unfinished > 0, tokens, pad_token_id)
            input_ids = torch.cat([input_ids, tokens[:, None]], dim=-1)
            unfinished = unfinished & ~stopping_criteria(input_ids, record.scores)
            if streamer is not None:
                streamer.put(tokens.cpu())
            remaining = int(unfinished.sum())
            if remaining == 0:
                break
            if may_leave and _leaving_pays(remaining, len(rows)):
                left.append((rows[unfinished == 0], input_ids[unfinished == 0]))
                stay = unfinished.nonzero()[:, 0]
                rows, input_ids, tokens, unfinished = rows[stay], input_ids[stay], tokens[stay], unfinished[stay]
                state, step = _select(state, stay), step.of(stay)
            logits, weights, state = step(tokens, state)
            steps += 1
        if streamer is not None:
            streamer.end()
        if left:
            all_rows, parts = zip(*left, (rows, input_ids), strict=True)
            sequences = [sequence for part in parts for sequence in part]
            padded = pad_sequence(sequences, batch_first=True, padding_value=int(pad_token_id))
            input_ids = padded[torch.cat(all_rows).argsort()]
        if not generation_config.return_dict_in_generate:
            return input_ids
        cache = _write_cache(state, step.beams, steps, model_kwargs)
        return GenerateEncoderDecoderOutput(sequences=input_ids, **cache_field(cache), **record.fields(model_kwargs))

    def _beam_search(
        self,
        input_ids: Any,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        synced_gpus: bool = False,
        **model_kwargs: Any,
    ) -> Any:
        """Beam search; arguments and result as in transformers."""
        covered = not (synced_gpus or generation_config.do_sample or generation_config.low_memory)
        if not (covered and self._covers(input_ids, generation_config, model_kwargs)):
            return super()._beam_search(  # type: ignore[misc]
                input_ids,
                logits_processor,
                stopping_criteria,
                generation_config,
                synced_gpus=synced_gpus,
                **model_kwargs,
            )
        may_leave = _may_leave([*logits_processor, *stopping_criteria], generation_config, model_kwargs)
        record = _Record(generation_config)
        logits, weights, state, step = self._begin(input_ids, generation_config, model_kwargs)
        process = join_processors(logits_processor, logits.shape[-1])
        beams = Beams(input_ids, generation_config)
        sources, left, steps = torch.arange(len(beams.finished), device=input_ids.device), [], 0
        while True:
            scores = process(beams.input_ids, torch.log_softmax(logits, dim=-1))
            record.add(scores, logits, weights)
            state = _select(state, beams.extend(scores, stopping_criteria, record.scores))
            if not beams.goes_on:
                break
            if may_leave:
                decided = beams.is_decided
                remaining = len(decided) - int(decided.sum())
                if remaining and _leaving_pays(remaining, len(decided)):
                    left.append((sources[decided], beams.of(decided)))
                    stay = (~decided).nonzero()[:, 0]
                    state, step = _select(state, step.rows_of(stay)), step.of(stay)
                    sources, beams = sources[stay], beams.of(stay)
            logits, weights, state = step(beams.last_tokens, state)
            steps += 1
        beams = Beams.join([*left, (sources, beams)])
        sequences, scores, origins = beams.best(generation_config.num_return_sequences)
        if not generation_config.return_dict_in_generate:
            return sequences
        return GenerateBeamEncoderDecoderOutput(
            sequences=sequences,  # type: ignore[arg-type]
            sequences_scores=scores if generation_config.output_scores else None,
            beam_indices=origins.to(torch.int32),  # type: ignore[arg-type]
            **cache_field(_write_cache(state, step.beams, steps, model_kwargs)),
            **record.fields(model_kwargs),
        )

    def _covers(self, input_ids: Tensor, generation_config: GenerationConfig, model_kwargs: dict[str, Any]) -> bool:
        """
        Whether the loops above can serve a request. Transformers' own loops serve the rest: no cache or one of the
        user's; a static, quantised or offloaded cache; hidden states; assistants; prompts in chunks; training mode;
        gradients; a traced or compiled model; and whenever someone would miss a call of `forward`: hooks, or a method
        that a subclass or an instance has replaced.
        """
        cache, encoder_outputs = model_kwargs.get(CACHE), model_kwargs.get("encoder_outputs")
        return (
            isinstance(cache, EncoderDecoderCache)
            and not getattr(cache, "_is_user_defined", False)
            and generation_config.use_cache
            and generation_config.cache_implementation in (None, "dynamic")
            and isinstance(encoder_outputs, ModelOutput)
            and not generation_config.output_hidden_states
            and not generation_config.is_assistant
            and generation_config.prefill_chunk_size is None
            and not (self.config.copy and self.config.unk_token_id is None)
            and self.config.recurrence_backend == "auto"
            and input_ids.device == self.device
            and not torch.is_grad_enabled()
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()
            and self._steps_as_written()
        )

    def _steps_as_written(self) -> bool:
        """
        Whether the loops above do what a call of this model does. They call the modules of the decoder one by one, so
        these may be of any class; what they do themselves must be what the code in this folder says.
        """
        model: Any = self
        decoder = model.model.decoder
        is_changed = any(module.training or is_intercepted(module) for module in self.modules())
        if is_changed or type(decoder) is not AttentionRnnDecoder:
            return False
        folder = __name__.rpartition(".")[0]
        own = [model.forward, model.predict, model._logits]
        own += [model.model.forward, model.model.decode_target, model.model.target_front.embed]
        own += [decoder.forward, decoder.read_tokens, decoder.decode, decoder.step]
        inherited = [model.prepare_inputs_for_generation, model._update_model_kwargs_for_generation]
        return all(method.__module__.rpartition(".")[0] == folder for method in own) and all(
            method.__module__ == GenerationMixin.__module__ for method in inherited
        )

    def _begin(
        self, input_ids: Tensor, generation_config: GenerationConfig, model_kwargs: dict[str, Any]
    ) -> tuple[Tensor, Tensor | None, DecoderState, DecoderStep]:
        """
        The first step, by `forward`, which checks what is given and reads a prompt of any length. The beams of a
        source are still the same, so one of them will do.

        Args:
            input_ids: (sources * beams, prompt); the rows about one source follow each other.
            model_kwargs: the memory and its mask, repeated for each beam, and an empty cache.

        Returns:
            Logits, attention and state as `DecoderStep` returns them, for all beams; and the steps to come.
        """
        model: Any = self
        beams = max(generation_config.num_beams, generation_config.num_return_sequences)
        kwargs = _every(beams, model_kwargs)
        kwargs["encoder_outputs"] = type(kwargs["encoder_outputs"])(**_every(beams, kwargs["encoder_outputs"]))
        inputs = model.prepare_inputs_for_generation(input_ids[::beams], is_first_iteration=True, **kwargs)
        outputs = model(**inputs, return_dict=True)
        keys, values = read_memory(outputs[CACHE])
        mask = padding_mask("attention_mask", kwargs.get("attention_mask"), values)
        memory = Memory(keys, values, mask)
        copy_ids = kwargs["encoder_outputs"].copy_ids if self.config.copy else None
        decoder = self.model.decoder
        steps = generation_config.max_length - input_ids.shape[1]
        prepared = prepare(decoder, self.lm_head, memory, beams, steps)
        embed_tokens = self.model.target_front.embed_tokens
        step = DecoderStep(prepared, embed_tokens, prepared.read(memory), copy_ids, beams)
        rows = torch.arange(len(keys), device=keys.device).repeat_interleave(beams)
        state = _select(decoder._unpack(*read_states(outputs[CACHE])), rows)
        weights = outputs.cross_attentions[0][rows] if outputs.cross_attentions else None
        return outputs.logits[:, -1].float()[rows], weights, state, step


class _Record:
    """What `return_dict_in_generate` returns of each step."""

    def __init__(self, generation_config: GenerationConfig) -> None:
        def wanted(option: bool | None) -> tuple | None:
            return () if generation_config.return_dict_in_generate and option else None

        self.scores = wanted(generation_config.output_scores)
        self.logits = wanted(generation_config.output_logits)
        self.cross_attentions = wanted(generation_config.output_attentions)

    def add(self, scores: Tensor, logits: Tensor, weights: Tensor | None) -> None:
        if self.scores is not None:
            self.scores += (scores,)
        if self.logits is not None:
            self.logits += (logits,)
        if self.cross_attentions is not None:
            self.cross_attentions += (() if weights is None else (weights,),)

    def fields(self, model_kwargs: dict[str, Any]) -> dict[str, Any]:
        """Under the names of transformers' output classes."""
        attentions = self.cross_attentions
        return {
            "scores": self.scores,
            "logits": self.logits,
            "cross_attentions": attentions,
            "decoder_attentions": None if attentions is None else ((),) * len(attentions),
            "encoder_attentions": None if attentions is None else model_kwargs["encoder_outputs"].get("attentions"),
        }


def _may_leave(processors: list[Any], generation_config: GenerationConfig, model_kwargs: dict[str, Any]) -> bool:
    """Whether nobody would miss the sources that are finished."""
    return (
        not generation_config.return_dict_in_generate
        and treat_rows_alone(processors)
        and model_kwargs.get("decoder_attention_mask") is None  # the repetition penalty keeps one
        and model_kwargs["encoder_outputs"].get("copy_ids") is None  # the extended vocabulary would shrink
    )


def _leaving_pays(remaining: int, present: int) -> bool:
    """Those that stay are copied, so some must have gathered that leave."""
    return 4 * (present - remaining) >= present


def _every(step: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Every `step`-th row of the tensors among `values`."""
    if step == 1:
        return dict(values)
    return {name: value[::step] if isinstance(value, Tensor) else value for name, value in values.items()}


def _select(state: DecoderState, rows: Tensor) -> DecoderState:
    return DecoderState([layer[rows] for layer in state.states], state.fed[rows], state.alignment[rows])


def _write_cache(state: DecoderState, beams: int, steps: int, model_kwargs: dict[str, Any]) -> EncoderDecoderCache:
    """The cache as transformers' loop leaves it, after `steps` calls of the decoder besides the first."""
    cache = model_kwargs[CACHE]
    if beams > 1:
        cache.batch_repeat_interleave(beams)
    if steps:
        fed = torch.cat([state.fed[:, 0], state.alignment.flatten(1)], dim=1)
        states = [layer[:, None].expand(-1, steps, -1) for layer in state.states]
        write_states(cache, states, fed[:, None].expand(-1, steps, -1))
    return cache


def treat_rows_alone(processors: Iterable[Any]) -> bool:
    """Whether these processors and criteria treat each row by itself, whatever rows are beside it."""
    return all(type(processor) in _ROW_BY_ROW for processor in processors)


def join_processors(processors: Iterable[Any], vocab_size: int) -> Callable[[Tensor, Tensor], Tensor]:
    """
    One function for several processors, of `input_ids` (rows, length) and scores (rows, vocabulary).

    The list that transformers makes of them looks up the arguments of each anew at each call, and those for a minimum
    length compare every token with those that end a sequence.
    """
    functions = [_without_search(processor, vocab_size) for processor in processors]

    def process(input_ids: Tensor, scores: Tensor) -> Tensor:
        for function in functions:
            scores = function(input_ids, scores)
        return scores

    return process


def _without_search(processor: Any, vocab_size: int) -> Callable[[Tensor, Tensor], Tensor]:
    if type(processor) is MinLengthLogitsProcessor:
        min_length = processor.min_length
    elif type(processor) is MinNewTokensLengthLogitsProcessor:
        min_length = processor.prompt_length_to_skip + processor.min_new_tokens
    else:
        return processor
    ends = processor.eos_token_id[processor.eos_token_id < vocab_size]

    def forbid_end(input_ids: Tensor, scores: Tensor) -> Tensor:
        return scores.index_fill(-1, ends, -torch.inf) if input_ids.shape[-1] < min_length else scores

    return forbid_end
