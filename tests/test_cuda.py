"""On a GPU the models compute what they compute on a CPU, which the other tests check."""

import copy

import pytest
import torch
from test_causal_lm import MODELS
from test_causal_lm import tiny_ids as causal_ids
from test_causal_lm import tiny_model as causal_model
from test_classification import batch as classification_batch
from test_classification import classifier
from test_labelling import ALL, labelling_batch, labelling_model
from test_modeling import VARIANTS, source
from test_question_answering import INPUT_IDS, reader
from tiny import COMBINATIONS, SOME_COMBINATIONS, name, tiny_batch, tiny_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

# what the variants of other tests lack
OPTIONS = {"copying": {"copy": True}, "loss-without-logits": {"logits_in_training": False}}


@pytest.fixture(autouse=True)
def single_precision():
    """cuDNN rounds to TF32 unless told otherwise."""
    allowed, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    yield
    torch.backends.cudnn.allow_tf32 = allowed


def to_cuda(batch):
    return {key: value.cuda() for key, value in batch.items()}


def check(model, batch):
    """The same loss and the same gradients on both devices, in training mode."""
    twin = copy.deepcopy(model).cuda()
    results = []
    for each, inputs in ((model, batch), (twin, to_cuda(batch))):
        loss = each.train()(**inputs).loss
        loss.backward()
        gradients = [p.grad for p in each.parameters() if p.grad is not None]
        assert len(gradients) > 5
        results.append([loss.detach(), *gradients])
    for of_cpu, of_gpu in zip(*results, strict=True):
        torch.testing.assert_close(of_gpu.cpu(), of_cpu, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("combination", COMBINATIONS, ids=name)
def test_every_combination_trains_as_on_a_cpu(combination):
    model = tiny_model(**combination)
    check(model, tiny_batch(model))


@pytest.mark.parametrize("variant", [*VARIANTS.values(), *OPTIONS.values()], ids=[*VARIANTS, *OPTIONS])
def test_every_variant_trains_as_on_a_cpu(variant):
    model = tiny_model(**variant)
    check(model, tiny_batch(model))


@pytest.mark.parametrize("overrides", MODELS.values(), ids=MODELS)
def test_a_language_model_trains_as_on_a_cpu(overrides):
    ids = causal_ids()
    check(causal_model(**overrides), {"input_ids": ids, "labels": ids})


def test_the_other_heads_train_as_on_a_cpu():
    model = labelling_model(**ALL)
    check(model, labelling_batch(model))
    check(classifier(), classification_batch() | {"labels": torch.tensor([2, 0, 1])})
    positions = {"start_positions": torch.tensor([4, 5]), "end_positions": torch.tensor([6, 7])}
    check(reader(), {"input_ids": INPUT_IDS, **positions})


@pytest.mark.parametrize("cell_type", ["gru", "lstm", "rnn_tanh"])
def test_mixed_precision_comes_near_the_full_one(cell_type):
    model = tiny_model(cell_type=cell_type).cuda().train()
    batch = to_cuda(tiny_batch(model))
    loss = model(**batch).loss
    with torch.autocast("cuda", dtype=torch.bfloat16):
        low = model(**batch).loss
    low.backward()
    torch.testing.assert_close(low, loss, rtol=0.02, atol=0.02)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("combination", [*SOME_COMBINATIONS, {"copy": True, "coverage": True}], ids=name)
def test_the_same_tokens_are_generated_as_on_a_cpu(combination, num_beams):
    model = tiny_model(**combination)
    inputs = source(tiny_batch(model))
    expected = model.generate(**inputs, num_beams=num_beams, max_new_tokens=12)
    generated = copy.deepcopy(model).cuda().generate(**to_cuda(inputs), num_beams=num_beams, max_new_tokens=12)
    assert generated.tolist() == expected.tolist()
