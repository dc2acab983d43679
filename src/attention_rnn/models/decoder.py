"""The decoder: recurrent layers over the target, attention over the memory, and the attentional vector."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import EncoderDecoderCache
from transformers.utils.generic import can_return_tuple

from .attention import ATTENTIONS, Memory
from .cache import cache_field, is_filled, new_cache, read_memory, read_states, write_memory, write_states
from .checks import new_tokens_mask, padding_mask
from .configuration_decoder import AttentionRnnDecoderConfig
from .decoder_layer import AttentionRnnDecoderLayer
from .dropout import NO_NOISE, LayerNoise
from .fronts import TokenFront
from .outputs import AttentionRnnDecoderOutput
from .readout import AttentionRnnReadout, CopyGate


class DecoderState(NamedTuple):
    """What the decoder knows before a token."""

    states: list[Tensor]  # the state of each layer, (batch, state)
    fed: Tensor  # the last attentional vector where it is fed back, (batch, 1, fed); the width may be zero
    alignment: Tensor  # where the attention has looked, (batch, features, source)


class Noise(NamedTuple):
    """What is dropped at every step of a sequence."""

    layers: list[LayerNoise]
    context_layer: LayerNoise
    readout: Tensor | None


class Decoded(NamedTuple):
    """What the decoder makes of the tokens given, for each of them."""

    vectors: Tensor  # the attentional vectors, (batch, target, embedding)
    generation_probability: Tensor | None  # of writing rather than copying, (batch, target, 1)
    hidden_states: list[Tensor]  # the outputs of each layer, (batch, target, hidden)
    weights: Tensor | None  # the attention, (batch, heads, target, source)
    states: list[Tensor]  # the states of each layer, (batch, target, state); the last alone if no more are wanted
    fed: Tensor  # what is fed to the next token, (batch, target, fed)
    alignment: Tensor  # the alignment states, (batch, target, features, source)

    def last(self) -> DecoderState:
        """What is known after the last token."""
        return DecoderState([states[:, -1] for states in self.states], self.fed[:, -1:], self.alignment[:, -1])


class AttentionRnnDecoder(TokenFront):
    """
    Embeddings, recurrent layers and attention over the target. `context_feeding` says where the context enters:

    - `parallel`: the first layer reads the target alone and queries the memory for all steps at once; the context joins
      the input of the layers above (Wu et al., 2016, https://arxiv.org/abs/1609.08144, section 3, as in GNMT v2).
    - `output`: the last layer queries the memory; the context meets the readout alone (Luong et al., 2015, without
      input feeding).
    - `input`: the last layer queries the memory, and the attentional vector joins the next input (input feeding, Luong
      et al., 2015, section 3.3).
    - `conditional`: the first layer steps with the target, queries the memory, and steps again with the context (the
      conditional GRU of Sennrich et al., 2017, https://arxiv.org/abs/1703.04357, appendix A).

    All of this is written in `step`, once. `decode` calls it for a whole target, `decoder_step.py` in `generate()`.
    """

    config: AttentionRnnDecoderConfig  # type: ignore[assignment]  # that of any model with a decoder

    def __init__(self, config: AttentionRnnDecoderConfig) -> None:
        super().__init__(config, None if config.shares_embeddings else config.vocab_size)
        feeding = config.context_feeding
        # what a token attends to changes the state before the next one
        self.feeds_back = feeding in ("input", "conditional")
        self.fed_size = config.embedding_size if feeding == "input" else 0
        joined_size = config.context_size if feeding == "parallel" else 0
        self.layers = nn.ModuleList(
            [AttentionRnnDecoderLayer(config, config.embedding_size, self.fed_size)]
            + [
                AttentionRnnDecoderLayer(config, config.hidden_size, joined_size)
                for _ in range(config.decoder_layers - 1)
            ]
        )
        self.attention: Any = None if config.attention_type is None else ATTENTIONS[config.attention_type](config)
        # the second step of the first layer, from its state and the context alone
        self.context_layer: Any = (
            AttentionRnnDecoderLayer(config, 0, config.context_size) if feeding == "conditional" else None
        )
        self.readout = AttentionRnnReadout(config)
        self.copy_gate = CopyGate(config) if config.copy else None
        self.query_layer = 0 if feeding in ("parallel", "conditional") else config.decoder_layers - 1
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        initial_state: Tensor | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> AttentionRnnDecoderOutput:
        """
        Args:
            input_ids: target tokens, beginning with `decoder_start_token_id`, (batch, target). With a filled cache the
                new ones alone. Not for a decoder that shares its embeddings with the encoder, which holds them.
            attention_mask: (batch, target), or (batch, past + target) with a filled cache. The state does not move at
                padding.
            encoder_hidden_states: the memory, (batch, source, memory).
            encoder_attention_mask: (batch, source), 0 and 1, or the booleans that the encoder returns; or booleans for
                each target token, (batch, target, source).
            initial_state: the state before the first token, (batch, decoder layers, state); zeros by default. Not used
                with a filled cache.
            past_key_values: the decoding state, see `cache.py`.
            inputs_embeds: embeddings instead of `input_ids`, (batch, target, embedding).

        Returns:
            `last_hidden_state`: the attentional vectors, (batch, target, embedding).
            `cross_attentions`: one tensor, (batch, heads, target, source).
            `hidden_states`: the embeddings and the output of each layer.
            `generation_probability`: with `copy`, the probability of writing each token, (batch, target, 1).
        """
        embeddings = self.read_tokens("decoder_", input_ids, inputs_embeds)
        has_past = past_key_values is not None
        mask = new_tokens_mask("decoder_attention_mask", attention_mask, embeddings, has_past=has_past)
        use_cache = self.option("use_cache", use_cache)
        if use_cache and past_key_values is None:
            past_key_values = new_cache(self.config)

        if past_key_values is not None and is_filled(past_key_values):
            keys, values = read_memory(past_key_values)
            start = self._unpack(*read_states(past_key_values))
        elif encoder_hidden_states is None:
            raise ValueError("`encoder_hidden_states` must be given with an empty `past_key_values` or none.")
        else:
            keys, values = self._project(encoder_hidden_states)
            start = self._begin(initial_state, embeddings, source_length=encoder_hidden_states.shape[1])
            if past_key_values is not None:
                write_memory(past_key_values, keys, values)
        if values.shape[0] != embeddings.shape[0]:  # len() would fix the batch size of an exported model
            raise ValueError(
                "`decoder_input_ids`, `decoder_inputs_embeds` and `labels` must have a row for each source, "
                f"{values.shape[0]}, got {embeddings.shape[0]}."
            )
        # booleans come from the encoder, which has checked them
        if encoder_attention_mask is None or encoder_attention_mask.dtype != torch.bool:
            encoder_attention_mask = padding_mask("attention_mask", encoder_attention_mask, values)
        memory = Memory(keys, values, encoder_attention_mask)
        if self.feeds_back and torch.distributed.is_available() and torch.distributed.is_initialized():
            self._check_units()
        decoded = self.decode(embeddings, start, memory, mask, keep_states=past_key_values is not None)

        if past_key_values is not None:
            write_states(past_key_values, decoded.states, self._pack(decoded))
        output_attentions = self.option("output_attentions", output_attentions)
        output_hidden_states = self.option("output_hidden_states", output_hidden_states)
        weights = () if decoded.weights is None else (decoded.weights,)
        return AttentionRnnDecoderOutput(
            last_hidden_state=decoded.vectors,
            **cache_field(past_key_values if use_cache else None),
            hidden_states=(embeddings, *decoded.hidden_states) if output_hidden_states else None,
            attentions=() if output_attentions else None,
            cross_attentions=weights if output_attentions else None,
            generation_probability=decoded.generation_probability,
        )

    def decode(
        self, embeddings: Tensor, start: DecoderState, memory: Memory, mask: Tensor | None, keep_states: bool
    ) -> Decoded:
        """
        A whole target: at once, or token by token where something is fed back.

        Args:
            embeddings: (batch, target, embedding).
            start: what is known before the first token.
            memory: what the attention looks at.
            mask: true at real tokens, (batch, target), or `None`.
            keep_states: whether the state after each token is wanted.
        """
        noise = self._draw_noise(embeddings)
        # what each token may attend to
        windows = memory.mask if memory.mask is not None and memory.mask.dim() == 3 else None
        if not self.feeds_back and windows is None:
            return self.step(embeddings, start, memory, mask, noise, keep_states)
        state, steps = start, []
        for token in range(embeddings.shape[1]):
            now = slice(token, token + 1)
            token_mask = None if mask is None else mask[:, now]
            seen = memory if windows is None else memory._replace(mask=windows[:, token])
            steps.append(self.step(embeddings[:, now], state, seen, token_mask, noise, keep_states=True))
            state = steps[-1].last()
        return _join(steps)

    def step(
        self,
        embeddings: Tensor,
        state: DecoderState,
        memory: Memory,
        mask: Tensor | None,
        noise: Noise,
        keep_states: bool,
    ) -> Decoded:
        """
        The equations of the decoder, for one token; where nothing is fed back, for any number of tokens at once. See
        `decode` for the arguments.
        """
        feeding = self.config.context_feeding
        output, context, weights = embeddings, embeddings[..., :0], None
        alignments = state.alignment[:, None]
        outputs, all_states = [], []
        for index, layer in enumerate(self.layers):
            joined = None
            if index == 0 and feeding == "input":
                joined = state.fed
            elif index > 0 and feeding == "parallel" and self.attention is not None:
                joined = context
            output, states = layer(output, joined, state.states[index], mask, noise.layers[index], keep_states)
            if index == self.query_layer and self.attention is not None:
                context, weights, alignments = self.attention(output, memory, state.alignment, mask)
                if feeding == "conditional":
                    output, states = self.context_layer(
                        output[..., :0], context, states[:, -1], mask, noise.context_layer, keep_states
                    )
            outputs.append(output)
            all_states.append(states)
        vectors = self.readout(output, context, embeddings, noise.readout)
        gate = None if self.copy_gate is None else self.copy_gate(output, context, embeddings)
        fed = vectors[..., : self.fed_size]
        if self.fed_size and mask is not None:
            fed = torch.where(mask[..., None], fed, state.fed)
        return Decoded(vectors, gate, outputs, weights, all_states, fed, alignments)

    def _check_units(self) -> None:
        """FSDP gathers the weights of a unit at each call of it, in all processes; and these have their own lengths."""
        for name, module in self.named_modules():
            kinds = {kind.__name__ for kind in type(module).__mro__}
            if name not in ("", "embed_tokens") and kinds & {"FSDPModule", "FullyShardedDataParallel"}:
                raise ValueError(
                    f"With `context_feeding={self.config.context_feeding!r}` FSDP must not wrap a part of the decoder "
                    f"that is called at each step, here {name!r}: set `transformer_layer_cls_to_wrap` in `fsdp_config` "
                    "to ['AttentionRnnEncoderLayer']."
                )

    def _project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        if self.attention is None:
            return memory[..., :0], memory[..., :0]
        return self.attention.project(memory)

    def _begin(self, initial_state: Tensor | None, embeddings: Tensor, source_length: int) -> DecoderState:
        batch_size = embeddings.shape[0]
        if initial_state is None:
            initial_state = embeddings.new_zeros(batch_size, self.config.decoder_layers, self.config.state_size)
        fed = embeddings.new_zeros(batch_size, 1, self.fed_size)
        precision = torch.promote_types(embeddings.dtype, torch.float32)  # it is a sum
        alignment = embeddings.new_zeros(batch_size, self._alignment_features(), source_length, dtype=precision)
        return DecoderState(list(initial_state.unbind(dim=1)), fed, alignment)

    def _pack(self, decoded: Decoded) -> Tensor:
        """What the cache keeps besides the states, (batch, target, fed + features * source)."""
        alignment = decoded.alignment.flatten(2)
        return torch.cat([decoded.fed, alignment.expand(-1, decoded.fed.shape[1], -1)], dim=-1)

    def _unpack(self, states: list[Tensor], packed: Tensor) -> DecoderState:
        features = self._alignment_features()
        alignment = packed[:, 0, self.fed_size :]
        source_length = alignment.shape[-1] // max(features, 1)
        fed = packed[..., : self.fed_size].to(states[0].dtype)
        return DecoderState(states, fed, alignment.unflatten(1, (features, source_length)))

    def _alignment_features(self) -> int:
        return 0 if self.attention is None else self.attention.alignment_features

    def _draw_noise(self, embeddings: Tensor) -> Noise:
        batch_size = embeddings.shape[0]
        layers: Any = self.layers
        return Noise(
            layers=[layer.draw_noise(batch_size, embeddings) for layer in layers],
            context_layer=NO_NOISE
            if self.context_layer is None
            else self.context_layer.draw_noise(batch_size, embeddings),
            readout=self.readout.dropout.draw(batch_size, self.config.embedding_size, embeddings),
        )


def _join(steps: list[Decoded]) -> Decoded:
    """Single steps one after another."""
    along_target = {"weights": 2}  # of all but the weights, the target is the second axis

    def join(name: str) -> Any:
        values = [getattr(step, name) for step in steps]
        if values[0] is None:
            return None
        if isinstance(values[0], list):
            return [torch.cat(layer, dim=1) for layer in zip(*values, strict=True)]
        return torch.cat(values, dim=along_target.get(name, 1))

    return Decoded(*(join(name) for name in Decoded._fields))
