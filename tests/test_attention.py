import copy
import sys

import numpy as np
import pytest
import torch
from tiny import tiny_config
from torch.utils._python_dispatch import TorchDispatchMode

from attention_rnn.models import attention as attention_module
from attention_rnn.models.attention import ATTENTIONS, Memory, additive_scores

BATCH, TARGET, SOURCE, QUERY, HIDDEN, HEADS = 2, 4, 9, 6, 7, 3
MASKS = {
    "none": None,
    "right": torch.arange(SOURCE) < torch.tensor([[7], [9]]),
    "holes": torch.tensor([[1, 1, 0, 1, 1, 0, 1, 0, 1], [0, 1, 1, 1, 1, 1, 0, 1, 1]]).bool(),
}
every_attention = pytest.mark.parametrize("attention_type", ATTENTIONS)
every_mask = pytest.mark.parametrize("mask", MASKS)
with_and_without_coverage = pytest.mark.parametrize("coverage", [False, True])
every_attention_and_coverage = pytest.mark.parametrize(
    ("attention_type", "coverage"),
    [(name, covers) for name in ATTENTIONS for covers in (False, True) if not (name == "aligned" and covers)],
)


def make(attention_type, coverage=False, **overrides):
    torch.manual_seed(0)
    config = tiny_config(
        attention_type=attention_type,
        hidden_size=QUERY,
        attention_size=HIDDEN,
        num_attention_heads=HEADS,
        coverage=coverage,
        **overrides,
    )
    attention = ATTENTIONS[attention_type](config).double()
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter)
    return (
        attention,
        torch.randn(BATCH, TARGET, QUERY).double(),
        torch.randn(BATCH, SOURCE, config.memory_size).double(),
    )


def attend(attention, query, memory, mask, alignment=None):
    keys, values = attention.project(memory)
    if alignment is None:
        alignment = memory.new_zeros(memory.shape[0], attention.alignment_features, memory.shape[1])
    return attention(query, Memory(keys, values, mask), alignment, None)


def softmax(scores):
    exponentials = np.exp(scores - scores.max())
    return exponentials / exponentials.sum()


def weights_by_hand(attention_type, attention, query, memory, last_weights, coverage):
    """
    The weights (heads, source) of one query over a memory without padding, from the papers' equations.

    `coverage` is the sum of the weights so far, or `None` for attention without coverage.
    """
    w = {name: weight.detach().numpy() for name, weight in attention.named_parameters()}
    length = len(memory)

    def with_coverage(keys):
        return keys if coverage is None else keys + coverage[:, None] * w["coverage.weight"][:, 0]

    if attention_type == "aligned":
        place = last_weights.argmax() + 1 if last_weights.any() else 0
        return np.eye(length)[min(place, length - 1)][None]
    if attention_type in ("additive", "concat", "location"):
        keys = memory @ w["memory.weight"].T + w.get("memory.bias", 0)
        if attention_type == "location":
            filters = w["convolution.weight"][:, 0]  # (channels, kernel)
            half = filters.shape[1] // 2
            padded = np.pad(last_weights, half)
            features = np.stack([filters @ padded[j : j + 2 * half + 1] for j in range(length)])
            keys = keys + features @ w["location.weight"].T
        hidden = np.tanh(w["query.weight"] @ query + with_coverage(keys))
        return softmax(hidden @ w["energy.weight"][0])[None]
    if attention_type in ("dot", "scaled_dot"):
        scores = with_coverage(memory) @ query
        return softmax(scores / np.sqrt(QUERY) if attention_type == "scaled_dot" else scores)[None]
    if attention_type in ("general", "local"):
        scores = with_coverage(memory @ w["memory.weight"].T) @ query
        if attention_type == "general":
            return softmax(scores)[None]
        center = w["position_energy.weight"][0] @ np.tanh(w["position.weight"] @ query)
        center = length / (1 + np.exp(-center))
        distance = np.arange(length) - center
        window = attention.window_size
        products = np.exp(scores) * np.exp(-(distance**2) / (2 * (window / 2) ** 2)) * (np.abs(distance) <= window)
        return (products / products.sum())[None]
    queries = (w["query.weight"] @ query + w["query.bias"]).reshape(HEADS, -1)
    keys = with_coverage(memory @ w["key.weight"].T + w["key.bias"]).reshape(length, HEADS, -1)
    return np.stack(
        [softmax(keys[:, head] @ queries[head] / np.sqrt(QUERY // HEADS)) for head in range(HEADS)],
    )


@every_attention_and_coverage
@every_mask
def test_weights_and_context_equal_those_computed_by_hand(attention_type, mask, coverage):
    attention, query, memory = make(attention_type, coverage)
    context, weights, _ = attend(attention, query, memory, MASKS[mask])
    _, values = attention.project(memory)
    for b in range(BATCH):
        real = np.arange(SOURCE) if MASKS[mask] is None else np.flatnonzero(MASKS[mask][b].numpy())
        last_weights, seen = np.zeros(len(real)), np.zeros(len(real))
        for t in range(TARGET):
            expected = weights_by_hand(
                attention_type,
                attention,
                query[b, t].numpy(),
                memory[b, real].numpy(),
                last_weights,
                seen if coverage else None,
            )
            last_weights = expected.mean(0)
            seen = seen + last_weights
            np.testing.assert_allclose(weights[b, :, t, real].detach().numpy(), expected, rtol=1e-8, atol=1e-12)
            head_values = values[b, real].detach().numpy().reshape(len(real), len(expected), -1)
            expected_context = np.einsum("hs,shd->hd", expected, head_values).reshape(-1)
            if attention_type == "multi_head":
                output = attention.output
                expected_context = output.weight.detach().numpy() @ expected_context + output.bias.detach().numpy()
            np.testing.assert_allclose(context[b, t].detach().numpy(), expected_context, rtol=1e-8)


@every_attention_and_coverage
def test_rows_sum_to_one_over_real_tokens_and_are_zero_elsewhere(attention_type, coverage):
    attention, query, memory = make(attention_type, coverage)
    mask = MASKS["holes"]
    _, weights, _ = attend(attention, query, memory, mask)
    assert weights.shape == (BATCH, attention.heads, TARGET, SOURCE)
    torch.testing.assert_close(weights.sum(-1), torch.ones(BATCH, attention.heads, TARGET).double())
    assert (weights[~mask[:, None, None].expand_as(weights)] == 0).all()


@every_attention_and_coverage
def test_one_step_equals_the_whole_sequence(attention_type, coverage):
    attention, query, memory = make(attention_type, coverage)
    mask, alignment = MASKS["holes"], None
    context, weights, alignments = attend(attention, query, memory, mask)
    for t in range(TARGET):
        step = attend(attention, query[:, t : t + 1], memory, mask, alignment)
        torch.testing.assert_close(step[0], context[:, t : t + 1])
        torch.testing.assert_close(step[1], weights[:, :, t : t + 1])
        torch.testing.assert_close(step[2], alignments[:, t : t + 1])
        alignment = step[2][:, 0]


@every_attention
def test_local_attention_is_confined_to_its_window_and_aligned_attention_to_a_token(attention_type):
    attention, query, memory = make(attention_type, local_window_size=1)
    _, weights, _ = attend(attention, query, memory, None)
    seen = (weights > 0).sum(-1)
    if attention_type == "aligned":
        assert (seen == 1).all()
    else:
        assert (seen <= 2).all() if attention_type == "local" else (seen == SOURCE).all()


@every_attention
def test_weights_in_half_precision_are_computed_in_single(attention_type):
    attention, query, memory = make(attention_type)
    attention, query, memory = attention.bfloat16(), query.bfloat16(), memory.bfloat16()
    context, weights, _ = attend(attention, query, memory, MASKS["holes"])
    assert context.dtype == weights.dtype == torch.bfloat16
    ones = torch.ones(BATCH, attention.heads, TARGET)
    torch.testing.assert_close(weights.float().sum(-1), ones, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("aligned_steps", "positions", "steps"),
    [
        (1, [[0, 0, 0, 1, 2], [0, 1, 2, 2, 2]], [[0, 1, 1, 2, 3], [1, 2, 3, 3, 3]]),
        (2, [[0, 0, 0, 0, 1], [0, 0, 1, 1, 1]], [[0, 1, 1, 2, 3], [1, 2, 3, 4, 4]]),
    ],
)
def test_aligned_attention_does_not_move_at_padding_and_stays_at_the_last_token(aligned_steps, positions, steps):
    attention, query, memory = make("aligned", aligned_steps=aligned_steps)
    keys, values = attention.project(memory)
    moves = torch.tensor([[0, 1, 0, 1, 1], [1, 1, 1, 1, 1]]).bool()
    query = torch.cat([query] * 2, dim=1)[:, :5]
    mask = torch.arange(SOURCE) < torch.tensor([[SOURCE], [4 - aligned_steps]])
    start = memory.new_zeros(BATCH, 1, SOURCE)
    context, weights, alignments = attention(query, Memory(keys, values, mask), start, moves)
    assert weights[:, 0].argmax(-1).tolist() == positions
    expected = memory[0, positions[0][4]]
    if aligned_steps == 2:
        expected = expected + attention.embed_step.weight[0]  # the first of the two at its token
    torch.testing.assert_close(context[0, 4], expected)
    # at the last token stands how many steps were made: none before the first token
    torch.testing.assert_close(alignments[:, :, 0], weights[:, 0] * torch.tensor(steps)[..., None])


def plain_scores(query, keys, energy):
    return torch.tanh(query[:, :, None] + keys[:, None]) @ energy


def scores_inputs(batch=2, target=3, source=5, width=7, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = ((batch, target, width), (batch, source, width), (width,))
    return [torch.randn(shape, dtype=dtype, generator=generator, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (3, 1, 4, 5), (1, 4, 1, 1), (1, 1, 1, 2)])
# in one block; in blocks of some rows, of some steps, of some positions, of one position
@pytest.mark.parametrize("block_size", [1000, 110, 75, 16, 1])
def test_additive_scores_and_their_gradients_equal_the_plain_formula(monkeypatch, shape, block_size):
    monkeypatch.setattr(attention_module, "BLOCK_SIZE", block_size)
    inputs = scores_inputs(*shape)
    scores, expected = additive_scores(*inputs), plain_scores(*inputs)
    torch.testing.assert_close(scores, expected)
    upstream = torch.randn_like(scores)
    gradients = torch.autograd.grad(scores, inputs, upstream)
    for gradient, expected_gradient in zip(gradients, torch.autograd.grad(expected, inputs, upstream), strict=True):
        torch.testing.assert_close(gradient, expected_gradient)


def test_the_gradient_of_additive_scores_is_that_of_their_differences():
    assert torch.autograd.gradcheck(additive_scores, scores_inputs())


def test_additive_scores_of_large_values_are_finite():
    query, keys, energy = scores_inputs(dtype=torch.float32)
    query, keys = 200 * query, -200 * keys
    scores = additive_scores(query, keys, energy)
    torch.testing.assert_close(scores, plain_scores(query, keys, energy))
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(scores.sum(), (query, keys, energy)))


def test_additive_scores_cannot_be_differentiated_twice():
    inputs = scores_inputs()
    (gradient, *_) = torch.autograd.grad(additive_scores(*inputs).square().sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_additive_scores_are_in_single_precision_under_autocast():
    inputs = scores_inputs(dtype=torch.float32)
    halves = [inputs[0].bfloat16(), *inputs[1:]]
    with torch.autocast("cpu", torch.bfloat16):
        scores = additive_scores(*halves)
        gradients = torch.autograd.grad(scores.sum(), inputs)
    expected = plain_scores(halves[0].float(), *inputs[1:])
    torch.testing.assert_close(scores, expected)
    for gradient, expected_gradient in zip(gradients, torch.autograd.grad(expected.sum(), inputs), strict=True):
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, expected_gradient, atol=0.02, rtol=0.01)


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that an operation has returned."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.untyped_storage().nbytes() // result.element_size())
        return result


def test_additive_scores_never_hold_the_hidden_layer_of_all_pairs():
    inputs = scores_inputs(4, 32, 32, 512, dtype=torch.float32)
    with LargestTensor() as largest:
        additive_scores(*inputs).sum().backward()
    assert largest.elements <= attention_module.BLOCK_SIZE < 4 * 32 * 32 * 512


additive_attention = pytest.mark.parametrize("attention_type", ["additive", "concat", "location"])


@with_and_without_coverage
@every_mask
@additive_attention
def test_attention_is_the_same_with_the_plain_formula(monkeypatch, attention_type, mask, coverage):
    results = []
    for plain_below in (sys.maxsize, 0):
        monkeypatch.setattr(attention_module, "PLAIN_BELOW", plain_below)
        attention, query, memory = make(attention_type, coverage)
        inputs = [query.requires_grad_(), memory.requires_grad_(), *attention.parameters()]
        context, weights, _ = attend(attention, query, memory, MASKS[mask])
        gradients = torch.autograd.grad(context.square().sum() + weights.square().sum(), inputs, allow_unused=True)
        results.append([context, weights, *(gradient for gradient in gradients if gradient is not None)])
    for plain, blocks in zip(*results, strict=True):
        torch.testing.assert_close(blocks, plain)


def test_large_sizes_take_the_blocks_and_traced_ones_the_plain_formula(monkeypatch):
    calls = []

    def counted(*args):
        calls.append(args)
        return additive_scores(*args)

    monkeypatch.setattr(attention_module, "additive_scores", counted)
    monkeypatch.setattr(attention_module, "PLAIN_BELOW", BATCH * TARGET * SOURCE * HIDDEN)
    attention, query, memory = make("additive")
    keys, _ = attention.project(memory)

    class Score(torch.nn.Module):
        def forward(self, query, keys):
            return attention.score(query, Memory(keys, keys, None), keys)

    expected = Score()(query, keys)
    assert len(calls) == 1
    Score()(query[:, 1:], keys)
    assert len(calls) == 1
    torch.testing.assert_close(torch.compile(Score(), backend="eager", fullgraph=True)(query, keys), expected)
    torch.testing.assert_close(torch.export.export(Score(), (query, keys.detach())).module()(query, keys), expected)
    assert len(calls) == 1


def test_the_window_of_local_attention_is_where_it_is_in_single_precision_also_in_bfloat16():
    torch.manual_seed(0)
    attention = ATTENTIONS["local"](tiny_config(attention_type="local", local_window_size=3))
    memory, query = torch.randn(4, 300, 20), torch.randn(4, 7, 10)
    windows = []
    for dtype in (torch.float32, torch.bfloat16):
        layer = copy.deepcopy(attention).to(dtype)
        # what is rounded before is the same for both
        vectors, queries = memory.bfloat16().to(dtype), query.bfloat16().to(dtype)
        seen = Memory(*layer.project(vectors), None)
        scores = layer.score(queries, seen, queries[:, :0])
        windows.append(scores[:, 0] > torch.finfo(dtype).min)
    first = [window.int().argmax(dim=-1) for window in windows]
    assert (first[0] - first[1]).abs().max() <= 1


def test_coverage_is_summed_in_single_precision():
    attention = ATTENTIONS["additive"](tiny_config(attention_type="additive", coverage=True)).bfloat16()
    memory = Memory(*attention.project(torch.randn(1, 6, 20).bfloat16()), None)
    alignment = torch.zeros(1, 1, 6)
    with torch.no_grad():
        _, weights, alignments = attention(torch.randn(1, 400, 10).bfloat16(), memory, alignment, None)
    assert alignments.dtype == torch.float32
    torch.testing.assert_close(alignments[0, -1, 0], weights[0, 0].float().sum(dim=0))


def test_the_reference_backend_holds_for_additive_scores(monkeypatch):
    monkeypatch.setattr(attention_module, "PLAIN_BELOW", 0)
    monkeypatch.setattr(attention_module, "additive_scores", None)
    attention = ATTENTIONS["additive"](tiny_config(recurrence_backend="reference"))
    memory = Memory(*attention.project(torch.randn(2, 6, 20)), None)
    assert attention.score(torch.randn(2, 3, 10), memory, torch.zeros(2, 0, 6)).shape == (2, 1, 3, 6)
