"""What a training shows while it runs and when it is over."""

import json
from types import SimpleNamespace

import pytest
from command_line import run
from tiny import tiny_config

from attention_rnn import AttentionRnnForSequenceClassification
from attention_rnn.commands.info import tell_unfinished
from attention_rnn.progress import ProgressBar, plot_training, why_it_stopped

ARGS = SimpleNamespace(
    metric_for_best_model="accuracy",
    greater_is_better=True,
    train_batch_size=2,
    early_stopping_patience=2,
    load_best_model_at_end=True,
)


def state_at(step, **fields):
    values = {"is_world_process_zero": True, "num_train_epochs": 1, "max_steps": 100, "best_metric": None}
    values |= {"best_global_step": None, "log_history": [], "global_step": step}
    return SimpleNamespace(**values | fields)


@pytest.fixture
def bar(capsys):
    bar = ProgressBar()
    bar.on_train_begin(ARGS, state_at(0), None, model=SimpleNamespace(num_parameters=lambda: 7))
    capsys.readouterr()
    return bar


def test_a_loss_is_told_once(bar, capsys):
    bar.on_log(ARGS, state_at(10), None, logs={"loss": 0.5})
    for step in (10, 20):
        bar.on_evaluate(ARGS, state_at(step), None, metrics={"eval_accuracy": 50.0})
    bar.on_log(ARGS, state_at(25), None, logs={"loss": 0.5})
    bar.on_evaluate(ARGS, state_at(30), None, metrics={"eval_accuracy": 50.0})
    lines = capsys.readouterr().out.splitlines()
    assert ["training loss 0.5" in line for line in lines] == [True, False, True]


def test_what_is_scored_after_the_training_is_no_step_of_it(bar, capsys):
    bar.on_evaluate(ARGS, state_at(100), None, metrics={"eval_accuracy": 50.0})
    bar.on_train_end(ARGS, state_at(100), None)
    bar.on_evaluate(ARGS, state_at(100), None, metrics={"eval_accuracy": 60.0})
    assert capsys.readouterr().out.count("step 100 of 100") == 1


def test_an_early_stop_says_why(bar, capsys):
    log = [{"step": step, "eval_loss": 1.0, "eval_accuracy": 50.0} for step in (1_050, 1_060, 1_070)]
    stopped = {"best_global_step": 1_050, "max_steps": 2_000, "log_history": log}
    bar.on_train_end(ARGS, state_at(1_070, **stopped), None)
    assert "stopped: 2 evaluations without a better accuracy; kept that of step 1,050" in capsys.readouterr().out
    assert why_it_stopped(ARGS, state_at(1_070, **stopped | {"max_steps": 1_070})) is None
    assert why_it_stopped(ARGS, state_at(1_060, **stopped | {"log_history": log[:2]})) is None  # by Ctrl-C
    assert why_it_stopped(SimpleNamespace(**vars(ARGS) | {"early_stopping_patience": None}), state_at(1)) is None


def test_the_curve_says_what_the_training_loss_holds(tmp_path, monkeypatch):
    labels = []
    monkeypatch.setattr(
        "matplotlib.axes.Axes.legend", lambda axes, **_: labels.append([x.get_label() for x in axes.lines])
    )
    log = [{"step": 1, "loss": 2.0}, {"step": 1, "eval_loss": 1.0}]
    for is_smoothed in (False, True):
        assert plot_training(tmp_path / "training.png", log, None, is_smoothed)
    assert labels[0] == ["training, with dropout", "validation"]
    assert labels[-1] == ["training, with dropout and smoothing", "validation"]


def test_info_tells_how_far_an_unfinished_training_has_come(tmp_path, capsys):
    assert tell_unfinished(tmp_path) is None
    (tmp_path / "command.json").write_text('{"arguments": []}')
    assert tell_unfinished(tmp_path) is None
    log = [{"step": 5, "eval_loss": 2.0, "eval_accuracy": 75.5}, {"step": 9, "eval_loss": 1.0, "eval_accuracy": 70.0}]
    state = {"global_step": 9, "max_steps": 1_000, "best_metric": 75.5, "best_global_step": 5, "log_history": log}
    (tmp_path / "checkpoint-9").mkdir()
    (tmp_path / "checkpoint-9" / "trainer_state.json").write_text(json.dumps(state))
    told = "stopped at step 9 of 1,000, best accuracy so far 75.50 at step 5; the same command goes on"
    assert told in run(capsys, "info", tmp_path)  # of a training that was killed
    AttentionRnnForSequenceClassification(tiny_config(num_labels=2)).save_pretrained(tmp_path)
    said = run(capsys, "info", tmp_path)
    assert told in said
    assert "AttentionRnnForSequenceClassification" in said
    (tmp_path / "README.md").write_text("a card")
    assert "stopped" not in run(capsys, "info", tmp_path)
