"""
Copying words that the vocabulary lacks, from text to ids and back, for models with `copy=True`.

A model with a pointer copies positions of its source. So a word that the tokenizer reads as `<unk>` can still be
written, if it has an id of its own while its source is at hand: the words that the vocabulary lacks extend it, for each
source anew (See et al., 2017, https://arxiv.org/abs/1704.04368, section 2.2).
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import BatchEncoding, DataCollatorForSeq2Seq, PreTrainedTokenizerFast

from .data import brief
from .models.tokenization_attention_rnn import AttentionRnnTokenizer


class CopyVocabulary:
    """
    A tokenizer's vocabulary and, for each source, the words that it lacks: the ids from `vocab_size` on stand for the
    unknown words of a source in the order in which they first occur.

    A word is what the tokenizer makes one `<unk>` of: a word, or a character, in the tokenizer's normal form.

    Args:
        tokenizer (`PreTrainedTokenizerFast`):
            Of both source and target, such as `train_tokenizer` makes on the texts of both.
        vocab_size (`int`):
            `config.vocab_size` of the model, which may be larger than the tokenizer's.

    Raises:
        TypeError: the tokenizer is not a fast one.
        ValueError: it has a vocabulary for each side, no token for unknown words, or more tokens than `vocab_size`.

    Example:
        >>> copying = CopyVocabulary(tokenizer, model.config.vocab_size)
        >>> inputs, unknown_words = copying.encode_sources(["dear mr Xyzzy"], return_tensors="pt")
        >>> outputs = model.generate(**inputs)
        >>> copying.batch_decode(outputs, unknown_words)
        ['Xyzzy']
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, vocab_size: int) -> None:
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            raise TypeError(f"`tokenizer` must be a PreTrainedTokenizerFast, got {type(tokenizer).__name__}.")
        if isinstance(tokenizer, AttentionRnnTokenizer):
            raise ValueError("`tokenizer` must have one vocabulary for source and target, got one for each.")
        if tokenizer.unk_token_id is None:
            raise ValueError("`tokenizer` must have an `unk_token`, else it knows every word and nothing is lacking.")
        if vocab_size < len(tokenizer):
            raise ValueError(f"`vocab_size` must be at least the tokenizer's {len(tokenizer)}, got {vocab_size}.")
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        # Special tokens are taken out of a text before it is normalised, and what is between them is read by itself.
        backend = json.loads(tokenizer.backend_tokenizer.to_str())
        special_tokens = [token["content"] for token in backend["added_tokens"] if not token["normalized"]]
        special_tokens.sort(key=len, reverse=True)
        self._special_token = re.compile(f"({'|'.join(map(re.escape, special_tokens)) or '(?!)'})")
        backend["added_tokens"] = [token for token in backend["added_tokens"] if token["normalized"]]
        self._after_normalization = Tokenizer.from_str(json.dumps({**backend, "normalizer": None}))

    def encode_sources(self, sources: Sequence[str], **kwargs: Any) -> tuple[BatchEncoding, list[list[str]]]:
        """
        Encode sources to generate from.

        Args:
            sources: the texts.
            kwargs: passed to the tokenizer: `padding`, `return_tensors`, ...

        Returns:
            The inputs of the model, `copy_ids` among them, and the unknown words of each source.

        Raises:
            TypeError: `sources` is one string.
        """
        if isinstance(sources, str):
            raise TypeError(f"`sources` must be a list of strings, got {sources!r}.")
        inputs = self.tokenizer(list(sources), **kwargs)
        unknown_words = self.unknown_words(sources, inputs["input_ids"])
        inputs["copy_ids"] = self.extend(sources, inputs["input_ids"], unknown_words)
        return inputs.convert_to_tensors(kwargs.get("return_tensors")), unknown_words

    def unknown_words(self, sources: Sequence[str], input_ids: Iterable) -> list[list[str]]:
        """
        The words of each source that the vocabulary lacks, each once.

        Args:
            sources: the texts.
            input_ids: what the tokenizer made of them: (batch, source) or lists; may be cut or padded.

        Raises:
            ValueError: there are more unknown words in the ids than in the text.
        """
        return [list(dict.fromkeys(words)) for words in self._words_at_unknown(sources, _as_lists(input_ids))]

    def extend(self, texts: Sequence[str], ids: Iterable, unknown_words: Sequence[Sequence[str]]) -> list[list[int]]:
        """
        Give the unknown words their ids; those that are not among `unknown_words` stay `<unk>`. Of sources it makes
        `copy_ids`, of targets `labels`.

        Args:
            texts: sources or targets.
            ids: what the tokenizer made of them: (batch, length) or lists; may be cut or padded.
            unknown_words: those of each source.

        Raises:
            ValueError: the arguments differ in length, or there are more unknown words in the ids than in the text.
        """
        rows = _as_lists(ids)
        _check_same_length(ids=rows, unknown_words=unknown_words)
        extended = []
        for row, words, known in zip(rows, self._words_at_unknown(texts, rows), unknown_words, strict=True):
            number = {word: self.vocab_size + index for index, word in enumerate(known)}
            replacements = iter([number.get(word, self.tokenizer.unk_token_id) for word in words])
            extended.append([next(replacements) if i == self.tokenizer.unk_token_id else i for i in row])
        return extended

    def convert_ids_to_tokens(self, ids: Iterable, unknown_words: Sequence[str]) -> list[str]:
        """
        The tokens of one sequence.

        Args:
            ids: (length,) or a list, with ids of the unknown words.
            unknown_words: those of its source.

        Raises:
            ValueError: an id stands for no word of the source.
        """
        (row,) = _as_lists([ids])
        if row and max(row) >= self.vocab_size + len(unknown_words):
            raise ValueError(
                f"`ids` must be below {self.vocab_size} + {len(unknown_words)}, the tokens of the vocabulary and the "
                f"unknown words of the source, got {max(row)}."
            )
        tokens = iter(self.tokenizer.convert_ids_to_tokens([i for i in row if i < self.vocab_size]))
        unknown = self.tokenizer.unk_token  # for what is in the model's vocabulary alone
        return [(next(tokens) or unknown) if i < self.vocab_size else unknown_words[i - self.vocab_size] for i in row]

    def batch_decode(self, sequences: Iterable, unknown_words: Sequence[Sequence[str]]) -> list[str]:
        """
        Turn generated ids into text, without special tokens.

        Args:
            sequences: (batch, target) or lists, with ids of the unknown words.
            unknown_words: those of each source; with several sequences a source, repeated for each.

        Raises:
            ValueError: the arguments differ in length, or an id stands for no word of its source.
        """
        rows = _as_lists(sequences)
        _check_same_length(sequences=rows, unknown_words=unknown_words)
        special_ids = set(self.tokenizer.all_special_ids)
        decoder = self.tokenizer.backend_tokenizer.decoder
        texts = []
        for row, words in zip(rows, unknown_words, strict=True):
            tokens = self.convert_ids_to_tokens([i for i in row if i not in special_ids], words)
            texts.append(" ".join(tokens) if decoder is None else decoder.decode(tokens))
        return texts

    def _words_at_unknown(self, texts: Sequence[str], rows: list[list[int]]) -> list[list[str]]:
        """What stands in each text, in the tokenizer's normal form, where its ids are `<unk>`."""
        _check_same_length(texts=texts, ids=rows)
        unk_token_id, normalizer = self.tokenizer.unk_token_id, self.tokenizer.backend_tokenizer.normalizer
        words: list[list[str]] = [[] for _ in rows]
        with_unknown = [index for index, row in enumerate(rows) if unk_token_id in row]
        parts = [(index, part) for index in with_unknown for part in self._special_token.split(texts[index])]
        # Offsets in a text before its normalisation do not tell one of the characters that one was taken apart to.
        normal = [part if normalizer is None else normalizer.normalize_str(part) for _, part in parts]
        encodings = self._after_normalization.encode_batch(normal, add_special_tokens=False)
        for (index, part), text, encoding in zip(parts, normal, encodings, strict=True):
            if self._special_token.fullmatch(part):
                words[index] += [part] if part == self.tokenizer.unk_token else []
                continue
            spans = zip(encoding.ids, encoding.offsets, strict=True)
            found = [text[start:end] for i, (start, end) in spans if i == unk_token_id]
            words[index] += [word.strip() or word for word in found]  # subword tokenizers put a space before the text
        for index in with_unknown:
            kept, found = rows[index].count(unk_token_id), words[index]
            if kept > len(found):
                raise ValueError(f"`ids` must be those of `texts`, got {kept} unknown words for {brief(texts[index])}.")
            # what was cut stood on the truncation side
            words[index] = found[:kept] if self.tokenizer.truncation_side == "right" else found[-kept:]
        return words


class DataCollatorForCopying(DataCollatorForSeq2Seq):
    """As [`DataCollatorForSeq2Seq`]; pads `copy_ids` along with the `input_ids`, where the examples have them."""

    def __call__(self, features: list[dict[str, Any]], return_tensors: str | None = None) -> BatchEncoding:
        copy_ids = [feature["copy_ids"] for feature in features if "copy_ids" in feature]
        features = [{name: value for name, value in feature.items() if name != "copy_ids"} for feature in features]
        batch = super().__call__(features, return_tensors)
        if copy_ids:
            padded = torch.full_like(batch["input_ids"], self.tokenizer.pad_token_id)
            for row, ids in zip(padded, copy_ids, strict=True):
                start = 0 if self.tokenizer.padding_side == "right" else len(row) - len(ids)
                row[start : start + len(ids)] = torch.tensor(ids)
            batch["copy_ids"] = padded
        return batch


def _as_lists(sequences: Iterable) -> list[list[int]]:
    """A tensor, an array or lists of them as lists of numbers."""
    return [[int(i) for i in sequence] for sequence in sequences]


def _check_same_length(**arguments: Sequence) -> None:
    lengths = {name: len(argument) for name, argument in arguments.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            " and ".join(f"`{name}`" for name in lengths)
            + f" must have the same length, got {' and '.join(map(str, lengths.values()))}."
        )
