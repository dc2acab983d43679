"""Matching: what a context says about a question, token by token."""

import torch
from torch import Tensor, nn

from .configuration_attention_rnn import AttentionRnnConfig


class AttentionFlow(nn.Module):
    """
    Bidirectional attention between the tokens c_t of a context and q_j of a question, both taken from one memory (Seo
    et al., 2017, https://arxiv.org/abs/1611.01603, section 2, "attention flow layer"):

        s_tj = w_c^T c_t + w_q^T q_j + c_t^T W q_j
        u_t = sum_j softmax_j(s_tj) q_j                 context to query
        h = sum_t softmax_t(max_j s_tj) c_t             query to context
        g_t = relu(V [c_t; u_t; c_t * u_t; c_t * h; e_t] + b)

    The paper's W is diagonal; a full one compares any unit with any other. e_t is one where the token itself occurs in
    the question (Chen et al., 2017, https://arxiv.org/abs/1704.00051, section 3.2), so that names which training has
    not taught match as well. V makes g_t as narrow as the memory (Clark and Gardner, 2018,
    https://arxiv.org/abs/1710.10723, section 3.1). Initialised Xavier uniform, bias zero.
    """

    def __init__(self, config: AttentionRnnConfig) -> None:
        super().__init__()
        size = config.memory_size
        self.context = nn.Linear(size, 1, bias=False)
        self.question = nn.Linear(size, 1, bias=False)
        self.product = nn.Linear(size, size, bias=False)
        self.merge = nn.Linear(4 * size + 1, size)

    def forward(
        self, memory: Tensor, question_mask: Tensor, context_mask: Tensor, same_token: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """
        Args:
            memory: (batch, source, memory).
            question_mask: true at the tokens of the question, (batch, question); they stand in the first `question`
                positions of the source.
            context_mask: true at the tokens of the context, (batch, source).
            same_token: whether two positions hold the same token, (batch, source, question); `None`: unknown.

        Returns:
            The matched context g, (batch, source, memory), and the weights of context to query, (batch, source,
            question), whose rows sum to one over the question. Rows outside of the context mean nothing.
        """
        question = memory[:, : question_mask.shape[1]]
        scores = self.product(memory) @ question.transpose(1, 2)
        scores = scores + self.context(memory) + self.question(question).transpose(1, 2)
        scores = scores.masked_fill(~question_mask[:, None], torch.finfo(scores.dtype).min)
        precision = torch.promote_types(scores.dtype, torch.float32)  # halves lose too much in a long sum
        weights = torch.softmax(scores, dim=-1, dtype=precision).to(memory.dtype)
        of_question = weights @ question

        best = scores.amax(dim=-1).masked_fill(~context_mask, torch.finfo(scores.dtype).min)
        of_context = torch.softmax(best, dim=-1, dtype=precision).to(memory.dtype)[:, None] @ memory

        occurs = memory.new_zeros(*memory.shape[:2], 1)
        if same_token is not None:
            occurs = (same_token & question_mask[:, None]).any(dim=-1, keepdim=True).to(memory.dtype)
        parts = [memory, of_question, memory * of_question, memory * of_context, occurs]
        return torch.relu(self.merge(torch.cat(parts, dim=-1))), weights
