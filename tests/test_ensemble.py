"""Ensembles: several models that decode together."""

import pytest
import torch
import transformers
from packaging.version import Version
from tiny import BATCH, SOURCE, tiny_batch, tiny_model
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from attention_rnn.ensemble import AttentionRnnEnsemble
from attention_rnn.tokenizer_training import pair_tokenizers, train_tokenizer

STRATEGIES = {
    "greedy": {},
    "sampling": {"do_sample": True, "top_k": 5},
    "beam": {"num_beams": 4},
    "beam-n-best": {"num_beams": 4, "num_return_sequences": 3, "length_penalty": 0.5},
    "processors": {"min_new_tokens": 4, "no_repeat_ngram_size": 2, "bad_words_ids": [[7]]},
}
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())


def different_models():
    """Of other sizes, depths, cells, attentions and feedings."""
    return [
        tiny_model(),
        tiny_model(1, hidden_size=12, attention_type="multi_head", context_feeding="input", decoder_layers=1),
        tiny_model(2, cell_type="lstm", encoder_layers=1, attention_type="location", bridge="mean"),
    ]


def source(model):
    batch = tiny_batch(model)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def generate(model, **options):
    torch.manual_seed(0)
    return model.generate(**source(model), **{"max_new_tokens": 9, **options})


@pytest.mark.parametrize("size", [1, 3])
@every_strategy
def test_an_ensemble_of_equal_models_is_the_model(strategy, size):
    model = tiny_model()
    options = {"return_dict_in_generate": True, "output_logits": True, **strategy}
    expected, output = generate(model, **options), generate(AttentionRnnEnsemble([model] * size), **options)
    assert torch.equal(output.sequences, expected.sequences)
    for ours, theirs in zip(output.logits, expected.logits, strict=True):
        torch.testing.assert_close(ours, theirs.log_softmax(-1), atol=1e-5, rtol=0)
    if "num_beams" in strategy:
        torch.testing.assert_close(output.sequences_scores, expected.sequences_scores, atol=1e-5, rtol=0)


def test_greedy_takes_the_best_token_of_the_mean_of_the_probabilities():
    members = different_models()
    tokens = generate(AttentionRnnEnsemble(members), min_new_tokens=9)
    with torch.no_grad():
        logits = [member(**source(member), decoder_input_ids=tokens).logits[:, :-1] for member in members]
    mean = sum(of_member.softmax(-1) for of_member in logits) / len(members)
    mean[:, :, members[0].config.eos_token_id] = 0
    assert torch.equal(mean.argmax(-1), tokens[:, 1:])


@every_strategy
def test_the_cache_changes_no_token(strategy):
    ensemble = AttentionRnnEnsemble(different_models())
    cached, uncached = (generate(ensemble, use_cache=use_cache, **strategy) for use_cache in (True, False))
    assert torch.equal(cached, uncached)


def test_padding_changes_no_token():
    ensemble = AttentionRnnEnsemble(different_models())
    batch = source(ensemble)
    together = generate(ensemble, num_beams=4, min_new_tokens=9)
    for row in range(BATCH):
        alone = batch["input_ids"][row : row + 1, batch["attention_mask"][row].bool()]
        tokens = ensemble.generate(alone, max_new_tokens=9, min_new_tokens=9, num_beams=4)
        assert torch.equal(together[row], tokens[0])


def test_a_prompt_and_a_returned_cache_are_continued():
    ensemble = AttentionRnnEnsemble(different_models())
    prompt = torch.tensor([[1, 8, 9, 10]]).expand(BATCH, -1)
    lengths = {"max_new_tokens": 8, "min_new_tokens": 8}
    expected = generate(ensemble, decoder_input_ids=prompt, **lengths)
    first = generate(
        ensemble, decoder_input_ids=prompt, max_new_tokens=4, min_new_tokens=4, return_dict_in_generate=True
    )
    rest = generate(
        ensemble,
        decoder_input_ids=first.sequences,
        decoder_attention_mask=torch.ones_like(first.sequences),
        past_key_values=first.past_key_values,
        max_new_tokens=4,
        min_new_tokens=4,
    )
    assert torch.equal(rest, expected)
    assert torch.equal(rest[:, :4], prompt)


def test_a_static_cache_and_assisted_decoding_change_no_token():
    ensemble, assistant = AttentionRnnEnsemble(different_models()), tiny_model()
    assert torch.equal(generate(ensemble, cache_implementation="static", disable_compile=True), generate(ensemble))
    first = {name: value[:1] for name, value in source(ensemble).items()}
    expected = ensemble.generate(**first, max_new_tokens=12)
    assert torch.equal(ensemble.generate(**first, max_new_tokens=12, assistant_model=assistant), expected)


def test_encoder_outputs_take_the_place_of_the_source():
    ensemble = AttentionRnnEnsemble(different_models())
    batch = source(ensemble)
    encoder_outputs = ensemble.get_encoder()(**batch)
    tokens = ensemble.generate(
        encoder_outputs=encoder_outputs, attention_mask=batch["attention_mask"], max_new_tokens=9, num_beams=3
    )
    assert torch.equal(tokens, generate(ensemble, num_beams=3))


def test_attention_is_the_mean_over_the_members_that_have_one():
    members = [*different_models(), tiny_model(3, attention_type=None)]
    batch = tiny_batch(members[0])
    with torch.no_grad():
        (weights,) = AttentionRnnEnsemble(members)(**batch, output_attentions=True).cross_attentions
        of_members = [member(**batch, output_attentions=True).cross_attentions for member in members[:-1]]
    torch.testing.assert_close(weights, sum(member[0].mean(1, keepdim=True) for member in of_members) / 3)
    output = generate(AttentionRnnEnsemble(members), num_beams=2, output_attentions=True, return_dict_in_generate=True)
    assert all(step[0].shape == (2 * BATCH, 1, 1, SOURCE) for step in output.cross_attentions)
    no_attention = AttentionRnnEnsemble(members[-1:])(**batch, output_attentions=True)
    assert no_attention.cross_attentions == ()


def test_the_loss_is_that_of_the_mean_of_the_probabilities():
    members = different_models()
    batch = tiny_batch(members[0])
    with torch.no_grad():
        output = AttentionRnnEnsemble(members)(**batch)
        mean = sum(member(**batch).logits.softmax(-1) for member in members) / len(members)
    is_target = batch["labels"] != -100
    expected = -mean[is_target].gather(1, batch["labels"][is_target][:, None]).log().mean()
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(output.logits.exp(), mean)


@pytest.mark.skipif(
    Version(transformers.__version__) < Version("5.18"),
    reason="its beam search takes the size of the vocabulary from the config",
)
def test_copying_members_copy_tokens_that_the_vocabulary_lacks():
    members = [tiny_model(seed, copy=True, coverage=True, context_feeding="input") for seed in range(2)]
    copy_ids = source(members[0])["input_ids"].clone()
    copy_ids[:, 2] = 19
    options = {"copy_ids": copy_ids, "num_beams": 3, "return_dict_in_generate": True, "output_logits": True}
    cached, uncached = (generate(AttentionRnnEnsemble(members), use_cache=use, **options) for use in (True, False))
    assert (cached.logits[0][:, 19].exp() > 1e-3).all()
    assert torch.equal(cached.sequences, uncached.sequences)


def test_stop_strings_are_those_of_the_target():
    letters = train_tokenizer(["abcdef"], kind="character")
    tokenizer = pair_tokenizers(train_tokenizer(["xyz"], kind="character"), letters)
    sizes = {"vocab_size": len(letters), "source_vocab_size": len(tokenizer)}
    ensemble = AttentionRnnEnsemble([tiny_model(seed, **sizes) for seed in range(2)])
    sources = torch.tensor([[4, 5, 6, 2]])
    free = ensemble.generate(sources, max_new_tokens=6, min_new_tokens=6)
    stop = tokenizer.decode(free[0, 2:4])
    stopped = ensemble.generate(sources, max_new_tokens=6, min_new_tokens=6, stop_strings=[stop], tokenizer=tokenizer)
    assert torch.equal(stopped[0], free[0, : stopped.shape[1]])
    assert stopped.shape[1] <= 4


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ({"vocab_size": 20}, "vocab_size"),
        ({"source_vocab_size": 23}, "source_vocab_size"),
        ({"pad_token_id": 5}, "pad_token_id"),
        ({"bos_token_id": 5}, "bos_token_id"),
        ({"eos_token_id": 5}, "eos_token_id"),
        ({"decoder_start_token_id": 2}, "decoder_start_token_id"),
        ({"copy": True}, "copy"),
        ({"aligned_steps": 2}, "aligned_steps"),
    ],
)
def test_members_that_do_not_belong_together_are_refused(overrides, name):
    with pytest.raises(ValueError, match=f"same {name}, but it is .* in member 2"):
        AttentionRnnEnsemble([tiny_model(), tiny_model(), tiny_model(**overrides)])


def test_a_source_matrix_of_its_own_over_the_same_vocabulary_is_accepted():
    assert AttentionRnnEnsemble([tiny_model(), tiny_model(source_vocab_size=19)])(**tiny_batch(tiny_model())).loss > 0


def test_no_member_and_other_members_are_refused():
    with pytest.raises(ValueError, match="at least one model"):
        AttentionRnnEnsemble([])
    sizes = {"d_model": 4, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 4, "decoder_ffn_dim": 4}
    heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1}
    bart = BartForConditionalGeneration(BartConfig(vocab_size=19, max_position_embeddings=9, **sizes, **heads))
    with pytest.raises(TypeError, match="BartForConditionalGeneration"):
        AttentionRnnEnsemble([tiny_model(), bart])


def test_what_an_ensemble_has_not_is_refused(tmp_path):
    ensemble = AttentionRnnEnsemble(different_models())
    batch = tiny_batch(ensemble)
    with pytest.raises(ValueError, match="output_hidden_states"):
        ensemble(**batch, output_hidden_states=True)
    with pytest.raises(ValueError, match="inputs_embeds"):
        ensemble.generate(inputs_embeds=torch.zeros(1, 2, 6))
    with pytest.raises(TypeError, match=r"`past_key_values` must be .* 7 in all"):
        ensemble(**batch, past_key_values=tiny_model()(**batch, use_cache=True).past_key_values)
    with pytest.raises(NotImplementedError, match="Save its `members`"):
        ensemble.save_pretrained(tmp_path)


def test_checkpoints_are_loaded_as_they_were_saved(tmp_path):
    members = different_models()
    members[0].generation_config.num_beams = 3
    for index, member in enumerate(members):
        member.save_pretrained(tmp_path / str(index))
    ensemble = AttentionRnnEnsemble.from_pretrained([tmp_path / str(index) for index in range(3)])
    assert ensemble.generation_config.num_beams == 3
    assert not any(module.training for module in ensemble.modules())
    assert torch.equal(generate(ensemble), generate(AttentionRnnEnsemble(members)))


def test_folders_that_do_not_belong_together_are_refused(tmp_path):
    for name in ("abcdef", "abcdeg"):
        tiny_model(vocab_size=10).save_pretrained(tmp_path / name)
        train_tokenizer([name], kind="character").save_pretrained(tmp_path / name)
    with pytest.raises(ValueError, match=r"abcdeg.tokenizer\.json holds other tokens"):
        AttentionRnnEnsemble.from_pretrained([tmp_path / "abcdef", tmp_path / "abcdeg"])
    with pytest.raises(TypeError, match="a list of folders"):
        AttentionRnnEnsemble.from_pretrained(tmp_path / "abcdef")


def test_the_trainer_predicts_with_an_ensemble(tmp_path):
    words = ["abc", "ba", "cabba"]
    tokenizer = train_tokenizer(words, kind="character")
    members = [tiny_model(seed, vocab_size=len(tokenizer)) for seed in range(2)]
    weights = [parameter.clone() for member in members for parameter in member.parameters()]
    ensemble = AttentionRnnEnsemble(members)
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(tmp_path), predict_with_generate=True, report_to="none", use_cpu=True, disable_tqdm=True
    )
    collator = DataCollatorForSeq2Seq(tokenizer, model=ensemble)
    trainer = Seq2SeqTrainer(model=ensemble, args=arguments, data_collator=collator)
    examples = [dict(tokenizer(word), labels=tokenizer(word)["input_ids"]) for word in words]
    output = trainer.predict(examples, num_beams=2, max_new_tokens=6)
    batch = collator(examples)
    expected = ensemble.generate(
        batch["input_ids"], attention_mask=batch["attention_mask"], num_beams=2, max_new_tokens=6
    )
    assert torch.equal(torch.tensor(output.predictions)[:, : expected.shape[1]], expected)
    assert output.metrics["test_loss"] == pytest.approx(ensemble(**batch).loss.item(), abs=1e-5)
    assert all(map(torch.equal, weights, [parameter for member in members for parameter in member.parameters()]))


@pytest.mark.parametrize("name", ["inputs_embeds", "decoder_inputs_embeds"])
def test_embeddings_of_one_member_are_refused(name):
    ensemble = AttentionRnnEnsemble([tiny_model()])
    inputs = {"input_ids": torch.tensor([[5, 6]]), "labels": torch.tensor([[5, 6]]), name: torch.zeros(1, 2, 6)}
    with pytest.raises(ValueError, match=f"`{name}` must not be given to an ensemble"):
        ensemble(**inputs)
