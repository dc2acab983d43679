"""The loops behind generate() give what transformers' own loops give, and step aside where they do not apply."""

import itertools
import threading
from inspect import unwrap
from types import MethodType

import pytest
import torch
from tiny import SOME_COMBINATIONS, name, tiny_batch, tiny_model
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from transformers import GenerationConfig, GenerationMixin, MaxTimeCriteria, StoppingCriteriaList
from transformers.generation import BaseStreamer

from attention_rnn import AttentionRnnForConditionalGeneration, AttentionRnnModel
from attention_rnn.models.attention import AdditiveAttention, Memory
from attention_rnn.models.beams import Beams, top
from attention_rnn.models.cache import CACHE, new_cache
from attention_rnn.models.cells import GRUCell
from attention_rnn.models.decoder import AttentionRnnDecoder
from attention_rnn.models.decoder_layer import AttentionRnnDecoderLayer
from attention_rnn.models.decoder_step import DecoderStep, prepare
from attention_rnn.models.generation import AttentionRnnGenerationMixin
from attention_rnn.models.prepared_linear import ContextReader, PreparedLinear
from attention_rnn.models.readout import AttentionRnnReadout
from attention_rnn.tokenizer_training import train_tokenizer

VARIANTS = [
    {"attention_type": "additive", "context_feeding": "input", "copy": True, "coverage": True},
    {"attention_type": "general", "context_feeding": "parallel", "copy": True},
    {"attention_type": "location", "context_feeding": "conditional", "coverage": True},
    {"attention_type": "multi_head", "context_feeding": "output", "layer_norm": True, "cell_layer_norm": True},
    {"attention_type": "additive", "context_feeding": "parallel", "residual": True, "source_vocab_size": 23},
]
every_combination = pytest.mark.parametrize("combination", [*SOME_COMBINATIONS, *VARIANTS], ids=name)


class Transformers(AttentionRnnForConditionalGeneration):
    """The same model with the loops of transformers."""

    _sample = GenerationMixin._sample
    _beam_search = GenerationMixin._beam_search


class NotCovered(Exception):
    pass


@pytest.fixture(autouse=True)
def refuse(monkeypatch):
    """Our loops may not hand a request over to transformers'."""

    def raise_not_covered(*args, **kwargs):
        raise NotCovered

    monkeypatch.setattr(GenerationMixin, "_sample", raise_not_covered)
    monkeypatch.setattr(GenerationMixin, "_beam_search", raise_not_covered)


def double_model(**overrides):
    """In double precision, where rounding in another order changes no choice."""
    return tiny_model(**overrides).double()


def generate(model, own=True, rows=slice(None), seed=0, **options):
    batch = tiny_batch(model)
    torch.manual_seed(seed)
    model.__class__ = AttentionRnnForConditionalGeneration if own else Transformers
    options = {"max_new_tokens": 9, **options}
    return model.generate(batch["input_ids"][rows], attention_mask=batch["attention_mask"][rows], **options)


def assert_same(model, **options):
    ours, theirs = generate(model, **options), generate(model, own=False, **options)
    assert torch.equal(ours, theirs), (ours, theirs)
    return ours


STRATEGIES = {
    "greedy": {},
    "sampling": {"do_sample": True, "num_return_sequences": 2},
    "beam": {"num_beams": 4, "num_return_sequences": 2},
}
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())


@pytest.mark.parametrize("strategy", ["greedy", "beam"])
@every_combination
def test_every_model_gives_the_same_tokens(combination, strategy):
    assert_same(double_model(**combination), **STRATEGIES[strategy])


@every_strategy
def test_a_single_source_gives_the_same_tokens(strategy):
    assert_same(double_model(), rows=slice(1), **strategy)


def only_even(input_ids, scores):
    return scores.index_fill(1, torch.arange(1, scores.shape[1], 2), -torch.inf)


def stop_at_seven(input_ids, scores, **kwargs):
    return (input_ids == 7).any(dim=1)


SETTINGS = {
    "max_length": {"max_length": 5, "max_new_tokens": None},
    "one_token": {"max_new_tokens": 1},
    "min_length": {"min_length": 6},
    "min_new_tokens": {"min_new_tokens": 9},
    "several_eos": {"eos_token_id": [2, 5, 6, 11]},
    "other_padding": {"pad_token_id": 4, "eos_token_id": [2, 5, 6]},
    "no_eos": {"eos_token_id": None},
    "eos_beyond_the_vocabulary": {"eos_token_id": [2, 5, 400], "min_new_tokens": 4},
    "repetition_penalty": {"repetition_penalty": 1.5},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 2},
    "encoder_repetition_penalty": {"encoder_repetition_penalty": 1.5},
    "encoder_no_repeat_ngram_size": {"encoder_no_repeat_ngram_size": 1},
    "bad_words_ids": {"bad_words_ids": [[7], [8, 9]]},
    "sequence_bias": {"sequence_bias": {(9,): 3.0, (10, 11): -4.0}},
    "suppress_tokens": {"suppress_tokens": [3, 4], "begin_suppress_tokens": [2, 8]},
    "forced": {"forced_bos_token_id": 8, "forced_eos_token_id": 2},
    "length_decay": {"exponential_decay_length_penalty": (2, 1.5)},
    "remove_invalid_values": {"remove_invalid_values": True},
    "renormalize_logits": {"renormalize_logits": True, "bad_words_ids": [[7]]},
    "prefix": {"prefix_allowed_tokens_fn": lambda batch, tokens: [2, 4 + batch, 8 + len(tokens)]},
    "own_processor": {"logits_processor": [only_even]},
    "own_criteria": {"stopping_criteria": StoppingCriteriaList([stop_at_seven, MaxTimeCriteria(60)])},
}


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS.keys())
def test_every_setting_gives_the_same_tokens(setting, num_beams):
    assert_same(double_model(), num_beams=num_beams, **setting)


WARPERS = {
    "temperature": {"temperature": 0.5},
    "top_k": {"top_k": 3},
    "top_p": {"top_p": 0.6},
    "min_p": {"min_p": 0.1},
    "typical_p": {"typical_p": 0.5},
    "cutoffs": {"epsilon_cutoff": 0.05, "eta_cutoff": 0.05},
    "several": {"num_return_sequences": 3},
    "processors": {"repetition_penalty": 1.5, "min_new_tokens": 4, "top_k": 5},
}


@pytest.mark.parametrize("warper", WARPERS.values(), ids=WARPERS.keys())
def test_sampling_draws_the_same_random_numbers(warper):
    assert_same(double_model(), do_sample=True, **warper)


@pytest.mark.parametrize(
    ("num_beams", "early_stopping", "length_penalty"),
    itertools.product([2, 5], [False, True, "never"], [-1.0, 0.0, 1.0, 2.0]),
)
def test_beam_search_ranks_as_transformers_does(num_beams, early_stopping, length_penalty):
    options = {"num_beams": num_beams, "early_stopping": early_stopping, "length_penalty": length_penalty}
    options |= {"return_dict_in_generate": True, "output_scores": True, "max_new_tokens": 12}
    model = double_model()
    for eos_token_id, returned in ((2, 1), ([2, 5, 6], num_beams)):
        ours, theirs = (
            generate(model, own, eos_token_id=eos_token_id, num_return_sequences=returned, **options)
            for own in (True, False)
        )
        assert torch.equal(ours.sequences, theirs.sequences)
        assert torch.equal(ours.beam_indices, theirs.beam_indices)
        assert len(ours.scores) == len(theirs.scores)
        torch.testing.assert_close(ours.sequences_scores, theirs.sequences_scores)


def test_more_beams_than_tokens():
    assert_same(double_model(vocab_size=6), num_beams=20, num_return_sequences=20, max_new_tokens=4)


def states_of(cache):
    layers = [*cache.self_attention_cache.layers, *cache.cross_attention_cache.layers]
    return [tensor for layer in layers for tensor in (layer.keys, layer.values) if tensor is not None]


@pytest.mark.parametrize("prompt", [None, [[1, 8, 9, 10]] * 3], ids=["start", "prompt"])
@every_strategy
@pytest.mark.parametrize("combination", [{}, VARIANTS[0], {"attention_type": None}], ids=["plain", "copy", "none"])
def test_everything_returned_is_the_same(combination, strategy, prompt):
    model = double_model(**combination)
    options = {name: True for name in ("output_scores", "output_logits", "output_attentions")}
    if prompt is not None:
        options["decoder_input_ids"] = torch.tensor(prompt)
    ours, theirs = (generate(model, own, return_dict_in_generate=True, **options, **strategy) for own in (True, False))
    assert list(ours.keys()) == list(theirs.keys())
    assert ours.past_key_values.get_seq_length() == theirs.past_key_values.get_seq_length()
    for field in set(ours.keys()) - {CACHE}:
        torch.testing.assert_close(ours[field], theirs[field])
    torch.testing.assert_close(states_of(ours.past_key_values), states_of(theirs.past_key_values))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_padded_prompt_is_continued_as_by_transformers(num_beams):
    prompt = torch.tensor([[1, 8, 9, 10], [0, 0, 1, 8], [0, 1, 11, 12]])
    assert_same(
        double_model(),
        num_beams=num_beams,
        decoder_input_ids=prompt,
        decoder_attention_mask=(prompt != 0).long(),
        repetition_penalty=1.5,
        eos_token_id=[2, 5, 6],
    )


def test_copied_tokens_that_the_vocabulary_lacks_are_read_as_unknown():
    model = double_model(attention_type="additive", copy=True)
    copy_ids = tiny_batch(model)["input_ids"] + 15  # 19 and above are beyond the vocabulary
    assert (assert_same(model, copy_ids=copy_ids) >= model.config.vocab_size).any()
    # beam search of transformers 5.17 does not know more tokens than `vocab_size`
    assert (generate(model, copy_ids=copy_ids, num_beams=3) >= model.config.vocab_size).any()


def test_a_streamer_gets_the_same_tokens():
    class Collect(BaseStreamer):
        def __init__(self):
            self.tokens = []

        def put(self, value):
            self.tokens += value.flatten().tolist()

        def end(self):
            self.tokens.append("end")

    streamers = [Collect(), Collect()]
    for own, streamer in zip((True, False), streamers, strict=True):
        generate(double_model(), own, streamer=streamer)
    assert streamers[0].tokens == streamers[1].tokens


@pytest.fixture
def sizes(monkeypatch):
    """How many rows each of our steps has."""
    sizes, call = [], DecoderStep.__call__

    def note_size(self, tokens, state):
        sizes.append(len(tokens))
        return call(self, tokens, state)

    monkeypatch.setattr(DecoderStep, "__call__", note_size)
    return sizes


def random_sources(count):
    return torch.randint(4, 15, (count, 8), generator=torch.Generator().manual_seed(0))


def generate_for_many(model, own=True, sources=None, **options):
    torch.manual_seed(0)
    model.__class__ = AttentionRnnForConditionalGeneration if own else Transformers
    sources = random_sources(12) if sources is None else sources
    return model.generate(sources, **{"eos_token_id": [2, *range(4, 12)], "max_new_tokens": 15, **options})


def count_steps(model, source, **options):
    outputs = generate_for_many(
        model, sources=source[None], return_dict_in_generate=True, output_scores=True, **options
    )
    return len(outputs.scores)


@pytest.mark.parametrize(
    "options",
    [{}, {"num_beams": 3}, {"num_beams": 3, "early_stopping": True}, {"min_new_tokens": 3, "bad_words_ids": [[15]]}],
    ids=["greedy", "beam", "early_stopping", "processors"],
)
def test_finished_sources_leave_and_come_back_in_order(options, sizes):
    model = double_model()
    pool = sorted(random_sources(24), key=lambda source: count_steps(model, source, **options))
    assert count_steps(model, pool[3], **options) < count_steps(model, pool[-1], **options)
    sources = torch.stack([source for pair in zip(pool[:6], pool[-6:], strict=True) for source in pair])
    sizes.clear()
    ours, theirs = (generate_for_many(model, own, sources, **options) for own in (True, False))
    assert torch.equal(ours, theirs)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 12 * options.get("num_beams", 1)


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": True, "top_k": 0},
        {"encoder_no_repeat_ngram_size": 2},
        {"logits_processor": [only_even]},
        {"return_dict_in_generate": True},
    ],
    ids=["sampling", "batch", "own", "returned"],
)
def test_sources_that_would_be_missed_stay(options, sizes):
    model = double_model(seed=1)
    ours, theirs = (generate_for_many(model, own, **options) for own in (True, False))
    if "return_dict_in_generate" in options:
        ours, theirs = ours.sequences, theirs.sequences
    assert torch.equal(ours, theirs)
    assert set(sizes) == {12}


def test_sources_stay_where_tokens_that_only_they_can_copy_would_be_missed(sizes):
    model = double_model(attention_type="additive", copy=True)
    copy_ids = torch.arange(12 * 8).view(12, 8) + 4  # 19 and above are beyond the vocabulary
    options = {"copy_ids": copy_ids, "bad_words_ids": [[7]]}
    assert torch.equal(generate_for_many(model, **options), generate_for_many(model, own=False, **options))
    assert set(sizes) == {12}


def test_sequences_that_a_string_stops_go_on_with_the_others_where_nothing_ends_them():
    tokenizer = train_tokenizer(["abcdefghijklmno"], kind="character")
    model = double_model(vocab_size=len(tokenizer))
    options = {"eos_token_id": None, "stop_strings": ["a", "b", "c", "d"], "tokenizer": tokenizer}
    ours, theirs = (generate_for_many(model, own, **options) for own in (True, False))
    assert torch.equal(ours, theirs)
    assert ours.shape[1] > 2


@pytest.mark.parametrize("attention_type", ["additive", "location"])
def test_beams_share_the_memory_of_their_source(attention_type, monkeypatch):
    model = tiny_model(attention_type=attention_type)
    attention = type(model.model.decoder.attention)
    seen, score = set(), attention.score

    def note_memory(self, query, memory, alignment):
        seen.add(len(memory.keys))
        return score(self, query, memory, alignment)

    monkeypatch.setattr(attention, "score", note_memory)
    generate(model, num_beams=4, min_new_tokens=9, return_dict_in_generate=True)
    # what looks back sees another memory in each beam
    assert seen == ({3} if attention_type == "additive" else {3, 4 * 3})


def test_two_threads_generate_at_once():
    model = double_model()
    options = [{}, {"num_beams": 3}] * 2
    expected, results = [generate(model, **option) for option in options], {}

    def work(index):
        results[index] = generate(model, **options[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(options))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(results[index], tokens) for index, tokens in enumerate(expected))


def test_the_model_is_left_as_it_was():
    model = tiny_model()
    attributes, modules = set(vars(model)), [(type(module), set(vars(module))) for module in model.modules()]
    generate(model)
    generate(model, num_beams=3)
    assert set(vars(model)) == attributes
    assert [(type(module), set(vars(module))) for module in model.modules()] == modules


@pytest.mark.parametrize("strategy", [{}, {"num_beams": 3}], ids=["greedy", "beam"])
def test_a_matrix_that_is_no_plain_linear_is_called(strategy):
    class Doubled(nn.Linear):
        def forward(self, inputs):
            return 2 * super().forward(inputs)

    model = double_model()
    decoder = model.model.decoder
    cells = [layer.cell for layer in decoder.layers]
    for module in [model.lm_head, decoder.readout.projection, cells[0].hidden_to_hidden, cells[1].input_to_hidden]:
        module.__class__ = Doubled
    assert_same(model, **strategy)


def test_autocast_gives_the_same_tokens():
    model = tiny_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(model, min_new_tokens=9)


def with_hook(model):
    model.model.decoder.layers[0].register_forward_hook(lambda *args: None)


def with_hook_before(model):
    model.model.decoder.attention.register_forward_pre_hook(lambda *args: None)


def with_own_forward(model):
    model.forward = MethodType(type(model).forward, model)


def in_training(model):
    model.train()


def with_dropout_alone(model):
    model.model.decoder.layers[0].dropout.train()


def without_unknown_token(model):
    model.config.copy, model.config.unk_token_id = True, None


CHANGES = [with_hook, with_hook_before, with_own_forward, in_training, with_dropout_alone, without_unknown_token]


@pytest.mark.parametrize("strategy", [{}, {"num_beams": 3}], ids=["greedy", "beam"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_gets_the_loops_of_transformers(change, strategy):
    model = tiny_model()
    change(model)
    with pytest.raises(NotCovered):
        generate(model, **strategy)


@pytest.mark.parametrize(
    "method", ["forward", "predict", "prepare_inputs_for_generation", "_update_model_kwargs_for_generation"]
)
def test_a_subclass_with_another_step_gets_the_loops_of_transformers(method):
    def another(self, *args, **kwargs):
        return getattr(AttentionRnnForConditionalGeneration, method)(self, *args, **kwargs)

    model = tiny_model()
    model.__class__ = type("Another", (AttentionRnnForConditionalGeneration,), {method: another})
    with pytest.raises(NotCovered):
        model.generate(tiny_batch(model)["input_ids"], max_new_tokens=3)


def test_a_base_model_that_decodes_otherwise_gets_the_loops_of_transformers():
    class Another(AttentionRnnModel):
        def decode_target(self, *args, **kwargs):
            return super().decode_target(*args, **kwargs)

    model = tiny_model()
    model.model.__class__ = Another
    with pytest.raises(NotCovered):
        model.generate(tiny_batch(model)["input_ids"], max_new_tokens=3)


class LouderLayer(AttentionRnnDecoderLayer):
    def forward(self, *args, **kwargs):
        output, states = super().forward(*args, **kwargs)
        return 2 * output, states


class FlatterAttention(AdditiveAttention):
    def score(self, query, memory, alignment):
        return -3 * super().score(query, memory, alignment)


class OtherReadout(AttentionRnnReadout):
    def forward(self, output, context, embeddings, mask):
        return -super().forward(output.flip(-1), context, embeddings, mask)


class OtherCell(GRUCell):
    def input_products(self, inputs):
        return super().input_products(inputs.flip(-1))


PARTS = {
    "layers.1": LouderLayer,
    "attention": FlatterAttention,
    "readout": OtherReadout,
    "layers.1.cell": OtherCell,
}


@pytest.mark.parametrize("strategy", [{}, {"num_beams": 3}], ids=["greedy", "beam"])
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("feeding", ["parallel", "input"])
def test_a_part_of_a_users_own_class_is_used_in_our_loops(feeding, part, strategy):
    model = double_model(context_feeding=feeding)
    options = {"return_dict_in_generate": True, "output_logits": True, "min_new_tokens": 9, **strategy}
    before = generate(model, **options)
    model.model.decoder.get_submodule(part).__class__ = PARTS[part]
    ours, theirs = (generate(model, own, **options) for own in (True, False))
    torch.testing.assert_close(ours.logits, theirs.logits)
    assert not torch.allclose(ours.logits[1], before.logits[1])


class Louder(nn.Module):
    def forward(self, inputs, mask=None):
        return 1.7 * inputs


@pytest.mark.parametrize("strategy", [{}, {"num_beams": 3}], ids=["greedy", "beam"])
@pytest.mark.parametrize("part", ["dropout", "word_dropout"])
def test_what_a_user_has_put_behind_the_embeddings_is_used_in_our_loops(part, strategy):
    model = double_model()
    setattr(model.model.decoder, part, Louder().eval())
    options = {"return_dict_in_generate": True, "output_logits": True, "min_new_tokens": 9, **strategy}
    ours, theirs = (generate(model, own, **options) for own in (True, False))
    torch.testing.assert_close(ours.logits, theirs.logits)


@pytest.mark.parametrize("source_vocab_size", [None, 23])
def test_embeddings_of_a_users_own_get_the_loops_of_transformers(source_vocab_size):
    model = tiny_model(source_vocab_size=source_vocab_size)
    front = model.model.target_front
    front.embed = lambda name, tokens: 2 * type(front).embed(front, name, tokens)
    with pytest.raises(NotCovered):
        generate(model)


@pytest.mark.parametrize("method", ["step", "decode", "_project"])
def test_a_decoder_of_a_users_own_class_gets_the_loops_of_transformers(method):
    def another(self, *args, **kwargs):
        return getattr(AttentionRnnDecoder, method)(self, *args, **kwargs)

    model = tiny_model()
    model.model.decoder.__class__ = type("Another", (AttentionRnnDecoder,), {method: another})
    with pytest.raises(NotCovered):
        generate(model)


def test_the_reference_backend_gets_the_loops_of_transformers():
    with pytest.raises(NotCovered):
        generate(tiny_model(recurrence_backend="reference"))


SPECIAL_TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 1}


def test_beam_search_costs_no_more_where_it_might_go_on_longer():
    """What it keeps is as long as the hypotheses are."""
    model = tiny_model()
    batch = tiny_batch(model)
    config = GenerationConfig(num_beams=2, max_length=8192, length_penalty=1.0, **SPECIAL_TOKENS)
    model._prepare_special_tokens(config, device="cpu")
    beams = Beams(torch.ones(2 * len(batch["input_ids"]), 1, dtype=torch.long), config)
    beams.extend(torch.randn(6, 19).log_softmax(-1), lambda ids, scores: torch.zeros(len(ids), dtype=torch.bool), None)
    tensors = [value for value in vars(beams).values() if isinstance(value, torch.Tensor)]
    assert max(tensor.numel() for tensor in tensors) == 3 * 2 * 2


def test_a_subclass_with_the_same_step_keeps_our_loops():
    model = tiny_model()
    expected = generate(model)
    model.__class__ = type("Same", (AttentionRnnForConditionalGeneration,), {})
    batch = tiny_batch(model)
    tokens = model.generate(batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=9)
    assert torch.equal(tokens, expected)


NOT_COVERED = {
    "no_cache": {"use_cache": False},
    "static_cache": {"cache_implementation": "static"},
    "hidden_states": {"output_hidden_states": True, "return_dict_in_generate": True},
    "chunks": {"prefill_chunk_size": 2},
    "beam_sampling": {"do_sample": True, "num_beams": 3},
    "synced": {"synced_gpus": True},
}


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("request_", NOT_COVERED.values(), ids=NOT_COVERED.keys())
def test_other_requests_get_the_loops_of_transformers(request_, num_beams):
    with pytest.raises(NotCovered):
        generate(tiny_model(), **{"num_beams": num_beams, **request_})


def test_a_cache_of_the_user_gets_the_loop_of_transformers():
    model = tiny_model()
    with pytest.raises(NotCovered):
        generate(model, past_key_values=new_cache(model.config))


def test_encoder_outputs_without_names_get_the_loop_of_transformers():
    model = tiny_model()
    batch = tiny_batch(model)
    encoder_outputs = model.get_encoder()(batch["input_ids"], batch["attention_mask"]).to_tuple()
    with pytest.raises(NotCovered):
        model.generate(encoder_outputs=encoder_outputs, attention_mask=batch["attention_mask"], max_new_tokens=3)


def test_gradients_get_the_loop_of_transformers():
    model = tiny_model()
    with pytest.raises(NotCovered):
        unwrap(GenerationMixin.generate)(model, tiny_batch(model)["input_ids"], max_new_tokens=3)


@pytest.mark.parametrize("width", [10, 64 * 40, 64 * 40 + 17])
def test_top_is_topk(width):
    scores = torch.randn(3, width, generator=torch.Generator().manual_seed(0))
    values, indices = top(scores, 5)
    expected = scores.topk(5)
    assert torch.equal(values, expected.values)
    assert torch.equal(indices, expected.indices)


LARGE = {"embedding_size": 90, "hidden_size": 160, "attention_size": 420, "vocab_size": 800}


@pytest.mark.parametrize("rows", [slice(None), slice(1)], ids=["three", "one"])
@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize(
    "combination",
    [{}, {"context_feeding": "conditional", "cell_type": "lstm"}, {"attention_type": "multi_head"}],
    ids=["gru", "lstm", "multi_head"],
)
def test_large_matrices_in_single_precision_give_the_same_logits(combination, num_beams, rows):
    model = tiny_model(**LARGE, **combination)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.3)  # so that the states do not saturate
    options = {"return_dict_in_generate": True, "output_logits": True, "min_new_tokens": 9}
    ours, theirs = (generate(model, own, rows, num_beams=num_beams, **options) for own in (True, False))
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-4, atol=1e-4)


def prepared(source=8, steps=9, **overrides):
    model = tiny_model(**overrides)
    decoder = model.model.decoder
    keys, values = decoder._project(torch.randn(3, source, model.config.memory_size))
    memory = Memory(keys, values, None)
    prepared = prepare(decoder, model.lm_head, memory, beams=1, steps=steps)
    return DecoderStep(prepared, None, prepared.read(memory), None, beams=1)


@pytest.mark.parametrize(
    ("overrides", "sizes"),
    [
        ({"context_feeding": "parallel"}, [30, 30, 6]),
        ({"context_feeding": "output", "copy": True}, [6, 1]),
        ({"context_feeding": "conditional", "cell_type": "lstm"}, [40, 6]),
    ],
)
def test_products_with_the_context_are_made_for_the_memory(overrides, sizes):
    step = prepared(**overrides)
    readers = [module for module in step.decoder.modules() if isinstance(module, ContextReader)]
    assert [reader.layer.out_features for reader in readers] == sizes
    assert step.memory.values.shape == (3, 8, sum(sizes))


@pytest.mark.parametrize(
    "overrides",
    [{"attention_type": None}, {"attention_type": "multi_head"}, {"layer_norm": True}, {"source": 10}],
    ids=["no attention", "a matrix after the mean", "layer norm", "short target"],
)
def test_products_with_the_context_are_made_at_each_step_where_they_must_be_or_cost_less(overrides):
    step = prepared(**overrides)
    assert not any(isinstance(module, ContextReader) for module in step.decoder.modules())


def test_large_plain_matrices_are_prepared():
    twins = prepared(**LARGE)
    assert isinstance(twins.lm_head, PreparedLinear)
    assert isinstance(twins.decoder.attention.query, PreparedLinear)
    assert type(twins.decoder.attention.energy) is nn.Linear


def test_a_hook_on_all_modules_sees_those_of_each_step():
    calls = []
    handle = register_module_forward_hook(lambda module, *args: calls.append(type(module).__name__))
    try:
        tokens = generate(tiny_model(), min_new_tokens=9)
    finally:
        handle.remove()
    assert calls.count("AttentionRnnReadout") == tokens.shape[1] - 1


def test_a_module_that_is_called_in_its_own_way_is_called_so():
    class Louder(AttentionRnnReadout):
        def __call__(self, *args):
            return 2 * super().__call__(*args)

    model = tiny_model()
    model.model.decoder.readout.__class__ = Louder
    options = {"return_dict_in_generate": True, "output_logits": True, "min_new_tokens": 9}
    ours, theirs = (generate(model, own, **options) for own in (True, False))
    torch.testing.assert_close(ours.logits, theirs.logits)


@pytest.mark.parametrize("returned", [1, 2])
def test_transformers_loop_continues_from_the_returned_cache(returned):
    model = double_model()
    options = {"return_dict_in_generate": True, "eos_token_id": None}
    begun = generate(model, max_new_tokens=4, do_sample=returned > 1, num_return_sequences=returned, **options)
    batch = {name: tensor.repeat_interleave(returned, dim=0) for name, tensor in tiny_batch(model).items()}
    model.__class__ = Transformers
    expected, continued = (
        model.generate(
            batch["input_ids"],
            attention_mask=batch["attention_mask"],
            decoder_input_ids=begun.sequences,
            decoder_attention_mask=torch.ones_like(begun.sequences),
            max_new_tokens=5,
            **cache,
            **options,
        )
        for cache in ({}, {"past_key_values": begun.past_key_values})
    )
    assert torch.equal(continued.sequences, expected.sequences)


def test_generate_picks_our_loops():
    assert AttentionRnnForConditionalGeneration._sample is AttentionRnnGenerationMixin._sample
    assert AttentionRnnForConditionalGeneration._beam_search is AttentionRnnGenerationMixin._beam_search
