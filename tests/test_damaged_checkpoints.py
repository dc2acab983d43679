"""Checkpoints that are damaged, or that do not belong together: a clear error, never a model that is silently wrong."""

import json
import os
import random
import shutil
import struct

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny import tiny_config, tiny_model
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, BartConfig

import attention_rnn  # noqa: F401 registers the models
from attention_rnn import AttentionRnnConfig, AttentionRnnForCausalLM, AttentionRnnForConditionalGeneration
from attention_rnn.models.configuration_core import CONFIG_VERSION
from attention_rnn.pipelines import Text2TextGenerationPipeline
from attention_rnn.tokenizer_training import check_vocabulary, pair_tokenizers, train_tokenizer

THOROUGH = bool(os.environ.get("THOROUGH"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    # the fewest weights, so that the header has few names
    model = tiny_model(encoder_layers=1, decoder_layers=2, bidirectional=False)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def checkpoint(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "checkpoint")


def change_config(checkpoint, **changes):
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, **changes}))


def load(checkpoint):
    return AutoModelForSeq2SeqLM.from_pretrained(checkpoint)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_truncated_weights_are_refused(checkpoint, part):
    content = (checkpoint / "model.safetensors").read_bytes()
    (checkpoint / "model.safetensors").write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match=r"The weights of .* cannot be read, its file is truncated or damaged"):
        load(checkpoint)


def test_a_flipped_bit_in_the_header_of_the_weights_is_refused_or_changes_nothing(saved, checkpoint):
    content = bytearray((checkpoint / "model.safetensors").read_bytes())
    expected = load_file(saved / "model.safetensors")
    header_bits = 8 * (8 + struct.unpack("<Q", content[:8])[0])
    bits = random.Random(0).sample(range(header_bits), 3_000 if THOROUGH else 60)
    errors = []
    for bit in bits:
        content[bit // 8] ^= 1 << bit % 8
        (checkpoint / "model.safetensors").write_bytes(content)
        content[bit // 8] ^= 1 << bit % 8
        try:
            weights = load(checkpoint).state_dict()
        except (ValueError, RuntimeError, OSError) as error:
            errors.append(str(error))
        else:
            assert all(torch.equal(weights[name], weight) for name, weight in expected.items())
    assert len(errors) > len(bits) / 2
    assert [error for error in errors if not error.startswith(f"The weights of `{checkpoint}`")] == []
    print(f"{len(bits)} flipped bits: {len(errors)} refused, the others without effect")


def test_who_asks_what_was_loaded_is_told_what_lacks(checkpoint):
    save_file({"encoder.weight": torch.ones(3)}, checkpoint / "model.safetensors", metadata={"format": "pt"})
    _, info = AutoModelForSeq2SeqLM.from_pretrained(checkpoint, output_loading_info=True)
    assert info["unexpected_keys"] == {"encoder.weight"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(checkpoint, value):
    weights = load_file(checkpoint / "model.safetensors")
    name = min(weights)
    weights[name].flatten()[-1] = value
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"are damaged: `{name}` holds NaN or infinite values"):
        load(checkpoint)


def test_the_weights_of_another_model_are_refused(checkpoint):
    save_file({"encoder.weight": torch.ones(3)}, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RuntimeError, match=r"lack `.*though its config says that they are of an AttentionRnnFor"):
        load(checkpoint)


def test_weights_that_the_model_does_not_know_are_refused(checkpoint):
    weights = {**load_file(checkpoint / "model.safetensors"), "model.decoder.gate.weight": torch.ones(3)}
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(RuntimeError, match=r"hold the unknown `model.decoder.gate.weight` \(1 in all\)"):
        load(checkpoint)


def test_another_head_on_the_same_encoder_is_allowed(checkpoint):
    assert AutoModel.from_pretrained(checkpoint, is_encoder_decoder=False).config.hidden_size == 10


def test_the_config_of_another_model_is_refused(checkpoint):
    BartConfig(vocab_size=19).save_pretrained(checkpoint)
    with pytest.raises(ValueError, match=r"`model_type` must be 'attention_rnn', got .* of the type 'bart'"):
        AttentionRnnForConditionalGeneration.from_pretrained(checkpoint)


def test_a_field_of_a_newer_version_is_refused(checkpoint):
    change_config(checkpoint, memory_decay=0.5, config_version=CONFIG_VERSION + 1)
    for auto_class in (AutoConfig, AutoModelForSeq2SeqLM):
        with pytest.raises(TypeError, match=r"has no field `memory_decay`: .* newer version"):
            auto_class.from_pretrained(checkpoint)


def test_what_a_user_has_set_on_a_config_is_loaded_again(checkpoint):
    model = load(checkpoint)
    model.config.corpus = "dates of 55 locales"
    model.save_pretrained(checkpoint)
    assert load(checkpoint).config.corpus == "dates of 55 locales"


def test_a_value_of_a_newer_version_is_refused(checkpoint):
    change_config(checkpoint, cell_type="xlstm")
    with pytest.raises(ValueError, match=r"`cell_type` must be one of .*, got 'xlstm'"):
        load(checkpoint)


def test_what_transformers_keeps_in_a_config_is_no_unknown_field(tmp_path):
    config = AttentionRnnConfig(num_labels=3, output_attentions=True, torch_dtype="float32")
    config.custom_pipelines = {}
    config.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).num_labels == 3


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused():
    small, large = train_tokenizer(["ab"], kind="character"), train_tokenizer(["abcdefghij"], kind="character")
    shared = tiny_config(vocab_size=len(small))
    each = tiny_config(vocab_size=len(small), source_vocab_size=len(large))
    check_vocabulary(small, shared)
    check_vocabulary(pair_tokenizers(large, small), each)
    for tokenizer, config, name in (
        (large, shared, "vocab_size"),
        (pair_tokenizers(small, large), each, "vocab_size"),
        (pair_tokenizers(large, small), shared, "vocab_size"),
    ):
        with pytest.raises(ValueError, match=f"it has {len(large)} tokens, and the model's `{name}` is {len(small)}"):
            check_vocabulary(tokenizer, config)
    with pytest.raises(ValueError, match="The tokenizer does not fit the model"):
        Text2TextGenerationPipeline(model=tiny_model(vocab_size=len(small)), tokenizer=large)


@pytest.mark.parametrize(
    ("head", "fields", "renamed"),
    [
        ("TokenClassification", {"character_size": 5}, {"model.encoder.characters.": "characters."}),
        (
            "CausalLM",
            {"past_attention_window": 3, "hidden_size": 12},
            {"model.past_attention.": "model.self_attention."},
        ),
    ],
)
def test_weights_are_known_by_their_former_names(head, fields, renamed, tmp_path):
    auto_class = getattr(transformers, f"AutoModelFor{head}")
    model = auto_class.from_config(tiny_config(**fields))
    model.save_pretrained(tmp_path)
    (new, old), weights = *renamed.items(), load_file(tmp_path / "model.safetensors")
    assert any(name.startswith(new) for name in weights)
    weights = {name.replace(new, old): weight for name, weight in weights.items()}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = auto_class.from_pretrained(tmp_path)
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name
    loaded.save_pretrained(tmp_path / "again")
    assert any(name.startswith(new) for name in load_file(tmp_path / "again" / "model.safetensors"))


@pytest.mark.parametrize("saved", ["Seq2SeqLM", "SequenceClassification"])
def test_a_checkpoint_that_holds_nothing_of_a_model_is_refused(saved, tmp_path):
    getattr(transformers, f"AutoModelFor{saved}").from_config(tiny_config()).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"holds no weight of an AttentionRnnForCausalLM: .* it is of AttentionRnnFor"):
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path)


def test_parts_that_are_asked_for_at_loading_start_anew(tmp_path):
    model = transformers.AutoModelForTokenClassification.from_config(tiny_config(num_labels=3))
    model.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path, crf=True)
    assert loaded.crf is not None
    assert torch.equal(loaded.classifier.weight, model.classifier.weight)


def test_what_a_user_has_untied_is_saved(tmp_path):
    model = tiny_model()
    model.config.tie_word_embeddings = False
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    assert loaded.lm_head.weight is not loaded.model.encoder.embed_tokens.weight


@pytest.mark.parametrize("head", [AttentionRnnForConditionalGeneration, AttentionRnnForCausalLM])
def test_a_head_that_a_user_has_given_weights_of_its_own_is_saved(tmp_path, head):
    model = head(tiny_config())
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() + 1)
    model.save_pretrained(tmp_path)
    loaded = head.from_pretrained(tmp_path)
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight)
    assert torch.equal(loaded.get_input_embeddings().weight, model.get_input_embeddings().weight)
