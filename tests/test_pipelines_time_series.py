"""The pipeline of forecasting, with our models and with TimesFM, and forecasting a file."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import (
    AutoModelForTimeSeriesPrediction,
    TimesFm2_5Config,
    TimesFm2_5ModelForPrediction,
    TimesFmConfig,
    TimesFmModelForPrediction,
    pipeline,
)

from attention_rnn import AttentionRnnTimeSeriesConfig

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import forecast_file

TASK, NAN = "time-series-forecasting", float("nan")
SERIES = [3.0, 1, 4, 1, 5, 9, 2, 6]
FRAME = pd.DataFrame(
    {
        "item_id": ["b"] * 8 + ["a"] * 6,
        "timestamp": [*pd.date_range("2024-01-01", periods=8), *pd.date_range("2024-02-01", periods=6)],
        "target": [*SERIES, 2, 7, 1, 8, 2, 8],
    }
)


def model(features=None, **fields):
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "patch_length": 2, "prediction_length": 3, "context_length": 6, "readout_dropout": 0.0}
    config = AttentionRnnTimeSeriesConfig(**{**sizes, **fields})
    if features is not None:
        config.features = features
    return AutoModelForTimeSeriesPrediction.from_config(config).eval()


def forecaster(*arguments, **fields):
    return pipeline(TASK, model(*arguments, **fields))


def outputs(forecast, values):
    """What the model itself says of a series."""
    past = torch.tensor([values], dtype=torch.float32)[:, -6:]
    with torch.no_grad():
        found = forecast.model(past_values=past)
    return found.mean_predictions[0].numpy(), found.full_predictions[0].numpy()[..., 1:]


def test_a_list_of_numbers_is_one_series():
    forecast = forecaster()
    found = forecast(SERIES)
    mean, quantiles = outputs(forecast, SERIES)
    np.testing.assert_allclose(found["target"], mean, rtol=1e-5)
    assert list(found["quantiles"]) == ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "0.9"]
    np.testing.assert_allclose(found["quantiles"]["0.9"], quantiles[:, -1], rtol=1e-5)


def test_beyond_the_trained_horizon_a_model_of_quantiles_tells_the_median_too():
    torch.manual_seed(0)
    found = forecaster()(SERIES, prediction_length=5, num_parallel_samples=100)
    np.testing.assert_allclose(found["target"], found["quantiles"]["0.5"], rtol=1e-5)


def test_a_shorter_forecast_is_the_beginning_of_a_longer_one():
    settings = {"frequency": "D", "season": 1, "calendar": ["week"], "targets": ["target"], "known": {"price": [0, 1]}}
    forecast = forecaster(settings, num_time_features=3)
    frame = FRAME[:8].assign(price=range(8))
    more = pd.DataFrame({"item_id": "b", "timestamp": pd.date_range("2024-01-09", periods=3), "price": [8, 9, 10]})
    whole, part = (forecast(pd.concat([frame, more]), prediction_length=length) for length in (3, 1))
    pd.testing.assert_frame_equal(part, whole[:1])
    assert len(forecast(pd.concat([frame, more[:1]]), prediction_length=1)) == 1


def test_channels_are_found_by_their_names_or_none_is():
    forecast = forecaster({"frequency": "D", "season": 1, "targets": ["x", "y"]}, num_channels=2)
    days = pd.DataFrame({"timestamp": FRAME["timestamp"][:8], "x": SERIES, "y": SERIES[::-1]})
    pd.testing.assert_frame_equal(forecast(days[["y", "timestamp", "x"]]), forecast(days))
    with pytest.raises(ValueError, match=r"there must be the columns \['x', 'y'\] of the training, got none.*\['y'\]"):
        forecast(days.rename(columns={"y": "z"}))


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, pd.Series])
def test_all_kinds_of_a_series_give_the_same(kind):
    forecast = forecaster()
    np.testing.assert_allclose(forecast(kind(SERIES))["target"], forecast(SERIES)["target"], rtol=1e-5)


def test_several_series_of_different_lengths_give_what_each_gives_alone():
    forecast = forecaster()
    several = [SERIES, SERIES[:3], [None, *SERIES[:4]], [1.0]]
    for batch_size in (1, 3):
        found = forecast(several, batch_size=batch_size)
        for one, alone in zip(found, map(forecast, several), strict=True):
            np.testing.assert_allclose(one["target"], alone["target"], rtol=1e-4, atol=1e-5)
    rows = forecast(np.array([SERIES, SERIES]))
    np.testing.assert_allclose([one["target"] for one in rows], [forecast(SERIES)["target"]] * 2, rtol=1e-4)
    assert forecast([]) == []


def test_several_channels_stand_side_by_side():
    forecast = forecaster(num_channels=2)
    array = np.arange(12.0).reshape(6, 2)
    found = forecast(array)
    assert np.shape(found["target"]) == (3, 2)
    assert np.shape(found["quantiles"]["0.5"]) == (3, 2)
    assert forecast(array.tolist()) == found
    assert len(forecast(np.stack([array, array]))) == 2
    with pytest.raises(ValueError, match="series 0 must have 2 channels at each step"):
        forecast([np.ones((4, 3))])


def test_a_forecast_follows_its_series_however_far_from_zero(folder, tmp_path):
    forecast, raised = forecaster(), [1e9 + 40 * value for value in SERIES]
    for options in ({}, {"prediction_length": 9}):
        torch.manual_seed(0)
        expected = np.array(forecast(SERIES, **options)["target"])
        for series in (raised, torch.tensor(raised, dtype=torch.float64), {"target": raised}):
            torch.manual_seed(0)
            found = np.array(forecast(series, **options)["target"])
            np.testing.assert_allclose(found - 1e9, 40 * expected, rtol=1e-3)
    table = FRAME.assign(target=1e9 + 40 * FRAME["target"])
    table.to_csv(tmp_path / "in.csv", index=False)
    forecast_file.main([str(folder), str(tmp_path / "in.csv"), str(tmp_path / "out.csv")])
    by_file = pd.read_csv(tmp_path / "out.csv")["target"]
    expected = pipeline(TASK, str(folder))(FRAME)["target"]
    np.testing.assert_allclose(by_file - 1e9, 40 * expected, rtol=1e-2, atol=1)


def test_a_table_in_gives_a_table_out():
    forecast = forecaster({"frequency": "D", "targets": ["target"]})
    table = forecast(FRAME, quantile_levels=[0.1, 0.9])
    assert table.columns.tolist() == ["item_id", "timestamp", "target", "0.1", "0.9"]
    assert table["item_id"].tolist() == ["b"] * 3 + ["a"] * 3
    assert table["timestamp"].astype(str).tolist()[2:4] == ["2024-01-11", "2024-02-07"]
    np.testing.assert_allclose(table["target"][:3], outputs(forecast, SERIES)[0], rtol=1e-5)


def test_the_horizon_can_be_shorter_and_longer():
    forecast = forecaster()
    assert forecast(SERIES, prediction_length=2)["target"] == forecast(SERIES)["target"][:2]
    found = forecast(SERIES, prediction_length=7, num_parallel_samples=20)
    assert len(found["target"]) == 7
    assert all(np.diff([of_level[6] for of_level in found["quantiles"].values()]) >= 0)


def test_a_point_forecast_has_no_quantiles():
    found = forecaster(distribution_output="point")(SERIES)
    assert found["quantiles"] == {}
    assert len(found["target"]) == 3


def test_calendar_and_covariates_reach_the_model():
    features = {"frequency": "D", "calendar": ["week"], "targets": ["target"], "known": {"price": [10.0, 2.0]}}
    forecast = forecaster(features, num_time_features=3)
    rows = FRAME[:8].assign(price=np.arange(8.0))
    ahead = pd.DataFrame({"item_id": "b", "timestamp": pd.date_range("2024-01-09", periods=3), "price": 9.0})
    table = forecast(pd.concat([rows, ahead]))
    item = {"target": SERIES, "start": "2024-01-01", "known": {"price": [*range(8), 9, 9, 9]}}
    np.testing.assert_allclose(table["target"], forecast(item)["target"], rtol=1e-5)
    other = forecast({**item, "start": "2024-01-02"})
    assert not np.allclose(table["target"], other["target"])
    with pytest.raises(ValueError, match="series 'b', 2024-01-09 00:00:00: column 'price', which is known ahead"):
        forecast(rows)
    with pytest.raises(ValueError, match="must be a dict with its first time stamp as `start`"):
        forecast({"target": SERIES, "known": item["known"]})
    with pytest.raises(ValueError, match=r"'price' in 'known' must have the shape \(11,\), got \(8,\)"):
        forecast({**item, "known": {"price": [1.0] * 8}})
    with pytest.raises(ValueError, match=r"the series must have 'price' in 'known', as in the training, got \[\]"):
        forecast({**item, "known": {}})


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ([[]], ValueError, "series 0 must have at least one number, got an empty series"),
        ([[1.0], [NAN, None]], ValueError, "series 1 must have at least one number, got none"),
        ([1.0, float("inf")], ValueError, "the series, step 1: must be a finite number"),
        ([[1.0], ["a"]], TypeError, "series 1 must be made of numbers"),
        (np.ones((2, 3, 4)), ValueError, r"an array must be a series of 1 axes or several of 2, got the shape"),
        ({"x": 1}, ValueError, r"the series must be a dict with its values as `target`, got the keys \['x'\]"),
        ("1, 2, 3", TypeError, "The input must be a series as a list of numbers.*got str"),
        (7, TypeError, "got int"),
        ([1.0] + [NAN] * 6, ValueError, "series 'the series': there must be a value among the last 6"),
    ],
)
def test_what_is_no_series_is_named(wrong, error, message):
    with pytest.raises(error, match=message):
        forecaster()(wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prediction_length": 0}, "prediction_length must be a whole number of at least 1, got 0"),
        ({"prediction_length": 2.5}, "prediction_length must be a whole number of at least 1, got 2.5"),
        ({"quantile_levels": [0.15]}, r"quantile_levels must be among those of the model.*got \[0.15\]"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        forecaster()(SERIES, **options)


def timesfm(config_class, model_class, **fields):
    torch.manual_seed(0)
    sizes = {"patch_length": 4, "context_length": 16, "horizon_length": 8, "num_hidden_layers": 1, "hidden_size": 16}
    sizes |= {"intermediate_size": 16, "head_dim": 8, "num_attention_heads": 2}
    return pipeline(TASK, model_class(config_class(**sizes, **fields)).eval())


@pytest.mark.parametrize(
    "kind",
    [
        (TimesFmConfig, TimesFmModelForPrediction, {}),
        (TimesFm2_5Config, TimesFm2_5ModelForPrediction, {"num_key_value_heads": 2, "output_quantile_len": 8}),
    ],
)
def test_timesfm_forecasts_too(kind):
    forecast = timesfm(*kind[:2], **kind[2])
    found = forecast([SERIES, SERIES[:5]], prediction_length=4)
    past = torch.tensor(SERIES)
    with torch.no_grad():
        expected = forecast.model(past_values=[past, past[:5]])
    np.testing.assert_allclose(found[1]["target"], expected.mean_predictions[1, :4], rtol=1e-4)
    np.testing.assert_allclose(found[0]["quantiles"]["0.9"], expected.full_predictions[0, :4, -1], rtol=1e-4)
    with_gap = forecast([3.0, 1, NAN, 1, 5])
    assert np.isfinite(with_gap["target"]).all()
    np.testing.assert_allclose(with_gap["target"], forecast([3.0, 1, 1, 1, 5])["target"], rtol=1e-4)
    assert len(forecast(FRAME, prediction_length=2)) == 4
    with pytest.raises(ValueError, match="prediction_length must be at most 8 for this model, got 9"):
        forecast(SERIES, prediction_length=9)


# Forecasting a file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model({"frequency": "D", "targets": ["target"]}).save_pretrained(folder)
    frames = [FRAME.copy(), FRAME.copy()]
    frames[1]["item_id"] += "2"
    pd.concat(frames).to_csv(folder / "series.csv", index=False)
    return folder


def forecast_it(folder, output, *arguments):
    forecast_file.main([str(folder), str(folder / "series.csv"), str(output), *map(str, arguments)])
    return pd.read_csv(output)


def test_a_file_is_forecast_in_its_order_whatever_the_parts(folder, tmp_path):
    whole = forecast_it(folder, tmp_path / "whole.csv")
    assert whole["item_id"].tolist() == [name for name in ("b", "a", "b2", "a2") for _ in range(3)]
    expected = pipeline(TASK, str(folder))(pd.read_csv(folder / "series.csv"))
    np.testing.assert_allclose(whole.iloc[:, 2:], expected.iloc[:, 2:], rtol=1e-5)
    parts = forecast_it(folder, tmp_path / "parts.csv", "--part_size", 1, "--batch_size", 1)
    np.testing.assert_allclose(parts.iloc[:, 2:], whole.iloc[:, 2:], rtol=1e-4, atol=1e-5)
    assert not (tmp_path / "parts.csv.parts").exists()


def test_a_file_without_rows_and_an_output_of_another_format_are_refused(folder, tmp_path):
    (tmp_path / "empty.csv").write_text("item_id,timestamp,target\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"at least one row, got none in .*empty\.csv"):
        forecast_file.main([str(folder), str(tmp_path / "empty.csv"), str(tmp_path / "out.csv")])
    assert not (tmp_path / "out.csv").exists()
    with pytest.raises(ValueError, match=r"the output is csv and must be named so, got .*out\.parquet"):
        forecast_it(folder, tmp_path / "out.parquet")


def test_an_interrupted_forecast_goes_on(folder, tmp_path, monkeypatch):
    arguments = ["--part_size", 1, "--prediction_length", 5, "--quantile_levels", 0.5]
    whole = forecast_it(folder, tmp_path / "whole.csv", *arguments)
    done, forecast_part = [], forecast_file.forecast_part

    def fail(forecast, part, options):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(part)
        return forecast_part(forecast, part, options)

    monkeypatch.setattr(forecast_file, "forecast_part", fail)
    with pytest.raises(KeyboardInterrupt):
        forecast_it(folder, tmp_path / "again.csv", *arguments)
    monkeypatch.setattr(forecast_file, "forecast_part", forecast_part)
    with pytest.raises(ValueError, match="holds parts of a command with other part_size"):
        forecast_it(folder, tmp_path / "again.csv", "--part_size", 2, *arguments[2:])
    again = forecast_it(folder, tmp_path / "again.csv", *arguments)
    pd.testing.assert_frame_equal(again, whole)
    with pytest.raises(ValueError, match="is there already"):
        forecast_it(folder, tmp_path / "again.csv", *arguments)


def test_without_pandas_the_other_pipelines_work():
    code = "import sys; sys.modules['pandas'] = None; import attention_rnn.pipelines; print('fine')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.stdout == "fine\n", found.stderr
