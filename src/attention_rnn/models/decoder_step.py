"""
One step of the decoder with nothing around it, for `decoding.py`: no output classes, no cache, no checks.

The equations stay where they are: in the cells, the attention, the readout. Only the order in which the decoder calls
them is written a second time.
"""

import copy
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

from .attention import Memory
from .copying import mix_copies
from .decoder import AttentionRnnDecoder, AttentionRnnDecoderLayer, Start
from .prepared_decoder import prepare


class DecoderStep:
    """
    A decoder in evaluation mode and what it looks at.

    Several hypotheses about one source, the beams, are rows side by side. To the attention they are queries of one
    memory, as the steps of a target are, so that no memory is copied or reordered.

    Args:
        decoder: the decoder.
        lm_head: attentional vector -> logits.
        memory: keys, values and mask of each source.
        copy_ids: with `copy`, the token at each position of the source, (sources, source).
        beams: number of hypotheses about each source.
        steps: the number of steps to come, at most.
    """

    def __init__(
        self,
        decoder: AttentionRnnDecoder,
        lm_head: nn.Module,
        memory: Memory,
        copy_ids: Tensor | None,
        beams: int,
        steps: int,
    ) -> None:
        rows = beams * len(memory.values)
        self.decoder, self.lm_head, self.memory, self.context_sizes = prepare(decoder, lm_head, memory, rows, steps)
        self.copy_ids = copy_ids
        self.beams = beams

    def __call__(self, tokens: Tensor, state: Start) -> tuple[Tensor, Tensor | None, Start]:
        """
        Args:
            tokens: the last token of each row, (sources * beams,).
            state: the state before it.

        Returns:
            Logits (sources * beams, vocabulary) in single precision, with `copy` the log probabilities of the extended
            vocabulary; the attention (sources * beams, heads, 1, source), if there is one; the state after the token.
        """
        decoder = self.decoder
        if self.copy_ids is not None:
            # copied tokens that the vocabulary lacks have no embedding
            tokens = tokens.where(tokens < decoder.config.vocab_size, decoder.config.unk_token_id)
        embeddings = decoder.embed_tokens(tokens)
        output = embeddings
        weights: Any = None
        contexts: Iterator[Tensor] = repeat(embeddings[:, :0])  # one for each matrix that reads the context
        alignment, states = state.alignment, []
        for index, layer in enumerate(decoder.layers):
            joined = None
            if index == 0 and decoder.fed_size:
                joined = state.fed[:, 0]
            elif index > 0 and decoder.config.context_feeding == "parallel":
                joined = next(contexts)
            output, layer_state = _advance(layer, output, joined, state.states[index])
            if decoder.attention is not None and index == decoder.query_layer:
                context, weights, alignment = self._attend(output, alignment)
                contexts = iter(context.split(self.context_sizes, dim=-1)) if self.context_sizes else repeat(context)
                if decoder.context_layer is not None:
                    output, layer_state = _advance(decoder.context_layer, output[:, :0], next(contexts), layer_state)
            states.append(layer_state)
        vectors = decoder.readout(output, next(contexts), embeddings, None)
        logits = self.lm_head(vectors).float()
        if self.copy_ids is not None:
            gate = decoder.copy_gate(output, next(contexts), embeddings)
            logits = mix_copies(self._by_source(logits), self._by_source(gate), weights, self.copy_ids).flatten(0, 1)
        if weights is not None:
            weights = weights.transpose(1, 2).flatten(0, 1)[:, :, None]
        return logits, weights, Start(states, vectors[:, None, : decoder.fed_size], alignment)

    def of(self, sources: Tensor) -> "DecoderStep":
        """The step of some of the sources."""
        kept = copy.copy(self)
        keys, values, mask = self.memory
        kept.memory = Memory(keys[sources], values[sources], None if mask is None else mask[sources])
        kept.copy_ids = None if self.copy_ids is None else self.copy_ids[sources]
        return kept

    def rows_of(self, sources: Tensor) -> Tensor:
        """The rows about some of the sources."""
        return (sources[:, None] * self.beams + torch.arange(self.beams, device=sources.device)).flatten()

    def _attend(self, query: Tensor, alignment: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        queries, looked = self._by_source(query), self._by_source(alignment)
        if not alignment.shape[1]:
            context, weights, _ = self.decoder.attention(queries, self.memory, looked[:, 0], None)
            return context.flatten(0, 1), weights, alignment
        # beams that have looked elsewhere before score the same memory in another way, so they query it one by one
        answers = [
            self.decoder.attention(queries[:, beam : beam + 1], self.memory, looked[:, beam], None)
            for beam in range(self.beams)
        ]
        contexts, all_weights, alignments = zip(*answers, strict=True)
        return torch.cat(contexts, 1).flatten(0, 1), torch.cat(all_weights, 2), torch.cat(alignments, 1).flatten(0, 1)

    def _by_source(self, rows: Tensor) -> Tensor:
        """(sources * beams, ...) -> (sources, beams, ...)"""
        return rows.unflatten(0, (-1, self.beams))


def _advance(
    layer: AttentionRnnDecoderLayer, hidden: Tensor, joined: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The output (rows, hidden) and the next state (rows, state) of a layer."""
    inputs = hidden if joined is None else torch.cat([hidden, joined], dim=-1)
    state = layer.cell(layer.cell.input_products(layer.norm(inputs)), state)
    output = state[:, : layer.cell.hidden_size]
    return output + hidden if layer.residual else output, state
