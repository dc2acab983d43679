"""A tokenizer that gives the characters of each word besides the word."""

from itertools import groupby
from typing import Any

from transformers import BatchEncoding, PreTrainedTokenizerFast

from .tokenization_attention_rnn import UNREADABLE_IDS, UNREADABLE_TEXT, arguments_of, named, whole_offsets


class AttentionRnnWordTokenizer(PreTrainedTokenizerFast):
    """
    Any fast tokenizer, usually one of words, that also spells its tokens: `character_ids`, for models with
    `character_size`, say which characters of the text a token stands for, whether or not the vocabulary has it, and
    before the tokenizer has lower-cased anything.

    A character is a byte of UTF-8, its id the byte plus 1; so there is no vocabulary of characters, and none that is
    unknown. All words have room for as many, so that any two batches can be joined; 0 fills up. Special tokens have no
    characters.

    Args:
        max_word_length (`int`, *optional*, defaults to 32):
            Bytes of a word to give. Of a longer one these are the first and the last half.
        kwargs:
            Passed to [`PreTrainedTokenizerFast`]: `tokenizer_object`, `pad_token`, ...

    Raises:
        ValueError: If `max_word_length` is not an even number of at least 2.

    Example:
        >>> from attention_rnn import AttentionRnnWordTokenizer
        >>> from attention_rnn.tokenizer_training import train_tokenizer
        >>> words = train_tokenizer(["to be or not to be"], kind="word")
        >>> tokenizer = AttentionRnnWordTokenizer.from_tokenizer(words, max_word_length=4)
        >>> tokenizer("be bee")["character_ids"]  # be, an unknown word, </s>
        [[99, 102, 0, 0], [99, 102, 102, 0], [0, 0, 0, 0]]
    """

    model_input_names = ["input_ids", "attention_mask", "character_ids"]

    def __init__(self, *args: Any, max_word_length: int = 32, **kwargs: Any) -> None:
        if not isinstance(max_word_length, int) or max_word_length < 2 or max_word_length % 2:
            raise ValueError(f"`max_word_length` must be an even number of at least 2, got {max_word_length!r}.")
        self.max_word_length = max_word_length
        super().__init__(*args, max_word_length=max_word_length, **kwargs)

    @classmethod
    def from_tokenizer(
        cls, tokenizer: PreTrainedTokenizerFast, max_word_length: int = 32
    ) -> "AttentionRnnWordTokenizer":
        """The same tokenizer, spelling its tokens."""
        return cls(max_word_length=max_word_length, **arguments_of(tokenizer))

    @classmethod
    def convert_to_native_format(cls, trust_remote_code: bool = False, **kwargs: Any) -> dict[str, Any]:
        # see AttentionRnnTokenizer: `__init__` reads the tokenizer's file as it is
        return kwargs

    def __call__(self, text: Any = None, text_pair: Any = None, **kwargs: Any) -> BatchEncoding:
        """
        Encode one text or several, as [`PreTrainedTokenizerFast`] does with the same arguments; also texts that are
        lists of words, with `is_split_into_words=True`.

        Returns:
            `BatchEncoding`: `input_ids`, `attention_mask` (batch, words) and `character_ids` (batch, words,
            max_word_length); without the batch for a single text, unless `return_tensors` is given.

        Raises:
            ValueError: If there is no text, or a pair of texts.
        """
        if text is None or text_pair is not None:
            raise ValueError("`text` must be given, and `text_pair` must not: a word is spelt from one text.")
        return_tensors = kwargs.pop("return_tensors", None)
        with named(UNREADABLE_TEXT):
            encoded = super().__call__(text, **kwargs)
        is_split = kwargs.get("is_split_into_words", False)
        is_batch = isinstance(text, (list, tuple)) and not (is_split and (not text or isinstance(text[0], str)))
        texts = text if is_batch else [text]
        samples = encoded.get("overflow_to_sample_mapping", range(len(texts)))
        characters = [
            [self._spell(token) for token in _tokens_as_written(texts[sample], encoding)]
            for sample, encoding in zip(samples, encoded.encodings, strict=True)
        ]
        is_flat = not is_batch and "overflow_to_sample_mapping" not in encoded
        data = {**encoded, "character_ids": characters[0] if is_flat else characters}
        return BatchEncoding(data, encoded.encodings, return_tensors, prepend_batch_axis=is_flat)

    def decode(self, token_ids: Any, *args: Any, **kwargs: Any) -> str | list[str]:
        """As in [`PreTrainedTokenizerFast`]."""
        with named(UNREADABLE_IDS):
            return super().decode(token_ids, *args, **kwargs)

    def _spell(self, token: str) -> list[int]:
        characters = token.encode()
        if len(characters) > self.max_word_length:
            half = self.max_word_length // 2
            characters = characters[:half] + characters[-half:]
        return [byte + 1 for byte in characters] + [0] * (self.max_word_length - len(characters))

    def _pad(self, encoded_inputs: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        padded = super()._pad(encoded_inputs, *args, **kwargs)
        if "character_ids" in padded:
            missing = len(padded["input_ids"]) - len(padded["character_ids"])
            filling = [[0] * self.max_word_length] * missing
            characters = list(padded["character_ids"])
            is_left = (kwargs.get("padding_side") or self.padding_side) == "left"
            padded["character_ids"] = filling + characters if is_left else characters + filling
        return padded


def _tokens_as_written(text: str | list[str], encoding: Any) -> list[str]:
    """What stands in the text for each token, nothing for a special token."""
    if isinstance(text, str):
        return [text[start:end] for start, end in whole_offsets(text, encoding.offsets)]
    tokens = []
    for index, of_word in groupby(zip(encoding.word_ids, encoding.offsets, strict=True), key=lambda token: token[0]):
        word = "" if index is None else text[index]  # within which the offsets count
        tokens += [word[start:end] for start, end in whole_offsets(word, [offset for _, offset in of_word])]
    return tokens


AttentionRnnWordTokenizer.register_for_auto_class("AutoTokenizer")

__all__ = ["AttentionRnnWordTokenizer"]
