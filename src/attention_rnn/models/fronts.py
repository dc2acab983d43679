"""
Fronts: what makes vectors of an input, for the recurrent layers behind it. Here the front of tokens, which encoder,
decoder and language model share.
"""

from typing import Any

import torch
from torch import Tensor, nn

from .base import AttentionRnnPreTrainedModel
from .checks import check_device, check_tensors, check_token_ids, has_values
from .dropout import SequenceDropout, WordDropout

# 0 is padding, 1 to 256 are the bytes of UTF-8, so that there is no character without an id
NUM_CHARACTERS = 257
KERNEL_SIZE = 5


class TokenFront(AttentionRnnPreTrainedModel):
    """
    A model that reads tokens: their embeddings and, of an encoder with `character_size`, what their characters add.

    Args:
        vocab_size: number of tokens; `None` of a decoder that shares the embeddings of its source. These have their
            place in the encoder, and the decoder reads vectors.
        character_size: width of the encoder of characters, if there is one.
    """

    def __init__(self, config: Any, vocab_size: int | None, character_size: int | None = None) -> None:
        super().__init__(config)
        self.embed_tokens: Any = vocab_size and nn.Embedding(vocab_size, config.embedding_size, config.pad_token_id)
        self.characters = CharacterEncoder(character_size, config.embedding_size) if character_size else None
        self.word_dropout = WordDropout(config.word_dropout)
        self.dropout = SequenceDropout(config.embedding_dropout, config.variational_dropout)

    def read_tokens(
        self, name: str, input_ids: Tensor | None, inputs_embeds: Tensor | None, character_ids: Tensor | None = None
    ) -> Tensor:
        """
        Vectors (batch, length, embedding) of `input_ids`, or of `inputs_embeds`.

        Args:
            name: what the caller calls these inputs, `""` or `"decoder_"`.
            character_ids: with `character_size`, the characters of each token, (batch, length, characters), as
                `AttentionRnnWordTokenizer` gives them.

        Raises:
            TypeError: no tensor, ids that are no integers, or embeddings in another precision than the model.
            ValueError: both or none are given, the embeddings have another shape, an id is outside the vocabulary, or
                they are not on the device of the model; characters missing, or given to a model that does not read
                them.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError(f"Give exactly one of `{name}input_ids` and `{name}inputs_embeds`.")
        if inputs_embeds is None:
            embeddings = self.embed(f"{name}input_ids", input_ids)
        else:
            embeddings = inputs_embeds
            self._check_embeddings(f"{name}inputs_embeds", embeddings)
        return self.dropout(self.word_dropout(self._add_characters(embeddings, character_ids)))

    def embed(self, name: str, token_ids: Any) -> Tensor:
        """
        Embeddings (batch, length, embedding) of tokens (batch, length), which the caller calls `name`.

        Raises:
            TypeError, ValueError: see `read_tokens`.
        """
        if self.embed_tokens is None:
            raise ValueError(
                f"`{name}` must be given to the whole model, whose encoder holds the embeddings of both vocabularies; "
                "the decoder alone reads embeddings."
            )
        check_token_ids(name, token_ids, self._embeddings.num_embeddings)
        self.check_device(name, token_ids)
        return self.embed_tokens(token_ids)

    def get_input_embeddings(self) -> Any:
        return self.embed_tokens

    def set_input_embeddings(self, value: Any) -> None:
        self.embed_tokens = value

    @property
    def _embeddings(self) -> Any:
        """The embeddings themselves, within the adapter that may have taken their place."""
        embeddings = self.embed_tokens
        while not hasattr(embeddings, "num_embeddings"):
            embeddings = embeddings.base_layer if hasattr(embeddings, "base_layer") else embeddings.original_module
        return embeddings

    @property
    def _weight(self) -> Tensor | None:
        """A weight that is where and of what type the model is; none of a decoder that is quantised altogether."""
        if self.embed_tokens is not None:
            return self._embeddings.weight
        return next((weight for weight in self.parameters() if weight.is_floating_point()), None)

    def _add_characters(self, embeddings: Tensor, character_ids: Tensor | None) -> Tensor:
        if self.characters is None:
            if character_ids is not None:
                raise ValueError("`character_ids` need a model with `character_size`, got one without.")
            return embeddings
        check_tensors(character_ids=character_ids)
        if character_ids is None or character_ids.dim() != 3 or character_ids.shape[:2] != embeddings.shape[:2]:
            given = None if character_ids is None else tuple(character_ids.shape)
            raise ValueError(
                "`character_ids` must hold the characters of each token, of a model with `character_size`, "
                f"{(*embeddings.shape[:2], 'characters')}, as `AttentionRnnWordTokenizer` gives them, got {given}."
            )
        check_device("character_ids", character_ids, embeddings.device)
        return embeddings + self.characters(character_ids)

    def _check_embeddings(self, name: str, embeddings: Any) -> None:
        check_tensors(**{name: embeddings})
        width = self.config.embedding_size
        if embeddings.dim() != 3 or embeddings.numel() == 0 or embeddings.shape[2] != width:
            raise ValueError(
                f"`{name}` must have the shape (batch, length, {width}) with a length of one or more, got "
                f"{tuple(embeddings.shape)}."
            )
        self.check_device(name, embeddings)
        dtype = embeddings.dtype if self._weight is None else self._weight.dtype
        if embeddings.dtype != dtype:
            device_type = embeddings.device.type
            may_differ = embeddings.is_floating_point() and device_type != "meta"
            if not (may_differ and torch.is_autocast_enabled(device_type)):
                raise TypeError(f"`{name}` must be of the type of the model, {dtype}, got {embeddings.dtype}.")


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
