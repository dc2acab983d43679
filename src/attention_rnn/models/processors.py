"""What transformers' logits processors and stopping criteria do, as far as a decoding loop must know it."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import (
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
)

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
