"""generate(), with what transformers offers around it."""

import pytest
import torch
from tiny import BATCH, SOME_COMBINATIONS, SOURCE, name, tiny_batch, tiny_model
from torch._dynamo.testing import CompileCounter
from transformers import MaxTimeCriteria, StoppingCriteriaList
from transformers.generation import BaseStreamer, GenerateBeamEncoderDecoderOutput, GenerateEncoderDecoderOutput

from attention_rnn.models.cache import new_cache
from attention_rnn.models.configuration_decoder import CACHE_NAMES
from attention_rnn.tokenizer_training import pair_tokenizers, train_tokenizer

COPYING = [
    {"attention_type": "additive", "context_feeding": feeding, "copy": True, "coverage": True}
    for feeding in ("parallel", "input")
]
every_combination = pytest.mark.parametrize("combination", [*SOME_COMBINATIONS, *COPYING], ids=name)

STRATEGIES = {
    "greedy": {},
    "sampling": {"do_sample": True, "top_k": 5, "temperature": 0.7},
    "several-samples": {"do_sample": True, "num_return_sequences": 2},
    "beam": {"num_beams": 4},
    "beam-n-best": {"num_beams": 4, "num_return_sequences": 3, "length_penalty": 0.5},
    "beam-sampling": {"num_beams": 3, "do_sample": True},
    "processors": {"min_new_tokens": 4, "no_repeat_ngram_size": 2, "repetition_penalty": 1.3, "bad_words_ids": [[7]]},
}


def generate(model, seed=0, rows=slice(None), **options):
    batch = tiny_batch(model)
    torch.manual_seed(seed)
    options = {"max_new_tokens": 9, **options}
    return model.generate(batch["input_ids"][rows], attention_mask=batch["attention_mask"][rows], **options)


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())
@every_combination
def test_the_cache_changes_no_token(combination, strategy):
    model = tiny_model(**combination)
    cached, uncached = (generate(model, use_cache=use_cache, **strategy) for use_cache in (True, False))
    assert torch.equal(cached, uncached)


@pytest.mark.parametrize("use_cache", [True, False], ids=["cache", "no-cache"])
@pytest.mark.parametrize("rows", [slice(1), slice(3)], ids=["one", "three"])
@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())
def test_the_output_object_holds_the_same_tokens(strategy, rows, use_cache):
    model = tiny_model()
    options = {"rows": rows, "use_cache": use_cache, **strategy}
    tokens = generate(model, **options)
    output = generate(model, return_dict_in_generate=True, output_scores=True, **options)
    assert torch.equal(output.sequences, tokens)
    assert tokens.shape[0] == rows.stop * strategy.get("num_return_sequences", 1)
    assert (output.past_key_values is not None) == use_cache
    expected = GenerateEncoderDecoderOutput if "num_beams" not in strategy else GenerateBeamEncoderDecoderOutput
    assert type(output) is expected


@pytest.mark.parametrize("strategy", ["greedy", "beam"])
@every_combination
def test_padding_changes_no_token(combination, strategy):
    model = tiny_model(**combination)
    batch = tiny_batch(model)
    together = generate(model, **STRATEGIES[strategy])
    for row in range(BATCH):
        real = batch["attention_mask"][row].bool()
        alone = model.generate(batch["input_ids"][row : row + 1, real], max_new_tokens=9, **STRATEGIES[strategy])[0]
        assert torch.equal(together[row, : len(alone)], alone)
        # transformers' beam search fills up with eos where the padding token has the id 0
        assert torch.isin(together[row, len(alone) :], torch.tensor([0, 2])).all()


def test_greedy_takes_the_best_token_of_the_whole_sequence_model():
    model = tiny_model()
    batch = tiny_batch(model)
    tokens = generate(model, min_new_tokens=9)
    with torch.no_grad():
        logits = model(batch["input_ids"], batch["attention_mask"], decoder_input_ids=tokens).logits[:, :-1]
    logits[:, :, model.config.eos_token_id] = -torch.inf
    assert torch.equal(logits.argmax(-1), tokens[:, 1:])


def test_beam_search_finds_the_likeliest_sequence():
    model = tiny_model(vocab_size=6)
    batch = {key: value[:1] for key, value in tiny_batch(model).items()}
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    length = 4
    tokens = model.generate(
        **inputs, num_beams=6**length, max_new_tokens=length, min_new_tokens=length, length_penalty=0.0
    )[0, 1:]

    every = torch.cartesian_prod(*[torch.tensor([0, 1, 3, 4, 5])] * (length - 1), torch.arange(6))
    start = torch.full((len(every), 1), model.config.decoder_start_token_id)
    targets = torch.cat([start, every], 1)
    with torch.no_grad():
        logits = model(
            **{key: value.expand(len(every), -1) for key, value in inputs.items()}, decoder_input_ids=targets[:, :-1]
        ).logits
    logits[:, :, model.config.eos_token_id] = -torch.inf
    scores = logits.log_softmax(-1).gather(2, every[..., None]).sum((1, 2))
    assert scores.argmax() == ((every == tokens).all(1)).nonzero().item()


@pytest.mark.parametrize("strategy", ["greedy", "several-samples", "beam-n-best", "beam-sampling"])
def test_everything_that_can_be_returned(strategy):
    model = tiny_model()
    options = {"output_scores": True, "output_logits": True, "output_attentions": True, "output_hidden_states": True}
    output = generate(model, return_dict_in_generate=True, **options, **STRATEGIES[strategy])
    beams = STRATEGIES[strategy].get("num_beams", 1)
    returned = STRATEGIES[strategy].get("num_return_sequences", 1)
    steps = len(output.scores)
    assert output.sequences.shape[0] == returned * BATCH
    rows = BATCH * max(beams, returned)
    assert all(score.shape == (rows, 19) for score in (*output.scores, *output.logits))
    assert len(output.cross_attentions) == len(output.decoder_hidden_states) == steps
    assert all(weights[0].shape == (rows, 1, 1, SOURCE) for weights in output.cross_attentions)
    assert [state.shape for state in output.decoder_hidden_states[0]][-1] == (rows, 1, 10)
    assert output.encoder_hidden_states[-1].shape == (BATCH, SOURCE, 20)


def test_transition_scores_are_the_log_probabilities_of_the_tokens():
    model = tiny_model()
    batch = tiny_batch(model)
    output = generate(model, return_dict_in_generate=True, output_scores=True, min_new_tokens=9)
    scores = model.compute_transition_scores(output.sequences, output.scores, normalize_logits=True)
    with torch.no_grad():
        logits = model(batch["input_ids"], batch["attention_mask"], decoder_input_ids=output.sequences[:, :-1]).logits
    logits[:, :, model.config.eos_token_id] = -torch.inf
    expected = logits.log_softmax(-1).gather(2, output.sequences[:, 1:, None])[..., 0]
    torch.testing.assert_close(scores, expected)


def test_transition_scores_of_a_beam_add_up_to_its_score():
    model = tiny_model()
    output = generate(
        model, return_dict_in_generate=True, output_scores=True, num_beams=4, num_return_sequences=3, length_penalty=0.5
    )
    scores = model.compute_transition_scores(output.sequences, output.scores, output.beam_indices)
    lengths = (output.beam_indices >= 0).sum(-1)
    torch.testing.assert_close(scores.sum(-1) / lengths**0.5, output.sequences_scores)


@pytest.mark.parametrize("strategy", ["several-samples", "beam"])
@every_combination
def test_a_prompt_is_continued(combination, strategy):
    model = tiny_model(**combination)
    prompt = torch.tensor([[1, 8, 9, 10], [1, 11, 8, 12], [1, 5, 5, 5]])
    options = {"decoder_input_ids": prompt, **STRATEGIES[strategy]}
    cached, uncached = (generate(model, use_cache=use_cache, **options) for use_cache in (True, False))
    assert torch.equal(cached, uncached)
    assert torch.equal(cached[:, :4], prompt.repeat_interleave(len(cached) // BATCH, dim=0))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_left_padded_prompt_is_continued_as_if_alone(num_beams):
    model = tiny_model()
    batch = tiny_batch(model)
    prompt = torch.tensor([[1, 8, 9, 10], [0, 0, 1, 8], [0, 1, 11, 12]])
    options = {"max_new_tokens": 9, "min_new_tokens": 9, "num_beams": num_beams}
    tokens = generate(model, decoder_input_ids=prompt, decoder_attention_mask=(prompt != 0).long(), **options)
    for row, start in enumerate((0, 2, 1)):
        alone = model.generate(
            batch["input_ids"][row : row + 1],
            attention_mask=batch["attention_mask"][row : row + 1],
            decoder_input_ids=prompt[row : row + 1, start:],
            **options,
        )
        assert torch.equal(tokens[row, -9:], alone[0, -9:])


@pytest.mark.parametrize("num_beams", [1, 3])
def test_embeddings_and_encoder_outputs_take_the_place_of_ids(num_beams):
    model = tiny_model()
    batch = tiny_batch(model)
    expected = generate(model, num_beams=num_beams)
    mask = {"attention_mask": batch["attention_mask"], "max_new_tokens": 9, "num_beams": num_beams}
    embeddings = model.get_input_embeddings()(batch["input_ids"])
    assert torch.equal(model.generate(inputs_embeds=embeddings, **mask), expected)
    encoder_outputs = model.get_encoder()(batch["input_ids"], batch["attention_mask"])
    assert torch.equal(model.generate(encoder_outputs=encoder_outputs, **mask), expected)


@every_combination
def test_generation_goes_on_from_a_returned_cache(combination):
    model = tiny_model(**combination)
    expected = generate(model, max_new_tokens=8, min_new_tokens=8)
    first = generate(model, max_new_tokens=4, min_new_tokens=4, return_dict_in_generate=True)
    rest = generate(
        model,
        decoder_input_ids=first.sequences,
        decoder_attention_mask=torch.ones_like(first.sequences),
        past_key_values=first.past_key_values,
        max_new_tokens=4,
        min_new_tokens=4,
    )
    assert torch.equal(rest, expected)


@every_combination
def test_a_static_cache_changes_no_token(combination):
    model = tiny_model(**combination)
    options = {"disable_compile": True, **STRATEGIES["beam"]}
    assert torch.equal(generate(model, cache_implementation="static", **options), generate(model, **options))


@pytest.mark.parametrize("argument", CACHE_NAMES)
def test_the_cache_has_both_names_that_transformers_gives_it(argument):
    model = tiny_model()
    batch = tiny_batch(model)
    source = {key: batch[key] for key in ("input_ids", "attention_mask")}
    tokens = batch["labels"].clamp(min=0)
    expected = model(**source, decoder_input_ids=tokens).logits
    cache = new_cache(model.config)
    for step in range(tokens.shape[1]):
        outputs = model(**source, decoder_input_ids=tokens[:, step : step + 1], **{argument: cache})
        torch.testing.assert_close(outputs.logits[:, 0], expected[:, step])
    assert outputs.past_key_values is cache
    assert torch.equal(generate(model, **{argument: new_cache(model.config)}), generate(model))
    with pytest.raises(ValueError, match="at most one of `cache` and `past_key_values`"):
        model(**source, decoder_input_ids=tokens, cache=cache, past_key_values=cache)


@pytest.mark.parametrize(
    ("cache", "combination"),
    [("static", {"cell_type": "lstm", "context_feeding": "input"}), ("dynamic", {"context_feeding": "parallel"})],
    ids=["static", "dynamic"],
)
def test_a_compiled_step_is_one_graph_for_all_steps(cache, combination):
    model = tiny_model(encoder_layers=1, decoder_layers=2, **combination)
    options = {"min_new_tokens": 9, "cache_implementation": cache, "disable_compile": True}
    expected = generate(model, **options)
    torch._dynamo.reset()
    graphs = CompileCounter()
    model.forward = torch.compile(model.forward, backend=graphs, fullgraph=True)
    assert torch.equal(generate(model, **options), expected)
    assert graphs.frame_count == 2  # the first step begins, the others go on from a state


@every_combination
def test_assisted_decoding_changes_no_token(combination):
    model, assistant = tiny_model(**combination), tiny_model(seed=1, **combination)
    batch = {key: value[:1] for key, value in tiny_batch(model).items()}
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "max_new_tokens": 12}
    expected = model.generate(**inputs)
    assert torch.equal(model.generate(**inputs, assistant_model=assistant), expected)
    assert torch.equal(model.generate(**inputs, prompt_lookup_num_tokens=3), expected)


def test_assisted_decoding_keeps_to_logits_processors_and_returns_scores():
    model, assistant = tiny_model(), tiny_model(seed=1)
    options = {"rows": slice(1), "min_new_tokens": 6, "bad_words_ids": [[6], [9]], "return_dict_in_generate": True}
    expected = generate(model, output_logits=True, **options)
    assisted = generate(model, output_logits=True, assistant_model=assistant, **options)
    assert torch.equal(assisted.sequences, expected.sequences)
    for logits, expected_logits in zip(assisted.logits, expected.logits, strict=True):
        torch.testing.assert_close(logits, expected_logits)


def test_assisted_sampling_follows_the_distribution_of_the_model():
    model, assistant = tiny_model(vocab_size=6), tiny_model(vocab_size=6, seed=1)
    inputs = {key: value[:1] for key, value in tiny_batch(model).items() if key != "labels"}
    with torch.no_grad():
        logits = model(**inputs, decoder_input_ids=torch.tensor([[model.config.decoder_start_token_id]])).logits[0, 0]
    torch.manual_seed(0)
    options = {"do_sample": True, "max_new_tokens": 2, "assistant_model": assistant}
    first = torch.tensor([model.generate(**inputs, **options)[0, 1].item() for _ in range(150)])
    frequencies = torch.bincount(first, minlength=6) / len(first)
    torch.testing.assert_close(frequencies, logits.softmax(-1), atol=0.12, rtol=0)


@pytest.mark.parametrize("num_beams", [1, 4])
def test_tokens_are_forced_forbidden_and_kept_up(num_beams):
    model = tiny_model(seed=1)
    free = generate(model, num_beams=num_beams)
    common = free[:, 1:].flatten().mode().values.item()
    assert (generate(model, num_beams=num_beams, bad_words_ids=[[common]]) != common).all()
    assert (generate(model, num_beams=num_beams, forced_bos_token_id=8)[:, 1] == 8).all()
    long = generate(model, num_beams=num_beams, min_length=9, forced_eos_token_id=2)
    assert (long[:, 1:9] != 2).all()
    assert (long[:, -1] == 2).all()


def test_a_streamer_gets_the_tokens_one_by_one():
    class Collect(BaseStreamer):
        def __init__(self):
            self.tokens = []

        def put(self, value):
            self.tokens += value.flatten().tolist()

        def end(self):
            self.tokens.append("end")

    model, streamer = tiny_model(), Collect()
    batch = {key: value[:1] for key, value in tiny_batch(model).items()}
    tokens = model.generate(batch["input_ids"], max_new_tokens=6, streamer=streamer)
    assert streamer.tokens == [*tokens[0].tolist(), "end"]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_own_processors_and_criteria_are_called(num_beams):
    model = tiny_model()

    def only_nine(input_ids, scores):
        return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([9]), 0.0)

    def stop_at_three(input_ids, scores, **kwargs):
        return torch.full((input_ids.shape[0],), input_ids.shape[1] >= 4, dtype=torch.bool)

    tokens = generate(
        model,
        num_beams=num_beams,
        logits_processor=[only_nine],
        stopping_criteria=StoppingCriteriaList([stop_at_three, MaxTimeCriteria(60)]),
    )
    assert tokens.tolist() == [[1, 9, 9, 9]] * BATCH


def test_stop_strings_are_those_of_the_target():
    letters = train_tokenizer(["abcdef"], kind="character")
    tokenizer = pair_tokenizers(train_tokenizer(["xyz"], kind="character"), letters)
    model = tiny_model(vocab_size=len(letters), source_vocab_size=len(tokenizer))
    sources = torch.tensor([[4, 5, 6, 2]])
    free = model.generate(sources, max_new_tokens=6, min_new_tokens=6)
    stop = tokenizer.decode(free[0, 2:4])
    stopped = model.generate(sources, max_new_tokens=6, min_new_tokens=6, stop_strings=[stop], tokenizer=tokenizer)
    assert torch.equal(stopped[0], free[0, : stopped.shape[1]])
    assert stopped.shape[1] <= 4


def test_the_decoder_state_is_constant_in_size():
    model = tiny_model()
    sizes = []
    for length in (4, 40):
        cache = generate(
            model, max_new_tokens=length, min_new_tokens=length, return_dict_in_generate=True
        ).past_key_values
        layers = [*cache.self_attention_cache.layers, *cache.cross_attention_cache.layers]
        tensors = [tensor for layer in layers for tensor in (layer.keys, layer.values) if tensor is not None]
        sizes.append(sum(tensor.numel() for tensor in tensors))
    assert sizes[0] == sizes[1]
