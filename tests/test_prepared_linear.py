import pytest
import torch
import torch.nn.utils.prune

from attention_rnn.models.prepared_linear import MIN_WEIGHTS, is_plain, prepare_product


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


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")
@pytest.mark.parametrize(("rows", "width", "expected"), [(1, 300, False), (2, 300, True), (2, 100, False)])
def test_few_multiplications_are_not_worth_a_call_of_onednn(rows, width, expected):
    product = prepare_product(torch.randn(7 * width, width), None, rows)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        product(torch.randn(rows, width))
    assert any("mkldnn" in event.key for event in profile.key_averages()) == expected


def test_a_prepared_product_in_half_precision_takes_and_gives_single():
    layer = torch.nn.Linear(20, 30)
    inputs = torch.randn(4, 20)
    output = prepare_product(layer.weight.detach(), layer.bias.detach(), 4, torch.bfloat16)(inputs)
    assert output.dtype == torch.float32
    assert not torch.equal(output, layer(inputs))
    torch.testing.assert_close(output, layer(inputs), atol=0.05, rtol=0.05)


def test_a_plain_layer_has_nothing_around_its_product():
    assert is_plain(torch.nn.Linear(2, 3))
    hooked, replaced, pruned, normed = (torch.nn.Linear(2, 3) for _ in range(4))
    hooked.register_forward_hook(lambda *args: None)
    replaced.forward = lambda inputs: inputs
    torch.nn.utils.prune.l1_unstructured(pruned, "weight", amount=1)
    torch.nn.utils.parametrizations.weight_norm(normed)

    class Other(torch.nn.Linear):
        pass

    for layer in (hooked, replaced, pruned, normed, Other(2, 3), torch.nn.Identity()):
        assert not is_plain(layer), layer
