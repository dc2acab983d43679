"""The attentional vector from which the next token is predicted, and the gate between writing and copying."""

import torch
from torch import Tensor, nn

from .configuration_attention_rnn import AttentionRnnConfig
from .dropout import SequenceDropout


class AttentionRnnReadout(nn.Module):
    """
    The attentional vector that `lm_head` reads, with the last target token beside it (the deep output of Bahdanau et
    al., 2015, appendix A.2.2, with the tanh of Luong et al., 2015, equation 5):

        vector_t = tanh(W [state_t; context_t; embedding_t] + b)
    """

    def __init__(self, config: AttentionRnnConfig) -> None:
        super().__init__()
        width = config.hidden_size + config.context_size + config.embedding_size
        self.projection = nn.Linear(width, config.embedding_size)
        self.dropout = SequenceDropout(config.readout_dropout, config.variational_dropout)

    def forward(self, output: Tensor, context: Tensor, embeddings: Tensor, mask: Tensor | None) -> Tensor:
        """(batch, target, hidden | context | embedding) -> (batch, target, embedding); `mask` is of the dropout."""
        vector = torch.tanh(self.projection(torch.cat([output, context, embeddings], dim=-1)))
        return self.dropout(vector, mask)


class CopyGate(nn.Module):
    """
    The probability of writing a token of the vocabulary rather than copying one of the source (See et al., 2017,
    https://arxiv.org/abs/1704.04368, equation 8):

        p_t = sigmoid(w [context_t; state_t; embedding_t] + b)
    """

    def __init__(self, config: AttentionRnnConfig) -> None:
        super().__init__()
        self.projection = nn.Linear(config.context_size + config.hidden_size + config.embedding_size, 1)

    def forward(self, output: Tensor, context: Tensor, embeddings: Tensor) -> Tensor:
        """(batch, target, hidden | context | embedding) -> (batch, target, 1)"""
        return torch.sigmoid(self.projection(torch.cat([context, output, embeddings], dim=-1)))
