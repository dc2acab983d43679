import pytest
import torch
from tiny import SOME_COMBINATIONS, name, tiny_batch, tiny_config, tiny_model

from attention_rnn import AttentionRnnForCausalLM, AttentionRnnModel, quantization, quantize


@pytest.fixture(autouse=True)
def small_matrices_are_quantised(monkeypatch):
    monkeypatch.setattr(quantization, "MIN_WEIGHTS", 2)
    monkeypatch.setattr(quantization, "MIN_SIDE", 2)


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


def test_a_quantised_copy_is_not_saved(tmp_path):
    with pytest.raises(NotImplementedError, match="save the model itself and quantise what is loaded"):
        quantize(tiny_model()).save_pretrained(tmp_path)
