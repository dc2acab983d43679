"""Scores of a causal language model beside those of a model of speech."""

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from .cache import CACHE


class FollowingRows(LogitsProcessor):
    """
    A processor that keeps something for each row. Rows are reordered behind its back, by beam search, and are known
    again by their tokens.
    """

    def __init__(self) -> None:
        self.known: Tensor | None = None  # the rows of the last call

    def follow(self, input_ids: Tensor, rows_per_source: int) -> Tensor | None:
        """
        The rows of the last call that these rows go on from, (rows,); `None` at the first call.

        Args:
            input_ids: (rows, length), one token longer than at the last call.
        """
        known, self.known = self.known, input_ids
        if known is None:
            return None
        before, after = (ids.unflatten(0, (-1, rows_per_source)) for ids in (known, input_ids[:, :-1]))
        same = (after[:, :, None] == before[:, None]).all(dim=-1)  # (sources, rows, rows of the last call)
        first = torch.arange(len(before), device=input_ids.device)[:, None] * rows_per_source
        return (same.int().argmax(dim=-1) + first).flatten()


class LanguageModelScorer(FollowingRows):
    """
    Adds the weighted log probabilities of a causal language model (shallow fusion, Gulcehre et al., 2015,
    https://arxiv.org/abs/1503.03535, section 4.1), which reads a token at a time.

    Raises:
        ValueError: it has another vocabulary.
    """

    def __init__(self, language_model: Any, weight: float, vocab_size: int) -> None:
        super().__init__()
        if language_model.config.vocab_size != vocab_size:
            raise ValueError(
                f"`language_model` must have the tokenizer of the model, {vocab_size} tokens, got one of "
                f"{language_model.config.vocab_size}."
            )
        self.language_model, self.weight = language_model.eval(), weight
        self.cache: Any = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Of tokens (rows, length) and scores (rows, vocabulary)."""
        parents = self.follow(input_ids, len(input_ids))
        new_ids = input_ids
        if parents is not None and self.cache is not None:
            self.cache.reorder_cache(parents)
            new_ids = input_ids[:, -1:]
        outputs = self.language_model(input_ids=new_ids, use_cache=True, **{CACHE: self.cache})
        self.cache = outputs.get(CACHE)
        return scores + self.weight * outputs.logits[:, -1].log_softmax(dim=-1)


def check_weights(**weights: Any) -> None:
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise TypeError(f"`{name}` must be a number, got {weight!r}.")
        most = 1 if name == "ctc_weight" else 1_000_000
        if not 0 <= weight <= most:
            raise ValueError(f"`{name}` must be from 0 to {most}, got {weight}.")
