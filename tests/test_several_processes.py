"""Two processes on the CPU, with the model in each (DDP) or divided among them (FSDP), do what one process does."""

import json
import os
import subprocess
import sys

import processes
import pytest
import torch
from processes import KINDS, MODELS, WORDS, train_all, write_data, write_for_files
from safetensors.torch import load_file
from tiny import tiny_batch, tiny_model


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = write_data(tmp_path_factory.mktemp("one"))
    train_all(folder, folder, num_processes=1, arguments=[])
    write_for_files(folder, folder / "seq2seq")
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = write_data(tmp_path_factory.mktemp("two"))
    launcher = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --main_process_port 0"
    launcher += " --mixed_precision no --dynamo_backend no"  # said, so that no settings of this machine count
    subprocess.run(
        [sys.executable, *launcher.split(), processes.__file__, str(folder), "2"],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return folder


def read(file):
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("run", [*MODELS, "uneven-batch", "seq2seq", "clm"])
@pytest.mark.parametrize("kind", KINDS)
def test_training_ends_with_the_same_weights(one, two, kind, run):
    expected, weights = (load_file(folder / run / "model.safetensors") for folder in (one, two / kind))
    assert weights.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("run", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_predictions_are_the_same_in_the_same_order(one, two, kind, run):
    (expected,), (result,) = (read(folder / run / "result.json") for folder in (one, two / kind))
    assert result.pop("losses") == pytest.approx(expected.pop("losses"), abs=1e-5)
    assert result == expected
    assert len(set(result["predictions-2"])) > 1


@pytest.mark.parametrize(
    ("run", "metrics"),
    [
        ("seq2seq", ["eval_chrf", "eval_wer", "predict_chrf", "predict_wer"]),
        ("clm", ["eval_loss", "eval_perplexity", "eval_bits_per_character"]),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_scripts_report_the_same_metrics(one, two, kind, run, metrics):
    expected, results = (json.loads((folder / run / "all_results.json").read_text()) for folder in (one, two / kind))
    for metric in metrics:
        assert results[metric] == pytest.approx(expected[metric], rel=1e-4), metric


@pytest.mark.parametrize("kind", KINDS)
def test_the_script_writes_the_same_predictions(one, two, kind):
    rows, expected = (read(folder / "seq2seq" / "generated_predictions.jsonl") for folder in (two / kind, one))
    assert rows == expected
    assert [row["source"] for row in rows] == WORDS


def test_a_file_is_generated_in_shards(one, two):
    assert read(two / "generated.jsonl") == read(one / "generated.jsonl")


def test_a_forecaster_is_the_same_and_so_are_its_scores(one, two):
    expected, weights = (load_file(folder / "forecasting" / "model.safetensors") for folder in (one, two / "ddp"))
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: name + text)
    expected, results = (
        json.loads((folder / "forecasting" / "all_results.json").read_text()) for folder in (one, two / "ddp")
    )
    for metric in ("eval_loss", "eval_mase", "predict_mase", "predict_coverage"):
        assert results[metric] == pytest.approx(expected[metric], rel=1e-4), metric


def test_series_are_forecast_in_shards(one, two):
    tables = [(folder / "forecast.csv").read_text().splitlines() for folder in (one, two)]
    assert [row.split(",")[:2] for row in tables[0]] == [row.split(",")[:2] for row in tables[1]]
    assert len(tables[0]) == 1 + 4 * 4
    for ours, theirs in zip(*(table[1:] for table in tables), strict=True):
        numbers = [[float(value) for value in row.split(",")[2:]] for row in (ours, theirs)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("context_feeding", ["input", "conditional"])
def test_fsdp_must_not_wrap_what_is_called_at_each_step(context_feeding, monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    model = tiny_model(context_feeding=context_feeding)
    model(**tiny_batch(model))
    layer = model.model.decoder.layers[1]
    layer.__class__ = type("Unit", (type("FSDPModule", (), {}), type(layer)), {})
    with pytest.raises(ValueError, match=r"FSDP must not wrap .* here 'layers.1': set `transformer_layer_cls_to_wrap`"):
        model(**tiny_batch(model))


def test_labels_of_one_process_may_all_be_ignored_where_others_have_some():
    model = tiny_model().train()
    batch = tiny_batch(model)
    batch["labels"][:] = -100
    loss = model(**batch, num_items_in_batch=torch.tensor(3)).loss
    loss.backward()
    assert loss == 0
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())
