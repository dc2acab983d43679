"""One tokenizer for two vocabularies: the source's and the target's."""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import BatchEncoding, PreTrainedTokenizerFast

TARGET_TOKENIZER_FILE = "target_tokenizer.json"


@contextmanager
def named(what: str) -> Iterator[None]:
    """The `tokenizers` library does not say which argument it refuses; `what` names those that come into question."""
    try:
        yield
    except (IndexError, OverflowError, TypeError) as error:
        raise ValueError(f"{what}: {error}.") from error


UNREADABLE_TEXT = (
    "`text` must be a text or texts of valid Unicode; `max_length`, `stride` and `pad_to_multiple_of` must be whole "
    "and not negative"
)
UNREADABLE_IDS = "`token_ids` must be ids of tokens, whole and not negative"


def whole_offsets(text: str, offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """
    The offsets of tokens with ends that leave no mark behind.

    Where a tokenizer joins a letter and the marks that follow it ("e" and an acute accent, the letters of a syllable of
    Hangul) to one character, or takes marks away, the offsets cover the letter alone. Here they cover its marks as
    well, as far as these belong to no other token.

    Args:
        text (`str`): what was encoded.
        offsets (`list[tuple[int, int]]`): where each token begins and ends in it, in characters, the end exclusive.
    """
    starts = {start for start, end in offsets if end > start}
    whole = []
    for start, end in offsets:
        if end > start:  # else it stands nowhere, as special tokens do
            while end < len(text) and end not in starts and _is_mark(text[end]):
                end += 1
        whole.append((start, end))
    return whole


def _is_mark(character: str) -> bool:
    # vowels and final consonants of Hangul count as letters and yet join what precedes them
    return unicodedata.category(character).startswith("M") or "\u1160" <= character <= "\u11ff"


def arguments_of(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """What makes the same tokenizer of another class."""
    return {
        "tokenizer_object": tokenizer.backend_tokenizer,
        "model_max_length": tokenizer.model_max_length,
        "padding_side": tokenizer.padding_side,
        "truncation_side": tokenizer.truncation_side,
        "extra_special_tokens": tokenizer.extra_special_tokens,
        **tokenizer.special_tokens_map,
    }


class AttentionRnnTokenizer(PreTrainedTokenizerFast):
    """
    Encodes the source by one vocabulary, and encodes and decodes the target by another.

    `tokenizer(text)` encodes the source, `tokenizer(text_target=...)` the target, and both at once put the target's
    ids under `labels`. `decode` and `batch_decode` read target ids, and source ids with `use_source_tokenizer=True`,
    as Marian's tokenizer does. Everything else (`len`, `get_vocab`, `convert_ids_to_tokens`, `add_tokens`, ...) is the
    source's; the attribute `target` is the target's tokenizer, a plain [`PreTrainedTokenizerFast`]:
    `len(tokenizer.target)`, `tokenizer.target.add_tokens(...)`.

    An id does not tell its side: `decode` of source ids without `use_source_tokenizer=True` gives a wrong text without
    an error.

    The two sides have the same padding, bos, eos and unknown token, and start with the same `model_max_length`,
    `padding_side` and `truncation_side`; a later change of these on one side does not reach the other.

    Args:
        target (`PreTrainedTokenizerFast`, *optional*):
            Tokenizer whose vocabulary the target takes. Its settings are not taken: those of the source hold.
        target_tokenizer_file (`str`, *optional*):
            The same as a file of the `tokenizers` library; `from_pretrained` finds it in the folder.
        kwargs:
            Passed to [`PreTrainedTokenizerFast`], for the source: `tokenizer_object`, `pad_token`, ...

    Raises:
        ValueError: If the target's vocabulary is missing, or gives a special token another id than the source's.
    """

    vocab_files_names = {"tokenizer_file": "tokenizer.json", "target_tokenizer_file": TARGET_TOKENIZER_FILE}

    def __init__(
        self,
        *args: Any,
        target: PreTrainedTokenizerFast | None = None,
        target_tokenizer_file: str | None = None,
        **kwargs: Any,
    ) -> None:
        if target is not None and not isinstance(target, PreTrainedTokenizerFast):
            raise TypeError(f"`target` must be a PreTrainedTokenizerFast, got {target!r}.")
        if target is None and target_tokenizer_file is None:
            raise ValueError(
                "`target` or `target_tokenizer_file` must give the target's vocabulary, got neither: a saved folder "
                f"must hold {TARGET_TOKENIZER_FILE} beside tokenizer.json."
            )
        super().__init__(*args, **kwargs)
        special_tokens = {name: getattr(self, name) for name in ("pad_token", "bos_token", "eos_token", "unk_token")}
        self.target = PreTrainedTokenizerFast(
            tokenizer_object=None if target is None else target.backend_tokenizer,
            tokenizer_file=target_tokenizer_file,
            model_max_length=self.model_max_length,
            padding_side=self.padding_side,
            truncation_side=self.truncation_side,
            **special_tokens,
        )
        # The file marks the target's other special tokens as such. They have no name, as its config is not kept.
        known = set(self.target.all_special_tokens)
        added = self.target.added_tokens_decoder.values()
        others = [token for token in added if token.special and token.content not in known]
        self.target.add_special_tokens({"extra_special_tokens": others})
        # A model config has one id of each, for both sides.
        for name, token in special_tokens.items():
            source_id, target_id = getattr(self, f"{name}_id"), getattr(self.target, f"{name}_id")
            if source_id != target_id:
                raise ValueError(
                    f"`target` must give {name} {token!r} the id it has in the source's vocabulary, {source_id}, "
                    f"got {target_id}."
                )

    @classmethod
    def convert_to_native_format(cls, trust_remote_code: bool = False, **kwargs: Any) -> dict[str, Any]:
        # The base class takes a subclass with an `__init__` for one that builds its own normalizer, pre-tokenizer and
        # decoder, and would pass on only the vocabulary. Here the files are complete and `__init__` reads them.
        return kwargs

    def __call__(
        self,
        text: Any = None,
        text_pair: Any = None,
        text_target: Any = None,
        text_pair_target: Any = None,
        max_target_length: int | None = None,
        **kwargs: Any,
    ) -> BatchEncoding:
        """
        Encode source texts, target texts, or both. Arguments are those of [`PreTrainedTokenizerFast`] and hold for
        both sides; `max_target_length` takes the place of `max_length` for the target.

        Returns:
            `BatchEncoding`: `input_ids` and `attention_mask` of the source, or of the target if only `text_target` is
            given; with both, `labels` holds the target's ids.
        """
        if text_target is None:
            with named(UNREADABLE_TEXT):
                return super().__call__(text, text_pair, **kwargs)
        target_kwargs = kwargs if max_target_length is None else {**kwargs, "max_length": max_target_length}
        with named(UNREADABLE_TEXT.replace("`text`", "`text_target`", 1)):
            targets = self.target(text_target, text_pair_target, **target_kwargs)
        if text is None:
            return targets
        with named(UNREADABLE_TEXT):
            encodings = super().__call__(text, text_pair, **kwargs)
        encodings["labels"] = targets["input_ids"]
        return encodings

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, use_source_tokenizer: bool = False, **kwargs: Any
    ) -> str | list[str]:
        """
        Turn one sequence of ids, or a batch of them, into text.

        Args:
            token_ids (`int`, `list[int]`, `list[list[int]]`, `np.ndarray` or `torch.Tensor`):
                Ids of the target, shape (length,) or (batch, length).
            skip_special_tokens (`bool`, *optional*, defaults to `False`):
                Whether to leave special tokens out.
            use_source_tokenizer (`bool`, *optional*, defaults to `False`):
                Whether the ids are the source's.

        Returns:
            `str` or `list[str]`: The text, or one text for each sequence of a batch.
        """
        decode = super().decode if use_source_tokenizer else self.target.decode
        with named(UNREADABLE_IDS):
            return decode(token_ids, skip_special_tokens=skip_special_tokens, **kwargs)

    def _save_pretrained(
        self,
        save_directory: str | os.PathLike,
        file_names: tuple[str, ...],
        legacy_format: bool | None = None,
        filename_prefix: str | None = None,
    ) -> tuple[str, ...]:
        # `save_pretrained` calls this between listing the folder and uploading what is new, so that
        # `push_to_hub=True` sends the target's file as well.
        file_names = super()._save_pretrained(save_directory, file_names, legacy_format, filename_prefix)
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        target_file = os.path.join(save_directory, prefix + TARGET_TOKENIZER_FILE)
        self.target.backend_tokenizer.save(target_file)
        return (*file_names, target_file)


AttentionRnnTokenizer.register_for_auto_class("AutoTokenizer")

__all__ = ["AttentionRnnTokenizer"]
