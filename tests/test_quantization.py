import copy
import subprocess
import sys

import pytest
import torch
from tiny import SOME_COMBINATIONS, name, tiny_batch, tiny_config, tiny_model
from transformers import AutoModelForSeq2SeqLM

from attention_rnn import AttentionRnnEnsemble, AttentionRnnForCausalLM, AttentionRnnModel, quantization, quantize
from attention_rnn.models import decoder_step, prepared_linear
from attention_rnn.models.attention import Memory
from attention_rnn.models.decoder_step import prepare
from attention_rnn.models.prepared_linear import Int8Linear


@pytest.fixture(autouse=True)
def small_matrices_are_quantised(monkeypatch):
    monkeypatch.setattr(quantization, "MIN_WEIGHTS", 2)
    monkeypatch.setattr(quantization, "MIN_SIDE", 2)
    monkeypatch.setattr(quantization, "MIN_ALL_WEIGHTS", 2)


def test_an_ensemble_is_that_of_its_members_in_eight_bits():
    members = [tiny_model(), tiny_model(1)]
    ensemble = AttentionRnnEnsemble(members)
    batch = tiny_batch(members[0])
    with torch.no_grad():
        expected = AttentionRnnEnsemble([quantize(member) for member in members])(**batch).logits
        assert torch.equal(quantize(ensemble)(**batch).logits, expected)
        assert not torch.equal(ensemble(**batch).logits, expected)


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
    with pytest.raises(
        TypeError, match="`model` must be an AttentionRnnForConditionalGeneration or an AttentionRnnForCausalLM"
    ):
        quantize(AttentionRnnModel(tiny_config(is_encoder_decoder=False)))


def test_a_language_model_is_quantised():
    torch.manual_seed(0)
    model = AttentionRnnForCausalLM(tiny_config()).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    expected, logits = model(ids).logits, quantize(model)(ids).logits
    assert not torch.equal(logits, expected)
    torch.testing.assert_close(logits, expected, atol=0.1, rtol=0.1)


def test_narrow_and_small_matrices_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(quantization, "MIN_WEIGHTS", 2**12)
    monkeypatch.setattr(quantization, "MIN_SIDE", 64)
    decoder = quantize(tiny_model(hidden_size=64, attention_size=80, embedding_size=7)).model.decoder
    kinds = {name: type(module) for name, module in decoder.named_modules() if "Linear" in type(module).__name__}
    plain = {name for name, kind in kinds.items() if kind is torch.nn.Linear}
    assert plain == {"attention.energy", "layers.0.cell.input_to_hidden", "readout.projection"}
    assert len(kinds) > len(plain)


def test_a_model_with_few_large_matrices_stays_as_it_is(monkeypatch):
    model = tiny_model()
    sizes = [module.weight.numel() for module in quantize(model).modules() if type(module) is Int8Linear]
    monkeypatch.setattr(quantization, "MIN_ALL_WEIGHTS", sum(sizes) + 1)
    assert Int8Linear not in {type(module) for module in quantize(model).modules()}


def test_products_with_the_context_are_made_once_for_each_source():
    model = quantize(tiny_model())
    keys, values = model.model.decoder._project(torch.zeros(1, 3, model.config.memory_size))
    readers = prepare(model.model.decoder, model.lm_head, Memory(keys, values, None), beams=1, steps=9).readers
    assert readers
    assert {type(reader.layer) for reader in readers} == {Int8Linear}


def test_it_is_loaded_with_the_weights_and_the_products_that_were_saved(tmp_path):
    model = tiny_model()
    quantized = quantize(model)
    quantized.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    assert {type(module) for module in loaded.modules()} >= {Int8Linear}
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in loaded.state_dict().items())
    batch = tiny_batch(model)
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, quantized(**batch).logits)


def test_what_was_saved_is_a_model_of_single_precision_to_who_has_not_the_package(tmp_path):
    model = tiny_model()
    quantize(model).save_pretrained(tmp_path)
    torch.save(tiny_batch(model), tmp_path / "batch")
    code = """
import sys, torch
sys.modules["attention_rnn"] = None
from transformers import AutoModelForSeq2SeqLM
model = AutoModelForSeq2SeqLM.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
with torch.no_grad():
    torch.save(model(**torch.load(sys.argv[1] + "/batch")).logits, sys.argv[1] + "/logits")
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True)
    with torch.no_grad():
        expected = model(**tiny_batch(model)).logits
    torch.testing.assert_close(torch.load(tmp_path / "logits"), expected)


def test_a_quantised_model_is_taken_for_what_it_was_made_of(tmp_path):
    model = tiny_model()
    quantized = quantize(model)
    batch = tiny_batch(model)
    with torch.no_grad():
        assert torch.equal(quantize(quantized)(**batch).logits, quantized(**batch).logits)
        assert torch.equal(quantization.without_int8(quantized)(**batch).logits, model(**batch).logits)
    assert not hasattr(quantized.config, "quantization_config")


def test_eight_bits_are_rounded_from_single_precision(tmp_path):
    quantize(tiny_model()).save_pretrained(tmp_path)
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.dtype == torch.float32
    assert any(type(module) is Int8Linear for module in model.modules())


def test_weights_that_change_are_rounded_anew():
    layer, inputs = Int8Linear(8, 4).eval(), torch.randn(3, 8)
    with torch.no_grad():
        before = layer(inputs)
        layer.weight.mul_(2)
        layer.bias.mul_(2)
        torch.testing.assert_close(layer(inputs), 2 * before)


def test_weights_are_rounded_once_for_many_calls(monkeypatch):
    monkeypatch.setattr(decoder_step, "MIN_WEIGHTS", 2)
    monkeypatch.setattr(prepared_linear, "MIN_INT8_WEIGHTS", 2)
    rounded, round_weights = [], prepared_linear.prepare_int8_product

    def count(weight, bias):
        rounded.append(weight)
        return round_weights(weight, bias)

    monkeypatch.setattr(prepared_linear, "prepare_int8_product", count)
    model = quantize(tiny_model())
    batch = tiny_batch(model)
    batch.pop("labels")
    expected = model.generate(**batch, max_new_tokens=9, min_new_tokens=9)
    assert rounded
    rounded.clear()
    assert torch.equal(model.generate(**batch, max_new_tokens=9, min_new_tokens=9), expected)
    assert not rounded


def test_a_copy_of_a_copy_generates_too():
    model = quantize(tiny_model())
    batch = tiny_batch(model)
    batch.pop("labels")
    expected = model.generate(**batch, max_new_tokens=5)
    assert torch.equal(copy.deepcopy(model).generate(**batch, max_new_tokens=5), expected)
