"""
Attention: how a query of the decoder scores each position of the memory, and the context that follows.

Each score function is a class with two methods: `project` makes keys of the memory, once per source; `score` compares
queries with keys. The softmax, the mask and the context are the same for all.
"""

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """
    Attention of a query over a memory (Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473, equations 5 and 6):

        weights = softmax_j(score(query_t, key_j)),  context_t = sum_j weights_tj memory_j
    """

    def project(self, memory: Tensor) -> Tensor:
        """Keys (batch, source, key) of a memory (batch, source, memory)."""
        raise NotImplementedError

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """Scores (batch, target, source) of queries (batch, target, query)."""
        raise NotImplementedError

    def forward(self, query: Tensor, keys: Tensor, memory: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """
        Args:
            query: (batch, target, query).
            keys: what `project` made of the memory, (batch, source, key).
            memory: (batch, source, memory).
            mask: (batch, source), true at real tokens; `None` where there is no padding.

        Returns:
            The context (batch, target, memory) and the weights (batch, 1, target, source), whose rows sum to one over
            the real tokens and are zero elsewhere.
        """
        scores = self.score(query, keys)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, :], torch.finfo(scores.dtype).min)
        precision = torch.promote_types(scores.dtype, torch.float32)  # halves lose too much in a long sum
        weights = torch.softmax(scores, dim=-1, dtype=precision).to(memory.dtype)[:, None]
        context = (weights @ memory[:, None])[:, 0]
        return context, weights


class AdditiveAttention(Attention):
    """
    score(s, h) = v^T tanh(W s + U h + b)  (Bahdanau et al., 2015, appendix A.1.2; "concat" in Luong's terms)

    Initialised Xavier uniform, bias zero.
    """

    def __init__(self, query_size: int, memory_size: int, attention_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, attention_size, bias=False)
        self.memory = nn.Linear(memory_size, attention_size)
        self.energy = nn.Linear(attention_size, 1, bias=False)

    def project(self, memory: Tensor) -> Tensor:
        return self.memory(memory)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        hidden = torch.tanh(self.query(query)[:, :, None] + keys[:, None])  # (batch, target, source, attention)
        return self.energy(hidden)[..., 0]


class DotAttention(Attention):
    """score(s, h) = s^T h  (Luong et al., 2015, https://arxiv.org/abs/1508.04025, equation 8)"""

    def project(self, memory: Tensor) -> Tensor:
        return memory

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        return query @ keys.transpose(1, 2)


class GeneralAttention(DotAttention):
    """
    score(s, h) = s^T W h  (Luong et al., 2015, https://arxiv.org/abs/1508.04025, equation 8)

    Initialised Xavier uniform.
    """

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__()
        self.memory = nn.Linear(memory_size, query_size, bias=False)

    def project(self, memory: Tensor) -> Tensor:
        return self.memory(memory)


def build_attention(attention_type: str, query_size: int, memory_size: int, attention_size: int) -> Attention:
    """The attention of that name; `attention_size` is the width of the hidden layer where there is one."""
    if attention_type == "additive":
        return AdditiveAttention(query_size, memory_size, attention_size)
    if attention_type == "dot":
        return DotAttention()
    return GeneralAttention(query_size, memory_size)
