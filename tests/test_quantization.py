import pytest
import torch
from tiny import SOME_COMBINATIONS, name, tiny_batch, tiny_config, tiny_model

from attention_rnn import AttentionRnnModel, quantize


@pytest.mark.parametrize("combination", SOME_COMBINATIONS, ids=name)
def test_logits_are_close_to_those_of_the_model(combination):
    model = tiny_model(**combination)
    batch = tiny_batch(model)
    with torch.no_grad():
        expected, logits = model(**batch).logits, quantize(model)(**batch).logits
    assert not torch.equal(logits, expected)
    assert (logits - expected).abs().mean() < 0.2 * expected.abs().mean()


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beam"])
def test_it_generates(options):
    model = quantize(tiny_model())
    batch = tiny_batch(model)
    batch.pop("labels")
    sequences = model.generate(**batch, **options, max_new_tokens=6, min_new_tokens=6)
    assert sequences.shape == (3, 7)


def test_the_model_itself_stays_as_it_is():
    model = tiny_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    quantize(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_model_without_a_decoder_is_refused():
    with pytest.raises(TypeError, match="`model` must be an AttentionRnnForConditionalGeneration"):
        quantize(AttentionRnnModel(tiny_config(is_encoder_decoder=False)))
