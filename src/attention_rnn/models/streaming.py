"""
Transcripts of streams, chunk by chunk: what is said of a chunk is what is said of the whole.

CTC says when a token begins, and which one; with `attention_window` the decoder says which, see
`triggered_attention.py`. What is kept of a stream has a constant size.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from .checks import check_tensors
from .modeling_attention_rnn_speech import EncoderStreamState


def is_stream(input_features: Any) -> bool:
    """Whether they come chunk by chunk."""
    return isinstance(input_features, Iterator)


def checked_chunk(encoder: Any, chunk: Any) -> Tensor:
    """
    The frames of a chunk, (frames, mels), in the precision of the model.

    Raises:
        TypeError, ValueError: they are no tensor of such a shape, or not finite.
    """
    check_tensors(chunk=chunk)
    if chunk.dim() != 2 or chunk.shape[1] != encoder.config.num_mel_bins:
        raise ValueError(
            f"`chunk` must have the shape (frames, {encoder.config.num_mel_bins}), got {tuple(chunk.shape)}."
        )
    return chunk.to(encoder.dtype) if len(chunk) == 0 else encoder.checked_features(chunk[None])[0]


class StreamState(NamedTuple):
    """What is known of a stream before a chunk."""

    encoder: EncoderStreamState
    positions: int = 0  # of the memory, so far
    last: int = -1  # what CTC said at the last position
    silence: int = 0  # positions since a token began
    has_spoken: bool = False  # whether one has begun since the last end
    heard: Any = None  # what the decoder of a triggered attention keeps


class StreamingMixin:
    """`stream_step` of a model with an encoder of speech and a CTC head."""

    config: Any
    model: Any
    ctc_head: Any

    def begin_stream(self) -> StreamState:
        """
        The state before the first chunk of a stream.

        Raises:
            ValueError: the model has a layer that reads backwards, a convolution that sees later frames, or no CTC.
        """
        if self.ctc_head is None:
            raise ValueError("`ctc_weight` must not be 0 to stream, since CTC says when a token begins.")
        return StreamState(self.model.encoder.begin_stream(), last=self.ctc_head.blank)

    @torch.no_grad()
    def stream_step(
        self,
        chunk: Tensor | Sequence[Tensor],
        state: StreamState | Sequence[StreamState],
        endpoint_seconds: float | None = None,
        is_last: bool = False,
    ) -> tuple[Any, Any, Any]:
        """
        What a chunk of a stream says, or chunks of several streams, which are read side by side: those that join begin
        with `begin_stream()`, and one that leaves is not given any more.

        Args:
            chunk: the next frames, (frames, mels), as `AttentionRnnFeatureExtractor.stream` gives them, of any number,
                also none; or a list of such.
            state: what the last call returned; or a list of such.
            endpoint_seconds: the token that ends a text is added where no token has begun for so long after one.
            is_last: whether the streams end here.

        Returns:
            The tokens that begin in the chunk, when each begins, in seconds from the beginning of the stream, and the
            state; or lists of these, one for each stream.

        Raises:
            TypeError, ValueError: a chunk is no tensor of such a shape; `endpoint_seconds` is not above zero, or the
                model has no token that ends a text.
        """
        one = not isinstance(chunk, (list, tuple))  # what is no tensor is refused below
        chunks: list[Any] = [chunk] if one else list(chunk)
        states: list[Any] = [state] if one else list(state)
        if len(chunks) != len(states) or not chunks:
            raise ValueError(f"`state` must hold one state per stream, {len(chunks)}, got {len(states)}.")
        chunks = [checked_chunk(self.model.encoder, some) for some in chunks]
        limit = self._endpoint(endpoint_seconds)
        memories, encoder_states = self.model.encoder.stream(chunks, [some.encoder for some in states], is_last)
        results = []
        for memory, before, encoder_state in zip(memories, states, encoder_states, strict=True):
            results.append(self._listen(memory, before._replace(encoder=encoder_state), limit))
        tokens, times, after = (list(parts) for parts in zip(*results, strict=True))
        return (tokens[0], times[0], after[0]) if one else (tokens, times, after)

    def _listen(
        self, memory: Tensor, state: StreamState, limit: int | None
    ) -> tuple[list[int], list[float], StreamState]:
        """What the new positions of one stream, (1, positions, memory), say."""
        seconds, delay = self.config.inputs_to_logits_ratio / self.config.sampling_rate, self.config.emission_delay
        tokens, times = [], []
        log_probs = self.ctc_head(memory)[0]
        for offset, best in enumerate(log_probs.argmax(dim=-1).tolist()):
            begins = best not in (state.last, self.ctc_head.blank)
            state = state._replace(last=best, silence=0 if best != self.ctc_head.blank else state.silence + 1)
            if begins:
                token, state = self._say(best, memory, offset, log_probs, state)
                state = state._replace(has_spoken=True)
                tokens.append(token)
                times.append(max((state.positions + offset) * seconds - delay, 0.0))
            elif limit is not None and state.has_spoken and state.silence >= limit:
                tokens.append(self._end)
                times.append((state.positions + offset) * seconds)
                state = self._forget(state._replace(has_spoken=False))
        state = self._remember(memory, state)
        return tokens, times, state._replace(positions=state.positions + memory.shape[1])

    def _say(
        self, best: int, memory: Tensor, offset: int, log_probs: Tensor, state: StreamState
    ) -> tuple[int, StreamState]:
        """The token that begins at a position of a chunk, where CTC has heard `best`."""
        return best, state

    def _forget(self, state: StreamState) -> StreamState:
        """The state behind the end of a text."""
        return state

    def _remember(self, memory: Tensor, state: StreamState) -> StreamState:
        """The state with what is still needed of a chunk behind it."""
        return state

    @property
    def _end(self) -> int:
        end = self.config.eos_token_id
        return end[0] if isinstance(end, list) else end

    def _endpoint(self, seconds: Any) -> int | None:
        """As many positions are silent before a text is ended."""
        if seconds is None:
            return None
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
            raise ValueError(f"`endpoint_seconds` must be a number above 0, got {seconds!r}.")
        if self.config.eos_token_id is None:
            raise ValueError("`eos_token_id` must be set to use `endpoint_seconds`.")
        return max(1, round(seconds * self.config.sampling_rate / self.config.inputs_to_logits_ratio))

    @torch.no_grad()
    def transcribe_stream(
        self,
        chunks: Iterable[Tensor],
        streamer: BaseStreamer | None = None,
        endpoint_seconds: float | None = None,
    ) -> Tensor:
        """
        Read a stream to its end.

        Args:
            chunks: frames, (frames, mels) each, of any number.
            streamer: gets the tokens of each chunk, as of `generate()`.
            endpoint_seconds: see `stream_step`.

        Returns:
            All tokens, (1, tokens).
        """
        state, said = self.begin_stream(), []
        nothing = next(self.ctc_head.parameters()).new_zeros(0, self.config.num_mel_bins)

        def hear(chunk: Tensor, is_last: bool) -> None:
            nonlocal state
            tokens, _, state = self.stream_step(chunk, state, endpoint_seconds, is_last)
            said.extend(tokens)
            if streamer is not None and tokens:
                streamer.put(torch.tensor(tokens))

        for chunk in chunks:
            hear(chunk, is_last=False)
        hear(nothing, is_last=True)
        if streamer is not None:
            streamer.end()
        return torch.tensor([said], dtype=torch.long)


class SpottingState(NamedTuple):
    """What a classifier knows of a stream before a chunk."""

    encoder: EncoderStreamState
    context: Tensor  # the last positions of the memory, (1, positions, memory)
    window: int  # how many positions are pooled


class KeywordSpottingMixin:
    """`stream_step` of a classifier, which listens to the last moments of a stream."""

    config: Any
    model: Any
    pooling: Any
    classifier: Any

    def begin_stream(self, window_seconds: float = 1.0) -> SpottingState:
        """
        The state before the first chunk of a stream.

        Args:
            window_seconds: how long a moment is that is classified, such as the recordings of the training.

        Raises:
            ValueError: the model has a layer that reads backwards or a convolution that sees later frames; the window
                is shorter than a position of the memory.
        """
        seconds = self.config.inputs_to_logits_ratio / self.config.sampling_rate
        is_number = isinstance(window_seconds, (int, float)) and math.isfinite(window_seconds)
        window = round(window_seconds / seconds) if is_number else 0
        if window < 1:
            raise ValueError(f"`window_seconds` must last a position of the memory or more, got {window_seconds!r}.")
        encoder = self.model.encoder
        like = next(self.classifier.parameters())
        return SpottingState(encoder.begin_stream(), like.new_zeros(1, 0, self.config.memory_size), window)

    @torch.no_grad()
    def stream_step(self, chunk: Tensor, state: SpottingState, is_last: bool = False) -> tuple[Tensor, SpottingState]:
        """
        The classes of the moments that end in a chunk.

        Args:
            chunk: the next frames, (frames, mels), of any number.
            state: what the last call returned.
            is_last: whether the stream ends here.

        Returns:
            Logits of the moment that ends with each new position of the memory, (positions, num_labels), which may be
            none; and the state.

        Raises:
            TypeError, ValueError: the chunk is no tensor of such a shape.
        """
        encoder = self.model.encoder
        (memory,), (encoder_state,) = encoder.stream([checked_chunk(encoder, chunk)], [state.encoder], is_last)
        context = torch.cat([state.context, memory], dim=1)
        before = state.context.shape[1]
        places = torch.arange(memory.shape[1])[:, None] + before - state.window + 1 + torch.arange(state.window)
        is_there = (places >= 0).to(memory.device)
        moments = context[0, places.clamp(min=0).to(memory.device)]  # (positions, window, memory)
        logits = context.new_zeros(0, self.config.num_labels)
        if memory.shape[1]:
            logits = self.classifier(self.pooling(moments, is_there)[0])
        kept = context[:, max(context.shape[1] - state.window + 1, 0) :]
        return logits, SpottingState(encoder_state, kept, state.window)
