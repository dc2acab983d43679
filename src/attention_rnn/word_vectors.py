"""Word vectors of other projects, from which the embeddings of a model may start."""

import logging
import re
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from .data import read_lines

logger = logging.getLogger(__name__)


def read_embeddings(
    file: str, tokenizer: PreTrainedTokenizerBase, embedding_size: int | None = None, disable_tqdm: bool = False
) -> tuple[Tensor, Tensor]:
    """
    The ids of the words of a tokenizer that have a vector in a file, (words,), and these vectors, (words, size). How
    many there are is logged.

    Raises:
        ValueError: as `read_word_vectors`, and for vectors of another size than `embedding_size`.
    """
    ids = tokenizer.get_vocab()
    words = set(ids) - set(tokenizer.all_special_tokens)
    vectors = read_word_vectors(file, words, disable_tqdm)
    embeddings = torch.from_numpy(np.stack(list(vectors.values())))
    if embedding_size not in (None, size := embeddings.shape[1]):
        raise ValueError(f"embedding_size must be that of {file}, {size}, got {embedding_size}")
    logger.info(f"{len(vectors):,} of {len(words):,} words have a vector in {file}.")
    return torch.tensor([ids[word] for word in vectors]), embeddings


def read_word_vectors(file: str, words: Collection[str], disable_tqdm: bool = False) -> dict[str, np.ndarray]:
    """
    The vectors of these words in a text file, all of one size.

    Each line holds a word and its numbers, separated by spaces. word2vec and fastText write the number and the size of
    the vectors into the first line, GloVe does not.

    Raises:
        ValueError: for a line that is no vector or not UTF-8, vectors of different sizes, a broken gz file, or where no
            word has a vector.
    """
    vectors: dict[str, np.ndarray] = {}
    size = 0
    for number, line in enumerate(tqdm(read_lines(file), desc="reading word vectors", disable=disable_tqdm), start=1):
        if number == 1 and (header := re.fullmatch(r"\d+ (\d+)\s*", line)):
            size = int(header[1])
            continue
        parts = line.rstrip().split(" ")
        size = size or len(parts) - 1
        word = " ".join(parts[:-size])  # a few "words" of GloVe hold spaces
        try:
            if size < 1 or not word:
                raise ValueError(f"got {len(parts)} parts")
            if word in words:
                vectors[word] = np.array(parts[-size:], dtype=np.float32)
        except ValueError as error:
            message = f"{file}, line {number}: there must be a word and {size} numbers, separated by spaces"
            raise ValueError(f"{message}: {error}") from error
    if not vectors:
        raise ValueError(f"{file} must hold a vector for at least one of the {len(words):,} words of the vocabulary")
    return vectors
