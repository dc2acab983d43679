"""Pairs of texts as a sequence-to-sequence model is trained on them, and the texts that it generates."""

import logging
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from .chunks import TargetChunks
from .copy_vocabulary import CopyVocabulary
from .tokenizer_training import pair_tokenizers, part_of_new, warn_of_poor_tokens
from .training import train_new_tokenizer

logger = logging.getLogger(__name__)

TOKENIZER_SAMPLE = 200_000  # streamed examples to train a tokenizer on
RARE_CHARACTERS = 0.01  # the part of the next texts that is not known, beyond which NFD helps


def train_pair_tokenizers(examples: Any, model_args: Any, aligned_steps: int = 1) -> PreTrainedTokenizerBase:
    """
    One tokenizer for both sides, or one for each.

    Args:
        examples (`datasets.Dataset` or `datasets.IterableDataset`):
            With the columns `source` and `target`. Of a stream, the first ones.
        model_args:
            Of `run_seq2seq.py`.
        aligned_steps (`int`):
            Of the model, for targets in chunks.
    """
    if not hasattr(examples, "__len__"):
        examples = examples.take(TOKENIZER_SAMPLE)

    def texts(*sides: str) -> Iterator[str]:
        return (example[side] for example in examples for side in sides)

    kind = model_args.source_tokenizer
    if model_args.shared_vocabulary:
        return train_new_tokenizer("sources and targets", lambda: texts("source", "target"), kind, model_args)
    normalization = model_args.source_normalization
    if normalization == "auto":
        normalization = choose_normalization(texts("source"))
    source = train_new_tokenizer(
        "sources",
        lambda: texts("source"),
        kind,
        model_args,
        vocab_size=model_args.source_vocab_size,
        normalization=normalization,
    )
    kind = model_args.target_tokenizer or kind
    if kind == "chunk":
        examples = examples.map(TargetChunks(examples, source, aligned_steps), batched=True)
    return pair_tokenizers(
        source, train_new_tokenizer("targets", lambda: texts("target"), kind, model_args, is_target=True)
    )


def choose_normalization(texts: Iterable[str]) -> str:
    """Unicode's form for the characters of sources: NFD where those of NFC are rare, as syllables of Hangul are."""
    characters = Counter[str]()
    for text in texts:
        characters.update(unicodedata.normalize("NFC", text))
    return "NFD" if part_of_new(characters) > RARE_CHARACTERS else "NFC"


def encode_pairs(
    examples: Any,
    tokenizer: PreTrainedTokenizerBase,
    max_source_length: int,
    max_target_length: int,
    copying: CopyVocabulary | None = None,
    what: str = "training",
) -> Any:
    """
    Turn pairs of texts into ids. Warns once of what is cut, and of tokens that do not suit the texts, unless the
    examples are a stream.

    Args:
        examples (`datasets.Dataset` or `datasets.IterableDataset`):
            With the columns `source` and `target`.
        tokenizer (`PreTrainedTokenizerBase`):
            Of both, see `pair_tokenizers` for two in one.
        max_source_length, max_target_length (`int`):
            Tokens to which longer texts are cut.
        copying (`CopyVocabulary`, *optional*):
            For a model that copies.
        what (`str`):
            What the examples are, for messages.

    Returns:
        as `examples`: with `input_ids`, `labels` and, for a model that copies, `copy_ids`.
    """
    sides = {
        "source": ("input_ids", "text", max_source_length),
        "target": ("labels", "text_target", max_target_length),
    }
    too_long: Counter[str] = Counter()

    def tokenize(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        columns: dict[str, Any] = {}
        for side, (column, argument, max_length) in sides.items():
            texts: dict[str, Any] = {argument: batch[side]}
            columns[column] = tokenizer(**texts)["input_ids"]
            if excess := sum(len(ids) > max_length for ids in columns[column]):
                too_long[side] += excess
                columns[column] = tokenizer(**texts, truncation=True, max_length=max_length)["input_ids"]
        if copying is not None:
            unknown_words = copying.unknown_words(batch["source"], columns["input_ids"])
            columns["copy_ids"] = copying.extend(batch["source"], columns["input_ids"], unknown_words)
            columns["labels"] = copying.extend(batch["target"], columns["labels"], unknown_words)
        return columns

    options: dict[str, Any] = {"batched": True, "remove_columns": ["source", "target"]}
    if not hasattr(examples, "__len__"):
        return examples.map(tokenize, **options)
    encoded = examples.map(tokenize, desc=f"tokenizing {what}", **options)
    for side, (column, _, max_length) in sides.items():
        if too_long[side]:
            logger.warning(
                f"{too_long[side]:,} of {len(examples):,} {side}s of the {what} data are longer than "
                f"--max_{side}_length {max_length} and were cut."
            )
        if copying is None or side == "target":  # what the vocabulary lacks of a source can be copied
            warn_of_poor_tokens(f"{side}s of the {what} data", encoded[column], tokenizer)
    return encoded


def decode_pairs(
    generated: np.ndarray,
    examples: Any,
    encoded: Any,
    tokenizer: PreTrainedTokenizerBase,
    copying: CopyVocabulary | None = None,
) -> list[str]:
    """
    The texts that a Trainer has generated from examples.

    Args:
        generated (`np.ndarray` of shape (examples, target)): ids, filled up with a negative one. Further rows, with
            which several processes fill up the last batch, are left out.
        examples, encoded: what `encode_pairs` took and returned.
        tokenizer, copying: as there.
    """
    generated = np.where(generated < 0, tokenizer.pad_token_id, generated)[: len(examples)]
    if copying is None:
        texts = tokenizer.batch_decode(generated, skip_special_tokens=True)
    else:
        texts = copying.batch_decode(generated, copying.unknown_words(examples["source"], encoded["input_ids"]))
    return [text.strip() for text in texts]
