import pytest
import torch
from tiny import COMBINATIONS, name, tiny_batch, tiny_model

from attention_rnn.models.decoder import AttentionRnnDecoder
from attention_rnn.models.products import MIN_WEIGHTS, GatheredProducts, prepare_product

STEPWISE = [
    combination for combination in COMBINATIONS if combination.get("context_feeding") in ("input", "conditional")
]


@pytest.mark.parametrize("width", [3, 300])
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_prepared_product_equals_linear(width, has_bias):
    torch.manual_seed(0)
    layer = torch.nn.Linear(width, 7 * width, bias=has_bias)
    assert (layer.weight.numel() >= MIN_WEIGHTS) == (width == 300)  # both ways are tested
    product = prepare_product(layer.weight.detach(), layer.bias, rows=5)
    for rows in (5, 1, 11):
        inputs = torch.randn(rows, width)
        torch.testing.assert_close(product(inputs), layer(inputs))


def test_a_prepared_product_in_half_precision_takes_and_gives_single():
    layer = torch.nn.Linear(20, 30)
    inputs = torch.randn(4, 20)
    output = prepare_product(layer.weight.detach(), layer.bias.detach(), 4, torch.bfloat16)(inputs)
    assert output.dtype == torch.float32
    assert not torch.equal(output, layer(inputs))
    torch.testing.assert_close(output, layer(inputs), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("combination", STEPWISE, ids=name)
def test_a_gathered_loop_has_the_gradients_of_the_plain_one(combination, monkeypatch):
    model = tiny_model(**combination).double()
    batch = tiny_batch(model)
    results = []
    for gathers in (True, False):
        monkeypatch.setattr(AttentionRnnDecoder, "_may_gather", lambda self: gathers)  # noqa: B023
        loss = model(**batch).loss
        results.append((loss, *torch.autograd.grad(loss, list(model.parameters()))))
    for gathered, plain in zip(*results, strict=True):
        torch.testing.assert_close(gathered, plain, rtol=1e-10, atol=1e-12)


def test_the_gradient_of_a_weight_is_one_product(monkeypatch):
    model = tiny_model(context_feeding="input").double()
    gathered = []
    original = torch.cat

    def cat(tensors, *args, **kwargs):
        gathered.append(len(tensors))
        return original(tensors, *args, **kwargs)

    loss = model(**tiny_batch(model)).loss
    monkeypatch.setattr(torch, "cat", cat)
    loss.backward()
    linears = [module for module in model.model.decoder.modules() if type(module) is torch.nn.Linear]
    steps = tiny_batch(model)["labels"].shape[1]
    in_the_loop = len(linears) - 1  # keys are made of the memory before the loop
    assert gathered == [steps] * 2 * in_the_loop


def test_a_loop_is_gathered_once_for_each_backward_pass():
    layer = torch.nn.Linear(4, 4).double()
    inputs = torch.randn(3, 5, 4).double()

    def run():
        state = inputs[:, 0]
        for step in range(5):
            state = torch.tanh(layer(state)) + inputs[:, step]
        return state.sum()

    expected = torch.autograd.grad(run(), list(layer.parameters()))
    with GatheredProducts():
        total = run()
    for _ in range(2):  # what the first pass has gathered does not count again
        gradients = torch.autograd.grad(total, list(layer.parameters()), retain_graph=True)
        torch.testing.assert_close(gradients, expected)


def test_gathered_products_are_half_under_autocast():
    layer, inputs = torch.nn.Linear(16, 16), torch.randn(3, 16)
    with torch.autocast("cpu", torch.bfloat16), GatheredProducts():
        output = layer(layer(inputs))
    output.float().sum().backward()
    torch.testing.assert_close(output.float(), layer(layer(inputs)), atol=0.05, rtol=0.05)
    assert not torch.equal(output.float(), layer(layer(inputs)))
    assert layer.weight.grad.dtype == torch.float32


def test_a_second_derivative_is_refused():
    layer, inputs = torch.nn.Linear(4, 4), torch.randn(3, 4, requires_grad=True)
    with GatheredProducts():
        output = layer(layer(inputs))
    (gradient,) = torch.autograd.grad(output.square().sum(), inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
