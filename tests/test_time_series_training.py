"""Forecasters under the Trainer, with carried code, exported and compiled."""

import numpy as np
import pytest
import torch
from test_remote_code import run_without_the_package
from tiny_series import HORIZON, TIME, tiny_config, tiny_inputs, tiny_model
from transformers import Trainer, TrainingArguments, set_seed

from attention_rnn import (
    AttentionRnnForTimeSeriesClassification,
    AttentionRnnForTimeSeriesPrediction,
    ReliableTrainer,
    ReliableTrainingArguments,
    average_checkpoints,
)


def examples(count=12):
    """Waves of different phases, some with gaps."""
    time = torch.arange(TIME + HORIZON) / 3
    waves = torch.sin(time + torch.arange(count)[:, None])
    waves[::3, 4:6] = waves[1, -2] = torch.nan
    return [{"past_values": wave[:TIME], "future_values": wave[TIME:]} for wave in waves]


def mean_absolute_error(prediction):
    forecasts, full = prediction.predictions
    assert full.shape == (*forecasts.shape, 10)
    return {"mae": float(np.nanmean(np.abs(forecasts - prediction.label_ids)))}


def arguments(folder, kind=TrainingArguments, **others):
    values = {
        "max_steps": 6,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "save_steps": 2,
        "per_device_train_batch_size": 4,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return kind(str(folder), **{**values, **others})


def test_a_stock_trainer_tells_the_loss_of_an_evaluation(tmp_path):
    model = AttentionRnnForTimeSeriesPrediction(tiny_config())
    trainer = Trainer(model, arguments(tmp_path), train_dataset=examples(), eval_dataset=examples())
    trainer.train()
    assert np.isfinite(trainer.evaluate()["eval_loss"])


def test_a_stock_trainer_keeps_the_best_model_by_a_metric(tmp_path):
    trainer = Trainer(
        AttentionRnnForTimeSeriesPrediction(tiny_config()),
        arguments(
            tmp_path,
            label_names=["future_values"],
            load_best_model_at_end=True,
            metric_for_best_model="mae",
            greater_is_better=False,
            learning_rate=0.02,
        ),
        train_dataset=examples(),
        eval_dataset=examples(),
        compute_metrics=mean_absolute_error,
    )
    trainer.train()
    history = [entry["eval_mae"] for entry in trainer.state.log_history if "eval_mae" in entry]
    assert trainer.evaluate()["eval_mae"] == pytest.approx(min(history))


def test_the_reliable_trainer_knows_what_is_to_be_forecast(tmp_path):
    trainer = ReliableTrainer(
        AttentionRnnForTimeSeriesPrediction(tiny_config()),
        arguments(tmp_path, ReliableTrainingArguments),
        train_dataset=examples(),
        eval_dataset=examples(),
        compute_metrics=mean_absolute_error,
    )
    assert {"eval_loss", "eval_mae"} <= trainer.evaluate().keys()


def test_accumulated_batches_have_the_gradient_of_one(tmp_path):
    data = [example for example in examples(20) if not example["future_values"].isnan().any()][:8]
    gradients = []
    for batch_size, steps in ((8, 1), (2, 4)):
        model = tiny_model()
        trainer = Trainer(
            model,
            arguments(
                tmp_path,
                max_steps=1,
                per_device_train_batch_size=batch_size,
                gradient_accumulation_steps=steps,
                eval_strategy="no",
                max_grad_norm=0.0,
                optim="sgd",
                learning_rate=1.0,
                lr_scheduler_type="constant",
            ),
            train_dataset=data,
        )
        before = {name: values.clone() for name, values in model.state_dict().items()}
        trainer.train()
        gradients.append({name: before[name] - values for name, values in model.state_dict().items()})
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


def test_a_resumed_training_is_the_same(tmp_path):
    weights = []
    for resume in (False, True):
        set_seed(0)
        model = AttentionRnnForTimeSeriesPrediction(tiny_config(readout_dropout=0.2))
        trainer = ReliableTrainer(
            model,
            arguments(tmp_path, ReliableTrainingArguments, eval_strategy="no"),
            train_dataset=examples(),
        )
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4") if resume else None)
        weights.append(model.state_dict())
    torch.testing.assert_close(*weights, rtol=0, atol=0)
    average_checkpoints([tmp_path / "checkpoint-4", tmp_path / "checkpoint-6"], tmp_path / "average")
    averaged = AttentionRnnForTimeSeriesPrediction.from_pretrained(tmp_path / "average")
    assert averaged(**tiny_inputs(averaged.config)).mean_predictions.isfinite().all()


@pytest.mark.parametrize("decoding", ["parallel", "autoregressive"])
def test_a_checkpoint_forecasts_without_the_package(decoding, tmp_path):
    model = tiny_model(decoding=decoding, share_layers=True)
    folder = tmp_path / "checkpoint"
    model.save_pretrained(folder)
    inputs = tiny_inputs(model.config)
    with torch.no_grad():
        expected = model(**inputs).full_predictions
    paths = model.generate(**inputs, num_parallel_samples=3, generator=torch.Generator().manual_seed(0)).sequences
    torch.save({"inputs": inputs, "expected": expected, "paths": paths}, tmp_path / "case.pt")
    code = """
        from transformers import AutoModelForTimeSeriesPrediction

        case = torch.load(f"{work}/case.pt")
        model = AutoModelForTimeSeriesPrediction.from_pretrained(folder, trust_remote_code=True)
        assert type(model).__module__.startswith("transformers_modules."), type(model)
        torch.testing.assert_close(model(**case["inputs"]).full_predictions, case["expected"])
        random = torch.Generator().manual_seed(0)
        paths = model.generate(**case["inputs"], num_parallel_samples=3, generator=random).sequences
        torch.testing.assert_close(paths, case["paths"])
    """
    run_without_the_package(code, folder, tmp_path)


def test_a_checkpoint_carries_what_its_class_needs_and_no_more(tmp_path):
    tiny_model().save_pretrained(tmp_path / "forecaster")
    AttentionRnnForTimeSeriesClassification(tiny_config()).save_pretrained(tmp_path / "classifier")
    of_forecaster, of_classifier = (
        {file.name for file in (tmp_path / name).glob("*.py")} for name in ("forecaster", "classifier")
    )
    of_text = {"attention_rnn_decoder.py", "attention_rnn_generation.py", "attention_rnn_cache.py"}
    assert not of_text & (of_forecaster | of_classifier)
    assert "attention_rnn_distributions.py" in of_forecaster - of_classifier
    assert "modeling_attention_rnn_time_series_classification.py" in of_classifier - of_forecaster


@pytest.mark.parametrize("decoding", ["parallel", "recurrent", "autoregressive"])
def test_a_forecast_can_be_exported_for_any_batch(decoding):
    model = tiny_model(decoding=decoding)
    values = tiny_inputs(model.config)["past_values"]

    class Forecast(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, past_values):
            return self.model(past_values=past_values, return_dict=True).full_predictions

    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(Forecast(), (values,), dynamic_shapes=({0: batch},)).module()
    more = torch.cat([values, 3 * values.flip(1)])
    torch.testing.assert_close(exported(more), model(past_values=more).full_predictions)


def test_a_compiled_model_forecasts_and_trains_alike():
    model = tiny_model().train()
    values, future = tiny_inputs(model.config)["past_values"], torch.randn(3, HORIZON)
    expected = model(past_values=values, future_values=future).loss
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(past_values=values, future_values=future).loss, expected)
