"""Texts as what a graph reads, and what stands in a text for a token, without torch."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray
from tokenizers import Encoding, Tokenizer

TOKENIZER = "tokenizer.json"


def open_tokenizer(file: Path, size: int, tokens: Mapping[str, int], digest: str | None = None) -> Tokenizer:
    """
    Args:
        size: how many tokens the model knows.
        tokens: the ids of some.
        digest: of the vocabulary, if it is told.
    """
    if not file.is_file():
        raise ValueError(f"{file.parent} must hold {file.name}: the folder is not complete.")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more special
        raise ValueError(f"{file} is damaged: {str(error)[:200]}") from error
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= size:
        raise ValueError(f"{file} does not fit the model, which knows {size} tokens: it has the id {largest}.")
    if digest is not None and digest_vocabulary(tokenizer) != digest:
        raise ValueError(f"{file} does not fit the model: it is of another vocabulary.")
    for token, id_ in tokens.items():
        if tokenizer.token_to_id(token) != id_:
            raise ValueError(
                f"{file} does not fit the model: {token} must be {id_}, got {tokenizer.token_to_id(token)}."
            )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def digest_vocabulary(tokenizer: Tokenizer) -> str:
    """What tells a vocabulary from another one."""
    vocabulary = sorted((id_, token) for token, id_ in tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps(vocabulary).encode()).hexdigest()[:16]


class UnknownWords:
    """The words that a vocabulary lacks, to be copied; see `CopyVocabulary` in the package's copy_vocabulary.py."""

    def __init__(self, tokenizer: Tokenizer, config: Mapping[str, Any]) -> None:
        self.unknown, self.vocab_size = config["special_tokens"]["unk"], config["vocab_size"]
        self.token, self.normalizer = config["unk_token"], tokenizer.normalizer
        backend = json.loads(tokenizer.to_str())
        added = backend["added_tokens"]
        special = sorted((token["content"] for token in added if not token["normalized"]), key=len, reverse=True)
        self.special = re.compile(f"({'|'.join(map(re.escape, special)) or '(?!)'})")
        self.special_ids = {token["id"] for token in added if token["special"]}
        backend["added_tokens"] = [token for token in added if token["normalized"]]
        self.normalized = Tokenizer.from_str(json.dumps({**backend, "normalizer": None}))

    def extend(self, texts: list[str], ids: ndarray) -> tuple[list[list[str]], ndarray]:
        """The unknown words of each text, and its ids in which each of them has one from `vocab_size` on."""
        unknown, extended = [], ids.copy()
        for row, text in enumerate(texts):
            places = np.flatnonzero(ids[row] == self.unknown)
            found = self._words(text) if len(places) else []
            words = list(dict.fromkeys(found[: len(places)]))
            for place, word in zip(places, found, strict=False):
                extended[row, place] = self.vocab_size + words.index(word)
            unknown.append(words)
        return unknown, extended

    def _words(self, text: str) -> list[str]:
        words: list[str] = []
        for part in self.special.split(text):
            if self.special.fullmatch(part):
                words += [part] if part == self.token else []
                continue
            normal = part if self.normalizer is None else self.normalizer.normalize_str(part)
            encoding = self.normalized.encode(normal, add_special_tokens=False)
            found = [normal[slice(*span)] for id_, span in zip(encoding.ids, encoding.offsets, strict=True)
                     if id_ == self.unknown]  # fmt: skip
            words += [word.strip() or word for word in found]
        return words


def as_written(text: Any, encoding: Encoding) -> Iterator[str]:
    """What stands in a text, or in a list of words, for each token; nothing for a special token."""
    if isinstance(text, str):
        yield from (text[start:end] for start, end in whole_offsets(text, encoding.offsets))
        return
    for index, tokens in groupby(zip(encoding.word_ids, encoding.offsets, strict=True), key=lambda token: token[0]):
        word = "" if index is None else text[index]
        yield from (word[start:end] for start, end in whole_offsets(word, [offset for _, offset in tokens]))


def spell(token: str, size: int) -> list[int]:
    characters = token.encode()
    if len(characters) > size:
        characters = characters[: size // 2] + characters[-(size // 2) :]
    return [byte + 1 for byte in characters]


def whole_offsets(text: str, offsets: Sequence[tuple[int, int]], of_text: Any = None) -> list[tuple[int, int]]:
    """The offsets of tokens with the marks that belong to their last letter."""
    counted = [True] * len(offsets) if of_text is None else of_text
    starts = {start for (start, end), counts in zip(offsets, counted, strict=True) if counts and end > start}
    whole = []
    for (start, end), counts in zip(offsets, counted, strict=True):
        while counts and start < end < len(text) and end not in starts and _is_mark(text[end]):
            end += 1
        whole.append((start, end))
    return whole


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M") or "\u1160" <= character <= "\u11ff"


def pad_rows(rows: list[list[int]], filling: int) -> ndarray:
    padded = np.full((len(rows), max(map(len, rows))), filling, np.int64)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded
