import numpy as np
import pytest
import torch

from attention_rnn.models.attention import build_attention
from attention_rnn.models.configuration_attention_rnn import ATTENTION_TYPES

BATCH, TARGET, SOURCE, QUERY, MEMORY, HIDDEN = 2, 4, 6, 5, 3, 7
MASK = torch.tensor([[1, 1, 0, 1, 1, 0], [0, 1, 1, 1, 1, 1]]).bool()


def make(attention_type):
    torch.manual_seed(0)
    memory_size = QUERY if attention_type == "dot" else MEMORY
    attention = build_attention(attention_type, QUERY, memory_size, HIDDEN).double()
    query, memory = torch.randn(BATCH, TARGET, QUERY).double(), torch.randn(BATCH, SOURCE, memory_size).double()
    return attention, query, memory


def score_by_hand(attention_type, attention, query, memory):
    """One score, of a query vector and a memory vector, in numpy, from the papers' equations."""
    weights = {name: weight.detach().numpy() for name, weight in attention.named_parameters()}
    if attention_type == "additive":
        hidden = np.tanh(
            weights["query.weight"] @ query + weights["memory.weight"] @ memory + weights["memory.bias"],
        )
        return (weights["energy.weight"] @ hidden)[0]
    if attention_type == "dot":
        return query @ memory
    if attention_type == "general":
        return query @ weights["memory.weight"] @ memory
    raise NotImplementedError(attention_type)


@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
def test_weights_and_context_equal_those_computed_by_hand(attention_type):
    attention, query, memory = make(attention_type)
    context, weights = attention(query, attention.project(memory), memory, MASK)
    for b in range(BATCH):
        real = [j for j in range(SOURCE) if MASK[b, j]]
        for t in range(TARGET):
            scores = [
                score_by_hand(attention_type, attention, query[b, t].numpy(), memory[b, j].numpy()) for j in real
            ]
            expected = np.exp(scores) / np.exp(scores).sum()
            np.testing.assert_allclose(weights[b, 0, t, real].detach().numpy(), expected, rtol=1e-10)
            np.testing.assert_allclose(context[b, t].detach().numpy(), expected @ memory[b, real].numpy(), rtol=1e-10)


@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
def test_rows_sum_to_one_over_real_tokens_and_are_zero_elsewhere(attention_type):
    attention, query, memory = make(attention_type)
    _, weights = attention(query, attention.project(memory), memory, MASK)
    assert weights.shape == (BATCH, 1, TARGET, SOURCE)
    torch.testing.assert_close(weights.sum(-1), torch.ones(BATCH, 1, TARGET).double())
    assert (weights[~MASK[:, None, None].expand_as(weights)] == 0).all()


@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
def test_one_step_equals_the_whole_sequence(attention_type):
    attention, query, memory = make(attention_type)
    keys = attention.project(memory)
    context, weights = attention(query, keys, memory, MASK)
    for t in range(TARGET):
        step_context, step_weights = attention(query[:, t : t + 1], keys, memory, MASK)
        torch.testing.assert_close(step_context, context[:, t : t + 1])
        torch.testing.assert_close(step_weights, weights[:, :, t : t + 1])


@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
def test_weights_in_half_precision_are_computed_in_single(attention_type):
    attention, query, memory = make(attention_type)
    attention, query, memory = attention.bfloat16(), query.bfloat16(), memory.bfloat16()
    context, weights = attention(query, attention.project(memory), memory, MASK)
    assert context.dtype == weights.dtype == torch.bfloat16
    torch.testing.assert_close(weights.float().sum(-1), torch.ones(BATCH, 1, TARGET), atol=0.01, rtol=0)
