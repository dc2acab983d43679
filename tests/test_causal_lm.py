"""The recurrent language model."""

import math

import numpy as np
import pytest
import torch
from test_remote_code import run_without_the_package
from transformers import AutoModelForCausalLM, DynamicCache, StaticCache, pipeline

from attention_rnn import AttentionRnnConfig, AttentionRnnForCausalLM
from attention_rnn.models.configuration_attention_rnn import PAST_ATTENTION_TYPES
from attention_rnn.models.configuration_core import CELL_STATES
from attention_rnn.tokenizer_training import train_tokenizer

BATCH, LENGTH = 3, 8
MODELS = {
    **{cell_type: {"cell_type": cell_type} for cell_type in CELL_STATES},
    **{kind: {"attention_type": kind, "past_attention_window": 3} for kind in PAST_ATTENTION_TYPES},
    "all": {"past_attention_window": "all", "cell_type": "lstm"},
    "longer": {"past_attention_window": 30, "residual": True, "layer_norm": True},
}
every_model = pytest.mark.parametrize("overrides", MODELS.values(), ids=MODELS)
some_models = pytest.mark.parametrize("overrides", [MODELS[name] for name in ("lstm", "additive", "all")])


def tiny_model(seed=0, **overrides):
    """In evaluation mode, with weights large enough that the outputs depend visibly on every input."""
    values = {"vocab_size": 19, "embedding_size": 6, "hidden_size": 12, "attention_size": 7, "decoder_layers": 3}
    values |= {"embedding_dropout": 0.0, "hidden_dropout": 0.0, "readout_dropout": 0.0, "is_encoder_decoder": False}
    torch.manual_seed(seed)
    model = AttentionRnnForCausalLM(AttentionRnnConfig(**values | overrides)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def tiny_ids(*shape, seed=0):
    return torch.randint(4, 19, shape or (BATCH, LENGTH), generator=torch.Generator().manual_seed(seed))


def padded(ids, side):
    """The rows of `ids` with padding between or around their tokens, the mask, and where the tokens stand."""
    layouts = {
        "left": ["00" + "1" * LENGTH, "01" + "1" * (LENGTH - 1) + "1", "1" * LENGTH + "00"],
        "right": ["1" * LENGTH + "00"] * 3,
        "holes": ["1" * 3 + "00" + "1" * (LENGTH - 3), "0" + "1" * 5 + "0" + "1" * (LENGTH - 5), "1" * LENGTH + "00"],
    }
    mask = torch.tensor([[int(character) for character in row] for row in layouts[side]])
    mask[1] = mask[1] if mask[1].sum() == LENGTH else torch.tensor([0, 0] + [1] * LENGTH)
    padded_ids = torch.zeros_like(mask)
    padded_ids[mask.bool()] = ids.flatten()
    return padded_ids, mask


def test_without_attention_it_is_torchs_gru():
    model = tiny_model(tie_word_embeddings=False)
    gru = torch.nn.GRU(6, 12, num_layers=3, batch_first=True)
    with torch.no_grad():
        for index, layer in enumerate(model.model.layers):
            for ours, theirs in (("input_to_hidden", "ih"), ("hidden_to_hidden", "hh")):
                linear = getattr(layer.cell, ours)
                getattr(gru, f"weight_{theirs}_l{index}").copy_(linear.weight)
                getattr(gru, f"bias_{theirs}_l{index}").copy_(linear.bias)
    ids = tiny_ids()
    outputs = model(ids, output_hidden_states=True)
    expected, _ = gru(model.model.embed_tokens(ids))
    torch.testing.assert_close(outputs.hidden_states[-1], expected)
    torch.testing.assert_close(outputs.logits, model.lm_head(model.model.projection(expected)))


def test_outputs_as_wide_as_the_embeddings_are_not_projected():
    model = tiny_model(embedding_size=12)
    outputs = model(tiny_ids(), output_hidden_states=True)
    weight = model.model.embed_tokens.weight
    torch.testing.assert_close(outputs.logits, outputs.hidden_states[-1] @ weight.T)


@pytest.mark.parametrize("window", [1, 3, 30, "all"])
def test_attention_over_the_past_is_the_papers_equation(window):
    model = tiny_model(past_attention_window=window)
    attention = model.model.past_attention
    ids = tiny_ids(BATCH, 21)
    outputs = model(ids, output_hidden_states=True, output_attentions=True)
    query, memory, energy = (
        getattr(attention.attention, name).weight.detach().numpy() for name in ("query", "memory", "energy")
    )
    bias = attention.attention.memory.bias.detach().numpy()
    keys, values, predict = np.split(outputs.hidden_states[-1].detach().numpy(), 3, axis=-1)
    for row in range(BATCH):
        for step in range(21):
            first = 0 if window == "all" else max(0, step - window)
            scores = np.array(
                [
                    np.tanh(memory @ keys[row, other] + bias + query @ keys[row, step]) @ energy[0]
                    for other in range(first, step)
                ]
            )
            weights = np.exp(scores) / np.exp(scores).sum()
            read = sum((w * values[row, first + index] for index, w in enumerate(weights)), np.zeros(4))
            vector = torch.tanh(attention.projection(torch.tensor(np.concatenate([predict[row, step], read])).float()))
            torch.testing.assert_close(outputs.logits[row, step], model.lm_head(vector), atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(
                outputs.attentions[0][row, 0, step, first:step], torch.tensor(weights).float(), atol=1e-5, rtol=1e-4
            )
            assert outputs.attentions[0][row, 0, step].count_nonzero() == len(weights)


@pytest.mark.parametrize("attention_type", PAST_ATTENTION_TYPES)
def test_every_score_compares_a_key_with_the_keys_before_it(attention_type):
    model = tiny_model(past_attention_window="all", attention_type=attention_type)
    outputs = model(tiny_ids(), output_hidden_states=True, output_attentions=True)
    keys = outputs.hidden_states[-1].chunk(3, dim=-1)[0]
    projected, _ = model.model.past_attention.attention.project(keys)
    for step in range(1, LENGTH):
        if attention_type in ("additive", "concat"):
            query = model.model.past_attention.attention.query(keys[:, step, None])
            scores = model.model.past_attention.attention.energy(torch.tanh(query + projected[:, :step]))[..., 0]
        else:
            scores = torch.einsum("bk,bpk->bp", keys[:, step], projected[:, :step])
            scores = scores / math.sqrt(4) if attention_type == "scaled_dot" else scores
        torch.testing.assert_close(outputs.attentions[0][:, 0, step, :step], scores.softmax(dim=-1))


def test_without_attention_no_attention_is_returned():
    assert tiny_model()(tiny_ids(), output_attentions=True).attentions == ()


@every_model
def test_a_token_changes_nothing_before_it_and_something_after_it(overrides):
    model = tiny_model(**overrides)
    ids = tiny_ids()
    changed = ids.clone()
    changed[:, 4] = (changed[:, 4] - 3) % 15 + 4
    before, after = model(ids).logits, model(changed).logits
    assert torch.equal(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).any(dim=-1).all()


@every_model
@pytest.mark.parametrize("side", ["left", "right", "holes"])
def test_padding_changes_nothing(overrides, side):
    model = tiny_model(**overrides)
    ids = tiny_ids()
    padded_ids, mask = padded(ids, side)
    real = mask.bool()
    expected = model(ids, labels=ids, output_attentions=True)
    outputs = model(padded_ids, attention_mask=mask, labels=padded_ids.masked_fill(~real, -100), output_attentions=True)
    torch.testing.assert_close(outputs.logits[real], expected.logits.flatten(0, 1))
    torch.testing.assert_close(outputs.loss, expected.loss)
    if outputs.attentions:
        for row in range(BATCH):
            weights = outputs.attentions[0][row, 0]
            torch.testing.assert_close(weights[real[row]][:, real[row]], expected.attentions[0][row, 0])
            assert weights[:, ~real[row]].count_nonzero() == 0


@every_model
@pytest.mark.parametrize("with_padding", [False, True])
def test_piece_by_piece_is_the_whole(overrides, with_padding):
    model = tiny_model(**overrides)
    ids, mask = (tiny_ids(BATCH, 10), None) if not with_padding else padded(tiny_ids(), "holes")
    whole = model(ids, attention_mask=mask, output_attentions=True)
    state, logits = None, []
    for start, stop in ((0, 1), (1, 5), (5, 7), (7, 8), (8, 10)):
        piece = model(
            ids[:, start:stop],
            attention_mask=None if mask is None else mask[:, :stop],
            past_key_values=state,
            use_cache=True,
            output_attentions=True,
        )
        state = piece.past_key_values
        logits.append(piece.logits)
    real = slice(None) if mask is None else mask.bool()
    torch.testing.assert_close(torch.cat(logits, dim=1)[real], whole.logits[real])
    assert state.get_seq_length() == 10


def test_with_a_window_the_state_stays_as_large_as_it_is():
    model = tiny_model(past_attention_window=3)
    state = None
    for step in range(6):
        state = model(tiny_ids(BATCH, 4, seed=step), past_key_values=state, use_cache=True).past_key_values
        assert [tuple(layer.keys.shape) for layer in state.layers] == [(BATCH, 1, 1, 12)] * 3
        assert state.layers[-1].values.shape == (BATCH, 1, 3, 1 + 7 + 4)


@some_models
def test_a_carried_state_gives_the_loss_and_gradients_of_one_long_text(overrides):
    model = tiny_model(**overrides).train()
    ids = tiny_ids(BATCH, 25)
    model(ids, labels=ids).loss.backward()
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    state, losses = None, []
    for start in range(0, 24, 8):
        outputs = model(
            ids[:, start : start + 8],
            shift_labels=ids[:, start + 1 : start + 9],
            past_key_values=state,
            use_cache=True,
            num_items_in_batch=BATCH * 24,
        )
        state = outputs.past_key_values
        losses.append(outputs.loss)
    sum(losses).backward()
    torch.testing.assert_close(sum(losses), model(ids, labels=ids).loss)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-4)


def test_the_loss_is_that_of_the_next_token():
    model = tiny_model()
    ids = tiny_ids()
    outputs = model(ids, labels=ids.masked_fill(ids == ids[0, 3], -100))
    log_probabilities = outputs.logits.log_softmax(dim=-1)
    targets = [(row, step) for row in range(BATCH) for step in range(1, LENGTH) if ids[row, step] != ids[0, 3]]
    expected = -sum(log_probabilities[row, step - 1, ids[row, step]] for row, step in targets)
    torch.testing.assert_close(outputs.loss, expected / len(targets))
    halved = model(ids, labels=ids.masked_fill(ids == ids[0, 3], -100), num_items_in_batch=torch.tensor(50))
    torch.testing.assert_close(halved.loss, expected / 50)


def test_training_without_logits_has_the_same_loss_and_gradients():
    ids, results = tiny_ids(), []
    for logits_in_training in (True, False):
        model = tiny_model(logits_in_training=logits_in_training).train()
        outputs = model(ids, labels=ids, num_items_in_batch=7)
        outputs.loss.backward()
        results.append([outputs.loss, *(parameter.grad for parameter in model.parameters())])
        assert (outputs.logits is not None) == logits_in_training
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@every_model
def test_every_parameter_has_a_gradient(overrides):
    model = tiny_model(**overrides)
    model(tiny_ids(), labels=tiny_ids()).loss.backward()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert [name for name, parameter in trained.items() if not parameter.grad.any()] == []


def test_logits_of_some_positions():
    model = tiny_model()
    logits = model(tiny_ids()).logits
    torch.testing.assert_close(model(tiny_ids(), logits_to_keep=2).logits, logits[:, -2:])
    torch.testing.assert_close(model(tiny_ids(), logits_to_keep=torch.tensor([1, 5])).logits, logits[:, [1, 5]])


MODES = {
    "greedy": {},
    "beam": {"num_beams": 4, "num_return_sequences": 2},
    "sample": {"do_sample": True, "top_k": 5},
    "processed": {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
}


@some_models
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_generation_with_a_cache_is_that_without(overrides, mode):
    model = tiny_model(**overrides)
    ids, mask = padded(tiny_ids(), "left")
    mask[2], ids[2] = mask[2].roll(2), ids[2].roll(2)
    results = []
    for options in ({"use_cache": True}, {"use_cache": False}, {"cache_implementation": "static"}):
        torch.manual_seed(1)
        results.append(model.generate(ids, attention_mask=mask, max_new_tokens=7, **options, **mode))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@some_models
def test_padding_on_the_left_does_not_change_what_is_generated(overrides):
    model = tiny_model(**overrides)
    ids, mask = padded(tiny_ids(), "left")
    mask[2], ids[2] = mask[2].roll(2), ids[2].roll(2)
    together = model.generate(ids, attention_mask=mask, max_new_tokens=7, eos_token_id=None)
    for row in range(BATCH):
        alone = model.generate(tiny_ids()[row : row + 1], max_new_tokens=7, eos_token_id=None)
        assert torch.equal(together[row, -7:], alone[0, -7:])


@some_models
def test_a_prompt_continues_a_state_and_comes_in_chunks(overrides):
    model = tiny_model(**overrides)
    ids = tiny_ids()
    expected = model.generate(ids, max_new_tokens=7)
    state = model(ids[:, :5], use_cache=True).past_key_values
    assert torch.equal(model.generate(ids, past_key_values=state, max_new_tokens=7), expected)
    assert torch.equal(model.generate(ids, prefill_chunk_size=3, max_new_tokens=7), expected)


@some_models
def test_assisted_generation_takes_tokens_back(overrides):
    model, assistant = tiny_model(**overrides), tiny_model(seed=1)
    ids = tiny_ids(1, LENGTH)
    expected = model.generate(ids, max_new_tokens=12, eos_token_id=None)
    assisted = model.generate(ids, max_new_tokens=12, eos_token_id=None, assistant_model=assistant)
    assert torch.equal(assisted, expected)


@some_models
def test_embeddings_instead_of_ids(overrides):
    model = tiny_model(**overrides)
    ids = tiny_ids()
    embeddings = model.get_input_embeddings()(ids)
    torch.testing.assert_close(model(inputs_embeds=embeddings).logits, model(ids).logits)
    generated = model.generate(inputs_embeds=embeddings, max_new_tokens=5)
    assert torch.equal(generated, model.generate(ids, max_new_tokens=5)[:, LENGTH:])


def test_attention_is_returned_for_each_generated_token():
    model = tiny_model(past_attention_window=3)
    outputs = model.generate(
        tiny_ids(), max_new_tokens=4, eos_token_id=None, output_attentions=True, return_dict_in_generate=True
    )
    assert [tuple(step[0].shape) for step in outputs.attentions] == [(BATCH, 1, 8, 8)] + [(BATCH, 1, 1, 4)] * 3
    torch.testing.assert_close(outputs.attentions[2][0].sum(dim=-1), torch.ones(BATCH, 1, 1))


def test_a_step_compiles_as_one_graph():
    model = tiny_model(decoder_layers=1, past_attention_window=3)
    ids = tiny_ids()
    cache = StaticCache(config=model.config, max_cache_len=20)
    model(ids, past_key_values=cache)
    expected = model(torch.cat([ids, ids[:, :1]], dim=1)).logits[:, -1:]
    step = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(step(ids[:, :1], past_key_values=cache).logits, expected)


@some_models
def test_bfloat16_is_close(overrides):
    model = tiny_model(**overrides)
    expected = model(tiny_ids()).logits
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(tiny_ids()).logits
    halved = model.bfloat16()(tiny_ids()).logits
    for logits in (mixed, halved):
        torch.testing.assert_close(logits.float(), expected, atol=0.3, rtol=0.1)


def test_gradient_checkpointing_changes_nothing():
    model = tiny_model(past_attention_window=3).train()
    model(tiny_ids(), labels=tiny_ids()).loss.backward()
    expected = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    model.gradient_checkpointing_enable()
    model(tiny_ids(), labels=tiny_ids()).loss.backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@some_models
@pytest.mark.parametrize("tied", [True, False])
def test_what_is_saved_is_what_is_loaded(overrides, tied, tmp_path):
    model = tiny_model(tie_word_embeddings=tied, **overrides)
    model.save_pretrained(tmp_path)
    loaded, info = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert isinstance(loaded, AttentionRnnForCausalLM)
    assert not loaded.config.is_encoder_decoder
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    torch.testing.assert_close(loaded(tiny_ids()).logits, model(tiny_ids()).logits)


def test_a_checkpoint_loads_and_generates_without_the_package(tmp_path):
    model = tiny_model(past_attention_window=3)
    model.save_pretrained(tmp_path / "checkpoint")
    expected = model.generate(tiny_ids(), max_new_tokens=9)
    torch.save({"ids": tiny_ids(), "expected": expected}, tmp_path / "case.pt")
    code = """
        from transformers import AutoModelForCausalLM

        case = torch.load(f"{work}/case.pt")
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
        assert torch.equal(model.generate(case["ids"], max_new_tokens=9), case["expected"])
    """
    run_without_the_package(code, tmp_path / "checkpoint", tmp_path)


def test_the_text_generation_pipeline():
    tokenizer = train_tokenizer(["to be, or not to be"], kind="character")
    model = tiny_model(vocab_size=len(tokenizer))
    generate = pipeline("text-generation", model=model, tokenizer=tokenizer)
    results = generate(["to be", "not"], batch_size=2, max_new_tokens=5, do_sample=False, return_full_text=False)
    one = generate("not", max_new_tokens=5, do_sample=False, return_full_text=False)
    assert results[1] == one
    assert isinstance(one[0]["generated_text"], str)


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"past_attention_window": 0}, ValueError, "`past_attention_window` must be at least 1, got 0"),
        ({"past_attention_window": 1.5}, TypeError, "`past_attention_window` must be an int or a string, got 1.5"),
        ({"past_attention_window": "most"}, ValueError, "must be a number, \"all\" or None, got 'most'"),
        ({"past_attention_window": 3, "hidden_size": 10}, ValueError, "`hidden_size` must be divisible by 3, got 10"),
        ({"past_attention_window": 3, "attention_type": "multi_head"}, ValueError, "among .*, got 'multi_head'"),
        ({"past_attention_window": 3, "attention_type": None}, ValueError, "needs an `attention_type` .*, got None"),
    ],
)
def test_a_config_that_cannot_be_is_refused(overrides, error, message):
    with pytest.raises(error, match=message):
        tiny_model(**overrides)


def test_one_layer_and_dot_products_need_no_settings_of_an_encoder():
    config = AttentionRnnConfig(
        is_encoder_decoder=False, decoder_layers=1, attention_type="dot", past_attention_window=2, hidden_size=6
    )
    assert AttentionRnnForCausalLM(config)(tiny_ids()).logits.shape == (BATCH, LENGTH, 8000)


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({"input_ids": tiny_ids() + 10}, ValueError, "`input_ids` must be tokens of the vocabulary, 0 to 18"),
        ({"input_ids": tiny_ids()[:, :0]}, ValueError, "at least one token"),
        ({}, ValueError, "Give exactly one of `input_ids` and `inputs_embeds`"),
        ({"inputs_embeds": torch.zeros(3, 8, 5)}, ValueError, r"`inputs_embeds` must have the shape"),
        ({"attention_mask": torch.ones(3, 7)}, ValueError, r"`attention_mask` must be .*of 8, got \(3, 7\)"),
        ({"labels": tiny_ids()[:, 1:]}, ValueError, r"`labels` must have the shape \(3, 8\) .*, got \(3, 7\)"),
        ({"labels": tiny_ids() + 10}, ValueError, "`labels` must be tokens of the vocabulary"),
        ({"past_key_values": DynamicCache()}, TypeError, "`past_key_values` must be a cache of a model with this"),
        ({"past_key_values": "the past"}, TypeError, "`past_key_values` must be a cache of a model with this"),
    ],
)
def test_bad_input_is_refused(inputs, error, message):
    model = tiny_model()
    if inputs and not {"input_ids", "inputs_embeds"} & set(inputs):
        inputs = {"input_ids": tiny_ids(), **inputs}
    with pytest.raises(error, match=message):
        model(**inputs)


def test_the_state_of_another_batch_is_refused():
    model = tiny_model()
    state = model(tiny_ids(), use_cache=True).past_key_values
    with pytest.raises(ValueError, match="`past_key_values` must hold the state of each row, here 2, got 3"):
        model(tiny_ids()[:2], past_key_values=state)
