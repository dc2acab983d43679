"""
The recurrent language model.

    ids -> embeddings -> recurrent layers -> attention over the past outputs (optional) -> vectors -> lm_head -> logits

Its state is all that it knows of what it has read. It is returned as `past_key_values` and may be handed to the next
call, when a text is generated token by token as well as when a long one is read piece by piece.
"""

import copy
from typing import Any

from torch import Tensor, nn
from transformers import Cache, DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils.generic import can_return_tuple

from .attention import close_holes, open_holes
from .base import AttentionRnnPreTrainedModel
from .cache import CACHE, cache_field, takes_cache
from .checks import (
    IGNORED_LABEL,
    check_integers,
    check_labels,
    check_tensors,
    has_values,
    new_tokens_mask,
    warn_without_targets,
)
from .configuration_attention_rnn import AttentionRnnConfig
from .decoder_layer import AttentionRnnDecoderLayer
from .dropout import SequenceDropout
from .fronts import TokenFront
from .generation_checks import CheckedGenerationMixin
from .losses import linear_cross_entropy, target_cross_entropy
from .past_attention import KeyValuePredictAttention, read_past


class AttentionRnnLanguageModel(TokenFront):
    """
    The language model without its head: embeddings, `decoder_layers` recurrent layers that read from left to right
    (Mikolov et al., 2010; Zaremba et al., 2014, https://arxiv.org/abs/1409.2329) and, with `past_attention_window`,
    attention over the past outputs. The vectors to predict from are `embedding_size` wide: those of the attention; or
    the outputs of the last layer, projected if they have another width.
    """

    def __init__(self, config: AttentionRnnConfig) -> None:
        super().__init__(config, config.vocab_size)
        input_sizes = [config.embedding_size] + [config.hidden_size] * (config.decoder_layers - 1)
        self.layers = nn.ModuleList(AttentionRnnDecoderLayer(config, size, 0) for size in input_sizes)
        self.past_attention: KeyValuePredictAttention | None = None
        self.projection: nn.Module = nn.Identity()
        self.readout_dropout = SequenceDropout(config.readout_dropout, config.variational_dropout)
        if config.past_attention_window is not None:
            self.past_attention = KeyValuePredictAttention(config)
        elif config.hidden_size != config.embedding_size:
            self.projection = nn.Linear(config.hidden_size, config.embedding_size)
        self.post_init()

    @can_return_tuple
    @takes_cache
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """
        Args:
            input_ids: (batch, length). With a filled cache the new ones alone.
            attention_mask: 1 at real tokens, 0 at padding, which may stand anywhere, (batch, length); or (batch, past +
                length) with a filled cache. The state does not move at padding.
            past_key_values: the state that an earlier call returned, or an empty `DynamicCache(config=model.config)`.
            inputs_embeds: embeddings instead of `input_ids`, (batch, length, embedding).

        Returns:
            `last_hidden_state`: the vectors to predict from, (batch, length, embedding).
            `past_key_values`: the state after the last token, unless `use_cache` is off.
            `hidden_states`: the embeddings and the output of each layer.
            `attentions`: one tensor, (batch, 1, length, past + length); an empty tuple without attention to the past.

        Raises:
            ValueError: ids outside the vocabulary, an empty text, a mask of another shape.
            TypeError: a cache of another kind.
        """
        embeddings = self.read_tokens("", input_ids, inputs_embeds)
        has_past = past_key_values is not None
        mask = new_tokens_mask("attention_mask", attention_mask, embeddings, has_past=has_past)
        if self.option("use_cache", use_cache) and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        states, past = self._begin(past_key_values, embeddings)
        output_attentions = self.option("output_attentions", output_attentions)

        # assisted decoding takes tokens back, to the states before them
        keep_states = past_key_values is not None and getattr(past_key_values.layers[0], "record_past", False)
        output, outputs, new_states = embeddings, [embeddings], []
        layer: Any
        for layer, state in zip(self.layers, states, strict=True):
            noise = layer.draw_noise(embeddings.shape[0], embeddings)
            output, layer_states = layer(output, None, state, mask, noise, keep_states)
            outputs.append(output)
            new_states.append(layer_states)
        attentions: tuple[Tensor, ...] = ()
        if self.past_attention is None:
            vectors = self.projection(output)
        else:
            vectors, weights, past = self.past_attention(output, past, mask, output_attentions)
            vectors = self.readout_dropout(vectors)
            attentions = () if weights is None else (weights,)

        if past_key_values is not None:
            length = embeddings.shape[1]
            self._leave(past_key_values, [state.expand(-1, length, -1) for state in new_states], past)
        return BaseModelOutputWithPast(
            last_hidden_state=vectors,
            **cache_field(past_key_values if self.option("use_cache", use_cache) else None),
            hidden_states=tuple(outputs) if self.option("output_hidden_states", output_hidden_states) else None,
            attentions=attentions if output_attentions else None,
        )

    def _begin(self, cache: Any, like: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """The state of each layer before the first token, (batch, state), and the past that is attended to."""
        layers = [] if cache is None else getattr(cache, "layers", [])
        kinds = [getattr(layer, "_layer_type", None) for layer in layers]
        if cache is not None and kinds != self.config.layer_types:
            raise TypeError(
                "`past_key_values` must be a cache of a model with this config, as `DynamicCache(config=model.config)` "
                f"makes it, got {cache!r}."
            )
        if not layers or not layers[0].is_initialized:
            return [like.new_zeros(like.shape[0], self.config.state_size) for _ in self.layers], None
        rows = layers[0].keys.shape[0]
        if rows != like.shape[0]:
            raise ValueError(f"`past_key_values` must hold the state of each row, here {like.shape[0]}, got {rows}.")
        past = None if self.past_attention is None else read_past(cache)
        return [layer.keys[:, 0, -1] for layer in layers], past

    def _leave(self, cache: Cache, states: list[Tensor], past: Tensor | None) -> None:
        """
        Write the states after each token, (batch, length, state), of which the last one counts unless the past is
        recorded, and the past that is attended to from now on.
        """
        for index, state in enumerate(states):
            if past is not None and index == len(states) - 1:
                window = self.config.past_attention_window
                cache.update(state[:, None], past[:, None], index, window=None if window == "all" else window)
            else:
                cache.update(state[:, None], state[:, None, :, :0], index)


class AttentionRnnForCausalLM(AttentionRnnPreTrainedModel, CheckedGenerationMixin):
    """
    The language model, for text generation and for scoring text. Of `AttentionRnnConfig` it takes the fields of the
    decoder; it has no source, so those of encoder, bridge and context are of no effect.
    """

    _renamed_weights = {r"^model\.self_attention\.": "model.past_attention."}

    def __init__(self, config: AttentionRnnConfig) -> None:
        config = copy.deepcopy(config)
        config.is_encoder_decoder = False
        super().__init__(config)
        self.model = AttentionRnnLanguageModel(config)
        self.lm_head = nn.Linear(config.embedding_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self._tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
        self.post_init()

    @can_return_tuple
    @takes_cache
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """
        Args:
            labels: the input tokens themselves, (batch, length); each is predicted from those before it. -100 is
                ignored.
            logits_to_keep: return the logits of the last so many positions, or of these positions; 0: of all.
            kwargs: `shift_labels`, in place of `labels`, is the token that follows each input token, (batch, length).
                So the last token of a piece of a long text has the first one of the next piece to predict. (The Trainer
                takes an argument of this name for a label that each of its batches must have.)
            Others: see `AttentionRnnLanguageModel.forward`. With labels the state is returned only if `use_cache` is
                passed. Gradients flow through a state that is passed on; detach it to truncate them.

        Returns:
            `loss`: mean cross entropy per predicted token in nats, or the sum over `num_items_in_batch` where the
            Trainer gives that number. `logits`: (batch, length, vocabulary); `None` where `logits_in_training` saves
            them.

        Raises:
            ValueError: labels outside the vocabulary, of another shape, or with no token to predict; see also
                `AttentionRnnLanguageModel.forward`.
        """
        shift_labels = kwargs.get("shift_labels")
        check_tensors(input_ids=input_ids, inputs_embeds=inputs_embeds, labels=labels, shift_labels=shift_labels)
        if labels is not None or shift_labels is not None:
            use_cache = False if use_cache is None else use_cache
        outputs: Any = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
        )
        vectors = outputs.last_hidden_state
        targets = self._targets(labels, shift_labels, attention_mask, vectors)
        num_items_in_batch, smoothing = kwargs.get("num_items_in_batch"), 0.0
        if targets is not None:
            check_labels(targets, self.config.vocab_size)
            warn_without_targets("labels", targets)
            targets = targets.long()
            if (
                labels is not None
                and shift_labels is None
                and not (num_items_in_batch is None or attention_mask is None)
            ):
                # the Trainer counts all labels but the first column, and so a token that follows padding on the left
                counted = (labels[:, 1:] != IGNORED_LABEL).sum()
                num_items_in_batch = num_items_in_batch * (targets != IGNORED_LABEL).sum() / counted.clamp(min=1)
            smoothing = self.config.label_smoothing if self.training else 0.0
        loss = logits = None
        if targets is not None and self.trains_without_logits():
            weight = self.lm_head.weight
            loss = linear_cross_entropy(vectors, weight, targets, IGNORED_LABEL, num_items_in_batch, smoothing)
        else:
            kept = _kept_positions(logits_to_keep, vectors.shape[1])
            logits = self.lm_head(vectors[:, kept])
            if targets is not None:
                kept_targets = targets[:, kept]
                if has_values(targets) and (targets >= 0).any() and not (kept_targets >= 0).any():
                    raise ValueError(f"`logits_to_keep` must leave a token to predict, got {logits_to_keep}.")
                loss = target_cross_entropy(logits, kept_targets, num_items_in_batch, smoothing)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            **cache_field(outputs.get(CACHE)),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _targets(
        self,
        labels: Tensor | None,
        shift_labels: Tensor | None,
        attention_mask: Tensor | None,
        vectors: Tensor,
    ) -> Tensor | None:
        """What each position predicts, (batch, length): of `labels`, the next real token of its row."""
        if labels is None and shift_labels is None:
            return None
        name, given = ("labels", labels) if shift_labels is None else ("shift_labels", shift_labels)
        if given is None or given.shape != vectors.shape[:2]:
            shape = None if given is None else tuple(given.shape)
            raise ValueError(f"`{name}` must have the shape {tuple(vectors.shape[:2])} of the input, got {shape}.")
        check_integers(name, given)
        if shift_labels is None:
            mask = new_tokens_mask("attention_mask", attention_mask, vectors, has_past=True)
            closed = given if mask is None else close_holes(given[..., None], mask, IGNORED_LABEL)[..., 0]
            given = nn.functional.pad(closed[:, 1:], (0, 1), value=IGNORED_LABEL)
            if mask is not None:
                given = open_holes(given[..., None], mask)[..., 0].masked_fill(~mask, IGNORED_LABEL)
        return given


def _kept_positions(logits_to_keep: Any, length: int) -> slice | Tensor:
    """
    Raises:
        TypeError: `logits_to_keep` is neither an int nor a tensor of integers.
        ValueError: it is negative, or names a position that the text has not.
    """
    if isinstance(logits_to_keep, Tensor):
        check_integers("logits_to_keep", logits_to_keep)
        if has_values(logits_to_keep) and ((logits_to_keep < -length) | (logits_to_keep >= length)).any():
            raise ValueError(f"`logits_to_keep` must be positions below {length}, got {logits_to_keep.tolist()}.")
        return logits_to_keep
    if not isinstance(logits_to_keep, int):
        raise TypeError(f"`logits_to_keep` must be an int or a tensor of positions, got {logits_to_keep!r}.")
    if logits_to_keep < 0:
        raise ValueError(f"`logits_to_keep` must be at least 0, got {logits_to_keep}.")
    return slice(-logits_to_keep, None)
