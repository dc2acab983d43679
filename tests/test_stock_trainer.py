"""Every head under transformers' own Trainer: evaluation, the best model, smoothing, accumulation."""

import copy

import numpy as np
import pytest
import torch
from tiny import tiny_config
from torch.nn.functional import cross_entropy
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments, set_seed

from attention_rnn import (
    AttentionRnnForCausalLM,
    AttentionRnnForConditionalGeneration,
    AttentionRnnForQuestionAnswering,
    AttentionRnnForSequenceClassification,
    AttentionRnnForTokenClassification,
)
from attention_rnn.tokenizer_training import train_tokenizer

IDS = [[5, 6, 2, 7, 8, 9], [9, 8, 2, 6, 5, 7], [6, 5, 2, 9, 9, 8], [7, 7, 2, 5, 6, 6]] * 2
LABELS = {"num_labels": 3, "bidirectional": True}
HEADS = {
    "seq2seq": (AttentionRnnForConditionalGeneration, {}, lambda ids: {"labels": ids[::-1]}),
    "copying": (
        AttentionRnnForConditionalGeneration,
        {"copy": True, "coverage": True, "coverage_loss_weight": 1.0},
        lambda ids: {"labels": ids[::-1]},
    ),
    "causal": (AttentionRnnForCausalLM, {}, lambda ids: {"labels": ids}),
    "sequence classification": (AttentionRnnForSequenceClassification, LABELS, lambda ids: {"labels": ids[0] % 3}),
    "token classification": (
        AttentionRnnForTokenClassification,
        LABELS,
        lambda ids: {"labels": [token % 3 for token in ids]},
    ),
    "tagging": (
        AttentionRnnForTokenClassification,
        {**LABELS, "crf": True, "intents": ["ask", "tell"]},
        lambda ids: {"labels": [token % 3 for token in ids], "intent_ids": ids[0] % 2},
    ),
    "question answering": (
        AttentionRnnForQuestionAnswering,
        {},
        lambda ids: {"start_positions": 3 + ids[0] % 2, "end_positions": 5},
    ),
}
every_head = pytest.mark.parametrize("head", HEADS)


def dataset(head):
    return [{"input_ids": ids, **HEADS[head][2](ids)} for ids in IDS]


def trainer(folder, head, compute_metrics=None, overrides=(), **arguments):
    set_seed(0)
    model_class, fields, _ = HEADS[head]
    defaults = {
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "num_train_epochs": 2,
        "learning_rate": 0.01,
    }
    return Trainer(
        model_class(tiny_config(**{**fields, **dict(overrides)})),
        TrainingArguments(str(folder), per_device_train_batch_size=4, **{**defaults, **arguments}),
        train_dataset=dataset(head),
        eval_dataset=dataset(head),
        compute_metrics=compute_metrics,
    )


@every_head
def test_it_evaluates_and_keeps_the_best_model(head, tmp_path):
    seen = []

    def compute_metrics(output):
        seen.append(len(output.label_ids))
        return {"rounds": float(len(seen) == 1)}  # the first one is the best

    run = trainer(
        tmp_path,
        head,
        compute_metrics,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="rounds",
    )
    run.train()
    assert len(seen) == 2
    assert run.state.best_model_checkpoint.endswith("checkpoint-2")
    losses = [entry["eval_loss"] for entry in run.state.log_history if "eval_loss" in entry]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    assert run.evaluate()["eval_loss"] == pytest.approx(losses[0], rel=1e-5)


@every_head
def test_accumulated_batches_make_the_step_of_the_big_batch(head, tmp_path):
    weights = []
    for size, steps in ((8, 1), (2, 4)):
        run = trainer(
            tmp_path / str(size),
            head,
            overrides={"hidden_dropout": 0.0},
            max_steps=1,
            gradient_accumulation_steps=steps,
            optim="sgd",
            max_grad_norm=0,
        )
        run.args.per_device_train_batch_size = size
        run._train_batch_size = size
        run.train()
        weights.append(copy.deepcopy(run.model.state_dict()))
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, rtol=1e-4, atol=1e-6, msg=name)


def test_padding_on_either_side_makes_the_same_loss_of_a_language_model(tmp_path):
    losses = []
    for side in ("left", "right"):
        tokenizer = train_tokenizer(["anna", "bob", "christopher"], kind="character", causal=True)
        tokenizer.padding_side = side
        run = trainer(tmp_path, "causal", overrides={"vocab_size": len(tokenizer)})
        run.data_collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
        rows = [dict(tokenizer(text)) for text in ["anna", "bob", "christopher", "bo"]]
        losses.append(run.evaluate(rows)["eval_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_smoothed_language_model_predicts_what_follows(tmp_path):
    run = trainer(tmp_path, "causal", label_smoothing_factor=0.1)
    batch = run.data_collator(dataset("causal"))
    loss = run.compute_loss(run.model, dict(batch))
    logits = run.model(batch["input_ids"]).logits
    expected = cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("head", ["copying", "tagging"])
def test_a_loss_that_smoothing_would_cut_is_refused(head, tmp_path):
    overrides = {"copy": False} if head == "copying" else {}
    run = trainer(tmp_path, head, label_smoothing_factor=0.1, overrides=overrides)
    if head == "copying":  # as a collator for sequence to sequence tasks adds them
        run.train_dataset = [{**row, "decoder_input_ids": [1, *row["labels"][:-1]]} for row in dataset(head)]
    with pytest.raises(ValueError, match=r"`labels` must be given .* set `label_smoothing` in the config"):
        run.train()


def test_labels_that_smoothing_takes_away_before_the_decoder_has_read_them_are_asked_for(tmp_path):
    run = trainer(tmp_path, "seq2seq", label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match=r"`labels` must be given to train .* set `label_smoothing` in the config"):
        run.train()


@pytest.mark.parametrize("head", ["seq2seq", "causal", "sequence classification", "token classification"])
def test_label_smoothing_of_the_config_is_in_the_loss_of_training_alone(head):
    set_seed(0)
    model_class, fields, of_ids = HEADS[head]
    model = model_class(tiny_config(**fields, label_smoothing=0.2))
    ids = torch.tensor(IDS[:3])
    labels = torch.tensor([of_ids(row)["labels"] for row in IDS[:3]])
    outputs = model.eval()(input_ids=ids, labels=labels)
    logits, targets = (outputs.logits[:, :-1], labels[:, 1:]) if head == "causal" else (outputs.logits, labels)
    logits, targets = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    torch.testing.assert_close(outputs.loss, cross_entropy(logits, targets))
    smoothed = model.train()(input_ids=ids, labels=labels).loss
    torch.testing.assert_close(smoothed, cross_entropy(logits, targets, label_smoothing=0.2))


def test_smoothing_spreads_over_what_a_row_can_copy():
    """The loss of a row does not depend on the unknown tokens of the row beside it."""
    set_seed(0)
    model = AttentionRnnForConditionalGeneration(tiny_config(copy=True, label_smoothing=0.1)).train()
    ids = torch.tensor([[5, 6, 7], [5, 3, 7]])
    copy_ids = torch.tensor([[5, 6, 7], [5, 19, 7]])  # the second row has a token that the vocabulary lacks
    labels = torch.tensor([[7, 6, 5], [7, 19, 5]])
    alone = model(ids[:1], copy_ids=copy_ids[:1], labels=labels[:1]).loss
    together = model(ids, copy_ids=copy_ids, labels=torch.cat([labels[:1], torch.full_like(labels[1:], -100)])).loss
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("head", [head for head in HEADS if head != "question answering"])
def test_a_step_without_any_label_leaves_numbers(head, tmp_path):
    """The Trainer then counts no items in all the batches of the step."""
    options = {"max_steps": 1, "gradient_accumulation_steps": 2, "logging_steps": 1, "logging_nan_inf_filter": False}
    run = trainer(tmp_path, head, **options)
    for example in run.train_dataset:
        example["labels"] = -100 if head == "sequence classification" else [-100] * len(example["input_ids"])
    run.train()
    assert run.state.log_history[0]["loss"] == 0
    assert all(parameter.isfinite().all() for parameter in run.model.parameters())
