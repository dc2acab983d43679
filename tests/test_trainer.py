"""Training with transformers' own Seq2SeqTrainer."""

from pathlib import Path

import pytest
import torch
from tiny import tiny_config
from torch.nn.functional import log_softmax
from transformers import (
    DataCollatorForSeq2Seq,
    EarlyStoppingCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    set_seed,
)

from attention_rnn import AttentionRnnForConditionalGeneration
from attention_rnn.tokenizer_training import train_tokenizer

WORDS = ["abc", "ba", "cabba", "bc", "acab", "b", "cba", "abcabc"] * 2


def tokenizer():
    return train_tokenizer(WORDS, kind="character")


def dataset():
    """Words to be spelt backwards."""
    encode = tokenizer()
    return [
        {"input_ids": encode(word)["input_ids"], "labels": encode(text_target=word[::-1])["input_ids"]}
        for word in WORDS
    ]


def trainer(folder, callbacks=(), model_overrides=(), compute_metrics=None, **arguments):
    set_seed(0)
    encode = tokenizer()
    model = AttentionRnnForConditionalGeneration(tiny_config(vocab_size=len(encode), **dict(model_overrides)))
    defaults = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "num_train_epochs": 1,
        "learning_rate": 0.01,
        "report_to": "none",
        "use_cpu": True,
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
    }
    return Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(**{**defaults, **arguments}),
        train_dataset=dataset(),
        eval_dataset=dataset(),
        data_collator=DataCollatorForSeq2Seq(encode, model=model),
        processing_class=encode,
        callbacks=list(callbacks),
        compute_metrics=compute_metrics,
    )


def losses(trained):
    return [entry["loss"] for entry in trained.state.log_history if "loss" in entry]


def test_a_model_learns_to_spell_backwards(tmp_path):
    trained = trainer(
        tmp_path,
        num_train_epochs=60,
        learning_rate=0.03,
        model_overrides={"embedding_size": 16, "hidden_size": 32, "encoder_layers": 1, "decoder_layers": 2},
        predict_with_generate=True,
        generation_max_length=10,
    )
    trained.train()
    predictions = trained.predict(dataset()).predictions
    texts = tokenizer().batch_decode(predictions, skip_special_tokens=True)
    assert texts == [word[::-1] for word in WORDS]


@pytest.mark.parametrize("label_smoothing_factor", [0.0, 0.1])
def test_gradient_accumulation_gives_the_step_of_the_big_batch(tmp_path, label_smoothing_factor):
    weights = []
    for batch_size, accumulation in ((8, 1), (2, 4)):
        trained = trainer(
            tmp_path,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            label_smoothing_factor=label_smoothing_factor,
            max_steps=2,
            optim="sgd",
            learning_rate=1.0,
            max_grad_norm=0.0,
        )
        trained.train()
        weights.append([parameter.detach() for parameter in trained.model.parameters()])
    for big, accumulated in zip(*weights, strict=True):
        torch.testing.assert_close(accumulated, big, atol=1e-5, rtol=1e-4)


def test_label_smoothing_is_that_of_the_decoder_targets(tmp_path):
    trained = trainer(tmp_path, label_smoothing_factor=0.2)
    model = trained.model.eval()
    batch = trained.data_collator(dataset()[:3])
    loss = trained.compute_loss(model, {**batch})
    logits = model(**batch).logits
    log_probabilities = log_softmax(logits, -1)[batch["labels"] != -100]
    targets = batch["labels"][batch["labels"] != -100]
    likelihood = -log_probabilities[torch.arange(len(targets)), targets].mean()
    uniform = -log_probabilities.mean()
    torch.testing.assert_close(loss, 0.8 * likelihood + 0.2 * uniform)


def test_a_resumed_run_ends_with_the_same_numbers(tmp_path):
    options = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "model_overrides": {"hidden_dropout": 0.2}}
    whole = trainer(tmp_path, **options)
    whole.train()
    resumed = trainer(tmp_path, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    for expected, value in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(value, expected)
    assert losses(resumed) == losses(whole)


def test_the_best_model_is_kept_and_training_stops_early(tmp_path, caplog):
    def never_better(prediction):
        never_better.calls += 1
        return {"score": -float(never_better.calls)}

    never_better.calls = 0
    trained = trainer(
        tmp_path,
        num_train_epochs=10,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="score",
        greater_is_better=True,
        predict_with_generate=True,
        generation_num_beams=2,
        callbacks=[EarlyStoppingCallback(early_stopping_patience=2)],
        compute_metrics=never_better,
    )
    trained.train()
    assert trained.state.epoch == 3
    assert trained.state.best_metric == -1.0
    best = AttentionRnnForConditionalGeneration.from_pretrained(trained.state.best_model_checkpoint)
    for kept, saved in zip(trained.model.parameters(), best.parameters(), strict=True):
        assert torch.equal(kept, saved)
    assert "missing keys" not in caplog.text
    weights = {file.name for file in Path(tmp_path).rglob("*model*") if file.is_file() and file.suffix != ".py"}
    assert weights == {"model.safetensors"}


def test_bfloat16_training_lowers_the_loss(tmp_path):
    trained = trainer(tmp_path, bf16=True, num_train_epochs=10)
    trained.train()
    assert losses(trained)[-1] < 0.8 * losses(trained)[0]


def test_evaluation_without_generation_returns_the_logits_alone(tmp_path):
    prediction = trainer(tmp_path).predict(dataset())
    assert prediction.predictions.shape[-1] == len(tokenizer())
