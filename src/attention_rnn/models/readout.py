"""The attentional vector from which the next token is predicted; and copying: its gate, and the mixture of both."""

import torch
from torch import Tensor, nn

from .configuration_decoder import AttentionRnnDecoderConfig
from .dropout import SequenceDropout
from .prepared_linear import is_watched


class AttentionRnnReadout(nn.Module):
    """
    The attentional vector that `lm_head` reads, with the last target token beside it (the deep output of Bahdanau et
    al., 2015, appendix A.2.2, with the tanh of Luong et al., 2015, equation 5):

        vector_t = tanh(W [state_t; context_t; embedding_t] + b)
    """

    def __init__(self, config: AttentionRnnDecoderConfig) -> None:
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

    def __init__(self, config: AttentionRnnDecoderConfig) -> None:
        super().__init__()
        self.projection = nn.Linear(config.context_size + config.hidden_size + config.embedding_size, 1)

    def forward(self, output: Tensor, context: Tensor, embeddings: Tensor) -> Tensor:
        """(batch, target, hidden | context | embedding) -> (batch, target, 1)"""
        return torch.sigmoid(self.projection(torch.cat([context, output, embeddings], dim=-1)))


def mix_copies(logits: Tensor, generation_probability: Tensor, weights: Tensor, copy_ids: Tensor) -> Tensor:
    """
    The distribution over the extended vocabulary, in which each token of the source has a place (See et al., 2017,
    https://arxiv.org/abs/1704.04368, equation 9):

        P(w) = p P_vocabulary(w) + (1 - p) sum of the weights at positions j where w stands in the source

    Args:
        logits: of the vocabulary, (batch, target, vocabulary).
        generation_probability: p, (batch, target, 1).
        weights: the attention, (batch, heads, target, source), averaged over the heads.
        copy_ids: the token at each position of the source, (batch, source); ids from the size of the vocabulary on
            stand for tokens that it lacks.

    Returns:
        log P, (batch, target, extended vocabulary), in single precision. In a traced graph the vocabulary is extended
        by as many tokens as there are positions.
    """
    batch_size, length, vocab_size = logits.shape
    # a source has no more unknown tokens than positions
    extended_size = vocab_size + copy_ids.shape[1] if is_watched() else max(vocab_size, int(copy_ids.max()) + 1)
    generation_probability = generation_probability.float()
    written = generation_probability * torch.softmax(logits, dim=-1, dtype=torch.float32)
    unknown = written.new_zeros(batch_size, length, extended_size - vocab_size)
    copied = (1 - generation_probability) * weights.mean(dim=1).float()  # (batch, target, source)
    index = copy_ids[:, None].expand(-1, length, -1)
    probabilities = torch.cat([written, unknown], dim=-1).scatter_add(2, index, copied)
    return probabilities.clamp(min=torch.finfo(torch.float32).tiny).log()


def reachable_tokens(logits: Tensor, copy_ids: Tensor, vocab_size: int) -> Tensor:
    """
    The tokens of the extended vocabulary that a row can write or copy, (batch, 1, extended vocabulary).

    Args:
        logits: what `mix_copies` returned, (batch, target, extended vocabulary).
        copy_ids: see there.
    """
    reachable = torch.zeros_like(logits[:, 0], dtype=torch.bool)
    reachable[:, :vocab_size] = True
    return reachable.scatter(1, copy_ids, True)[:, None]
