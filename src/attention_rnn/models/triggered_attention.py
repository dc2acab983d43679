"""
Triggered attention (Moritz et al., 2019, https://arxiv.org/abs/1905.07958): CTC says when a token begins, and the
decoder, which attends to the last positions up to there, which one it is. In training the alignment of the labels with
the CTC head says when.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .attention import Memory
from .ctc import CTCHead, align, needed_positions
from .decoder import DecoderState, Noise
from .dropout import NO_NOISE
from .encoder import memory_lengths
from .streaming import StreamingMixin, StreamState


def windows_of(head: CTCHead, encoded: Any, labels: Tensor, width: int) -> Tensor:
    """
    Where each label may attend to: `width` positions, of which the last is the one where CTC has it begin; for a label
    without a sound, such as the end, the last one of all. A row that CTC has no positions for attends to everything.

    Args:
        labels: (batch, target), -100 where there is none.

    Returns:
        (batch, target, source), true inside.
    """
    memory, lengths = encoded.last_hidden_state, memory_lengths(encoded)
    with torch.no_grad():
        targets, counts = head.targets(labels)
        fits = needed_positions(targets, counts) <= lengths
        counts = counts.where(fits, 0)
        first, _ = align(head(memory), lengths, targets, counts, head.blank)
    is_target = torch.isin(labels, torch.tensor([head.blank, *head.silent], device=labels.device)).logical_not()
    is_target = is_target & (labels >= 0)
    number = (is_target.cumsum(dim=1) - 1).clamp(min=0)
    last = torch.where(is_target, first.gather(1, number), lengths[:, None] - 1)[..., None]  # (batch, target, 1)
    places = torch.arange(memory.shape[1], device=labels.device)
    inside = (places <= last) & (places > last - width)
    return torch.where(fits[:, None, None], inside, places < lengths[:, None, None])


class Heard(NamedTuple):
    """What the decoder knows of a stream between two tokens."""

    context: Tensor  # the last positions of the memory, (1, positions, memory)
    token: int  # the last one
    state: DecoderState | None = None  # `None` before the first token
    begin: int = 0  # the position that the alignment of `state` begins with


class TriggeredAttentionMixin(StreamingMixin):
    """`stream_step` of a model whose decoder attends to `attention_window` positions, if it has one."""

    lm_head: Any

    def _say(
        self, best: int, memory: Tensor, offset: int, log_probs: Tensor, state: StreamState
    ) -> tuple[int, StreamState]:
        config, decoder = self.config, self.model.decoder
        width = config.attention_window
        if width is None:
            return best, state
        heard = state.heard or Heard(memory[:, :0], config.decoder_start_token_id)
        context = torch.cat([heard.context, memory[:, : offset + 1]], dim=1)[:, -width:]
        begin = state.positions + offset + 1 - context.shape[1]
        embeddings = decoder.embed_tokens(torch.tensor([[heard.token]], device=memory.device))
        fresh = decoder._begin(None, embeddings, context.shape[1])
        before = fresh
        if heard.state is not None:
            kept = heard.state.alignment[..., max(begin - heard.begin, 0) :]  # of the positions that both windows have
            after = fresh.alignment[..., kept.shape[-1] :]
            before = heard.state._replace(alignment=torch.cat([kept, after], dim=-1))
        keys, values = decoder.attention.project(context)
        noise = Noise([NO_NOISE] * len(decoder.layers), NO_NOISE, None)
        decoded = decoder.step(embeddings, before, Memory(keys, values, None), None, noise, keep_states=False)
        scores = self.lm_head(decoded.vectors)[0, 0].float().log_softmax(dim=-1)
        weight = config.decoding_ctc_weight
        scores = weight * log_probs[offset] + (1 - weight) * scores
        scores[[self.ctc_head.blank, *self.ctc_head.silent]] = -torch.inf
        token = int(scores.argmax())
        return token, state._replace(heard=Heard(heard.context, token, decoded.last(), begin))

    def _forget(self, state: StreamState) -> StreamState:
        heard = state.heard
        return (
            state if heard is None else state._replace(heard=Heard(heard.context, self.config.decoder_start_token_id))
        )

    def _remember(self, memory: Tensor, state: StreamState) -> StreamState:
        width = self.config.attention_window
        if width is None:
            return state
        heard = state.heard or Heard(memory[:, :0], self.config.decoder_start_token_id)
        context = torch.cat([heard.context, memory], dim=1)
        return state._replace(heard=heard._replace(context=context[:, max(context.shape[1] - width + 1, 0) :]))

    def transcribe_memory(self, encoded: Any) -> Tensor:
        """What `generate()` returns, (batch, 1 + longest + 1), of what the encoder returned."""
        config = self.config
        rows = []
        for memory, length in zip(encoded.last_hidden_state, memory_lengths(encoded).tolist(), strict=True):
            state = StreamState(None, last=self.ctc_head.blank)  # type: ignore[arg-type]
            tokens, _, _ = self._listen(memory[None, :length], state, None)
            rows.append(torch.tensor([config.decoder_start_token_id, *tokens, self._end], device=memory.device))
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=config.pad_token_id)
