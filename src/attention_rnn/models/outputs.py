"""What the models return beyond transformers' own output classes."""

from dataclasses import dataclass

from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions, Seq2SeqModelOutput
from transformers.utils import ModelOutput


@dataclass
class AttentionRnnEncoderOutput(ModelOutput):
    """
    Args:
        last_hidden_state: the memory, (batch, source, memory).
        final_state: the state of every encoder layer after the last token that it reads, the two directions of a layer
            side by side, (batch, layers, width); narrower layers are filled up with zeros.
        copy_ids: with `copy`, the token that stands at each position of the source, (batch, source).
        hidden_states: the embeddings and the output of each layer, when asked for.
        attentions: an empty tuple when asked for; an encoder of this family has no attention of its own.
        attention_mask: 1 at the real positions of the memory, 0 at padding, (batch, source); `None` without padding.
    """

    last_hidden_state: Tensor | None = None
    final_state: Tensor | None = None
    copy_ids: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    attention_mask: Tensor | None = None


@dataclass
class AttentionRnnDecoderOutput(BaseModelOutputWithPastAndCrossAttentions):
    """
    Args:
        generation_probability: with `copy`, the probability of writing each token rather than copying it, (batch,
            target, 1).
        Others: see transformers.
    """

    generation_probability: Tensor | None = None


@dataclass
class AttentionRnnModelOutput(Seq2SeqModelOutput):
    """
    Args:
        generation_probability, copy_ids: with `copy`, see the outputs of the decoder and of the encoder.
        Others: see transformers.
    """

    generation_probability: Tensor | None = None
    copy_ids: Tensor | None = None


@dataclass
class TokenTimes(ModelOutput):
    """
    Args:
        start, end: when each token was said, in seconds, (batch, target); NaN at tokens without a sound.
        confidence: the probability of each token where it was said, from 0 to 1, (batch, target); NaN likewise.
    """

    start: Tensor | None = None
    end: Tensor | None = None
    confidence: Tensor | None = None


@dataclass
class CTCGenerateOutput(ModelOutput):
    """
    Args:
        sequences: transcripts, (batch * returned, longest), padding behind shorter ones.
        sequences_scores: their log probabilities, (batch * returned,).
    """

    sequences: Tensor | None = None
    sequences_scores: Tensor | None = None
