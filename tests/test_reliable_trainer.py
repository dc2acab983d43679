"""The public trainer with a model of transformers."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_batch, tiny_config
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainingArguments,
    set_seed,
)

from attention_rnn import (
    AttentionRnnConfig,
    AttentionRnnForConditionalGeneration,
    AttentionRnnForQuestionAnswering,
    AttentionRnnForTokenClassification,
    ReliableSeq2SeqTrainer,
    ReliableSeq2SeqTrainingArguments,
    ReliableTrainer,
    ReliableTrainingArguments,
)
from attention_rnn.trainer import last_whole_checkpoint

DATA = [{"input_ids": [number % 5 + 1, number % 3 + 6, 9], "labels": number % 2} for number in range(12)]


def model():
    set_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return BertForSequenceClassification(BertConfig(vocab_size=12, **sizes))


def trainer(folder, compute_metrics=None, **options):
    options = {"max_steps": 6, "per_device_train_batch_size": 2, "use_cpu": True, "report_to": "none"} | options
    args = ReliableTrainingArguments(str(folder), disable_tqdm=True, **options)
    return ReliableTrainer(model(), args, train_dataset=DATA, eval_dataset=DATA, compute_metrics=compute_metrics)


def weights(trained):
    return torch.cat([parameter.detach().flatten() for parameter in trained.model.parameters()])


def test_without_faults_it_trains_as_the_trainer_of_transformers(tmp_path):
    ours = trainer(tmp_path / "ours", save_strategy="no")
    ours.train()
    options = {"max_steps": 6, "per_device_train_batch_size": 2, "use_cpu": True, "report_to": "none"}
    args = TrainingArguments(str(tmp_path / "theirs"), disable_tqdm=True, save_strategy="no", **options)
    theirs = Trainer(model(), args, train_dataset=DATA)
    theirs.train()
    assert torch.equal(weights(ours), weights(theirs))


def test_it_goes_on_from_the_last_whole_checkpoint_or_starts_anew(tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 2}
    whole = trainer(tmp_path / "whole", **saving)
    whole.train(resume_from_checkpoint=True)  # there is none
    state = tmp_path / "whole" / "checkpoint-6" / "trainer_state.json"
    state.write_text(state.read_text()[:-9])
    assert last_whole_checkpoint(tmp_path / "whole") == str(tmp_path / "whole" / "checkpoint-4")
    resumed = trainer(tmp_path / "whole", **saving)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(weights(whole), weights(resumed))
    state.write_text("")
    with pytest.raises(ValueError, match=r"must be a whole checkpoint, got .*checkpoint-6', which has an incomplete"):
        trainer(tmp_path / "whole").train(resume_from_checkpoint=str(state.parent))


BEST = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
BEST |= {"load_best_model_at_end": True, "metric_for_best_model": "score", "greater_is_better": True}


def test_it_stops_early_also_when_it_is_resumed(tmp_path):
    scores = iter([1.0, *[0.5] * 9])
    options = BEST | {"early_stopping_patience": 3}
    whole = trainer(tmp_path, lambda output: {"score": next(scores)}, **options)
    whole.train()
    assert whole.state.global_step == 4
    resumed = trainer(tmp_path, lambda output: {"score": 0.5}, **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert resumed.state.global_step == 4


def train_with_losses(folder, losses, scores, **options):
    scores = iter(scores)
    trained = trainer(folder, lambda output: {"score": next(scores)}, **BEST, **options)
    evaluation_loop, losses = trained.evaluation_loop, iter(losses)

    def loop(*args, **kwargs):
        output = evaluation_loop(*args, **kwargs)
        output.metrics["eval_loss"] = next(losses)
        return output

    trained.evaluation_loop = loop
    trained.train()
    return trained


def test_of_models_that_score_alike_the_one_with_the_lowest_loss_is_kept(tmp_path, caplog):
    caplog.set_level("INFO", "attention_rnn.trainer")
    trained = train_with_losses(tmp_path, [0.9, 0.8, 0.5, 0.4, 0.6, 0.3], [0.0, 0.0, 0.25, 0.25, 0.25, 0.0])
    assert trained.state.best_global_step == 4
    kept = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in trained.model.state_dict().items() if name in kept)
    assert caplog.messages[-1] == "The model of step 4, epoch 0.6667, is kept: eval_score 0.25, eval_loss 0.4."


def test_a_lower_loss_at_the_same_score_is_an_improvement_for_early_stopping(tmp_path):
    trained = train_with_losses(tmp_path, [0.9, 0.8, 0.7, 0.7, 0.8, 0.6], [0.0] * 6, early_stopping_patience=2)
    assert trained.state.global_step == 5


def test_a_card_that_lies_in_the_folder_is_left_alone(tmp_path):
    (tmp_path / "README.md").write_text("mine")
    trained = trainer(tmp_path, save_strategy="no")
    trained.create_model_card()
    assert (tmp_path / "README.md").read_text() == "mine"


def test_metrics_are_written_where_earlier_ones_are_broken(tmp_path):
    (tmp_path / "all_results.json").write_text('{"a": ')
    trainer(tmp_path).save_metrics("eval", {"eval_loss": 1.0})
    assert json.loads((tmp_path / "all_results.json").read_text()) == {"eval_loss": 1.0}


def test_other_arguments_are_refused(tmp_path):
    with pytest.raises(TypeError, match="args must be ReliableTrainingArguments, got TrainingArguments"):
        ReliableTrainer(model(), TrainingArguments(str(tmp_path)))
    with pytest.raises(TypeError, match="args must be ReliableSeq2SeqTrainingArguments, got Seq2SeqTrainingArguments"):
        ReliableSeq2SeqTrainer(model(), Seq2SeqTrainingArguments(str(tmp_path)))


def test_labels_are_not_smoothed_where_there_are_none(tmp_path):
    config = AttentionRnnConfig(vocab_size=12, embedding_size=4, hidden_size=4)
    args = ReliableTrainingArguments(str(tmp_path), label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match=r"label_smoothing_factor must be 0 for question answering.* got 0.1"):
        ReliableTrainer(AttentionRnnForQuestionAnswering(config), args)


@pytest.mark.parametrize("kind", [ReliableTrainingArguments, ReliableSeq2SeqTrainingArguments])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"non_finite_loss": "ignore"}, "--non_finite_loss must be stop or skip, got 'ignore'"),
        ({"early_stopping_patience": 2}, "--early_stopping_patience needs --load_best_model_at_end"),
        ({"early_stopping_patience": 0}, "--early_stopping_patience must be at least 1, got 0"),
    ],
)
def test_wrong_values_are_refused(tmp_path, kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(str(tmp_path), **options)


def test_labels_are_smoothed_in_the_loss_of_a_model_that_owns_parts_of_it(tmp_path):
    """The coverage loss stays, which the Trainer's own smoothing would leave out."""
    set_seed(0)
    fields = {"copy": True, "coverage": True, "coverage_loss_weight": 1.0, "hidden_dropout": 0.0}
    translator = AttentionRnnForConditionalGeneration(tiny_config(**fields, attention_type="additive")).train()
    options = {"label_smoothing_factor": 0.1, "use_cpu": True, "report_to": "none"}
    run = ReliableTrainer(translator, ReliableTrainingArguments(str(tmp_path), **options))
    batch = tiny_batch(translator)
    smoothed = run.compute_loss(translator, dict(batch))
    config = copy.deepcopy(translator.config)
    assert config.label_smoothing == 0.1
    translator.config.coverage_loss_weight = 0.0
    assert run.compute_loss(translator, dict(batch)) < smoothed
    translator.config.label_smoothing = 0.0
    assert run.compute_loss(translator, dict(batch)) != smoothed


def test_smoothing_that_a_model_refuses_is_refused(tmp_path):
    tagger = AttentionRnnForTokenClassification(tiny_config(crf=True, num_labels=3))
    with pytest.raises(ValueError, match="`label_smoothing` smoothes labels one by one, and `crf=True` scores"):
        ReliableTrainer(tagger, ReliableTrainingArguments(str(tmp_path), label_smoothing_factor=0.1, use_cpu=True))
