"""torchao, quanto and bitsandbytes: weights of eight bits in any matrix."""

import copy

import pytest
import torch
from clients import MODELS, inputs_for, sources_for
from tiny import tiny_model
from torch import nn


def compared(model, quantized, tolerance=0.2):
    """Logits change, and change little; and generation goes through."""
    with torch.no_grad():
        expected, logits = model(**inputs_for(model)).logits, quantized(**inputs_for(model)).logits
    assert not torch.equal(logits, expected)
    assert (logits - expected).abs().mean() < tolerance * expected.abs().mean()
    for options in ({}, {"num_beams": 3}):
        tokens = quantized.generate(**sources_for(model), max_new_tokens=5, min_new_tokens=5, **options)
        assert tokens.shape[0] == 3


def assert_steps_agree(quantized):
    """The fast loop of `generate()` multiplies as the quantised model itself does."""
    if not quantized.config.is_encoder_decoder:
        return
    outputs = quantized.generate(
        **sources_for(quantized), max_new_tokens=5, min_new_tokens=5, return_dict_in_generate=True, output_logits=True
    )
    with torch.no_grad():
        logits = quantized(**sources_for(quantized), decoder_input_ids=outputs.sequences[:, :-1]).logits
    torch.testing.assert_close(torch.stack(outputs.logits, dim=1), logits, atol=0.2, rtol=0.1)


@pytest.mark.parametrize("kind", ["tied", "two_vocabularies", "causal"])
@pytest.mark.parametrize("name", ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"])
@pytest.mark.parametrize("cell_type", ["gru", "lstm", "rnn_tanh"])
def test_torchao(kind, name, cell_type):
    torchao = pytest.importorskip("torchao.quantization")
    # its products want sizes that are multiples of eight or so
    model = MODELS[kind](cell_type=cell_type, hidden_size=32, embedding_size=16, attention_size=16)
    quantized = copy.deepcopy(model)
    torchao.quantize_(quantized, getattr(torchao, name)())
    compared(model, quantized)
    assert_steps_agree(quantized)


def test_torchao_of_a_large_matrix():
    """Where the fast recurrence of our own would be taken."""
    torchao = pytest.importorskip("torchao.quantization")
    model = tiny_model(hidden_size=160, embedding_size=16, attention_size=16)
    quantized = copy.deepcopy(model)
    torchao.quantize_(quantized, torchao.Int8WeightOnlyConfig())
    compared(model, quantized, tolerance=0.4)
    # and with gradients, though its weights have none
    assert quantized(**inputs_for(model)).loss.isfinite()


def test_torchao_by_from_pretrained(tmp_path):
    pytest.importorskip("torchao")
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    model = tiny_model(hidden_size=32, embedding_size=16, attention_size=16)
    model.save_pretrained(tmp_path / "model")
    quantized = (
        type(model)
        .from_pretrained(tmp_path / "model", quantization_config=TorchAoConfig(Int8WeightOnlyConfig()))
        .eval()
    )
    compared(model, quantized)
    quantized.save_pretrained(tmp_path / "quantized")
    read = type(model).from_pretrained(tmp_path / "quantized").eval()
    with torch.no_grad():
        torch.testing.assert_close(read(**inputs_for(model)).logits, quantized(**inputs_for(model)).logits)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("cell_type", ["gru", "lstm"])
def test_quanto(kind, cell_type):
    quanto = pytest.importorskip("optimum.quanto")
    model = MODELS[kind](cell_type=cell_type)
    quantized = copy.deepcopy(model)
    quanto.quantize(quantized, weights=quanto.qint8)
    quanto.freeze(quantized)
    compared(model, quantized)
    assert_steps_agree(quantized)


def test_quanto_by_from_pretrained(tmp_path):
    pytest.importorskip("optimum.quanto")
    from transformers import QuantoConfig

    model = tiny_model()
    model.save_pretrained(tmp_path)
    quantized = type(model).from_pretrained(tmp_path, quantization_config=QuantoConfig(weights="int8")).eval()
    compared(model, quantized)


@pytest.mark.parametrize("kind", MODELS)
def test_torch_dynamic(kind):
    model = MODELS[kind]()
    quantized = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8)
    compared(model, quantized, tolerance=0.3)
    assert_steps_agree(quantized)


def test_bitsandbytes(tmp_path):
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    model = tiny_model(hidden_size=32, embedding_size=16, attention_size=16)
    model.save_pretrained(tmp_path)
    quantized = (
        type(model)
        .from_pretrained(
            tmp_path,
            # bitsandbytes multiplies vectors of a batch of sequences, and the energies are those of pairs of tokens
            quantization_config=BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=["energy", "lm_head"]),
            device_map="cpu",
        )
        .eval()
    )
    compared(model, quantized)
    assert_steps_agree(quantized)
