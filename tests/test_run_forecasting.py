"""The script that trains a forecaster, run within this process on a few values."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard
from transformers import AutoConfig, pipeline

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import run_forecasting

HOURS = pd.date_range("2024-01-01", periods=24 * 20, freq="h")
TINY_RUN = """
--config_overrides hidden_size=8 --max_steps 4 --per_device_train_batch_size 16 --warmup_steps 0 --num_pictures 2
--use_cpu --disable_tqdm True
"""


def hourly(name="bern", seed=0):
    day = 10 + 3 * np.sin(2 * np.pi * np.arange(len(HOURS)) / 24)
    noise = np.random.default_rng(seed).normal(scale=0.2, size=len(HOURS))
    return pd.DataFrame({"item_id": name, "timestamp": HOURS, "target": day + noise})


def write(frame, path):
    frame.to_csv(path, index=False)
    return path


def run(output_dir, *arguments):
    """Runs the script with a tiny model for a few steps; the given arguments win."""
    return run_forecasting.main([*TINY_RUN.split(), "--output_dir", str(output_dir), *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The output folder of a run that is told nothing but a file, and what the script returned."""
    folder = tmp_path_factory.mktemp("run")
    file = write(pd.concat([hourly(), hourly("genf", seed=1)]), folder / "series.csv")
    arguments = ["--max_steps", 60, "--learning_rate", 0.01, "--eval_strategy", "steps", "--eval_steps", 30]
    scores = run(folder / "out", "--train_file", file, "--do_train", "--do_predict", *arguments, "--save_steps", 30)
    return folder / "out", scores, file


def test_a_run_leaves_everything_in_its_folder(finished):
    output_dir, scores, _ = finished
    names = {path.name for path in output_dir.iterdir()}
    assert names >= {"config.json", "model.safetensors", "README.md", "predictions.csv", "forecast.csv", "scores.json"}
    assert names >= {"predictions.png", "attention.png", "calibration.png", "scores_by_series.csv", "all_results.json"}
    results = json.loads((output_dir / "all_results.json").read_text())
    assert results["predict_mase"] == scores["test"]["mase"]
    assert scores["validation"].keys() == scores["test"].keys() >= {"mse", "mae", "crps", "mase", "coverage"}


def test_settings_are_chosen_by_the_data(finished):
    config = AutoConfig.from_pretrained(finished[0])
    assert (config.prediction_length, config.patch_length) == (24, 24)
    assert config.features["frequency"] == "h"
    assert config.features["season"] == 24


def test_the_scores_are_those_of_the_predictions_at_the_cutoffs(finished):
    output_dir, scores, _ = finished
    table = pd.read_csv(output_dir / "predictions.csv", parse_dates=["cutoff", "timestamp"])
    assert sorted(set(table["cutoff"])) == list(pd.date_range("2024-01-17", periods=4))  # a fifth of the series
    assert len(table) == 2 * 4 * 24
    series = pd.concat([hourly(), hourly("genf", seed=1)])
    train = series[series["timestamp"] < "2024-01-13"]
    errors = (table["target"] - table["truth"]).abs()
    scaled = []
    for name, of_series in train.groupby("item_id"):
        differences = of_series["target"].diff(24).abs().mean()
        scaled.append(errors[table["item_id"] == name].mean() / differences)
    assert scores["test"]["mase"] == pytest.approx(np.mean(scaled), rel=1e-3)


def test_baselines_stand_beside_and_the_card_says_who_is_best(finished):
    output_dir, scores, _ = finished
    tables = json.loads((output_dir / "scores.json").read_text())
    for split in ("validation", "test"):
        assert list(tables[split]) == ["this model", "repeat-last", "seasonal naive", "seasonal mean", "ridge"]
    best = min(list(tables["test"])[1:], key=lambda name: tables["test"][name]["mase"])
    beaten = scores["test"]["mase"] < tables["test"][best]["mase"]
    card = ModelCard.load(output_dir / "README.md")
    assert ("The model beats what needs no training" if beaten else f"**The model does not beat {best}**") in card.text
    for part in ("| test, seasonal naive |", "(predictions.png)", "(calibration.png)", "time-series-forecasting"):
        assert part in card.content
    values = {(result.dataset_split, result.metric_type): result.metric_value for result in card.data.eval_results}
    assert values["test", "mase"] == round(scores["test"]["mase"], 4)


def test_the_folder_opens_in_a_pipeline_that_forecasts_what_comes(finished):
    output_dir, _, file = finished
    table = pipeline("time-series-forecasting", str(output_dir))(pd.read_csv(file))
    written = pd.read_csv(output_dir / "forecast.csv", parse_dates=["timestamp"])
    assert written["timestamp"].tolist()[:24] == list(pd.date_range("2024-01-21", periods=24, freq="h"))
    np.testing.assert_allclose(table["target"], written["target"], rtol=1e-4)


def test_units_do_not_matter(tmp_path):
    found = []
    for number, frame in enumerate((hourly(), hourly().assign(target=lambda rows: rows["target"] * 1e6 - 5e6))):
        file = write(frame, tmp_path / f"{number}.csv")
        found.append(run(tmp_path / f"out{number}", "--train_file", file, "--do_train", "--num_pictures", 0))
    assert found[1]["validation"]["mase"] == pytest.approx(found[0]["validation"]["mase"], rel=1e-2)


def test_a_network_beside_a_fitted_highway_starts_at_the_ridge(tmp_path):
    file = write(hourly(), tmp_path / "s.csv")
    arguments = ["--train_file", file, "--do_train", "--do_predict", "--fit_highway", "--learning_rate", 1e-9]
    point = ["--config_overrides", "hidden_size=8,distribution_output=point,readout_dropout=0,copy=false"]
    scores = run(tmp_path / "out", *arguments, *point, "--num_pictures", 0)
    tables = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores["test"]["mae"] == pytest.approx(tables["test"]["ridge"]["mae"], rel=0.1)
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert config.highway_length == config.context_length
    more = ["--model_name_or_path", tmp_path / "out", "--do_predict", "--train_file", file, "--fit_highway"]
    with pytest.raises(ValueError, match="--model_name_or_path brings its config and tokenizer: no --fit_highway"):
        run_forecasting.main(["--output_dir", str(tmp_path / "x"), *map(str, more)])


def test_a_model_that_takes_off_no_location_trains_in_any_units(tmp_path):
    found = []
    for number, factor in enumerate((1.0, 1e9)):
        file = write(hourly().assign(target=lambda rows: rows["target"] * factor), tmp_path / f"{number}.csv")  # noqa: B023
        override = ["--config_overrides", "hidden_size=8,scaling=mean"]
        found.append(run(tmp_path / f"out{number}", "--train_file", file, "--do_train", "--num_pictures", 0, *override))
    assert found[1]["validation"]["mase"] == pytest.approx(found[0]["validation"]["mase"], rel=1e-2)


@pytest.mark.parametrize("scaling", ["last", "null"])
def test_values_that_a_model_would_leave_too_large_are_refused(tmp_path, scaling):
    file = write(hourly().assign(target=lambda rows: rows["target"] * 1e9), tmp_path / "s.csv")
    override = ["--config_overrides", f"hidden_size=8,scaling={scaling}"]
    with pytest.raises(ValueError, match=r"leaves values of the size that they have.*series 'bern' are of .*e\+"):
        run(tmp_path / "out", "--train_file", file, "--do_train", *override)


def test_files_follow_each_other_in_time_and_go_on_from_a_checkpoint(tmp_path):
    frame = hourly().drop(columns="item_id")
    edges = {"train": (0, 300), "validation": (300, 400), "test": (400, 480)}
    files = []
    for split, (begin, end) in edges.items():
        files += [f"--{split}_file", write(frame[begin:end], tmp_path / f"{split}.csv")]
    arguments = [*files, "--prediction_length", 12, "--cutoff_stride", 1, "--num_pictures", 0]
    run(tmp_path / "out", *arguments, "--do_train", "--do_predict", "--calendar")
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert table["cutoff"].nunique() == 80 - 12 + 1
    assert table["cutoff"].iloc[0] == "2024-01-17 16:00:00"
    assert AutoConfig.from_pretrained(tmp_path / "out").num_time_features == 8
    more = ["--model_name_or_path", tmp_path / "out", "--do_predict", "--use_cpu", "--disable_tqdm", "True", *arguments]
    scores = run_forecasting.main(["--output_dir", str(tmp_path / "more"), *map(str, more)])
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert scores["test"]["mae"] == pytest.approx(results["predict_mae"])
    with pytest.raises(ValueError, match="--prediction_length must be that of the model, 12, got 6"):
        run_forecasting.main(["--output_dir", str(tmp_path / "x"), *map(str, more), "--prediction_length", "6"])


def test_channels_covariates_and_a_point_forecast(tmp_path):
    frame = hourly().drop(columns="item_id").assign(other=lambda rows: -rows["target"], holiday=0.0, load=1.0)
    file = write(frame, tmp_path / "s.csv")
    scores = run(
        tmp_path / "out", "--train_file", file, "--do_train", "--do_predict", "--target_columns", "target", "other",
        "--known_columns", "holiday", "--past_columns", "load",
        "--config_overrides", "hidden_size=8,distribution_output=point,loss=mse",
    )  # fmt: skip
    assert scores["test"]["crps"] == pytest.approx(scores["test"]["mae"])
    assert "coverage" not in scores["test"]
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert (config.num_channels, config.num_time_features, config.num_past_features) == (2, 1, 1)
    assert not (tmp_path / "out" / "forecast.csv").exists()  # the holidays that come are not known
    assert set(pd.read_csv(tmp_path / "out" / "predictions.csv")["channel"]) == {"target", "other"}


def test_kinds_of_series_are_learnt_and_asked_for(tmp_path):
    kinds = [hourly().assign(region="north"), hourly("genf", 1).assign(region="south")]
    file = write(pd.concat(kinds), tmp_path / "s.csv")
    columns = ["--category_columns", "region", "--num_pictures", 0]
    run(tmp_path / "out", "--train_file", file, "--do_train", "--do_predict", *columns)
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert (config.num_static_categorical_features, config.cardinality) == (1, [3])
    forecast = pipeline("time-series-forecasting", str(tmp_path / "out"))
    of_table = forecast(pd.read_csv(file))["target"].to_numpy()[:24]
    item = {"target": hourly()["target"].tolist(), "categories": {"region": "north"}}
    np.testing.assert_allclose(forecast(item)["target"], of_table, rtol=1e-4)
    with pytest.raises(ValueError, match="must have 'region' in 'categories', as in the training"):
        forecast({"target": [1.0, 2.0]})


def test_a_series_of_a_few_values_trains(tmp_path):
    years = pd.DataFrame({"year": range(1990, 2010), "v": [float(year % 3) for year in range(20)]})
    scores = run(tmp_path / "out", "--train_file", write(years, tmp_path / "s.csv"), "--do_train", "--do_predict")
    assert np.isfinite(scores["test"]["mae"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--do_train"], "the series must come from files, such as --train_file, or from --dataset_name"),
        (["--do_train", "--test_file", "x.csv"], "--do_train needs --train_file or --dataset_name"),
        (
            ["--do_train", "--train_file", "x", "--prediction_length", "0"],
            "--prediction_length must be at least 1, got 0",
        ),
        (["--train_file", "x.csv"], "nothing to do: give one or several of --do_train"),
        (["--do_predict", "--test_file", "x.csv"], "need --model_name_or_path"),
        (
            ["--do_train", "--train_file", "x.csv", "--config_overrides", "prediction_length=3"],
            "--config_overrides must leave prediction_length to the arguments of those names",
        ),
        (
            ["--do_train", "--train_file", "x.csv", "--metric_for_best_model", "bleu"],
            "--metric_for_best_model must be one of loss, mse, .*, got 'bleu'",
        ),
        (
            ["--do_train", "--train_file", "x.csv", "--config_overrides", "vocab_size=3"],
            "--config_overrides must name",
        ),
    ],
)
def test_wrong_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "out", *arguments)
