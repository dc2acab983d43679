"""
The step of the decoder made ready for `generate()`, which takes many with the same weights and the same sources.

The equations are those of `AttentionRnnDecoder.step`. Only its products change: large matrices are laid out once, and
the products with the context are made once for each position of the source (`prepared_linear.py`). All this happens in
a twin of the decoder, which shares its parameters.
"""

import copy
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .attention import (
    AdditiveAttention,
    AlignedAttention,
    ConcatAttention,
    DotAttention,
    GeneralAttention,
    LocalAttention,
    LocationAttention,
    Memory,
    ScaledDotAttention,
)
from .cells import Cell
from .decoder import AttentionRnnDecoder, DecoderState, Noise
from .decoder_layer import AttentionRnnDecoderLayer
from .dropout import NO_NOISE
from .prepared_linear import MIN_WEIGHTS, ContextReader, Int8Linear, PreparedLinear, is_plain
from .readout import AttentionRnnReadout, CopyGate, mix_copies

# Of these the context is the mean of the values, which nothing else of them reads. Multi-head attention has a matrix of
# its own after the mean; one of a user's own may read what it likes.
_MEANS_OF_VALUES = (
    AdditiveAttention,
    AlignedAttention,
    ConcatAttention,
    DotAttention,
    GeneralAttention,
    LocalAttention,
    LocationAttention,
    ScaledDotAttention,
)


class DecoderStep:
    """
    A decoder in evaluation mode and what it looks at.

    Several hypotheses about one source, the beams, are rows side by side. To the attention they are queries of one
    memory, as the steps of a target are, so that no memory is reordered. An attention that looks back sees another
    memory in each beam, and gets a copy for each, once.

    Args:
        prepared: the decoder and its `lm_head`, from `prepare`.
        embed_tokens: tokens -> embeddings.
        memory: keys, values and mask of each source, as `PreparedDecoder.read` gives them.
        copy_ids: with `copy`, the token at each position of the source, (sources, source).
        beams: number of hypotheses about each source.
    """

    def __init__(
        self,
        prepared: "PreparedDecoder",
        embed_tokens: nn.Module,
        memory: Memory,
        copy_ids: Tensor | None,
        beams: int,
    ) -> None:
        self.decoder, self.lm_head = prepared.decoder, prepared.lm_head
        self.embed_tokens, self.beams = embed_tokens, beams
        self.shares_memory = not prepared.looks_back
        self.memory = memory if self.shares_memory or beams == 1 else Memory(*(_repeat(part, beams) for part in memory))
        self.copy_ids = _repeat(copy_ids, beams)
        self.noise = Noise([NO_NOISE] * len(self.decoder.layers), NO_NOISE, None)

    def __call__(self, tokens: Tensor, state: DecoderState) -> tuple[Tensor, Tensor | None, DecoderState]:
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
        embeddings = decoder.dropout(decoder.word_dropout(self.embed_tokens(tokens[:, None])))
        decoded = decoder.step(embeddings, state, self.memory, None, self.noise, keep_states=False)
        logits = self.lm_head(decoded.vectors).float()
        if self.copy_ids is not None:
            logits = mix_copies(logits, decoded.generation_probability, decoded.weights, self.copy_ids)
        return logits[:, 0], decoded.weights, decoded.last()

    def of(self, sources: Tensor) -> "DecoderStep":
        """The step of some of the sources."""
        kept = copy.copy(self)
        kept.memory = _rows_of(self.memory, sources if self.shares_memory else self.rows_of(sources))
        kept.copy_ids = None if self.copy_ids is None else self.copy_ids[self.rows_of(sources)]
        return kept

    def rows_of(self, sources: Tensor) -> Tensor:
        """The rows about some of the sources."""
        return (sources[:, None] * self.beams + torch.arange(self.beams, device=sources.device)).flatten()


class SharedMemoryAttention(nn.Module):
    """
    Attention of the beams of each source over one memory.

    Args:
        attention: an attention that does not look back.
    """

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention

    def forward(
        self, query: Tensor, memory: Memory, alignment: Tensor, target_mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `Attention.forward`, of one query for each beam, (sources * beams, 1, query)."""
        sources = memory.values.shape[0]
        queries = query.unflatten(0, (sources, -1))[:, :, 0]  # (sources, beams, query)
        contexts, weights, _ = self.attention(queries, memory, alignment[:sources], None)
        return (
            contexts.flatten(0, 1)[:, None],
            weights.transpose(1, 2).flatten(0, 1)[:, :, None],  # (sources * beams, heads, 1, source)
            alignment[:, None],
        )


def _rows_of(memory: Memory, rows: Tensor) -> Memory:
    return Memory(memory.keys[rows], memory.values[rows], None if memory.mask is None else memory.mask[rows])


def _repeat(tensor: Any, beams: int) -> Any:
    """Each row of a tensor, `beams` times; or `None`."""
    return None if tensor is None else tensor[:, None].expand(-1, beams, *tensor.shape[1:]).flatten(0, 1)


class PreparedDecoder(NamedTuple):
    """Twins of a decoder in evaluation mode and of its `lm_head`, which share their parameters."""

    decoder: Any
    lm_head: nn.Module
    readers: list[ContextReader]
    looks_back: bool  # the attention sees another memory in each beam

    def read(self, memory: Memory) -> Memory:
        """What the twin looks at in place of a memory: its values are the products of all readers, side by side."""
        if not self.readers:
            return memory
        return memory._replace(values=torch.cat([reader.of_memory(memory.values) for reader in self.readers], dim=-1))


def prepare(
    decoder: AttentionRnnDecoder, lm_head: nn.Module, memory: Memory, beams: int, steps: int
) -> PreparedDecoder:
    """
    Make a decoder ready for many steps.

    Args:
        decoder: the decoder.
        lm_head: attentional vector -> logits.
        memory: what it will look at, or something of that size.
        beams: number of hypotheses about each source.
        steps: the number of steps to come, at most.
    """
    replaced: dict[nn.Module, nn.Module] = {}
    readers: list[ContextReader] = []
    if not torch.is_autocast_enabled(memory.values.device.type):  # there every product is autocast's own affair
        rows = beams * len(memory.values)
        modules: list[Any] = [*decoder.modules(), lm_head]
        replaced |= {
            module: PreparedLinear(module, rows)
            for module in modules
            if _can_be_prepared(module) and module.weight.numel() >= MIN_WEIGHTS
        }
        if memory.values.shape[:2].numel() <= rows * steps:  # else no target would repay it
            readers = _context_readers(decoder, rows)
            replaced |= {reader.layer: reader for reader in readers}
    attention = decoder.attention
    looks_back = attention is not None and attention.alignment_features > 0
    if beams > 1 and attention is not None and not looks_back:
        replaced[attention] = SharedMemoryAttention(_twin(attention, replaced))
    return PreparedDecoder(_twin(decoder, replaced), _twin(lm_head, replaced), readers, looks_back)


def _context_readers(decoder: AttentionRnnDecoder, rows: int) -> list[ContextReader]:
    """The matrices that read the context; none unless the context is a mean that they read as the equations say."""
    config = decoder.config
    after_output = config.hidden_size  # where the context starts that follows the output of a layer
    layers: list[Any] = list(decoder.layers)[1:] if config.context_feeding == "parallel" else []
    places = [(layer.cell.input_to_hidden, after_output) for layer in layers]
    if decoder.context_layer is not None:
        layers.append(decoder.context_layer)
        places.append((decoder.context_layer.cell.input_to_hidden, 0))
    places.append((decoder.readout.projection, after_output))
    if decoder.copy_gate is not None:
        places.append((decoder.copy_gate.projection, 0))
    as_written = (
        type(decoder.attention) in _MEANS_OF_VALUES
        and type(decoder.readout) is AttentionRnnReadout
        and type(decoder.copy_gate) in (CopyGate, type(None))
        and all(type(layer) is AttentionRnnDecoderLayer for layer in layers)
        and all(type(layer.cell).input_products is Cell.input_products for layer in layers)
        and not (config.attention_type == "aligned" and config.aligned_steps > 1)  # there it is more than the mean
        and not config.layer_norm  # it takes the context as it is
    )
    if not as_written or not all(_can_be_prepared(layer, (nn.Linear, Int8Linear)) for layer, _ in places):
        return []
    *offsets, width = accumulate((layer.out_features for layer, _ in places), initial=0)
    return [
        ContextReader(layer, rows, start, config.context_size, (offset, width))
        for (layer, start), offset in zip(places, offsets, strict=True)
    ]


def _can_be_prepared(module: Any, kinds: tuple[type, ...] = (nn.Linear,)) -> bool:
    # halves are rounded where the model rounds them
    return is_plain(module, kinds) and module.weight.dtype in (torch.float32, torch.float64)


def _twin(module: nn.Module, replaced: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """A module of the same parameters, some of its descendants replaced. `module` itself stays as it is."""
    if module in replaced:
        return replaced[module]
    children = {name: child and _twin(child, replaced) for name, child in module._modules.items()}
    if all(child is module._modules[name] for name, child in children.items()):
        return module
    twin = copy.copy(module)
    twin._modules = children
    return twin
