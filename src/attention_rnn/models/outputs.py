"""What the models return beyond transformers' own output classes."""

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class AttentionRnnEncoderOutput(ModelOutput):
    """
    Args:
        last_hidden_state: the memory, (batch, source, memory).
        final_state: the state of every encoder layer after the last token that it reads, the two directions of a layer
            side by side, (batch, layers, width); narrower layers are filled up with zeros.
        hidden_states: the embeddings and the output of each layer, when asked for.
        attentions: an empty tuple when asked for; an encoder of this family has no attention of its own.
    """

    last_hidden_state: Tensor | None = None
    final_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
