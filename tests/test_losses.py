"""Cross entropy without logits in memory: as the plain one, alone, in the model and under the Trainer."""

import pytest
import torch
from test_attention import LargestTensor
from test_trainer import dataset, trainer
from tiny import tiny_batch, tiny_model
from torch.nn.functional import cross_entropy, linear

from attention_rnn.models import losses
from attention_rnn.models.losses import linear_cross_entropy

BATCH, TARGET, WIDTH, VOCABULARY = 3, 5, 4, 7


def inputs(batch=BATCH, target=TARGET, width=WIDTH, vocabulary=VOCABULARY, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    hidden_states = torch.randn(batch, target, width, dtype=dtype, generator=generator, requires_grad=True)
    weight = torch.randn(vocabulary, width, dtype=dtype, generator=generator, requires_grad=True)
    labels = torch.randint(vocabulary, (batch, target), generator=generator)
    labels[0, 3:], labels[-1, 0] = -100, -100
    return hidden_states, weight, labels


def plain(hidden_states, weight, labels, **options):
    return cross_entropy(linear(hidden_states, weight).flatten(0, 1), labels.flatten(), **options)


@pytest.fixture(params=[1, 4, 1000])
def tokens(request, monkeypatch):
    """How many tokens are worked on at a time."""
    monkeypatch.setattr(losses, "MAX_LOGITS", 0)
    monkeypatch.setattr(losses, "MIN_TOKENS", request.param)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_loss_and_gradients_equal_the_plain_ones(tokens, label_smoothing):
    hidden_states, weight, labels = inputs()
    loss = linear_cross_entropy(hidden_states, weight, labels, label_smoothing=label_smoothing)
    expected = plain(hidden_states, weight, labels, label_smoothing=label_smoothing)
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(3 * loss, (hidden_states, weight))
    expected_gradients = torch.autograd.grad(3 * expected, (hidden_states, weight))
    torch.testing.assert_close(gradients, expected_gradients)


def test_the_gradient_is_that_of_differences(tokens):
    hidden_states, weight, labels = inputs()

    def loss(hidden_states, weight):
        return linear_cross_entropy(hidden_states, weight, labels, label_smoothing=0.1)

    assert torch.autograd.gradcheck(loss, (hidden_states, weight))


def test_the_sum_is_divided_by_the_number_of_items_where_it_is_given():
    hidden_states, weight, labels = inputs()
    expected = plain(hidden_states, weight, labels, reduction="sum") / 11
    for number in (11, torch.tensor(11)):
        loss = linear_cross_entropy(hidden_states, weight, labels, num_items_in_batch=number)
        torch.testing.assert_close(loss, expected)


def test_large_logits_do_not_overflow():
    hidden_states, weight, labels = inputs(dtype=torch.float32)
    hidden_states, weight = 100 * hidden_states, 100 * weight
    loss = linear_cross_entropy(hidden_states, weight, labels)
    torch.testing.assert_close(loss, plain(hidden_states, weight, labels))
    assert torch.autograd.grad(loss, weight)[0].isfinite().all()


def test_the_loss_of_a_model_that_is_nearly_sure_is_exact():
    _, weight, labels = inputs(width=30, vocabulary=50)
    hidden_states = 0.8 * weight.detach()[labels.clamp(min=0)]
    expected = plain(hidden_states, weight, labels)
    assert expected < 0.01
    loss = linear_cross_entropy(hidden_states.float(), weight.float(), labels)
    torch.testing.assert_close(loss, expected.float(), atol=0, rtol=1e-4)


@pytest.mark.parametrize("autocast", [True, False])
def test_halves_are_for_the_products_alone(tokens, autocast):
    hidden_states, weight, labels = inputs(dtype=torch.float32 if autocast else torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = linear_cross_entropy(hidden_states, weight, labels)
    gradients = torch.autograd.grad(loss, (hidden_states, weight))
    exact = [tensor.detach().float().requires_grad_() for tensor in (hidden_states, weight)]
    expected = plain(*exact, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, atol=0.02, rtol=0)
    for gradient, given, expected_gradient in zip(
        gradients, (hidden_states, weight), torch.autograd.grad(expected, exact), strict=True
    ):
        assert gradient.dtype == given.dtype
        torch.testing.assert_close(gradient.float(), expected_gradient, atol=0.01, rtol=0)


def test_logits_are_never_held_for_all_tokens():
    hidden_states, weight, labels = inputs(batch=60, target=10, width=4, vocabulary=20_000, dtype=torch.float32)
    with LargestTensor() as largest:
        linear_cross_entropy(hidden_states, weight, labels).backward()
    assert largest.elements <= losses.MAX_LOGITS < labels.numel() * len(weight) // 2


def test_what_needs_no_gradient_gets_none():
    hidden_states, weight, labels = inputs()
    frozen = linear_cross_entropy(hidden_states, weight.detach(), labels)
    expected = torch.autograd.grad(plain(hidden_states, weight, labels), hidden_states)
    torch.testing.assert_close(torch.autograd.grad(frozen, hidden_states), expected)
    with torch.no_grad(), LargestTensor() as largest:
        assert not linear_cross_entropy(hidden_states, weight, labels).requires_grad
    assert largest.elements == (labels != -100).sum() * VOCABULARY


def test_it_is_differentiated_once():
    hidden_states, weight, labels = inputs()
    loss = linear_cross_entropy(hidden_states, weight, labels)
    with pytest.raises(RuntimeError, match="cannot be differentiated twice"):
        torch.autograd.grad(loss, weight, create_graph=True)


def double_loss(logits, labels, vocab_size, num_items_in_batch=None):
    """What transformers does in single precision."""
    total = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    return total / ((labels != -100).sum() if num_items_in_batch is None else num_items_in_batch)


def train_step(model, **options):
    """Loss, logits and gradients of one training step in double precision."""
    model = model.double().train()
    model.loss_function = double_loss
    output = model(**tiny_batch(model), **options)
    output.loss.backward()
    return output.loss, output.logits, [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("options", [{}, {"num_items_in_batch": 40}], ids=["mean", "items"])
@pytest.mark.parametrize(
    "overrides",
    [{}, {"tie_word_embeddings": False}, {"coverage": True, "coverage_loss_weight": 1.0}],
    ids=["tied", "own-head", "coverage"],
)
def test_a_training_step_without_logits_is_the_usual_one(tokens, overrides, options):
    loss, logits, gradients = train_step(tiny_model(logits_in_training=False, **overrides), **options)
    expected_loss, _, expected_gradients = train_step(tiny_model(**overrides), **options)
    assert logits is None
    torch.testing.assert_close(loss, expected_loss)
    torch.testing.assert_close(gradients, expected_gradients)


def test_gradients_of_several_steps_add_up():
    model, usual = tiny_model(logits_in_training=False).train(), tiny_model().train()
    for seed in (0, 1):
        for each in (model, usual):
            each(**tiny_batch(each, seed), num_items_in_batch=26).loss.backward()
    for parameter, expected in zip(model.parameters(), usual.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad)


def test_logits_are_there_where_they_may_be_asked_for():
    model = tiny_model(logits_in_training=False)
    batch = tiny_batch(model)
    usual = tiny_model()(**batch)
    evaluated = model.eval()(**batch)
    torch.testing.assert_close(evaluated.logits, usual.logits)
    torch.testing.assert_close(evaluated.loss, usual.loss)
    model.train()
    assert model(**batch).logits is None
    decoder_input_ids = model.prepare_decoder_input_ids_from_labels(batch.pop("labels"))
    assert model(**batch, decoder_input_ids=decoder_input_ids).logits is not None
    copying = tiny_model(logits_in_training=False, copy=True).train()
    assert copying(**tiny_batch(copying)).logits is not None


def test_a_head_that_is_no_plain_linear_layer_makes_the_logits_itself():
    class Wrapped(torch.nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs) + 1

    model = tiny_model(logits_in_training=False).train()
    model.lm_head.__class__ = Wrapped
    assert model(**tiny_batch(model)).logits is not None


@pytest.mark.parametrize("label_smoothing_factor", [0.0, 0.1])
def test_the_trainer_gives_the_same_steps_and_metrics(tmp_path, label_smoothing_factor):
    results = []
    for logits_in_training in (True, False):
        trained = trainer(
            tmp_path,
            model_overrides={"logits_in_training": logits_in_training},
            compute_metrics=lambda prediction: {"width": prediction.predictions.shape[-1]},
            label_smoothing_factor=label_smoothing_factor,
            gradient_accumulation_steps=2,
            max_steps=2,
            optim="sgd",
            learning_rate=1.0,
        )
        trained.train()
        metrics = trained.evaluate(dataset()[:4])
        results.append([metrics["eval_width"], metrics["eval_loss"], *trained.model.state_dict().values()])
    for usual, lean in zip(*results, strict=True):
        torch.testing.assert_close(lean, usual)
