"""Distillation: what a student learns of its teachers."""

import json
import sys
from pathlib import Path

import pytest
import torch
from tiny import tiny_batch, tiny_model
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, BartConfig, BartForConditionalGeneration, DataCollatorForSeq2Seq

from attention_rnn import AttentionRnnEnsemble, ReliableSeq2SeqTrainingArguments
from attention_rnn.distillation import DistillationTrainer, check_same_tokens, open_teacher, write_targets
from attention_rnn.tokenizer_training import pair_tokenizers, train_tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import run_seq2seq

WORDS = ["abc", "ba", "cabba", "acab", "bb", "cca", "abab", "c"]


def arguments(folder, **settings):
    settings = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", **settings}
    return ReliableSeq2SeqTrainingArguments(str(folder), **settings)


def teachers():
    return AttentionRnnEnsemble([tiny_model(seed) for seed in (1, 2)])


def trainer_of(folder, model, teacher=None, weight=0.5, **settings):
    return DistillationTrainer(model, arguments(folder, **settings), teacher=teacher, distillation_weight=weight)


def expected_loss(model, teacher, batch, weight, count=None):
    """By the definition, position by position."""
    logits = model(**batch).logits
    with torch.no_grad():
        probabilities = teacher(**batch).logits.exp()
    of_labels, of_teacher, number = 0.0, 0.0, 0
    for row, labels in enumerate(batch["labels"]):
        for position, label in enumerate(labels):
            if label != -100:
                log_p = logits[row, position].log_softmax(-1)
                of_labels -= log_p[label]
                of_teacher -= (probabilities[row, position] * log_p).sum()
                number += 1
    return ((1 - weight) * of_labels + weight * of_teacher) / (count or number)


@pytest.mark.parametrize("weight", [0.3, 1.0])
@pytest.mark.parametrize("count", [None, torch.tensor(11)])
def test_the_loss_is_mixed_with_the_cross_entropy_to_the_mean_of_the_teachers(tmp_path, weight, count):
    model, teacher = tiny_model().train(), teachers()
    batch = tiny_batch(model)
    loss = trainer_of(tmp_path, model, teacher, weight).compute_loss(model, batch, num_items_in_batch=count)
    torch.testing.assert_close(loss, expected_loss(model, teacher, batch, weight, count))


def test_several_processes_share_the_loss_as_the_trainer_has_it(tmp_path, monkeypatch):
    model, teacher = tiny_model().train(), teachers()
    trainer = trainer_of(tmp_path, model, teacher)
    monkeypatch.setattr(type(trainer.accelerator), "num_processes", property(lambda self: 2))
    batch, count = tiny_batch(model), torch.tensor(30)  # in the batches of both
    loss = trainer.compute_loss(model, batch, num_items_in_batch=count)
    torch.testing.assert_close(loss, 2 * expected_loss(model, teacher, batch, 0.5, count))


def test_a_student_that_is_its_teacher_has_no_gradient_from_it(tmp_path):
    model = tiny_model().train()
    trainer_of(tmp_path, model, tiny_model().eval(), 1.0).compute_loss(model, tiny_batch(model)).backward()
    assert all(parameter.grad.abs().max() < 1e-6 for parameter in model.parameters())


def test_labels_are_smoothed_in_the_usual_loss_alone(tmp_path):
    model, teacher = tiny_model().train(), teachers()
    batch = tiny_batch(model)
    trainer = trainer_of(tmp_path, model, teacher, 0.4, label_smoothing_factor=0.2)
    logits, labels = model(**batch).logits.flatten(0, 1), batch["labels"].flatten()
    plain = cross_entropy(logits, labels)
    smoothed = cross_entropy(logits, labels, label_smoothing=0.2)
    expected = expected_loss(model, teacher, batch, 0.4) + 0.6 * (smoothed - plain)
    torch.testing.assert_close(trainer.compute_loss(model, batch), expected)


def test_a_student_of_another_kind_learns_too(tmp_path):
    model, teacher = tiny_bart(19).train(), teachers()
    batch = tiny_batch(tiny_model())
    expected = expected_loss(model, teacher, batch, 1.0)
    # as a collator gives them, which begin with the student's start token and not with the teacher's
    batch["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    trainer = trainer_of(tmp_path, model, teacher, 1.0, label_smoothing_factor=0.1)
    torch.testing.assert_close(trainer.compute_loss(model, batch), expected)


def tiny_bart(vocab_size, **settings):
    torch.manual_seed(3)
    sizes = {"d_model": 4, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 4, "decoder_ffn_dim": 4}
    heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1, "dropout": 0.0, "forced_eos_token_id": None}
    config = BartConfig(vocab_size=vocab_size, max_position_embeddings=40, **sizes, **heads, **settings)
    return BartForConditionalGeneration(config).eval()


def test_what_is_evaluated_is_the_usual_loss(tmp_path):
    model = tiny_model()
    examples = [dict(input_ids=[5, 6, 7], labels=[8, 9, 2]), dict(input_ids=[7, 5, 9], labels=[6, 6, 2])]
    losses = [
        DistillationTrainer(model, arguments(tmp_path), teacher=teacher, eval_dataset=examples).evaluate()["eval_loss"]
        for teacher in (None, teachers())
    ]
    assert losses[0] == losses[1]


def test_accumulated_batches_make_the_step_of_one(tmp_path):
    tokenizer = train_tokenizer(WORDS, kind="character")
    examples = [dict(tokenizer(word), labels=tokenizer(word[::-1])["input_ids"]) for word in WORDS]
    weights = []
    for size, steps in ((8, 1), (2, 4)):
        model = tiny_model(vocab_size=len(tokenizer))
        teacher = tiny_model(1, vocab_size=len(tokenizer), readout_dropout=0.5)
        sizes = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "max_steps": 1}
        settings = arguments(tmp_path, **sizes, optim="sgd", learning_rate=0.1, max_grad_norm=0.0)
        collator = DataCollatorForSeq2Seq(tokenizer, model=model)
        trainer = DistillationTrainer(model, settings, collator, examples, teacher=teacher, distillation_weight=0.7)
        before = [parameter.clone() for parameter in teacher.parameters()]
        trainer.train()
        assert not teacher.training
        assert all(map(torch.equal, before, teacher.parameters()))
        weights.append([parameter.detach() for parameter in model.parameters()])
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("student", "message"),
    [({"logits_in_training": False}, "logits_in_training must be True"), ({"copy": True}, "copy must be the same")],
)
def test_students_that_cannot_learn_probabilities_are_refused(tmp_path, student, message):
    with pytest.raises(ValueError, match=message):
        trainer_of(tmp_path, tiny_model(**student), teachers())


def test_a_copying_student_learns_of_a_copying_teacher(tmp_path):
    model, teacher = tiny_model(copy=True).train(), tiny_model(1, copy=True)
    batch = tiny_batch(model)
    batch["copy_ids"] = batch["input_ids"].clone()
    batch["copy_ids"][:, 2] = batch["labels"][:, 2] = 19  # which the vocabulary lacks
    loss = trainer_of(tmp_path, model, teacher, 0.5).compute_loss(model, batch)
    torch.testing.assert_close(loss, expected_loss(model, teacher, batch, 0.5))


def test_other_tokens_are_refused():
    one, same, other = (train_tokenizer([letters], kind="character") for letters in ("abc", "cba", "abd"))
    pairs = [{"source": "ab", "target": "ba"}]
    check_same_tokens(pair_tokenizers(one, other), pair_tokenizers(same, other), pairs, "it")
    for tokenizer, of_teacher in (
        (pair_tokenizers(one, other), pair_tokenizers(one, one)),
        (pair_tokenizers(one, other), pair_tokenizers(other, other)),
        (one, other),
    ):
        with pytest.raises(ValueError, match="--tokenizer_name it gives"):
            check_same_tokens(tokenizer, of_teacher, pairs, "it")


def test_teachers_write_their_targets_in_the_order_of_the_sources():
    tokenizer = train_tokenizer(WORDS, kind="character")
    teacher = tiny_model(vocab_size=len(tokenizer))
    expected = []
    for word in WORDS:
        tokens = teacher.generate(tokenizer(word, return_tensors="pt")["input_ids"], num_beams=3, max_new_tokens=6)
        expected.append(tokenizer.decode(tokens[0], skip_special_tokens=True).strip())
    assert write_targets(teacher, tokenizer, WORDS, num_beams=3, max_length=7, batch_size=3) == expected
    assert len(set(expected)) > 1


TINY_RUN = """
--config_overrides embedding_size=6,hidden_size=8 --source_tokenizer character --max_steps 2 --max_target_length 8
--per_device_train_batch_size 4 --num_beams 2 --num_heat_maps 0 --use_cpu --disable_tqdm True --report_to none
"""


def run(output_dir, *others):
    file = output_dir.parent / "words.jsonl"
    file.write_text("".join(json.dumps({"source": word, "target": word[::-1]}) + "\n" for word in WORDS))
    files = ["--do_train", "--train_file", str(file), "--do_eval", "--validation_file", str(file)]
    return run_seq2seq.main([*files, *TINY_RUN.split(), "--output_dir", str(output_dir), *map(str, others)])


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    for seed in (1, 2):
        run(folder / str(seed), "--seed", seed)
    return [folder / "1", folder / "2"]


@pytest.mark.parametrize("level", ["word", "sequence", "both"])
def test_the_script_distils_several_teachers_into_a_student(tmp_path, members, level):
    scores = run(tmp_path / "out", "--teacher_models", *members, "--distillation", level)
    assert "exact_match" in scores["validation"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Distilled from 1, 2 at the level of" in card
    assert f"| train | words.jsonl | {len(WORDS)} |" in card
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architectures"] == [
        "AttentionRnnForConditionalGeneration"
    ]


def test_what_teachers_write_is_trained_on_beside_the_targets():
    pairs = run_seq2seq.Dataset.from_list([{"source": "ab", "target": "ba"}, {"source": "c", "target": "c"}])
    taught = run_seq2seq.with_targets(pairs, ["bb", ""])
    assert list(zip(taught["source"], taught["target"], strict=True)) == [("ab", "ba"), ("c", "c"), ("ab", "bb")]


def test_a_teacher_of_another_kind_teaches_words_to_a_student_with_its_tokenizer(tmp_path):
    tokenizer = train_tokenizer(WORDS, kind="character")
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    # more logits than there are tokens, as checkpoints have that were filled up
    tiny_bart(len(tokenizer) + 3, **ids, decoder_start_token_id=ids["eos_token_id"]).save_pretrained(tmp_path / "bart")
    tokenizer.save_pretrained(tmp_path / "bart")
    teaching = ["--teacher_models", tmp_path / "bart"]
    with pytest.raises(ValueError, match=r"--tokenizer_name .*bart gives the student these"):
        run(tmp_path / "out", *teaching, "--source_tokenizer", "bpe", "--vocab_size", 12)
    run(tmp_path / "sequence", *teaching, "--source_tokenizer", "bpe", "--vocab_size", 12, "--distillation", "sequence")
    arguments = [word for word in TINY_RUN.split() if word not in ("--source_tokenizer", "character")]
    files = ["--do_train", "--train_file", str(tmp_path / "words.jsonl"), "--output_dir", str(tmp_path / "word")]
    run_seq2seq.main([*files, *arguments, *map(str, teaching), "--tokenizer_name", str(tmp_path / "bart")])
    assert AutoTokenizer.from_pretrained(tmp_path / "word").get_vocab() == tokenizer.get_vocab()


def test_a_teacher_that_makes_other_steps_at_a_token_is_refused(tmp_path):
    fields = "embedding_size=6,hidden_size=8,attention_type=aligned"
    run(tmp_path / "teacher", "--target_tokenizer", "chunk", "--config_overrides", f"{fields},aligned_steps=2")
    arguments = [word for word in TINY_RUN.split() if word not in ("--source_tokenizer", "character")]
    arguments += ["--do_train", "--train_file", str(tmp_path / "words.jsonl"), "--output_dir", str(tmp_path / "out")]
    student = ["--teacher_models", str(tmp_path / "teacher"), "--tokenizer_name", str(tmp_path / "teacher")]
    with pytest.raises(ValueError, match="teacher has aligned_steps=2, and the student 1: they must be the same"):
        run_seq2seq.main([*arguments, *student, "--config_overrides", fields])


def test_a_teacher_without_a_tokenizer_is_refused(tmp_path):
    tiny_bart(40).save_pretrained(tmp_path / "bart")
    with pytest.raises(OSError, match=r"bart has no tokenizer"):
        open_teacher([str(tmp_path / "bart")])


def test_several_teachers_of_another_kind_are_refused(tmp_path):
    tiny_bart(40).save_pretrained(tmp_path / "bart")
    with pytest.raises(
        TypeError, match=r"--teacher_models must be one model, or several of this package, got .*: bart"
    ):
        open_teacher([str(tmp_path / "bart")] * 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--distillation", "both"], "--distillation must stand beside --teacher_models"),
        (["--distillation_weight", "0.2"], "--distillation_weight must stand beside --teacher_models"),
        (["--teacher_models", "MEMBER", "--distillation", "letter"], "--distillation must be one of word, sequence"),
        (["--teacher_models", "MEMBER", "--distillation_weight", "0"], "above 0 and at most 1, got 0"),
        (["--teacher_models", "MEMBER", "--distillation", "both", "--streaming"], "--distillation both needs data"),
        (["--teacher_models", "nothing"], "there is no folder nothing"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(tmp_path, members, words, message):
    words = [members[0] if word == "MEMBER" else word for word in words]
    with pytest.raises((ValueError, OSError), match=message):
        run(tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


def test_a_test_without_training_has_no_teacher(tmp_path, members):
    file = members[0].parent / "words.jsonl"
    words = ["--do_eval", "--validation_file", file, "--output_dir", tmp_path / "out", "--num_heat_maps", 0]
    words += ["--model_name_or_path", members[0], "--teacher_models", members[1]]
    with pytest.raises(ValueError, match="--teacher_models needs --do_train"):
        run_seq2seq.main(list(map(str, words)))


def test_an_ensemble_folder_is_one_teacher(members, tmp_path):
    (tmp_path / "members").symlink_to(members[0].parent)
    teacher, tokenizer = open_teacher([str(tmp_path)])
    assert isinstance(teacher, AttentionRnnEnsemble)
    assert len(teacher.members) == 2
    assert len(open_teacher([str(tmp_path), str(members[0])])[0].members) == 3
    assert len(tokenizer) > 4
