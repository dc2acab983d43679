"""The models that the clients get: one of each kind of head and of vocabulary, in evaluation mode."""

from collections.abc import Callable
from typing import Any

import torch
from tiny import tiny_batch, tiny_config, tiny_model
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from attention_rnn import AttentionRnnForCausalLM
from attention_rnn.tokenizer_training import train_tokenizer

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "the", "dog", "run", "far", "away", "to", "sea"]
TEXTS = [" ".join(WORDS[start : start + 4]) for start in range(8)]


def tiny_causal_model(seed: int = 0, **overrides: Any) -> AttentionRnnForCausalLM:
    torch.manual_seed(seed)
    model = AttentionRnnForCausalLM(tiny_config(**{"decoder_layers": 2, **overrides})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


MODELS: dict[str, Callable[..., Any]] = {
    "tied": tiny_model,
    "untied": lambda **overrides: tiny_model(tie_word_embeddings=False, **overrides),
    "two_vocabularies": lambda **overrides: tiny_model(source_vocab_size=23, **overrides),
    "two_untied": lambda **overrides: tiny_model(source_vocab_size=23, tie_word_embeddings=False, **overrides),
    "causal": tiny_causal_model,
    "causal_untied": lambda **overrides: tiny_causal_model(tie_word_embeddings=False, **overrides),
}


def causal_tokenizer() -> PreTrainedTokenizerFast:
    """Of words, without the end of the text behind a prompt that is to be continued."""
    tokenizer = train_tokenizer(TEXTS, kind="word")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    return tokenizer


def inputs_for(model: Any) -> dict[str, Tensor]:
    """What the model is trained on."""
    if model.config.is_encoder_decoder:
        return tiny_batch(model)
    ids = torch.randint(4, model.config.vocab_size, (3, 6), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "labels": ids.clone()}


def sources_for(model: Any) -> dict[str, Tensor]:
    """What the model generates from."""
    return {name: value for name, value in inputs_for(model).items() if name != "labels"}
