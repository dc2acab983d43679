"""The invariants of the model, for every cell, attention and feeding."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import BATCH, COMBINATIONS, SOME_COMBINATIONS, SOURCE, TARGET, name, tiny_batch, tiny_config, tiny_model
from torch.nn.functional import cross_entropy
from transformers import AutoModel, DynamicCache, EncoderDecoderCache

from attention_rnn import AttentionRnnForConditionalGeneration, AttentionRnnModel
from attention_rnn.models.configuration_core import ATTENTION_TYPES
from attention_rnn.models.configuration_decoder import BRIDGES, CONTEXT_FEEDINGS

every_combination = pytest.mark.parametrize("combination", COMBINATIONS, ids=name)
some_combinations = pytest.mark.parametrize("combination", SOME_COMBINATIONS, ids=name)

# ways to build a model beyond the combinations, each with what it needs
VARIANTS = {
    **{f"bridge-{bridge}": {"bridge": bridge} for bridge in BRIDGES if bridge != "copy"},
    "bridge-copy": {"bridge": "copy", "bidirectional": False, "encoder_layers": 3},
    "two-vocabularies": {"source_vocab_size": 23},
    "own-head": {"tie_word_embeddings": False},
    "two-vocabularies-own-head": {"source_vocab_size": 23, "tie_word_embeddings": False},
    "residual": {"residual": True, "layer_norm": True},
    "one-direction": {"bidirectional": False},
    "mixed-directions": {"bidirectional": [True, False]},
    "one-layer-input": {"encoder_layers": 1, "decoder_layers": 1, "context_feeding": "input"},
    "one-layer-conditional": {"encoder_layers": 1, "decoder_layers": 1, "context_feeding": "conditional"},
    "cell-layer-norm": {"cell_layer_norm": True},
    "two-steps-at-a-token": {"attention_type": "aligned", "aligned_steps": 2},
    "cell-layer-norm-lstm": {"cell_layer_norm": True, "cell_type": "lstm"},
    **{
        f"copy-coverage-{attention_type}-{feeding}": {
            "copy": True,
            **({} if attention_type == "aligned" else {"coverage": True, "coverage_loss_weight": 1.0}),
            "attention_type": attention_type,
            "context_feeding": feeding,
        }
        for attention_type in ATTENTION_TYPES
        for feeding in CONTEXT_FEEDINGS
    },
}
every_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())


def decoder_inputs(model, batch):
    return model.prepare_decoder_input_ids_from_labels(batch["labels"])


def source(batch):
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def assert_cached_equals_uncached(model):
    model = model.double()  # the states of rnn_relu are large, and rounding to float32 alone may exceed 1e-5
    batch = tiny_batch(model)
    target = decoder_inputs(model, batch)
    with torch.no_grad():
        whole = model(**source(batch), decoder_input_ids=target, output_attentions=True)
        cache, steps, attentions = None, [], []
        encoder_outputs = model.get_encoder()(**source(batch))
        for step in range(TARGET):
            output = model(
                attention_mask=batch["attention_mask"],
                encoder_outputs=encoder_outputs,
                decoder_input_ids=target[:, step : step + 1],
                past_key_values=cache,
                output_attentions=True,
            )
            cache = output.past_key_values
            steps.append(output.logits)
            attentions.append(output.cross_attentions)
    torch.testing.assert_close(torch.cat(steps, 1), whole.logits, atol=1e-10, rtol=0)
    for layers, expected in zip(zip(*attentions, strict=True), whole.cross_attentions, strict=True):
        torch.testing.assert_close(torch.cat(layers, 2), expected, atol=1e-10, rtol=0)
    assert cache.get_seq_length() == TARGET


@every_combination
def test_cached_decoding_equals_uncached(combination):
    assert_cached_equals_uncached(tiny_model(**combination))


def test_the_encoder_of_a_checkpoint_is_a_model_of_its_own(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    encoder, info = AutoModel.from_pretrained(tmp_path, is_encoder_decoder=False, output_loading_info=True)
    assert info["missing_keys"] == set()
    batch = tiny_batch(model)
    expected = model.get_encoder()(**source(batch))
    torch.testing.assert_close(encoder(**source(batch)).last_hidden_state, expected.last_hidden_state, atol=0, rtol=0)


@every_variant
def test_cached_decoding_equals_uncached_in_every_variant(variant):
    assert_cached_equals_uncached(tiny_model(**variant))


@some_combinations
def test_a_chunk_after_a_cached_chunk_equals_the_whole(combination):
    model = tiny_model(**combination)
    batch = tiny_batch(model)
    target = decoder_inputs(model, batch)
    with torch.no_grad():
        whole = model(**source(batch), decoder_input_ids=target)
        first = model(**source(batch), decoder_input_ids=target[:, :2])
        second = model(**source(batch), decoder_input_ids=target[:, 2:], past_key_values=first.past_key_values)
    torch.testing.assert_close(torch.cat([first.logits, second.logits], 1), whole.logits, atol=1e-5, rtol=0)


@every_combination
def test_padding_of_the_source_changes_nothing(combination):
    model = tiny_model(**combination).double()
    batch = tiny_batch(model)
    target = decoder_inputs(model, batch)
    with torch.no_grad():
        padded = model(**source(batch), decoder_input_ids=target, output_attentions=True)
        for row in range(BATCH):
            real = batch["attention_mask"][row].bool()
            alone = model(
                input_ids=batch["input_ids"][row : row + 1, real],
                decoder_input_ids=target[row : row + 1],
                output_attentions=True,
            )
            torch.testing.assert_close(padded.logits[row], alone.logits[0], atol=1e-10, rtol=1e-10)
            for weights, expected in zip(padded.cross_attentions, alone.cross_attentions, strict=True):
                torch.testing.assert_close(weights[row][..., real], expected[0], atol=1e-10, rtol=1e-10)
                assert (weights[row][..., ~real] == 0).all()


@some_combinations
def test_what_stands_at_padding_does_not_matter(combination):
    model = tiny_model(**combination)
    batch = tiny_batch(model)
    target = decoder_inputs(model, batch)
    other = torch.where(batch["attention_mask"].bool(), batch["input_ids"], 7)
    with torch.no_grad():
        expected = model(**source(batch), decoder_input_ids=target).logits
        logits = model(input_ids=other, attention_mask=batch["attention_mask"], decoder_input_ids=target).logits
    torch.testing.assert_close(logits, expected, atol=0, rtol=0)


@every_combination
def test_padding_of_the_target_changes_nothing(combination):
    model = tiny_model(**combination).double()
    batch = tiny_batch(model)
    target = decoder_inputs(model, batch)
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [1, 0, 1, 0, 1]])  # (batch, target)
    with torch.no_grad():
        padded = model(**source(batch), decoder_input_ids=target, decoder_attention_mask=mask).logits
        for row in range(BATCH):
            real = mask[row].bool()
            alone = model(
                **{key: value[row : row + 1] for key, value in source(batch).items()},
                decoder_input_ids=target[row : row + 1, real],
            ).logits
            torch.testing.assert_close(padded[row, real], alone[0], atol=1e-10, rtol=1e-10)


@some_combinations
def test_attention_is_over_the_source_alone(combination):
    model = tiny_model(**combination)
    output = model(**tiny_batch(model), output_attentions=True)
    assert output.encoder_attentions == output.decoder_attentions == ()
    assert len(output.cross_attentions) == (combination["attention_type"] is not None)
    for weights in output.cross_attentions:
        heads = 2 if combination["attention_type"] == "multi_head" else 1
        assert weights.shape == (BATCH, heads, TARGET, SOURCE)
        torch.testing.assert_close(weights.sum(-1), torch.ones(BATCH, heads, TARGET))


@every_variant
def test_every_parameter_has_a_gradient(variant):
    model = tiny_model(**variant)
    model(**tiny_batch(model)).loss.backward()
    for parameter_name, parameter in model.named_parameters():
        if parameter.requires_grad:  # the weights of an echo state are not trained
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.abs().sum() > 0, parameter_name


@some_combinations
def test_every_parameter_of_these_combinations_has_a_gradient(combination):
    test_every_parameter_has_a_gradient(combination)


def test_initial_values_are_the_documented_ones():
    torch.manual_seed(0)
    config = tiny_config(embedding_size=64, hidden_size=48, layer_norm=True, tie_word_embeddings=False)
    model = AttentionRnnForConditionalGeneration(config)
    assert model.lm_head.weight.std().item() == pytest.approx(64**-0.5, rel=0.1)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("hidden_to_hidden.weight"):
            for gate in parameter.chunk(3):
                torch.testing.assert_close(gate @ gate.T, torch.eye(48), atol=1e-5, rtol=0)
        elif parameter_name.endswith("input_to_hidden.weight"):
            bound = math.sqrt(6 / (parameter.shape[1] + 48))
            assert 0.8 * bound < parameter.abs().max() <= bound, parameter_name
        elif parameter_name.endswith("embed_tokens.weight"):
            assert parameter[1:].std().item() == pytest.approx(64**-0.5, rel=0.1)
            assert (parameter[0] == 0).all()
        elif parameter_name.endswith("norm.weight"):
            assert (parameter == 1).all()
        elif parameter_name.endswith("bias"):
            assert (parameter == 0).all()


def test_a_weight_that_a_checkpoint_lacks_gets_its_initial_value(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    lost = [key for key in weights if key.endswith(("hidden_to_hidden.weight", "hidden_to_hidden.bias"))]
    kept = {key: value for key, value in weights.items() if key not in lost}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    # who does not ask for the loading info gets an error instead
    loaded, _ = AttentionRnnForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    for key, value in loaded.state_dict().items():
        if key in kept:
            torch.testing.assert_close(value, kept[key], atol=0, rtol=0)
        elif key.endswith("hidden_to_hidden.weight"):
            for gate in value.chunk(3):
                torch.testing.assert_close(gate @ gate.T, torch.eye(10), atol=1e-5, rtol=0)
        elif key.endswith("hidden_to_hidden.bias"):
            assert (value == 0).all()


@every_variant
def test_saved_equals_loaded(variant, tmp_path):
    model = tiny_model(**variant)
    batch = tiny_batch(model)
    model.save_pretrained(tmp_path)
    loaded, info = AttentionRnnForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    torch.testing.assert_close(loaded.eval()(**batch).logits, model(**batch).logits)


def test_the_base_model_opens_the_checkpoint_of_a_head(tmp_path):
    model = tiny_model()
    batch = tiny_batch(model)
    model.save_pretrained(tmp_path)
    base = AttentionRnnModel.from_pretrained(tmp_path).eval()
    inputs = {**source(batch), "decoder_input_ids": decoder_inputs(model, batch)}
    expected = model.model(**inputs).last_hidden_state
    torch.testing.assert_close(base(**inputs).last_hidden_state, expected, atol=0, rtol=0)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("source_vocab_size", [None, 19])
def test_one_vocabulary_is_one_matrix_and_the_head_is_tied_on_demand(tied, source_vocab_size, tmp_path):
    tiny_model(tie_word_embeddings=tied, source_vocab_size=source_vocab_size).save_pretrained(tmp_path)
    model = AttentionRnnForConditionalGeneration.from_pretrained(tmp_path)
    target = model.model.target_front.embed_tokens.weight
    assert (model.model.encoder.embed_tokens.weight is target) == (source_vocab_size is None)
    assert (model.model.decoder.embed_tokens is None) == (source_vocab_size is None)
    assert (model.lm_head.weight is target) == tied


def test_a_decoder_that_shares_its_embeddings_says_where_they_are():
    decoder = tiny_model().get_decoder()
    with pytest.raises(ValueError, match="`decoder_input_ids` must be given to the whole model"):
        decoder(input_ids=torch.tensor([[5]]), encoder_hidden_states=torch.zeros(1, 2, 20))


def test_loss_is_the_mean_cross_entropy_of_the_labels_as_they_stand():
    model = tiny_model()
    batch = tiny_batch(model)
    output = model(**batch)
    expected = cross_entropy(output.logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100)
    torch.testing.assert_close(output.loss, expected)
    half = model(**batch, num_items_in_batch=2 * (batch["labels"] != -100).sum()).loss
    torch.testing.assert_close(half, expected / 2)


def test_decoder_inputs_are_the_labels_behind_the_start_token():
    model = tiny_model(decoder_start_token_id=5)
    labels = torch.tensor([[7, 8, 2], [9, 2, -100]])
    expected = torch.tensor([[5, 7, 8], [5, 9, 2]])
    assert torch.equal(model.prepare_decoder_input_ids_from_labels(labels), expected)


def test_embeddings_instead_of_ids_give_the_same():
    model = tiny_model()
    batch = tiny_batch(model)
    embed_tokens, target = model.get_input_embeddings(), decoder_inputs(model, batch)
    output = model(
        inputs_embeds=embed_tokens(batch["input_ids"]),
        attention_mask=batch["attention_mask"],
        decoder_inputs_embeds=embed_tokens(target),
    )
    expected = model(**source(batch), decoder_input_ids=target)
    torch.testing.assert_close(output.logits, expected.logits, atol=0, rtol=0)


def test_hidden_states_are_the_embeddings_and_each_layer():
    model = tiny_model()
    output = model(**tiny_batch(model), output_hidden_states=True)
    assert [tuple(state.shape) for state in output.encoder_hidden_states] == [
        (BATCH, SOURCE, 6),
        (BATCH, SOURCE, 20),
        (BATCH, SOURCE, 20),
    ]
    assert [state.shape[-1] for state in output.decoder_hidden_states] == [6, 10, 10, 10]
    assert torch.equal(output.encoder_hidden_states[-1], output.encoder_last_hidden_state)


@pytest.mark.parametrize("call", ["model", "head"])
def test_tuples_hold_what_the_output_holds(call):
    model = tiny_model() if call == "head" else tiny_model().model
    batch = tiny_batch(tiny_model())
    inputs = {**source(batch), "decoder_input_ids": batch["labels"].clamp(min=0), "output_attentions": True}
    expected, values = model(**inputs), model(**inputs, return_dict=False)
    assert isinstance(values, tuple)
    torch.testing.assert_close(values[0], expected[0])
    encoder_tuple = model.get_encoder()(**source(batch), return_dict=False)
    again = model(
        encoder_outputs=encoder_tuple,
        attention_mask=batch["attention_mask"],
        decoder_input_ids=inputs["decoder_input_ids"],
    )
    torch.testing.assert_close(again[0], expected[0])


@some_combinations
def test_gradient_checkpointing_changes_no_gradient(combination):
    gradients = []
    for checkpointing in (False, True):
        model = tiny_model(**combination).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(**tiny_batch(model)).loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)


@some_combinations
def test_bfloat16_is_close_to_single_precision(combination):
    model = tiny_model(**combination)
    batch = tiny_batch(model)
    expected = model(**batch).loss
    with torch.autocast("cpu", torch.bfloat16):
        autocast = model(**batch).loss
    autocast.backward()
    halves = model.bfloat16()(**batch).loss
    torch.testing.assert_close(autocast, expected, atol=0.1, rtol=0)
    torch.testing.assert_close(halves.float(), expected, atol=0.1, rtol=0)


def test_dropout_acts_in_training_alone():
    model = tiny_model(embedding_dropout=0.5, hidden_dropout=0.5, readout_dropout=0.5)
    batch = tiny_batch(model)
    assert torch.equal(model(**batch).loss, model(**batch).loss)
    model.train()
    assert not torch.equal(model(**batch).loss, model(**batch).loss)


@pytest.mark.parametrize("tied", [True, False])
def test_resizing_a_shared_vocabulary(tied):
    model = tiny_model(tie_word_embeddings=tied)
    batch = tiny_batch(model)
    before = model(**batch).logits
    model.resize_token_embeddings(25)
    assert model.config.vocab_size == 25
    torch.testing.assert_close(model(**batch).logits[..., :19], before)
    batch["input_ids"][0, 0] = 24
    assert model(**batch).logits.shape[-1] == 25


def test_resizing_two_vocabularies(tmp_path):
    model = tiny_model(source_vocab_size=23)
    batch = tiny_batch(model)
    before = model(**batch).logits
    with pytest.raises(ValueError, match="`resize_source_token_embeddings` or `resize_target_token_embeddings`"):
        model.resize_token_embeddings(30)
    model.resize_source_token_embeddings(30)
    model.resize_target_token_embeddings(21)
    assert (model.config.source_vocab_size, model.config.vocab_size) == (30, 21)
    torch.testing.assert_close(model(**batch).logits[..., :19], before)
    model.save_pretrained(tmp_path)
    loaded = AttentionRnnForConditionalGeneration.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits)
    assert loaded.lm_head.weight is loaded.model.decoder.embed_tokens.weight


def test_a_device_map_places_the_model(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    placed = AttentionRnnForConditionalGeneration.from_pretrained(tmp_path, device_map={"": "cpu"}).eval()
    batch = tiny_batch(model)
    torch.testing.assert_close(placed(**batch).logits, model(**batch).logits)


def bad(**changes):
    """The inputs of a sound batch with some of them changed; `None` removes one."""
    batch = tiny_batch(tiny_model())
    return {key: value for key, value in {**batch, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (bad(input_ids=torch.full((BATCH, SOURCE), 19)), "`input_ids` must be tokens .*, 0 to 18, got 19"),
        (bad(input_ids=torch.full((BATCH, SOURCE), -1)), "`input_ids` must be tokens .*, 0 to 18, got -1"),
        (bad(input_ids=torch.zeros(BATCH, 0).long(), attention_mask=None), "at least one token, got \\(3, 0\\)"),
        (bad(input_ids=torch.zeros(SOURCE).long()), "`input_ids` must have the shape"),
        (bad(input_ids=None), "exactly one of `input_ids` and `inputs_embeds`"),
        (bad(inputs_embeds=torch.zeros(BATCH, SOURCE, 6)), "exactly one of `input_ids` and `inputs_embeds`"),
        (bad(input_ids=None, inputs_embeds=torch.zeros(BATCH, SOURCE, 5)), "`inputs_embeds` must have the shape"),
        (bad(attention_mask=torch.ones(BATCH, SOURCE + 1)), "`attention_mask` must have the shape \\(3, 8\\)"),
        (bad(attention_mask=torch.ones(BATCH, 1, SOURCE)), "`attention_mask` must have the shape \\(3, 8\\)"),
        (bad(attention_mask=torch.eye(BATCH, SOURCE) * torch.tensor([[1], [0], [1]])), "row 1 is fully masked"),
        (bad(labels=None), "exactly one of `decoder_input_ids` and `decoder_inputs_embeds`"),
        (bad(labels=None, decoder_input_ids=torch.full((BATCH, 2), 19)), "`decoder_input_ids` must be .*, got 19"),
        (bad(labels=torch.full((BATCH, TARGET), 19)), "`labels` must be tokens .*, 0 to 18, got 19"),
        (bad(labels=torch.ones(BATCH).long()), "`labels` must have the shape"),
        (bad(decoder_attention_mask=torch.ones(BATCH, TARGET - 1)), "`decoder_attention_mask` must be"),
        (bad(encoder_outputs=(torch.zeros(BATCH, SOURCE, 20),)), "`encoder_outputs` must hold the `final_state`"),
    ],
)
def test_bad_inputs_are_refused_by_name(inputs, message):
    with pytest.raises(ValueError, match=message):
        tiny_model()(**inputs)


@pytest.mark.parametrize("copy", [False, True])
def test_labels_without_rows_are_refused_by_name(copy):
    with pytest.raises(ValueError, match="`labels` must hold at least one token of each target"):
        tiny_model(copy=copy)(**bad(labels=torch.ones(0, TARGET).long()))


def test_a_foreign_cache_is_refused_by_name():
    of_keys = DynamicCache()
    of_keys.update(torch.zeros(BATCH, 2, 4, 5), torch.zeros(BATCH, 2, 4, 5), 0)  # such as a prefix that was tuned
    for cache in (of_keys, EncoderDecoderCache(of_keys, DynamicCache())):
        with pytest.raises(
            TypeError, match=r"`past_key_values` must be a cache that the model returned.*DynamicLayer|got"
        ):
            tiny_model()(**bad(past_key_values=cache))


@pytest.mark.parametrize("num_items_in_batch", [None, 7, 0, torch.tensor(0)])
def test_the_loss_of_a_batch_without_targets_is_zero(num_items_in_batch):
    model, inputs = tiny_model().train(), bad(labels=torch.full((BATCH, TARGET), -100))
    loss = model(**inputs, num_items_in_batch=num_items_in_batch).loss
    loss.backward()
    assert loss == 0
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())


def test_a_checkpoint_whose_weights_disagree_with_its_config_is_refused(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    tiny_config(hidden_size=11).save_pretrained(tmp_path)
    with pytest.raises(RuntimeError, match=r"disagree with its config: `model\..* is \(.*\) in the weights and \(.*\)"):
        AttentionRnnForConditionalGeneration.from_pretrained(tmp_path)


def test_a_truncated_weights_file_is_refused(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cannot be read, its file is truncated"):
        AttentionRnnForConditionalGeneration.from_pretrained(tmp_path)


def partial_then_all(loss, parameters):
    torch.autograd.grad(loss, parameters[: len(parameters) // 2], retain_graph=True)
    loss.backward()


def twice(loss, parameters):
    loss.backward(retain_graph=True)
    loss.backward()


def each_alone(loss, parameters):
    for parameter in parameters:
        (parameter.grad,) = torch.autograd.grad(loss, [parameter], retain_graph=True)


def within_another(loss, parameters):
    def backward(gradient):
        torch.autograd.grad(loss, parameters[:3], retain_graph=True)

    parameters[-1].register_hook(backward)
    loss.backward(retain_graph=True)


@pytest.mark.parametrize("pattern", [partial_then_all, twice, each_alone, within_another])
@pytest.mark.parametrize("feeding", CONTEXT_FEEDINGS)
def test_any_pattern_of_backward_passes_gives_the_gradients_of_the_reference(feeding, pattern):
    gradients = []
    for backend in ("auto", "reference"):
        model = tiny_model(context_feeding=feeding, recurrence_backend=backend).double().train()
        parameters = list(model.parameters())
        pattern(model(**tiny_batch(model)).loss, parameters)
        gradients.append([parameter.grad for parameter in parameters])
    torch.testing.assert_close(*gradients)
