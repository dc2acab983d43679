"""Tools of torch itself that take hold of modules: functional gradients, pruning, hooks, parametrisations."""

import copy

import pytest
import torch
from clients import MODELS, inputs_for, sources_for
from tiny import tiny_batch, tiny_model
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parametrizations, prune

CELLS = ["gru", "lstm", "rnn_tanh", "rnn_relu"]
FEEDINGS = ["parallel", "input", "conditional"]


def recurrent_matrix(model):
    part = model.model.encoder.layers[0].cells[0] if model.config.is_encoder_decoder else model.model.layers[0].cell
    return part.hidden_to_hidden


def decoder_matrix(model):
    return (model.model.decoder if model.config.is_encoder_decoder else model.model).layers[-1].cell.hidden_to_hidden


def reference(model):
    """The same model with the plain loop."""
    plain = copy.deepcopy(model)
    for module in plain.modules():
        if hasattr(module, "backend"):
            module.backend = "reference"
    return plain


def assert_functional_gradients(model):
    """They are those of `backward`, and the model is afterwards what it was."""
    batch = inputs_for(model)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    gradients = grad(lambda values: functional_call(model, values, kwargs=batch).loss)(parameters)
    model(**batch).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("cell_type", CELLS)
def test_functional_gradients(kind, cell_type):
    assert_functional_gradients(MODELS[kind](cell_type=cell_type))


@pytest.mark.parametrize("feeding", ["input", "conditional"])
def test_functional_gradients_step_by_step(feeding):
    assert_functional_gradients(tiny_model(source_vocab_size=23, context_feeding=feeding))


def test_functional_gradients_in_training_without_logits():
    assert_functional_gradients(tiny_model(source_vocab_size=23, logits_in_training=False).train())


@pytest.mark.parametrize("kind", MODELS)
def test_functional_call_uses_the_weights_that_it_is_given_and_puts_back_its_own(kind):
    model, other = MODELS[kind](seed=0), MODELS[kind](seed=1)
    batch, own = inputs_for(model), dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        logits = functional_call(model, dict(other.named_parameters()), kwargs=batch).logits
        torch.testing.assert_close(logits, other(**batch).logits)
    after = dict(model.named_parameters(remove_duplicate=False))
    assert after.keys() == own.keys()
    assert all(after[name] is own[name] for name in own)


def test_gradients_of_every_example_at_once():
    model = tiny_model(cell_type="rnn_tanh", context_feeding="output")
    sources = tiny_batch(model)["input_ids"]
    embeddings = model.get_input_embeddings()(sources).detach()
    targets = tiny_batch(model)["labels"].clamp(min=0)

    def score(embeddings, target):
        return model(inputs_embeds=embeddings[None], decoder_input_ids=target[None]).logits[0, -1, 5]

    gradients = vmap(grad(score))(embeddings, targets)
    for row in range(len(sources)):
        torch.testing.assert_close(gradients[row], grad(score)(embeddings[row], targets[row]))


@pytest.mark.parametrize("kind", ["tied", "causal"])
@pytest.mark.parametrize("cell_type", ["gru", "lstm"])
@pytest.mark.parametrize("find", [recurrent_matrix, decoder_matrix])
def test_pruned_weights_stay_zero_through_training(kind, cell_type, find):
    model = MODELS[kind](cell_type=cell_type).train()
    prune.random_unstructured(find(model), "weight", amount=0.5)
    mask = find(model).weight_mask
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        model(**inputs_for(model)).loss.backward()
        assert find(model).weight_orig.grad[mask == 0].eq(0).all()
        assert find(model).weight_orig.grad[mask == 1].ne(0).any()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs_for(model)).logits, reference(model)(**inputs_for(model)).logits)
    expected = model.generate(**sources_for(model), max_new_tokens=5)
    prune.remove(find(model), "weight")
    assert find(model).weight[mask == 0].eq(0).all()
    assert torch.equal(model.generate(**sources_for(model), max_new_tokens=5), expected)


@pytest.mark.parametrize("kind", ["tied", "causal"])
@pytest.mark.parametrize("cell_type", CELLS)
@pytest.mark.parametrize("find", [recurrent_matrix, decoder_matrix])
def test_a_hook_changes_what_a_recurrent_matrix_returns(kind, cell_type, find):
    model = MODELS[kind](cell_type=cell_type)
    halved = copy.deepcopy(model)
    with torch.no_grad():
        find(halved).weight.mul_(0.5)
        find(halved).bias.mul_(0.5)
    find(model).register_forward_hook(lambda module, inputs, output: 0.5 * output)
    for context in (torch.no_grad(), torch.enable_grad()):
        with context:
            logits, expected = model(**inputs_for(model)).logits, halved(**inputs_for(model)).logits
        torch.testing.assert_close(logits, expected)
    for options in ({}, {"num_beams": 3}):
        expected = halved.generate(**sources_for(model), max_new_tokens=5, **options)
        assert torch.equal(model.generate(**sources_for(model), max_new_tokens=5, **options), expected)


@pytest.mark.parametrize("cell_type", CELLS)
def test_a_hook_sees_every_step(cell_type):
    model = tiny_model(cell_type=cell_type)
    calls = []
    recurrent_matrix(model).register_forward_pre_hook(lambda module, inputs: calls.append(inputs[0].shape))
    batch = tiny_batch(model)
    model(**batch)
    assert len(calls) == batch["input_ids"].shape[1]


@pytest.mark.parametrize("cell_type", ["gru", "lstm"])
@pytest.mark.parametrize("name", ["input_to_hidden", "energy", "lm_head"])
def test_a_hook_on_another_matrix_is_called(cell_type, name):
    model = tiny_model(cell_type=cell_type, logits_in_training=False).train()
    calls = []
    for path, module in model.named_modules():
        if path.endswith(name):
            module.register_forward_hook(lambda module, inputs, output: calls.append(module))
    model(**tiny_batch(model))
    assert set(calls) == {module for path, module in model.named_modules() if path.endswith(name)}


@pytest.mark.parametrize("cell_type", CELLS)
def test_a_parametrised_recurrent_matrix_trains_and_generates(cell_type):
    model = tiny_model(cell_type=cell_type)
    parametrizations.weight_norm(recurrent_matrix(model))
    parametrizations.spectral_norm(decoder_matrix(model))
    batch = tiny_batch(model)
    torch.testing.assert_close(model(**batch).logits, reference(model)(**batch).logits)
    model(**batch).loss.backward()
    assert recurrent_matrix(model).parametrizations.weight.original0.grad.any()
    sources = {name: value for name, value in batch.items() if name != "labels"}
    assert torch.equal(
        model.generate(**sources, max_new_tokens=5), reference(model).generate(**sources, max_new_tokens=5)
    )


class Noisy(nn.Linear):
    """A matrix of a user, with an equation of its own."""

    def forward(self, inputs):
        return super().forward(inputs).clamp(-0.2, 0.2)


@pytest.mark.parametrize("cell_type", CELLS)
def test_a_matrix_of_a_user_multiplies_in_its_own_way(cell_type):
    model = tiny_model(cell_type=cell_type)
    recurrent_matrix(model).__class__ = Noisy
    decoder_matrix(model).__class__ = Noisy
    batch = tiny_batch(model)
    torch.testing.assert_close(model(**batch).logits, reference(model)(**batch).logits)
    sources = {name: value for name, value in batch.items() if name != "labels"}
    assert torch.equal(
        model.generate(**sources, max_new_tokens=5), reference(model).generate(**sources, max_new_tokens=5)
    )
