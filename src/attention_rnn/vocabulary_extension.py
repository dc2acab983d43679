"""Lets a trained model read and write letters that its vocabulary lacks, to be trained further on other data."""

import json
import logging
from collections import Counter
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from .models.tokenization_attention_rnn import AttentionRnnTokenizer, arguments_of

logger = logging.getLogger(__name__)

_SHOWN = 10  # new units, in messages


def extend_tokenizer(
    tokenizer: PreTrainedTokenizerFast, texts: Iterable[str], target_texts: Iterable[str] = ()
) -> PreTrainedTokenizerFast:
    """
    A tokenizer that knows the units of more texts: words of a tokenizer of words, characters of any other. What it
    knows already keeps its ids; the new units follow, the most frequent first.

    Args:
        tokenizer (`PreTrainedTokenizerFast`):
            Of one vocabulary or, as `pair_tokenizers` makes them, of two.
        texts, target_texts (`Iterable[str]`):
            What it is to know; the latter on its side of the target, if that has a vocabulary of its own.

    Returns:
        `PreTrainedTokenizerFast`: of the same class.
    """
    if not isinstance(tokenizer, AttentionRnnTokenizer):
        backend = _extended(tokenizer.backend_tokenizer, [*texts, *target_texts], "vocabulary")
        return type(tokenizer)(**(arguments_of(tokenizer) | {"tokenizer_object": backend}))
    source = _extended(tokenizer.backend_tokenizer, texts, "vocabulary of the sources")
    target = _extended(tokenizer.target.backend_tokenizer, target_texts, "vocabulary of the targets")
    of_target = PreTrainedTokenizerFast(**(arguments_of(tokenizer.target) | {"tokenizer_object": target}))
    return AttentionRnnTokenizer(target=of_target, **(arguments_of(tokenizer) | {"tokenizer_object": source}))


def fit_embeddings(model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    """Give a model a row for each token of a tokenizer that was extended; the rows that it has stay as they are."""
    target = getattr(tokenizer, "target", tokenizer)
    if target is tokenizer:
        if len(tokenizer) > model.config.vocab_size:
            model.resize_token_embeddings(len(tokenizer))
        return
    if len(tokenizer) > model.config.source_vocab_size:
        model.resize_source_token_embeddings(len(tokenizer))
    if len(target) > model.config.vocab_size:
        model.resize_target_token_embeddings(len(target))


def _extended(backend: Tokenizer, texts: Iterable[str], what: str) -> Tokenizer:
    state = json.loads(backend.to_str())
    is_of_words = state["model"]["type"] == "WordLevel"
    known = backend.get_vocab(with_added_tokens=True)
    units: Counter[str] = Counter()
    for text in texts:
        normalized = backend.normalizer.normalize_str(text) if backend.normalizer is not None else text
        for piece, _ in backend.pre_tokenizer.pre_tokenize_str(normalized):
            units.update([piece] if is_of_words else piece)
    new = [unit for unit, _ in sorted(units.items(), key=lambda item: (-item[1], item[0])) if unit not in known]
    if not new:
        return backend
    vocabulary = state["model"]["vocab"]
    if isinstance(vocabulary, dict):
        vocabulary.update({unit: number for number, unit in enumerate(new, start=len(known))})
    else:  # a unigram model has a list, with a score for each piece
        least = min(score for _, score in vocabulary)
        vocabulary += [[unit, least] for unit in new]
    shown = ", ".join(map(repr, new[:_SHOWN])) + (", ..." if len(new) > _SHOWN else "")
    logger.warning(f"The {what} is extended by {len(new):,}: {shown}")
    return Tokenizer.from_str(json.dumps(state))
