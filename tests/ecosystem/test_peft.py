"""peft: adapters on every kind of matrix, trained, merged, saved and read again."""

import copy

import pytest
import torch
from clients import MODELS, inputs_for, sources_for
from tiny import tiny_model
from tiny_speech import STREAMED, tiny_classifier, tiny_ctc, tiny_labels, tiny_seq2seq, tiny_speech

peft = pytest.importorskip("peft")
from peft import (  # noqa: E402
    IA3Config,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptTuningConfig,
    TrainableTokensConfig,
    get_peft_model,
)

TARGETS = {
    "recurrent": ["hidden_to_hidden"],
    "cell": ["hidden_to_hidden", "input_to_hidden"],
    "readout": ["projection"],
    "head": ["lm_head"],
    "embeddings": ["embed_tokens"],
    "all_linear": "all-linear",
}


def lora(targets, **options):
    return LoraConfig(r=2, target_modules=targets, **options)


def adapted(model, config):
    """A model with an adapter that changes its outputs, as a trained one does."""
    model = get_peft_model(model, config)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def logits_of(model):
    with torch.no_grad():
        return model(**inputs_for(model)).logits


def generated(model):
    return model.generate(**sources_for(model), max_new_tokens=6, min_new_tokens=6, do_sample=False)


def assert_trains(model):
    """Every parameter that is to be trained has a gradient."""
    model.train()
    model(**inputs_for(model)).loss.backward()
    trained = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert [name for name, gradient in trained.items() if gradient is None or not gradient.any()] == []
    model.zero_grad()
    model.eval()


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
def test_lora_trains_generates_and_merges(kind, targets, tmp_path):
    base = MODELS[kind]()
    model = adapted(copy.deepcopy(base), lora(targets))
    assert not torch.allclose(logits_of(model), logits_of(base), atol=1e-3)
    assert_trains(model)
    logits, tokens = logits_of(model), generated(model)
    model.save_pretrained(tmp_path / "adapter")
    read = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "adapter").eval()
    torch.testing.assert_close(logits_of(read), logits, atol=1e-5, rtol=1e-4)
    assert torch.equal(generated(read), tokens)
    if base.config.tie_word_embeddings and targets in (TARGETS["head"], TARGETS["embeddings"]):
        return  # peft warns that what is merged into a tied matrix changes all that share it
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits_of(merged), logits, atol=1e-5, rtol=1e-4)
    assert torch.equal(generated(merged), tokens)
    merged.save_pretrained(tmp_path / "merged")
    read = type(base).from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(logits_of(read), logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        lora(["hidden_to_hidden", "input_to_hidden"], use_dora=True),
        lora(["hidden_to_hidden", "lm_head"], use_rslora=True, lora_alpha=4),
        IA3Config(target_modules=["hidden_to_hidden", "input_to_hidden"], feedforward_modules=[]),
    ],
    ids=["dora", "rslora", "ia3"],
)
@pytest.mark.parametrize("kind", ["untied", "causal_untied"])
def test_other_adapters_train_generate_and_merge(kind, config):
    base = MODELS[kind]()
    model = adapted(copy.deepcopy(base), config)
    assert not torch.allclose(logits_of(model), logits_of(base), atol=1e-3)
    assert_trains(model)
    logits, tokens = logits_of(model), generated(model)
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits_of(merged), logits, atol=1e-5, rtol=1e-4)
    assert torch.equal(generated(merged), tokens)


@pytest.mark.parametrize("cell_type", ["gru", "lstm"])
def test_recurrent_dropout_leaves_lora_of_the_recurrent_matrix_in_place(cell_type):
    # (W + BA) * mask: what drops the matrix drops its adapter
    model = adapted(tiny_model(cell_type=cell_type, recurrent_dropout=0.3), lora(["hidden_to_hidden"]))
    assert_trains(model)


@pytest.mark.parametrize("feeding", ["parallel", "input", "conditional"])
def test_merged_lora_equals_the_adapter_whatever_the_feeding(feeding):
    model = adapted(tiny_model(context_feeding=feeding), lora("all-linear"))
    logits, tokens = logits_of(model), generated(model)
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits_of(merged), logits, atol=1e-5, rtol=1e-4)
    assert torch.equal(generated(merged), tokens)


@pytest.mark.parametrize("kind", MODELS)
def test_an_adapter_of_the_model_is_saved_and_loaded(kind, tmp_path):
    model = MODELS[kind]()
    model.save_pretrained(tmp_path / "base")
    model = type(model).from_pretrained(tmp_path / "base")  # so that the adapter knows its base
    model.add_adapter(lora(["hidden_to_hidden"], init_lora_weights=False))
    expected = logits_of(model.eval())
    model.save_pretrained(tmp_path / "adapter")
    read = type(model).from_pretrained(tmp_path / "base")
    read.load_adapter(tmp_path / "adapter")
    torch.testing.assert_close(logits_of(read.eval()), expected)
    read.disable_adapters()
    assert not torch.allclose(logits_of(read), expected, atol=1e-3)


@pytest.mark.parametrize("kind", MODELS)
def test_a_folder_with_an_adapter_opens_as_its_base_with_the_adapter(kind, tmp_path):
    model = MODELS[kind]()
    model.save_pretrained(tmp_path / "base")
    model = type(model).from_pretrained(tmp_path / "base")
    model.add_adapter(lora(["hidden_to_hidden"], init_lora_weights=False))
    model.save_pretrained(tmp_path / "adapter")
    read = type(model).from_pretrained(tmp_path / "adapter").eval()
    torch.testing.assert_close(logits_of(read), logits_of(model.eval()))


@pytest.mark.parametrize("kind", MODELS)
def test_single_tokens_can_be_trained(kind, tmp_path):
    base = MODELS[kind]()
    # of two vocabularies the source's, whose matrix is the model's input embeddings
    targets = ["encoder.embed_tokens"] if kind.startswith("two") else ["embed_tokens"]
    tokens = inputs_for(base)["input_ids"][0, :2].tolist()
    model = adapted(copy.deepcopy(base), TrainableTokensConfig(token_indices=tokens, target_modules=targets))
    assert not torch.allclose(logits_of(model), logits_of(base), atol=1e-3)
    logits, tokens = logits_of(model), generated(model)
    model.save_pretrained(tmp_path)
    read = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path).eval()
    torch.testing.assert_close(logits_of(read), logits)
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits_of(merged), logits)
    assert torch.equal(generated(merged), tokens)


@pytest.mark.parametrize("kind", MODELS)
def test_single_tokens_can_be_trained_beside_an_adapter(kind):
    base = MODELS[kind]()
    name = "encoder.embed_tokens" if kind.startswith("two") else "embed_tokens"
    tokens = inputs_for(base)["input_ids"][0, :2].tolist()
    model = adapted(copy.deepcopy(base), lora(["hidden_to_hidden"], trainable_token_indices={name: tokens}))
    assert not torch.allclose(logits_of(model), logits_of(base), atol=1e-3)
    merged_logits, generated_tokens = logits_of(model), generated(model)
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits_of(merged), merged_logits)
    assert torch.equal(generated(merged), generated_tokens)


@pytest.mark.parametrize("kind", MODELS)
def test_an_untied_head_is_saved(kind, tmp_path):
    model = MODELS[kind]()
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    expected = logits_of(model)
    model.save_pretrained(tmp_path)
    read = type(model).from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits_of(read), expected)


@pytest.mark.parametrize("kind", MODELS)
def test_prompt_tuning_takes_the_width_of_the_embeddings(kind):
    model = MODELS[kind]()
    is_seq2seq = model.config.is_encoder_decoder
    config = PromptTuningConfig(
        task_type="SEQ_2_SEQ_LM" if is_seq2seq else "CAUSAL_LM",
        num_virtual_tokens=2,
        token_dim=model.config.embedding_size,
        num_layers=1,
        num_attention_heads=1,
        num_transformer_submodules=1,
    )
    base = copy.deepcopy(model)
    tuned = adapted(model, config)
    if is_seq2seq and model.config.source_vocab_size is not None:
        # peft takes the first matrix with `vocab_size` rows, which is the target's
        tuned.word_embeddings = model.get_input_embeddings()
    assert_trains(tuned)
    assert not torch.allclose(logits_of(tuned)[:, -3:], logits_of(base)[:, -3:], atol=1e-3)
    assert generated(tuned).shape[0] == 3


@pytest.mark.parametrize("kind", ["untied", "causal"])
def test_prefix_tuning_is_refused_by_name(kind):
    model = MODELS[kind]()
    is_seq2seq = model.config.is_encoder_decoder
    config = PrefixTuningConfig(
        task_type="SEQ_2_SEQ_LM" if is_seq2seq else "CAUSAL_LM",
        num_virtual_tokens=2,
        token_dim=6,
        num_layers=2,
        num_attention_heads=1,
    )
    with pytest.raises((TypeError, ValueError), match="past_key_values"):
        logits_of(get_peft_model(model, config))


SPEECH = {
    "seq2seq": (tiny_seq2seq, tiny_labels),
    "ctc": (tiny_ctc, tiny_labels),
    "classifier": (tiny_classifier, lambda: torch.tensor([0, 2, 4])),
}


@pytest.mark.parametrize("kind", SPEECH)
@pytest.mark.parametrize("targets", [["hidden_to_hidden", "input_to_hidden"], "all-linear"], ids=["cell", "all_linear"])
def test_lora_of_speech_trains_hears_and_merges(kind, targets, tmp_path):
    make, labels = SPEECH[kind]
    base, inputs = make(), {**tiny_speech(), "labels": labels()}
    model = adapted(copy.deepcopy(base), lora(targets))
    model.train()
    model(**inputs).loss.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trained
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in trained)
    model.eval()

    def heard(model):
        with torch.no_grad():
            scores = model(**inputs).logits
            return scores, None if kind == "classifier" else model.generate(**tiny_speech())

    logits, tokens = heard(model)
    assert not torch.allclose(logits, heard(base)[0], atol=1e-3)
    model.save_pretrained(tmp_path)
    for other in (PeftModel.from_pretrained(copy.deepcopy(base), tmp_path).eval(), model.merge_and_unload()):
        scores, said = heard(other)
        torch.testing.assert_close(scores, logits, atol=1e-5, rtol=1e-4)
        assert tokens is None or torch.equal(said, tokens)


def test_an_adapted_model_streams_as_its_merged_one():
    model = adapted(tiny_ctc(**STREAMED), lora("all-linear"))
    frames = tiny_speech()["input_features"][0]

    def streamed(model):
        state, tokens = model.begin_stream(), []
        for chunk in frames.split(8):
            said, _, state = model.stream_step(chunk, state)
            tokens += said
        return tokens

    expected = streamed(model)
    assert expected
    assert streamed(model.merge_and_unload()) == expected
