"""
Bad input: a right result, or a ValueError or TypeError that names the argument.

Each example draws arguments that are right and arguments that are wrong. Where none is wrong, the result is finite, has
the right shape and is that of the plain reference; where one is, the error names it. How many examples there are is
said in `conftest.py`.
"""

import signal
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_config
from transformers import DynamicCache, GenerationConfig, GenerationMixin

import attention_rnn
from attention_rnn import AttentionRnnConfig, AttentionRnnEnsemble, AttentionRnnTokenizer, AttentionRnnWordTokenizer
from attention_rnn.models.configuration_core import (
    ATTENTION_TYPES,
    CELL_STATES,
    RECURRENCE_BACKENDS,
    RECURRENT_INITIALIZATIONS,
    declared_fields,
)
from attention_rnn.models.configuration_decoder import BRIDGES, CONTEXT_FEEDINGS
from attention_rnn.tokenizer_training import pair_tokenizers, train_tokenizer

VOCABULARY, LABELS, EMBEDDING = 19, 5, 6
SECONDS = 60  # for one example, which takes milliseconds
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
many = st.data()


@contextmanager
def in_time():
    def stop(*_):
        raise TimeoutError(f"still busy after {SECONDS} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def attempt(call, wrong=(), contradicting=()):
    """
    What `call` returns. `None` where it refuses: it must if any argument is `wrong`, and may where some contradict each
    other, and it names one of these.
    """
    refusal = result = None
    try:
        with in_time():
            result = call()
    except (ValueError, TypeError) as error:
        refusal = error
    if refusal is None:
        assert not wrong, f"accepted {sorted(wrong)}"
        return result
    names = {*wrong, *contradicting}
    if not any(name in str(refusal) for name in names):
        raise AssertionError(f"names none of {sorted(names)}") from refusal
    return None


# Configs

sizes = (st.integers(1, 12), st.sampled_from([0, -1, True, 2.0, "3", None, [4]]))
optional_sizes = (st.none() | st.integers(1, 12), st.sampled_from([0, -1, True, 2.0, "3", [4]]))
switches = (st.booleans(), st.sampled_from([0, 1, "yes", None, [True]]))
dropouts = (st.floats(0, 0.9), st.sampled_from([-0.1, 1, 1.5, float("nan"), float("inf"), True, "0.1", None, 10**400]))
tokens = (st.none() | st.integers(0, VOCABULARY - 1), st.sampled_from([-1, VOCABULARY, 1.0, True, "1", 2**70]))
numbers = (st.floats(0, 9), st.sampled_from([float("nan"), float("inf"), True, "1", None, 10**400, 1e300]))


def choices(values):
    names = list(values)
    return st.sampled_from(names), st.sampled_from(["", "other", 1, True, names[0].upper(), [names[0]], {}])


# of each field: what is right, if it contradicts no other, and what is wrong
FIELDS: dict[str, tuple[Any, Any]] = {
    "vocab_size": (st.just(VOCABULARY), st.sampled_from([0, 1, 2, -5, True, 19.0, "19", None])),
    "source_vocab_size": (st.none() | st.integers(VOCABULARY, 25), optional_sizes[1]),
    "embedding_size": sizes,
    "hidden_size": sizes,
    "encoder_layers": (st.integers(1, 3), sizes[1]),
    "decoder_layers": (st.integers(1, 3), sizes[1]),
    "bidirectional": (
        st.booleans() | st.lists(st.booleans(), min_size=1, max_size=3),
        st.sampled_from([1, "a", [1], []]),
    ),
    "cell_type": choices(CELL_STATES),
    "recurrent_initialization": choices(RECURRENT_INITIALIZATIONS),
    "forget_gate_bias": (st.floats(-9, 9), numbers[1]),
    "cell_layer_norm": switches,
    "spectral_radius": (st.floats(0, 2), numbers[1] | st.just(-0.1)),
    "leak": (st.floats(0.01, 1), numbers[1] | st.sampled_from([0.0, 1.5])),
    "input_scaling": (st.floats(0, 2), numbers[1] | st.just(-0.1)),
    "connectivity": (st.floats(0.01, 1), numbers[1] | st.sampled_from([0.0, 1.5])),
    "recurrence_backend": choices(RECURRENCE_BACKENDS),
    "attention_type": (st.none() | st.sampled_from(ATTENTION_TYPES), choices(ATTENTION_TYPES)[1]),
    "attention_size": optional_sizes,
    "num_attention_heads": sizes,
    "location_channels": sizes,
    "location_kernel_size": sizes,
    "local_window_size": sizes,
    "aligned_steps": sizes,
    "coverage": switches,
    "coverage_loss_weight": (numbers[0], numbers[1] | st.just(-1.0)),
    "context_feeding": choices(CONTEXT_FEEDINGS),
    "past_attention_window": (st.none() | st.integers(1, 9) | st.just("all"), st.sampled_from([0, "some", 1.0, True])),
    "label_smoothing": (st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from([-0.1, 1.0, "0.1", None, True])),
    "copy": switches,
    "bridge": choices(BRIDGES),
    "residual": switches,
    "layer_norm": switches,
    "embedding_dropout": dropouts,
    "hidden_dropout": dropouts,
    "readout_dropout": dropouts,
    "word_dropout": dropouts,
    "recurrent_dropout": dropouts,
    "variational_dropout": switches,
    "pooling_heads": sizes,
    "pooling_penalty_weight": (numbers[0], numbers[1] | st.just(-1.0)),
    "character_size": optional_sizes,
    "crf": switches,
    "constrained_decoding": switches,
    "intents": (st.none() | st.just(["ask", "tell"]), st.sampled_from([[], ["a", "a"], "ask", [1], 3])),
    "question_attention": switches,
    "tie_word_embeddings": switches,
    "logits_in_training": switches,
    "use_cache": switches,
    "pad_token_id": tokens,
    "bos_token_id": tokens,
    "eos_token_id": (tokens[0] | st.lists(st.integers(0, 18), max_size=3), tokens[1] | st.just([-1])),
    "unk_token_id": tokens,
    "decoder_start_token_id": tokens,
    "is_encoder_decoder": switches,
}
CLASSES = [
    name
    for name in attention_rnn.__all__
    if name.startswith(("AttentionRnnFor", "AttentionRnnModel"))
    and getattr(attention_rnn, name).config_class is AttentionRnnConfig
]


def attempt_config(data, fields, make):
    """A config of some fields, of which one may be wrong; `None` where it is refused, see `attempt`."""
    given_fields = data.draw(st.lists(st.sampled_from(sorted(fields)), max_size=8, unique=True), "fields")
    name_of_wrong = data.draw(st.none() | st.sampled_from(given_fields), "wrong") if given_fields else None
    values = {name: data.draw(fields[name][name == name_of_wrong], name) for name in given_fields}
    return attempt(lambda: make(**values), {name_of_wrong} - {None}, fields)


def test_every_field_of_a_config_is_tried():
    assert set(FIELDS) == set(declared_fields(AttentionRnnConfig)) - {"config_version", "model_type"}


@given(many)
def test_a_config_makes_a_model_that_works_or_is_refused(data):
    config = attempt_config(data, FIELDS, tiny_config)
    if config is None:
        return
    name = data.draw(st.sampled_from(CLASSES), "class")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = attempt(lambda: getattr(attention_rnn, name)(config).eval(), (), FIELDS)
    if model is not None:
        draw = data.draw
        inputs, _ = draw_inputs(draw, model, wrong=())
        # a config may lack the tokens that these inputs need
        outputs = attempt(lambda: model(**inputs), (), FIELDS)
        if outputs is not None:
            check_outputs(model, inputs, outputs)


# Inputs of models

INPUTS = {
    "AttentionRnnModel": ["decoder_input_ids", "decoder_attention_mask"],
    "AttentionRnnForConditionalGeneration": ["decoder_attention_mask", "labels", "copy_ids"],
    "AttentionRnnForCausalLM": ["labels", "logits_to_keep"],
    "AttentionRnnForSequenceClassification": ["class_labels"],
    "AttentionRnnForQuestionAnswering": ["token_type_ids", "start_positions", "end_positions"],
    "AttentionRnnForTokenClassification": ["token_labels", "character_ids", "intent_ids"],
    "AttentionRnnEnsemble": ["decoder_attention_mask", "labels"],
}


def one_wrong(tensor, value):
    tensor = tensor.clone()
    tensor.view(-1)[-1] = value
    return tensor


OTHERS = {
    "list": lambda x: x.tolist(),
    "array": lambda x: x.float().numpy(),
    "text": lambda x: "abc",
    "another device": lambda x: x.to("meta"),
}
SHAPES = {
    "no rows": lambda x: x[:0],
    "one axis less": lambda x: x[0],
    "one axis more": lambda x: x[..., None],
    "longer": lambda x: torch.cat([x, x], dim=-1),
    "more rows": lambda x: torch.cat([x, x]),
}
TYPES = {
    "float": lambda x: x.float(),
    "bool": lambda x: x.bool(),
    "byte": lambda x: x.byte(),
    "complex": lambda x: x.to(torch.complex64),
}
IDS = {
    **OTHERS,
    **TYPES,
    **{name: SHAPES[name] for name in ("no rows", "one axis less", "one axis more")},
    "empty": lambda x: x[:, :0],
    "negative": lambda x: one_wrong(x, -1),
    "too large": lambda x: one_wrong(x.long(), VOCABULARY + 60),
    "huge": lambda x: one_wrong(x.long(), 2**62),
}
MASK = {
    **OTHERS,
    **SHAPES,
    "two": lambda x: one_wrong(x.long(), 2),
    "negative": lambda x: one_wrong(x.long(), -1),
    "additive": lambda x: torch.zeros(x.shape).masked_fill(torch.arange(x.shape[1]) == 0, -torch.inf),
    "nan": lambda x: one_wrong(x.float(), torch.nan),
    "half": lambda x: one_wrong(x.float(), 0.5),
}
EMBEDS = {
    **OTHERS,
    **{name: SHAPES[name] for name in ("no rows", "one axis less", "one axis more", "longer")},
    "empty": lambda x: x[:, :0],
    "integers": lambda x: x.long(),
    "another precision": lambda x: x.to(torch.float16 if x.dtype != torch.float16 else torch.float32),
    "complex": lambda x: x.to(torch.complex64),
}
TARGETS = {
    **OTHERS,
    **TYPES,
    **SHAPES,
    "negative": lambda x: one_wrong(x, -1),
    "huge": lambda x: one_wrong(x.long(), 2**62),
}
POSITIONS = {name: TARGETS[name] for name in TARGETS if name not in ("huge",)}
WRONG: dict[str, dict[str, Any]] = {
    "input_ids": {**IDS, "none": lambda x: None},
    "inputs_embeds": EMBEDS,
    "attention_mask": {**MASK, "row of zeros": lambda x: x * (torch.arange(len(x)) > 0)[:, None]},
    "decoder_input_ids": {**IDS, "more rows": SHAPES["more rows"], "none": lambda x: None},
    "decoder_attention_mask": MASK,
    "labels": {name: TARGETS[name] for name in TARGETS if name != "longer"},
    "copy_ids": {name: IDS[name] for name in IDS} | {"longer": SHAPES["longer"], "more rows": SHAPES["more rows"]},
    "class_labels": TARGETS,
    "token_labels": TARGETS,
    "intent_ids": TARGETS,
    # bytes, of which there are more than tokens
    "character_ids": {**IDS, **SHAPES, "none": lambda x: None, "too large": lambda x: one_wrong(x.long(), 257)},
    "token_type_ids": {**MASK, "no context": lambda x: x * 0, "no question": lambda x: x * 0 + 1},
    "start_positions": POSITIONS,
    "end_positions": {**POSITIONS, "before the start": lambda x: torch.zeros_like(x)},
    "logits_to_keep": {
        "negative": lambda x: -1,
        "float": lambda x: 1.0,
        "text": lambda x: "1",
        "beyond": lambda x: torch.tensor([99]),
        "floats": lambda x: torch.tensor([0.0]),
    },
}
OF_ARGUMENT = {"class_labels": "labels", "token_labels": "labels"}


def integers(draw, low, high, *shape):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    numbers = torch.randint(low, high, shape, generator=generator)
    return numbers.to(draw(st.sampled_from([torch.int64, torch.int32])))


def right_mask(draw, batch, length):
    mask = integers(draw, 0, 2, batch, length)
    mask[torch.arange(batch), integers(draw, 0, length, batch).long()] = 1
    return mask.to(draw(st.sampled_from([torch.int64, torch.bool, torch.float32, torch.int32, torch.uint8])))


def draw_inputs(draw, model, wrong, length=None):
    """Inputs of a model, of which those of the names `wrong` are so; and the names that an error may use for these."""
    config, name = model.config, type(model).__name__
    batch, target = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    length = length or draw(st.integers(2, 9))
    dtype = next(model.parameters()).dtype
    causal = name == "AttentionRnnForCausalLM"
    labels = target if not causal else length
    source_vocabulary = config.vocab_size if causal else config.source_vocab_size or config.vocab_size
    segments = torch.arange(length).expand(batch, -1) >= max(1, length // 2)
    last = torch.full((batch,), length - 1)
    make = {
        "input_ids": lambda: integers(draw, 4, source_vocabulary, batch, length),
        "inputs_embeds": lambda: torch.randn(batch, length, config.embedding_size, dtype=dtype),
        "attention_mask": lambda: right_mask(draw, batch, length),
        "decoder_input_ids": lambda: integers(draw, 0, config.vocab_size, batch, target),
        "decoder_attention_mask": lambda: right_mask(draw, batch, target),
        "labels": lambda: integers(draw, 4, config.vocab_size, batch, labels),
        "copy_ids": lambda: integers(draw, 4, config.vocab_size + length, batch, length),
        "class_labels": lambda: integers(draw, 0, config.num_labels, batch),
        "token_labels": lambda: integers(draw, 0, config.num_labels, batch, length),
        "intent_ids": lambda: integers(draw, 0, len(config.intents), batch),
        "character_ids": lambda: integers(draw, 0, 257, batch, length, 4),
        "token_type_ids": lambda: segments.long(),
        "start_positions": lambda: last.clone(),
        "end_positions": lambda: last.clone(),
        "logits_to_keep": lambda: draw(st.sampled_from([0, 1, length, 99, torch.tensor([0, -1])])),
    }
    optional = [*INPUTS[name]]
    if name == "AttentionRnnModel" and not config.is_encoder_decoder:
        optional = []
    for argument, needs in {
        "copy_ids": config.copy,
        "intent_ids": config.intents,
        "character_ids": config.character_size,
    }.items():
        if not needs and argument in optional:
            optional.remove(argument)
    embeds = draw(st.booleans()) and name != "AttentionRnnEnsemble" and "input_ids" not in wrong
    embeds = (embeds or "inputs_embeds" in wrong) and "copy_ids" not in wrong
    chosen = ["inputs_embeds" if embeds else "input_ids"]
    needed = {"decoder_input_ids", "character_ids"} | (
        {"token_type_ids"} if embeds or config.eos_token_id is None else set()
    )
    if embeds and config.copy:
        needed.add("copy_ids")
    if name in ("AttentionRnnForConditionalGeneration", "AttentionRnnEnsemble"):
        needed.add("labels")
    if name == "AttentionRnnForQuestionAnswering":
        needed |= {"token_type_ids", "start_positions", "end_positions"}
    for argument in ["attention_mask", *optional]:
        if argument in wrong or argument in needed or draw(st.booleans()):
            chosen.append(argument)
    inputs = {argument: make[argument]() for argument in chosen}
    if name == "AttentionRnnForQuestionAnswering" and "attention_mask" in inputs:
        inputs["attention_mask"][:, [0, -1]] = 1
    if causal and "labels" in inputs:  # there must be a token to predict
        inputs["attention_mask"] = torch.ones(batch, length)
        inputs.pop("logits_to_keep", None)
    names = set()
    for argument in wrong:
        # a language model may be given a row of padding alone
        kinds = WRONG[argument].keys() - ({"row of zeros"} if causal else set())
        kind = draw(st.sampled_from(sorted(kinds)), argument)
        if argument in inputs:
            value = inputs[argument]
            if value.__class__ is torch.Tensor and kind in ("array",) and value.dtype == torch.bfloat16:
                value = value.float()
            inputs[argument] = WRONG[argument][kind](value)
            names.add(OF_ARGUMENT.get(argument, argument))
    return {OF_ARGUMENT.get(argument, argument): value for argument, value in inputs.items()}, names


def reference_of(model):
    """A model of the same weights that takes the plain way everywhere."""
    if isinstance(model, AttentionRnnEnsemble):
        return AttentionRnnEnsemble([reference_of(member) for member in model.members])
    config = AttentionRnnConfig.from_dict({**model.config.to_dict(), "recurrence_backend": "reference"})
    reference = type(model)(config).to(next(model.parameters()).dtype).eval()
    reference.load_state_dict(model.state_dict())
    return reference


def check_outputs(model, inputs, outputs, reference=None):
    expected = (reference or reference_of(model))(**inputs)
    tolerance = TOLERANCE[next(model.parameters()).dtype]
    tensors = {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor)}
    assert tensors
    for name, value in tensors.items():
        if value.is_floating_point():
            assert value.isfinite().all(), name
            torch.testing.assert_close(value, expected[name], atol=tolerance, rtol=tolerance, msg=name)
    first = next(value for name, value in inputs.items() if name in ("input_ids", "inputs_embeds"))
    assert all(len(value) == len(first) for name, value in tensors.items() if name != "loss")


VARIANTS: dict[str, list[dict[str, Any]]] = {
    "AttentionRnnModel": [{}, {"cell_type": "lstm", "context_feeding": "conditional"}, {"is_encoder_decoder": False}],
    "AttentionRnnForConditionalGeneration": [
        {},
        {"cell_type": "rnn_tanh", "context_feeding": "input", "attention_type": "location", "coverage": True},
        {"copy": True, "context_feeding": "output", "attention_type": "multi_head"},
        {"attention_type": None, "cell_type": "lstm", "source_vocab_size": 23},
        {"attention_type": "local", "bridge": "mean", "coverage": True, "coverage_loss_weight": 1.0},
    ],
    "AttentionRnnForCausalLM": [
        {},
        {"past_attention_window": 2, "hidden_size": 12},
        {"past_attention_window": "all", "hidden_size": 12},
    ],
    "AttentionRnnForSequenceClassification": [
        {"num_labels": LABELS},
        {"num_labels": LABELS, "pooling_heads": 3, "cell_type": "lstm"},
    ],
    "AttentionRnnForQuestionAnswering": [{}, {"question_attention": False}],
    "AttentionRnnForTokenClassification": [
        {"num_labels": LABELS},
        {"num_labels": LABELS, "crf": True, "attention_type": None},
        {"num_labels": LABELS, "character_size": 4, "intents": ["ask", "tell", "do"]},
    ],
    "AttentionRnnEnsemble": [{}],
}
MODELS = [(name, index) for name, variants in VARIANTS.items() for index in range(len(variants))]
DTYPES = [torch.float32, torch.bfloat16, torch.float64, torch.float16]


@cache
def model_and_reference(name, index, dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "AttentionRnnEnsemble":
            make = attention_rnn.AttentionRnnForConditionalGeneration
            model = AttentionRnnEnsemble([make(tiny_config()), make(tiny_config(cell_type="lstm", hidden_size=4))])
        else:
            model = getattr(attention_rnn, name)(tiny_config(**VARIANTS[name][index]))
    model = model.to(dtype).eval()
    return model, reference_of(model)


def test_every_model_class_is_tried():
    assert {*CLASSES, "AttentionRnnEnsemble"} == set(VARIANTS) == set(INPUTS)


@given(many)
def test_the_inputs_of_a_model_are_read_right_or_refused(data):
    draw = data.draw
    name, index = draw(st.sampled_from(MODELS), "model")
    # half precision is slow on a CPU, and four models of each would be many
    model, reference = model_and_reference(name, index, draw(st.sampled_from(DTYPES), "dtype"))
    arguments = ["input_ids", "attention_mask", "inputs_embeds", *INPUTS[name]]
    wrong = draw(st.lists(st.sampled_from(arguments), max_size=2, unique=True), "wrong")
    if {"input_ids", "inputs_embeds"} <= set(wrong) or name == "AttentionRnnEnsemble":
        wrong = [argument for argument in wrong if argument != "inputs_embeds"]
    inputs, names = draw_inputs(draw, model, wrong)
    # where one argument has another shape, the others do not fit it
    outputs = attempt(lambda: model(**inputs), names, inputs if names else ())
    if outputs is not None:
        check_outputs(model, inputs, outputs, reference)


def inputs_of_every_model():
    tokens, ones = torch.full((2, 5), 7), torch.ones(2, 5, dtype=torch.long)
    text = {"input_ids": tokens, "attention_mask": ones}
    pair = {**text, "decoder_input_ids": tokens, "decoder_attention_mask": ones, "labels": tokens}
    one_each = torch.tensor([0, 1])
    yield "AttentionRnnModel", {}, {name: pair[name] for name in pair if name != "labels"}
    yield "AttentionRnnForConditionalGeneration", {"copy": True}, {**pair, "copy_ids": tokens}
    yield "AttentionRnnForCausalLM", {}, {**text, "labels": tokens}
    yield "AttentionRnnForCausalLM", {"past_attention_window": 2, "hidden_size": 12}, {**text, "shift_labels": tokens}
    yield "AttentionRnnForSequenceClassification", {"num_labels": LABELS}, {**text, "labels": one_each}
    yield (
        "AttentionRnnForTokenClassification",
        {"num_labels": LABELS, "character_size": 4, "intents": ["ask", "tell", "do"]},
        {**text, "labels": ones, "intent_ids": one_each, "character_ids": ones[..., None]},
    )
    spans = {"token_type_ids": ones.cumsum(1) // 4, "start_positions": one_each + 3, "end_positions": one_each + 3}
    yield "AttentionRnnForQuestionAnswering", {}, {**text, **spans}


@pytest.mark.parametrize(
    ("name", "overrides", "inputs", "argument"),
    [
        pytest.param(name, overrides, inputs, argument, id=f"{name}-{argument}")
        for name, overrides, inputs in inputs_of_every_model()
        for argument in inputs
    ],
)
def test_an_input_on_another_device_is_named(name, overrides, inputs, argument):
    model = getattr(attention_rnn, name)(tiny_config(**overrides))
    assert model(**inputs) is not None
    attempt(lambda: model(**{**inputs, argument: inputs[argument].to("meta")}), {argument})


@pytest.mark.parametrize("length", [1, 4096])
@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_a_text_may_have_any_length(name, length):
    model, _ = model_and_reference(name, 0)
    ids = torch.randint(4, VOCABULARY, (1, length), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids}
    if name == "AttentionRnnForQuestionAnswering":
        inputs["token_type_ids"] = torch.arange(length)[None] // max(1, length // 2) % 2
    if "decoder_attention_mask" in INPUTS[name]:
        inputs["decoder_input_ids"] = ids
    with torch.no_grad():
        if name == "AttentionRnnForQuestionAnswering" and length == 1:
            assert attempt(lambda: model(**inputs), {"question", "context"}) is None
            return
        outputs = attempt(lambda: model(**inputs))
    assert all(value.isfinite().all() for value in outputs.values() if isinstance(value, torch.Tensor))
    if hasattr(model, "generate"):
        inputs.pop("decoder_input_ids", None)
        tokens = model.generate(**inputs, max_new_tokens=3, min_new_tokens=3)
        assert tokens.shape[1] == 3 + (length if name == "AttentionRnnForCausalLM" else 1)


def test_a_text_may_be_generated_to_any_length():
    model, _ = model_and_reference("AttentionRnnForConditionalGeneration", 0)
    tokens = model.generate(torch.tensor([[5, 6, 7]]), max_length=4096, min_length=4096)
    assert tokens.shape == (1, 4096)


@pytest.mark.parametrize("cache", [3, DynamicCache(), "state"], ids=str)
@pytest.mark.parametrize("name", ["AttentionRnnModel", "AttentionRnnForCausalLM", "AttentionRnnEnsemble"])
def test_a_foreign_cache_is_refused(name, cache):
    model, _ = model_and_reference(name, 0)
    inputs = {"input_ids": torch.tensor([[5, 6]]), "past_key_values": cache}
    if name != "AttentionRnnForCausalLM":
        inputs["decoder_input_ids"] = torch.tensor([[1]])
    attempt(lambda: model(**inputs), {"past_key_values"})


def test_a_token_beyond_the_vocabulary_pads_nothing():
    model, _ = model_and_reference("AttentionRnnForConditionalGeneration", 0)
    options = {"pad_token_id": None, "eos_token_id": [VOCABULARY, 2]}
    attempt(lambda: model.generate(torch.tensor([[5, 6]]), **options), {"pad_token_id"})


@pytest.mark.parametrize(
    "options", [{"encoder_repetition_penalty": 1.3}, {"encoder_no_repeat_ngram_size": 2}], ids=lambda x: next(iter(x))
)
def test_tokens_of_another_vocabulary_are_not_held_against_the_target(options):
    members = [attention_rnn.AttentionRnnForConditionalGeneration(tiny_config(source_vocab_size=30))]
    for model in (*members, AttentionRnnEnsemble(members)):
        attempt(lambda model=model: model.generate(torch.tensor([[25, 6]]), **options), options)


@pytest.mark.parametrize("character_ids", [[[[1]]], torch.ones(1, 2, 1).numpy(), "a"], ids=["list", "array", "text"])
def test_characters_that_are_no_tensor_are_refused(character_ids):
    model, _ = model_and_reference("AttentionRnnForTokenClassification", 2)
    attempt(lambda: model(torch.tensor([[5, 6]]), character_ids=character_ids), {"character_ids"})


@pytest.mark.parametrize("shape", [(0, 3), (1, 0)])
def test_labels_hold_a_token(shape):
    model, _ = model_and_reference("AttentionRnnForConditionalGeneration", 0)
    attempt(lambda: model(torch.tensor([[5, 6]]), labels=torch.zeros(shape, dtype=torch.long)), {"labels"})


def test_labels_are_padded_on_the_right():
    model, _ = model_and_reference("AttentionRnnForConditionalGeneration", 0)
    labels = torch.tensor([[5, 6, 2], [-100, 7, 2]])
    with pytest.raises(ValueError, match="`labels` must be padded on the right, but row 1"):
        model(torch.tensor([[5, 6], [7, 8]]), labels=labels)
    with pytest.raises(ValueError, match="`labels` must be padded on the right, but row 1"):
        model.prepare_decoder_input_ids_from_labels(labels)


def test_a_token_beyond_the_vocabulary_grows_no_likelier():
    model, _ = model_and_reference("AttentionRnnForConditionalGeneration", 0)
    options = {"eos_token_id": [2, VOCABULARY], "exponential_decay_length_penalty": (2, 1.5), "max_new_tokens": 6}
    attempt(lambda: model.generate(torch.tensor([[5, 6]]), **options), {"eos_token_id"})


@pytest.mark.parametrize(
    "outputs", [3, [torch.zeros(1, 2, 20)], (torch.zeros(1, 2, 7),), (torch.zeros(2, 20),), (None,)]
)
def test_foreign_encoder_outputs_are_refused(outputs):
    model, _ = model_and_reference("AttentionRnnForConditionalGeneration", 0)
    attempt(lambda: model(encoder_outputs=outputs, decoder_input_ids=torch.tensor([[1]])), {"encoder_outputs"})


# Generation

whole = [-1, 1.5, "2", True, [2]]
probability = [-0.1, 1.1, float("nan"), "0.5", True, [0.5]]
switch = ["yes", 1, 0, [True]]
token = [-1, VOCABULARY, 2**40, 1.0, "a", True]
# of each setting: what is right, if it contradicts no other, and what is wrong
SETTINGS: dict[str, tuple[list[Any], list[Any]]] = {
    "num_beams": ([1, 2, 4], [0, *whole]),
    "num_return_sequences": ([1, 2, 3], [0, *whole]),
    "max_length": ([2, 7, 20], whole),
    "max_new_tokens": ([1, 4, 8], [0, *whole]),
    "min_length": ([0, 3, 30], whole),
    "min_new_tokens": ([0, 3, 30], whole),
    "do_sample": ([False, True], switch),
    "early_stopping": ([True, False, "never"], ["always", 3, []]),
    "use_cache": ([True, False], switch),
    "temperature": ([0.1, 1.0, 7.5], [0.0, -1.0, float("nan"), float("inf"), 1e-40, "1", True, [1.0]]),
    "top_k": ([0, 1, 5, 50], whole),
    "top_p": ([0.0, 0.5, 1.0], probability),
    "typical_p": ([0.2, 1.0], probability),
    "min_p": ([0.0, 0.3, 1.0], probability),
    "epsilon_cutoff": ([0.0, 0.1], probability),
    "eta_cutoff": ([0.0, 0.1], probability),
    "repetition_penalty": ([0.5, 1.0, 3.0], [0.0, -1.0, float("nan"), float("inf"), "1", [1.0]]),
    "encoder_repetition_penalty": ([0.5, 1.0, 3.0], [0.0, -1.0, float("nan"), float("inf"), "1", [1.0]]),
    "length_penalty": ([-2.0, 0.0, 1.0, 2.0], [float("nan"), float("inf"), 1e6, "1", [1.0]]),
    "no_repeat_ngram_size": ([0, 1, 2], whole),
    "encoder_no_repeat_ngram_size": ([0, 2], whole),
    "bad_words_ids": ([[[5]], [[6, 7], [8]]], [5, [5], [["a"]], [[VOCABULARY]], [[-1]], [], [[]]]),
    "sequence_bias": ([{(5,): -3.0}, {(6, 7): 2.0}], [5, {}, {(VOCABULARY,): 1.0}, {(5,): "a"}, {5: 1.0}]),
    "suppress_tokens": ([[5], [6, 7], []], [5, "a", [1.5], ["a"], [True]]),
    "begin_suppress_tokens": ([[5], [2]], [5, "a", [1.5], ["a"]]),
    "forced_bos_token_id": ([4, 18], [*token, [4]]),
    "forced_eos_token_id": ([2, [2, 5]], [*token, [VOCABULARY]]),
    "decoder_start_token_id": ([1, 4], token),
    "pad_token_id": ([0, 2, 9], [*token, [0]]),
    "bos_token_id": ([1, 4], [*token, [1]]),
    "eos_token_id": ([2, [2, 5], [2, 400]], [-1, [2, -1], 1.0, "a", True, []]),
    "exponential_decay_length_penalty": (
        [(2, 1.5), (0, 0.5)],
        [3, (1,), (1, 2.0, 3), (-1, 1.0), (1, -2.0), ("a", 1.0)],
    ),
    "renormalize_logits": ([True, False], switch),
    "remove_invalid_values": ([True, False], switch),
    "return_dict_in_generate": ([True, False], switch),
    "output_scores": ([True, False], switch),
    "max_time": ([60.0], [-1.0, "1", float("nan"), True]),
    "generation_config": ([GenerationConfig(max_new_tokens=5), None], [3, "a", {}]),
    "guidance_scale": ([1.0], [2.0, "a"]),
}
GENERATORS = (
    [
        ("AttentionRnnForConditionalGeneration", index)
        for index in range(len(VARIANTS["AttentionRnnForConditionalGeneration"]))
    ]
    + [("AttentionRnnForCausalLM", index) for index in range(3)]
    + [("AttentionRnnEnsemble", 0)]
)


@given(many)
def test_generation_settings_give_what_transformers_own_loop_gives_or_are_refused(data):
    draw = data.draw
    name, index = draw(st.sampled_from(GENERATORS), "model")
    model, _ = model_and_reference(name, index)
    settings = draw(st.lists(st.sampled_from(sorted(SETTINGS)), max_size=6, unique=True), "settings")
    wrong = {draw(st.sampled_from(settings), "wrong")} if settings and draw(st.booleans()) else set()
    if name == "AttentionRnnForCausalLM":  # which has guidance
        wrong -= {"guidance_scale"}
    values = {setting: draw(st.sampled_from(SETTINGS[setting][setting in wrong]), setting) for setting in settings}
    batch, length = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    inputs = {"input_ids": integers(draw, 4, VOCABULARY, batch, length).long()}
    if draw(st.booleans()):
        inputs["attention_mask"] = right_mask(draw, batch, length)
    if "max_length" not in values:
        values.setdefault("max_new_tokens", 6)

    def generate():
        torch.manual_seed(0)
        return model.generate(**inputs, **values)

    result = attempt(generate, wrong, SETTINGS.keys() | {"input_ids", "sequence length"})
    if result is None:
        return
    with pytest.MonkeyPatch.context() as patch:
        for loop in ("_sample", "_beam_search"):
            patch.setattr(type(model), loop, getattr(GenerationMixin, loop))
        expected = generate()
    assert type(result) is type(expected)
    tokens, expected_tokens = (x if isinstance(x, torch.Tensor) else x.sequences for x in (result, expected))
    assert torch.equal(tokens, expected_tokens)
    beyond = 400 if values.get("eos_token_id") == [2, 400] else 6 * batch * model.config.copy
    assert ((tokens >= 0) & (tokens < VOCABULARY + beyond)).all()
    returned = values.get("num_return_sequences") or 1
    assert len(tokens) == batch * returned


GENERATION_INPUTS = ["input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask", "inputs_embeds"]


@given(many)
def test_the_inputs_of_generate_are_read_right_or_refused(data):
    draw = data.draw
    name, index = draw(st.sampled_from(GENERATORS), "model")
    model, reference = model_and_reference(name, index)
    batch, length, target = draw(st.integers(1, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 3))
    inputs = {
        "input_ids": integers(draw, 4, VOCABULARY, batch, length).long(),
        "attention_mask": right_mask(draw, batch, length),
    }
    if name != "AttentionRnnForCausalLM":
        inputs["decoder_input_ids"] = integers(draw, 4, VOCABULARY, batch, target).long()
        inputs["decoder_attention_mask"] = right_mask(draw, batch, target)
    wrong = draw(st.none() | st.sampled_from(sorted(inputs)), "wrong")
    if wrong is not None:
        kinds = set(WRONG[wrong]) - {"none"}
        if name == "AttentionRnnForCausalLM":
            kinds -= {"row of zeros"}
        kind = draw(st.sampled_from(sorted(kinds)), "kind")
        if model.config.copy and wrong == "decoder_input_ids" and kind in ("too large", "huge"):
            return  # a copied token, which the decoder reads as unknown
        inputs[wrong] = WRONG[wrong][kind](inputs[wrong])
    options = draw(st.sampled_from([{}, {"num_beams": 3}]), "options")
    tokens = attempt(lambda: model.generate(**inputs, max_new_tokens=4, **options), {wrong} - {None})
    if tokens is not None:
        assert torch.equal(tokens, reference.generate(**inputs, max_new_tokens=4, **options))


# Tokenizers

TEXTS = ["le mardi 3 mars 1998", "1998年3月3日", "вторник, 3 марта 1998 г."]


@cache
def tokenizers():
    words, characters = train_tokenizer(TEXTS, "word"), train_tokenizer(TEXTS, "character")
    return [pair_tokenizers(words, characters), AttentionRnnWordTokenizer.from_tokenizer(words, max_word_length=6)]


anything = st.text(max_size=20) | st.sampled_from(
    ["", " ", "\x00", "<pad>", "</s></s>", "a" * 999, "\u0301", "👩‍👩‍👧", "\ud800"]
)
no_text = st.sampled_from([3, 1.5, b"abc", {"a": 1}, [3], ["a", 3], [["a", 3]], object()])


@given(many)
def test_a_tokenizer_reads_any_text_and_refuses_what_is_none(data):
    draw = data.draw
    tokenizer = draw(st.sampled_from(tokenizers()), "tokenizer")
    is_wrong = draw(st.booleans(), "wrong")
    text = draw(no_text if is_wrong else anything | st.lists(anything, min_size=1, max_size=3), "text")
    has_surrogate = not is_wrong and "\ud800" in "".join(text)
    encoded = attempt(lambda: tokenizer(text), {"text"} if is_wrong or has_surrogate else set())
    if encoded is None:
        return
    rows = encoded["input_ids"] if isinstance(text, list) else [encoded["input_ids"]]
    assert len(rows) == (len(text) if isinstance(text, list) else 1)
    for row in rows:
        assert row[-1] == 2
        assert all(0 <= token < len(tokenizer) for token in row)
    for row in encoded.get("character_ids", []) if not isinstance(text, list) else []:
        assert len(row) == 6
        assert all(0 <= character <= 256 for character in row)


@given(many)
def test_a_tokenizer_decodes_ids_and_refuses_others(data):
    draw = data.draw
    tokenizer = draw(st.sampled_from(tokenizers()), "tokenizer")
    size = len(getattr(tokenizer, "target", tokenizer))
    ids = draw(st.lists(st.integers(0, size - 1), max_size=6), "ids")
    is_wrong = draw(st.booleans(), "wrong")
    wrong = st.sampled_from([[-1], [1.5], ["a"], [None], [2**70], "text", None, 1.5])
    result = attempt(
        lambda: tokenizer.decode(draw(wrong, "ids") if is_wrong else ids), {"token_ids"} if is_wrong else ()
    )
    assert is_wrong or isinstance(result, str)


@pytest.mark.parametrize("length", [0, 1, 4096])
@pytest.mark.parametrize("index", [0, 1])
def test_a_tokenizer_reads_a_text_of_any_length(index, length):
    assert len(tokenizers()[index](" ".join(["mars"] * length))["input_ids"]) == length + 1


@pytest.mark.parametrize("value", [0, 1, 3, -2, 4.0, "6", True, None])
def test_a_wrong_word_length_is_refused(value):
    words = train_tokenizer(TEXTS, "word")
    attempt(lambda: AttentionRnnWordTokenizer.from_tokenizer(words, max_word_length=value), {"max_word_length"})


@pytest.mark.parametrize("target", [3, "file", None])
def test_a_wrong_target_is_refused(target):
    backend = train_tokenizer(TEXTS, "word").backend_tokenizer
    attempt(lambda: AttentionRnnTokenizer(tokenizer_object=backend, target=target), {"target"})
