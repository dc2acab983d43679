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
class AttentionRnnTimeSeriesModelOutput(ModelOutput):
    """
    Args:
        last_hidden_state: the vectors of the future patches, (batch, patches, hidden); of several channels that are not
            mixed, (batch * channels, patches, hidden). Without a decoder, the memory.
        encoder_last_hidden_state: the memory, (batch, past patches, memory), likewise.
        cross_attentions: see `AttentionRnnTimeSeriesPredictionOutput`.
        loc, scale: likewise.
        attention_mask: without a decoder, 1 at past patches with an observed value, (batch, past patches).
    """

    last_hidden_state: Tensor | None = None
    encoder_last_hidden_state: Tensor | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
    loc: Tensor | None = None
    scale: Tensor | None = None
    attention_mask: Tensor | None = None


@dataclass
class AttentionRnnTimeSeriesPredictionOutput(ModelOutput):
    """
    Args:
        loss: where `future_values` are given.
        mean_predictions: the point forecast, (batch, prediction length), or (batch, prediction length, channels): the
            mean; of quantiles, the median. NaN for a channel of which no value is observed.
        full_predictions: the point forecast and, behind it, the `quantile_levels`, (batch, prediction length
            [, channels], 1 + levels), as TimesFM has them; the point forecast alone of `"point"`. `None` in training.
        params: the parameters of the distribution in the units of the scaled series, a tensor (batch, prediction length
            [, channels]) for each; of quantiles, one for each level.
        loc, scale: what was subtracted from each series, and by what it was divided, (batch, 1[, channels]).
        cross_attentions: when asked for, a tuple of one tensor: the attention of each future patch over the past
            patches, (batch, heads, patches, past patches); of several channels that are not mixed, (batch, channels,
            heads, patches, past patches). Past patches are counted from the end; the first may begin before the series.
    """

    loss: Tensor | None = None
    mean_predictions: Tensor | None = None
    full_predictions: Tensor | None = None
    params: tuple[Tensor, ...] | None = None
    loc: Tensor | None = None
    scale: Tensor | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
