"""The characters of a word: a vector that also says something of words that the vocabulary lacks."""

import torch
from torch import Tensor, nn

from .checks import check_token_ids, has_values

# 0 is padding, 1 to 256 are the bytes of UTF-8, so that there is no character without an id
NUM_CHARACTERS = 257
KERNEL_SIZE = 5


class CharacterEncoder(nn.Module):
    """
    Convolution over the characters of each word, and the maximum over its positions (Ma and Hovy, 2016,
    https://arxiv.org/abs/1603.01354, section 2.1), here with filters over 5 characters, and projected to the width of
    the words' embeddings.

    Args:
        size: number of filters, and width of the embeddings of characters.
        embedding_size: width of the result.

    Embeddings start normal with standard deviation `embedding_size ** -0.5`, the rest Xavier uniform, biases zero.
    """

    def __init__(self, size: int, embedding_size: int) -> None:
        super().__init__()
        self.embed_characters = nn.Embedding(NUM_CHARACTERS, size, padding_idx=0)
        self.convolution = nn.Conv1d(size, size, KERNEL_SIZE, padding="same")
        self.output = nn.Linear(size, embedding_size)

    def forward(self, character_ids: Tensor) -> Tensor:
        """
        Args:
            character_ids: (batch, words, characters), 0 where a word is shorter. See `AttentionRnnWordTokenizer`.

        Returns:
            (batch, words, embedding); the bias of the projection for what has no characters.
        """
        check_token_ids("character_ids", character_ids.flatten(1), NUM_CHARACTERS)
        is_character = character_ids != 0
        if has_values(character_ids):
            # tokenizers leave room for long words
            longest = max(1, int(is_character.flatten(0, 1).any(dim=0).sum()))
            character_ids, is_character = character_ids[..., :longest], is_character[..., :longest]
        characters = self.embed_characters(character_ids.flatten(0, 1)).transpose(1, 2)  # (words, size, characters)
        features = torch.relu(self.convolution(characters))
        # a rectified feature is never below the zero of what is no character
        features = (features * is_character.flatten(0, 1)[:, None]).amax(dim=-1)
        return self.output(features).unflatten(0, character_ids.shape[:2])
